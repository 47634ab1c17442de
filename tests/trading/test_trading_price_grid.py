"""The rules of prices give the same for one price and for arrays, and what exact decimals give."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tbot_core.trading import price_grid

TICKS = st.integers(1, 10_000_000_000)
SIDES = st.sampled_from([1, -1])
FRACTIONS = st.integers(0, 9_999).map(lambda parts: parts / 10_000)


def alike(rule: Any, *rows: tuple[float, ...]) -> list[Any]:
    """The rule's results for each row alone, which equal those for all rows as arrays."""
    alone = [rule(*row) for row in rows]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    assert rule(*columns).tolist() == alone
    return alone


@hypothesis.given(st.lists(st.tuples(TICKS, TICKS, TICKS, SIDES, FRACTIONS), min_size=1, max_size=9))
def test_each_rule_gives_the_same_for_one_price_and_for_arrays(rows: list[tuple[int, int, int, int, float]]) -> None:
    """Bit for bit: the gear that works on arrays and the machine that works on one order have one rule."""
    alike(price_grid.tick_of, *((one,) for one, *_ in rows))
    alike(price_grid.grid_level, *((one + part, side) for one, _, _, side, part in rows))
    alike(price_grid.within_limit, *((one, two, side) for one, two, _, side, _ in rows))
    alike(price_grid.traded_through, *((one, two, side) for one, two, _, side, _ in rows))
    alike(price_grid.trailed_level, *((one, two, three, side) for one, two, three, side, _ in rows))
    alike(price_grid.is_trail_step, *((side, one, two) for one, two, _, side, _ in rows))
    alike(price_grid.limit_level, *((one, side, part) for one, _, _, side, part in rows))
    alike(price_grid.band_level, *((one, part) for one, _, _, _, part in rows))
    alike(price_grid.default_stop, *((one / 10_000, side, part) for one, _, _, side, part in rows))
    alike(price_grid.target_at, *((one / 10_000, two / 10_000, side, 10 * part) for one, two, _, side, part in rows))


@hypothesis.given(TICKS, SIDES, st.integers(0, 9_999), st.sampled_from([0, 1, 50, 500]))
def test_a_limit_is_that_of_exact_decimals(ticks: int, side: int, parts: int, grid: int) -> None:
    """A binary tail never moves a limit by a step of the grid."""
    exact = ticks * (1 + side * Decimal(parts) / 10_000)
    step = max(100 if exact >= 10_000 else 1, grid)
    rounded = math.floor(exact / step) if side > 0 else math.ceil(exact / step)
    assert price_grid.limit_level(ticks, side, parts / 10_000, grid) == max(1, rounded) * step


@pytest.mark.parametrize(
    ("side", "extreme", "through"),
    [(1, 999_900, True), (1, 999_901, False), (1, 9_999, True), (-1, 1_000_100, True), (-1, 1_000_099, False)],
)
def test_a_tick_beyond_the_limit_is_through_it(side: int, extreme: int, through: bool) -> None:
    """One tick of the grid on that side: a cent from 1 USD up, 0.0001 USD below."""
    limit = 10_000 if extreme < 10_000 else 1_000_000
    assert price_grid.traded_through(extreme, limit, side) is through
