"""The wait for a session's next minute, which a stop ends."""

from __future__ import annotations

import asyncio
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tbot_core.engine.live.shutdown import Shutdown
from tbot_core.engine.session.requests import RequestHandler
from tbot_core.execution.trading_state import TradingStateController, recall_states
from tbot_core.journal.store import JournalRecorder, open_journal
from tbot_core.model.clock import SystemClock
from tbot_core.rehearsal.prices import SimulatedMarket
from tbot_core.rehearsal.virtual_loop import run_virtual
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from tbot_core.model.bars import MinuteSlice


async def minutes(market: SimulatedMarket, left: Callable[[], None]) -> AsyncIterator[MinuteSlice]:
    """Two, one a minute; `left` is called in the moment in which whoever waits for one goes away."""
    try:
        for index in range(2):
            await asyncio.sleep(60.0)
            yield market.minute(index)
    finally:
        left()


class Ending(NamedTuple):
    """A session that holds nothing: its shutdown, the event that lets it check, its states and its minutes."""

    shutdown: Shutdown
    check: asyncio.Event
    states: TradingStateController
    feed: AsyncIterator[MinuteSlice]


def waits(
    home: Path,
    wait: Callable[[Ending], Coroutine[Any, Any, None]],
    left: Callable[[TradingStateController], None] = lambda states: states.clear_cause(StateCause.STOP_SIGNAL),
) -> None:
    """Somebody waits for minutes in a session that holds nothing, and `left` is done as he goes away."""

    async def session() -> None:
        with closing(open_journal(home / "tbot.sqlite")) as journal:
            recorder = JournalRecorder(journal=journal, clock=SystemClock())
            states, check = TradingStateController(recorder, lambda _state: None, recall_states(())), asyncio.Event()
            shutdown = Shutdown(RequestHandler(recorder, states), (), SystemClock(), 30.0, lambda _due: check)
            feed = minutes(SimulatedMarket.flat(100_000, ("A",), 2), partial(left, states))
            await wait(Ending(shutdown, check, states, feed))

    run_virtual(session)


def test_a_stop_that_is_taken_back_in_the_same_moment_has_ended_the_wait(tmp_path: Path) -> None:
    """It is not taken for the end of the feed: the session does not go on to the close as if no minute were left."""

    async def wait(ending: Ending) -> None:
        shutdown = ending.shutdown
        assert await shutdown.next_minute(ending.feed) is not None
        coming = asyncio.ensure_future(shutdown.next_minute(ending.feed))
        await asyncio.sleep(1.0)
        ending.states.raise_cause(StateCause.STOP_SIGNAL)
        ending.check.set()
        assert await coming is None
        assert (shutdown.is_over, shutdown.ended, asyncio.get_running_loop().time()) == (False, True, 61.0)
        assert not shutdown.handed_over

    waits(tmp_path, wait)


def test_a_stop_that_comes_as_a_session_is_handed_over_is_left_to_whoever_goes_on(tmp_path: Path) -> None:
    """It has not been carried out: the run does not end with positions open because of it."""

    async def wait(ending: Ending) -> None:
        coming = asyncio.ensure_future(ending.shutdown.next_minute(ending.feed))
        await asyncio.sleep(1.0)
        ending.shutdown.hand_over()
        ending.check.set()
        assert await coming is None
        assert ending.states.causes == (StateCause.STOP_SIGNAL,)
        assert (ending.shutdown.ended, ending.shutdown.handed_over) == (True, True)

    waits(tmp_path, wait, lambda states: states.raise_cause(StateCause.STOP_SIGNAL))


def test_the_end_of_the_feed_is_no_stop(tmp_path: Path) -> None:
    """Whoever waited for a minute hears that there is none, and goes on to the close."""

    async def wait(ending: Ending) -> None:
        shutdown = ending.shutdown
        assert [await shutdown.next_minute(ending.feed) is None for _ in range(3)] == [False, False, True]
        assert not shutdown.ended

    waits(tmp_path, wait)
