"""The pace of a simulation: at once, or with a speed multiplier."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from tbot_core.model.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Coroutine


_TURNS: Final = 16


class RunStopped(Exception):
    """A stop of the run was requested; raised between two minutes, never inside one."""


class Pace(Protocol):
    """Waits for a moment of the session; raises RunStopped if a stop was requested."""

    async def wait_until(self, moment: datetime) -> None:
        """Return at the moment."""


@attrs.define(kw_only=True)
class FullSpeedPace:
    """As fast as possible; other tasks run at every `_TURNS`-th step, a few milliseconds apart."""

    stop: asyncio.Event
    _steps: int = attrs.field(default=0, init=False)

    async def wait_until(self, moment: datetime) -> None:  # noqa: ARG002  -- no moment is awaited
        """Let other tasks run when it is their turn, then continue."""
        self._steps += 1
        if self._steps % _TURNS == 0:
            await asyncio.sleep(0)
        if self.stop.is_set():
            raise RunStopped


@attrs.define(kw_only=True)
class ScaledPace:
    """A replay speed multiplier; the time between two sessions is skipped."""

    stop: asyncio.Event
    wall: Clock
    rate: float
    _anchor: tuple[datetime, float] | None = None

    async def wait_until(self, moment: datetime) -> None:
        """Wait until the scaled time since the session's open has passed, including the time for work."""
        now = self.wall.monotonic()
        if self._anchor is None or self._anchor[0].date() != moment.date():
            self._anchor = moment, now
        since, began = self._anchor
        await _sleep_unless(self.stop, self.wall.sleep(began + (moment - since).total_seconds() / self.rate - now))


async def _sleep_unless(stop: asyncio.Event, sleep: Coroutine[object, object, None]) -> None:
    # Sleep; raise RunStopped as soon as a stop is requested.
    sleeping, stopping = asyncio.ensure_future(sleep), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sleeping, stopping):
            task.cancel()
        await asyncio.gather(sleeping, stopping, return_exceptions=True)
    if stop.is_set():
        raise RunStopped
