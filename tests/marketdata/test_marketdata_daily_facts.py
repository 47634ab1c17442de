"""The facts of a day: each by its definition, on its edges, and equal however they are asked for."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING

import attrs
import numpy as np
import polars as pl
import pytest

from tbot_core.contracts.feed import NO_EXTRA_FACTS, ExtraFacts
from tbot_core.marketdata.store.daily_facts import look_back_sessions
from tbot_core.model import calendar as exchange
from tbot_core.model.calendar import EarlyClose, ExchangeCalendar
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.model.day_facts import DayFacts

WHOLE = exchange_sessions("2019-11-01", "2019-12-31")

TYPICAL = ExtraFacts(typical_volume=True)


@pytest.fixture
def bench(tmp_path: Path) -> StoreFixture:
    """An empty store."""
    return StoreFixture(folder=tmp_path)


def facts(
    bench: StoreFixture, first: str, last: str, symbols: str = "AAA", *, extra: ExtraFacts = NO_EXTRA_FACTS
) -> DayFacts:
    """The facts of a range's sessions for symbols with blanks between."""
    sessions = exchange_sessions(first, last)
    return bench.store.facts(sessions, symbols.split(), extra=extra)


def daily(*values: tuple[float, float, float], volume: int = 39_000) -> pl.DataFrame:
    """One bar-filled session after the other from 2019-11-01 with these highs, lows and closes."""
    frames = []
    for session, (high, low, close) in zip(WHOLE, values, strict=False):
        frame = rising_bars("AAA", [session]).with_columns(
            open=pl.lit(close), high=pl.lit(close), low=pl.lit(close), close=pl.lit(close), volume=volume // 390
        )
        first = pl.int_range(pl.len()) == 0
        frames.append(
            frame.with_columns(
                high=pl.when(first).then(high).otherwise("high"), low=pl.when(first).then(low).otherwise("low")
            )
        )
    return pl.concat(frames)


def same(one: DayFacts, other: DayFacts) -> bool:
    """Whether two days are equal to the bit."""
    ours, theirs = one.arrays(), other.arrays()
    return ours.keys() == theirs.keys() and all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)


def test_the_previous_close_is_that_of_the_previous_exchange_session(bench: StoreFixture) -> None:
    """The last close of the session before; unknown where that session has no bar, however many lie before it."""
    bench.put(rising_bars("AAA", [WHOLE[0], WHOLE[1], WHOLE[3]]))
    closes = facts(bench, "2019-11-01", "2019-11-08").previous_close[:, 0]
    assert closes.tolist() == pytest.approx([np.nan, 103.9, 103.9, np.nan, 103.9, np.nan], nan_ok=True)


def test_the_previous_close_is_the_last_bar_there_was(bench: StoreFixture) -> None:
    """A session that stopped early has the close of its last bar."""
    bench.put(rising_bars("AAA", [WHOLE[0]], minutes=10))
    assert facts(bench, "2019-11-04", "2019-11-04").previous_close[0, 0] == 100.1


def test_mean_volume_needs_five_sessions_and_takes_twenty(bench: StoreFixture) -> None:
    """Unknown with four before, their mean with five, and the latest twenty's once there are more."""
    frames = [rising_bars("AAA", [session]).with_columns(volume=row + 1) for row, session in enumerate(WHOLE[:30])]
    bench.put(pl.concat(frames))
    means = bench.store.facts(WHOLE[:30], ["AAA"]).average_volume[:, 0] / 390
    assert np.isnan(means[:5]).all()
    assert means[5] == 3.0
    full = [session.minutes == 390 for session in WHOLE[:30]]
    assert means[20] == pytest.approx(np.mean([(row + 1) * (1 if full[row] else 210 / 390) for row in range(20)]))
    assert means[29] == pytest.approx(np.mean([(row + 1) * (1 if full[row] else 210 / 390) for row in range(9, 29)]))


@pytest.mark.parametrize(("minutes", "counts"), [(351, True), (350, False)])
def test_a_session_with_under_90_percent_of_its_minutes_does_not_count(
    bench: StoreFixture, minutes: int, counts: bool
) -> None:
    """Exactly 90 % counts, one minute less does not."""
    bench.put(rising_bars("AAA", WHOLE[:4]), rising_bars("AAA", [WHOLE[4]], minutes=minutes))
    assert np.isnan(facts(bench, "2019-11-08", "2019-11-08").average_volume[0, 0]) != counts


def test_a_half_day_counts_by_its_own_length(bench: StoreFixture) -> None:
    """All 210 minutes of a half day are 100 % of it."""
    bench.put(rising_bars("AAA", exchange_sessions("2019-12-18", "2019-12-24")))
    assert not np.isnan(facts(bench, "2019-12-26", "2019-12-26").average_volume[0, 0])


def test_old_volumes_do_not_count(bench: StoreFixture) -> None:
    """Twenty exchange sessions back and no further, stored or not."""
    bench.put(rising_bars("AAA", WHOLE[:5]))
    known = bench.store.facts(WHOLE[5:22], ["AAA"]).average_volume[:, 0]
    assert (~np.isnan(known)).tolist() == [row + 5 <= 20 for row in range(17)]


def test_atr_is_the_mean_of_fourteen_true_ranges(bench: StoreFixture) -> None:
    """A gap counts from the previous close, up or down; fifteen sessions are needed, for the first one's gap."""
    values = [(101.0, 99.0, 100.0)] * 15 + [(111.0, 109.0, 110.0), (91.0, 89.0, 90.0)]
    bench.put(daily(*values))
    atr = bench.store.facts(WHOLE[:18], ["AAA"]).atr[:, 0]
    assert np.isnan(atr[:15]).all()
    assert atr[15:].tolist() == pytest.approx([2.0, (13 * 2 + 11) / 14, (12 * 2 + 11 + 21) / 14])


@pytest.mark.parametrize(("low", "restricted"), [(90.0, True), (90.0001, False), (80.0, True)])
def test_short_sales_are_restricted_after_a_fall_of_ten_percent(
    bench: StoreFixture, low: float, restricted: bool
) -> None:
    """Yesterday's low at or below 0.9 x the close before it, to the tick; unknown where one of them is."""
    bench.put(daily((101.0, 99.0, 100.0), (101.0, low, 100.0)))
    is_restricted = bench.store.facts(WHOLE[:4], ["AAA"]).restricted[:, 0]
    assert is_restricted.tolist() == pytest.approx([math.nan, math.nan, float(restricted), math.nan], nan_ok=True)


def test_capitalisation_is_that_of_the_time(bench: StoreFixture) -> None:
    """The latest record before the session's date, never one of the same day or later; one without a figure is none."""
    bench.put_text(
        "symbol,as_of,market_cap\nAAA,2019-11-05,5e9\nAAA,2019-11-07,7e9\nAAA,2019-11-08,\nBBB,2019-11-04,1e9\n",
        name="caps.csv",
    )
    caps = facts(bench, "2019-11-04", "2019-11-12", "AAA BBB CCC").market_cap
    nan = np.nan
    assert caps[:, 0].tolist() == pytest.approx([nan, nan, 5e9, 5e9, 7e9, 7e9, 7e9], nan_ok=True)
    assert caps[:, 1].tolist() == pytest.approx([nan] + [1e9] * 6, nan_ok=True)
    assert np.isnan(caps[:, 2]).all()


def test_the_vix_is_the_previous_sessions_close(bench: StoreFixture) -> None:
    """Exactly the previous exchange session's, across a weekend; an older one is unknown."""
    text = "DATE,OPEN,HIGH,LOW,CLOSE\n11/01/2019,12,13,11,12.5\n11/05/2019,13,14,12,13.5\n11/07/2019,13,14,12,14.5\n"
    bench.put_text(text, name="VIX_History.csv")
    vix = facts(bench, "2019-11-04", "2019-11-11").vix
    assert vix.shape == (6, 1)
    assert vix[:, 0].tolist() == pytest.approx([12.5, np.nan, 13.5, np.nan, 14.5, np.nan], nan_ok=True)


def test_typical_volume_is_the_mean_until_that_minute(bench: StoreFixture) -> None:
    """By minute, over the sessions that the mean volume counts; a half day keeps its total after its close."""
    bench.put(rising_bars("AAA", exchange_sessions("2019-12-18", "2019-12-27")))
    day = facts(bench, "2019-12-26", "2019-12-30", "AAA BBB", extra=TYPICAL)
    assert day.typical_volume is not None
    assert day.typical_volume.shape == (3, 2, 390)
    so_far = np.cumsum(100.0 + np.arange(390))
    half = np.minimum(np.arange(390), 209)
    assert np.array_equal(day.typical_volume[0, 0], (4 * so_far + so_far[half]) / 5)
    assert np.array_equal(day.typical_volume[..., -1], day.average_volume, equal_nan=True)
    assert np.isnan(day.typical_volume[:, 1]).all()


def test_typical_volume_of_a_half_day_has_its_minutes(bench: StoreFixture) -> None:
    """It broadcasts against the block's own minutes."""
    bench.put(rising_bars("AAA", exchange_sessions("2019-12-02", "2019-12-27")))
    first, last = dt.date(2019, 12, 16), dt.date(2019, 12, 27)
    full, half = bench.store.blocks(first, last, ["AAA"], extra=TYPICAL)
    for block in (full, half):
        assert block.day.typical_volume is not None
        assert block.day.typical_volume.shape == block.bars.close.shape
        assert not np.isnan(block.day.typical_volume).any()


def test_facts_of_one_session_equal_those_of_many(bench: StoreFixture) -> None:
    """To the bit: for each session asked alone, in a block, and in the whole range."""
    rng = np.random.default_rng(7)
    frames = [
        frame.sample(fraction=0.93, seed=row, shuffle=False).with_columns(
            volume=pl.Series(rng.integers(1, 10**6, int(len(frame) * 0.93)))
        )
        for row, frame in enumerate(
            rising_bars(symbol, [session], price=50 + 3 * rng.random())
            for symbol in ("AAA", "BBB")
            for session in WHOLE
            if rng.random() < 0.97
        )
    ]
    bench.put(pl.concat(frames))
    bench.put_text("symbol,as_of,market_cap\nAAA,2019-11-05,5e9\nAAA,2019-11-27,7e9\n", name="caps.csv")
    store = bench.store
    symbols = ("AAA", "BBB")
    whole = store.facts(WHOLE, symbols)
    singly = [store.facts([session], symbols) for session in WHOLE]
    for row, one in enumerate(singly):
        assert same(one.session(0), whole.session(row)), WHOLE[row].date
    place = {session.date: row for row, session in enumerate(WHOLE)}
    for block in store.blocks(WHOLE[0].date, WHOLE[-1].date, symbols):
        for index, session in enumerate(block.sessions):
            assert same(block.day.session(index), whole.session(place[session.date]))
    assert (~np.isnan(whole.atr)).any()


def test_typical_volume_of_one_session_equals_that_of_many(bench: StoreFixture) -> None:
    """To the bit, and whether the look-back lies in one month or in three."""
    bench.put(rising_bars("AAA", WHOLE).with_columns(volume=pl.int_range(pl.len()) * 7919 % 100_003))
    last = exchange_sessions("2019-12-02", "2019-12-06")
    whole = bench.store.facts(last, ["AAA"], extra=TYPICAL)
    for row, session in enumerate(last):
        assert same(bench.store.facts([session], ["AAA"], extra=TYPICAL).session(0), whole.session(row))


def test_bars_of_two_kinds_are_not_compared(bench: StoreFixture) -> None:
    """After a change from raw to split-adjusted prices the look-back begins anew; nothing mixes the two."""
    november = [session for session in WHOLE if session.date.month == 11]
    december = [session for session in WHOLE if session.date.month == 12]
    bench.put(rising_bars("AAA", november))
    bench.put(rising_bars("AAA", december, price=25.0), adjustment="split")
    day = bench.store.facts(WHOLE, ["AAA"])
    change = len(november)
    assert np.isnan(day.previous_close[change, 0])
    assert day.previous_close[change + 1, 0] == pytest.approx(28.9)
    assert np.isnan(day.average_volume[change : change + 5, 0]).all()
    assert not np.isnan(day.average_volume[change + 5, 0])
    assert np.isnan(day.restricted[change : change + 2]).all()


def test_adjusted_prices_are_flagged_where_they_are(bench: StoreFixture) -> None:
    """Of each session and symbol, also after other sessions were read; where all are raw nothing is."""
    bench.put(rising_bars("AAA", WHOLE), rising_bars("BBB", [one for one in WHOLE if one.date.month == 11]))
    bench.put(rising_bars("BBB", [one for one in WHOLE if one.date.month == 12]), adjustment="total")
    store = bench.store
    whole, november = store.facts(WHOLE, ["AAA", "BBB"]), [one for one in WHOLE if one.date.month == 11]
    assert whole.adjusted is not None
    assert whole.adjusted.tolist() == [[False, one.date.month == 12] for one in WHOLE]
    assert store.facts(november, ["AAA", "BBB"]).adjusted is None
    assert bench.store.facts(WHOLE, ["AAA"]).adjusted is None


@pytest.mark.parametrize("symbols", [["AAA", "BBB", "ZZZ"], ["AAA"]])
def test_an_early_close_that_was_set_after_the_import_ends_the_day_for_its_facts(
    bench: StoreFixture, symbols: list[str]
) -> None:
    """The next day's previous close, restriction, mean and typical volume leave out the bars after it."""
    bench.put(rising_bars("AAA", WHOLE), *(rising_bars(f"B{letter}B", WHOLE) for letter in "ABCDEFGH"))
    day, after = WHOLE[-2], WHOLE[-1]
    calendar = ExchangeCalendar(overrides={day.date: EarlyClose(close=dt.time(11, 0))})
    early = attrs.evolve(bench, calendar=calendar).store.facts([after], symbols, extra=TYPICAL)
    usual = bench.store.facts([after], symbols, extra=TYPICAL)
    assert (usual.previous_close[0, 0], early.previous_close[0, 0]) == pytest.approx((103.9, 100.9))
    lost = sum(100 + minute for minute in range(90, 390)) / 20
    assert usual.average_volume[0, 0] - early.average_volume[0, 0] == pytest.approx(lost)
    assert usual.typical_volume is not None
    assert early.typical_volume is not None
    assert usual.typical_volume[0, 0, 89] == early.typical_volume[0, 0, 89]
    assert usual.typical_volume[0, 0, -1] - early.typical_volume[0, 0, -1] == pytest.approx(lost)


def test_an_early_close_without_bars_is_no_fact(bench: StoreFixture) -> None:
    """A day, or a month, of which nothing is stored stays unknown."""
    bench.put(rising_bars("AAA", WHOLE[-1:]))
    for date in (WHOLE[-2].date, dt.date(2019, 11, 29)):
        calendar = ExchangeCalendar(overrides={date: EarlyClose(close=dt.time(11, 0))})
        found = attrs.evolve(bench, calendar=calendar).store.facts(WHOLE[-1:], ["AAA"])
        assert np.isnan(found.previous_close).all()
        assert np.isnan(found.average_volume).all()


def test_a_pause_over_a_month_is_the_same_series(bench: StoreFixture) -> None:
    """The first session of a month without stored bars still has the facts of the last one before it."""
    bench.put(rising_bars("AAA", [session for session in WHOLE if session.date.month == 11]))
    assert facts(bench, "2019-12-02", "2019-12-02").previous_close[0, 0] == pytest.approx(102.1)


def test_the_look_back_ends_where_the_calendar_begins() -> None:
    """The calendar's first sessions have fewer before them, and the first of all has none."""
    calendar = ExchangeCalendar()
    assert look_back_sessions(calendar, exchange.FIRST_DAY) == ()
    assert len(look_back_sessions(calendar, dt.date(2008, 1, 8))) == 4
    assert len(look_back_sessions(calendar, dt.date(2019, 1, 8))) == 21


def test_the_calendars_first_session_has_no_facts(bench: StoreFixture) -> None:
    """It is served, with everything unknown."""
    bench.put(rising_bars("AAA", exchange_sessions("2008-01-02", "2008-01-02")))
    (block,) = bench.store.blocks(dt.date(2008, 1, 1), dt.date(2008, 1, 2), ["AAA"])
    assert np.isnan(block.day.previous_close).all()
    assert np.isnan(block.day.vix).all()
    assert bench.store.data_hash(dt.date(2008, 1, 1), dt.date(2008, 1, 2), ["AAA"], extra=TYPICAL)
