"""Leases: which broker may enter which instrument, and when a lease may move to another broker.

Each lease has one owner, so no instrument is entered at two brokers. A lease moves with the first entry at the next
broker, is journaled before that entry, and does not move back. Pure: a fold of events; times are passed in.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.journal import codec, records
from tbot_core.journal.events.failover import LeaseMoved

if TYPE_CHECKING:
    from tbot_core.journal.projection import JournalEvent

MOST_MOVES: Final = 2
"""How many outages within `WITHIN` may move leases; more are treated as flapping."""

WITHIN: Final = timedelta(hours=1)
FRESH: Final = timedelta(seconds=60)
"""The last agreed reading must be less than this much older than the outage."""


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
        return broken.objection or (FailoverBlocker.FLAPPING if len(others) >= MOST_MOVES else None)
