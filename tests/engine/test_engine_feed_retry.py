"""A feed is asked until it answers, whatever comes in place of an answer; its first answer is not waited for long."""

from __future__ import annotations

import asyncio

import attrs
import pytest

from tbot_core.engine.live.feed_connection import AT_ONCE_S, FeedRetry
from tbot_core.errors import DataError, TbotError, Unavailable
from tbot_core.model.clock import SystemClock
from tbot_core.rehearsal.virtual_loop import run_virtual


@attrs.define(eq=False)
class Feed:
    """A feed that answers its asks with these faults, each after so many seconds, and then with its bars."""

    faults: list[Exception]
    takes_s: float = 0.0
    asked: int = 0
    told: list[TbotError] = attrs.field(factory=list)

    async def __call__(self) -> str:
        """The bars."""
        self.asked += 1
        await asyncio.sleep(self.takes_s)
        if self.faults:
            raise self.faults.pop(0)
        return "bars"

    async def persist(self) -> str:
        """What it answers in the end."""
        asking = FeedRetry(self, SystemClock())
        return await asking.retry_until_answered(self.told.append)


def at_once(feed: Feed) -> tuple[str | TbotError, float]:
    """What is known at once, and how many seconds that took."""

    async def ask() -> tuple[str | TbotError, float]:
        asking, began = FeedRetry(feed, SystemClock()), asyncio.get_running_loop().time()
        found = await asking.first_answer()
        return found, asyncio.get_running_loop().time() - began

    return run_virtual(ask)


def test_an_answer_that_comes_soon_is_waited_for() -> None:
    """A feed that answers is heard from the start."""
    assert at_once(Feed([], takes_s=0.9))[0] == "bars"


@pytest.mark.parametrize("takes_s", [2.0, 3600.0])
def test_a_feed_that_hangs_is_waited_for_no_longer_than_a_second(takes_s: float) -> None:
    """Whoever holds something has to be looked after meanwhile."""
    found, passed = at_once(Feed([], takes_s=takes_s))
    assert isinstance(found, Unavailable)
    assert passed == pytest.approx(AT_ONCE_S)


@pytest.mark.parametrize("fault", [Unavailable("503"), DataError("no bars of that day", "Wait."), ValueError("line 1")])
def test_a_fault_that_comes_soon_is_told_at_once(fault: Exception) -> None:
    """Of a fault that is not the bot's own what it was is said too."""
    found, passed = at_once(Feed([fault]))
    assert isinstance(found, TbotError)
    assert str(fault.args[0]) in found.message
    assert passed < AT_ONCE_S


def test_a_feed_is_asked_until_it_answers_whatever_it_says_meanwhile() -> None:
    """Garbage of a vendor in trouble is no reason to hear it no more."""
    feed = Feed([Unavailable("503"), ValueError("line 1"), DataError("no bars of that day", "Wait."), KeyError("t")])
    assert run_virtual(feed.persist) == "bars"
    assert feed.asked == len(feed.told) + 1 == 5
    assert feed.told[1].message == "ValueError: line 1"


def test_a_feed_that_makes_a_fault_of_the_end_is_not_asked_again() -> None:
    """Else the session that asks for it would never be over."""
    feed = Feed([])

    async def turns() -> str:
        feed.asked += 1
        try:
            await asyncio.sleep(3600.0)
        except asyncio.CancelledError:
            raise ValueError("connection lost") from None
        return "bars"

    async def ends() -> None:
        asking = asyncio.ensure_future(FeedRetry(turns, SystemClock()).retry_until_answered(feed.told.append))
        await asyncio.sleep(1.0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asking, 60.0)

    run_virtual(ends)
    assert feed.asked == 1


def test_whoever_gives_up_while_the_first_answer_is_awaited_leaves_no_ask_behind() -> None:
    """A request that is not awaited any more would hold its connection."""
    left: list[str] = []

    async def hangs() -> str:
        try:
            await asyncio.sleep(3600.0)
        except asyncio.CancelledError:
            left.append("ended")
            raise
        return "bars"

    async def ends() -> None:
        first = asyncio.ensure_future(FeedRetry(hangs, SystemClock()).first_answer())
        await asyncio.sleep(0.5)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await asyncio.sleep(0)

    run_virtual(ends)
    assert left == ["ended"]
