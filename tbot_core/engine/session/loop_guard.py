"""Detects a stalled event loop: a stalled bot misses what happens meanwhile."""

from __future__ import annotations

from typing import Final

STALL_S: Final = 10.0


class LoopGuard:
    """Measures how much longer a pause took than intended; times are those of a monotonic clock, in seconds."""

    def __init__(self, now: float) -> None:
        self._paused = now

    def begin_pause(self, now: float) -> None:
        """Record the start of a pause."""
        self._paused = now

    def stalled_s(self, now: float, intended_s: float) -> float:
        """How many seconds the pause took too long, if at least STALL_S; else 0."""
        excess = now - self._paused - intended_s
        return excess if excess >= STALL_S else 0.0
