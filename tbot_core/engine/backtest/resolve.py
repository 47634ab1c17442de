"""What becomes of signals once they are entered, for all of a block at once: fills, exits, and the worst mark between.

Levels hang on market prices, never on fills, so that neither quantity nor slippage changes when an order fills. The
rules are those of the matching engine and of exit plans; a whole order fills in one bar, else the session is stepped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from tbot_core.model.bars import Array, Bars, Flags, Index
from tbot_core.model.reasons import Reason
from tbot_core.model.types import TICKS_PER_DOLLAR, ExitReason, Leg, OrderType
from tbot_core.trading import price_grid
from tbot_core.trading.matching import ENTRY_BARS
from tbot_core.trading.positions.rebalance_rules import checks_positions

if TYPE_CHECKING:
    from tbot_core.model.signals import ExitRules
    from tbot_core.trading.fill_costs import FillCosts
    from tbot_core.trading.proposals import JudgedSignals, TradingRules

REASONS: Final = tuple(ExitReason)
"""The exit reasons by their number in columns."""

_STOP, _TRAILING, _TARGET, _TIME, _END, _NO_MARKET = (
    REASONS.index(one)
    for one in (
        ExitReason.STOP,
        ExitReason.TRAILING_STOP,
        ExitReason.TARGET,
        ExitReason.TIME,
        ExitReason.SESSION_END,
        ExitReason.NO_MARKET,
    )
)
_NO_LIMIT: Final = 2**62
_FLAGS: Final = ("filled", "slips", "checked")
_LATER: Final = ("ended", "paid", "exit_minute", "got", "leg", "reason", "entry_units", "exit_units", "worst", "key")

LEGS: Final = (Leg.EXIT, Leg.STOP, Leg.TARGET)
"""The legs that close a position, in the order in which they fill within a minute."""

_EXIT_LEG, _STOP_LEG, _TARGET_LEG = range(3)


@attrs.define(kw_only=True, eq=False)
class Outcomes:
    """The outcome of each signal, if it is entered; prices in ticks before slippage, one value per signal.

    `price` is the signal bar's close, `limit` the entry's limit or, at the market, its worst price. `ended` is the
    minute in which the entry ends at the venue, `filled` whether it fills then, at `paid`. `exit_minute` is that of the
    closing fill at `got`, the session's length for one at the last known close; `slips`: it is a market order's;
    `leg` is its number in `LEGS`.
    `entry_units` and `exit_units` are the most that these bars fill. `worst` is the worst close while it is held.
    `key` orders closing fills of a session. `checked`: rebalancing checks positions while it is held. `stops` are the
    levels of a trailing stop in the minutes from the fill on, (signals, minutes); None without one.
    """

    price: Index
    limit: Index
    stop: Index
    target: Index
    ended: Index
    filled: Flags
    paid: Index
    exit_minute: Index
    got: Index
    slips: Flags
    leg: Index
    reason: Index
    entry_units: Index
    exit_units: Index
    worst: Index
    key: Index
    checked: Flags
    stops: Array | None


@attrs.frozen(kw_only=True, eq=False)
class _Held:
    # The entries that fill, as rows of `at`: their cells, side, fill minute, levels and the last minute of their plan.
    cells: tuple[Index, ...]
    side: Index
    fill: Index
    due: Index
    stop: Array
    target: Array
    at_open: Flags


def resolve(judged: JudgedSignals, rules: TradingRules, costs: FillCosts, bars: Bars) -> Outcomes:
    """The outcomes of a strategy's signals; those that a check denied have none that counts."""
    signals, last = judged.signals, bars.minutes - rules.exits.flatten_before_close
    found = _planned(judged, rules)
    entry = _entries(found, judged, rules, costs, bars)
    rows = np.flatnonzero(found.filled)
    if not len(rows):
        return found
    fill = found.ended[rows]
    held = _Held(
        cells=tuple(axis[rows] for axis in signals.cells),
        side=signals.side[rows],
        fill=fill,
        due=np.maximum(fill, np.minimum(_time_exit(signals.exits, fill), last) - 1),
        stop=found.stop[rows].astype(np.float64),
        target=found.target[rows].astype(np.float64),
        at_open=entry[rows],
    )
    _exits(found, rows, held, (signals.exits, rules, costs), bars)
    return found


def _planned(judged: JudgedSignals, rules: TradingRules) -> Outcomes:
    # The levels of each signal's order and plan; nothing is filled yet.
    signals, policy = judged.signals, rules.exits
    side, count = signals.side, len(signals)
    price = _ticks(signals.price).astype(np.int64)
    stop = np.where(
        np.isnan(signals.stop),
        price_grid.default_stop(signals.price, side, float(policy.stop_loss_pct)),
        signals.stop,
    )
    target = signals.target
    if policy.target_r:
        target = price_grid.target_at(signals.price, stop, side, policy.target_r)
    without = np.isnan(target)
    known = price_grid.grid_level(np.where(without, 1.0, target) * TICKS_PER_DOLLAR, side)
    if rules.entries.entry_order_type == OrderType.MARKET:
        limit = price_grid.band_level(price, float(rules.risk.price_band_pct))
    else:
        limit = price_grid.limit_level(price, side, float(rules.entries.entry_limit_pct))
    columns: dict[str, Any] = dict.fromkeys(_LATER, np.zeros(count, dtype=np.int64))
    flags: dict[str, Any] = dict.fromkeys(_FLAGS, np.zeros(count, dtype=np.bool_))
    return Outcomes(
        price=price,
        limit=limit.astype(np.int64),
        stop=price_grid.grid_level(stop * TICKS_PER_DOLLAR, side).astype(np.int64),
        target=np.where(without, 0, known).astype(np.int64),
        **{name: column.copy() for name, column in columns.items()},
        **{name: column.copy() for name, column in flags.items()},
        stops=None,
    )


def _entries(found: Outcomes, judged: JudgedSignals, rules: TradingRules, costs: FillCosts, bars: Bars) -> Flags:
    # When and at what price each entry fills; whether at the open of its bar.
    signals = judged.signals
    side, live = signals.side, signals.minute + costs.lag
    minute, there = _first_bar(bars, signals.cells, live, live + ENTRY_BARS)
    there &= (minute < bars.minutes - rules.exits.flatten_before_close) & (judged.verdicts.reasons == Reason.ALLOWED)
    at = (np.minimum(minute, bars.minutes - 1), *signals.cells)
    opened = _ticks(_at(bars, "open", at))
    if rules.entries.entry_order_type == OrderType.MARKET:
        at_open = filled = there
        paid = opened
    else:
        limit = found.limit
        at_open = there & price_grid.within_limit(opened, limit, side)
        extreme = _ticks(np.where(side > 0, _at(bars, "low", at), _at(bars, "high", at)))
        filled = at_open | (there & price_grid.traded_through(extreme, limit, side))
        paid = np.where(at_open, opened, limit)
    found.ended, found.filled = np.where(there, minute, live + ENTRY_BARS - 1), filled
    found.paid[filled] = paid[filled]
    found.entry_units = _units(bars, judged.symbols, (at, filled), costs)
    return at_open


def _exits(
    found: Outcomes, rows: Index, held: _Held, terms: tuple[ExitRules, TradingRules, FillCosts], bars: Bars
) -> None:
    # When, why and at what price each position is closed.
    shape, rules, costs = terms
    width = int((held.due - held.fill).max()) + 1
    window = held.fill[:, None] + np.arange(width)
    open_then = window <= held.due[:, None]
    at = (np.minimum(window, bars.minutes - 1), *(axis[:, None] for axis in held.cells))
    trailing, on_close = shape.trailing or rules.exits.trailing_stop, shape.trigger == "close"
    stops: Array = held.stop[:, None]
    if trailing:
        stops = _trail(found.price[rows], held, at, window < held.due[:, None], bars)
        found.stops = np.full((len(found.price), width), np.nan)
        found.stops[rows] = stops
    side = held.side[:, None]
    passes = "close" if on_close else None
    prices = bars.field(passes)[at] if passes else _by_side(bars, held.side > 0, ("low", "high"), at)
    hit = open_then & (side * (_ticks(prices) - stops) <= 0)
    placed, due = held.due, np.where(held.due + 1 >= bars.minutes - rules.exits.flatten_before_close, _END, _TIME)
    stopped = _first(hit, width)
    level = stops[np.arange(len(rows)), np.minimum(stopped, width - 1) if trailing else 0]
    why = np.where(level != held.stop, _TRAILING, _STOP)
    if on_close:
        early = held.fill + stopped < held.due
        placed, due = np.where(early, held.fill + stopped, held.due), np.where(early, why, due)
        stopped = np.full(len(rows), width)
    reached = _targets(held, (at, open_then & (window <= placed[:, None])), costs, bars)
    _close(found, rows, held, _Ways(placed, due, stopped, level, why, reached, on_close=on_close), (bars, costs))
    found.checked[rows] = _checked(rules, held.fill, found.exit_minute[rows], bars.minutes)


@attrs.frozen
class _Ways:
    # The ways in which positions may end: an exit order after `placed`, else the stop or the target in these columns.
    placed: Index
    due: Index
    stopped: Index
    level: Array
    why: Index
    reached: Index
    on_close: bool = attrs.field(kw_only=True)


def _close(found: Outcomes, rows: Index, held: _Held, ways: _Ways, market: tuple[Bars, FillCosts]) -> None:
    # The earliest of exit order, stop and target; within a bar the stop comes first.
    bars, costs = market
    columns = ways.placed - held.fill
    by_stop = (ways.stopped <= ways.reached) & (ways.stopped <= columns)
    by_target = ~by_stop & (ways.reached <= columns)
    minute, there = _first_bar(bars, held.cells, ways.placed + costs.lag, np.full(len(rows), bars.minutes))
    minute = np.where(by_stop, held.fill + ways.stopped, np.where(by_target, held.fill + ways.reached, minute))
    sold = by_stop | by_target | there
    at = (np.minimum(minute, bars.minutes - 1), *held.cells)
    opened, side = _ticks(_at(bars, "open", at)), held.side
    got = np.where(by_stop, side * np.minimum(side * ways.level, side * opened), opened)
    got = np.where(by_target, side * np.maximum(side * held.target, side * opened), got)
    if not sold.all():
        got[~sold] = _last_closes(bars, tuple(axis[~sold] for axis in held.cells))
        minute = np.where(sold, minute, bars.minutes)
    found.got[rows], found.exit_minute[rows] = got, minute
    found.slips[rows] = sold & ~by_target
    found.leg[rows] = leg = np.where(by_stop, _STOP_LEG, np.where(by_target, _TARGET_LEG, _EXIT_LEG))
    reason = np.where(by_stop, ways.why, np.where(by_target, _TARGET, ways.due))
    found.reason[rows] = np.where(sold, reason, _NO_MARKET)
    found.exit_units[rows] = _units(bars, bars.symbols, (at, sold), costs)
    found.exit_units[rows[~sold]] = _NO_LIMIT
    # Orders of one leg fill in the order in which they came to rest; an exit that cancels others comes to rest later.
    waits = (held.target > 0) | (not ways.on_close)
    rested = np.where(leg == _EXIT_LEG, 2 * ways.placed + waits, 2 * held.fill)
    found.key[rows] = (minute * 3 + leg) * 2 * (bars.minutes + 1) + rested
    found.worst[rows] = _worst_close(bars, held, minute)


def _trail(price: Index, held: _Held, at: tuple[Index, ...], stays: Flags, bars: Bars) -> Array:
    # The level of each trailing stop in each minute: the bar of a minute after which it `stays` moves it from then on.
    best = _ticks(_by_side(bars, held.side < 0, ("low", "high"), at))
    level: Array = held.stop.copy()
    extreme: Any = price.astype(np.float64)
    levels = np.empty(best.shape)
    for minute in range(best.shape[1]):
        levels[:, minute] = level
        seen = best[:, minute]
        extreme = held.side * np.fmax(held.side * extreme, held.side * seen)
        moved = price_grid.trailed_level(extreme, held.stop, price, held.side)
        steps = stays[:, minute] & ~np.isnan(seen) & price_grid.is_trail_step(held.side, level, moved)
        level = np.where(steps, moved, level)
    return levels


def _targets(held: _Held, seen: tuple[tuple[Index, ...], Flags], costs: FillCosts, bars: Bars) -> Index:
    # The column of the minute in which each target fills; the number of columns where it does not.
    at, working = seen
    if not held.target.any():
        return np.full(len(held.fill), working.shape[1])
    side, target = held.side[:, None], held.target[:, None]
    best = _ticks(_by_side(bars, held.side < 0, ("low", "high"), at))
    hit = price_grid.traded_through(best, target, -side) if costs.through else side * (best - target) >= 0
    hit &= working & (target > 0)
    hit[:, 0] &= held.at_open  # else the bar's extreme may come before the entry
    return _first(hit, working.shape[1])


def _checked(rules: TradingRules, fill: Index, closed: Index, minutes: int) -> Flags:
    # Whether positions are compared with their targets while each of them is open.
    if not rules.rebalance.rebalance_enabled:
        return np.zeros(len(fill), dtype=np.bool_)
    checks = np.cumsum([0, *(checks_positions(rules.rebalance, minute) for minute in range(minutes))])
    found: Flags = checks[np.minimum(closed, minutes)] > checks[fill]
    return found


def _time_exit(shape: ExitRules, fill: Index) -> Index:
    # The minute from which each exit order is sent by the plan's time.
    leave = np.full(len(fill), _NO_LIMIT if shape.leave is None else shape.leave)
    return leave if shape.hold is None else np.minimum(leave, fill + shape.hold)


def _first_bar(bars: Bars, cells: tuple[Index, ...], start: Index, stop: Index) -> tuple[Index, Flags]:
    # The first minute from `start` to before `stop` in which each row has a bar, and whether there is one.
    minute, stop, closes = start.copy(), np.minimum(stop, bars.minutes), bars.field("close")
    there = np.zeros(len(minute), dtype=np.bool_)
    waiting = np.flatnonzero(minute < stop)
    while len(waiting):
        bar = ~np.isnan(closes[(minute[waiting], *(axis[waiting] for axis in cells))])
        there[waiting[bar]] = True
        waiting = waiting[~bar]
        minute[waiting] += 1
        waiting = waiting[minute[waiting] < stop[waiting]]
    return minute, there


def _units(bars: Bars, symbols: tuple[str, ...], filled: tuple[tuple[Index, ...], Flags], costs: FillCosts) -> Index:
    # The most units that each row's bar fills; 0 where nothing is filled.
    at, fills = filled
    volume = np.where(fills, np.nan_to_num(_at(bars, "volume", at)), 0.0)
    free = np.zeros(len(symbols), dtype=np.bool_)
    if costs.uncapped:
        free |= [symbol in costs.uncapped for symbol in symbols]
    most = np.full(len(volume), _NO_LIMIT) if costs.share_cap is None else costs.share_of(volume.astype(np.int64))
    return np.where(volume > 0, np.where(free[at[-1]], _NO_LIMIT, most), 0)


def _worst_close(bars: Bars, held: _Held, closed: Index) -> Index:
    # The worst close for each position from its fill to the minute before it is closed; its fill's where there is none.
    last = np.minimum(closed, bars.minutes) - 1
    width = int((last - held.fill).max()) + 1
    if width <= 0:
        return np.where(held.side > 0, _NO_LIMIT, 0)
    window = held.fill[:, None] + np.arange(width)
    closes = _ticks(bars.field("close")[(np.minimum(window, bars.minutes - 1), *(one[:, None] for one in held.cells))])
    marks = np.where(window <= last[:, None], held.side[:, None] * closes, np.nan)
    worst = np.fmin.reduce(marks, axis=1, initial=float(_NO_LIMIT))
    return np.where(worst < _NO_LIMIT, held.side * worst, np.where(held.side > 0, _NO_LIMIT, 0)).astype(np.int64)


def _last_closes(bars: Bars, cells: tuple[Index, ...]) -> Array:
    closes = _ticks(_at(bars, "close", (slice(None), *cells)))
    known = ~np.isnan(closes)
    last = len(closes) - 1 - np.argmax(known[::-1], axis=0)
    found: Array = closes[last, np.arange(closes.shape[1])]
    return found


def _by_side(bars: Bars, first: Flags, names: tuple[str, str], at: tuple[Index, ...]) -> Array:
    # The first named field for the flagged rows, the second for the others.
    if first.all() or not first.any():
        field: Array = bars.field(names[0] if first.all() else names[1])[at]
        return field
    return np.where(first[:, None], bars.field(names[0])[at], bars.field(names[1])[at])


def _first(hit: Flags, beyond: int) -> Index:
    # The first column of each row that is true; `beyond` where none is.
    return np.where(hit.any(axis=1), hit.argmax(axis=1), beyond)


def _at(bars: Bars, name: str, at: Any) -> Array:
    found: Array = bars.field(name)[at]
    return found


def _ticks(prices: Any) -> Array:
    found: Array = np.rint(prices * TICKS_PER_DOLLAR)
    return found
