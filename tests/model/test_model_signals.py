"""Triggers, the search for the first one, and signals as columns."""

from __future__ import annotations

from decimal import Decimal

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.model.signals import Condition, ExitRules, Trigger, first_hits, price_level

NAN = float("nan")
VALUES = np.array([[1.0, 2.0, 3.0, NAN]])


@given(ticks=st.integers(1, 10**9), factor=st.integers(0, 40_000))
def test_a_level_is_what_pencil_and_paper_say(ticks: int, factor: int) -> None:
    """Prices of 4 decimals times factors of 4 decimals are the float nearest to the exact product."""
    exact = Decimal(ticks).scaleb(-4) * Decimal(factor).scaleb(-4)
    assert price_level(np.array([ticks / 10_000]), factor / 10_000).tolist() == [float(exact)]


@pytest.mark.parametrize(
    ("above", "inclusive", "fires"),
    [
        (True, False, [False, False, True, False]),
        (True, True, [False, True, True, False]),
        (False, False, [True, False, False, False]),
        (False, True, [True, True, False, False]),
    ],
)
def test_a_comparison_never_holds_for_the_unknown(above: bool, inclusive: bool, fires: list[bool]) -> None:
    """Each of the four comparisons at its edge, as trigger and as condition; NaN is neither side."""
    two = np.array([[2.0]])
    trigger = Trigger(rule="x", side=1, value=VALUES, level=two, above=above, inclusive=inclusive)
    condition = Condition(name="x", value=VALUES, level=two, above=above, inclusive=inclusive)
    assert trigger.fires().tolist() == [fires]
    assert condition.holds().tolist() == [fires]


def test_every_condition_must_hold() -> None:
    """A trigger with conditions fires where all of them hold."""
    low = Condition(name="low", value=VALUES, level=np.array([[1.5]]), above=True)
    high = Condition(name="high", value=VALUES, level=np.array([[2.5]]), above=False)
    trigger = Trigger(rule="x", side=1, value=VALUES, level=np.array([[0.0]]), above=True, when=(low, high))
    assert trigger.fires().tolist() == [[False, True, False, False]]


def test_distance_is_relative_to_the_level_or_the_scale() -> None:
    """Beyond is positive, short of it negative, on either side; a scale of nothing gives no finite number, no error."""
    one = Trigger(rule="x", side=1, value=VALUES, level=np.array([[2.0]]), above=True)
    other = Trigger(rule="x", side=-1, value=VALUES, level=np.array([[2.0]]), above=False, scale=np.array([[4.0]]))
    assert one.beyond()[0, :3].tolist() == [-0.5, 0.0, 0.5]
    assert other.beyond()[0, :3].tolist() == [0.25, 0.0, -0.25]
    assert not np.isfinite(attrs.evolve(one, scale=np.array([[0.0]])).beyond()).any()


def _long(values: np.ndarray, rule: str = "long") -> Trigger:
    return Trigger(rule=rule, side=1, value=values, level=np.full((*values.shape[:-1], 1), 2.0), above=True)


def _short(values: np.ndarray) -> Trigger:
    return Trigger(rule="short", side=-1, value=values, level=np.full((*values.shape[:-1], 1), 1.0), above=False)


def test_the_first_minute_of_each_row_counts() -> None:
    """One hit a row at most, in its first firing minute, which counts from the phase's entry."""
    values = np.array([[1.5, 3.0, 4.0], [1.5, 1.5, 1.5], [1.5, NAN, 0.5]])
    hits = first_hits((_long(values), _short(values)), 20)
    assert (hits.cells[0].tolist(), hits.minute.tolist(), hits.side.tolist()) == ([0, 2], [21, 22], [1, -1])
    assert hits.strength.tolist() == [0.5, 0.5]
    assert [hits.rules[rule] for rule in hits.rule] == ["long", "short"]


def test_the_earlier_trigger_of_the_list_wins_within_a_minute() -> None:
    """Of several that fire at once the first listed gives side, rule and strength."""
    values = np.array([[3.0]])
    hits = first_hits((_short(values), _long(values, "one"), _long(values, "two")), 0)
    assert (hits.rule.tolist(), hits.rules) == ([1], ("short", "one", "two"))


def test_blocks_have_a_cell_for_each_leading_axis() -> None:
    """In a block a hit names its session and its symbol; levels of one number a row broadcast."""
    values = np.full((2, 3, 4), 1.5)
    values[1, 2, 3] = 3.0
    hits = first_hits((_long(values),), 10)
    assert [axis.tolist() for axis in hits.cells] == [[1], [2]]
    assert hits.minute.tolist() == [13]


@pytest.mark.parametrize("shape", [(3, 0), (2, 3, 0), (0, 5)])
def test_an_empty_phase_gives_no_hits(shape: tuple[int, ...]) -> None:
    """Without minutes or rows there is nothing, in as many cells as there are axes."""
    hits = first_hits((_long(np.empty(shape)),), 20)
    assert len(hits.minute) == 0
    assert len(hits.cells) == len(shape) - 1
    assert len(hits.signals(hits.strength, ExitRules(), stop=hits.strength)) == 0


def test_hits_read_their_rows() -> None:
    """Columns by cell and minute, values by row, by side, and the stop nearer to the price."""
    values = np.array([[3.0, 1.5], [1.5, 0.5]])
    hits = first_hits((_long(values), _short(values)), 0)
    low, high = np.array([10.0, 20.0]), np.array([30.0, 40.0])
    assert hits.at(values).tolist() == [3.0, 0.5]
    assert hits.row(low).tolist() == [10.0, 20.0]
    assert hits.pick(low, high).tolist() == [10.0, 40.0]
    assert hits.nearer(np.array([9.0, 41.0]), np.array([8.0, NAN])).tolist() == [9.0, 41.0]
    assert hits.nearer(np.array([NAN, 41.0]), np.array([8.0, 40.0])).tolist() == [8.0, 40.0]
    assert hits.stop_at(np.array([100.0, 100.0]), 0.02).tolist() == [98.0, 102.0]


def test_signals_are_taken_by_row_and_since() -> None:
    """Every column follows the chosen rows; `since` leaves earlier minutes out; no target is NaN."""
    values = np.array([[3.0, 1.5], [1.5, 0.5]])
    hits = first_hits((_long(values), _short(values)), 20)
    price = hits.at(np.moveaxis(np.zeros((22, 2)), 0, -1))
    whole = hits.signals(price, ExitRules(hold=3), stop=price - 1)
    late = hits.signals(price, ExitRules(hold=3), stop=price - 1, target=price + 1, since=21)
    assert (len(whole), len(late)) == (2, 1)
    assert np.isnan(whole.target).all()
    assert (late.cells[0].tolist(), late.minute.tolist(), late.side.tolist()) == ([1], [21], [-1])
    assert late.target.tolist() == [1.0]
    assert whole.take(np.array([1, 0])).minute.tolist() == [21, 20]
    assert whole.exits == ExitRules(hold=3)
