"""Virtual time: it passes at once, in order, the same each time, and not without a waiter."""

from __future__ import annotations

import asyncio
import datetime as dt
import time

import pytest

from tbot_core.model.clock import Clock
from tbot_core.rehearsal.virtual_loop import LoopClock, LoopDeadlock, VirtualLoop, run_virtual

START = dt.datetime(2026, 3, 3, 14, 25, tzinfo=dt.UTC)


def clocked() -> tuple[VirtualLoop, LoopClock]:
    """A loop and its clock."""
    loop = VirtualLoop()
    return loop, LoopClock(loop, START)


def test_an_hour_passes_in_milliseconds() -> None:
    """Each waiting task resumes at once, at the moment that it waited for."""
    loop, clock = clocked()

    async def wait() -> float:
        await clock.sleep(3600)
        return clock.monotonic()

    before = time.monotonic()
    assert run_virtual(wait, loop) == 3600
    assert time.monotonic() - before < 0.5
    assert clock.now() == START + dt.timedelta(hours=1)
    assert isinstance(clock, Clock)


def test_who_waits_for_ever_is_an_error() -> None:
    """Nothing ready and nothing scheduled is a deadlock that names the waiting task."""

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(LoopDeadlock, match="task-1"):
        run_virtual(wait)


def test_what_is_left_behind_is_cancelled_in_the_order_of_its_making() -> None:
    """The loop ends with every task, also where the main one failed."""
    ended = []

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append(name)

    async def main() -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(work(name)) for name in "abc"]
        await asyncio.sleep(1)
        raise ValueError(len(tasks))

    with pytest.raises(ValueError, match="3"):
        run_virtual(main)
    assert ended == ["a", "b", "c"]


def test_sets_of_tasks_are_walked_in_one_order() -> None:
    """A task's place in a set follows from its number, so that a group's failure cancels in the same order always."""
    ended = []

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(number)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(work(number))
            await asyncio.sleep(1)
            raise ValueError("enough")

    with pytest.raises(ExceptionGroup):
        run_virtual(main)
    assert ended == [*range(40)]


def test_there_are_no_threads() -> None:
    """An executor is refused."""

    async def main() -> None:
        await asyncio.to_thread(int)

    with pytest.raises(RuntimeError, match="no threads"):
        run_virtual(main)


def test_a_clock_that_is_set_wakes_who_waits_for_its_hour() -> None:
    """A jump forward brings a moment nearer, one back moves it away; monotonic time knows nothing of either."""
    loop, clock = clocked()
    resumed = []

    async def wait(seconds: float) -> None:
        await clock.sleep_until(START + dt.timedelta(seconds=seconds))
        resumed.append((seconds, clock.monotonic()))

    async def main() -> None:
        tasks = [asyncio.create_task(wait(seconds)) for seconds in (50, 3650, 3900)]
        await clock.sleep(100)
        clock.jump(3600)
        await clock.sleep(10)
        clock.jump(-60)
        await asyncio.gather(*tasks)

    run_virtual(main, loop)
    assert resumed == [(50, 50), (3650, 100), (3900, 360)]


def test_a_drifting_clock_gains_steadily_and_is_corrected() -> None:
    """Sixty seconds at five in a hundred gain three; corrected, it shows the true time."""
    loop, clock = clocked()

    async def main() -> None:
        clock.drift(0.05)
        await clock.sleep_until(START + dt.timedelta(seconds=63))
        assert clock.monotonic() == pytest.approx(60)
        assert clock.now() - clock.true() == dt.timedelta(seconds=3)
        clock.jump(10)
        await clock.sleep(20)
        assert clock.now() - clock.true() == dt.timedelta(seconds=14)
        clock.correct()
        assert clock.now() == clock.true()

    run_virtual(main, loop)
    with pytest.raises(ValueError, match="stand still"):
        clock.drift(-1)


def test_a_naive_moment_is_refused() -> None:
    """A clock and a wait need to know the zone."""
    loop, clock = clocked()
    with pytest.raises(ValueError, match="time zone"):
        loop.run_until_complete(clock.sleep_until(dt.datetime(2026, 3, 3)))  # noqa: DTZ001  the point
    loop.finish()


def test_a_timer_that_is_dropped_never_fires_however_many_there_are() -> None:
    """Dropped timers are forgotten, those between them keep their moments, and the next moment is one that counts."""
    loop, clock = clocked()
    fired: list[float] = []

    async def main() -> None:
        timers = [loop.call_later(2 + n, lambda: fired.append(clock.monotonic())) for n in range(300)]
        turn = loop.call_soon(fired.append, -1.0)
        assert not turn.cancelled()
        turn.cancel()
        for n, timer in enumerate(timers):
            if n % 100:
                timer.cancel()
                timer.cancel()
        assert turn.cancelled()
        assert [timer.cancelled() for timer in timers[:2]] == [False, True]
        assert [timer.when() for timer in timers[:2]] == [2.0, 3.0]
        assert loop.next_at == 2.0
        await clock.sleep(1)
        timers[0].cancel()
        assert loop.next_at == 102.0
        await clock.sleep(0)
        await clock.sleep(400)

    run_virtual(main, loop)
    assert fired == [102.0, 202.0]


def test_what_fails_in_a_callback_ends_the_run() -> None:
    """A world that fails does not go on as if nothing had been."""
    loop = VirtualLoop()

    async def wait() -> None:
        loop.call_later(1, lambda: 1 // 0)
        await asyncio.sleep(2)

    with pytest.raises(ZeroDivisionError):
        run_virtual(wait, loop)
