"""Order requests that wait for their answer hold up no caller, and what becomes of them is not lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.errors import JournalError
from tbot_core.execution.requests import OpenRequests
from tbot_core.rehearsal.virtual_loop import VirtualLoop, run_virtual
from tbot_core.trading.order_lookup import UNANSWERED_S

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

FULL = JournalError("the disk is full")


class Bench:
    """Requests in a virtual loop; `ended` has the second in which each one ended."""

    def __init__(self) -> None:
        self.loop, self.requests = VirtualLoop(), OpenRequests()
        self.ended: list[float] = []

    async def request(self, seconds: float, fault: Exception | None = None) -> None:
        """A request that is answered after so many seconds, or fails then."""
        await asyncio.sleep(seconds)
        if fault is not None:
            raise fault
        self.ended.append(self.loop.time())

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run to the end."""
        run_virtual(main, self.loop)


@pytest.mark.parametrize(("seconds", "waited"), [(1.0, 1.0), (10.0, UNANSWERED_S)])
def test_a_caller_waits_for_an_answer_and_no_longer_than_three_seconds(seconds: float, waited: float) -> None:
    """The request goes on to its end."""
    bench = Bench()

    async def main() -> None:
        await bench.requests.wait_for(bench.request(seconds))
        assert bench.loop.time() == waited
        await bench.requests.finish(60.0)

    bench.run(main)
    assert bench.ended == [seconds]


@pytest.mark.parametrize("seconds", [1.0, 10.0])
def test_a_failure_reaches_a_caller_also_where_nobody_waits_any_more(seconds: float) -> None:
    """At once while somebody waits, else with the next call."""
    bench = Bench()

    async def main() -> None:
        await bench.requests.wait_for(bench.request(seconds, FULL))
        await bench.requests.finish(60.0)

    with pytest.raises(JournalError):
        bench.run(main)
    assert bench.loop.time() == seconds


def test_a_request_goes_on_when_its_caller_is_cancelled() -> None:
    """What was sent may still be booked; its failure is not lost."""
    bench = Bench()

    async def main() -> None:
        callers = [asyncio.ensure_future(bench.requests.wait_for(bench.request(2.0, one))) for one in (None, FULL)]
        await asyncio.sleep(1.0)
        for caller in callers:
            caller.cancel()
        with pytest.raises(JournalError):
            await bench.requests.finish(60.0)

    bench.run(main)
    assert bench.ended == [2.0]


def test_at_the_end_of_the_process_nothing_is_waited_for() -> None:
    """A request that is cancelled then is no failure."""
    bench = Bench()

    async def main() -> None:
        await bench.requests.wait_for(bench.request(10.0))
        bench.requests.cancel()
        await bench.requests.finish(60.0)
        assert bench.loop.time() == UNANSWERED_S

    bench.run(main)
    assert bench.ended == []
