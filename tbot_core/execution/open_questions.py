"""An order whose outcome is being looked up."""

from __future__ import annotations

from typing import Final

import attrs

_BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)


@attrs.define(kw_only=True)
class OrderLookup:
    """When an order is asked after next, how often it was, and the sources that do not know it.

    `due`: in seconds of a steady clock.
    """

    next_lookup_at: float
    attempts: int = 0
    not_found_by: set[str] = attrs.field(factory=set)

    def postpone(self, now: float) -> None:
        """Ask again later, each time twice as late, up to a minute."""
        self.next_lookup_at = now + _BACKOFF_S[min(self.attempts, len(_BACKOFF_S) - 1)]
        self.attempts += 1
