"""Clocks: virtual and real time, and exchange time beside UTC."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.errors import DataError
from tbot_core.model import clock
from tbot_core.model.clock import Clock, ManualClock, SystemClock

BELL = dt.datetime(2026, 3, 6, 14, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize("made", [SystemClock(), ManualClock(BELL)])
def test_both_clocks_are_clocks(made: object) -> None:
    """Whatever takes a Clock takes either."""
    assert isinstance(made, Clock)


def test_the_system_clock_is_in_utc() -> None:
    """The present moment is aware, in UTC, and lies between two readings of the machine's clock."""
    before = dt.datetime.now(dt.UTC)
    now = SystemClock().now()
    assert before <= now <= dt.datetime.now(dt.UTC)
    assert now.utcoffset() == dt.timedelta(0)


def test_the_system_clock_waits_at_least_as_long_as_asked() -> None:
    """A wait ends after its time, whether it was given as a length or as a moment."""

    async def waits() -> tuple[float, dt.datetime, dt.datetime]:
        system = SystemClock()
        begun = system.monotonic()
        await system.sleep(0.002)
        slept_s = system.monotonic() - begun
        moment = system.now() + dt.timedelta(milliseconds=2)
        await system.sleep_until(moment)
        return slept_s, moment, system.now()

    slept_s, moment, resumed = asyncio.run(waits())
    assert slept_s >= 0.0019
    assert resumed >= moment


def test_the_system_clock_does_not_wait_for_the_past() -> None:
    """A moment that has passed and a negative length return at once."""

    async def waits() -> float:
        system = SystemClock()
        begun = system.monotonic()
        await system.sleep_until(system.now() - dt.timedelta(days=1))
        await system.sleep(-60)
        return system.monotonic() - begun

    assert asyncio.run(waits()) < 1


class _Suspended(SystemClock):
    # A machine that sleeps eight hours while somebody waits one second.
    def __init__(self) -> None:
        self.present = BELL
        self.naps: list[float] = []

    def now(self) -> dt.datetime:
        return self.present

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.present += dt.timedelta(hours=8)


def test_a_long_wait_wakes_soon_after_the_machine_does() -> None:
    """Waiting for a moment happens in naps, so time that passed unseen counts."""
    system = _Suspended()
    asyncio.run(system.sleep_until(BELL + dt.timedelta(hours=9)))
    assert system.naps == [1.0, 1.0]


def test_virtual_time_stands_still_until_it_is_moved() -> None:
    """A manual clock shows its start, and later exactly what it was moved by."""
    manual = ManualClock(BELL)
    assert (manual.now(), manual.now(), manual.monotonic()) == (BELL, BELL, 0.0)
    manual.advance(90.5)
    assert (manual.now() - BELL, manual.monotonic()) == (dt.timedelta(seconds=90.5), 90.5)
    assert repr(manual) == "ManualClock(2026-03-06T14:31:30.500000+00:00)"


def test_virtual_waits_take_no_time_and_let_others_run() -> None:
    """Sleeping moves the clock at once and gives every other task a turn."""

    async def two_sleepers() -> list[str]:
        manual, seen = ManualClock(BELL), list[str]()

        async def sleeper(name: str) -> None:
            for _ in range(2):
                await manual.sleep(60)
                seen.append(f"{name} {manual.now():%H:%M}")

        await asyncio.gather(sleeper("first"), sleeper("second"))
        await manual.sleep_until(BELL + dt.timedelta(hours=6))
        seen.append(f"{manual.now():%H:%M}")
        return seen

    assert asyncio.run(two_sleepers()) == ["first 14:32", "second 14:33", "first 14:34", "second 14:34", "20:30"]


def test_virtual_time_never_goes_back() -> None:
    """Past moments and negative sleeps change nothing; a negative or endless advance is refused."""
    manual = ManualClock(BELL)
    manual.advance_to(BELL - dt.timedelta(days=1))
    asyncio.run(manual.sleep(-5))
    asyncio.run(manual.sleep_until(BELL - dt.timedelta(days=1)))
    assert manual.now() == BELL
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="cannot be advanced"):
            manual.advance(seconds)


def test_virtual_time_is_utc_whatever_zone_it_was_given() -> None:
    """A start in New York time is shown in UTC."""
    manual = ManualClock(dt.datetime(2026, 3, 6, 9, 30, tzinfo=clock.exchange_zone()))
    assert (manual.now(), manual.now().tzinfo) == (BELL, dt.UTC)


def test_naive_moments_are_refused_everywhere() -> None:
    """A moment without a zone is never guessed at."""
    naive = BELL.replace(tzinfo=None)
    for ask in (clock.require_aware, clock.exchange_time, clock.both_times, ManualClock, ManualClock(BELL).advance_to):
        with pytest.raises(ValueError, match="has no time zone"):
            ask(naive)
    for waits in (SystemClock(), ManualClock(BELL)):
        with pytest.raises(ValueError, match="has no time zone"):
            asyncio.run(waits.sleep_until(naive))


def test_an_unknown_zone_says_what_to_install() -> None:
    """A machine without a time zone database gets a remedy, not a KeyError."""
    with pytest.raises(DataError, match="America/Atlantis") as caught:
        clock.exchange_zone("America/Atlantis")
    assert "tzdata" in caught.value.remedy


# First days of daylight-saving and of standard time, from the Energy Policy Act of 2005.
CHANGES = [
    (dt.date(2024, 3, 10), dt.date(2024, 11, 3)),
    (dt.date(2025, 3, 9), dt.date(2025, 11, 2)),
    (dt.date(2026, 3, 8), dt.date(2026, 11, 1)),
    (dt.date(2027, 3, 14), dt.date(2027, 11, 7)),
]


@pytest.mark.parametrize(("spring", "autumn"), CHANGES)
def test_the_bell_moves_with_daylight_saving(spring: dt.date, autumn: dt.date) -> None:
    """09:30 New York is 14:30 UTC in standard time and 13:30 UTC in summer, to the day."""
    bell, eve = dt.time(9, 30), dt.timedelta(days=1)
    hours = [clock.exchange_moment(day, bell).hour for day in (spring - eve, spring, autumn - eve, autumn)]
    assert hours == [14, 13, 13, 14]


@pytest.mark.parametrize(("spring", "autumn"), CHANGES)
def test_the_left_out_and_the_doubled_hour(spring: dt.date, autumn: dt.date) -> None:
    """In autumn the first of two equal hours counts; in spring the missing hour is counted from before the change."""
    assert clock.exchange_moment(autumn, dt.time(1, 30)).time() == dt.time(5, 30)
    assert clock.exchange_time(dt.datetime.combine(autumn, dt.time(6, 30), dt.UTC)).time() == dt.time(1, 30)
    assert clock.exchange_moment(spring, dt.time(2, 30)).time() == dt.time(7, 30)
    assert clock.exchange_time(dt.datetime.combine(spring, dt.time(7, 30), dt.UTC)).time() == dt.time(3, 30)


@given(st.datetimes(dt.datetime(2008, 1, 1), dt.datetime(2060, 1, 1), timezones=st.just(dt.UTC)))  # noqa: DTZ001
def test_exchange_time_is_the_same_moment(moment: dt.datetime) -> None:
    """Showing exchange time never changes the moment, and lies four or five hours back."""
    there = clock.exchange_time(moment)
    assert there.astimezone(dt.UTC) == moment  # in the repeated hour of autumn times of two zones are never equal
    assert there.utcoffset() in {dt.timedelta(hours=-4), dt.timedelta(hours=-5)}


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (BELL, "14:30 UTC (09:30 New York)"),
        (dt.datetime(2026, 7, 1, 14, 30, tzinfo=dt.UTC), "14:30 UTC (10:30 New York)"),
        (dt.datetime(2026, 3, 6, 14, 30, 30, tzinfo=dt.UTC), "14:30:30 UTC (09:30:30 New York)"),
        (dt.datetime(2026, 3, 6, 1, 0, tzinfo=dt.UTC), "01:00 UTC (20:00 New York, the previous day)"),
    ],
)
def test_people_see_both_times(moment: dt.datetime, shown: str) -> None:
    """UTC comes first, New York beside it, seconds and the day before only where they matter."""
    assert clock.both_times(moment) == shown
