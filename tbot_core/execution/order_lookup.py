"""Lookups of orders whose outcome is unknown."""

from __future__ import annotations

from typing import Final

import attrs

_BACKOFF_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)


@attrs.define(kw_only=True)
class OrderLookup:
    """The next lookup of an order (seconds of a steady clock), the attempts, and the sources that do not know it."""

    next_lookup_at: float
    attempts: int = 0
    not_found_by: set[str] = attrs.field(factory=set)

    def postpone(self, now: float) -> None:
        """Schedule the next lookup; the delay doubles each time, up to a minute."""
        self.next_lookup_at = now + _BACKOFF_S[min(self.attempts, len(_BACKOFF_S) - 1)]
        self.attempts += 1
