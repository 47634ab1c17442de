"""The price chart of a trade as a compact document, from the bars of its session."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
import numpy as np

from tbot_core.model.bars import Array
from tbot_core.model.calendar import Session
from tbot_core.model.clock import exchange_time
from tbot_core.reports.timeline import AnyTrade, in_order_of_entry
from tbot_core.reports.trade_levels import DrawnTrade, OpenTrade, TradeKey, TradeLevels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

MOST_CHARTS: Final = 1_000
"""The number of trades of a report that get a chart: those with the largest profit or loss."""

_MINUTE_S: Final = 60
_BEFORE: Final = 15
_AFTER: Final = 12
_LEAST: Final = 45
_DECIMALS: Final = 4
_CENT: Final = 100
"""A cent in prices of four decimals."""

_PRICES: Final = ("open", "high", "low", "close")


@attrs.frozen(kw_only=True, eq=False)
class ChartLine:
    """A line of a strategy in minutes [start, stop): one of `values` for each, or a single one for all.

    `kind`: the level that a close must pass, or the price from which that is measured.
    """

    name: str
    kind: Literal["trigger", "base"]
    start: int
    stop: int
    values: Array


@attrs.frozen(kw_only=True, eq=False)
class TradedSession:
    """The session of a trade: `prices` maps open, high, low and close to one value per minute, NaN without a bar.

    `start` is the first minute of interest, the start of the strategy's window; None: it is not known.
    """

    session: Session
    prices: Mapping[str, Array]
    lines: Sequence[ChartLine] = ()
    start: int | None = None


@attrs.frozen(kw_only=True, eq=False)
class TradeCharts:
    """The charts of a run's trades, and why some or all are missing; "" if none is."""

    documents: Mapping[TradeKey, Mapping[str, Any]] = attrs.field(factory=dict)
    missing: str = ""


def largest(trades: Iterable[AnyTrade], most: int) -> list[AnyTrade]:
    """The trades in order of entry; of more than `most` those with the largest profit or loss."""
    listed = list(trades)
    if len(listed) > most:
        listed = sorted(listed, key=lambda one: abs(one.pnl), reverse=True)[:most]
    return in_order_of_entry(listed)


def chart_document(trade: DrawnTrade, found: TradedSession, levels: TradeLevels | None) -> dict[str, Any]:
    """The chart of a trade as a document of few bytes, see docs/reference/report.md.

    Prices are whole numbers of 10^-digits dollars. Of each bar the open is written as difference to the close before
    it, high and low as distance from the body, the close as difference to the open; a minute without a bar is null.
    An open trade has no exit, and its chart ends with the last bar.
    """
    session = found.session
    first, last = _span(trade, found, levels)
    bars, digits = _bars(np.array([found.prices[name][first:last] for name in _PRICES]))
    document: dict[str, Any] = {
        "t": int(session.open.timestamp()) // 60,
        "z": _offset_minutes(session.open),
        "m": first,
        "d": digits,
        "b": bars,
        "l": [_line(line, first, last, digits) for line in found.lines],
        "s": [],
        "e": [_minute(session, trade.entry_time), float(trade.entry_price)],
        "w": int(trade.side),
    }
    if trade.exit_time is not None and trade.exit_price is not None:
        document["x"] = [_minute(session, trade.exit_time), float(trade.exit_price)]
    if levels is not None:
        document["i"] = levels.minute
        document["s"] = [[_minute(session, moment), float(level)] for moment, level in levels.stops]
        if levels.target is not None:
            document["g"] = float(levels.target)
    return document


def _span(trade: DrawnTrade, found: TradedSession, levels: TradeLevels | None) -> tuple[int, int]:
    # The minutes that are shown: from the strategy's window to some minutes after the exit, or to the last bar.
    minutes = len(found.prices["close"])
    entered = found.session.minute(trade.entry_time)
    signal = entered if levels is None else levels.minute
    first = max(min(signal if found.start is None else found.start, signal - _BEFORE), 0)
    if trade.exit_time is None:
        known = np.flatnonzero(~np.isnan(found.prices["close"]))
        last = int(known[-1]) + 1 if len(known) else first
        until = trade.until if isinstance(trade, OpenTrade) else None
        return first, max(first, last if until is None else min(last, found.session.minute(until) + 1))
    return first, min(max(found.session.minute(trade.exit_time) + _AFTER, first + _LEAST), minutes)


def _bars(prices: Array) -> tuple[list[int | None], int]:
    # The coded bars, and the decimals of their prices: cents are enough for most stocks.
    known = ~np.isnan(prices[-1])
    whole, digits = _whole(prices[:, known], _DECIMALS), _DECIMALS
    if not np.any(whole % _CENT):
        whole, digits = whole // _CENT, 2
    opened, high, low, close = whole
    before = np.concatenate(([0], close[:-1])) if len(close) else close
    body = np.maximum(opened, close), np.minimum(opened, close)
    parts = np.array((opened - before, high - body[0], body[1] - low, close - opened)).T
    coded: list[int | None] = parts.ravel().tolist()
    if known.all():
        return coded, digits
    found, rows = list[int | None](), iter(parts.tolist())
    for there in known.tolist():
        found.extend(next(rows) if there else [None])
    return found, digits


def _line(line: ChartLine, first: int, last: int, digits: int) -> list[Any]:
    # Kind, name, first minute, minute after the last, and the values as differences: one if they are all equal.
    start, stop = max(line.start, first), min(line.stop, last)
    if line.values.shape == (1,) and start < stop and math.isfinite(level := line.values.item()):
        return [line.kind, line.name, start, stop, [round(level * 10**digits)]]
    values = np.broadcast_to(line.values, line.stop - line.start)[start - line.start : max(stop - line.start, 0)]
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return [line.kind, line.name, start, start, []]
    values = values[known[0] :]
    values = values[np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), 0))]
    whole = _whole(values[:1] if np.all(values == values[0]) else values, digits)
    return [line.kind, line.name, start + int(known[0]), stop, np.diff(whole, prepend=0).tolist()]


def _whole(values: Array, digits: int) -> Any:
    return np.rint(values * 10**digits).astype(np.int64)


def _minute(session: Session, moment: datetime) -> int:
    return session.minute(moment)


def _offset_minutes(moment: datetime) -> int:
    offset = exchange_time(moment).utcoffset()
    return 0 if offset is None else int(offset.total_seconds()) // 60


def chart_points(document: Mapping[str, Any]) -> dict[str, Any]:
    """The compact document of a chart as points in time: seconds of the epoch, shifted to New York's clock.

    A chart that shows UTC then shows the exchange's time.
    """
    scale, first = 10 ** document["d"], document["m"]
    opened = int(document["t"]) + int(document["z"])

    def at(minute: int) -> int:
        return (opened + minute) * _MINUTE_S

    return {
        "digits": document["d"],
        "bars": [{"time": at(first + minute), **prices} for minute, prices in _prices(document["b"], scale)],
        "lines": [_points(one, scale, at) for one in document["l"]],
        "stops": [{"time": at(minute), "value": level} for minute, level in document["s"]],
        "target": document.get("g"),
        "entry": {"time": at(document["e"][0]), "value": document["e"][1]},
        "exit": {"time": at(document["x"][0]), "value": document["x"][1]} if "x" in document else None,
        "signal": at(document["i"]) if "i" in document else None,
        "side": document["w"],
    }


def _prices(coded: Sequence[int | None], scale: int) -> Iterator[tuple[int, dict[str, float]]]:
    # Each minute that has a bar, with its prices.
    place, minute, close = 0, 0, 0
    while place < len(coded):
        if coded[place] is None:
            place, minute = place + 1, minute + 1
            continue
        opened, above, below, change = (int(one or 0) for one in coded[place : place + 4])
        opened += close
        close = opened + change
        whole = {"open": opened, "high": max(opened, close) + above, "low": min(opened, close) - below, "close": close}
        yield minute, {name: price / scale for name, price in whole.items()}
        place, minute = place + 4, minute + 1


def _points(coded: Sequence[Any], scale: int, at: Callable[[int], int]) -> dict[str, Any]:
    kind, name, start, stop, differences = coded
    values = [one / scale for one in accumulate(differences)]
    if len(values) == 1:
        points = [(start, values[0]), (stop - 1, values[0])] if stop - 1 > start else [(start, values[0])]
    else:
        points = list(zip(range(start, stop), values, strict=False))
    return {"kind": kind, "name": name, "points": [{"time": at(minute), "value": value} for minute, value in points]}
