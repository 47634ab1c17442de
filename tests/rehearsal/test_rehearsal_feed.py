"""The feed shows what the venues trade at, minute by minute, and each of its faults as the matrix words it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tbot_core.contracts import Feed, FeedSession
from tbot_core.rehearsal.world import LEAD_S, World

if TYPE_CHECKING:
    from tbot_core.model.bars import MinuteSlice
    from tbot_core.rehearsal.feed import SimulatedFeed


def world(*faults: str) -> World:
    """A world of a short day in which these faults strike every minute."""
    return World(3, (), rates=dict.fromkeys(faults, 1.0))


async def seen(feed: SimulatedFeed, around: World) -> list[tuple[float, MinuteSlice]]:
    """Every minute with the second at which it came."""
    return [(around.loop.time(), minute) async for minute in feed.minutes()]


def watched(around: World) -> list[tuple[float, MinuteSlice]]:
    """What the feed shows from before the bell to the close."""
    return around.run(lambda: seen(around.feed(), around))


def test_it_is_a_feed_of_one_session() -> None:
    """With the protocols' words, the symbols sorted, and facts for each of them."""
    around = world()
    feed = around.feed()
    assert isinstance(feed, Feed)
    assert isinstance(feed, FeedSession)
    assert feed.symbols == tuple(sorted(feed.symbols))
    assert feed.label.simulated
    assert feed.day.previous_close.shape == (len(feed.symbols),)

    async def all_of_it() -> list[int]:
        return [len([minute async for minute in one.minutes()]) async for one in feed.sessions()]

    assert around.run(all_of_it) == [around.session.minutes]


def test_a_minute_comes_when_it_has_closed() -> None:
    """In order, within two seconds of its end, with the prices of the venues."""
    around = world()
    minutes = watched(around)
    assert [minute.index for _, minute in minutes] == [*range(around.session.minutes)]
    for came, minute in minutes:
        assert 0 < came - (LEAD_S + (minute.index + 1) * 60) < 2
    path = around.market.paths[around.market.symbols[0]]
    known = next(minute for _, minute in minutes if not np.isnan(minute.close[0]))
    assert known.close[0] == path.prices[known.index * 12 + 11] / 10_000
    assert known.low[0] <= known.open[0] <= known.high[0]


def test_who_comes_late_is_shown_what_has_closed() -> None:
    """A bot that starts at minute ten has ten minutes at once, then the rest as they come."""
    around = world("F53")

    async def late() -> list[tuple[float, MinuteSlice]]:
        await around.clock.sleep(LEAD_S + 605)
        return await seen(around.feed(), around)

    minutes = around.run(late)
    at_once = [minute.index for came, minute in minutes if came == LEAD_S + 605]
    assert at_once == [*range(len(at_once))]
    assert {minute.index for _, minute in minutes} == {*range(around.session.minutes)}


def test_f52_a_frozen_feed_shows_nothing_and_then_empty_minutes() -> None:
    """What was traded meanwhile is never shown."""
    minutes = watched(world("F52"))
    gaps = np.diff([came for came, _ in minutes])
    assert max(gaps) > 70
    assert any(np.isnan(minute.close).all() for _, minute in minutes)


def test_f53_a_gap_ends_in_a_burst() -> None:
    """The minutes of the gap come at once, in order, with their bars."""
    minutes = watched(world("F53"))
    gaps = np.diff([came for came, _ in minutes])
    assert max(gaps) > 70
    assert min(gaps) == 0
    indices = [minute.index for _, minute in minutes]
    assert indices == sorted(indices)


def test_f54_minutes_come_twice_or_in_another_order() -> None:
    """And none is lost."""
    around = world("F54")
    indices = [minute.index for _, minute in watched(around)]
    assert len(indices) > len(set(indices))
    assert any(later < earlier for earlier, later in itertools.pairwise(indices))
    assert set(indices) == {*range(around.session.minutes)}


@pytest.mark.parametrize(("fault", "factor"), [("F55", 10.0), ("F57", 1.03)])
def test_prices_that_no_venue_has(fault: str, factor: float) -> None:
    """F55, F57: one symbol's prices are ten times too high in a bar, or off by three in a hundred for a while."""
    around = world(fault)
    found = set()
    for _, minute in watched(around):
        true = around.market.minute(minute.index)
        found |= {round(float(ratio), 3) for ratio in minute.close / true.close if ratio == ratio}  # noqa: PLR0124  NaN
    assert found == {1.0, factor}
    assert around.faults.injected[fault] > 0
