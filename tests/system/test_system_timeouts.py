"""Bounded calls: what hangs is interrupted, again and again, and nothing else ever is."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tbot_core.system import timeouts
from tbot_core.system.timeouts import AGAIN_S, CallTimedOut, call_within, steps_within

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SOON_S = 0.02


def turn_for_ever() -> None:
    """A loop of its own that never ends."""
    while True:
        pass


@pytest.fixture(autouse=True)
def _without_collections() -> Iterator[None]:
    # A collection would end objects of earlier tests within an interrupted call, and their ends would be interrupted.
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_what_returns_in_time_returns() -> None:
    """The result passes, and so does an exception."""
    assert call_within(5.0, lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        call_within(5.0, lambda: 1 // 0)


def test_a_loop_is_interrupted_where_it_stands() -> None:
    """A call that never ends is ended, and its cause names the function it stood in."""
    with pytest.raises(CallTimedOut, match=r"not finish within 0\.02 s") as caught:
        call_within(SOON_S, turn_for_ever)
    trace = caught.value.__cause__.__traceback__ if caught.value.__cause__ else None
    names = []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert "turn_for_ever" in names


def test_a_wait_of_the_system_is_interrupted() -> None:
    """A call that waits in the kernel is ended, too."""
    began = time.monotonic()
    with pytest.raises(CallTimedOut):
        call_within(SOON_S, lambda: threading.Event().wait(60.0))
    assert time.monotonic() - began < 30.0


def test_what_catches_everything_is_interrupted_again() -> None:
    """A plugin that swallows the first interruptions does not outlast them all."""
    caught = 0

    def stubborn() -> None:
        nonlocal caught
        while True:
            try:
                turn_for_ever()
            except BaseException:
                caught += 1
                if caught == 3:
                    raise

    with pytest.raises(CallTimedOut):
        call_within(SOON_S, stubborn)
    assert caught == 3


def test_nothing_is_interrupted_afterwards() -> None:
    """Handler and timer are as they were, also after an interruption."""
    before, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    with pytest.raises(CallTimedOut):
        call_within(SOON_S, turn_for_ever)
    call_within(SOON_S, lambda: None)
    assert signal.getsignal(signal.SIGALRM) is before
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) is (timer[0] > 0)


def test_an_alarm_within_the_handler_raises_nothing_in_it() -> None:
    """What a tracer does in the handler ends, though the next alarm comes meanwhile; then the call is interrupted."""
    steps = list[str]()

    def hold_up(frame: FrameType, _event: str, _argument: object) -> None:
        if frame.f_code is timeouts._interrupt.__code__ and not steps:
            steps.append("begun")
            until = time.monotonic() + 4 * AGAIN_S
            while time.monotonic() < until:
                pass
            steps.append("ended")

    def work() -> None:
        sys.settrace(hold_up)
        turn_for_ever()

    before = sys.gettrace()
    try:
        with pytest.raises(CallTimedOut):
            call_within(SOON_S, work)
    finally:
        sys.settrace(before)
    assert steps == ["begun", "ended"]


def test_a_timer_that_ran_before_goes_on() -> None:
    """Somebody else's alarm is late at worst, and never lost."""
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: rung.append(number))
    left, again = signal.setitimer(signal.ITIMER_REAL, SOON_S / 2)
    try:
        with pytest.raises(CallTimedOut):
            call_within(SOON_S, turn_for_ever)
        while not rung:
            pass
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left, again)
    assert rung == [signal.SIGALRM]


def test_a_call_inside_another_is_bounded_by_that_one() -> None:
    """The outer limit holds, whatever the inner one allows."""
    with pytest.raises(CallTimedOut, match=r"0\.02 s"):
        call_within(SOON_S, lambda: call_within(60.0, turn_for_ever))
    assert call_within(60.0, lambda: call_within(0.0, lambda: "as the outer one allows")) == "as the outer one allows"


def test_an_alarm_that_meets_no_bounded_call_interrupts_nothing() -> None:
    """The handler raises in what a bounded call has called, and nowhere else."""

    def outside() -> str:
        signal.raise_signal(signal.SIGALRM)
        return "unharmed"

    before = signal.signal(signal.SIGALRM, _handler())
    try:
        assert outside() == "unharmed"
    finally:
        signal.signal(signal.SIGALRM, before)


def _handler() -> signal.Handlers:
    # The handler that stands during a bounded call.
    found: signal.Handlers = call_within(5.0, lambda: signal.getsignal(signal.SIGALRM))  # type: ignore[assignment]  # it is ours
    return found


def test_another_thread_is_left_alone() -> None:
    """Signals reach the main thread only, so a call of another one runs as long as it likes."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(call_within(0.0, lambda: "done")))
    thread.start()
    thread.join()
    assert found == ["done"]


def test_the_steps_of_a_coroutine_are_bounded_and_its_waits_are_not() -> None:
    """What blocks the loop is interrupted; what waits for it may wait longer than that."""

    async def waits() -> str:
        await asyncio.sleep(3 * SOON_S)
        return "waited"

    async def blocks() -> None:
        await asyncio.sleep(0)
        turn_for_ever()

    async def both() -> str:
        with pytest.raises(CallTimedOut):
            await steps_within(SOON_S, blocks())
        return await steps_within(SOON_S, waits())

    assert asyncio.run(both()) == "waited"


def test_an_exception_reaches_the_work_that_waits() -> None:
    """A cancellation arrives inside, where it may be answered."""
    seen: list[str] = []

    async def work() -> str:
        try:
            await asyncio.sleep(60.0)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return "never"

    async def cancelled() -> None:
        task = asyncio.ensure_future(_awaited(work()))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert seen == ["cancelled"]


async def _awaited(work: object) -> str:
    return await steps_within(1.0, work)  # type: ignore[arg-type]  # a coroutine


@pytest.mark.parametrize("limit_s", [None, 5.0])
def test_each_step_of_an_awaited_call_is_marked_and_its_waits_are_not(limit_s: float | None) -> None:
    """From outside the call is seen while its code runs, with a limit or without."""
    seen: list[str] = []

    @contextmanager
    def mark() -> Iterator[None]:
        seen.append("in")
        try:
            yield
        finally:
            seen.append("out")

    async def work() -> str:
        seen.append("first")
        await asyncio.sleep(0)
        seen.append("second")
        return "done"

    async def beside() -> None:
        seen.append("beside")

    async def both() -> None:
        found = await asyncio.gather(steps_within(limit_s, work(), mark), beside())
        assert found == ["done", None]

    asyncio.run(both())
    assert seen == ["in", "first", "out", "beside", "in", "second", "out"]


def test_no_timer_runs_afterwards_where_none_ran() -> None:
    """The call leaves no alarm behind."""
    before = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        assert call_within(5, lambda: 3) == 3
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
