"""Exports: what is written can be imported again, and is then the same to the last bit."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import polars as pl
import pytest

from tbot_core.errors import AccessError, DataError
from tbot_core.marketdata.store.exporter import ExportRequest, export_bars
from tbot_core.marketdata.store.importer import source_files
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.marketdata.store.exporter import ExportedBars

FIRST, LAST = dt.date(2019, 11, 27), dt.date(2020, 1, 3)
WHOLE = exchange_sessions("2019-11-27", "2020-01-03")


@pytest.fixture
def bench(tmp_path: Path) -> StoreFixture:
    """Two symbols over three months, one of them with a vwap and odd prices."""
    made = StoreFixture(folder=tmp_path)
    odd = rising_bars("BRK.B", WHOLE[2:], price=0.0937).with_columns(pl.col("open", "high", "low", "close").abs() + 1)
    made.put(rising_bars("AAA", WHOLE), odd.with_columns(vwap=pl.col("open") / 3 * 2.9991))
    return made


def export(bench: StoreFixture, folder: str, **asked: object) -> ExportedBars:
    """Export a range, by default all of it."""
    request = {"first": FIRST, "last": LAST, "symbols": (), "folder": bench.folder / folder, **asked}
    return export_bars(bench.store, ExportRequest(**request), lambda _: None)  # type: ignore[arg-type]  # of their types


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_comes_back_with_the_same_hash(bench: StoreFixture, form: str) -> None:
    """In either format, for the whole and for a part of a month."""
    for first, last in ((FIRST, LAST), (WHOLE[5].date, WHOLE[8].date)):
        folder = f"{form}-{first}"
        exported = export(bench, folder, first=first, last=last, format=form)
        assert exported.files == (f"AAA.{form}", f"BRK.B.{form}")
        other = StoreFixture(folder=bench.folder / f"again-{folder}")
        other.folder.mkdir()
        other.import_files(*source_files(bench.folder / folder))
        pair = ("AAA", "BRK.B")
        stored = next(iter(bench.store.blocks(first, last, pair)))
        again = next(iter(other.store.blocks(first, last, pair)))
        for name in ("open", "close", "volume", "vwap"):
            assert stored.bars.field(name).tobytes() == again.bars.field(name).tobytes()
        if first == FIRST:
            assert other.store.data_hash(first, last, pair) == bench.store.data_hash(first, last, pair)
            assert exported.bars == 390 * (len(WHOLE) * 2 - 2) - 180 * 3


def test_an_export_of_some_symbols_says_how_to_import_it(bench: StoreFixture) -> None:
    """The kind of prices and volumes is reported; simulated bars are named."""
    bench.put(rising_bars("ZZZ", WHOLE[:1]), adjustment="split", volume="partial")
    exported = export(bench, "one", symbols=("ZZZ", "NOPE"))
    assert (exported.files, exported.bars, exported.absent) == (("ZZZ.parquet",), 390, ("NOPE",))
    assert (exported.adjustment, exported.volume, exported.simulated) == ("split", "partial", False)


def test_an_export_refuses_what_one_import_cannot_distinguish(bench: StoreFixture) -> None:
    """Bars of two kinds, a range without bars, and a file that exists already."""
    bench.put(rising_bars("ZZZ", WHOLE[:1]), adjustment="split")
    with pytest.raises(DataError, match="several kinds: raw prices and consolidated volume; split prices"):
        export(bench, "mixed")
    with pytest.raises(DataError, match="No bars of NOPE are stored"):
        export(bench, "none", symbols=("NOPE",))
    export(bench, "twice", symbols=("AAA",))
    with pytest.raises(AccessError, match=r"AAA\.parquet: it exists"):
        export(bench, "twice", symbols=("AAA",))
