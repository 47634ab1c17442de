"""Bars and tape: views, running columns, remembered windows, first and bad prints; the same bits however cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.model.bars import Bars, MinuteSlice, Tape
from tbot_core.testing.sessions import NAMES, SessionDraft, market

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.model.bars import Array, Running

RUNNING: tuple[Running, ...] = ("high", "low", "vwap", "volume")


def _minute(bars: Bars, index: int) -> MinuteSlice:
    return MinuteSlice(index=index, **{name: bars.field(name)[index] for name in NAMES})


def _taped(bars: Bars, minutes: int) -> Tape:
    tape = Tape(bars.symbols, bars.minutes)
    for index in range(minutes):
        tape.append(_minute(bars, index))
    return tape


def _same(one: Array, other: Array) -> bool:
    # Equal to the bit, and NaN where the other is.
    return one.shape == other.shape and np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()


def test_views_have_minutes_last_and_cannot_be_written() -> None:
    """Authors see (sessions, symbols, minutes) of what lies as (minutes, sessions, symbols), read-only."""
    bars, _ = market(sessions=2, symbols=5)
    for name in ("open", "high", "low", "close", "volume"):
        view = getattr(bars, name)
        assert view.shape == (2, 5, 390)
        assert _same(view, np.moveaxis(bars.field(name), 0, -1))
        with pytest.raises(ValueError, match="read-only"):
            view[0, 0, 0] = 1.0


def test_running_columns_are_what_they_say() -> None:
    """High and low until each minute pass over missing bars; the VWAP weighs by shares; volume adds up."""
    draft = SessionDraft(minutes=5).bar(0, 10, volume=100).bar(1, 13, open=13, volume=300).gap(2, 3)
    bars = draft.bar(3, 9, high=12, low=6, volume=200, vwap=8).bar(4, 20, volume=0).bars()
    assert bars.high_so_far[0].tolist() == [10, 13, 13, 13, 20]
    assert bars.low_so_far[0].tolist() == [10, 10, 10, 6, 6]
    assert bars.lowest_at((np.array([0, 0]),), np.array([4, 2])).tolist() == [6, 10]
    assert bars.lowest_at((np.array([], dtype=np.intp),), np.array([], dtype=np.intp)).tolist() == []
    assert bars.so_far("volume", 0, 5)[0].tolist() == [100, 400, 400, 600, 600]
    assert bars.vwap[0].tolist() == pytest.approx([10, 12.25, 12.25, (4900 + 1600) / 600, (4900 + 1600) / 600])


def test_nothing_traded_has_no_vwap() -> None:
    """Before the first share the VWAP is unknown, and volume is 0."""
    bars = SessionDraft(minutes=3).gap(0, 1).bar(1, 10, volume=0).bar(2, 11, volume=5).bars()
    assert np.isnan(bars.vwap[0]).tolist() == [True, True, False]
    assert bars.so_far("volume", 0, 3)[0].tolist() == [0, 0, 5]


@given(seed=st.integers(0, 50), minutes=st.integers(0, 60), start=st.integers(0, 70), length=st.integers(0, 70))
def test_columns_are_the_same_bits_however_the_session_was_cut(
    seed: int, minutes: int, start: int, length: int
) -> None:
    """Whole, prefix, session of a block, tape and other layouts agree on every closed minute of any span."""
    block, _ = market(seed=seed, sessions=2, symbols=6, minutes=60)
    whole = block.session(1)
    prefix, tape = whole.until(minutes), _taped(whole, minutes).bars
    inner = Bars({name: np.asfortranarray(whole.field(name)) for name in NAMES}, whole.symbols)
    for name in RUNNING:
        expected = whole.so_far(name, start, start + length)[..., : max(0, minutes - start)]
        for other in (prefix, tape):
            assert _same(other.so_far(name, start, start + length), expected)
        assert _same(inner.so_far(name, 0, 60), whole.so_far(name, 0, 60))
        assert _same(block.so_far(name, start, start + length)[1], whole.so_far(name, start, start + length))


def test_a_column_grows_as_it_is_asked_for() -> None:
    """A short span first and a longer one then give what the longer one alone gives."""
    bars, _ = market(sessions=1, symbols=4, minutes=50)
    for name in RUNNING:
        short = bars.so_far(name, 0, 10)
        assert _same(bars.so_far(name, 0, 50)[..., :10], short)
        assert _same(bars.so_far(name, 5, 30), bars.until(50).so_far(name, 0, 50)[..., 5:30])


@given(steps=st.lists(st.tuples(st.sampled_from(RUNNING), st.integers(0, 30)), max_size=12))
def test_a_tape_asked_now_and_then_has_the_columns_of_the_whole_session(steps: list[tuple[Running, int]]) -> None:
    """Whichever column is asked for after some more minutes, up to any minute; earlier views stay as they were."""
    whole = market(sessions=1, symbols=4, minutes=60)[0].session(0)
    growing, seen = Tape(whole.symbols, whole.minutes), []
    for name, more in steps:
        for index in range(growing.closed, min(60, growing.closed + more // 2)):
            growing.append(_minute(whole, index))
        seen.append((name, more, growing.closed, growing.bars.so_far(name, 0, more)))
    for name, stop, closed, column in seen:
        assert _same(column, whole.so_far(name, 0, min(stop, closed)))


def test_a_row_has_traded_from_its_first_bar_on() -> None:
    """A row without a bar, and every row before the first minute, has not."""
    bars = SessionDraft("AAA", "BBB", "CCC", minutes=4).gap(0, 2, "BBB").gap(0, 4, "CCC").bars()
    assert bars.traded.tolist() == [True, True, False]
    assert bars.until(1).traded.tolist() == [True, False, False]
    assert bars.until(0).traded.tolist() == [False, False, False]


def test_the_first_open_is_that_of_the_first_bar() -> None:
    """A row that begins late has its open from then on; without a bar, or a minute, it is unknown."""
    bars = SessionDraft("AAA", "BBB", "CCC", minutes=4).bar(0, 10, open=9).gap(0, 2, "BBB").gap(0, 4, "CCC").bars()
    assert bars.first_open.tolist()[:2] == [9, 100]
    assert np.isnan(bars.until(1).first_open).tolist() == [False, True, True]
    assert np.isnan(bars.until(0).first_open).tolist() == [True, True, True]


@pytest.mark.parametrize(
    ("opened", "bad"),
    [(103.0, False), (103.0001, True), (97.0, False), (96.9999, True), (100.0, False)],
)
def test_a_bad_print_lies_more_than_three_percent_off(opened: float, bad: bool) -> None:
    """Exactly 3 % from the bar's VWAP is not bad; without a VWAP the typical price counts; early or late."""
    for first in (0, 2):
        with_vwap = SessionDraft(minutes=4).gap(0, first).bar(first, 100, open=opened, vwap=100).bars()
        assert with_vwap.bad_print.tolist() == [bad]
    typical = SessionDraft(minutes=4).bar(0, 100, open=110, high=110, low=90).bars()
    assert typical.bad_print.tolist() == [True]
    later = SessionDraft(minutes=4).bar(1, 100, open=110, high=110, vwap=100).bars()
    assert later.bad_print.tolist() == [False]
    assert later.until(0).bad_print.tolist() == [False]


def test_a_range_leaves_a_bad_first_print_out() -> None:
    """Only the first bar is left out, only where it is bad, only where the range holds it."""
    draft = SessionDraft("AAA", "BBB", "CCC", minutes=10).gap(0, 3, "BBB")
    draft.bar(0, 100, open=110, high=110, low=99, vwap=100).bar(1, 100, high=102, low=98)
    draft.bar(3, 100, "BBB", open=90, high=101, low=90, vwap=100).bar(4, 100, "BBB", high=103)
    bars = draft.bar(0, 100, "CCC", high=101, low=99).bars()
    high, low = bars.range(0, 5)
    assert (high.tolist(), low.tolist()) == ([102, 103, 101], [98, 100, 99])
    high, low = bars.range(1, 4)
    assert high[[0, 2]].tolist() == [102, 100]
    assert np.isnan(high[1])
    assert np.isnan(low[1])
    assert bars.highest(0, 5).tolist() == [110, 103, 101]
    only = SessionDraft("AAA", minutes=5).bar(0, 100, open=110, high=110, vwap=100).bars()
    assert np.isnan(only.range(0, 1)[0]).all()
    assert np.isnan(bars.until(0).range(0, 5)[0]).all()


@given(seed=st.integers(0, 50), start=st.integers(0, 40), length=st.integers(0, 40), minutes=st.integers(0, 60))
def test_windows_agree_on_prefix_tape_and_block(seed: int, start: int, length: int, minutes: int) -> None:
    """Highest, lowest and range of the closed part of a window are those of any other way to the same minutes."""
    block, _ = market(seed=seed, sessions=2, symbols=6, minutes=60)
    whole = block.session(0)
    prefix, tape, stop = whole.until(minutes), _taped(whole, minutes).bars, start + length
    questions: tuple[Callable[[Bars], Array], ...] = (
        lambda bars: bars.highest(start, stop),
        lambda bars: bars.lowest(start, stop),
        lambda bars: bars.range(start, stop)[0],
        lambda bars: bars.range(start, stop)[1],
    )
    for asked in questions:
        assert _same(asked(prefix), asked(tape))
        assert _same(asked(block)[0], asked(whole))
        if stop <= minutes:
            assert _same(asked(prefix), asked(whole))


def test_a_closed_window_is_remembered_and_an_open_one_is_not() -> None:
    """A feature of minutes that have closed is worked out once for all later prefixes; before that, each time."""
    bars = SessionDraft(minutes=10).bars()
    tape, made = _taped(bars, 3), []

    def make() -> Array:
        made.append(tape.closed)
        return np.array([float(tape.closed)])

    assert tape.bars.cached("feature", 5, make).tolist() == [3]
    tape.append(_minute(bars, 3))
    tape.append(_minute(bars, 4))
    assert tape.bars.cached("feature", 5, make).tolist() == [5]
    tape.append(_minute(bars, 5))
    kept = tape.bars.cached("feature", 5, make)
    assert (kept.tolist(), made) == ([5], [3, 5])
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 1.0
    assert tape.bars.until(6).cached("feature", 5, make).tolist() == [6]


@pytest.mark.parametrize("index", [1, 3])
def test_a_tape_takes_the_next_minute_only(index: int) -> None:
    """A minute that is skipped or repeated is refused."""
    bars = SessionDraft(minutes=5).bars()
    tape = _taped(bars, 2)
    with pytest.raises(ValueError, match=f"got minute {index}, expected minute 2"):
        tape.append(_minute(bars, index))


def test_a_days_session_has_its_own_facts() -> None:
    """One session of a block's facts has its row of each, and keeps what was never asked for absent."""
    _, facts = market(sessions=3, symbols=4)
    one = facts.session(2)
    assert facts.typical_volume is not None
    assert one.typical_volume is not None
    assert _same(one.previous_close, facts.previous_close[2])
    assert _same(one.typical_volume, facts.typical_volume[2])
    assert one.vix.tolist() == facts.vix[2].tolist()
    assert SessionDraft().day().typical_volume is None


def test_some_columns_are_the_bars_of_their_symbols() -> None:
    """The chosen symbols keep their bars, in the chosen order."""
    bars = market(sessions=1, symbols=4)[0].session(0)
    chosen = bars.columns([2, 0])
    assert chosen.symbols == (bars.symbols[2], bars.symbols[0])
    assert all(_same(chosen.field(name), bars.field(name)[:, [2, 0]]) for name in NAMES)


def test_some_sessions_of_a_block_are_a_block() -> None:
    """Chosen sessions keep their bars and facts, in the order in which they were asked for."""
    bars, facts = market(sessions=3, symbols=4, minutes=20)
    chosen, known = bars.sessions([2, 0]), facts.sessions([2, 0])
    assert _same(chosen.close, bars.close[[2, 0]])
    assert _same(chosen.session(0).vwap, bars.session(2).vwap)
    assert _same(known.vix, facts.vix[[2, 0]])
