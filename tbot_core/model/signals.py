"""Signals of a strategy, as columns with one row per signal, and the search that finds them.

A strategy defines `Trigger`s over the minutes of its entry phase; `first_hits` finds the first minute of each row
in which one fires. The same triggers explain a minute (`tbot why`) and measure near misses.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np

from tbot_core.model.bars import Array, Flags, Index, Running
from tbot_core.model.exit_rules import ExitRules

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = [
    "Condition",
    "ExitRules",
    "Signals",
    "Trigger",
    "TriggerHits",
    "first_hits",
    "price_level",
]


def price_level(price: Array, factor: float | Array) -> Array:
    """`price` x `factor` on a grid of 1e-8 dollars, so that comparisons match exact decimal arithmetic.

    Prices of 4 decimals times factors of 4 decimals are exact on it; a plain float product is off by its last bit.
    """
    product: Array = np.round(price * factor, 8)
    return product


@attrs.frozen(kw_only=True, eq=False)
class Condition:
    """A comparison by name: `value` above `level`, else below it; `inclusive`: also when equal.

    `value` and `level` broadcast to (..., symbols, minutes of the phase so far).
    """

    name: str
    value: Array
    level: Array
    above: bool
    inclusive: bool = False

    def holds(self) -> Flags:
        """The cells in which it holds; never where a value is unknown."""
        return _compare(self)


@attrs.frozen(kw_only=True, eq=False)
class Trigger:
    """A rule that gives a signal: `value` at or beyond `level` in a minute of the entry phase, and all of `when`.

    `value` and `level` broadcast to (..., symbols, minutes of the phase so far). `above`: fires above the level,
    else below it; `inclusive`: also when equal. `scale` turns the distance beyond the level into the relative strength
    that orders signals of one minute; None: the level itself.

    `base` is the price from which the level is measured: an array of the same shape, such as the high of the opening
    range, or the name of a running column of `Bars`, such as "vwap". A chart shows it as `base_name`. None: no such.
    """

    rule: str
    side: Literal[1, -1]
    value: Array
    level: Array
    above: bool
    inclusive: bool = False
    when: tuple[Condition, ...] = ()
    scale: Array | None = None
    base: Array | Running | None = None
    base_name: str = ""

    def fires(self) -> Flags:
        """The cells in which the rule holds; never where a value is unknown."""
        held = _compare(self)
        for condition in self.when:
            held = held & condition.holds()
        return held

    def beyond(self) -> Array:
        """The relative distance of the value beyond the level, negative before it is reached; same shape as `fires`."""
        return _distance(self.value, self.level, self.scale, above=self.above)


@attrs.frozen(kw_only=True, eq=False)
class Signals:
    """Signals as columns, one row each, in any order; the engine sorts.

    `cells`: an index for each leading axis of the bars, the symbol last. `minute`: of the signal bar. `side`: +1 long,
    -1 short. `price`: that bar's close. `strength`: relative distance beyond the trigger. `stop` and `target`: market
    prices, NaN = none. `rule`: position in `rules` of the trigger that fired.
    """

    cells: tuple[Index, ...]
    minute: Index
    side: Index
    price: Array
    strength: Array
    stop: Array
    target: Array
    rule: Index
    rules: tuple[str, ...]
    exits: ExitRules

    def __len__(self) -> int:
        """The number of signals."""
        return len(self.minute)

    def take(self, rows: Index | Flags) -> Signals:
        """The chosen rows."""
        columns = {name: getattr(self, name)[rows] for name in _COLUMNS}
        cells = tuple([axis[rows] for axis in self.cells])
        return Signals(cells=cells, rules=self.rules, exits=self.exits, **columns)


_COLUMNS = ("minute", "side", "price", "strength", "stop", "target", "rule")


@attrs.frozen(kw_only=True, eq=False)
class TriggerHits:
    """The first firing minute of each row that has one; a strategy adds prices and makes `Signals` of it."""

    cells: tuple[Index, ...]
    minute: Index
    side: Index
    strength: Array
    rule: Index
    rules: tuple[str, ...]

    def at(self, column: Array) -> Array:
        """The value of a (..., symbols, minutes) array in each hit's row and minute."""
        found: Array = column[(*self.cells, self.minute)]
        return found

    def row(self, value: Array) -> Array:
        """The value of a (..., symbols) array in each hit's row; leading axes that it lacks are broadcast."""
        found: Array = value[self.cells[-value.ndim :]]
        return found

    def pick(self, long: Array, short: Array) -> Array:
        """By side: the row's value of `long` for a long hit, of `short` for a short one; both (..., symbols)."""
        return np.where(self.side > 0, long[self.cells], short[self.cells])

    def nearer(self, one: Array, other: Array) -> Array:
        """The stop (per hit) that is nearer to the price; an unknown one is ignored."""
        return np.where(self.side > 0, np.fmax(one, other), np.fmin(one, other))

    def stop_at(self, price: Array, fraction: float, distance: Array | None = None) -> Array:
        """The stop (per hit) at that fraction of the price from it, on the losing side.

        `distance` (per hit, dollars) is used instead where it is known, positive and smaller than the price.
        """
        losing = -self.side.astype(np.float64)
        stop = price_level(price, 1 + losing * fraction)
        if distance is None:
            return stop
        return np.where((distance > 0) & (distance < price), price_level(price + losing * distance, 1), stop)

    def signals(
        self, price: Array, exits: ExitRules, *, stop: Array, target: Array | None = None, since: int = 0
    ) -> Signals:
        """The signals of minutes from `since` on; prices per hit, in dollars."""
        whole = Signals(
            cells=self.cells,
            minute=self.minute,
            side=self.side,
            price=price,
            strength=self.strength,
            stop=stop,
            target=np.full(len(price), np.nan) if target is None else target,
            rule=self.rule,
            rules=self.rules,
            exits=exits,
        )
        return whole.take(self.minute >= since) if since else whole


def first_hits(triggers: Sequence[Trigger], entry: int) -> TriggerHits:
    """The first minute of each row in which a trigger fires; within one minute the earlier trigger of the list wins.

    `entry` is the minute after the open of the phase's first column. An empty phase gives no hits.
    """
    fired = [trigger.fires() for trigger in triggers]
    somewhere = reduce(np.logical_or, fired)
    cells = np.nonzero(somewhere.any(axis=-1))
    # Most scans find nothing, and an empty phase has no column to look for.
    column = somewhere[cells].argmax(axis=-1) if len(cells[0]) else np.empty(0, dtype=np.intp)
    chosen = np.zeros(len(column), dtype=np.intp)
    strength = np.zeros(len(column))
    if len(column):
        at = (*cells, column)
        for position in reversed(range(len(triggers))):
            chosen = np.where(fired[position][at], position, chosen)
        for position, trigger in enumerate(triggers):
            mine = chosen == position
            if mine.any():
                strength[mine] = _beyond_at(trigger, tuple(axis[mine] for axis in at), somewhere.shape)
    sides = np.array([trigger.side for trigger in triggers], dtype=np.intp)
    return TriggerHits(
        cells=cells,
        minute=column + entry,
        side=sides[chosen],
        strength=strength,
        rule=chosen,
        rules=tuple(trigger.rule for trigger in triggers),
    )


def _compare(one: Condition | Trigger) -> Flags:
    match one.above, one.inclusive:
        case True, False:
            return one.value > one.level
        case True, True:
            return one.value >= one.level
        case False, False:
            return one.value < one.level
        case _:
            return one.value <= one.level


def _distance(value: Array, level: Array, scale: Array | None, *, above: bool) -> Array:
    away = value - level if above else level - value
    with np.errstate(divide="ignore", invalid="ignore"):
        distance: Array = away / (level if scale is None else scale)
    return distance


def _beyond_at(trigger: Trigger, at: tuple[Index, ...], shape: tuple[int, ...]) -> Array:
    def cell(values: Array) -> Array:
        found: Array = (values if values.shape == shape else np.broadcast_to(values, shape))[at]
        return found

    scale = None if trigger.scale is None else cell(trigger.scale)
    return _distance(cell(trigger.value), cell(trigger.level), scale, above=trigger.above)
