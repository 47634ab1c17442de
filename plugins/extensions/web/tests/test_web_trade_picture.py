"""The picture of a trade: every bar and level at its place, without a script."""

from __future__ import annotations

from typing import Any

import pytest
from tbot_extension_web.trade_picture import trade_picture

OPENED = 1_772_530_200  # 09:30 of New York, as if it were UTC


def at(minute: int) -> int:
    """A minute of the session, in the seconds of a chart."""
    return OPENED + 60 * minute


def chart(**parts: Any) -> dict[str, Any]:
    """A long trade of two bars with a stop, closed in the second."""
    bars = [
        {"time": at(0), "open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0},
        {"time": at(1), "open": 11.0, "high": 11.5, "low": 10.0, "close": 10.5},
    ]
    given = {"digits": 2, "bars": bars, "lines": [], "target": None, "exit": {"time": at(1), "value": 11.0}, "side": 1}
    return given | {"stops": [{"time": at(1), "value": 9.0}], "entry": {"time": at(1), "value": 11.0}} | parts


def strokes(kind: str, **parts: Any) -> list[tuple[float, float, float, float]]:
    """The lines of a kind."""
    found = trade_picture(chart(**parts)).strokes
    return [(one.x1, one.y1, one.x2, one.y2) for one in found if one.kind == kind]


def test_each_bar_has_its_body_and_its_wick() -> None:
    """From left to right, higher prices above; the highest and the lowest are inside."""
    found = trade_picture(chart())
    first, second = found.bodies
    assert (first.up, second.up) == (True, False)
    assert 0 < first.x < first.x + first.width < 50 < second.x < second.x + second.width < 100
    ((x1, top, x2, bottom),) = strokes("up")
    assert x1 == x2 == pytest.approx(25)
    assert 0 < top < first.y < first.y + first.height < bottom < 100


def test_the_stop_is_drawn_from_the_first_minute_of_the_trade() -> None:
    """Before a bar of that minute has come, and for five minutes ahead; entry and stop are inside."""
    first = {"entry": {"time": at(2), "value": 10.5}, "stops": [{"time": at(2), "value": 8.0}], "exit": None}
    ((start, y, end, same),) = strokes("stop", **first)
    assert (start, end) == (25, 100)
    assert 0 < y == same < 100
    entry = trade_picture(chart(**first)).entry
    assert 25 < entry.x < 40
    assert 0 < entry.y < y


def test_the_stop_moves_in_steps_and_ends_with_the_trade() -> None:
    """A move is a line up or down; after the exit there is none."""
    moves = [{"time": at(0), "value": 9.0}, {"time": at(1), "value": 10.0}]
    found = strokes("stop", stops=moves, exit={"time": at(1), "value": 10.0}, entry={"time": at(0), "value": 10.0})
    low, step, high = found
    assert low[0] == 0
    assert low[2] == step[0] == step[2] == high[0] == 50
    assert (step[1], step[3]) == (low[1], high[1])
    assert high[1] < low[1]
    assert high[2] == 100
    exit_mark = trade_picture(chart(exit={"time": at(1), "value": 10.0})).exit
    assert exit_mark is not None
    assert exit_mark.x == 75


def test_a_chart_without_stop_or_bars_is_drawn_all_the_same() -> None:
    """As before the first bar: the entry and its minute."""
    found = trade_picture(chart(bars=[], stops=[], exit=None, entry={"time": at(3), "value": 10.0}))
    assert (found.bodies, [one.kind for one in found.strokes]) == ((), ["entry"])
    assert (found.entry.x, found.entry.y, found.exit) == (8.333, 50, None)
    assert [one.text for one in found.prices] == ["10.00"]


def test_target_and_lines_of_the_strategy_have_their_kind() -> None:
    """A line goes from minute to minute; the target is a level of the whole picture."""
    line = {"kind": "base", "name": "vwap", "points": [{"time": at(n), "value": 10 + n / 10} for n in range(2)]}
    assert [(one[0], one[2]) for one in strokes("base", lines=[line])] == [(25, 75)]
    ((start, y, end, _),) = strokes("target", target=14.0)
    assert (start, end) == (0, 100)
    assert 0 < y < 10


def test_prices_and_times_are_round() -> None:
    """At most about six of each, with the decimals of the prices and New York's clock."""
    found = trade_picture(chart(entry={"time": at(45), "value": 11.0}))
    assert [one.text for one in found.times] == ["09:30", "09:40", "09:50", "10:00", "10:10"]
    assert [one.text for one in found.prices] == ["9.00", "10.00", "11.00", "12.00"]
    assert all(0 <= one.y <= 100 for one in found.prices)
