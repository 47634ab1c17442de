"""Room on the instance's disk: too little of it leaves exits only, and what is held back serves the last words."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import attrs

from tbot_core.errors import AccessError
from tbot_core.journal.disk_reserve import FILE_NAME, NO_ROOM_BYTES, DiskReserve
from tbot_core.system import filesystem
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.execution.trading_state import TradingStateController

EVERY_S: Final = 1.0
_FULL: Final = "the disk had no space for the journal"


@attrs.define(eq=False)
class DiskGuard:
    """What is left on a disk, as `free` says in bytes; without a ballast nobody looks.

    `relieve` is the journal's, which found the disk full: from then on nothing is entered until there is room again.
    """

    free: Callable[[], int] = lambda: 0
    ballast: DiskReserve | None = None
    _held: bool = attrs.field(default=False, init=False)
    _used: bool = attrs.field(default=False, init=False)
    _due: float | None = attrs.field(default=None, init=False)

    @classmethod
    def of(cls, data: Path) -> Self:
        """The room on the disk of that folder."""
        return cls(partial(filesystem.free_bytes, data), DiskReserve(path=data / FILE_NAME))

    def release_ballast(self) -> bool:
        """Give back what was held; whether there was any."""
        self._used, self._held = True, False
        return self.ballast is not None and self.ballast.drop()

    def update_causes(self, now: float, *conditions: TradingStateController) -> None:
        """Make a cause of too little room, and withdraw it; the disk is asked once in a second of `now`."""
        if self._used:
            for one in conditions:
                one.raise_cause(StateCause.DISK_LOW, _FULL)
        if self.ballast is None or (self._due is not None and now < self._due):
            return
        self._due = now + EVERY_S
        try:
            words = self._short(self.ballast)
        except AccessError as fault:
            words = fault.message
        for one in conditions:
            one.set_cause(StateCause.DISK_LOW, words)

    def _short(self, ballast: DiskReserve) -> str:
        # Why there is too little room; what is held back is filled again as soon as there is more than enough.
        free = self.free()
        if not self._held and free >= NO_ROOM_BYTES + ballast.size:
            self._held = ballast.fill()
            self._used = self._used and not self._held
        if free < NO_ROOM_BYTES:
            return f"{free / 1e6:.0f} MB are free, {NO_ROOM_BYTES / 1e6:.0f} MB are needed"
        return _FULL if self._used else ""
