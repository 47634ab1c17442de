"""The chart of a trade as the parts of an SVG, which needs no script.

Places are percentages of the plot, from its upper left corner, so that the browser gives the picture its size and texts
keep theirs.
"""

from __future__ import annotations

import datetime as dt
import math
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MINUTE_S: Final = 60
_AHEAD_S: Final = 5 * _MINUTE_S
"""How long the stop of an open trade goes on after what is last, so that it is seen in the first minute."""

_MOST_TICKS: Final = 6
_STEPS: Final = (1, 2, 5, 10)
_TIME_STEPS: Final = (5, 10, 15, 30, 60, 120)
_EDGE: Final = 0.06
"""The share of the plot that is free above the highest and below the lowest price."""


@attrs.frozen(kw_only=True)
class Stroke:
    """A straight line; `kind` is that of a strategy's line, or stop, target, entry, or the wick of a bar."""

    kind: str
    x1: float
    y1: float
    x2: float
    y2: float


@attrs.frozen(kw_only=True)
class Body:
    """The body of a bar; `up` where it closed at its open or higher."""

    x: float
    y: float
    width: float
    height: float
    up: bool


@attrs.frozen(kw_only=True)
class Mark:
    """A text, or the place of one: a price beside the plot, a time below it, entry or exit in it."""

    x: float
    y: float
    text: str = ""


@attrs.frozen(kw_only=True)
class TradePicture:
    """The parts of a chart; `exit` is None for an open trade."""

    bodies: tuple[Body, ...]
    strokes: tuple[Stroke, ...]
    prices: tuple[Mark, ...]
    times: tuple[Mark, ...]
    entry: Mark
    exit: Mark | None


def trade_picture(chart: Mapping[str, Any]) -> TradePicture:
    """The picture of the points of a chart (`tbot_core.reports.trade_charts.chart_points`).

    A stop is drawn from the minute of its order, also where no bar has come since. The plot ends with the minute of
    what is last in it, that of an open trade five minutes later.
    """
    scale = _Scale.of(chart)
    return TradePicture(
        bodies=tuple(_bodies(chart["bars"], scale)),
        strokes=(*_wicks(chart["bars"], scale), *_lines(chart, scale), *_levels(chart, scale)),
        prices=tuple(_price_ticks(scale, max(chart["digits"], 2))),
        times=tuple(_time_ticks(scale)),
        entry=_point(chart["entry"], scale),
        exit=None if chart["exit"] is None else _point(chart["exit"], scale),
    )


@attrs.frozen(kw_only=True)
class _Scale:
    # From seconds and dollars to percentages: the plot has the minutes of [start, end) and the prices of [low, high].
    start: int
    end: int
    low: float
    high: float

    @classmethod
    def of(cls, chart: Mapping[str, Any]) -> _Scale:
        points = [chart["entry"], *chart["stops"], *([chart["exit"]] if chart["exit"] else [])]
        points += [point for line in chart["lines"] for point in line["points"]]
        times = [one["time"] for one in (*chart["bars"], *points)]
        prices = [point["value"] for point in points]
        prices += [bar[name] for bar in chart["bars"] for name in ("high", "low")]
        prices += [] if chart["target"] is None else [chart["target"]]
        free = (max(prices) - min(prices) or max(prices) / 100) * _EDGE
        end = max(times) + _MINUTE_S + (0 if chart["exit"] else _AHEAD_S)
        return cls(start=min(times), end=end, low=min(prices) - free, high=max(prices) + free)

    def x(self, time: float) -> float:
        return _percent((time - self.start) / (self.end - self.start))

    def y(self, price: float) -> float:
        return _percent((self.high - price) / (self.high - self.low))


def _percent(share: float) -> float:
    return round(100 * share, 3)


def _point(one: Mapping[str, Any], scale: _Scale) -> Mark:
    return Mark(x=scale.x(one["time"] + _MINUTE_S / 2), y=scale.y(one["value"]))


def _bodies(bars: Sequence[Mapping[str, Any]], scale: _Scale) -> Iterator[Body]:
    width = scale.x(scale.start + _MINUTE_S * 0.7)
    for bar in bars:
        top, bottom = scale.y(max(bar["open"], bar["close"])), scale.y(min(bar["open"], bar["close"]))
        left = scale.x(bar["time"] + _MINUTE_S * 0.15)
        yield Body(x=left, y=top, width=width, height=max(bottom - top, 0.3), up=bar["close"] >= bar["open"])


def _wicks(bars: Sequence[Mapping[str, Any]], scale: _Scale) -> Iterator[Stroke]:
    for bar in bars:
        middle, kind = scale.x(bar["time"] + _MINUTE_S / 2), "up" if bar["close"] >= bar["open"] else "down"
        yield Stroke(kind=kind, x1=middle, y1=scale.y(bar["high"]), x2=middle, y2=scale.y(bar["low"]))


def _lines(chart: Mapping[str, Any], scale: _Scale) -> Iterator[Stroke]:
    # The lines of the strategy, from the middle of a minute to that of the next one.
    for line in chart["lines"]:
        places = [_point(point, scale) for point in line["points"]]
        for one, following in pairwise(places):
            yield Stroke(kind=line["kind"], x1=one.x, y1=one.y, x2=following.x, y2=following.y)


def _levels(chart: Mapping[str, Any], scale: _Scale) -> Iterator[Stroke]:
    # Entry and target over the whole plot; the stop in steps, from its order to the exit or the end.
    yield _level("entry", scale.y(chart["entry"]["value"]), 0, 100)
    if chart["target"] is not None:
        yield _level("target", scale.y(chart["target"]), 0, 100)
    until = scale.end if chart["exit"] is None else chart["exit"]["time"] + _MINUTE_S
    stops = chart["stops"]
    for one, following in zip_longest(stops, stops[1:]):
        end = until if following is None else following["time"]
        yield _level("stop", scale.y(one["value"]), scale.x(one["time"]), scale.x(end))
        if following is not None:
            x = scale.x(end)
            yield Stroke(kind="stop", x1=x, y1=scale.y(one["value"]), x2=x, y2=scale.y(following["value"]))


def _level(kind: str, y: float, start: float, end: float) -> Stroke:
    return Stroke(kind=kind, x1=start, y1=y, x2=end, y2=y)


def _price_ticks(scale: _Scale, digits: int) -> Iterator[Mark]:
    least = (scale.high - scale.low) / _MOST_TICKS
    size = 10 ** math.floor(math.log10(least))
    step = max(next(one * size for one in _STEPS if one * size >= least), 10**-digits)
    for count in range(math.ceil(scale.low / step), math.floor(scale.high / step) + 1):
        yield Mark(x=100, y=scale.y(count * step), text=f"{count * step:.{digits}f}")


def _time_ticks(scale: _Scale) -> Iterator[Mark]:
    # Whole steps of New York's clock, which the times show as UTC.
    minutes = (scale.end - scale.start) / _MINUTE_S
    step = _MINUTE_S * next((one for one in _TIME_STEPS if minutes / one <= _MOST_TICKS), _TIME_STEPS[-1])
    for time in range(-(-scale.start // step) * step, scale.end, step):
        yield Mark(x=scale.x(time), y=100, text=f"{dt.datetime.fromtimestamp(time, dt.UTC):%H:%M}")
