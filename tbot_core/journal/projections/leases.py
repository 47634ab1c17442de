"""Leases: which broker may enter which instrument, and when an entry may go to another broker than it went to before.

No instrument is entered at two brokers, since its lease has one owner: it moves with the first entry at the next
broker, is written down before that entry, and stays where it is when the broken one returns. Pure: a fold of the
journal's events; moments are passed in.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.journal import records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.journal.projections.book import JournalEvent

MOST_MOVES: Final = 2
"""So many breaks within an hour may move leases; after that they stay, so that a flapping way moves nothing."""

WITHIN: Final = timedelta(hours=1)
FRESH: Final = timedelta(seconds=60)
"""The last reading that two agreed on may be so much older than the break."""


class FailoverBlocker(StrEnum):
    """Why an entry may not go to the next broker; the value is what people read."""

    NO_DRILL = "no drill of these brokers was passed in the last 30 days"
    IN_FLIGHT = "orders there may still be working"
    UNREAD = "its account was not read in the minute before it failed"
    FLAPPING = "two outages within an hour have moved entries already"
    NO_OTHER = "no other broker is ready"
    ELSEWHERE = "entries in the instrument go to another broker"
    BROKEN = "the broker is not proven to respond"


class FailoverPhase(StrEnum):
    """How a session stands while its primary is broken, and after."""

    ENTRIES = "entries go on"
    REDUCE_ONLY = "the others only reduce"
    DOWN = "no broker answers"
    OVER = "over"


@attrs.frozen(kw_only=True)
class RouteFailure:
    """A way that broke: since when, when the account behind it was read last, and what was not at its end.

    `confirmed`: the operator has said what may be open there; it is counted, and nothing else has to be known.
    """

    broker: str
    since: datetime
    read: datetime | None
    in_flight: int
    confirmed: bool = False

    @property
    def objection(self) -> FailoverBlocker | None:
        """What forbids entries elsewhere; None where all is known, or has been confirmed."""
        if self.confirmed:
            return None
        if self.in_flight:
            return FailoverBlocker.IN_FLIGHT
        unread = self.read is None or self.since - self.read >= FRESH
        return FailoverBlocker.UNREAD if unread else None


@attrs.frozen(kw_only=True)
class Lease:
    """An instrument's owner; the epoch counts its owners, from 0 for the first."""

    broker: str
    epoch: int = 0


@attrs.define(kw_only=True)
class Leases:
    """The leases of a session: all belong to the primary until they move."""

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
        """Take in what an event says of leases; a new session begins at the primary."""
        if event.kind == records.SESSION_OPENED:
            self._leases, self._moves = {}, {}
        elif event.kind == records.LEASE:
            self.apply_move(event.payload, event.applied)

    def apply_move(self, payload: Mapping[str, Any], now: datetime) -> None:
        """A lease has moved, as `move` says."""
        self._leases[payload["symbol"]] = Lease(broker=payload["to"], epoch=payload["epoch"])
        self._moves[datetime.fromisoformat(payload["since"])] = now

    def move_payload(self, symbol: str, to: str, broken: RouteFailure) -> records.Payload:
        """What is written down before an entry goes elsewhere."""
        lease = self.of(symbol)
        return {
            "symbol": symbol,
            "from": lease.broker,
            "to": to,
            "epoch": lease.epoch + 1,
            "since": broken.since.isoformat(),
        }

    def may_move(self, broken: RouteFailure, now: datetime) -> FailoverBlocker | None:
        """What forbids that a lease moves away from a broken way; None where it may."""
        others = [since for since, moved in self._moves.items() if now - moved < WITHIN and since != broken.since]
        return broken.objection or (FailoverBlocker.FLAPPING if len(others) >= MOST_MOVES else None)
