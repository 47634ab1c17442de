"""The last restart in the current session: what was found, and what was missed."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.journal import records
from tbot_core.journal.events.feeds import FeedGap
from tbot_core.journal.events.orders import SignalDecided
from tbot_core.journal.events.risk import StateChanged
from tbot_core.journal.events.sessions import MinutesMissed
from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import plural
from tbot_core.model.reasons import Reason
from tbot_core.model.types import BrokerEventKind
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.journal.projection import JournalEvent


_FOUND: Final[Mapping[str, str]] = {
    BrokerEventKind.FILL: "fill",
    BrokerEventKind.CANCELLED: "cancelled order",
    BrokerEventKind.EXPIRED: "expired order",
    BrokerEventKind.REJECTED: "rejected order",
    records.ORDER_NOT_FOUND: "order that never arrived",
    records.LOST: "lost order",
    records.ADJUSTMENT: "change of a position by others",
    records.FOREIGN_ORDER: "foreign order",
    records.FOREIGN_HOLDING: "foreign holding",
}
"""What the first readings of the account can find, in the singular."""


@attrs.define(kw_only=True)
class Restart:
    """A projection of restarts; `at` is None when the session had none.

    `since`: time of the last event before it. `found`: what the first readings reported, by kind. `minutes` and
    `signals`: missed ones. `settled`: the account is reconciled again.
    """

    at: dt.datetime | None = None
    since: dt.datetime | None = None
    found: Counter[str] = attrs.field(factory=Counter)
    minutes: int = 0
    signals: int = 0
    settled: bool = False
    _in_session: bool = False
    _last: dt.datetime | None = None

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        match event.kind:
            case records.SESSION_OPENED | records.SESSION_CLOSED:
                self._reset(in_session=event.kind == records.SESSION_OPENED)
            case records.STATE:
                change = event.facts(StateChanged)
                if change.cause is StateCause.UNRECONCILED:
                    self._reconcile(event, there=change.there)
            case records.GAP if self.at is not None:
                missed = event.facts(MinutesMissed)
                self.minutes += missed.until - missed.first
            case records.FEED_GAP if self.at is not None:
                gap = event.facts(FeedGap)
                self.minutes += gap.last - gap.first + 1
            case records.DECISION if self.at is not None:
                self.signals += event.facts(SignalDecided).reason == Reason.SIGNAL_TOO_LATE.name
            case kind if kind in _FOUND and self.at is not None and not self.settled:
                self.found[kind] += 1
        self._last = event.applied

    def _reconcile(self, event: JournalEvent, *, there: bool) -> None:
        # UNRECONCILED in an open session means that the process was restarted.
        if there and self._in_session:
            self._restart(event)
        elif not there:
            self.settled = True

    def _restart(self, event: JournalEvent) -> None:
        self._clear()
        self.at, self.since = event.applied, self._last

    def _reset(self, *, in_session: bool) -> None:
        self._clear()
        self.at = self.since = None
        self._in_session = in_session

    def _clear(self) -> None:
        self.found, self.minutes, self.signals, self.settled = Counter(), 0, 0, False


def restart_text(restart: Restart) -> str:
    """The restart as a line: at first that it happened, then what was found and missed."""
    if not restart.settled:
        before = "" if restart.since is None else f"; the last event before it was at {_clock(restart.since)}"
        return f"Restarted in the open session{before}"
    return f"After the restart {found_words(restart.found, restart.minutes, restart.signals, settled=True)}"


def found_words(found: Mapping[str, int], minutes: int, signals: int, *, settled: bool) -> str:
    """What a restart found, by the kinds of FOUND, and how many minutes and signals were missed."""
    kinds = ", ".join(plural(count, _FOUND[kind]) for kind, count in sorted(found.items()))
    words = kinds or ("nothing new" if settled else "the account has not been read yet")
    return f"found: {words}; missed: {plural(minutes, 'minute')}, {plural(signals, 'signal')}"


def _clock(moment: dt.datetime) -> str:
    return f"{exchange_time(moment):%H:%M:%S}"


def document(restart: Restart) -> dict[str, Any] | None:
    """The restart for JSON; None without one."""
    if restart.at is None:
        return None
    return {
        "at": restart.at.isoformat(),
        "since": None if restart.since is None else restart.since.isoformat(),
        "found": dict(sorted(restart.found.items())),
        "missed_minutes": restart.minutes,
        "missed_signals": restart.signals,
        "settled": restart.settled,
    }
