"""Tasks of a session side by side: the end of one is the end of all, and is said."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tbot_core.engine.live.session_tasks import SessionTasks
from tbot_core.errors import TbotError
from tbot_core.model.clock import SystemClock
from tbot_core.rehearsal.virtual_loop import run_virtual

if TYPE_CHECKING:
    from collections.abc import Coroutine


async def session(part: Coroutine[None, None, None]) -> None:
    """A session that would last a day, with a part beside it."""
    errands = SessionTasks(SystemClock(), 30.0)
    await errands.run_until_first_ends(asyncio.ensure_future(asyncio.sleep(86_400.0)), [asyncio.ensure_future(part)])


async def silent() -> None:
    """Ends without a word."""
    await asyncio.sleep(5.0)


async def aloud() -> None:
    """Runs out of memory."""
    await asyncio.sleep(5.0)
    raise MemoryError("no room")


async def cancelled() -> None:
    """Is cancelled from within."""
    await asyncio.sleep(5.0)
    raise asyncio.CancelledError


@pytest.mark.parametrize("part", [silent, cancelled])
def test_f90_a_part_that_ends_without_a_word_ends_the_session_with_a_sentence(part: type) -> None:
    """F90: a session never goes on without one of its parts, and is never taken for over because one has ended."""
    with pytest.raises(TbotError, match="A task of the session ended unexpectedly"):
        run_virtual(lambda: session(part()))


def test_f88_a_part_that_runs_out_of_memory_ends_the_session_as_it_is() -> None:
    """F88: the work does not go on with half of what should have been done."""
    with pytest.raises(MemoryError):
        run_virtual(lambda: session(aloud()))


def test_whoever_is_called_comes_once_more_when_it_rings_meanwhile() -> None:
    """A call is never lost, and what is at work when all is over ends first."""
    done: list[float] = []

    async def act() -> None:
        await asyncio.sleep(3.0)
        done.append(asyncio.get_running_loop().time())

    async def calls(bell: asyncio.Event) -> None:
        for _ in range(2):
            bell.set()
            await asyncio.sleep(1.0)
        await asyncio.sleep(2.0)

    async def session() -> None:
        bell, errands = asyncio.Event(), SessionTasks(SystemClock(), 30.0)
        called = asyncio.ensure_future(errands.run_on_event(bell, act))
        await errands.run_until_first_ends(asyncio.ensure_future(calls(bell)), [called])

    run_virtual(session)
    assert done == [3.0, 6.0]


def test_nobody_is_called_when_all_is_over() -> None:
    """What began while others finish would be cut off: it does not begin."""
    done: list[str] = []

    async def lasting() -> None:
        await asyncio.sleep(3.0)
        done.append("lasted")

    async def cut_off() -> None:
        done.append("begun")
        await asyncio.sleep(10.0)
        done.append("ended")

    async def session() -> None:
        first, late, errands = asyncio.Event(), asyncio.Event(), SessionTasks(SystemClock(), 30.0)
        first.set()
        asyncio.get_running_loop().call_later(2.0, late.set)
        called = [errands.run_on_event(first, lasting), errands.run_on_event(late, cut_off)]
        await errands.run_until_first_ends(
            asyncio.ensure_future(asyncio.sleep(1.0)), [*map(asyncio.ensure_future, called)]
        )

    run_virtual(session)
    assert done == ["lasted"]
