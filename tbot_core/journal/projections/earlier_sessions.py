"""What earlier sessions of a journal tell: whether live money was traded, and which short signals SHORT_TYPE denied."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from datetime import date
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.journal import records
from tbot_core.journal.events.orders import SignalDecided
from tbot_core.journal.events.sessions import RunStarted, SessionOpened
from tbot_core.model.reasons import Reason
from tbot_core.model.types import BrokerEventKind

if TYPE_CHECKING:
    from tbot_core.journal.projection import JournalEvent
    from tbot_core.journal.store import Event, Journal

_LIVE = "live"

DENIAL_SESSIONS: Final = 5
"""How many sessions count."""

SHORT_TYPES: Final = {
    Reason.SHORT_BY_FUND_UNAVAILABLE.name: "InverseETF",
    Reason.SHORT_BY_PUT_UNAVAILABLE.name: "LongPut",
}
"""The values of SHORT_TYPE_* that are not available, by the reason of their denials."""


@attrs.frozen(kw_only=True)
class ShortDenials:
    """A projection of decisions: the last sessions before a day, and their signals that were denied so.

    `counts`: by session, strategy and value of SHORT_TYPE.
    """

    before: date
    sessions: deque[str] = attrs.field(factory=lambda: deque(maxlen=DENIAL_SESSIONS))
    counts: Counter[tuple[str, str, str]] = attrs.field(factory=Counter)

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        match event.kind:
            case records.SESSION_OPENED:
                day = event.facts(SessionOpened).date.isoformat()
                if day < self.before.isoformat() and day not in self.sessions:
                    self.sessions.append(day)
            case records.DECISION:
                decided = event.facts(SignalDecided)
                if short_type := SHORT_TYPES.get(decided.reason):
                    self.counts[decided.signal.session.isoformat(), decided.signal.strategy, short_type] += 1

    def denied(self, strategy: str, short_type: str) -> int:
        """How many short signals of a strategy were denied in these sessions."""
        return sum(self.counts[day, strategy, short_type] for day in self.sessions)


def has_traded_live(journal: Journal, account: str, before: date) -> bool:
    """Whether an order of this account filled with live money in a session before a date."""
    sessions = _live_sessions(journal)
    starts = [seq for seq, _ in sessions]
    for fill in journal.events(kind=BrokerEventKind.FILL):
        place = bisect_right(starts, fill.seq) - 1
        opened = sessions[place][1] if place >= 0 else None
        if opened is None or opened.facts(SessionOpened).date >= before:
            continue
        if records.accounts_of(opened.payload).get(fill.broker) == account:
            return True
    return False


def short_denials(journal: Journal, before: date) -> ShortDenials:
    """The projection of a journal, for the session of a day."""
    found = ShortDenials(before=before)
    opened = list(journal.events(kind=records.SESSION_OPENED))
    for event in opened:
        found.apply(event)
    days = ((event.seq, event.facts(SessionOpened).date.isoformat()) for event in opened)
    first = next((seq for seq, day in days if day in found.sessions), None)
    for event in () if first is None else journal.events(first, kind=records.DECISION):
        found.apply(event)
    return found


def _live_sessions(journal: Journal) -> list[tuple[int, Event | None]]:
    # The openings of all sessions with their numbers in the journal; None for one that was not live.
    runs = [(event.seq, event.facts(RunStarted).mode) for event in journal.events(kind=records.RUN_STARTED)]
    starts = [seq for seq, _ in runs]
    return [
        (event.seq, event if place >= 0 and runs[place][1] == _LIVE else None)
        for event in journal.events(kind=records.SESSION_OPENED)
        for place in (bisect_right(starts, event.seq) - 1,)
    ]
