"""Clocks, and exchange time in UTC."""

from __future__ import annotations

import datetime as dt
import functools
import time
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import attrs

from tbot_core.errors import DataError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_EXCHANGE_ZONE: Final = "America/New_York"
_POLL_S: Final = 1.0


@runtime_checkable
class Clock(Protocol):
    """Tells time and waits. Records use `now`, timeouts use `monotonic`."""

    def now(self) -> dt.datetime:
        """The present moment, aware, in UTC; it may jump when the machine's clock is set."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Wait this many seconds; zero or less lets other tasks run once."""

    async def sleep_until(self, moment: dt.datetime) -> None:
        """Wait until `now` reaches the moment; at once if it has passed. Raises ValueError for a naive moment."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> dt.datetime:
        """The present moment in UTC."""
        return dt.datetime.now(dt.UTC)

    def monotonic(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""
        import asyncio

        await asyncio.sleep(max(seconds, 0.0))

    async def sleep_until(self, moment: dt.datetime) -> None:
        """Wait until the moment, even if the machine is suspended or its clock is set."""
        require_aware(moment)
        # In short sleeps, because the event loop waits on the monotonic clock, which ignores both.
        while (rest_s := (moment - self.now()).total_seconds()) > 0:
            await self.sleep(min(rest_s, _POLL_S))


@attrs.frozen
class ShiftedClock:
    """The machine's clock with a constant added, for rehearsals."""

    shift: dt.timedelta
    _machine: SystemClock = attrs.field(factory=SystemClock, init=False)

    def now(self) -> dt.datetime:
        """The shifted moment in UTC."""
        return self._machine.now() + self.shift

    def monotonic(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return self._machine.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the event loop."""
        await self._machine.sleep(seconds)

    async def sleep_until(self, moment: dt.datetime) -> None:
        """Wait until the shifted clock shows the moment."""
        await self._machine.sleep_until(moment - self.shift)


class ManualClock:
    """Virtual time that moves only when advanced; a sleep advances it at once.

    For replay and tests: hours pass in no time, and the same run reads the same times again. It never goes back. Not
    thread-safe.
    """

    def __init__(self, start: dt.datetime) -> None:
        """Start at an aware moment; raises ValueError for a naive one."""
        self._start = require_aware(start).astimezone(dt.UTC)
        self._now = self._start

    def __repr__(self) -> str:
        """The present virtual moment."""
        return f"ManualClock({self._now.isoformat()})"

    def now(self) -> dt.datetime:
        """The present virtual moment in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Virtual seconds since the start."""
        return (self._now - self._start).total_seconds()

    def advance(self, seconds: float) -> None:
        """Move on by this many seconds; raises ValueError when negative or not finite."""
        if not 0 <= seconds < float("inf"):
            message = f"A clock cannot be advanced by {seconds} s: it goes forward, by a finite time."
            raise ValueError(message)
        self._now += dt.timedelta(seconds=seconds)

    def advance_to(self, moment: dt.datetime) -> None:
        """Move on to the moment; one that has passed changes nothing. Raises ValueError for a naive moment."""
        self._now = max(self._now, require_aware(moment).astimezone(dt.UTC))

    async def sleep(self, seconds: float) -> None:
        """Move on by this many seconds, then let other tasks run once."""
        self.advance(max(seconds, 0.0))
        await _let_others_run()

    async def sleep_until(self, moment: dt.datetime) -> None:
        """Move on to the moment, then let other tasks run once."""
        self.advance_to(moment)
        await _let_others_run()


def require_aware(moment: dt.datetime) -> dt.datetime:
    """Return the moment if it has a time zone, else raise ValueError."""
    if moment.utcoffset() is None:
        message = f"{moment.isoformat()} has no time zone: give an aware UTC datetime."
        raise ValueError(message)
    return moment


@functools.cache
def exchange_zone(name: str = _EXCHANGE_ZONE) -> ZoneInfo:
    """The exchange's time zone; raises DataError where the machine has no time zone database."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError as error:
        message = f"The time zone {name} is unknown on this machine."
        raise DataError(message, "Install the operating system's tzdata or the Python package tzdata.") from error


def exchange_time(moment: dt.datetime) -> dt.datetime:
    """The moment on the exchange's wall clock; raises ValueError for a naive moment."""
    return require_aware(moment).astimezone(exchange_zone())


def exchange_moment(day: dt.date, wall: dt.time) -> dt.datetime:
    """The UTC time at which the exchange's wall clock shows this time on this day.

    In autumn an hour occurs twice: the first one counts. In spring an hour is skipped: its times are computed with the
    offset before the change.
    """
    return dt.datetime.combine(day, wall.replace(tzinfo=None), tzinfo=exchange_zone()).astimezone(dt.UTC)


@functools.lru_cache(maxsize=1024)
def both_times(moment: dt.datetime) -> str:
    """The moment as text, such as "14:30 UTC (09:30 New York)"; seconds only if not zero.

    Raises ValueError for a naive moment.
    """
    in_utc = require_aware(moment).astimezone(dt.UTC)
    there = exchange_time(moment)
    style = "%H:%M:%S" if in_utc.second else "%H:%M"
    eve = ", the previous day" if there.date() < in_utc.date() else ""
    return f"{in_utc.strftime(style)} UTC ({there.strftime(style)} New York{eve})"


async def _let_others_run() -> None:
    import asyncio

    await asyncio.sleep(0)
