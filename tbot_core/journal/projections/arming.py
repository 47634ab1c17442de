"""Whether live trading is armed: by whom, for which sessions, and under which terms, as the journal's events say it.

Pure: events come in, days are passed in. What a person armed is one bot: the same settings and plugins, in the same
mode, at the same account. Anything else has to be armed anew.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.journal import records
from tbot_core.model.clock import exchange_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tbot_core.journal.projections.book import JournalEvent
    from tbot_core.model.calendar import ExchangeCalendar

MOST_SESSIONS: Final = 5
"""An arming lasts for so many sessions at most."""

MOST_RESTARTS: Final = 3
"""An arming survives so many restarts of one session."""

NEVER: Final = "it has not been armed"
LATCHES: Final = frozenset({"daily loss latch", "losing run latch"})
"""The latches that end a session's entries; that of a window ends the window's alone."""


@attrs.frozen(kw_only=True)
class ArmingTerms:
    """What an arming holds for; `settings` and `plugins` are hashes, of what decides and of plugins.lock."""

    mode: str
    account: str
    settings: str
    plugins: str

    def changed(self, now: ArmingTerms) -> str:
        """What is no longer as it was; "" where all is."""
        for name, words in _CHANGED.items():
            if getattr(self, name) != getattr(now, name):
                return words
        return ""


_CHANGED: Final = {
    "mode": "the mode has changed",
    "account": "the account is a different one",
    "settings": "the settings have changed",
    "plugins": "the plugins have changed",
}


@attrs.frozen(kw_only=True)
class ArmingGrant:
    """An arming: the sessions it is good for, in order, and who asked for it."""

    terms: ArmingTerms
    sessions: tuple[date, ...]
    actor: str


@attrs.define(kw_only=True)
class ArmingState:
    """What the events so far say: `armed` is None where nothing is, and then `why` says why.

    `restarts`: how many of the session at hand it has survived. `terms`: those of the last live session, armed or not.
    """

    armed: ArmingGrant | None = None
    why: str = NEVER
    restarts: int = 0
    terms: ArmingTerms | None = None

    def apply(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Take the next event in."""
        match kind:
            case records.ARMED:
                self.armed, self.why = armed_of(payload), ""
            case records.DISARMED:
                self.armed, self.why = None, payload["why"]
            case records.RISK if self.armed is not None and payload["what"] in LATCHES:
                self.armed, self.why = None, f"{payload['what']}: {payload['cause']}"
            case records.ARMING_KEPT:
                self.restarts += 1
            case records.SESSION_OPENED:
                self.restarts = 0
            case records.LIVE_TERMS:
                self.terms = ArmingTerms(**payload)

    def denial_reason(self, terms: ArmingTerms, day: date) -> str:
        """Why nothing may be entered in the session of that day under these terms; "" where it may."""
        if self.armed is None:
            return self.why
        if day not in self.armed.sessions:
            return f"it was armed until {self.armed.sessions[-1]}"
        return self.armed.terms.changed(terms)


def recall_arming(events: Iterable[JournalEvent]) -> ArmingState:
    """What a journal's events come to."""
    found = ArmingState()
    for event in events:
        found.apply(event.kind, event.payload)
    return found


def next_sessions(calendar: ExchangeCalendar, now: datetime, count: int) -> tuple[date, ...]:
    """The days of so many sessions from the one at hand on, else from the next; at most MOST_SESSIONS.

    Raises ValueError for a number that is not allowed.
    """
    if not 1 <= count <= MOST_SESSIONS:
        raise ValueError(f"{count} sessions cannot be armed: allowed are 1 to {MOST_SESSIONS}")
    day = exchange_time(now).date()
    here = calendar.session(day)
    found = [] if here is None or here.close <= now else [day]
    while len(found) < count:
        day = calendar.next(day).date
        found.append(day)
    return tuple(found)


def armed_payload(armed: ArmingGrant) -> records.Payload:
    """An arming, for the journal."""
    days = [day.isoformat() for day in armed.sessions]
    return {"actor": armed.actor, "sessions": days, "terms": attrs.asdict(armed.terms)}


def armed_of(payload: Mapping[str, Any]) -> ArmingGrant:
    """The arming that `armed_payload` wrote."""
    days = tuple(date.fromisoformat(text) for text in payload["sessions"])
    return ArmingGrant(terms=ArmingTerms(**payload["terms"]), sessions=days, actor=payload["actor"])
