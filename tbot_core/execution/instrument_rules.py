"""Requests a broker's instrument rules after it rejected an order as off its grid.

They are journaled before they are used. If the broker does not report them in time, entries in the instrument are
blocked; stops and exits are still tried.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import Instrument
from tbot_core.contracts.abilities import INSTRUMENT_RULES
from tbot_core.errors import BrokerError
from tbot_core.journal import records
from tbot_core.model.types import Leg, OrderState, units_of
from tbot_core.system import log
from tbot_core.trading.risk.exposure import lot_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.execution.engine import ExecutionEngine
    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.model.clock import Clock
    from tbot_core.trading.decision_engine import DecisionEngine

ANSWER_WITHIN_S: Final = 10.0
"""How long to wait for the rules; positions of the instrument do not change meanwhile."""

_log = log.logger(__name__)


class InstrumentRules:
    """Requests instrument rules from a session's broker; call `run_once` about twice a second."""

    def __init__(self, execution: ExecutionEngine, decision_engine: DecisionEngine, clock: Clock) -> None:
        self._execution = execution
        self._decision_engine = decision_engine
        self._clock = clock
        self._until: dict[str, float] = {}

    async def run_once(self) -> None:
        """Request the unknown rules, until they are reported or `ANSWER_WITHIN_S` is over."""
        for symbol in [symbol for symbol, waiting in self._decision_engine.exposure.rules_unknown.items() if waiting]:
            until = self._until.setdefault(symbol, self._clock.monotonic() + ANSWER_WITHIN_S)
            broker = INSTRUMENT_RULES.of(self._execution.venue.broker)
            words = "the broker does not report them"
            if broker is not None:
                try:
                    self._apply_rules(await broker.instrument(symbol))
                except BrokerError as fault:
                    words = fault.message
            if self._decision_engine.exposure.rules_unknown.get(symbol) and self._clock.monotonic() >= until:
                self._give_up(symbol, words)

    def _apply_rules(self, found: Instrument) -> None:
        self._until.pop(found.symbol, None)
        payload = {"symbol": found.symbol, "known": True, "waiting": False, "words": "", **_payload(found)}
        self._execution.recorder.record(records.INSTRUMENT, payload)
        apply_instrument_rules(self._decision_engine, payload)
        _log.warning("instrument.ruled", symbol=found.symbol, tick=found.tick, step=found.quantity_step)
        if found.tradable is False:
            words = "the broker no longer trades it"
            self._execution.frozen_instruments.freeze(found.symbol, words, lasting=True)
        elif self._exit_would_repeat(found):
            words = "the broker refuses to close it, although the order follows its rules"
            self._execution.frozen_instruments.freeze(found.symbol, words, lasting=True)

    def _exit_would_repeat(self, found: Instrument) -> bool:
        # Whether a rejected exit would be the same under these rules.
        position = self._decision_engine.portfolio.positions.get(found.symbol)
        if position is None:
            return False
        lot = lot_of(self._decision_engine.exposure, found.symbol)
        units = position.units // lot * lot or position.units
        refused = [
            record.order
            for record in self._execution.orders.values()
            if record.order.signal == position.signal and record.state is OrderState.REJECTED
        ]
        return bool(refused) and refused[-1].leg is Leg.EXIT and units_of(refused[-1].quantity) == units

    def _give_up(self, symbol: str, words: str) -> None:
        self._until.pop(symbol, None)
        payload = {"symbol": symbol, "known": False, "waiting": False, "words": words}
        self._execution.recorder.record(records.INSTRUMENT, payload)
        apply_instrument_rules(self._decision_engine, payload)
        _log.error("instrument.rules_unknown", symbol=symbol, reason=words)


def mark_not_shortable(decision_engine: DecisionEngine, recorder: JournalRecorder, symbol: str, words: str) -> None:
    """Record that an instrument cannot be sold short now; its other rules stay."""
    known = decision_engine.exposure.instruments.get(symbol, Instrument(symbol=symbol))
    found = attrs.evolve(known, shortable=False)
    payload = {"symbol": symbol, "known": True, "waiting": False, "words": words, **_payload(found)}
    recorder.record(records.INSTRUMENT, payload)
    decision_engine.exposure.instruments[symbol] = found


def apply_instrument_rules(decision_engine: DecisionEngine, payload: Mapping[str, Any]) -> None:
    """Apply the journaled rules of an instrument, or that they are unknown."""
    symbol, exposure = payload["symbol"], decision_engine.exposure
    if payload["known"]:
        exposure.rules_unknown.pop(symbol, None)
        exposure.instruments[symbol] = Instrument(
            symbol=symbol,
            tick=_decimal(payload["tick"]),
            quantity_step=_decimal(payload["quantity_step"]),
            tradable=payload["tradable"],
            shortable=payload["shortable"],
        )
        decision_engine.position_manager.protection.on_instrument_rules(symbol)
    else:
        exposure.rules_unknown[symbol] = payload["waiting"]


def _payload(found: Instrument) -> records.Payload:
    steps = {name: getattr(found, name) for name in ("tick", "quantity_step")}
    texts = {name: None if step is None else str(step) for name, step in steps.items()}
    return {**texts, "tradable": found.tradable, "shortable": found.shortable}


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def instrument_rules_text(payload: Mapping[str, Any]) -> str:
    """Text of an instrument rules event, without a full stop."""
    symbol = payload["symbol"]
    if payload["known"]:
        steps = (("prices", payload["tick"]), ("quantities", payload["quantity_step"]))
        parts = [f"{what} in steps of {step}" for what, step in steps if step is not None]
        if payload.get("shortable") is False:
            parts.append("it cannot be sold short")
        return f"The broker reported new rules of {symbol}: {', '.join(parts) or 'no steps are given'}"
    if payload["waiting"]:
        return f"An order of {symbol} was off its grid; its rules are requested: {payload['words']}"
    return f"The rules of {symbol} are unknown; no entries in it for the rest of the session: {payload['words']}"
