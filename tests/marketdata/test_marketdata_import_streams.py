"""Imports of large files, and imports that end early: the same bars, nothing by half, and nothing twice."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from tbot_core.errors import AccessError
from tbot_core.marketdata.store import importer, manifest, source_readers
from tbot_core.marketdata.store.importer import (
    ImportCommitted,
    ImportedFile,
    ImportEvent,
    ImportProgress,
    RefusedFile,
    import_files,
)
from tbot_core.marketdata.store.source_files import ImportOptions
from tbot_core.system import filesystem
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.marketdata.store.source_readers import RawTable, SourceFormat

DAYS = exchange_sessions("2019-11-27", "2019-12-03")
FIRST, LAST = DAYS[0].date, DAYS[-1].date
NAMES = ("AAA", "BBB", "CCC")


@pytest.fixture
def bench(tmp_path: Path) -> StoreFixture:
    """An empty store."""
    return StoreFixture(folder=tmp_path)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of some hundred rows are large."""
    monkeypatch.setattr(source_readers, "BATCH_ROWS", 700)
    monkeypatch.setattr(source_readers, "BLOCK_BYTES", 4000)
    monkeypatch.setattr(importer, "ROWS_IN_MEMORY", 1000)


def rows() -> pl.DataFrame:
    """Three symbols over two months, minute by minute."""
    frames = [rising_bars(name, DAYS, price=50.0 * at) for at, name in enumerate(NAMES, start=1)]
    return pl.concat(frames).sort("ts", "symbol")


def taken(outcome: ImportedFile | RefusedFile) -> ImportedFile:
    """The outcome, which must be an import."""
    assert isinstance(outcome, ImportedFile), outcome
    return outcome


def refused(outcome: ImportedFile | RefusedFile) -> str:
    """The reason of an outcome, which must be a refusal."""
    assert isinstance(outcome, RefusedFile), outcome
    return outcome.reason


def content(bench: StoreFixture) -> str:
    """The hash of what is stored."""
    return bench.store.data_hash(FIRST, LAST, NAMES)


def expected(bench: StoreFixture) -> str:
    """The same of a store that was filled symbol by symbol."""
    other = StoreFixture(folder=bench.folder / "other")
    filesystem.make_folder(other.folder)
    other.put(*(frame for _, frame in rows().group_by("symbol")))
    return content(other)


@pytest.mark.parametrize("order", ["by minute", "by symbol", "shuffled"])
@pytest.mark.usefixtures("small")
def test_a_large_file_is_imported_in_parts(bench: StoreFixture, order: str) -> None:
    """In any order of its rows the store is the same as from one small file for each symbol, and no part stays."""
    frame = rows()
    if order == "by symbol":
        frame = frame.sort("symbol", "ts")
    elif order == "shuffled":
        frame = frame[np.random.default_rng(1).permutation(len(frame))]
    outcome = taken(bench.put(frame)[0])
    assert (outcome.symbols, outcome.first, outcome.last, outcome.added) == (NAMES, FIRST, LAST, len(frame))
    assert not (bench.bars / importer.FOLDER).exists()
    assert content(bench) == expected(bench)


def test_parts_of_an_import_that_was_killed_are_removed(bench: StoreFixture) -> None:
    """The next import begins without them."""
    folder = bench.bars / importer.FOLDER
    folder.mkdir(parents=True)
    (folder / "1-0.arrow").write_bytes(b"rubbish")
    taken(bench.put(rising_bars("AAA", DAYS))[0])
    assert not folder.exists()


@pytest.mark.usefixtures("small")
def test_a_large_csv_file_is_read_in_blocks(bench: StoreFixture) -> None:
    """Lines are never cut, and a fault far behind is named with its own line and in one count."""
    text = rows().with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv()
    assert taken(bench.put_text(text, name="all.csv")).added == len(rows())
    assert content(bench) == expected(bench)
    lines = text.splitlines()
    for line in (4000, 100):
        lines[line - 1] = lines[line - 1].replace(lines[line - 1].split(",")[2], "-1", 1)
    reason = refused(bench.put_text("\n".join(lines), name="bad.csv"))
    assert "price that is missing, zero, negative or not a number (2, first: line 100, " in reason


@pytest.mark.usefixtures("small")
def test_a_line_without_an_end_is_refused(bench: StoreFixture) -> None:
    """A file that is no table is not read into memory whole."""
    assert "a line is longer than" in refused(bench.put_text("ts,open" * 9000, name="bad.csv"))


@pytest.mark.usefixtures("small")
def test_a_fault_anywhere_refuses_a_large_file(bench: StoreFixture) -> None:
    """Rows that repeat or contradict each other in different parts are found; what was staged goes."""
    frame = rows()
    other = frame[:1].with_columns(volume=pl.lit(7, dtype=pl.Int64))
    reason = refused(bench.put(pl.concat([frame, frame[5:9], other]))[0])
    assert f"row that contradicts an earlier one (1, first: row {len(frame) + 5}, " in reason
    assert [path for path in bench.bars.rglob("*") if path.is_file() and not path.name.startswith(".import")] == []
    assert taken(bench.put(pl.concat([frame, frame[5:9]]))[0]).repeated == 4


def test_a_refused_file_leaves_the_files_of_another(bench: StoreFixture) -> None:
    """Two files with a month in common: the second one's conflict takes nothing of the first away."""
    one, two = rising_bars("AAA", DAYS), rising_bars("BBB", DAYS)
    outcomes = bench.put(one, pl.concat([two, one.with_columns(volume=pl.lit(9, dtype=pl.Int64))]), two)
    assert [type(outcome) for outcome in outcomes] == [ImportedFile, RefusedFile, ImportedFile]
    assert bench.store.symbols(FIRST, LAST) == ("AAA", "BBB")
    assert not np.isnan(next(iter(bench.store.blocks(FIRST, LAST, ("AAA", "BBB")))).bars.close).any()


@pytest.mark.usefixtures("small")
def test_a_refused_file_leaves_a_stored_file_of_the_same_content(bench: StoreFixture) -> None:
    """The same bars under another kind, with a fault in a later month: the stored month stays as it is."""
    frame = rising_bars("AAA", DAYS)
    bench.put(frame)
    known = content(bench)
    bad = pl.concat([frame, frame[-1:].with_columns(volume=pl.lit(7, dtype=pl.Int64))])
    refused(bench.put(bad, adjustment="split", replace=True)[0])
    assert content(bench) == known
    list(bench.store.blocks(FIRST, LAST, NAMES))


def test_a_full_disk_at_a_manifest_leaves_the_daily_rows_that_it_named(
    bench: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bars under another kind have the same daily rows: their file is not removed."""
    frame = rising_bars("AAA", DAYS)
    bench.put(frame)
    write = filesystem.write_atomic

    def full(path: Path, data: bytes, **options: Any) -> None:
        with filesystem.raising_access_errors("write", path):
            if path.name == manifest.MANIFEST:
                raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data, **options)

    monkeypatch.setattr(filesystem, "write_atomic", full)
    with pytest.raises(AccessError):
        bench.put(frame, adjustment="split", replace=True)
    assert bench.store.kinds(FIRST, LAST, NAMES) == (("raw", "consolidated"),)
    list(bench.store.blocks(FIRST, LAST, NAMES))


def test_progress_is_reported_within_a_file(bench: StoreFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of the file that rise to 1, then its result."""
    monkeypatch.setattr(source_readers, "BATCH_ROWS", 1000)
    path = bench.folder / "all.parquet"
    rows().write_parquet(path)
    events: list[ImportEvent] = []
    import_files(bench.bars, bench.calendar, [path], ImportOptions(), events.append)
    shares = [event.done for event in events if isinstance(event, ImportProgress)]
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert isinstance(events[-2], ImportedFile)
    assert events[-1] == ImportCommitted(files=1)


def read_again(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose rows are read from now on."""
    names: list[str] = []
    read = source_readers.read_tables

    def note(path: Path, mapping: SourceFormat | None = None) -> Iterator[RawTable]:
        names.append(path.name)
        return read(path, mapping)

    monkeypatch.setattr(source_readers, "read_tables", note)
    return names


def test_what_was_imported_is_not_read_again(bench: StoreFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file with the same options has the same counts; other options, or another kind, are read."""
    frame = pl.concat([rising_bars("AAA", DAYS), rising_bars("AAA", DAYS[:1])])
    first = taken(bench.put(frame)[0])
    names = read_again(monkeypatch)
    again = taken(bench.put(frame)[0])
    assert names == []
    assert (again.added, again.unchanged, again.repeated) == (0, first.added, 390)
    assert (again.symbols, again.first, again.last) == (first.symbols, first.first, first.last)
    assert "have raw prices" in refused(bench.put(frame, adjustment="split")[0])
    assert names == ["source-0.parquet"]


def test_a_file_under_another_name_is_of_another_symbol(bench: StoreFixture) -> None:
    """The name is the symbol where the rows have none: the same bytes are imported again."""
    text = "ts,open,high,low,close,volume\n2019-12-02T14:30:00Z,10,11,9,10,100\n"
    for name in ("FB", "META"):
        outcome = taken(bench.put_text(text, name=f"{name}.csv"))
        assert (outcome.symbols, outcome.added) == ((name,), 1)
    assert bench.store.symbols(FIRST, LAST) == ("FB", "META")


@pytest.mark.parametrize("change", ["rows", "kind", "damage", "daily", "month", "manifest"])
def test_a_month_that_changed_since_is_read_again(
    bench: StoreFixture, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A later import, damage or a lost month: the file counts as new, and its rows are compared with what is stored."""
    frame = rising_bars("AAA", DAYS)
    bench.put(frame)
    names = read_again(monkeypatch)
    month = bench.bars / "2019-12"
    if change == "rows":
        bench.put(frame.with_columns(volume=9), replace=True)
    elif change == "kind":
        bench.put(frame, adjustment="split", replace=True)
    elif change == "manifest":
        (month / "manifest.json").write_text("{")
    else:
        stem = {"damage": "AAA-*", "daily": "daily-*", "month": "*"}[change]
        for path in month.glob(stem):
            path.unlink() if change == "month" else path.write_bytes(b"rubbish")
    names.clear()
    outcome = bench.put(frame)[0]
    assert names == ["source-0.parquet"]
    if change in {"rows", "kind"}:
        refused(outcome)


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2, "sources": {}}', '{"format": 1, "sources": {"a": {}}}'])
def test_a_damaged_log_knows_nothing(bench: StoreFixture, text: str) -> None:
    """It costs time only."""
    frame = rising_bars("AAA", DAYS)
    bench.put(frame)
    (bench.bars / importer.FILE).write_text(text)
    assert taken(bench.put(frame)[0]).unchanged == len(frame)


KILLED = """
import os, signal, sys
from pathlib import Path
from tbot_core.marketdata.store import {module}
from tbot_core.marketdata.store.importer import import_files, source_files
from tbot_core.marketdata.store.source_files import ImportOptions
from tbot_core.model.calendar import ExchangeCalendar
left, write = int(sys.argv[3]), {module}.{function}
def last(*given):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(*given)
{module}.{function} = last
import_files(Path(sys.argv[1]), ExchangeCalendar(), source_files(Path(sys.argv[2])), ImportOptions(), lambda _: None)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "function", "calls"), [("parquet", "write_frame", 52), ("manifest", "write_month", 3)]
)
def test_an_import_that_was_killed_continues(
    bench: StoreFixture, monkeypatch: pytest.MonkeyPatch, module: str, function: str, calls: int
) -> None:
    """Killed while it writes a file or a month: what was committed is not read again, and all is stored at the end."""
    folder = bench.folder / "sources"
    folder.mkdir()
    names = [f"S{number:02}" for number in range(30)]
    for name in names:
        rising_bars(name, DAYS[:2] + DAYS[3:], minutes=2).write_parquet(folder / f"{name}.parquet")
    command = [
        sys.executable,
        "-c",
        KILLED.format(module=module, function=function),
        str(bench.bars),
        str(folder),
        str(calls),
    ]
    assert subprocess.run(command, check=False, env={**os.environ}).returncode == -signal.SIGKILL
    read = read_again(monkeypatch)
    outcomes = bench.import_files(*sorted(folder.iterdir()))
    assert all(isinstance(outcome, ImportedFile) for outcome in outcomes)
    assert len(read) == 5
    assert bench.store.symbols(FIRST, LAST) == tuple(names)
    month = manifest.read_month(bench.bars, "2019-12")
    assert month is not None
    assert manifest.unnamed_files(bench.bars, "2019-12", month.files) == []


def test_an_import_that_ends_early_keeps_the_files_that_are_done(
    bench: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at the second file, with room for the store's own files: the first is stored, and not read again."""
    write = filesystem.write_atomic

    def full(path: Path, data: bytes, **options: Any) -> None:
        with filesystem.raising_access_errors("write", path):
            if path.name.startswith("CCC-"):
                raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data, **options)

    files = [rising_bars("BBB", DAYS), pl.concat([rising_bars("AAA", DAYS), rising_bars("CCC", DAYS)])]
    monkeypatch.setattr(filesystem, "write_atomic", full)
    with pytest.raises(AccessError, match="No space left on device"):
        bench.put(*files)
    monkeypatch.setattr(filesystem, "write_atomic", write)
    assert bench.store.symbols(FIRST, LAST) == ("BBB",)
    assert not list(bench.bars.rglob("AAA-*"))
    names = read_again(monkeypatch)
    bench.put(*files)
    assert names == ["source-1.parquet"]
    assert bench.store.symbols(FIRST, LAST) == NAMES


@pytest.mark.parametrize("where", ["daily", "manifest", "parts"])
def test_a_full_disk_ends_an_import_with_nothing_by_half(
    bench: StoreFixture, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The error names disk and remedy; the store is what it was, without a stray file; later the import goes on."""
    bench.put(rising_bars("AAA", DAYS))
    before = {path: path.read_bytes() for path in bench.bars.rglob("*") if path.is_file()}
    write, overwrite = filesystem.write_atomic, filesystem.overwrite
    stem = {"daily": "daily-", "manifest": "manifest", "parts": "none"}[where]

    def full(path: Path, data: bytes, **options: Any) -> None:
        with filesystem.raising_access_errors("write", path):
            if path.name.startswith(stem):
                raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data, **options)

    def full_parts(path: Path, _data: bytes) -> None:
        with filesystem.raising_access_errors("write", path):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filesystem, "write_atomic", full)
    if where == "parts":
        monkeypatch.setattr(filesystem, "overwrite", full_parts)
        monkeypatch.setattr(importer, "ROWS_IN_MEMORY", 1000)
    files = [rising_bars("BBB", DAYS), pl.concat([rising_bars("CCC", DAYS), rising_bars("DDD", DAYS)])]
    with pytest.raises(AccessError, match="No space left on device") as caught:
        bench.put(*files)
    assert "The disk is full: free some space." in caught.value.remedy
    assert {path: path.read_bytes() for path in bench.bars.rglob("*") if path.is_file()} == before
    monkeypatch.setattr(filesystem, "write_atomic", write)
    monkeypatch.setattr(filesystem, "overwrite", overwrite)
    bench.put(*files)
    assert bench.store.symbols(FIRST, LAST) == ("AAA", "BBB", "CCC", "DDD")
