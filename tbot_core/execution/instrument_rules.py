"""What the broker reports of instruments: in the session, in the journal, as text, and before a short sale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import Broker, InstrumentRules
from tbot_core.contracts.abilities import INSTRUMENTS
from tbot_core.errors import BrokerError
from tbot_core.journal.events.accounts import InstrumentRulesReported
from tbot_core.model.reasons import Reason
from tbot_core.trading.risk.holds import WITHOUT_RULES, Hold

if TYPE_CHECKING:
    from tbot_core.journal.store import JournalRecorder
    from tbot_core.trading.decision_engine import DecisionEngine
    from tbot_core.trading.risk.exposure import ExposureBook

RECHECK_S: Final = 2.0
"""How long a short sale waits for the answer whether its shares can be borrowed."""


def mark_not_shortable(decision_engine: DecisionEngine, recorder: JournalRecorder, symbol: str, words: str) -> None:
    """Record that an instrument cannot be sold short now; its other rules stay."""
    known = decision_engine.exposure.instrument_rules.get(symbol, InstrumentRules(symbol=symbol))
    found = attrs.evolve(known, shortable=False)
    recorder.record(InstrumentRulesReported.of(found, words))
    decision_engine.exposure.instrument_rules[symbol] = found


async def short_sale_objection(broker: Broker, exposure: ExposureBook, symbol: str) -> str:
    """Why a symbol must not be sold short now, asked just before the order is sent; "" if it may.

    An answer that is unknown or late denies it, unless the broker's capabilities allow every short sale.
    """
    import asyncio

    source = INSTRUMENTS.of(broker)
    if source is None:
        return ""  # the risk gate has judged what is known
    words = "it is not known whether it can be borrowed"
    try:
        async with asyncio.timeout(RECHECK_S):
            found = {one.symbol: one for one in await source.instruments((symbol,))}.get(symbol)
    except BrokerError as fault:
        found, words = None, f"{words}: {fault.message}"
    except TimeoutError:
        found, words = None, f"{words}: no answer within {RECHECK_S:g} s"
    if found is not None:  # not its grid: the levels of the order and of its stop are on the known one
        known = exposure.instrument_rules.get(symbol, InstrumentRules(symbol=symbol))
        exposure.instrument_rules[symbol] = attrs.evolve(
            known, tradable=found.tradable, shortable=found.shortable, easy_to_borrow=found.easy_to_borrow
        )
    may = None if found is None else found.may_be_shorted
    if may is False:
        return f"{Reason.NOT_SHORTABLE.name}: the broker does not lend it easily"
    return "" if may or broker.capabilities.shortable else f"{Reason.NOT_SHORTABLE.name}: {words}"


def apply_instrument_rules(decision_engine: DecisionEngine, reported: InstrumentRulesReported) -> None:
    """Apply the journaled rules of an instrument, or that they are unknown."""
    symbol, exposure = reported.symbol, decision_engine.exposure
    exposure.holds.end(symbol, *WITHOUT_RULES)
    if reported.known:
        exposure.instrument_rules[symbol] = reported.rules
        decision_engine.position_manager.protection.on_instrument_rules(symbol)
    else:
        exposure.holds.add(symbol, Hold.RULES_REQUESTED if reported.waiting else Hold.RULES_UNKNOWN)


def instrument_rules_text(rules: InstrumentRulesReported) -> str:
    """Text of an instrument rules event, without a full stop."""
    symbol = rules.symbol
    if rules.known:
        steps = (("prices", rules.tick), ("quantities", rules.quantity_step))
        parts = [f"{what} in steps of {step}" for what, step in steps if step is not None]
        if rules.shortable is False:
            parts.append("it cannot be sold short")
        return f"The broker reported new rules of {symbol}: {', '.join(parts) or 'no steps are given'}"
    if rules.waiting:
        return f"An order of {symbol} was off its grid; its rules are requested: {rules.words}"
    return f"The rules of {symbol} are unknown; no entries in it for the rest of the session: {rules.words}"
