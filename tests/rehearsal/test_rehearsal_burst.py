"""A crowd of entries at rest, for what is measured: all are there, and the machine's clock shows the world's time."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING

from tbot_core.rehearsal.bot import BotProcess
from tbot_core.rehearsal.burst import CALLED_AT, BurstScenario, LocalConnections, WorldClock

if TYPE_CHECKING:
    from pathlib import Path

START = dt.datetime(2026, 3, 3, 14, 29, tzinfo=dt.UTC)


def test_every_symbol_of_a_crowd_is_entered_and_rests(tmp_path: Path) -> None:
    """Called in one minute, an entry of each rests with its stop, and nothing of them is filled."""
    crowd = BurstScenario(5)
    life = BotProcess(crowd, ("crowd",), tmp_path, crowd.bot, LocalConnections())

    async def main() -> None:
        living = asyncio.ensure_future(life.live())
        await crowd.clock.sleep(CALLED_AT + 10.0 - crowd.loop.time())
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)

    crowd.loop.run_until_complete(main())
    life.close()
    matching = crowd.way.exchange.matching
    assert Counter(one.kind for one in matching.orders) == {"acknowledged": 5, "held": 5}
    assert not matching.books.units
    crowd.loop.finish()


def test_the_machines_clock_shows_the_seconds_of_a_world() -> None:
    """Its moments and its seconds are those of the world from a given one on; it waits as the machine does."""
    clock = WorldClock(START, 60.0)
    begun = clock.monotonic()

    async def wait() -> None:
        await clock.sleep(0.01)
        await clock.sleep_until(START)
        await clock.sleep_until(clock.now() + dt.timedelta(seconds=0.01))

    asyncio.run(wait())
    passed = clock.monotonic() - begun
    assert 60.0 <= begun < 61.0
    assert 0.02 <= passed < 10.0
    assert abs((clock.now() - START).total_seconds() - clock.monotonic()) < 1.0
