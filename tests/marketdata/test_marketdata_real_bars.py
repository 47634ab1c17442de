"""The store on real recordings: whole sets come in as they are, and their known days look as they should."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from tbot_core.marketdata.store.importer import ImportedFile, source_files
from tbot_core.marketdata.store.verification import FindingLevel, verify_store
from tbot_core.model.bars import FIELDS
from tbot_core.testing.store import StoreFixture, walk_sessions

if TYPE_CHECKING:
    from pathlib import Path

FIRST, LAST = dt.date(2018, 2, 16), dt.date(2018, 3, 29)


def filled(folder: Path, *sources: Path) -> StoreFixture:
    """A store with all the files of these folders."""
    bench = StoreFixture(folder=folder)
    for source in sources:
        assert all(isinstance(outcome, ImportedFile) for outcome in bench.import_files(*source_files(source)))
    return bench


@pytest.fixture(scope="module")
def spring(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> StoreFixture:
    """us300_2018 with the daily VIX and the fundamentals of 2018-02-08."""
    data = shared / "data"
    return filled(
        tmp_path_factory.mktemp("spring"),
        data / "bars" / "us300_2018",
        data / "vix_daily.parquet",
        data / "fundamentals" / "sp500_2018-02-08.parquet",
    )


def test_the_set_is_whole(spring: StoreFixture) -> None:
    """29 sessions of 16 symbols, hardly a minute missing; no window moves against the bell on 2018-03-11."""
    symbols = spring.store.symbols(FIRST, LAST)
    assert len(symbols) == 16
    assert len(spring.store.sessions(FIRST, LAST)) == 29
    blocks = list(spring.store.blocks(FIRST, LAST, symbols))
    assert [(block.month, len(block.sessions)) for block in blocks] == [("2018-02", 8), ("2018-03", 21)]
    assert sum(int((~np.isnan(block.bars.close)).sum()) for block in blocks) == 180_859
    apple = symbols.index("AAPL")
    assert not any(np.isnan(block.bars.open[:, apple]).any() for block in blocks)


def test_values_are_those_of_the_files(spring: StoreFixture, shared: Path) -> None:
    """Every number of a symbol's file comes back bit for bit, in order."""
    frame = pl.read_parquet(shared / "data" / "bars" / "us300_2018" / "GOOGL.parquet")
    rows = [
        np.stack([getattr(block.bars, name)[index, 0] for name in FIELDS])
        for block, index in walk_sessions(spring.store.blocks(FIRST, LAST, ["GOOGL"]))
    ]
    served = np.concatenate(rows, axis=1)
    served = served[:, ~np.isnan(served[3])]
    assert np.array_equal(served, frame.select(FIELDS).cast(pl.Float64).to_numpy().T)


def test_the_first_five_sessions_have_no_mean_volume(spring: StoreFixture) -> None:
    """The sixth is the first that knows one, for all symbols that traded whole days."""
    (february, march) = spring.store.blocks(FIRST, LAST, spring.store.symbols(FIRST, LAST))
    known = ~np.isnan(february.day.average_volume)
    assert known.any(axis=1).tolist() == [False] * 5 + [True] * 3
    assert (~np.isnan(march.day.average_volume)).all()


def test_the_vix_of_a_monday_is_fridays_close(spring: StoreFixture) -> None:
    """2018-03-12 uses the close of 2018-03-09."""
    monday = dt.date(2018, 3, 12)
    (block,) = spring.store.blocks(monday, monday, ["AAPL"])
    assert block.day.vix.tolist() == [[14.64]]


def test_capitalisations_are_known_from_their_date(spring: StoreFixture) -> None:
    """The record of 2018-02-08 serves every session of the set."""
    (block, *_) = spring.store.blocks(FIRST, LAST, ["AAPL", "MSFT"])
    assert (block.day.market_cap > 5e11).all()


def test_the_store_is_sound(spring: StoreFixture) -> None:
    """No fault and no warning; the missing minutes are notes."""
    proof = verify_store(spring.bars, spring.calendar, lambda _: None)
    assert {finding.level for finding in proof.findings} == {FindingLevel.NOTE}
    assert proof.bars == 180_859


def test_the_half_day_is_a_block_of_its_own(shared: Path, tmp_path: Path) -> None:
    """2019-12-24 has 210 minutes; the row at its close is dropped, and the day stands between its neighbours."""
    bench = filled(tmp_path, shared / "data" / "bars" / "yahoo_2019_12")
    first, last = dt.date(2019, 12, 20), dt.date(2019, 12, 27)
    blocks = list(bench.store.blocks(first, last, ["SPY", "TZA"]))
    assert [(len(block.sessions), block.bars.minutes) for block in blocks] == [(4, 390), (1, 210)]
    half = blocks[1]
    assert half.sessions[0].date == dt.date(2019, 12, 24)
    assert not np.isnan(half.bars.close[0, :, -1]).any()
    assert [block.sessions[index].date.day for block, index in walk_sessions(blocks)] == [20, 23, 24, 26, 27]
