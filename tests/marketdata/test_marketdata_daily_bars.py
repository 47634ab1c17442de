"""The daily bars of the sessions before a day: by their definition, across splits, and never of a later day."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import pytest

from tbot_core.contracts.feed import ExtraFacts
from tbot_core.marketdata.store import manifest, parquet, reference
from tbot_core.marketdata.store.importer import ImportedFile, RefusedFile
from tbot_core.testing.store import StoreFixture, exchange_sessions

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.model.calendar import Session
    from tbot_core.model.day_facts import DailyBars

WHOLE: Final = exchange_sessions("2019-11-01", "2020-01-10")
SPLIT_DAY: Final = dt.date(2019, 11, 26)


@pytest.fixture
def bench(tmp_path: Path) -> StoreFixture:
    """An empty store."""
    return StoreFixture(folder=tmp_path)


def minutes(symbol: str, session: Session, price: float, volume: int = 10, count: int | None = None) -> pl.DataFrame:
    """A session that opens at `price`, and rises by a cent a minute; its low is half a dollar below the open."""
    rows = count or session.minutes
    rises = np.arange(rows) / 100
    close = np.round(price + rises, 4)
    return pl.DataFrame(
        {
            "symbol": [symbol] * rows,
            "ts": [session.open + dt.timedelta(minutes=number) for number in range(rows)],
            "open": np.round(close - 0.005, 4),
            "high": np.round(close + 0.25, 4),
            "low": np.round(close - np.where(np.arange(rows) == 3, 0.5, 0.1), 4),
            "close": close,
            "volume": [volume] * rows,
        }
    )


def daily(bench: StoreFixture, session: Session, days: int, symbols: str = "AAA") -> DailyBars:
    """The daily bars before a session, of shape (symbols, days)."""
    found = bench.store.facts([session], symbols.split(), extra=ExtraFacts(daily_bars=days)).session(0).daily
    assert found is not None
    return found


def split(bench: StoreFixture, text: str) -> ImportedFile | RefusedFile:
    """Import splits."""
    return bench.put_text(f"date,symbol,before,after\n{text}\n", name="splits.csv")


def test_a_daily_bar_is_what_the_session_traded(bench: StoreFixture) -> None:
    """The first open, the highest high, the lowest low, the last close and the sum of volumes, oldest day first."""
    bench.put(pl.concat([minutes("AAA", one, 50.0 + number) for number, one in enumerate(WHOLE[:4])]))
    found = daily(bench, WHOLE[4], 3)
    assert found.open[0].tolist() == [50.995, 51.995, 52.995]
    assert found.high[0].tolist() == [55.14, 56.14, 57.14]
    assert found.low[0].tolist() == [50.53, 51.53, 52.53]
    assert found.close[0].tolist() == [54.89, 55.89, 56.89]
    assert found.volume[0].tolist() == [3900.0] * 3


def test_days_that_are_not_stored_are_unknown(bench: StoreFixture) -> None:
    """Those before the first one, those between, and a symbol without any."""
    bench.put(pl.concat([minutes("AAA", WHOLE[number], 50.0) for number in (1, 3)]))
    found = daily(bench, WHOLE[4], 6, "AAA BBB")
    assert np.isnan(found.close[0]).tolist() == [True, True, True, False, True, False]
    assert np.isnan(found.open[1]).all()
    assert found.days == 6


def test_days_of_a_block_are_those_of_each_session(bench: StoreFixture) -> None:
    """Each session of a block has the bars before its own day, and no other facts change."""
    bench.put(pl.concat([minutes("AAA", one, 40.0 + number) for number, one in enumerate(WHOLE)]))
    extra = ExtraFacts(daily_bars=30)
    blocks = bench.store.blocks(WHOLE[0].date, WHOLE[-1].date, ["AAA"], extra=extra)
    plain = bench.store.blocks(WHOLE[0].date, WHOLE[-1].date, ["AAA"])
    for block, other in zip(blocks, plain, strict=True):
        assert other.day.daily is None
        for row, session in enumerate(block.sessions):
            mine = block.day.session(row).daily
            assert mine is not None
            assert mine.close.tobytes() == daily(bench, session, 30).close.tobytes()
        assert block.day.previous_close.tobytes() == other.day.previous_close.tobytes()
        last = block.day.daily
        assert last is not None
        assert np.array_equal(last.close[..., -1], block.day.previous_close, equal_nan=True)


def test_days_before_a_split_are_in_the_shares_of_the_day(bench: StoreFixture) -> None:
    """From its first session on; a session before it sees what was traded, so that it changes nothing earlier."""
    own = [(one, 400.0 if one.date < SPLIT_DAY else 40.0) for one in WHOLE]
    bench.put(pl.concat([minutes("AAA", one, price, 10 if price > 100 else 100) for one, price in own]))
    at = next(number for number, one in enumerate(WHOLE) if one.date == SPLIT_DAY)
    before = daily(bench, WHOLE[at - 1], 5)
    assert isinstance(split(bench, f"{SPLIT_DAY},AAA,1,10\n{SPLIT_DAY},ZZZ,1,3"), ImportedFile)
    assert daily(bench, WHOLE[at - 1], 5).close.tobytes() == before.close.tobytes()
    found = daily(bench, WHOLE[at + 2], 4)
    assert found.close[0] == pytest.approx([40.389, 40.389, 43.89, 43.89])
    assert found.open[0] == pytest.approx([39.9995, 39.9995, 39.995, 39.995])
    assert found.volume[0].tolist() == [39_000.0] * 4


def test_every_fact_of_a_day_is_in_the_shares_of_the_day(bench: StoreFixture) -> None:
    """Previous close, mean and typical volume, true ranges and closes, as if they had been split from the start."""
    halves = [(one, 2 if one.date < SPLIT_DAY else 1) for one in WHOLE]
    bench.put(pl.concat([minutes("AAA", one, 80.0 * by, 100 // by) for one, by in halves]))
    split(bench, f"{SPLIT_DAY},AAA,1,2")
    at = next(number for number, one in enumerate(WHOLE) if one.date == SPLIT_DAY)
    facts = bench.store.facts([WHOLE[at], WHOLE[at + 2]], ["AAA"], extra=ExtraFacts(typical_volume=True))
    assert facts.previous_close[:, 0] == pytest.approx([(160 + 3.89) / 2, 80 + 3.89])
    assert facts.average_volume[:, 0] == pytest.approx([39_000.0, 39_000.0])
    assert facts.typical_volume is not None
    assert facts.typical_volume[:, 0, 9] == pytest.approx([1000.0, 1000.0])
    ranges = [(0.25 + 3.89 + 0.47) / 2, 0.25 + 3.89 + 0.47]  # of a day before the split, and of one after it
    assert facts.atr[0, 0] == pytest.approx(ranges[0])
    assert facts.atr[1, 0] == pytest.approx((ranges[0] * 12 + ranges[1] * 2) / 14, rel=0.02)
    closes = bench.store.closes("AAA", WHOLE[at + 1].date, 4)
    assert [price for _, price in closes] == pytest.approx([81.945, 81.945, 83.89, 83.89])


def test_a_split_is_no_fall_that_restricts_short_sales(bench: StoreFixture) -> None:
    """A reverse split either is no rise."""
    own = [(one, 400.0 if one.date < SPLIT_DAY else 40.0) for one in WHOLE]
    bench.put(pl.concat([minutes("AAA", one, price) for one, price in own]))
    at = next(number for number, one in enumerate(WHOLE) if one.date == SPLIT_DAY)
    after = [WHOLE[at + 1]]
    assert bench.store.facts(after, ["AAA"]).restricted.tolist() == [[1.0]]
    split(bench, f"{SPLIT_DAY},AAA,1,10")
    assert bench.store.facts(after, ["AAA"]).restricted.tolist() == [[0.0]]


def test_adjusted_bars_are_not_adjusted_again(bench: StoreFixture) -> None:
    """A split of a symbol whose stored prices are adjusted already has no effect."""
    bench.put(pl.concat([minutes("AAA", one, 40.0) for one in WHOLE]), adjustment="split")
    before = daily(bench, WHOLE[-1], 20)
    split(bench, "2019-12-30,AAA,1,10")
    assert daily(bench, WHOLE[-1], 20).close.tobytes() == before.close.tobytes()


def test_later_bars_and_splits_change_no_earlier_day(bench: StoreFixture) -> None:
    """Whatever is stored of a day and after it, the facts before its open stay, and their hash."""
    known = WHOLE[:20]
    bench.put(pl.concat([minutes("AAA", one, 40.0 + number) for number, one in enumerate(known)]))
    extra = ExtraFacts(daily_bars=15)
    before, first = daily(bench, WHOLE[18], 15), known[17].date
    known_hash = bench.store.data_hash(first, known[18].date, ["AAA"], extra=extra)
    bench.put(pl.concat([minutes("AAA", one, 7.0) for one in WHOLE[20:30]]))
    split(bench, f"{WHOLE[25].date},AAA,3,1")
    assert daily(bench, WHOLE[18], 15).close.tobytes() == before.close.tobytes()
    assert bench.store.data_hash(first, known[18].date, ["AAA"], extra=extra) == known_hash
    split(bench, f"{WHOLE[10].date},AAA,3,1")
    assert bench.store.data_hash(first, known[18].date, ["AAA"], extra=extra) != known_hash


def test_more_days_are_another_input(bench: StoreFixture) -> None:
    """The hash of a run's data has the days before its range as far as it reads them."""
    bench.put(pl.concat([minutes("AAA", one, 40.0 + number) for number, one in enumerate(WHOLE)]))
    hashes = {
        bench.store.data_hash(WHOLE[30].date, WHOLE[31].date, ["AAA"], extra=ExtraFacts(daily_bars=days))
        for days in (0, 5, 25)
    }
    assert len(hashes) == 3


def test_rows_of_earlier_versions_have_their_opens(bench: StoreFixture) -> None:
    """A month whose daily file has none is read with the opens of its bars."""
    bench.put(
        pl.concat([minutes(name, one, 40.0 + number) for name in ("AAA", "BBB") for number, one in enumerate(WHOLE)])
    )
    expected = daily(bench, WHOLE[-1], 20, "AAA BBB")
    for name in manifest.stored_months(bench.bars):
        month = manifest.read_month(bench.bars, name)
        assert month is not None
        frame = parquet.read_daily(bench.bars, month)
        file, sha256 = parquet.write_frame(bench.bars, name, "daily", frame.drop("open"))
        entries = dict(month.entries)
        manifest.write_month(
            bench.bars, manifest.MonthManifest(name=name, daily=file, daily_sha256=sha256, entries=entries)
        )
        older = manifest.read_month(bench.bars, name)
        assert older is not None
        assert parquet.read_daily(bench.bars, older).equals(frame)
    assert daily(bench, WHOLE[-1], 20, "AAA BBB").open.tobytes() == expected.open.tobytes()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2019-12-02,AAA,1,1", "ratio of 1 to 1"),
        ("2019-12-02,AAA,0,2", "number of shares that is not from 1 to 1000"),
        ("2019-12-02,AAA,1,1001", "number of shares that is not from 1 to 1000"),
        ("2019-12-02,AAA,1.5,2", "number of shares that is not from 1 to 1000"),
        ("2019-12-02,AAA,-1,2", "number of shares that is not from 1 to 1000"),
        ("2019-12-02,AAA,x,2", "number of shares that is not from 1 to 1000"),
        ("2019-12-02,,1,2", "row without a symbol"),
        ("02.12.2019,AAA,1,2", "date that cannot be read"),
        ("2019-12-02,AAA,1,2\n2019-12-02,AAA,1,3", "after 3, line 2 has 2"),
    ],
)
def test_a_split_that_none_can_be_is_refused(bench: StoreFixture, text: str, words: str) -> None:
    """The whole file is, and its sentence names the line."""
    outcome = split(bench, text)
    assert isinstance(outcome, RefusedFile)
    assert words in outcome.reason
    assert reference.read_table(bench.bars, manifest.SPLITS).is_empty()
