"""Minutes are made of bars as they come: what was first received counts, what is late is kept and not traded on."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import attrs
import numpy as np
import pytest

from tbot_core.contracts import Bar
from tbot_core.marketdata.bar_aggregator import BarAggregator, BarArrival
from tbot_core.model.bars import Running, Tape

START = dt.datetime(2026, 3, 3, 14, 30, tzinfo=dt.UTC)


def bar(symbol: str = "A", close: float = 10.0, **fields: float) -> Bar:
    """A bar around its close."""
    values = {"open": close, "high": close + 1, "low": close - 1, "volume": 100.0, **fields}
    return Bar(symbol=symbol, start=START, close=close, **values)


def test_a_minute_is_complete_when_every_symbol_has_its_bar() -> None:
    """And one that is closed before has no bar of the symbols that are missing."""
    barrier = BarAggregator(("A", "B"), 2)
    complete = [barrier.is_next_complete]
    assert barrier.add_bar(bar("A", vwap=10.5), 0) is BarArrival.FIRST
    complete.append(barrier.is_next_complete)
    assert barrier.add_bar(bar("B"), 0) is BarArrival.FIRST
    complete.append(barrier.is_next_complete)
    minute = barrier.close_minute()
    assert (minute.index, minute.close.tolist(), minute.vwap[0]) == (0, [10.0, 10.0], 10.5)
    assert np.isnan(barrier.close_minute().close).all()
    assert [*complete, barrier.is_next_complete] == [False, False, True, False]


def test_f53_a_late_bar_is_kept_and_is_no_part_of_its_minute() -> None:
    """What comes after the minute was decided amends the tape, once, tagged late or back-filled."""
    barrier = BarAggregator(("A", "B"), 3)
    barrier.add_bar(bar("A"), 0)
    decided = barrier.close_minute()
    assert barrier.add_bar(bar("B", 20.0), 0) is BarArrival.LATE
    barrier.close_minute()
    assert barrier.add_bar(bar("B", 21.0), 1, filled=True) is BarArrival.FILLED
    assert np.isnan(decided.close[1])
    assert [(one.minute, one.row, one.values[3]) for one in barrier.pop_late_bars()] == [(0, 1, 20.0), (1, 1, 21.0)]
    assert barrier.pop_late_bars() == []


def test_f54_duplicates_and_bars_out_of_order_are_counted_and_change_nothing() -> None:
    """The bar as first received stays; one that says something else is noted as revised."""
    barrier = BarAggregator(("A",), 3)
    assert barrier.add_bar(bar("A", 11.0), 1) is BarArrival.FIRST
    assert barrier.add_bar(bar("A", 10.0), 0) is BarArrival.FIRST
    assert barrier.add_bar(bar("A", 10.0), 0) is BarArrival.DUPLICATE
    assert barrier.add_bar(bar("A", 10.5), 0) is BarArrival.REVISED
    assert [barrier.close_minute().close[0], barrier.close_minute().close[0]] == [10.0, 11.0]
    (revised,) = barrier.pop_revisions()
    assert (revised.minute, revised.row, revised.values[3], revised.arrival) == (0, 0, 10.5, BarArrival.REVISED)
    assert barrier.pop_revisions() == []
    assert barrier.counts == {BarArrival.FIRST: 2, BarArrival.DUPLICATE: 1, BarArrival.REVISED: 1}


@pytest.mark.parametrize(
    ("changed", "minute"),
    [
        ({"symbol": "Z"}, 0),
        ({}, -1),
        ({}, 3),
        ({"close": math.nan}, 0),
        ({"high": math.inf}, 0),
        ({"low": 0.0}, 0),
        ({"low": 10.5}, 0),
        ({"high": 9.5}, 0),
        ({"volume": -1.0}, 0),
        ({"vwap": 0.0}, 0),
        ({"vwap": math.inf}, 0),
    ],
)
def test_what_can_be_no_bar_of_the_session_is_left_out(changed: dict[str, Any], minute: int) -> None:
    """Other symbols, other hours, and numbers that no minute of trading has."""
    barrier = BarAggregator(("A",), 3)
    assert barrier.add_bar(attrs.evolve(bar(), **changed), minute) is BarArrival.OUTSIDE
    assert np.isnan(barrier.close_minute().close).all()


@pytest.mark.parametrize(
    ("vwap", "kept"),
    [(11.55, 11.55), (8.55, 8.55), (11.5501, math.nan), (8.5499, math.nan), (1200.0, math.nan), (1e300, math.nan)],
)
def test_an_average_price_that_cannot_be_the_bars_own_counts_as_none(vwap: float, kept: float) -> None:
    """More than 5 % above its high of 11 or below its low of 9: the bar counts without it."""
    barrier = BarAggregator(("A",), 3)
    assert barrier.add_bar(bar(vwap=vwap), 0) is BarArrival.FIRST
    minute = barrier.close_minute()
    assert minute.close[0] == 10.0
    assert np.array_equal(minute.vwap, [kept], equal_nan=True)


def test_an_amended_tape_equals_one_that_had_every_bar_in_time() -> None:
    """Every column is bit-equal, and so are those that the next minutes are added to."""
    whole, amended = (Tape(("A", "B"), 4) for _ in range(2))
    barriers = BarAggregator(("A", "B"), 4), BarAggregator(("A", "B"), 4)
    views = []
    for minute in range(4):
        barriers[0].add_bar(bar("A", 10.0 + minute / 3, vwap=10.1 + minute / 7), minute)
        barriers[0].add_bar(bar("B", 20.0 - minute / 3), minute)
        whole.append(barriers[0].close_minute())
        barriers[1].add_bar(bar("A", 10.0 + minute / 3, vwap=10.1 + minute / 7), minute)
        if minute != 1:
            barriers[1].add_bar(bar("B", 20.0 - minute / 3), minute)
        amended.append(barriers[1].close_minute())
        if minute == 2:
            views.append(amended.bars)
            views[0].so_far("vwap", 0, 2)
            barriers[1].add_bar(bar("B", 20.0 - 1 / 3), 1)
            amended.amend((one.minute, one.row, one.values) for one in barriers[1].pop_late_bars())
    for name in ("open", "high", "low", "close", "volume", "vwap"):
        np.testing.assert_array_equal(amended.bars.field(name), whole.bars.field(name))
    running: tuple[Running, ...] = ("high", "low", "vwap", "volume")
    for column in running:
        np.testing.assert_array_equal(amended.bars.so_far(column, 0, 4), whole.bars.so_far(column, 0, 4))
    assert np.isnan(views[0].field("close")[1, 1])


def test_a_minute_from_before_a_restart_is_as_it_was_decided() -> None:
    """Whatever history says of it since; what had come late by then is put in its place again."""
    before, after = BarAggregator(("A", "B"), 3), BarAggregator(("A", "B"), 3)
    before.add_bar(bar("A", 10.0), 0)
    first = before.close_minute()
    before.add_bar(bar("B", 20.0), 0)
    before.add_bar(bar("A", 11.0), 1)
    second, late = before.close_minute(), before.pop_late_bars()
    after.add_bar(bar("A", 10.5), 0, filled=True)
    after.restore_minute(first, ())
    assert after.close_minute().close.tolist()[0] == 10.0
    after.restore_minute(second, late)
    assert after.close_minute().close.tolist()[0] == 11.0
    assert [(one.minute, one.row, one.values[3]) for one in after.pop_late_bars()] == [(0, 1, 20.0)]
    assert after.add_bar(bar("B", 20.0), 0) is BarArrival.DUPLICATE
