"""The pace of a run: at once, with a speed multiplier, or in real time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import attrs

from tbot_core.model.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Coroutine

_TELL_S = 1.0


class RunStopped(Exception):
    """The run was asked to stop; raised between two minutes, never inside one."""


class Pace(Protocol):
    """Waits for a moment of the session; raises Stopped when the run is to stop."""

    async def wait_until(self, moment: datetime) -> None:
        """Return when the moment has come."""


@attrs.frozen(kw_only=True)
class FullSpeedPace:
    """As fast as it goes; an interrupt gets its turn at every step."""

    stop: asyncio.Event

    async def wait_until(self, moment: datetime) -> None:  # noqa: ARG002  -- no moment is waited for
        """Let others run, then go on."""
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
        """Wait for the moment's share of a second since the session's bell, however long the work took meanwhile."""
        now = self.wall.monotonic()
        if self._anchor is None or self._anchor[0].date() != moment.date():
            self._anchor = moment, now
        since, began = self._anchor
        await _unless(self.stop, self.wall.sleep(began + (moment - since).total_seconds() / self.rate - now))


@attrs.frozen(kw_only=True)
class RealTimePace:
    """Real time; `idle` is told each second what is waited for. Moments that have passed take no time.

    `look` is called after each nap of `nap_s` seconds at most, and right before the moment has come.
    """

    stop: asyncio.Event
    wall: Clock
    on_idle: Callable[[datetime], None]
    on_round: Callable[[], Awaitable[None]]
    nap_s: float

    async def wait_until(self, moment: datetime) -> None:
        """Wait for the moment in naps, so that a clock that is set meanwhile is noticed."""
        tell = self.wall.monotonic()
        while (rest_s := (moment - self.wall.now()).total_seconds()) > 0:
            if self.wall.monotonic() >= tell:
                tell += _TELL_S
                self.on_idle(moment)
            await self.on_round()
            await _unless(self.stop, self.wall.sleep(min(rest_s, self.nap_s)))
        await self.on_round()
        await _unless(self.stop, self.wall.sleep(0))


async def _unless(stop: asyncio.Event, sleep: Coroutine[object, object, None]) -> None:
    # Sleep; raise Stopped as soon as a stop is asked for.
    sleeping, asked = asyncio.ensure_future(sleep), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({sleeping, asked}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sleeping, asked):
            task.cancel()
        await asyncio.gather(sleeping, asked, return_exceptions=True)
    if stop.is_set():
        raise RunStopped
