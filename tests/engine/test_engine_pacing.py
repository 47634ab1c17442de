"""Paces: how long a run waits, and that a stop ends each wait at once."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from tbot_core.engine.pacing import FullSpeedPace, Pace, RunStopped, ScaledPace
from tbot_core.model.clock import ManualClock, SystemClock

NOON = dt.datetime(2026, 11, 24, 17, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def test_at_once_waits_for_nothing() -> None:
    """A moment a year ahead takes no time."""
    asyncio.run(FullSpeedPace(stop=asyncio.Event()).wait_until(NOON + 9000 * HOUR))


def test_other_tasks_have_their_turn_at_full_speed() -> None:
    """A display, a page or a stop waits for some minutes of the simulation at most."""
    pace, turns = FullSpeedPace(stop=asyncio.Event()), list[int]()

    async def walk() -> None:
        for minute in range(100):
            asyncio.get_running_loop().call_soon(turns.append, minute)
            await pace.wait_until(NOON + minute * HOUR)
            assert len(turns) > minute - 16

    asyncio.run(walk())


def test_scaled_time_counts_from_each_bell() -> None:
    """An hour at 60 takes a minute; the night between two sessions takes none; late work is caught up."""
    wall = ManualClock(NOON)
    pace = ScaledPace(stop=asyncio.Event(), wall=wall, rate=60.0)

    async def walk() -> None:
        await pace.wait_until(NOON)
        await pace.wait_until(NOON + HOUR)
        assert wall.monotonic() == pytest.approx(60)
        wall.advance(45)
        await pace.wait_until(NOON + 2 * HOUR)
        assert wall.monotonic() == pytest.approx(120)
        await pace.wait_until(NOON + 24 * HOUR)
        assert wall.monotonic() == pytest.approx(120)

    asyncio.run(walk())


@pytest.mark.parametrize("kind", ["once", "scaled"])
def test_a_stop_ends_a_wait_of_hours_at_once(kind: str) -> None:
    """A stop wakes a wait."""
    stop, wall = asyncio.Event(), SystemClock()
    moment = wall.now() + 5 * HOUR

    paces: dict[str, Pace] = {
        "once": FullSpeedPace(stop=stop),
        "scaled": ScaledPace(stop=stop, wall=wall, rate=1.0),
    }

    async def walk() -> None:
        pace = paces[kind]
        if kind == "scaled":
            await pace.wait_until(moment - 4 * HOUR)
        asyncio.get_running_loop().call_soon(stop.set)
        if kind == "once":
            stop.set()
        await pace.wait_until(moment)

    with pytest.raises(RunStopped):
        asyncio.run(walk())
