"""What becomes of signals once they are entered, for all of a block at once: fills, exits, and the worst mark between.

Levels hang on market prices, never on fills, so that neither quantity nor slippage changes when an order fills. The
rules are those of the matching engine and of exit plans; a whole order fills in one bar, else the session is walked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs
import numpy as np

from tbot_core.model.bars import Array, Bars, Flags, Index
from tbot_core.model.types import TICKS_PER_DOLLAR, ExitReason, Leg, OrderType
from tbot_core.trading import price_grid
from tbot_core.trading.matching import ENTRY_BARS
from tbot_core.trading.positions.rebalance_rules import checks_positions
from tbot_core.trading.verdicts import ALLOWED_CODE

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
_FLAGS: Final = ("filled", "slips")
_LATER: Final = (
    "ended",
    "paid",
    "exit_minute",
    "got",
    "leg",
    "reason",
    "units",
    "worst",
    "key",
    "check_low",
    "check_high",
)

LEGS: Final = (Leg.EXIT, Leg.STOP, Leg.TARGET)
"""The legs that close a position, in the order in which they fill within a minute."""

_EXIT_LEG, _STOP_LEG, _TARGET_LEG = range(3)


@attrs.define(kw_only=True, eq=False)
class Outcomes:
    """The outcome of each signal if it is entered: prices in ticks before slippage, shape (signals).

    `price` is the signal bar's close, `limit` the entry's limit or, at the market, its worst price. `ended` is the
    minute in which the entry ends at the venue, `filled` whether it fills then, at `paid`. `exit_minute` is that of the
    closing fill at `got`, the session's length for one at the last known close; `slips`: it is a market order's;
    `leg` is its number in `LEGS`, `reason` that in `REASONS`. `units`: the most that both bars fill. `worst` is the
    worst close while it is held. `key` orders closing fills of a session. `check_low` and `check_high` are the extreme
    closes at which rebalancing checks it; 0 without a check. `stops` are the levels of trailing stops from the fill on,
    (minutes, signals); None without.
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
    units: Index
    worst: Index
    key: Index
    check_low: Index
    check_high: Index
    stops: Array | None


OUTCOMES: Final = tuple(field.name for field in attrs.fields(Outcomes) if field.name != "stops")
"""The columns of a value per signal."""


@attrs.frozen(kw_only=True, eq=False)
class _Held:
    # The entries that fill, as columns: cells, side, fill minute, levels, the last minute of the plan's time.
    cells: tuple[Index, ...]
    side: Index
    fill: Index
    due: Index
    stop: Array
    target: Array
    at_open: Flags

    def window(self, bars: Bars) -> tuple[Index, Index]:
        """The minutes from each fill to the last plan's end, (minutes, signals), and the places of their bars."""
        minutes = self.fill + np.arange(int((self.due - self.fill).max()) + 1)[:, None]
        return minutes, _places(bars, minutes, self.cells)


class _Terms(NamedTuple):
    # What a strategy's positions end by: its own exit rules, those of the settings, the venue's costs, and the bars.
    exits: ExitRules
    rules: TradingRules
    costs: FillCosts
    bars: Bars


def resolve(judged: JudgedSignals, rules: TradingRules, costs: FillCosts, bars: Bars) -> Outcomes:
    """The outcomes of a strategy's signals; those that a check denied have none that counts."""
    signals, last = judged.signals, bars.minutes - rules.exits.flatten_before_close
    outcomes = _planned(judged, rules)
    entry = _entries(outcomes, judged, rules, costs, bars)
    rows = np.flatnonzero(outcomes.filled)
    if not len(rows):
        return outcomes
    fill = outcomes.ended[rows]
    held = _Held(
        cells=tuple(axis[rows] for axis in signals.cells),
        side=signals.side[rows],
        fill=fill,
        due=np.maximum(fill, np.minimum(_time_exit(signals.exits, fill), last) - 1),
        stop=outcomes.stop[rows].astype(np.float64),
        target=outcomes.target[rows].astype(np.float64),
        at_open=entry[rows],
    )
    _exits(outcomes, rows, held, _Terms(signals.exits, rules, costs, bars))
    return outcomes


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
    aims, aimed = np.zeros(count, dtype=np.int64), ~np.isnan(target)
    if aimed.any():
        aims[aimed] = price_grid.grid_level(target[aimed] * TICKS_PER_DOLLAR, side[aimed])
    if rules.entries.entry_order_type == OrderType.MARKET:
        limit = price_grid.band_level(price, float(rules.risk.price_band_pct))
    else:
        limit = price_grid.limit_level(price, side, float(rules.entries.entry_limit_pct))
    later: dict[str, Any] = dict(zip(_LATER, np.zeros((len(_LATER), count), dtype=np.int64), strict=True))
    later |= zip(_FLAGS, np.zeros((len(_FLAGS), count), dtype=np.bool_), strict=True)
    return Outcomes(
        price=price,
        limit=limit.astype(np.int64),
        stop=price_grid.grid_level(stop * TICKS_PER_DOLLAR, side).astype(np.int64),
        target=aims,
        **later,
        stops=None,
    )


def _entries(found: Outcomes, judged: JudgedSignals, rules: TradingRules, costs: FillCosts, bars: Bars) -> Flags:
    # When and at what price each entry fills; whether at the open of its bar.
    signals = judged.signals
    side, live = signals.side, signals.minute + costs.lag + costs.entry_delay
    minute, there = _first_bar(bars, signals.cells, live, live + ENTRY_BARS)
    there &= (minute < bars.minutes - rules.exits.flatten_before_close) & (judged.verdicts.reasons == ALLOWED_CODE)
    at = _places(bars, minute, signals.cells)
    opened = _ticks(_at(bars, "open", at))
    if rules.entries.entry_order_type == OrderType.MARKET:
        at_open = filled = there
        paid = opened
    else:
        limit = found.limit
        at_open = there & price_grid.within_limit(opened, limit, side)
        extreme = _ticks(_by_side(bars, side > 0, ("low", "high"), at))
        filled = at_open | (there & price_grid.traded_through(extreme, limit, side))
        paid = np.where(at_open, opened, limit)
    found.ended, found.filled = np.where(there, minute, live + ENTRY_BARS - 1), filled
    found.paid[filled] = paid[filled]
    found.units = _units(bars, at, costs, signals.cells[-1])
    return at_open


def _exits(found: Outcomes, rows: Index, held: _Held, terms: _Terms) -> None:
    # When, why and at what price each position is closed.
    shape, rules, costs, bars = terms
    minutes, at = held.window(bars)
    open_then, width = minutes <= held.due, len(minutes)
    stops: Array = held.stop[None]
    if shape.trailing or rules.exits.trailing_stop:
        stops = _trail(found.price[rows], held, at, minutes < held.due, bars)
        found.stops = np.full((width, len(found.price)), np.nan)
        found.stops[:, rows] = stops
    closes, on_close = _ticks(_at(bars, "close", at)), shape.trigger == "close"
    prices = closes if on_close else _ticks(_by_side(bars, held.side > 0, ("low", "high"), at))
    stopped = _first(open_then & (held.side * (prices - stops) <= 0))
    level = np.take_along_axis(stops, np.minimum(stopped, len(stops) - 1)[None], axis=0)[0]
    ends = held.due + 1 >= bars.minutes - rules.exits.flatten_before_close
    placed, due, why = held.due, np.where(ends, _END, _TIME), np.where(level != held.stop, _TRAILING, _STOP)
    if on_close:
        early = held.fill + stopped < held.due
        placed, due = np.where(early, held.fill + stopped, held.due), np.where(early, why, due)
        stopped = np.full(len(rows), width)
    reached = _targets(held, at, open_then & (minutes <= placed), costs, bars)
    ways = _Ways(placed, due, stopped, level, why, reached, on_close=on_close)
    _close(found, rows, held, ways, terms)
    closed = found.exit_minute[rows]
    _check(found, rows, held, closed, terms)
    found.worst[rows] = _worst_close(held, closed, minutes, closes, bars)


@attrs.frozen
class _Ways:
    # The ways in which positions may end: an exit order after `placed`, else the stop or the target so many minutes
    # after the fill.
    placed: Index
    due: Index
    stopped: Index
    level: Array
    why: Index
    reached: Index
    on_close: bool = attrs.field(kw_only=True)


def _close(found: Outcomes, rows: Index, held: _Held, ways: _Ways, terms: _Terms) -> None:
    # The earliest of exit order, stop and target; within a bar the stop comes first.
    bars, costs = terms.bars, terms.costs
    waited = ways.placed - held.fill
    by_stop = (ways.stopped <= ways.reached) & (ways.stopped <= waited)
    by_target = ~by_stop & (ways.reached <= waited)
    minute, there = _first_bar(bars, held.cells, ways.placed + costs.lag, np.full(len(rows), bars.minutes))
    minute = np.where(by_stop, held.fill + ways.stopped, np.where(by_target, held.fill + ways.reached, minute))
    sold = by_stop | by_target | there
    at = _places(bars, minute, held.cells)
    opened, side = _ticks(_at(bars, "open", at)), held.side
    got = np.where(by_stop, side * np.minimum(side * ways.level, side * opened), opened)
    got = np.where(by_target, side * np.maximum(side * held.target, side * opened), got)
    if not sold.all():
        got[~sold] = _last_closes(bars, tuple(axis[~sold] for axis in held.cells))
        minute = np.where(sold, minute, bars.minutes)
    leg = np.where(by_stop, _STOP_LEG, np.where(by_target, _TARGET_LEG, _EXIT_LEG))
    reason = np.where(by_stop, ways.why, np.where(by_target, _TARGET, ways.due))
    found.got[rows], found.exit_minute[rows], found.leg[rows] = got, minute, leg
    found.slips[rows], found.reason[rows] = sold & ~by_target, np.where(sold, reason, _NO_MARKET)
    filled = np.where(sold, _units(bars, at, costs, held.cells[-1]), _NO_LIMIT)
    found.units[rows] = np.minimum(found.units[rows], filled)
    # Orders of one leg fill in the order in which they came to rest; an exit that cancels others comes to rest later.
    waits = (held.target > 0) | (not ways.on_close)
    rested = np.where(leg == _EXIT_LEG, 2 * ways.placed + waits, 2 * held.fill)
    found.key[rows] = (minute * len(LEGS) + leg) * 2 * (bars.minutes + 1) + rested


def _trail(price: Index, held: _Held, at: Index, stays: Flags, bars: Bars) -> Array:
    # The level of each trailing stop in each minute: the bar of a minute after which it `stays` moves it from then on.
    best = _ticks(_by_side(bars, held.side < 0, ("low", "high"), at))
    level: Array = held.stop.copy()
    extreme: Any = price.astype(np.float64)
    levels = np.empty(best.shape)
    for minute, seen in enumerate(best):
        levels[minute] = level
        extreme = held.side * np.fmax(held.side * extreme, held.side * seen)
        moved = price_grid.trailed_level(extreme, held.stop, price, held.side)
        steps = stays[minute] & ~np.isnan(seen) & price_grid.is_trail_step(held.side, level, moved)
        level = np.where(steps, moved, level)
    return levels


def _targets(held: _Held, at: Index, works: Flags, costs: FillCosts, bars: Bars) -> Index:
    # How many minutes after the fill each target fills; the number of minutes where it does not.
    if not held.target.any():
        return np.full(len(held.fill), len(works))
    best = _ticks(_by_side(bars, held.side < 0, ("low", "high"), at))
    if costs.through:
        hit = price_grid.traded_through(best, held.target, -held.side)
    else:
        hit = held.side * (best - held.target) >= 0
    hit &= works & (held.target > 0)
    hit[0] &= held.at_open  # else the bar's extreme may come before the entry
    return _first(hit)


def _check(found: Outcomes, rows: Index, held: _Held, closed: Index, terms: _Terms) -> None:
    # The closes at which positions are compared with their targets while each of them is open.
    rules, bars = terms.rules, terms.bars
    checks = np.flatnonzero(checks_positions(rules.rebalance, np.arange(bars.minutes)))[:, None]
    during = (checks >= held.fill) & (checks < closed)
    if not during.any():
        return
    closes = np.where(during, _ticks(_at(bars, "close", _places(bars, checks, held.cells))), np.nan)
    found.check_low[rows] = np.nan_to_num(np.fmin.reduce(closes, axis=0))
    found.check_high[rows] = np.nan_to_num(np.fmax.reduce(closes, axis=0))


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


def _units(bars: Bars, at: Index, costs: FillCosts, rows: Index) -> Index:
    # The most units that each bar fills; 0 without one.
    volume = _at(bars, "volume", at)
    if costs.share_cap is None:
        return np.where(volume > 0, _NO_LIMIT, 0)
    most: Index = costs.share_of(np.nan_to_num(volume).astype(np.int64))
    if costs.uncapped:
        free = np.array([symbol in costs.uncapped for symbol in bars.symbols])
        most = np.where(free[rows] & (volume > 0), _NO_LIMIT, most)
    return most


def _worst_close(held: _Held, closed: Index, minutes: Index, closes: Array, bars: Bars) -> Index:
    # The worst close of each position in the minutes at whose end it is held; one that loses nothing where none is.
    worst = np.fmin.reduce(np.where(minutes < closed, held.side * closes, np.nan), axis=0, initial=float(_NO_LIMIT))
    for row in np.flatnonzero(closed - 1 > held.due):  # its exit waits for a bar
        late = _ticks(bars.field("close")[(slice(held.due[row], closed[row]), *(axis[row] for axis in held.cells))])
        worst[row] = np.fmin.reduce(held.side[row] * late, initial=worst[row])
    return np.where(worst < _NO_LIMIT, held.side * worst, np.where(held.side > 0, _NO_LIMIT, 0)).astype(np.int64)


def _last_closes(bars: Bars, cells: tuple[Index, ...]) -> Array:
    column: Any = bars.field("close")
    closes = _ticks(column[(slice(None), *cells)])
    known = ~np.isnan(closes)
    last = len(closes) - 1 - np.argmax(known[::-1], axis=0)
    found: Array = closes[last, np.arange(closes.shape[1])]
    return found


def _by_side(bars: Bars, first: Flags, names: tuple[str, str], at: Index) -> Array:
    # The first named field for the flagged signals, the second for the others.
    if first.all():
        return _at(bars, names[0], at)
    return np.where(first, _at(bars, names[0], at), _at(bars, names[1], at)) if first.any() else _at(bars, names[1], at)


def _first(hit: Flags) -> Index:
    # The first minute of each signal that is true; the number of minutes where none is.
    return np.where(hit.any(axis=0), hit.argmax(axis=0), len(hit))


def _places(bars: Bars, minutes: Index, cells: tuple[Index, ...]) -> Index:
    # The places of bars in a field that is read as one row, where a gather costs a third of one by several axes; those
    # of the last minute for minutes after it.
    found = np.minimum(minutes, bars.minutes - 1)
    for axis, size in zip(cells, bars.field("close").shape[1:], strict=True):
        found = found * size + axis
    return found


def _at(bars: Bars, name: str, at: Index) -> Array:
    return bars.field(name).reshape(-1).take(at)


def _ticks(prices: Any) -> Array:
    found: Array = np.rint(prices * TICKS_PER_DOLLAR)
    return found
