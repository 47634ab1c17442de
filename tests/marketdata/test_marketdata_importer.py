"""Imports: what is taken, what is refused and in which words, and that nothing comes in by half."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from tbot_core.errors import AccessError, DataError, UsageError
from tbot_core.marketdata.store import importer, manifest, parquet, reference
from tbot_core.marketdata.store.importer import ImportedFile, RefusedFile, source_files
from tbot_core.marketdata.store.source_files import ImportOptions, SourceKind
from tbot_core.model.types import is_symbol
from tbot_core.system import filesystem
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from pathlib import Path

DAYS = exchange_sessions("2019-12-02", "2019-12-04")
HEAD = "ts,open,high,low,close,volume\n"
ROW = "2019-12-02T14:30:00Z,10,11,9,10,100\n"


@pytest.fixture
def bench(tmp_path: Path) -> StoreFixture:
    """An empty store."""
    return StoreFixture(folder=tmp_path)


def taken(outcome: ImportedFile | RefusedFile) -> ImportedFile:
    """The outcome, which must be an import."""
    assert isinstance(outcome, ImportedFile), outcome
    return outcome


def refused(outcome: ImportedFile | RefusedFile) -> str:
    """The reason of an outcome, which must be a refusal."""
    assert isinstance(outcome, RefusedFile), outcome
    return outcome.reason


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a store and its content, but for the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".import")
    }


def opens(bench: StoreFixture, symbol: str = "AAPL") -> list[float]:
    """The opens of 2019-12-02's bars."""
    day = dt.date(2019, 12, 2)
    (block,) = bench.store.blocks(day, day, [symbol])
    prices = block.bars.open[0, 0]
    return [float(price) for price in prices[~np.isnan(prices)]]


def test_an_import_says_what_it_did(bench: StoreFixture) -> None:
    """Symbols, range, and the counts of what was added, dropped, repeated and rounded."""
    early = DAYS[0].open - dt.timedelta(minutes=1)
    frame = rising_bars("AAA", DAYS[:2])
    frame = pl.concat([frame, frame[:3], frame[:1].with_columns(ts=pl.lit(early).cast(frame.schema["ts"]))])
    off = pl.int_range(pl.len()) == 5
    (outcome,) = bench.put(frame.with_columns(close=pl.when(off).then(pl.col("close") + 0.00004).otherwise("close")))
    assert outcome == ImportedFile(
        file="source-0.parquet",
        kind=SourceKind.BARS,
        symbols=("AAA",),
        first=dt.date(2019, 12, 2),
        last=dt.date(2019, 12, 3),
        added=780,
        dropped=1,
        repeated=3,
        rounded=1,
    )


def test_the_same_rows_again_change_nothing(bench: StoreFixture) -> None:
    """Not a byte of the store, and the import says so; not even for a part of the rows."""
    bench.put(rising_bars("AAA", DAYS))
    before = snapshot(bench.bars)
    whole, part = bench.put(rising_bars("AAA", DAYS), rising_bars("AAA", DAYS[1:2], minutes=7))
    assert (taken(whole).added, taken(whole).unchanged) == (0, 1170)
    assert (taken(part).added, taken(part).unchanged) == (0, 7)
    assert snapshot(bench.bars) == before


def test_more_rows_join_those_that_are_stored(bench: StoreFixture) -> None:
    """New sessions and minutes are added; of a month's files only the symbol's own is written anew."""
    bench.put(rising_bars("AAA", DAYS[:1], minutes=10), rising_bars("BBB", DAYS))
    before = set(snapshot(bench.bars))
    (outcome,) = bench.put(rising_bars("AAA", DAYS))
    assert (taken(outcome).added, taken(outcome).unchanged) == (1160, 10)
    after = set(snapshot(bench.bars))
    assert {name.split("/")[1][:3] for name in before ^ after} == {"AAA", "dai"}
    day = bench.store.facts(exchange_sessions("2019-12-05", "2019-12-05"), ["AAA", "BBB"])
    assert day.previous_close[0].tolist() == pytest.approx([103.9, 103.9])


def test_rows_that_differ_are_refused_with_an_example(bench: StoreFixture) -> None:
    """The whole file is refused, also its rows that fit; the count, the first row and both values are named."""
    bench.put(rising_bars("AAA", DAYS[:1]))
    before = snapshot(bench.bars)
    frame = rising_bars("AAA", DAYS[:2])
    other = frame.with_columns(volume=pl.when(pl.int_range(pl.len()).is_in([3, 4])).then(7).otherwise("volume"))
    (outcome,) = bench.put(other)
    assert "row that differs from the stored one (2, first: row 4, 2019-12-02 14:33:00 UTC, AAA)" in refused(outcome)
    assert "volume 7, stored 103" in refused(outcome)
    assert "--replace" in refused(outcome)
    assert snapshot(bench.bars) == before


def test_a_value_that_only_the_store_has_is_none_of_the_file(bench: StoreFixture) -> None:
    """A VWAP that the second file lacks: the sentence has no word of a programming language."""
    taken(bench.put_text(f"{HEAD.strip()},vwap\n{ROW.strip()},10.5\n"))
    assert ": vwap none, stored 10.5. Compare both" in refused(bench.put_text(HEAD + ROW))


def test_replace_lets_the_new_rows_win(bench: StoreFixture) -> None:
    """Rows that differ give way, the others stay."""
    bench.put(rising_bars("AAPL", DAYS[:1], minutes=3))
    text = HEAD + ROW.replace(",10,", ",10.5,", 1)
    assert taken(bench.put_text(text, replace=True)).replaced == 1
    assert opens(bench) == [10.5, 100.01, 100.02]


def test_two_kinds_of_prices_do_not_share_a_month(bench: StoreFixture) -> None:
    """Split-adjusted rows are refused where raw ones are stored; with replace they take the month whole."""
    bench.put(rising_bars("AAA", DAYS))
    (outcome,) = bench.put(rising_bars("AAA", DAYS[:1], price=25), adjustment="split")
    assert "the stored bars of AAA in 2019-12 have raw prices and consolidated volume" in refused(outcome)
    (outcome,) = bench.put(rising_bars("AAA", DAYS[:1], price=25), adjustment="split", replace=True)
    assert (taken(outcome).added, taken(outcome).replaced) == (0, 1170)
    assert opens(bench, "AAA")[0] == 25.0
    assert [session.date.day for session in bench.store.sessions(dt.date(2019, 12, 1), dt.date(2019, 12, 31))] == [2]
    assert bench.store.kinds(dt.date(2019, 12, 1), dt.date(2019, 12, 31), ["AAA"]) == (("split", "consolidated"),)


def test_files_of_one_import_see_each_other(bench: StoreFixture) -> None:
    """A second file that contradicts the first one of the same import is refused."""
    first, second = bench.put(rising_bars("AAA", DAYS), rising_bars("AAA", DAYS, price=99.0))
    assert taken(first).added == 1170
    assert "row that differs" in refused(second)


def test_a_refused_file_does_not_stop_the_others(bench: StoreFixture) -> None:
    """The files before and after it come in."""
    bad = rising_bars("BBB", DAYS).with_columns(close=None)
    outcomes = bench.put(rising_bars("AAA", DAYS), bad, rising_bars("CCC", DAYS))
    assert [type(outcome) for outcome in outcomes] == [ImportedFile, RefusedFile, ImportedFile]
    assert bench.store.symbols(DAYS[0].date, DAYS[0].date) == ("AAA", "CCC")


def test_a_file_that_cannot_be_read_does_not_stop_the_others(bench: StoreFixture, tmp_path: Path) -> None:
    """A folder with a file's name is refused in the system's words, and the next file comes in."""
    (tmp_path / "AAA.csv").mkdir()
    good = tmp_path / "BBB.csv"
    good.write_text(HEAD + ROW)
    folder, file = bench.import_files(tmp_path / "AAA.csv", good)
    assert "Is a directory" in refused(folder)
    assert taken(file).added == 1


def test_many_files_are_committed_in_batches(bench: StoreFixture) -> None:
    """More files than one commit takes all come in, each month's daily rows complete."""
    bench.put(*(rising_bars(f"S{number:02}", DAYS[:1], minutes=2) for number in range(60)))
    assert len(bench.store.symbols(DAYS[0].date, DAYS[0].date)) == 60
    assert len(list((bench.bars / "2019-12").glob("*.parquet"))) == 61


def test_the_batches_of_many_files_grow(bench: StoreFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest names every symbol of its month: it is not written again for each few of many files."""
    write, manifests = filesystem.write_atomic, list[int]()

    def counted(path: Path, data: bytes, **options: Any) -> None:
        if path.name == manifest.MANIFEST:
            manifests.append(data.count(b".parquet"))
        write(path, data, **options)

    monkeypatch.setattr(filesystem, "write_atomic", counted)
    monkeypatch.setattr(importer, "_FILES_A_COMMIT", 2)
    bench.put(*(rising_bars(f"S{number:02}", DAYS[:1], minutes=2) for number in range(40)))
    assert [held - 1 for held in manifests] == [2, 4, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40]


def test_the_names_of_files_are_durable_before_the_manifest_that_lists_them(
    bench: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A month's folder is synced once for all its files, then its manifest is written; the same for tables of facts."""
    write, settle, done = filesystem.write_atomic, filesystem.settle, list[tuple[str, str]]()

    def written(path: Path, data: bytes, **options: Any) -> None:
        done.append((path.parent.name, path.suffix))
        write(path, data, **options)

    def settled(folder: Path) -> None:
        done.append((folder.name, "settled"))
        settle(folder)

    monkeypatch.setattr(filesystem, "write_atomic", written)
    monkeypatch.setattr(filesystem, "settle", settled)
    bench.put(*(rising_bars(name, DAYS[:1]) for name in ("AAA", "BBB")))
    parquet = [".parquet"] * 3  # two symbols, and the daily rows
    assert [what for folder, what in done if folder == "2019-12"] == [*parquet, "settled", ".json", "settled"]
    done.clear()
    bench.put_text("date,open,high,low,close\n2019-12-02,14,15,13,14\n", name="vix.csv")
    of_store = [what for folder, what in done if folder == bench.bars.name]
    assert of_store[of_store.index(".parquet") :][:4] == [".parquet", "settled", ".json", "settled"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            "2019-12-02T14:31:00Z,10,11,9,,100",
            "price that is missing, zero, negative or not a number (1, first: line 3",
        ),
        ("2019-12-02T14:31:00Z,10,11,9,NaN,100", "price that is missing, zero, negative or not a number"),
        ("2019-12-02T14:31:00Z,10,inf,9,10,100", "price that is missing, zero, negative or not a number"),
        ("2019-12-02T14:31:00Z,10,1e12,9,,100", "price above 900719925474 USD, which cannot be held to 1e-4 USD"),
        ("2019-12-02T14:31:00Z,10,11,0,10,100", "price that is missing, zero, negative or not a number"),
        ("2019-12-02T14:31:00Z,10,11,-9,10,100", "price that is missing, zero, negative or not a number"),
        ("2019-12-02T14:31:00Z,10,11,nine,10,100", "price that is missing, zero, negative or not a number"),
        ("2019-12-02T14:31:00Z,10,9.99,9,10,100", "high below the bar's open, close or low"),
        ("2019-12-02T14:31:00Z,10,11,10.5,10.7,100", "low above the bar's open or close"),
        ("2019-12-02T14:31:00Z,10,11,9,10,-1", "volume that is missing, negative or not a number"),
        ("2019-12-02T14:31:00Z,10,11,9,10,", "volume that is missing, negative or not a number"),
        (
            "2019-12-02T14:31:00Z,10,11,9,10,9223372036854775807",
            "AAPL.csv: volume above 9007199254740992 shares, which cannot be held exactly (1, first: line 3, ",
        ),
        (
            "2019-12-02T14:31:00Z,10,1e30,9,10,1",
            "AAPL.csv: price above 900719925474 USD, which cannot be held to 1e-4 USD (1, first: line 3, ",
        ),
        ("2019-12-02T14:31:00Z,10,11,9,10,1.5", "volume that is not a whole number of shares"),
        ("2019-12-02T14:31:30Z,10,11,9,10,1", "time that is not on the minute (1, first: line 3, 2019-12-02 14:31:30"),
        (
            "2019-12-02T14:30:00Z,10,11,9,10,1",
            "an earlier one (1, first: line 3, 2019-12-02 14:30:00 UTC, AAPL, volume 1, line 2 has 100). Keep one of",
        ),
        ("yesterday,10,11,9,10,100", "ambiguous (1, first: line 3, AAPL, ts yesterday). Write times as"),
        ("2019-13-02T14:31:00Z,10,11,9,10,100", "time that cannot be read"),
        (",10,11,9,10,100", "ambiguous (1, first: line 3, AAPL, ts missing)"),
    ],
)
def test_a_fault_refuses_its_file(bench: StoreFixture, rows: str, words: str) -> None:
    """The sentence names the fault, how often, and the first line; nothing is stored."""
    reason = refused(bench.put_text(f"{HEAD}{ROW}{rows}\n"))
    assert reason.startswith("AAPL.csv: ")
    assert words in reason
    assert bench.store.symbols(DAYS[0].date, DAYS[0].date) == ()


@pytest.mark.parametrize(
    ("row", "value"),
    [("10,11,9,10,9223372036854775807", "volume 9223372036854775807"), ("10,1e30,9,10,1", "high 1e30")],
)
def test_a_number_that_is_too_large_is_reported_as_it_is_written(bench: StoreFixture, row: str, value: str) -> None:
    """With its file, line and column, so that it is found at once."""
    reason = refused(bench.put_text(f"{HEAD}{ROW}2019-12-02T14:31:00Z,{row}\n"))
    assert f"first: line 3, 2019-12-02 14:31:00 UTC, AAPL, {value})" in reason


def test_bars_of_the_future_are_refused(bench: StoreFixture) -> None:
    """A day that has not been is a time that was read wrongly; today's bars are imported."""
    day = DAYS[0].date
    later = f"{DAYS[1].date}T14:30:00Z,10,11,9,10,100\n"
    reason = refused(bench.put_text(HEAD + ROW + later, today=day))
    assert f"day in the future (1, first: line 3, {DAYS[1].date} 14:30:00 UTC, AAPL). Check how the file" in reason
    assert taken(bench.put_text(HEAD + ROW, today=day)).added == 1


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("nan,11,9,10,1", "open nan"),
        ("10,-11,9,10,1", "high -11"),
        ("10,11,0,10,1", "low 0"),
        ("10,11,9,,1", "close missing"),
        ("x,11,9,y,1", "open x, close y"),
        ("10,11,9,10,", "volume missing"),
        ("10,11,9,10,1 share", "volume '1 share'"),
        ("10,9.5,9,10,1", "open 10, high 9.5, low 9, close 10"),
        ("10,11,10.5,10.7,1", "open 10, high 11, low 10.5, close 10.7"),
    ],
)
def test_a_refusal_names_line_column_value_and_remedy(bench: StoreFixture, row: str, value: str) -> None:
    """The value is shown as written; a price that is out of order is shown with the bar's others."""
    reason = refused(bench.put_text(f"{HEAD}{ROW}2019-12-02T14:31:00Z,{row}\n"))
    assert f"(1, first: line 3, 2019-12-02 14:31:00 UTC, AAPL, {value})" in reason
    assert reason.endswith("Correct these rows, or remove them, and import the file again.")


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ('"10,5",11,9,10,1', "open '10,5'"),
        ('1010.5,"1,011.5",1009,1010,1', "high '1,011.5'"),
        ('10,11,9,10,"1,000"', "volume '1,000'"),
    ],
)
def test_a_number_with_a_comma_is_said_as_such(bench: StoreFixture, row: str, value: str) -> None:
    """A decimal comma or a separator of thousands makes no price zero or negative; other faults are named beside it."""
    other = "2019-12-02T14:32:00Z,0,11,9,10,1"
    reason = refused(bench.put_text(f"{HEAD}{ROW}2019-12-02T14:31:00Z,{row}\n{other}\n"))
    assert f"number that is written with a comma (1, first: line 3, 2019-12-02 14:31:00 UTC, AAPL, {value})" in reason
    assert "price that is missing, zero, negative or not a number (1, first: line 4, " in reason
    assert "Write numbers as 1234.5: with a decimal point" in reason


def test_all_faults_of_a_file_are_reported_at_once(bench: StoreFixture) -> None:
    """All faults of a file are reported at once."""
    reason = refused(bench.put_text(f"{HEAD}2019-12-02T14:31:00Z,10,9,8,10,1\n2019-12-02T14:32:00Z,10,11,9,10,-1\n"))
    assert "high below" in reason
    assert "volume that is missing" in reason


def test_faults_outside_regular_hours_do_not_matter(bench: StoreFixture) -> None:
    """Rows that are dropped anyway are not judged."""
    outcome = taken(bench.put_text(f"{HEAD}{ROW}2019-12-02T13:00:10Z,10,1,9,,-5\n"))
    assert (outcome.added, outcome.dropped) == (1, 1)


@pytest.mark.parametrize(
    "moment",
    [
        "2019-12-02T14:30:00Z",
        "2019-12-02 14:30:00+00:00",
        "2019-12-02T09:30:00-05:00",
        "2019-12-02 09:30:00-0500",
        "2019-12-02 09:30-05",
        "2019-12-02T20:00:00.000+05:30",
        " 12/02/2019 14:30 Z",
        "12/02/2019 14:30:00Z",
    ],
)
def test_times_with_an_offset_are_read(bench: StoreFixture, moment: str) -> None:
    """However it is written, the moment is the opening bell."""
    taken(bench.put_text(f"{HEAD}{moment},10,11,9,10,100\n"))
    (block,) = bench.store.blocks(DAYS[0].date, DAYS[0].date, ["AAPL"])
    assert block.bars.open[0, 0, 0] == 10.0


def test_times_without_an_offset_need_a_zone(bench: StoreFixture) -> None:
    """They are refused without --zone and read with it, beside others that have an offset."""
    text = f"{HEAD}2019-12-02 09:30:00,10,11,9,10,100\n2019-12-02 14:31:00Z,12,13,11,12,100\n"
    assert "give their time zone with --zone" in refused(bench.put_text(text))
    taken(bench.put_text(text, zone="America/New_York"))
    assert opens(bench) == [10.0, 12.0]


def test_parquet_times_without_a_zone_need_one(bench: StoreFixture) -> None:
    """The same for a naive column of a Parquet file."""
    local = rising_bars("AAA", DAYS[:1]).with_columns(
        pl.col("ts").dt.convert_time_zone("America/New_York").dt.replace_time_zone(None)
    )
    assert "give their time zone with --zone" in refused(bench.put(local)[0])
    assert taken(bench.put(local, zone="America/New_York")[0]).added == 390
    aware = rising_bars("AAA", DAYS[:1]).with_columns(pl.col("ts").dt.convert_time_zone("Asia/Tokyo"))
    assert taken(bench.put(aware)[0]).unchanged == 390


def test_an_ambiguous_time_is_refused(bench: StoreFixture) -> None:
    """01:30 on the night that the clock goes back happens twice: no guess is made."""
    reason = refused(bench.put_text(f"{HEAD}2019-11-03 01:30,10,11,9,10,100\n", zone="America/New_York"))
    assert "clock change makes ambiguous" in reason


def test_an_unknown_zone_is_wrong_usage() -> None:
    """A zone that the machine does not know is refused before any file is read."""
    for zone in ("Mars/Base", "../etc", "America"):
        with pytest.raises(UsageError, match="is not a time zone"):
            ImportOptions(zone=zone)


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (HEAD.replace("ts", "date") + "2019-12-02,10,11,9,10,100\n", "AAPL.csv", "one row per day"),
        (HEAD + ROW, "AAPL_1min.csv", "it has no symbol column, and its name 'AAPL_1min' is not a symbol"),
        (HEAD, "AAPL.csv", "it has no rows"),
        (HEAD + "2019-12-01T15:00:00Z,10,11,9,10,100\n", "AAPL.csv", "none of its 1 row is in the regular hours"),
        (HEAD + "1999-12-01T15:00:00Z,10,11,9,10,100\n", "AAPL.csv", "none of its 1 row is in the regular hours"),
        ("a,b\n1,2\n", "AAPL.csv", "its columns match no known kind of data: a, b"),
        ("", "AAPL.csv", "no CSV table can be read from it"),
        ("Open,open\n1,2\n", "AAPL.csv", "two columns have the same name: Open, open"),
        (
            "symbol," + HEAD + "aapl," + ROW,
            "x.csv",
            "invalid symbol (1, first: line 2, 2019-12-02 14:30:00 UTC, symbol aapl). Write",
        ),
        ("symbol," + HEAD + "../../etc," + ROW, "x.csv", "invalid symbol"),
        ("symbol," + HEAD + "," + ROW, "x.csv", "symbol missing)"),
    ],
)
def test_a_file_that_cannot_be_taken_says_why(bench: StoreFixture, text: str, name: str, words: str) -> None:
    """Daily bars, nameless bars, empty and foreign tables each get their own sentence."""
    assert words in refused(bench.put_text(text, name=name))


def test_a_time_column_of_numbers_is_refused(bench: StoreFixture) -> None:
    """Seconds or milliseconds: no guess is made."""
    frame = rising_bars("AAA", DAYS[:1]).with_columns(pl.col("ts").dt.epoch("s"))
    assert "column ts must hold times of minutes, but holds Int64" in refused(bench.put(frame)[0])


@pytest.mark.parametrize("cut", [0, 10, 500])
def test_a_corrupt_parquet_file_is_refused(bench: StoreFixture, tmp_path: Path, cut: int) -> None:
    """Empty, rubbish or cut short: one sentence that names it."""
    path = tmp_path / "AAPL.parquet"
    path.write_bytes(parquet.parquet_bytes(rising_bars("AAPL", DAYS))[:cut])
    assert "AAPL.parquet: not a Parquet file, or a damaged one" in refused(bench.import_files(path)[0])


def test_a_file_of_another_kind_is_refused_with_the_endings_that_are_read(bench: StoreFixture, tmp_path: Path) -> None:
    """A Parquet file may have any name; what is none is not called a damaged one."""
    path = tmp_path / "note.md"
    path.write_text("hello")
    assert "note.md: no Parquet file, and its name ends in none of .parquet, .csv," in refused(
        bench.import_files(path)[0]
    )


def test_headers_are_read_in_any_case(bench: StoreFixture) -> None:
    """Capitals, blanks and the ticker's other name are understood; the symbol may differ by row."""
    text = (
        "Timestamp, Ticker,Open,High,Low,Close,Volume\n"
        "2019-12-02T14:30:00Z,AAPL,10,11,9,10,100\n2019-12-02T14:30:00Z,BRK.B,20,21,19,20,100\n"
    )
    assert taken(bench.put_text(text, name="all.csv")).symbols == ("AAPL", "BRK.B")


def test_symbols_are_tickers() -> None:
    """Nothing that could leave the store's folder is a symbol."""
    assert all(is_symbol(text) for text in ("A", "BRK.B", "BF-B", "X123"))
    assert not any(is_symbol(text) for text in ("", "a", ".A", "A.", "A/B", "..", "A" * 17, "A\n", "F240119P00012000"))


def test_a_damaged_store_is_repaired_by_importing_again(bench: StoreFixture) -> None:
    """Without replace the damage is named; with it the file's bars take the place of the lost ones."""
    bench.put(rising_bars("AAA", DAYS), rising_bars("BBB", DAYS))
    for path in (bench.bars / "2019-12").glob("[Ad]*.parquet"):
        path.write_bytes(b"rubbish")
    assert "is corrupt" in refused(bench.put(rising_bars("AAA", DAYS))[0])
    assert taken(bench.put(rising_bars("AAA", DAYS), replace=True)[0]).added == 1170
    assert bench.store.symbols(DAYS[0].date, DAYS[-1].date) == ("AAA", "BBB")
    day = bench.store.facts(exchange_sessions("2019-12-05", "2019-12-05"), ["AAA", "BBB"])
    assert day.previous_close[0].tolist() == pytest.approx([103.9, 103.9])


def test_files_left_by_an_interrupted_import_are_swept(bench: StoreFixture) -> None:
    """A file that no manifest names is not served, and the month's next import removes it."""
    bench.put(rising_bars("AAA", DAYS[:1]))
    stray = bench.bars / "2019-12" / "ZZZ-0123456789abcdef.parquet"
    stray.write_bytes(parquet.parquet_bytes(rising_bars("ZZZ", DAYS)))
    assert bench.store.symbols(DAYS[0].date, DAYS[-1].date) == ("AAA",)
    bench.put(rising_bars("BBB", DAYS[:1]))
    assert not stray.exists()


def test_one_import_at_a_time(bench: StoreFixture) -> None:
    """While another import holds the store, nothing is taken."""
    bench.bars.mkdir()
    with filesystem.hold_lock(bench.bars / ".import.lock"), pytest.raises(AccessError, match="in use by another"):
        bench.put(rising_bars("AAA", DAYS))


def test_a_folder_gives_its_parquet_and_csv_files(tmp_path: Path) -> None:
    """By name, others left out; an empty folder is an error, and so is one without such a file."""
    with pytest.raises(DataError, match="contains no Parquet, CSV or JSON file"):
        source_files(tmp_path)
    for name in ("b.csv", "a.parquet", "notes.txt", "C.CSV"):
        (tmp_path / name).touch()
    assert [path.name for path in source_files(tmp_path)] == ["C.CSV", "a.parquet", "b.csv"]
    assert source_files(tmp_path / "a.parquet") == (tmp_path / "a.parquet",)


VIX = "date,open,high,low,close\n2019-11-01,12,13,11,12.5\n2019-11-04,13,14,12,13.5\n"


def test_the_vix_is_merged_like_bars(bench: StoreFixture) -> None:
    """New days are added, the same ones change nothing, others are refused without replace."""
    assert taken(bench.put_text(VIX, name="vix.csv")).added == 2
    before = snapshot(bench.bars)
    assert taken(bench.put_text(VIX, name="vix.csv")).unchanged == 2
    assert snapshot(bench.bars) == before
    other = VIX.replace("13.5", "13.6") + "2019-11-05,13,14,12,14.5\n"
    reason = refused(bench.put_text(other, name="vix.csv"))
    assert "(1, first: line 3): close 13.6, stored 13.5" in reason
    outcome = taken(bench.put_text(other, name="vix.csv", replace=True))
    assert (outcome.added, outcome.unchanged, outcome.replaced) == (1, 1, 1)
    assert reference.read_table(bench.bars, manifest.VIX)["close"].to_list() == [12.5, 13.6, 14.5]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            "2019-11-05,2700,2710,2690,2705",
            "which the VIX has never reached (1, first: line 4, open 2700",
        ),
        ("2019-11-05,13,14,12,", "value that is missing, zero, negative or not a number"),
        ("2019-11-04,13,14,12,99", "row that contradicts an earlier one"),
        ("some day,13,14,12,13", "date that cannot be read (1, first: line 4, date 'some day'). Write dates as"),
    ],
)
def test_a_vix_file_with_a_fault_is_refused(bench: StoreFixture, row: str, words: str) -> None:
    """Another index's file has the same columns, and is recognised by its values."""
    assert words in refused(bench.put_text(f"{VIX}{row}\n", name="vix.csv"))


def test_days_of_the_vix_that_cannot_be_are_refused_by_line(bench: StoreFixture) -> None:
    """Days in the future and of weekends, each by its line; today's is taken, and ten lines are enough."""
    rows = "2019-11-06,1,1,1,1\n2019-11-09,1,1,1,1\n2019-11-07,1,1,1,1\n2019-11-02,1,1,1,1\n"
    reason = refused(bench.put_text(VIX + rows, name="vix.csv", today=dt.date(2019, 11, 6)))
    assert "day in the future (line 5 of 2019-11-09, line 6 of 2019-11-07)" in reason
    assert "day of a weekend (line 5 of 2019-11-09, line 7 of 2019-11-02)" in reason
    many = "".join(f"2019-12-{day:02},1,1,1,1\n" for day in range(2, 20))
    reason = refused(bench.put_text(VIX + many, name="vix.csv", today=dt.date(2019, 12, 1)))
    assert "line 13 of 2019-12-11 and 8 more)" in reason
    today = "2019-11-06,1,1,1,1\n"
    assert taken(bench.put_text(VIX + today, name="vix.csv", today=dt.date(2019, 11, 6))).added == 3


def test_values_of_holidays_are_left_out_of_the_vix(bench: StoreFixture) -> None:
    """The exchange's own file has some, since the index is computed for a part of the day; they are counted."""
    outcome = taken(bench.put_text(VIX + "2019-11-28,13,14,12,13\n2019-11-29,13,14,12,14\n", name="vix.csv"))
    assert (outcome.added, outcome.holidays) == (3, 1)
    assert dt.date(2019, 11, 28) not in reference.read_table(bench.bars, manifest.VIX)["date"].to_list()


def test_only_the_close_of_the_vix_is_compared(bench: StoreFixture) -> None:
    """A file without the other prices, or with others, is the same where its closes are; what is stored stays."""
    taken(bench.put_text(VIX, name="vix.csv"))
    closes = "observation_date,VIXCLS\n2019-11-01,12.5\n2019-11-04,13.5\n2019-11-05,14\n"
    outcome = taken(bench.put_text(closes, name="VIXCLS.csv"))
    assert (outcome.added, outcome.unchanged) == (1, 2)
    assert reference.read_table(bench.bars, manifest.VIX)["open"].to_list() == [12, 13, 14]
    empty = "date,open,high,low,close\n2019-11-01,,.,,12.5\n2019-11-06,,,,15\n"
    outcome = taken(bench.put_text(empty, name="vix.csv"))
    assert (outcome.added, outcome.unchanged) == (1, 1)
    assert reference.read_table(bench.bars, manifest.VIX)["open"].to_list() == [12, 13, 14, 15]
    other = closes.replace("13.5", "13.6")
    assert "(1, first: line 3): close 13.6, stored 13.5" in refused(bench.put_text(other, name="VIXCLS.csv"))
    assert "value that is missing" in refused(bench.put_text(VIX.replace(",13,", ",x,"), name="vix.csv"))


def test_f08_the_vix_is_read_in_both_date_forms_and_without_its_holidays(bench: StoreFixture) -> None:
    """The exchange's own file, and FRED's that has only the close: empty or a dot on a holiday, counted as left out."""
    text = "DATE,OPEN,HIGH,LOW,CLOSE\n11/27/2019,12,13,11,11.75\n11/28/2019,.,.,.,.\n2019-11-29,12,13,11,12.62\n"
    outcome = taken(bench.put_text(text, name="VIX_History.csv"))
    assert (outcome.added, outcome.holidays) == (2, 1)
    text = "observation_date,VIXCLS\n2019-12-24,12.67\n2019-12-25,.\n2019-12-26,12.65\n"
    outcome = taken(bench.put_text(text, name="VIXCLS.csv"))
    assert (outcome.kind, outcome.added, outcome.holidays) == ("VIX", 2, 1)
    stored = reference.read_table(bench.bars, manifest.VIX)
    assert stored["close"].to_list() == [11.75, 12.62, 12.67, 12.65]
    assert [day.isoformat() for day in stored["date"]] == ["2019-11-27", "2019-11-29", "2019-12-24", "2019-12-26"]
    text = "observation_date,VIXCLS\n1990-02-16,19.73\n1990-02-19,\n1990-02-20,24.87\n"
    outcome = taken(bench.put_text(text, name="VIXCLS.csv"))
    assert (outcome.kind, outcome.added, outcome.holidays) == ("VIX", 2, 1)
    reason = refused(bench.put_text("observation_date,VIXCLS\n2019-12-27,-\n", name="VIXCLS.csv"))
    assert "value that is missing, zero, negative or not a number" in reason


def test_dates_are_read_in_every_common_form(bench: StoreFixture) -> None:
    """ISO, American and compact text, and a Parquet file's dates and moments."""
    text = "date,open,high,low,close\n2019-11-01,1,1,1,1\n11/04/2019,1,1,1,1\n20191105,1,1,1,1\n"
    bench.put_text(text, name="vix.csv")
    moments = pl.DataFrame({"date": [dt.datetime(2019, 11, 6, tzinfo=dt.UTC)]})
    bench.put(moments.with_columns(pl.lit(1.0).alias(name) for name in manifest.PRICES))
    assert [day.day for day in reference.read_table(bench.bars, manifest.VIX)["date"]] == [1, 4, 5, 6]
    numbers = pl.DataFrame({"date": [20191107], **dict.fromkeys(manifest.PRICES, 1.0)})
    assert "column date must hold dates, but holds Int64" in refused(bench.put(numbers)[0])


def test_a_damaged_table_is_repaired_by_importing_again(bench: StoreFixture) -> None:
    """As bars are: with replace, and the file that is no longer named goes; the other table stays."""
    bench.put_text(VIX, name="vix.csv")
    bench.put_text("symbol,as_of,market_cap\nAAA,2019-01-01,5\n", name="caps.csv")
    (path,) = bench.bars.glob("vix-*")
    path.write_bytes(b"rubbish")
    assert "is corrupt" in refused(bench.put_text(VIX, name="vix.csv"))
    assert taken(bench.put_text(VIX, name="vix.csv", replace=True)).added == 2
    bench.put_text(VIX + "2019-11-05,13,14,12,14.5\n", name="vix.csv")
    assert len(list(bench.bars.glob("vix-*"))) == 1
    assert len(reference.read_table(bench.bars, manifest.VIX)) == 3
    assert len(reference.read_table(bench.bars, manifest.FUNDAMENTALS)) == 1


def test_a_column_of_another_kind_is_refused(bench: StoreFixture) -> None:
    """Lists where numbers belong, and a column that has our name for the row's number."""
    frame = rising_bars("AAA", DAYS[:1])
    (outcome,) = bench.put(frame.with_columns(close=pl.concat_list("close", "open")))
    assert "a column has an unsupported type" in refused(outcome)
    assert taken(bench.put(frame.with_columns(row=1))[0]).added == 390


def test_undated_fundamentals_need_a_date(bench: StoreFixture) -> None:
    """The sentence says how to give one; a percent of debt becomes a ratio, and what is no number unknown."""
    text = "symbol,market_cap,debt_to_equity_pct,pe_ratio,sector\nAAA,5e9,50,n/a,Tech\n"
    assert "give the date with --as-of DATE" in refused(bench.put_text(text, name="stats.csv"))
    outcome = taken(bench.put_text(text, name="stats.csv", as_of=dt.date(2018, 10, 20)))
    assert (outcome.kind, outcome.symbols) == (SourceKind.FUNDAMENTALS, ("AAA",))
    assert reference.read_table(bench.bars, manifest.FUNDAMENTALS).row(0, named=True) == {
        "symbol": "AAA",
        "as_of": dt.date(2018, 10, 20),
        "market_cap": 5e9,
        "pe_ratio": None,
        "debt_to_equity": 0.5,
        "eps": None,
        "sector": "Tech",
    }


def test_impossible_fundamentals_are_refused(bench: StoreFixture) -> None:
    """A capitalisation of 0, or of more than any, or a row without a symbol, is a broken file."""
    text = "symbol,as_of,market_cap\nAAA,2019-01-01,0\n,2019-01-01,5\nBBB,2019-01-01,1e308\n"
    reason = refused(bench.put_text(text, name="caps.csv"))
    assert "capitalisation of zero or less (1, first: line 2, AAA, market_cap 0)" in reason
    assert "row without a symbol or date (1, first: line 3, symbol missing)" in reason
    assert "capitalisation of 10^15 USD or more (1, first: line 4, BBB, market_cap 1e308)" in reason
