"""Whether the loop turned in time: a bot that stood still knows nothing of what happened meanwhile."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

STALL_S: Final = 10.0


class LoopGuard:
    """Measures how much longer a pause took than it was meant to; moments are those of a steady clock."""

    def __init__(self, now: float) -> None:
        self._paused = now

    def begin_pause(self, now: float) -> None:
        """A pause begins."""
        self._paused = now

    def stalled_s(self, now: float, meant_s: float) -> float:
        """The seconds that the pause took too long, where they are enough to be a stand-still; else 0."""
        stood = now - self._paused - meant_s
        return stood if stood >= STALL_S else 0.0


@contextmanager
def gc_paused() -> Iterator[None]:
    """Meanwhile no cycles are collected: that takes up to 40 ms, and waits until the orders of a minute have left."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
