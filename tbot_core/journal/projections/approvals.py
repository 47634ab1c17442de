"""What an operator has approved: whether live trading is armed, and the entries that wait for a confirmation."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from datetime import date, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.journal import records
from tbot_core.journal.events.risk import Armed, Disarmed, LiveTerms, RiskChanged
from tbot_core.journal.projection import JournalEvent, fold
from tbot_core.model.clock import exchange_time

if TYPE_CHECKING:
    from tbot_core.model.calendar import ExchangeCalendar
    from tbot_core.model.types import SignalId

MOST_SESSIONS: Final = 5
"""Maximum number of sessions of one arming."""

MOST_RESTARTS: Final = 3
"""Maximum number of restarts in one session."""

NEVER: Final = "it has not been armed"

LATCHES: Final = frozenset({"daily loss latch", "losing run latch"})
"""The latches that end a session's entries. A window's latch ends only that window."""

_CHANGED: Final = {
    "mode": "the mode has changed",
    "account": "the account is a different one",
    "settings": "the settings have changed",
    "plugins": "the plugins have changed",
}

SHORTEST: Final = 4


@attrs.frozen(kw_only=True)
class ArmingTerms:
    """What an arming is bound to; `settings` and `plugins` are hashes of the deciding settings and of plugins.lock."""

    mode: str
    account: str
    settings: str
    plugins: str

    def requested(self, arguments: Mapping[str, str]) -> ArmingTerms:
        """The terms that a request names in its arguments; what it does not name, or as "", is as here."""
        return attrs.evolve(self, **{name: arguments[name] for name in _CHANGED if arguments.get(name)})

    def changed(self, now: ArmingTerms) -> str:
        """The first difference, as text; "" when the terms are equal."""
        for name, words in _CHANGED.items():
            if getattr(self, name) != getattr(now, name):
                return words
        return ""


@attrs.frozen(kw_only=True)
class ArmingGrant:
    """An arming: its sessions, in order, and who requested it."""

    terms: ArmingTerms
    sessions: tuple[date, ...]
    actor: str


@attrs.define(kw_only=True)
class ArmingState:
    """The arming after the events applied; `why` explains why `armed` is None.

    `restarts`: how many in the current session. `terms`: those of the last live session, armed or not.
    """

    armed: ArmingGrant | None = None
    why: str = NEVER
    restarts: int = 0
    terms: ArmingTerms | None = None

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        match event.kind:
            case records.ARMED:
                self.armed, self.why = armed_of(event.facts(Armed)), ""
            case records.DISARMED:
                self.armed, self.why = None, event.facts(Disarmed).why
            case records.RISK if self.armed is not None:
                change = event.facts(RiskChanged)
                if change.what in LATCHES:
                    self.armed, self.why = None, f"{change.what}: {change.cause}"
            case records.ARMING_KEPT:
                self.restarts += 1
            case records.SESSION_OPENED:
                self.restarts = 0
            case records.LIVE_TERMS:
                live = event.facts(LiveTerms)
                self.terms = ArmingTerms(
                    mode=live.mode, account=live.account, settings=live.settings, plugins=live.plugins
                )

    def denial_reason(self, terms: ArmingTerms, day: date) -> str:
        """Why entries are not allowed in the session of that day under these terms; "" when they are."""
        if self.armed is None:
            return self.why
        if day not in self.armed.sessions:
            return f"it was armed until {self.armed.sessions[-1]}"
        return self.armed.terms.changed(terms)


@attrs.define(kw_only=True)
class PendingConfirmations:
    """The session's confirmation requests by id: `entries` are all of them, `decided` those with a decision."""

    entries: dict[str, Mapping[str, Any]] = attrs.field(factory=dict)
    decided: dict[str, Mapping[str, Any]] = attrs.field(factory=dict)

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        payload = event.payload
        match event.kind:
            case records.CONFIRMATION_ASKED:
                self.entries[payload["id"]] = payload
            case records.DECISION:
                found = (name for name, asked in self.entries.items() if asked["signal"] == payload["signal"])
                self.decided.update(dict.fromkeys(found, payload))
            case records.SESSION_OPENED:
                self.entries.clear()
                self.decided.clear()

    def open_entries(self, now: datetime) -> list[Mapping[str, Any]]:
        """The requests that can still be confirmed, oldest first."""
        return [
            asked
            for name, asked in self.entries.items()
            if name not in self.decided and datetime.fromisoformat(asked["expires"]) > now
        ]


def recall_arming(events: Iterable[JournalEvent]) -> ArmingState:
    """Build the state from a journal's events."""
    return fold(events, ArmingState())


def next_sessions(calendar: ExchangeCalendar, now: datetime, count: int) -> tuple[date, ...]:
    """The dates of `count` sessions, starting with the current or next one; at most MOST_SESSIONS.

    Raises ValueError for a count out of range.
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


def armed_of(armed: Armed) -> ArmingGrant:
    """The grant of an arming."""
    return ArmingGrant(terms=ArmingTerms(**armed.terms.values), sessions=armed.sessions, actor=armed.actor)


def short_id(signal: SignalId, used: Container[str]) -> str:
    """The shortest unused prefix of the signal's hash, for a person to type."""
    digest = sha256(signal.text.encode()).hexdigest()
    return next(digest[:size] for size in range(SHORTEST, len(digest)) if digest[:size] not in used)


def recall_confirmations(events: Iterable[JournalEvent]) -> PendingConfirmations:
    """Build the requests from a journal's events."""
    return fold(events, PendingConfirmations())
