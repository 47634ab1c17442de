"""Requests the facts of instruments: of all symbols at a session's start, of one that a rejection left unclear.

Rules that follow a rejection are journaled before they are used. If the broker does not report them in time, entries in
the instrument are blocked; stops and exits are still tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.contracts import InstrumentRules
from tbot_core.contracts.abilities import INSTRUMENTS
from tbot_core.errors import BrokerError
from tbot_core.execution.instrument_rules import apply_instrument_rules
from tbot_core.journal.events.accounts import InstrumentRulesReported
from tbot_core.model.types import Leg, OrderState, units_of
from tbot_core.system import log
from tbot_core.trading.risk.exposure import grid_of, lot_of
from tbot_core.trading.risk.holds import Hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.execution.engine import ExecutionEngine
    from tbot_core.model.clock import Clock
    from tbot_core.trading.decision_engine import DecisionEngine
    from tbot_core.trading.portfolio import Position

ANSWER_WITHIN_S: Final = 10.0
"""How long to wait for the rules; positions of the instrument do not change meanwhile."""

PORTION: Final = 200
"""The largest number of symbols in one request."""

AGAIN_S: Final = 60.0
_log = log.logger(__name__)


class InstrumentRequests:
    """Requests the facts of instruments from a session's broker; call `run_once` about twice a second.

    `symbols` are those of the session: requested once, and again every `AGAIN_S` while that fails.
    """

    def __init__(
        self, execution: ExecutionEngine, decision_engine: DecisionEngine, clock: Clock, symbols: Sequence[str] = ()
    ) -> None:
        self._execution = execution
        self._decision_engine = decision_engine
        self._clock = clock
        self._until: dict[str, float] = {}
        self._missing = [*symbols]
        self._request_at = 0.0

    @property
    def are_known(self) -> bool:
        """Whether the session's symbols have been requested, or the broker reports no instruments."""
        return not self._missing or INSTRUMENTS.of(self._execution.venue.broker) is None

    async def run_once(self) -> None:
        """Request what is missing of the session's symbols, and unknown rules until `ANSWER_WITHIN_S` is over."""
        await self._request_missing()
        for symbol in sorted(self._decision_engine.exposure.holds.symbols(Hold.RULES_REQUESTED)):
            until = self._until.setdefault(symbol, self._clock.monotonic() + ANSWER_WITHIN_S)
            broker = INSTRUMENTS.of(self._execution.venue.broker)
            words = "the broker does not report them"
            if broker is not None:
                try:
                    (found,) = await broker.instruments((symbol,)) or (InstrumentRules(symbol=symbol, tradable=False),)
                    self._apply_rules(found)
                except BrokerError as fault:
                    words = fault.message
            waits = self._decision_engine.exposure.holds.has(symbol, Hold.RULES_REQUESTED)
            if waits and self._clock.monotonic() >= until:
                self._give_up(symbol, words)

    async def _request_missing(self) -> None:
        # Before the bell, in portions. It is requested again after a restart, so it is not journaled.
        broker = INSTRUMENTS.of(self._execution.venue.broker)
        if broker is None or self._clock.monotonic() < self._request_at:
            return
        while self._missing:
            portion = self._missing[:PORTION]
            try:
                found = await broker.instruments(portion)
            except BrokerError as fault:
                self._request_at = self._clock.monotonic() + AGAIN_S
                _log.warning("instruments.not_read", symbols=len(self._missing), reason=fault.message)
                return
            for one in found:
                if one.symbol in portion:
                    self._store(one)
            del self._missing[: len(portion)]

    def _store(self, found: InstrumentRules) -> None:
        exposure = self._decision_engine.exposure
        before = grid_of(exposure, found.symbol)
        exposure.instrument_rules[found.symbol] = found
        if grid_of(exposure, found.symbol) != before:  # levels of a position from before a restart
            self._decision_engine.position_manager.protection.on_instrument_rules(found.symbol)

    def _apply_rules(self, found: InstrumentRules) -> None:
        self._until.pop(found.symbol, None)
        rules = InstrumentRulesReported.of(found)
        self._execution.recorder.record(rules)
        apply_instrument_rules(self._decision_engine, rules)
        _log.warning("instrument.ruled", symbol=found.symbol, tick=found.tick, step=found.quantity_step)
        if found.tradable is False:
            words = "the broker no longer trades it"
            self._execution.frozen_instruments.freeze(found.symbol, words, lasting=True)
        elif self._exit_would_repeat(found):
            words = "the broker refuses to close it, although the order follows its rules"
            self._execution.frozen_instruments.freeze(found.symbol, words, lasting=True)

    def _exit_would_repeat(self, found: InstrumentRules) -> bool:
        # Whether a rejected exit would be the same under these rules.
        return any(map(self._repeats, self._decision_engine.portfolio.in_symbol(found.symbol)))

    def _repeats(self, position: Position) -> bool:
        lot = lot_of(self._decision_engine.exposure, position.symbol)
        units = position.units // lot * lot or position.units
        refused = [
            ticket.order
            for ticket in self._execution.tickets.values()
            if ticket.order.signal == position.signal and ticket.state is OrderState.REJECTED
        ]
        return bool(refused) and refused[-1].leg is Leg.EXIT and units_of(refused[-1].quantity) == units

    def _give_up(self, symbol: str, words: str) -> None:
        self._until.pop(symbol, None)
        rules = InstrumentRulesReported.unknown(symbol, words, waiting=False)
        self._execution.recorder.record(rules)
        apply_instrument_rules(self._decision_engine, rules)
        _log.error("instrument.rules_unknown", symbol=symbol, reason=words)
