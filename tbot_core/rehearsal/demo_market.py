"""The market of the demo as price paths: its companies trade at a broker plugin's venue as they do in the demo."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import BarHistory, FeedRequest, LiveSession
from tbot_core.engine.assembly import feed_source
from tbot_core.engine.bootstrap import assemble
from tbot_core.errors import DataError
from tbot_core.model.clock import SystemClock
from tbot_core.model.types import UNITS_PER_SHARE
from tbot_core.rehearsal.prices import CENT, STEPS_A_MINUTE, PricePath, SimulatedMarket
from tbot_core.rehearsal.random_streams import RandomStreams
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from tbot_core.contracts import Bar, Feed, FeedSession
    from tbot_core.model.bars import Array, MinuteSlice
    from tbot_core.model.calendar import Session

FUND: Final = "SPY"
"""The index fund of the market: plugins and checks of a broker read its price."""

_SETTINGS: Final = b"BROKER_NAME=PAPER\nCRITICAL_ALERT_CHANNEL=console\nROUTINE_ALERT_CHANNEL=console\n"
_FUND_PRICE: Final = 60_000  # cents
_DEPTH: Final = 1_000_000 * UNITS_PER_SHARE
_LOW, _HIGH = 4, 7  # the steps of a minute that have its extremes


def demo_market(seed: int) -> SimulatedMarket:
    """The companies of a demo session of a seed, and the index fund.

    Each minute's steps have the open, low, high and close of its bar. Raises PluginError without the paper broker.
    """
    with _demo_feed(FeedRequest(kind="demo", seed=seed)) as feed:
        symbols, minutes = asyncio.run(_minutes(feed.sessions()))
    drawn = SimulatedMarket.drawn(RandomStreams(seed), (FUND,), len(minutes)).paths[FUND]
    fund = attrs.evolve(drawn, prices=[price * _FUND_PRICE // drawn.prices[0] * CENT for price in drawn.prices])
    bars = np.array([[minute.open, minute.low, minute.high, minute.close] for minute in minutes])
    return SimulatedMarket({FUND: fund} | {symbol: _path(bars[:, :, row]) for row, symbol in enumerate(symbols)})


def demo_bars(seed: int, sessions: Sequence[Session]) -> list[Bar]:
    """The minutes of the demo's companies in these sessions, by symbol and time.

    Raises PluginError without the paper broker.
    """
    request = FeedRequest(kind="demo", seed=seed, first=sessions[0].date)
    with _demo_feed(request) as feed:
        return asyncio.run(_history(feed.sessions(), sessions))


@contextmanager
def _demo_feed(request: FeedRequest) -> Iterator[Feed]:
    with filesystem.scratch_folder() as home:
        filesystem.write_atomic(home / ".env_bot", _SETTINGS)
        assembly = assemble(home, "demo", SystemClock())
        wanted = attrs.evolve(request, calendar=assembly.calendar)
        yield feed_source(assembly.broker("paper"), "paper").feed(wanted)


async def _minutes(sessions: AsyncIterator[FeedSession | LiveSession]) -> tuple[tuple[str, ...], list[MinuteSlice]]:
    # The symbols and the minutes of the first session of a feed.
    session = await _first(sessions)
    return session.symbols, [minute async for minute in session.minutes()]


async def _history(source: AsyncIterator[FeedSession | LiveSession], sessions: Sequence[Session]) -> list[Bar]:
    first = await _first(source)
    if not isinstance(first, BarHistory):
        raise DataError("The paper broker has no past bars.", "Install tbot-broker-paper again.")
    return [*await first.history(first.symbols, sessions[0].open, sessions[-1].close)]


async def _first(sessions: AsyncIterator[FeedSession | LiveSession]) -> FeedSession:
    async for session in sessions:
        if not isinstance(session, LiveSession):
            return session
    raise DataError("The paper broker simulates no session.", "Install tbot-broker-paper again.")


def _path(bars: Array) -> PricePath:
    # The path of the bars (minute x open, low, high, close); a minute without one keeps the last price, and is quiet.
    quiet = np.isnan(bars[:, 0])
    known = bars[~quiet]
    filled = known[np.maximum(np.cumsum(~quiet) - 1, 0)]
    filled[quiet] = filled[quiet][:, 3:]
    steps = np.arange(STEPS_A_MINUTE)
    prices = [np.interp(steps, (0, _LOW, _HIGH, STEPS_A_MINUTE - 1), bar) for bar in filled]
    cents = np.rint(np.concatenate(prices) * 100).astype(int)
    return PricePath(
        prices=[int(price) * CENT for price in cents],
        depth=[_DEPTH] * len(cents),
        quiet=frozenset(np.flatnonzero(quiet).tolist()),
    )
