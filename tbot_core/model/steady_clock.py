"""A clock that advances with elapsed time, even if the machine's wall clock is set meanwhile."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.model.clock import Clock

_BACK_S: Final = 1.0
_FORWARD_S: Final = 60.0
SKEW_S: Final = 1.0
_POLL_S: Final = 1.0


class SteadyClock:
    """The time at the start plus the elapsed time; small corrections of the wall clock are followed.

    Call `check` about once a second. When the wall clock moved back by more than a second, or forward by more than a
    minute, since the last check, it has jumped: it is not followed, and `jumped` is not zero until it is right again.
    `clock_ahead_s`: how far the wall clock was ahead of the true time at the start.
    """

    def __init__(self, wall: Clock, clock_ahead_s: float = 0.0) -> None:
        self._wall = wall
        self._offset = self._difference(wall.now() - timedelta(seconds=clock_ahead_s))
        self.jumped = clock_ahead_s

    def now(self) -> datetime:
        """The present time in UTC, by elapsed time."""
        return _ZERO + timedelta(seconds=self._offset + self._wall.monotonic())

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        return self._wall.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait this many seconds."""
        await self._wall.sleep(seconds)

    async def sleep_until(self, moment: datetime) -> None:
        """Wait until this clock shows the moment."""
        while (rest_s := (moment - self.now()).total_seconds()) > 0:
            await self._wall.sleep(min(rest_s, _POLL_S))

    def check(self) -> str:
        """Compare with the wall clock; returns how it jumped, "" if it did not."""
        step = self._difference(self._wall.now()) - self._offset
        if -_BACK_S <= step <= _FORWARD_S:
            self._offset += step
            self.jumped = 0.0
            return ""
        self.jumped = step
        way = "forward" if step > 0 else "back"
        return f"{abs(step):.0f} s {way}"

    def _difference(self, shown: datetime) -> float:
        return (shown - _ZERO).total_seconds() - self._wall.monotonic()


def median_skew(skews: Sequence[float]) -> float | None:
    """How far our clock is ahead of a broker's, seconds: the median of its last five answers; None without any."""
    latest = sorted(skews[-5:])
    return latest[len(latest) // 2] if latest else None


_ZERO: Final = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
