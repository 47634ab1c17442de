"""Indicators of daily or minute bars: causal, vectorised, and equal in every memory layout.

Arrays have time as their last axis, oldest first, as `DailyBars` and `Bars` have it; results have the same shape. A
value depends on none that is later. `length` is a number of days or minutes, at least 1; ValueError for another.

NaN is unknown: what needs an unknown value is unknown, and a mean over all of the past begins anew after it. Where a
minute without a bar shall count with the last price, apply `carried` first.

The formulas are those of Wilder, New Concepts in Technical Trading Systems (1978), for `rsi` and `average_true_range`;
the first value of each mean over all of the past is the plain mean of the first `length` values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tbot_core.model.bars import Array

_PERCENT = 100.0


def mean(values: Array, length: int) -> Array:
    """The plain mean of the last `length` values."""
    total = _shifted(values, _checked(length) - 1)
    for lag in range(length - 2, -1, -1):
        total += _shifted(values, lag)
    return total / length


def exponential_mean(values: Array, length: int) -> Array:
    """The mean of all values in which each counts (length - 1) / (length + 1) times the next one."""
    return _smoothed(values, _checked(length), 2.0 / (length + 1))


def highest(values: Array, length: int) -> Array:
    """The largest of the last `length` values."""
    found = _shifted(values, _checked(length) - 1)
    for lag in range(length - 1):
        np.maximum(found, _shifted(values, lag), out=found)
    return found


def lowest(values: Array, length: int) -> Array:
    """The smallest of the last `length` values."""
    return -highest(-values, length)


def rsi(close: Array, length: int = 14) -> Array:
    """The relative strength index, 0 to 100: the share of rises in all moves; 50 where nothing moved."""
    moves = close - _shifted(close, 1)
    rises = _smoothed(np.maximum(moves, 0.0), _checked(length), 1.0 / length)
    falls = _smoothed(np.maximum(-moves, 0.0), length, 1.0 / length)
    both = rises + falls
    share: Array = np.divide(rises, both, out=np.where(np.isnan(both), np.nan, 0.5), where=both > 0)
    return _PERCENT * share


def true_range(high: Array, low: Array, close: Array) -> Array:
    """The range of each bar, widened to the close before it, in dollars."""
    before = _shifted(close, 1)
    return np.maximum(high, before) - np.minimum(low, before)


def average_true_range(high: Array, low: Array, close: Array, length: int = 14) -> Array:
    """The mean of true ranges, in which each counts (length - 1) / length times the next one, in dollars."""
    return _smoothed(true_range(high, low, close), _checked(length), 1.0 / length)


def carried(values: Array) -> Array:
    """Each value, or the last known one before it."""
    at = np.where(np.isnan(values), 0, np.arange(values.shape[-1]))
    found: Array = np.take_along_axis(values, np.maximum.accumulate(at, axis=-1), axis=-1)
    return found


def _checked(length: int) -> int:
    if length < 1:
        message = f"An indicator of length {length}: the least is 1."
        raise ValueError(message)
    return length


def _shifted(values: Array, lag: int) -> Array:
    # The values of `lag` places before.
    moved = np.full(values.shape, np.nan)
    moved[..., lag:] = values[..., : max(0, values.shape[-1] - lag)]
    return moved


def _smoothed(values: Array, length: int, weight: float) -> Array:
    # The plain mean of the first `length` known values in a row; then each moves it by `weight` of the difference.
    found = np.full(values.shape, np.nan)
    level, total, count = (np.full(values.shape[:-1], start) for start in (np.nan, 0.0, 0.0))
    for place in range(values.shape[-1]):
        value = values[..., place]
        known = ~np.isnan(value)
        count = np.where(known, count + 1, 0)
        total = np.where(known, total + value, 0.0)
        first = np.where(count == length, total / length, np.nan)
        level = np.where(count > length, level + (value - level) * weight, first)
        found[..., place] = level
    return found
