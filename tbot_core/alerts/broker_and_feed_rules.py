"""Notices about brokers, instruments and market data, each with the command to run next.

Pure: events are passed in.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from tbot_core.alerts.next_commands import (
    FAILOVER_CONFIRM_COMMAND,
    FAILOVER_DRILL_COMMAND,
    FAILOVER_STATUS_COMMAND,
)
from tbot_core.alerts.store import Notice
from tbot_core.contracts import Urgency
from tbot_core.execution import instrument_rules, orphan_orders
from tbot_core.journal import records
from tbot_core.journal.events.accounts import InstrumentRulesReported
from tbot_core.journal.events.failover import CircuitChanged, FailoverChanged
from tbot_core.journal.events.feeds import FeedsApart, UniverseCut, VixRead
from tbot_core.journal.events.orders import OrderTermsDiffer
from tbot_core.journal.events.sessions import DriftMeasured, WindowClosed
from tbot_core.journal.projections import failover
from tbot_core.journal.projections.failover import FailoverBlocker
from tbot_core.journal.projections.feed_health import DataHealth
from tbot_core.model.clock import both_times
from tbot_core.model.formatting import first_names, format_price, plural
from tbot_core.reports.drift import drift_sentence
from tbot_core.trading.risk.states import FailoverPhase

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.journal.store import Event

MISSING: Final = ", not backfilled yet; symbols without these bars are not entered"
"""What the incident of lost minutes says as long as it is open."""


def notices_of_event(event: JournalEvent) -> Iterator[Notice]:
    """The notice for an event alone."""
    match event.kind:
        case records.INSTRUMENT:
            rules = event.facts(InstrumentRulesReported)
            if not rules.waiting:
                yield _routine("", f"{instrument_rules.instrument_rules_text(rules)}.", f"tbot why {rules.symbol}")
        case records.OTHER_TERMS:
            symbol = event.facts(OrderTermsDiffer).ordered.symbol
            what, command = f"{orphan_orders.misread_order_text(event.payload)}.", f"tbot why {symbol}"
            yield Notice(key="", urgency=Urgency.CRITICAL, what=what, command=command)
        case records.VIX:
            yield from _unknown_vix(event.facts(VixRead))
        case records.DRIFT:
            day = event.facts(DriftMeasured).date
            what = f"The session of {day} beside its shadow run: {drift_sentence(event.payload)}"
            yield _routine("", what, f"tbot drift {day}")
        case kind if kind in failover.KINDS and kind != records.DRILL:  # a drill's operator sees its result
            what = f"{failover.failover_event_text(event)}."
            yield Notice(key="", urgency=_urgency(event), what=what, command=_command(event))


def _unknown_vix(read: VixRead) -> Iterator[Notice]:
    if read.value is None and not read.candidates:
        what = f"[{read.strategy.upper()}] no entries: the live VIX is unknown. VIX_SOURCE=previous_close uses the"
        yield _routine("", f"{what} close of the session before instead.", "tbot config explain VIX_SOURCE")


def _urgency(event: JournalEvent) -> Urgency:
    match event.kind:
        case records.CIRCUIT:
            critical = event.facts(CircuitChanged).state == "open"
        case records.FAILOVER:
            critical = event.facts(FailoverChanged).phase is not FailoverPhase.OVER
        case kind:
            critical = kind == records.STANDBY_ABSENT
    return Urgency.CRITICAL if critical else Urgency.ROUTINE


def _command(event: JournalEvent) -> str:
    if event.kind == records.STANDBY_ABSENT:
        return "tbot check"
    if event.kind == records.FAILOVER:
        change = event.facts(FailoverChanged)
        if change.phase is FailoverPhase.REDUCE_ONLY:
            undrilled = change.why == FailoverBlocker.NO_DRILL.name
            return FAILOVER_DRILL_COMMAND if undrilled else FAILOVER_CONFIRM_COMMAND
    return FAILOVER_STATUS_COMMAND


class FeedAlertRules:
    """Follows the journal's events."""

    def __init__(self) -> None:
        self._health = DataHealth()

    def apply(self, event: Event) -> Iterator[Notice]:
        """Apply the next event; returns its notices."""
        if event.kind == records.WINDOW_CLOSED:
            strategy = event.facts(WindowClosed).strategy
            if left_out := self._health.incomplete.get(strategy):
                yield _incomplete(strategy, left_out)
        over = self._health.over
        self._health.apply(event)
        if event.kind == records.UNIVERSE:
            yield _cut(event.facts(UniverseCut))
        if self._health.over and not over:
            yield _routine("", "The whole market is halted to the close (level 3): the session has ended.")

    def open_incidents(self, held: Collection[str]) -> Iterator[Notice]:
        """The open incidents; `held` are the symbols of positions."""
        health = self._health
        if health.lost and health.opened:
            yield _gap(health.opened, health.lost)
        for symbol, words in sorted(health.halted.items()):
            if held and (symbol in held or not symbol):
                yield _halt(symbol, words, held, over=health.over)
        for _, apart in sorted(health.apart.items()):
            yield _apart(apart)


def _incomplete(strategy: str, symbols: list[str]) -> Notice:
    what = f"ANALYSIS_INCOMPLETE: {plural(len(symbols), 'signal')} of {strategy} not entered, because the feed lost a "
    return _routine("", f"{what}minute of the analysis: {first_names(symbols)}.", f"tbot why {symbols[0]}")


def _cut(universe: UniverseCut) -> Notice:
    kept = f"{universe.kept} of {universe.whole} symbols are subscribed, by {universe.by} of {universe.limit}"
    what = f"UNIVERSE_TRUNCATED: {kept}; dropped: {first_names(universe.cut)}."
    return _routine("", what, "tbot config explain UNIVERSE_MAX")


def _gap(opened: datetime, lost: set[int]) -> Notice:
    first, end = (opened + timedelta(minutes=minute) for minute in (min(lost), max(lost) + 1))
    what = f"The feed lost {plural(len(lost), 'minute')} between {both_times(first)} and {both_times(end)}"
    return _routine("feed gap", f"{what}{MISSING}.")


def _halt(symbol: str, words: str, held: Collection[str], *, over: bool) -> Notice:
    why = f" ({words})" if words else ""
    if symbol:
        what = f"{symbol} is halted{why} with an open position: exits wait, the stop keeps working."
        return _routine(f"halt {symbol}", what, f"tbot why {symbol}")
    until = " to the close" if over else ""
    what = (
        f"The whole market is halted{until}{why}; open positions: {first_names(held)}: exits wait, stops keep working."
    )
    return _routine("halt", what)


def _apart(apart: FeedsApart) -> Notice:
    symbol, where = apart.symbol, f" at {apart.broker}" if apart.broker else ""
    at = f"{format_price(apart.feed)} at the feed, {format_price(apart.theirs)} at {apart.broker or 'the broker'}"
    return _routine(
        f"feeds apart {symbol}{where}", f"No entries in {symbol}{where}: its price is {at}.", f"tbot why {symbol}"
    )


def _routine(key: str, what: str, command: str = "tbot status") -> Notice:
    return Notice(key=key, urgency=Urgency.ROUTINE, what=what, command=command)
