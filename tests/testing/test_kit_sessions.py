"""Drafts and random markets for tests."""

from __future__ import annotations

import numpy as np
import pytest

from tbot_core.testing.sessions import SessionDraft, day, market


def test_a_draft_is_flat_until_it_says_otherwise() -> None:
    """Every bar has the price and 1,000 shares; a written bar spans its open and close."""
    bars = (
        SessionDraft("AAA", "BBB", minutes=3, price=10).bar(1, 12).bar(2, 9, "BBB", open=11, volume=5, vwap=10).bars()
    )
    assert bars.symbols == ("AAA", "BBB")
    assert bars.close.tolist() == [[10, 12, 10], [10, 10, 9]]
    assert (bars.open[0, 1], bars.high[0, 1], bars.low[0, 1]) == (12, 12, 12)
    assert (bars.open[1, 2], bars.high[1, 2], bars.low[1, 2], bars.volume[1, 2]) == (11, 11, 9, 5)
    assert np.isnan(bars.field("vwap")[:2]).all()
    assert bars.field("vwap")[2, 1] == 10


def test_a_gap_takes_bars_away() -> None:
    """The minutes of a gap have no bar; the bars that were drawn earlier do not change with the draft."""
    draft = SessionDraft("AAA", "BBB", minutes=4)
    before = draft.bars()
    after = draft.gap(1, 3, "BBB").bars()
    assert np.isnan(after.close).tolist() == [[False] * 4, [False, True, True, False]]
    assert not np.isnan(before.close).any()


def test_facts_are_unknown_until_they_are_said() -> None:
    """A day's facts are given once for all symbols or once each; the rest is NaN, and nothing is restricted."""
    known = day(2, previous_close=50, market_cap=[1.0, 2.0], vix=15, restricted=[True, False])
    assert known.previous_close.tolist() == [50, 50]
    assert known.market_cap.tolist() == [1, 2]
    assert (known.vix.tolist(), known.restricted.tolist()) == ([15], [True, False])
    assert np.isnan(known.average_volume).all()
    assert not SessionDraft("AAA").day().restricted.any()


@pytest.mark.parametrize("symbols", [2, 12])
def test_a_market_is_one_that_could_be(symbols: int) -> None:
    """Prices enclose open and close on the grid, volumes are whole, rows are missing as announced, seeds decide."""
    bars, facts = market(symbols=symbols)
    known = np.invert(np.isnan(bars.close))
    assert np.any(known[:, 1:], axis=-1).all()
    assert not known[:, 0].any()
    assert not known[:, 1, :97].any()
    assert (bars.high >= np.fmax(bars.open, bars.close))[known].all()
    assert (bars.low <= np.fmin(bars.open, bars.close))[known].all()
    assert np.array_equal(np.round(bars.close, 4)[known], bars.close[known])
    assert np.array_equal(np.rint(bars.volume)[known], bars.volume[known])
    assert facts.typical_volume is not None
    assert facts.typical_volume.shape == bars.close.shape
    assert np.array_equal(market(symbols=symbols)[0].close, bars.close, equal_nan=True)
    assert not np.array_equal(market(seed=1, symbols=symbols)[0].close, bars.close, equal_nan=True)
