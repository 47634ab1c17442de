"""Lookups of orders whose outcome is unknown."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from tbot_core.contracts import OrderStatusReport
    from tbot_core.trading.orders import OrderRecord

IN_FLIGHT_S: Final = 2.0
"""An order may be in flight this long before it is looked up."""

WATCHED_S: Final = 2.5
"""How often the entries that work are looked up at a broker with a stream: a fill must be known though the stream is
silent. A broker that lists its open orders is asked once for all of them.
"""

UNANSWERED_S: Final = 3.0
"""A stop or exit without an answer for this long is unknown, whatever API_TIMEOUT; a request to settle it ends then."""

ARRIVES: Final = timedelta(seconds=1)
"""How long an event may be under way before a reading that has it shows that the stream does not."""

SETTLING_S: Final = 4.0
"""An order that leaves its position without protection is asked for at least this often."""

_BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_URGENT_S: Final = (0.5, 1.0, 2.0)
"""The pauses of an order that leaves its position bare; with the request's own time under `SETTLING_S`."""


@attrs.define(kw_only=True)
class OrderLookup:
    """The next lookup of an order (seconds of a steady clock), the attempts, and the sources that do not know it.

    `number`: its place among all lookups. `not_found_by` has the second of the first request that each source answered
    without it.
    `asked`: an event left its outcome open, so that it must be looked up, and not only from time to time. `deferred`: a
    lookup found a fill that the stream may still deliver. `settling`: it is being settled, and its requests have no
    answer yet. `unlisted_at`: when a list that lacks it, though it works, was asked for.
    """

    next_lookup_at: float
    number: int
    attempts: int = 0
    not_found_by: dict[str, float] = attrs.field(factory=dict)
    asked: bool = False
    deferred: bool = False
    settling: bool = False
    unlisted_at: float = -math.inf

    def is_due(self, now: float) -> bool:
        """Whether the order is to be settled now."""
        return not self.settling and self.next_lookup_at <= now

    def postpone(self, now: float, *, watched: bool = False, urgent: bool = False) -> None:
        """Schedule the next lookup: in `WATCHED_S` if watched, else after a delay that doubles.

        It grows up to a minute, to 2 s for an urgent one.
        """
        delays = _URGENT_S if urgent else _BACKOFF_S
        self.next_lookup_at = now + (WATCHED_S if watched else delays[min(self.attempts, len(delays) - 1)])
        self.attempts += 1

    def missed_for(self, requested: float) -> float:
        """For how many seconds before this request every source that was asked has not known the order."""
        return requested - max(self.not_found_by.values(), default=requested)

    def defer(self, record: OrderRecord, report: OrderStatusReport | None, now: float) -> bool:
        """Leave a fill of a watched order to the stream for a moment more; False where it is to be booked now.

        Only the stream knows the execution id of a fill that the report counts and does not list.
        """
        before, self.deferred = self.deferred, False
        if report is not None and report.filled > record.filled and not (self.asked or before):
            self.deferred = report.filled > sum(one.quantity for one in report.fills)
        if self.deferred:
            self.next_lookup_at = now + ARRIVES.total_seconds()
        return self.deferred
