"""The document of a trade's chart: few bytes, from which the prices follow exactly."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from decimal import Decimal
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbot_core.model.calendar import Session
from tbot_core.model.types import ExitReason, Side, Trade, stock
from tbot_core.reports.trade_charts import ChartLine, TradedSession, chart_document, chart_points, largest
from tbot_core.reports.trade_levels import OpenTrade, TradeLevels

OPEN = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)
SESSION = Session(date=dt.date(2026, 11, 24), open=OPEN, close=OPEN + dt.timedelta(minutes=390))
PRICES = ("open", "high", "low", "close")


def trade(pnl: str = "1", entry: int = 100, leave: int = 130, symbol: str = "AAPL") -> Trade:
    """A trade between two minutes of the session."""
    return Trade(
        strategy="open",
        instrument=stock(symbol),
        side=Side.SHORT,
        quantity=Decimal(10),
        entry_time=SESSION.moment(entry),
        entry_price=Decimal("100.25"),
        exit_time=SESSION.moment(leave),
        exit_price=Decimal("100.1234"),
        fees=Decimal(0),
        pnl=Decimal(pnl),
        exit_reason=ExitReason.STOP,
    )


def flat(price: float = 100.0) -> dict[str, Any]:
    """A session in which every bar is one price."""
    return {name: np.full(390, price) for name in PRICES}


def unpacked(document: Any) -> list[tuple[float, float, float, float] | None]:
    """The bars of a document, as the page's script reads them."""
    scale, close, found = 10 ** document["d"], 0, list[Any]()
    values = iter(document["b"])
    for value in values:
        if value is None:
            found.append(None)
            continue
        opened, up, down, move = value, *(next(values) for _ in range(3))
        start, end = close + opened, close + opened + move
        found.append((start / scale, (max(start, end) + up) / scale, (min(start, end) - down) / scale, end / scale))
        close = end
    return found


@settings(max_examples=60)
@given(
    st.lists(st.none() | st.tuples(*[st.integers(1, 900_000)] * 4), min_size=60, max_size=60),
    st.sampled_from([2, 4]),
)
def test_bars_are_read_back_exactly(ticks: list[tuple[int, ...] | None], digits: int) -> None:
    """Whatever the prices in cents or ticks, and whichever minutes are missing, the bars come back the same."""
    prices = flat(np.nan)
    expected: list[Any] = [None] * 390
    for minute, four in enumerate(ticks):
        if four is not None:
            high, *inner, low = sorted(four, reverse=True)
            bar = tuple(value / 10**digits for value in (inner[0], high, low, inner[1]))
            expected[minute] = bar
            for name, value in zip(PRICES, bar, strict=True):
                prices[name][minute] = value
    found = chart_document(trade(entry=10, leave=48), TradedSession(session=SESSION, prices=prices, start=0), None)
    points = {one["time"]: tuple(one[name] for name in PRICES) for one in chart_points(found)["bars"]}
    bell = int(OPEN.timestamp()) - 5 * 3600  # New York's clock, read as UTC
    assert points == {bell + 60 * minute: bar for minute, bar in enumerate(expected) if bar is not None}
    assert (found["m"], len(unpacked(found))) == (0, 60)
    for shown, bar in zip(unpacked(found), expected, strict=False):
        assert shown == (None if bar is None else pytest.approx(bar, abs=1e-9))


def test_the_chart_begins_with_the_window_and_ends_after_the_exit() -> None:
    """It shows the strategy's window from its start, and some minutes after the exit; never less than 45 minutes."""
    found = chart_document(trade(), TradedSession(session=SESSION, prices=flat(), start=60), None)
    assert (found["m"], len(unpacked(found))) == (60, 130 + 12 - 60)
    short = chart_document(trade(entry=100, leave=101), TradedSession(session=SESSION, prices=flat()), None)
    assert (short["m"], len(unpacked(short))) == (85, 45)
    late = chart_document(trade(entry=380, leave=389), TradedSession(session=SESSION, prices=flat()), None)
    assert late["m"] + len(unpacked(late)) == 390


@pytest.mark.parametrize("last", [111, None], ids=["last bar", "no bar yet"])
def test_an_open_trade_has_no_exit_and_ends_with_the_last_bar(last: int | None) -> None:
    """Its chart shows the bars up to now; before the first one it has none."""
    prices = flat()
    for values in prices.values():
        values[0 if last is None else last + 1 :] = np.nan
    held = OpenTrade(
        strategy="open",
        instrument=stock("AAPL"),
        side=Side.SHORT,
        quantity=Decimal(10),
        entry_time=SESSION.moment(100),
        entry_price=Decimal("100.25"),
        pnl=Decimal(0),
    )
    points = chart_points(chart_document(held, TradedSession(session=SESSION, prices=prices, start=60), None))
    assert points["exit"] is None
    assert len(points["bars"]) == (0 if last is None else last + 1 - 60)
    assert points["entry"]["value"] == 100.25
    simulated = attrs.evolve(held, until=SESSION.moment(105))
    cut = chart_points(chart_document(simulated, TradedSession(session=SESSION, prices=prices, start=60), None))
    assert len(cut["bars"]) == (0 if last is None else 106 - 60)


def test_times_and_levels_are_those_of_the_trade() -> None:
    """Entry, exit, stop moves and target are minutes of the session and dollars; the offset is New York's."""
    levels = TradeLevels(
        minute=99,
        rule="breakout",
        stops=((SESSION.moment(100), Decimal("101.5")), (SESSION.moment(110), Decimal("101.25"))),
        target=Decimal("98.5"),
    )
    found = chart_document(trade(), TradedSession(session=SESSION, prices=flat()), levels)
    assert (found["t"] * 60, found["z"]) == (int(OPEN.timestamp()), -300)
    assert (found["e"], found["x"], found["w"]) == ([100, 100.25], [130, 100.1234], -1)
    assert (found["i"], found["s"], found["g"]) == (99, [[100, 101.5], [110, 101.25]], 98.5)
    assert "g" not in chart_document(trade(), TradedSession(session=SESSION, prices=flat()), None)
    json.dumps(found, allow_nan=False)


def line(values: list[float], start: int, stop: int) -> list[Any]:
    """A line in the document of a trade whose chart shows minutes 60 to 142."""
    drawn = ChartLine(name="VWAP", kind="base", start=start, stop=stop, values=np.array(values))
    found = chart_document(trade(), TradedSession(session=SESSION, prices=flat(), lines=(drawn,), start=60), None)
    (one,) = found["l"]
    assert one[:2] == ["base", "VWAP"]
    return list(one[2:])


def test_a_line_is_cut_to_the_minutes_shown() -> None:
    """Only its minutes in the chart are written, as differences; a constant one is a single value."""
    start, stop, steps = line([100.0, 100.5, 101.0, 100.25], 58, 62)
    assert (start, stop, list(itertools.accumulate(steps))) == (60, 62, [10100, 10025])
    assert line([100.5], 0, 390) == [60, 142, [10050]]
    assert line([100.5] * 390, 0, 390) == [60, 142, [10050]]


def test_an_unknown_value_of_a_line_is_not_drawn() -> None:
    """Before its first value a line does not exist; a hole continues the value before; without any it is empty."""
    assert line([np.nan, 100.0, np.nan, 101.0], 60, 64) == [61, 64, [10000, 0, 100]]
    assert line([np.nan] * 4, 60, 64) == [60, 60, []]
    assert line([100.0, 101.0], 300, 302) == [300, 300, []]


def test_of_too_many_trades_those_with_the_largest_results_are_chosen() -> None:
    """Profit and loss count alike; the chosen ones are in order of entry."""
    many = [trade("5", 30, symbol="A"), trade("-9", 20, symbol="B"), trade("1", 10, symbol="C")]
    assert [one.symbol for one in largest(many, 3)] == ["C", "B", "A"]
    assert [one.symbol for one in largest(many, 2)] == ["B", "A"]


def test_lines_and_levels_are_points_in_time() -> None:
    """A constant line has two points, a running one a point for each minute; levels their minute and price."""
    running = ChartLine(name="VWAP", kind="base", start=100, stop=103, values=np.array([99.5, 99.6, 99.7]))
    constant = ChartLine(name="range high", kind="base", start=96, stop=99, values=np.array([101.0]))
    single = ChartLine(name="short trigger", kind="trigger", start=100, stop=101, values=np.array([99.9]))
    found = TradedSession(session=SESSION, prices=flat(), lines=(running, constant, single), start=95)
    stops = ((SESSION.moment(100), Decimal("101.5")), (SESSION.moment(110), Decimal("100.5")))
    points = chart_points(
        chart_document(trade(), found, TradeLevels(minute=99, rule="r", stops=stops, target=Decimal(98)))
    )
    bell = int(OPEN.timestamp()) - 5 * 3600
    lines = {one["name"]: [((p["time"] - bell) // 60, p["value"]) for p in one["points"]] for one in points["lines"]}
    assert lines == {
        "VWAP": [(100, 99.5), (101, 99.6), (102, 99.7)],
        "range high": [(96, 101.0), (98, 101.0)],
        "short trigger": [(100, 99.9)],
    }
    assert [((one["time"] - bell) // 60, one["value"]) for one in points["stops"]] == [(100, 101.5), (110, 100.5)]
    assert (points["target"], points["side"], points["signal"]) == (98.0, -1, bell + 99 * 60)
    assert points["exit"] == {"time": bell + 130 * 60, "value": 100.1234}
    assert chart_points(chart_document(trade(), found, None))["signal"] is None
