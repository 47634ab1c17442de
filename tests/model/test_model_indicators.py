"""Indicators equal those of another library, and nothing that is later or unknown has an effect on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.model import indicators

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.model.bars import Array

TABLE: Final[list[dict[str, Any]]] = json.loads((Path(__file__).parent / "indicators.json").read_text())["rows"]
INDICATORS: Final[dict[str, Callable[..., Array]]] = {
    "mean": lambda _high, _low, close, length: indicators.mean(close, length),
    "exponential_mean": lambda _high, _low, close, length: indicators.exponential_mean(close, length),
    "rsi": lambda _high, _low, close, length: indicators.rsi(close, length),
    "average_true_range": indicators.average_true_range,
    "highest": lambda high, _low, _close, length: indicators.highest(high, length),
    "lowest": lambda _high, low, _close, length: indicators.lowest(low, length),
}
each = pytest.mark.parametrize("name", INDICATORS)


def random_bars(seed: int, *shape: int, unknown: float = 0.0) -> list[Array]:
    """High, low and close."""
    random = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(random.normal(0, 0.02, size=shape), axis=-1))
    fields = [close * 1.01, close * 0.98, close]
    return [np.where(random.random(shape) < unknown, np.nan, np.round(field, 4)) for field in fields]


@each
def test_each_indicator_equals_that_of_talib(name: str) -> None:
    """On the same bars, from the same day on."""
    for row in TABLE:
        bars = [np.array(row["bars"][field]) for field in ("high", "low", "close")]
        expected = np.array(row[name], dtype=np.float64)
        found = INDICATORS[name](*bars, row["length"])
        assert np.isfinite(expected).sum() > 30
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@each
@given(seed=st.integers(0, 10_000), length=st.integers(1, 12), cut=st.integers(1, 29))
def test_what_is_later_changes_nothing(name: str, seed: int, length: int, cut: int) -> None:
    """Bars that are cut, or replaced by others, give the same bits before."""
    bars = random_bars(seed, 3, 30, unknown=0.05)
    whole = INDICATORS[name](*bars, length)
    assert INDICATORS[name](*(field[..., :cut] for field in bars), length).tobytes() == whole[..., :cut].tobytes()


@each
def test_rows_and_layouts_change_nothing(name: str) -> None:
    """A row alone, among others, and with time as the first axis in memory has the same bits."""
    bars = random_bars(1, 2, 3, 40, unknown=0.02)
    whole = INDICATORS[name](*bars, 5)
    for index in np.ndindex(2, 3):
        assert INDICATORS[name](*(field[index] for field in bars), 5).tobytes() == whole[index].tobytes()
    moved = [np.moveaxis(np.ascontiguousarray(np.moveaxis(field, -1, 0)), 0, -1) for field in bars]
    assert np.ascontiguousarray(INDICATORS[name](*moved, 5)).tobytes() == whole.tobytes()


@each
def test_an_unknown_day_is_never_guessed(name: str) -> None:
    """What needs it is unknown; after it as many days are needed as at the start."""
    bars = random_bars(2, 40)
    for field in bars:
        field[20] = np.nan
    found = INDICATORS[name](*bars, 5)
    first = int(np.flatnonzero(np.isfinite(found))[0])
    assert first in {4, 5}
    assert np.isfinite(found[first:20]).all()
    assert np.isnan(found[20 : 21 + first]).all()
    assert np.isfinite(found[21 + first :]).all()
    np.testing.assert_array_equal(found[21:], INDICATORS[name](*(field[21:] for field in bars), 5))


def test_a_price_that_stands_has_a_strength_in_the_middle() -> None:
    """No rise and no fall is neither strong nor weak."""
    assert indicators.rsi(np.full(20, 7.0), 2)[2:].tolist() == [50.0] * 18
    assert indicators.rsi(np.arange(1.0, 9.0), 2)[-1] == 100.0
    assert indicators.rsi(np.arange(9.0, 1.0, -1), 2)[-1] == 0.0


def test_a_minute_without_a_bar_counts_with_the_last_price_where_it_is_carried() -> None:
    """Before the first bar nothing is known."""
    values = np.array([[np.nan, 1.0, np.nan, np.nan, 2.0], [3.0, np.nan, 4.0, 5.0, np.nan]])
    expected = [[np.nan, 1.0, 1.0, 1.0, 2.0], [3.0, 3.0, 4.0, 5.0, 5.0]]
    np.testing.assert_array_equal(indicators.carried(values), expected)


@pytest.mark.parametrize("length", [0, -1])
@each
def test_a_length_below_one_is_refused(name: str, length: int) -> None:
    """Its sentence has the number."""
    with pytest.raises(ValueError, match=f"length {length}:"):
        INDICATORS[name](*random_bars(3, 10), length)


@each
def test_a_length_beyond_the_bars_knows_nothing(name: str) -> None:
    """There is no error."""
    assert np.isnan(INDICATORS[name](*random_bars(4, 3), 10)).all()
