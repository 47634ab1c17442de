"""Notices about brokers, instruments and market data, each with the command to run next.

Pure: events are passed in.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tbot_core.alerts.next_commands import (
    FAILOVER_CONFIRM_COMMAND,
    FAILOVER_DRILL_COMMAND,
    FAILOVER_STATUS_COMMAND,
)
from tbot_core.alerts.store import Notice
from tbot_core.contracts import Urgency
from tbot_core.execution import instrument_rules, orphan_orders
from tbot_core.journal import records
from tbot_core.journal.projections import failover_text
from tbot_core.journal.projections.feed_health import DataHealth
from tbot_core.journal.projections.leases import FailoverBlocker
from tbot_core.model.clock import both_times
from tbot_core.model.formatting import first_names, format_price, plural
from tbot_core.reports.drift import drift_sentence
from tbot_core.trading.risk.states import FailoverPhase

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from tbot_core.journal.store import Event

MISSING: Final = ", not backfilled yet; symbols without these bars are not entered"
"""What the incident of lost minutes says as long as it is open."""


def notices_of_event(kind: str, payload: Mapping[str, Any]) -> Iterator[Notice]:
    """The notice for an event alone."""
    if kind == records.INSTRUMENT and not payload["waiting"]:
        what, command = f"{instrument_rules.instrument_rules_text(payload)}.", f"tbot why {payload['symbol']}"
        yield Notice(key="", urgency=Urgency.ROUTINE, what=what, command=command)
    if kind == records.TAKEN_OTHERWISE:
        what, command = f"{orphan_orders.misread_order_text(payload)}.", f"tbot why {payload['ordered']['symbol']}"
        yield Notice(key="", urgency=Urgency.CRITICAL, what=what, command=command)
    if kind == records.VIX and payload["value"] is None and not payload["candidates"]:
        what = (
            f"[{payload['strategy'].upper()}] no entries: the live VIX is unknown. VIX_SOURCE=previous_close uses the"
        )
        yield _routine("", f"{what} close of the session before instead.", "tbot config explain VIX_SOURCE")
    if kind == records.DRIFT:
        what = f"The session of {payload['date']} beside its shadow run: {drift_sentence(payload)}"
        yield _routine("", what, f"tbot drift {payload['date']}")
    if kind not in failover_text.KINDS or kind == records.DRILL:  # the operator of a drill sees its result
        return
    what = f"{failover_text.failover_event_text(kind, payload)}."
    yield Notice(key="", urgency=_urgency(kind, payload), what=what, command=_command(kind, payload))


def _urgency(kind: str, payload: Mapping[str, Any]) -> Urgency:
    critical = kind == records.STANDBY_ABSENT or (kind == records.CIRCUIT and payload["state"] == "open")
    if kind == records.FAILOVER:
        critical = payload["phase"] != FailoverPhase.OVER.value
    return Urgency.CRITICAL if critical else Urgency.ROUTINE


def _command(kind: str, payload: Mapping[str, Any]) -> str:
    if kind == records.STANDBY_ABSENT:
        return "tbot check"
    if kind == records.FAILOVER and payload["phase"] == FailoverPhase.REDUCE_ONLY.value:
        return FAILOVER_DRILL_COMMAND if payload["why"] == FailoverBlocker.NO_DRILL.name else FAILOVER_CONFIRM_COMMAND
    return FAILOVER_STATUS_COMMAND


class FeedAlertRules:
    """Follows the journal's events."""

    def __init__(self) -> None:
        self._health = DataHealth()

    def apply(self, event: Event) -> Iterator[Notice]:
        """Apply the next event; returns its notices."""
        left_out = self._health.incomplete.get(event.payload.get("strategy", ""), [])
        if event.kind == records.WINDOW_CLOSED and left_out:
            yield _incomplete(event.payload["strategy"], left_out)
        over = self._health.over
        self._health.apply(event)
        if event.kind == records.UNIVERSE:
            yield _cut(event.payload)
        if self._health.over and not over:
            yield _routine("", "The whole market is halted to the close (level 3): the session has ended.")

    def open_incidents(self, held: Collection[str]) -> Iterator[Notice]:
        """The open incidents; `held` are the symbols of positions."""
        health = self._health
        if health.lost:
            yield _gap(datetime.fromisoformat(health.opened), health.lost)
        for symbol, words in sorted(health.halted.items()):
            if held and (symbol in held or not symbol):
                yield _halt(symbol, words, held, over=health.over)
        for (_, symbol), seen in sorted(health.apart.items()):
            yield _apart(symbol, seen)


def _incomplete(strategy: str, symbols: list[str]) -> Notice:
    what = f"ANALYSIS_INCOMPLETE: {plural(len(symbols), 'signal')} of {strategy} not entered, because the feed lost a "
    return _routine("", f"{what}minute of the analysis: {first_names(symbols)}.", f"tbot why {symbols[0]}")


def _cut(payload: Mapping[str, Any]) -> Notice:
    cut, kept = payload["cut"], payload["kept"]
    whole = kept + len(cut) + sum(map(len, payload.get("denied", {}).values()))
    what = f"UNIVERSE_TRUNCATED: {kept} of {whole} symbols are subscribed, by {payload['by']} of {payload['limit']}"
    return _routine("", f"{what}; dropped: {first_names(cut)}.", "tbot config explain UNIVERSE_MAX")


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


def _apart(symbol: str, seen: Mapping[str, Any]) -> Notice:
    feed, theirs = (format_price(Decimal(seen[name])) for name in ("feed", "theirs"))
    whose = seen.get("broker", "the broker")
    where = f" at {whose}" if "broker" in seen else ""
    at = f"{feed} at the feed, {theirs} at {whose}"
    return _routine(
        f"feeds apart {symbol}{where}", f"No entries in {symbol}{where}: its price is {at}.", f"tbot why {symbol}"
    )


def _routine(key: str, what: str, command: str = "tbot status") -> Notice:
    return Notice(key=key, urgency=Urgency.ROUTINE, what=what, command=command)
