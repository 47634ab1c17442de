"""Files that look like bars and are not: what is wrong is said with its place, and nothing of them is stored."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import polars as pl
import pytest

from tbot_core.marketdata.store.importer import ImportedFile, RefusedFile
from tbot_core.marketdata.store.verification import verify_store
from tbot_core.testing.store import StoreFixture

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "ts,open,high,low,close,volume,vwap\n"
ROW = "2019-12-02T14:{:02}:00Z,10,11,9,10,100,{}\n"


@pytest.fixture
def bench(tmp_path: Path) -> StoreFixture:
    """An empty store."""
    return StoreFixture(folder=tmp_path)


def refused(outcome: ImportedFile | RefusedFile) -> str:
    """The reason of an outcome, which must be a refusal."""
    assert isinstance(outcome, RefusedFile), outcome
    return outcome.reason


@pytest.mark.parametrize("vwap", ["1200", "1e300", "11.5501", "8.5499", "0.0001"])
def test_a_vwap_that_cannot_be_the_bars_own_refuses_the_file(bench: StoreFixture, vwap: str) -> None:
    """More than 5 % above the high or below the low: line and value are named."""
    reason = refused(bench.put_text(HEAD + ROW.format(30, 10) + ROW.format(31, vwap)))
    assert "vwap more than 5% outside the bar's low and high (1, first: line 3, " in reason
    assert f"vwap {vwap}" in reason


@pytest.mark.parametrize("vwap", ["11.55", "8.55", "0", "", "-1"])
def test_a_vwap_of_trades_that_make_no_high_or_low_is_taken(bench: StoreFixture, vwap: str) -> None:
    """Odd lots count in it; what is no price at all is taken as none, as before."""
    assert isinstance(bench.put_text(HEAD + ROW.format(30, vwap)), ImportedFile)


@pytest.mark.parametrize("twice", ["close,close", '"close",close', "close,Close", "close, close "])
def test_two_columns_of_one_name_refuse_the_file(bench: StoreFixture, twice: str) -> None:
    """It is unclear which of them counts; quotes, capitals and blanks make no other name."""
    reason = refused(bench.put_text(f"ts,open,high,low,{twice},volume\n2019-12-02T14:30:00Z,10,11,9,10,9.5,100\n"))
    assert "two columns have the same name" in reason


@pytest.mark.parametrize(
    ("head", "time", "words"),
    [
        (
            "date,timestamp",
            "2018-02-20,2018-02-20",
            "(1, first: line 2, timestamp 2018-02-20): date and time must be in one column, or in date and time, but",
        ),
        (
            "ts",
            "1519137000",
            "(1, first: line 2, ts 1519137000): write times as 2018-02-20T14:30:00Z, not as seconds",
        ),
        ("date", "2018-02-20", "(1, first: line 2, date 2018-02-20): it has one row per day"),
        ("date", "20180220", "(1, first: line 2, date 20180220): it has one row per day"),
    ],
)
def test_what_is_no_time_of_a_minute_is_named_with_its_remedy(
    bench: StoreFixture, head: str, time: str, words: str
) -> None:
    """Two columns of a time, and seconds, are not called daily; line and value are named."""
    assert words in refused(bench.put_text(f"{head},open,high,low,close,volume\n{time},10,11,9,10,100\n"))


def test_a_line_of_too_many_values_is_named(bench: StoreFixture) -> None:
    """A decimal comma without quotes makes two values of one: line and text are shown, and the remedy."""
    reason = refused(bench.put_text(HEAD + ROW.format(30, 10) + ROW.format(31, 10).replace(",11,", ",11,5,")))
    assert "line 3 has 8 values in 7 columns: '2019-12-02T14:31:00Z,10,11,5,9,10,100,10'. Write numbers with" in reason
    reason = refused(bench.put_text("ts;open;high;low;close;volume\n2019-12-02T14:30:00Z;10,5;11;9;10;100\n"))
    assert "line 2 has 2 values in 1 column: " in reason
    assert "a separator other than a comma is named with --mapping" in reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + '"' + "a,\n" * 50_000 + "a" * 200_000, "no CSV table can be read from it (could not parse"),
        (HEAD[:-1] + "," * 70_000 + "\n", "no CSV table can be read from it (its first line is longer than 64 KB)."),
        ("symbol," + HEAD + "x" * 500 + "," + ROW.format(30, 10), f"symbol {'x' * 40}). Write symbols"),
    ],
    ids=["a quote that nothing closes", "columns without end", "a long value"],
)
def test_a_text_without_measure_refuses_the_file_in_one_sentence(bench: StoreFixture, text: str, words: str) -> None:
    """A value, a header or a symbol of any length ends in a refusal that quotes the beginning at most."""
    reason = refused(bench.put_text(text))
    assert words in reason
    assert len(reason) < 400


def test_a_small_file_with_millions_of_rows_is_refused(bench: StoreFixture) -> None:
    """It would fill the memory; before it is unpacked, and the next file is imported."""
    row = {"symbol": "AAA", "ts": dt.datetime(2019, 12, 2, 14, 30, tzinfo=dt.UTC), "volume": 5}
    rows = pl.DataFrame([row | dict.fromkeys(("open", "high", "low", "close"), 9.0)])
    repeated = pl.concat([rows]).select(pl.all().repeat_by(1_500_000).explode())
    repeated.write_parquet(bench.folder / "AAA.parquet", compression="zstd")
    (bench.folder / "BBB.csv").write_text(HEAD + ROW.format(31, 10))
    crafted, sound = bench.import_files(bench.folder / "AAA.parquet", bench.folder / "BBB.csv")
    assert "AAA.parquet: 1,500,000 rows in " in refused(crafted)
    assert isinstance(sound, ImportedFile)


def test_a_file_on_which_its_reader_panics_is_refused_and_the_next_is_imported(
    bench: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A panic is no Exception; a damaged Parquet file raises one as easily as an error."""
    bench.put_text(HEAD + ROW.format(30, 10))
    stray = bench.bars / "2019-12" / "AAPL.parquet"
    (bench.folder / "AAA.parquet").write_bytes(b"damaged")

    def panic(*_: object) -> None:
        raise pl.exceptions.PanicException("assertion failed: left == right")

    monkeypatch.setattr(pl, "scan_parquet", panic)
    monkeypatch.setattr(pl, "read_parquet_schema", panic)
    (bench.folder / "BBB.csv").write_text(HEAD + ROW.format(31, 10))
    damaged, sound = bench.import_files(bench.folder / "AAA.parquet", bench.folder / "BBB.csv")
    assert "not a Parquet file, or a damaged one (assertion failed: left == right)" in refused(damaged)
    assert isinstance(sound, ImportedFile)
    stray.write_bytes(b"damaged")
    found = verify_store(bench.bars, bench.calendar, lambda _month: None).findings
    assert any("cannot be read as Parquet: assertion failed" in one.message for one in found)
