"""Free space on the instance's disk: too little leaves exits only; a reserve file keeps space for the journal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import attrs

from tbot_core.errors import AccessError
from tbot_core.journal.store import NO_ROOM_BYTES
from tbot_core.system import filesystem, log
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from tbot_core.execution.trading_state import TradingStateController

_EVERY_S: Final = 1.0

_FULL: Final = "the disk had no space for the journal"

_RESERVE: Final = "ballast"

_RESERVE_BYTES: Final = 16_000_000
"""Enough for thousands of events, their WAL, and the alerts."""

_log = log.logger(__name__)


@attrs.define(eq=False)
class DiskGuard:
    """Watches the free space, `free` in bytes; without a `ballast` it does nothing.

    The journal calls `release_ballast` when the disk is full; from then on entries are blocked until space is free.
    """

    free: Callable[[], int] = lambda: 0
    ballast: DiskReserve | None = None
    _reserved: bool = attrs.field(default=False, init=False)
    _used: bool = attrs.field(default=False, init=False)
    _due: float | None = attrs.field(default=None, init=False)

    @classmethod
    def of(cls, data: Path) -> Self:
        """The guard for the disk of a folder."""
        return cls(partial(filesystem.free_bytes, data), DiskReserve(path=data / _RESERVE))

    def release_ballast(self) -> bool:
        """Delete the reserve file; returns whether there was one."""
        self._used, self._reserved = True, False
        return self.ballast is not None and self.ballast.drop()

    def update_causes(self, now: float, *trading_states: TradingStateController) -> None:
        """Set or clear the cause of too little space; the disk is checked at most once per second of `now`."""
        if self._used:
            for one in trading_states:
                one.raise_cause(StateCause.DISK_LOW, _FULL)
        if self.ballast is None or (self._due is not None and now < self._due):
            return
        self._due = now + _EVERY_S
        try:
            words = self._shortage(self.ballast)
        except AccessError as fault:
            words = fault.message
        for one in trading_states:
            one.set_cause(StateCause.DISK_LOW, words)

    def _shortage(self, ballast: DiskReserve) -> str:
        # Why there is too little space; the reserve is filled again as soon as there is enough.
        free = self.free()
        if not self._reserved and free >= NO_ROOM_BYTES + ballast.size:
            self._reserved = ballast.fill()
            self._used = self._used and not self._reserved
        if free < NO_ROOM_BYTES:
            return f"{free / 1e6:.0f} MB are free, {NO_ROOM_BYTES / 1e6:.0f} MB are needed"
        return _FULL if self._used else ""


@attrs.frozen(kw_only=True)
class DiskReserve:
    """The reserve file at `path`; `size` is in bytes."""

    path: Path
    size: int = _RESERVE_BYTES

    def fill(self) -> bool:
        """Allocate the file unless it exists with the right size; return whether the space is reserved."""
        try:
            if not (filesystem.exists(self.path) and filesystem.size(self.path) == self.size):
                filesystem.preallocate(self.path, self.size)
        except AccessError as fault:
            _log.warning("ballast.not_held", reason=fault.message)
            return False
        return True

    def drop(self) -> bool:
        """Remove the file; return whether it existed."""
        try:
            held = filesystem.exists(self.path)
            filesystem.remove(self.path)
        except AccessError as fault:
            _log.error("ballast.not_dropped", reason=fault.message)
            return False
        return held
