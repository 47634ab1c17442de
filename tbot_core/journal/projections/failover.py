"""Failover between brokers: which one may enter which instrument, when that moves, passed drills, and their text."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, assert_never

import attrs

from tbot_core.journal import codec, records
from tbot_core.journal.events import failover as events
from tbot_core.journal.events.failover import (
    CircuitChanged,
    FailoverChanged,
    FailoverConfirmed,
    FailoverDrilled,
    LeaseMoved,
    StandbyAbsent,
)
from tbot_core.journal.events.risk import PositionsReleased
from tbot_core.model.formatting import format_money
from tbot_core.trading.risk.states import FailoverPhase

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tbot_core.journal.projection import JournalEvent

_MOST_MOVES: Final = 2
"""How many outages within `WITHIN` may move leases; more are treated as flapping."""

WITHIN: Final = timedelta(hours=1)

FRESH: Final = timedelta(seconds=60)
"""The last agreed reading must be less than this much older than the outage."""

DRILL_VALID_FOR: Final = timedelta(days=30)
"""How long a passed drill is valid."""

KINDS: Final = frozenset(
    {
        records.CIRCUIT,
        records.FAILOVER,
        records.LEASE,
        records.FAILOVER_CONFIRMED,
        records.RELEASED,
        records.STANDBY_ABSENT,
        records.DRILL,
    }
)
"""The events that `failover_event_text` describes."""

_CIRCUITS: Final = {
    "open": "open: three requests in a row failed",
    "half-open": "half-open: the broker responds again, and is not proven yet",
    "closed": "closed: the broker is proven to respond",
}


class FailoverBlocker(StrEnum):
    """Why an entry may not go to the next broker; the value is shown to users."""

    NO_DRILL = "no drill of these brokers was passed in the last 30 days"
    IN_FLIGHT = "orders there may still be working"
    UNREAD = "its account was not read in the minute before it failed"
    FLAPPING = "two outages within an hour have moved entries already"
    NO_OTHER = "no other broker is ready"
    ELSEWHERE = "entries in the instrument go to another broker"
    BROKEN = "the broker is not proven to respond"


@attrs.frozen(kw_only=True)
class RouteFailure:
    """An outage of a broker: its start, the last reading of the account, and orders in flight.

    `confirmed`: the operator has stated the maximum that may be open there, so nothing else must be known.
    """

    broker: str
    since: datetime
    read: datetime | None
    in_flight: int
    confirmed: bool = False

    @property
    def objection(self) -> FailoverBlocker | None:
        """What forbids entries elsewhere; None when all is known or confirmed."""
        if self.confirmed:
            return None
        if self.in_flight:
            return FailoverBlocker.IN_FLIGHT
        unread = self.read is None or self.since - self.read >= FRESH
        return FailoverBlocker.UNREAD if unread else None


@attrs.frozen(kw_only=True)
class Lease:
    """An instrument's owner; `epoch` counts owners from 0."""

    broker: str
    epoch: int = 0


@attrs.define(kw_only=True)
class Leases:
    """The leases of a session; each belongs to the primary until it moves."""

    primary: str
    _leases: dict[str, Lease] = attrs.field(factory=dict)
    _moves: dict[datetime, datetime] = attrs.field(factory=dict)

    def of(self, symbol: str) -> Lease:
        """The lease of an instrument."""
        return self._leases.get(symbol) or Lease(broker=self.primary)

    @property
    def moved(self) -> dict[str, Lease]:
        """The leases that have moved, by instrument."""
        return dict(sorted(self._leases.items()))

    def apply(self, event: JournalEvent) -> None:
        """Apply an event; a new session starts at the primary."""
        if event.kind == records.SESSION_OPENED:
            self._leases, self._moves = {}, {}
        elif event.kind == records.LEASE:
            self.apply_move(codec.read(LeaseMoved, event.payload), event.applied)

    def apply_move(self, move: LeaseMoved, now: datetime) -> None:
        """Apply a move."""
        self._leases[move.symbol] = Lease(broker=move.to, epoch=move.epoch)
        self._moves[move.since] = now

    def move(self, symbol: str, to: str, broken: RouteFailure) -> LeaseMoved:
        """The event to journal before an entry goes to another broker."""
        lease = self.of(symbol)
        return LeaseMoved(symbol=symbol, origin=lease.broker, to=to, epoch=lease.epoch + 1, since=broken.since)

    def may_move(self, broken: RouteFailure, now: datetime) -> FailoverBlocker | None:
        """What forbids moving a lease away from a failed broker; None when allowed."""
        others = [since for since, moved in self._moves.items() if now - moved < WITHIN and since != broken.since]
        return broken.objection or (FailoverBlocker.FLAPPING if len(others) >= _MOST_MOVES else None)


@attrs.frozen(kw_only=True)
class DrillStep:
    """One step of a drill, and its result."""

    what: str
    passed: bool
    words: str = ""


@attrs.frozen(kw_only=True)
class FailoverDrill:
    """A drill: brokers, settings hash, time and steps."""

    brokers: tuple[str, ...]
    settings: str
    time: datetime
    steps: tuple[DrillStep, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every step passed."""
        return all(step.passed for step in self.steps)

    @property
    def event(self) -> FailoverDrilled:
        """The journal's event of it."""
        steps = tuple(events.DrillStep(**attrs.asdict(step)) for step in self.steps)
        return FailoverDrilled(brokers=self.brokers, settings=self.settings, passed=self.passed, steps=steps)


def latest_drill(events: Iterable[JournalEvent], brokers: Sequence[str]) -> FailoverDrill | None:
    """The last drill of these brokers; None without one."""
    latest = None
    for event in events:
        if event.kind == records.DRILL and (drilled := event.facts(FailoverDrilled)).brokers == tuple(brokers):
            steps = tuple(DrillStep(**step.values) for step in drilled.steps)
            latest = FailoverDrill(brokers=drilled.brokers, settings=drilled.settings, time=event.applied, steps=steps)
    return latest


def drill_objection(drill: FailoverDrill | None, now: datetime) -> str:
    """Why the drill forbids entries at another broker; "" when it allows them."""
    if drill is None:
        return "no failover drill was run with these brokers"
    if not drill.passed:
        return f"the drill of {drill.time:%Y-%m-%d} failed"
    if now - drill.time > DRILL_VALID_FOR:
        return f"the last drill, of {drill.time:%Y-%m-%d}, is older than {DRILL_VALID_FOR.days} days"
    return ""


def failover_event_text(event: JournalEvent) -> str:
    """An event as a sentence without a full stop."""
    match event.kind:
        case records.CIRCUIT:
            circuit = event.facts(CircuitChanged)
            return f"The circuit breaker of {circuit.of} is {_CIRCUITS[circuit.state]}"
        case records.LEASE:
            lease = event.facts(LeaseMoved)
            return f"Entries in {lease.symbol} go to {lease.to} from now on, no longer to {lease.origin}"
        case records.FAILOVER_CONFIRMED | records.RELEASED:
            return _confirmed_text(event)
        case records.STANDBY_ABSENT:
            absent = event.facts(StandbyAbsent)
            return f"Login to {absent.of} failed, so it cannot take over today: {absent.words}"
        case records.DRILL:
            drill = event.facts(FailoverDrilled)
            return f"A drill of {', '.join(drill.brokers)} was {'' if drill.passed else 'not '}passed"
    return _phase_text(event.facts(FailoverChanged))


def _confirmed_text(event: JournalEvent) -> str:
    if event.kind == records.RELEASED:
        released = event.facts(PositionsReleased)
        return f"{released.actor} confirms that no position is open at {released.of}, account {released.account}"
    confirmed = event.facts(FailoverConfirmed)
    amount, reserved = format_money(confirmed.amount), format_money(confirmed.reserved)
    what = f"at most {amount} are open at {confirmed.of}, where {reserved} are reserved"
    return f"{confirmed.actor} confirms that {what}; entries may go to another broker"


def _phase_text(change: FailoverChanged) -> str:
    of, to, why = change.of, change.to, change.why
    reason = FailoverBlocker[why].value if why else ""
    match change.phase:
        case FailoverPhase.ENTRIES:
            guard = f"; no further leases move, because {reason}" if why else ""
            return f"{of} does not respond: entries go to {to}, and {of} keeps its positions{guard}"
        case FailoverPhase.REDUCE_ONLY:
            return f"{of} does not respond, and {to} only reduces: {reason}"
        case FailoverPhase.DOWN:
            return f"{of} does not respond, and {reason}: entries are blocked"
        case FailoverPhase.OVER:
            return f"{of} is proven to respond: entries go there again, except for instruments that have moved"
        case _:
            assert_never(change.phase)
