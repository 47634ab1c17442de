"""The clock that a session lives by: time that has passed counts, a wall clock that is set does not."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from tbot_core.model.steady_clock import SteadyClock, median_skew

START = dt.datetime(2026, 3, 3, 14, 0, tzinfo=dt.UTC)


class Wall:
    """A machine's clock: `wrong_s` is what it shows too much."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.wrong_s = 0.0

    def now(self) -> dt.datetime:
        """What it shows."""
        return START + dt.timedelta(seconds=self.passed + self.wrong_s)

    def monotonic(self) -> float:
        """What has passed."""
        return self.passed

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.passed += max(seconds, 0.0)

    async def sleep_until(self, moment: dt.datetime) -> None:
        """Let time pass until the wall clock shows it."""
        await self.sleep((moment - self.now()).total_seconds())


@pytest.mark.parametrize(("wrong_s", "words"), [(3600.0, "3600 s forward"), (61.0, "61 s forward")])
def test_f68_a_clock_that_is_set_forward_is_not_followed(wrong_s: float, words: str) -> None:
    """It has jumped until it is right again; meanwhile the session's time goes on as it passes."""
    wall = Wall()
    clock = SteadyClock(wall)
    wall.wrong_s, wall.passed = wrong_s, 2.0
    assert clock.check() == words
    assert clock.check() == words
    assert clock.now() == START + dt.timedelta(seconds=2)
    wall.wrong_s = 0.0
    assert clock.check() == ""


def test_f69_a_clock_that_is_set_back_is_not_followed() -> None:
    """Nor does anything wait an hour longer for it."""
    wall = Wall()
    clock = SteadyClock(wall)
    wall.wrong_s = -3600.0
    assert clock.check() == "3600 s back"
    asyncio.run(clock.sleep_until(START + dt.timedelta(seconds=90)))
    assert wall.passed == pytest.approx(90.0)
    assert clock.monotonic() == wall.passed


def test_small_corrections_of_the_wall_clock_are_followed() -> None:
    """A service that keeps the clock right moves it by parts of a second, after a suspension by some."""
    wall = Wall()
    clock = SteadyClock(wall)
    for wrong_s in (0.4, -0.3, 30.0, 29.5):
        wall.wrong_s = wrong_s
        assert clock.check() == ""
        assert clock.now() == wall.now()


def test_a_clock_that_is_wrong_at_the_start_is_put_right_by_the_brokers() -> None:
    """And counts as one that has jumped."""
    wall = Wall()
    wall.wrong_s = 3600.0
    clock = SteadyClock(wall, 3600.0)
    assert clock.now() == START
    assert clock.check() == "3600 s forward"
    asyncio.run(clock.sleep(1.0))
    assert clock.now() == START + dt.timedelta(seconds=1)


def test_f70_the_skew_is_the_median_of_the_last_five_answers() -> None:
    """One answer that took its time says nothing; before the first one nothing is known."""
    assert median_skew([]) is None
    assert median_skew([3.0]) == 3.0
    assert median_skew([50.0, 3.0, 3.1, 2.9, 9.0, -20.0]) == 3.0
