"""Imports source files: reads, checks and merges them into the store; a file is imported completely or not at all."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import numpy as np
import polars as pl

from tbot_core.errors import AccessError, DataError
from tbot_core.marketdata.store import bar_checks, manifest, parquet, reference, source_readers
from tbot_core.marketdata.store import source_files as readers
from tbot_core.marketdata.store.session_grid import SessionGrid, times_of
from tbot_core.marketdata.store.source_files import ROW, Faults, ImportOptions, RowFault, SourceKind, SourceTable, shown
from tbot_core.marketdata.store.writer import MonthPart, StoreChanges
from tbot_core.model import calendar as exchange
from tbot_core.model import json_document
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.formatting import plural
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from tbot_core.model.bars import Flags, Index
    from tbot_core.model.day_facts import Dates

# Manifests are written once per so many files, and then once per this share of those that were imported before: each
# names all symbols of a month, so that with a fixed number the cost would grow with the square of the files.
_FILES_A_COMMIT: Final = 25

_SHARE_A_COMMIT: Final = 4

_FRIDAY: Final = 5

_REPLACE: Final = "Compare both; --replace overwrites the stored values with those of this file."

ROWS_IN_MEMORY: Final = 1_500_000

FOLDER: Final = ".import.parts"
"""The folder of parts on disk, in the store's folder."""

_BUCKETS: Final = 8

_RADIX: Final = 2**16

_VALUES: Final = ("open", "high", "low", "close", "volume", "vwap")

_IN_THE_FUTURE: Final = RowFault(
    what="day in the future",
    remedy="Check how the file writes its times: day and month may be exchanged.",
)

_COLUMNS: Final = (ROW, "code", "ts", *_VALUES, "date")

FILE: Final = ".import.sources.json"

_FORMAT: Final = 1

_MOST: Final = 20_000


@attrs.frozen(kw_only=True)
class ImportedFile:
    """The result of an imported file; counts are rows.

    `added` are new, `unchanged` were stored already, `replaced` overwrote other values. `dropped` lie outside regular
    hours, `repeated` occur more than once, `rounded` had prices off the grid of 1e-4 USD, `holidays` are those in a
    file of the VIX.
    """

    file: str
    kind: SourceKind
    symbols: tuple[str, ...] = ()
    first: dt.date | None = None
    last: dt.date | None = None
    added: int = 0
    unchanged: int = 0
    replaced: int = 0
    dropped: int = 0
    repeated: int = 0
    rounded: int = 0
    holidays: int = 0


@attrs.frozen(kw_only=True)
class RefusedFile:
    """A file that was not imported, and why."""

    file: str
    reason: str


@attrs.frozen(kw_only=True)
class ImportProgress:
    """How much of a file has been read: 0 to 1."""

    file: str
    done: float


@attrs.frozen(kw_only=True)
class ImportCommitted:
    """The first `files` of the files are done, and what was imported from them is stored."""

    files: int


@attrs.frozen(kw_only=True)
class _Import:
    folder: Path
    calendar: ExchangeCalendar
    options: ImportOptions
    changes: StoreChanges
    done: _ImportLog
    on_event: Callable[[ImportEvent], None]

    def run_all(self, paths: Sequence[Path], done: int) -> None:
        """Import some files and commit them; `done` others were before. Ended early, it commits those that are done."""
        try:
            try:
                for path in paths:
                    self.on_event(self.run(path))
                    done += 1
            finally:
                self.changes.commit()
                self.done.write()
                self.on_event(ImportCommitted(files=done))
        except BaseException:
            self.changes.discard()
            raise

    def run(self, path: Path) -> ImportedFile | RefusedFile:
        try:
            sha256 = source_readers.sha256_of(path)
        except AccessError as fault:
            return RefusedFile(file=path.name, reason=str(fault))
        try:
            return self._imported(path, sha256)
        except DataError as fault:
            return RefusedFile(file=path.name, reason=str(fault))
        except source_readers.READER_FAULTS as fault:
            # For example a column of lists where numbers are expected.
            return RefusedFile(file=path.name, reason=f"{path.name}: a column has an unsupported type: {fault}.")

    def _imported(self, path: Path, sha256: str) -> ImportedFile:
        if (known := self.done.find(path, sha256, self.options)) is not None:
            return ImportedFile(file=path.name, kind=SourceKind.BARS, unchanged=known.bars, **_described(known))
        kind, tables = readers.read_source(path, self.options)
        if kind is SourceKind.BARS:
            return self._bars(self._reported(path, tables), path, sha256)
        source = readers.whole_table(tables)
        if kind is SourceKind.VIX:
            return self._vix(source)
        if kind is SourceKind.SPLITS:
            return self._facts(source, readers.splits_of(source), manifest.SPLITS)
        return self._facts(source, readers.fundamentals_of(source, self.options), manifest.FUNDAMENTALS)

    def _reported(self, path: Path, tables: Iterable[SourceTable]) -> Iterator[SourceTable]:
        for table in tables:
            yield table
            self.on_event(ImportProgress(file=path.name, done=table.done))

    def _bars(self, tables: Iterator[SourceTable], path: Path, sha256: str) -> ImportedFile:
        rows = _ImportedRows(self.folder, self.calendar, self.options.today)
        try:
            for source in tables:
                rows.add(source, readers.bars_of(source, path, self.options, rows.faults))
            merges, record = self._stored(rows, source, sha256)
        except BaseException:
            self.changes.reject()
            raise
        finally:
            rows.close()
        self.changes.accept()
        self.done.note(path, sha256, self.options, record)
        return ImportedFile(
            file=source.name,
            kind=source.kind,
            added=sum(merge.added for merge in merges),
            unchanged=sum(merge.unchanged for merge in merges),
            replaced=sum(merge.replaced for merge in merges),
            **_described(record),
        )

    def _stored(self, rows: _ImportedRows, source: SourceTable, sha256: str) -> tuple[list[_Merge], _SourceRecord]:
        # Merge the rows of a file with the stored ones; raises DataError with all faults of the file.
        merges: list[_Merge] = []
        files: dict[str, list[str]] = {}
        symbols, days = set[str](), set[dt.date]()
        for part in rows.ordered(source):
            merges.append(self._merged(source, part, sha256))
            files.setdefault(part.month, []).append(merges[-1].file)
            symbols.add(part.symbol)
            days.update((part.first, part.last))
        rows.faults.refuse(source)
        if not rows.regular:
            hours = f"none of its {plural(rows.read, 'row')} is in the regular hours of a session"
            raise source.refuse([hours if rows.read else "it has no rows"])
        if faults := [merge.conflict for merge in merges if merge.conflict]:
            raise DataError(f"{source.name}: {'; '.join(faults)}.", _REPLACE)
        record = _SourceRecord(
            symbols=tuple(sorted(symbols)),
            first=min(days),
            last=max(days),
            files=files,
            bars=rows.regular - rows.repeated,
            dropped=rows.dropped,
            repeated=rows.repeated,
            rounded=rows.rounded,
        )
        return merges, record

    def _merged(self, source: SourceTable, part: _SymbolMonth, sha256: str) -> _Merge:
        # Merge a symbol's new rows of a month with the stored ones, and stage the result.
        symbol, month, new = part.symbol, part.month, part.bars
        entry = self.changes.stored(month, symbol)
        old, since = self._stored_bars(month, symbol, entry)
        kind = self.options.adjustment, self.options.volume
        if not len(old):
            merge = _Merge(bars=new, added=len(new))
        elif entry is not None and (entry.adjustment, entry.volume) != kind:
            if not self.options.replace:
                stored = f"{entry.adjustment} prices and {entry.volume} volume"
                own = f"{kind[0]} prices and {kind[1]} volume"
                return _Merge(conflict=f"the stored bars of {symbol} in {month} have {stored}, those of the file {own}")
            # Two kinds in one month would be compared with each other, so all stored bars are replaced.
            merge = _Merge(bars=new, replaced=len(old))
        elif entry is not None and new.equals(old):
            return _Merge(unchanged=len(new), file=entry.file)
        else:
            named = new.with_columns(part.rows.alias(ROW), pl.lit(symbol).alias("symbol"))
            differing = bar_checks.differing_rows(named, old, ("ts",))
            if len(differing) and not self.options.replace:
                return _Merge(conflict=_conflict(source, differing))
            merge = _joined(new, old, len(differing))
        if entry is not None and not merge.added and not merge.replaced:
            return attrs.evolve(merge, file=entry.file)
        sources = tuple(sorted({*since, sha256}))
        staged = MonthPart(
            month=month, symbol=symbol, bars=merge.bars, adjustment=kind[0], volume=kind[1], sources=sources
        )
        return attrs.evolve(merge, bars=parquet.NO_BARS, file=self.changes.put(staged))

    def _stored_bars(
        self, month: str, symbol: str, entry: manifest.SymbolMonth | None
    ) -> tuple[pl.DataFrame, tuple[str, ...]]:
        # The stored bars and their sources; with `replace`, damaged ones count as none.
        if entry is None:
            return parquet.NO_BARS, ()
        try:
            return self.changes.bars(month, symbol), entry.sources
        except DataError:
            if not self.options.replace:
                raise
            return parquet.NO_BARS, ()

    def _vix(self, source: SourceTable) -> ImportedFile:
        frame, holidays = readers.vix_of(source)
        day, latest = pl.col("date"), self.options.today or dt.date.max
        wrong = {
            "day in the future": frame.filter(day > latest),
            "day of a weekend": frame.filter(day.dt.weekday() > _FRIDAY),
        }
        if faults := [source.name_rows(what, rows) for what, rows in wrong.items() if len(rows)]:
            raise source.refuse(faults)
        # The exchange's own file has values of holidays on which the index is computed for a part of the day.
        covered = frame["date"].filter(frame["date"].is_between(exchange.FIRST_DAY, exchange.LAST_DAY)).unique()
        closed = [one for one in covered if self.calendar.holiday(one)]
        traded = frame.filter(~day.is_in(pl.Series(closed, dtype=pl.Date)))
        result = self._facts(source, traded, manifest.VIX)
        return attrs.evolve(result, holidays=holidays + len(frame) - len(traded))

    def _facts(self, source: SourceTable, frame: pl.DataFrame, table: str) -> ImportedFile:
        # Merge rows into a table of facts and write it, unless nothing changes.
        keys, names = reference.KEYS[table], reference.SCHEMAS[table].names()
        values = reference.COMPARED.get(table) or tuple(name for name in names if name not in keys)
        clean = _validated(source, frame.select(ROW, *names), keys, values, bar_checks.FACT_FAULTS[table])
        old = self._stored_facts(table)
        differing = bar_checks.differing_rows(clean, old.select(*keys, *values), keys)
        if len(differing) and not self.options.replace:
            raise DataError(f"{source.name}: {_conflict(source, differing)}.", _REPLACE)
        new = clean.select(names)
        common = len(new.join(old, on=list(keys), how="semi"))
        if len(differing) or common < len(new):
            kept = old.join(differing, on=list(keys), how="anti")
            merged = pl.concat([kept, new.join(kept, on=list(keys), how="anti")]).sort(keys)
            reference.write_table(self.folder, table, merged)
        dates = new[keys[-1]]
        return ImportedFile(
            file=source.name,
            kind=source.kind,
            symbols=tuple(sorted(new["symbol"].unique())) if "symbol" in keys else (),
            first=_first(dates),
            last=_last(dates),
            added=len(new) - common,
            unchanged=common - len(differing),
            replaced=len(differing),
            repeated=len(frame) - len(clean),
        )

    def _stored_facts(self, table: str) -> pl.DataFrame:
        # The stored table; with `replace`, a damaged one counts as none.
        try:
            return reference.read_table(self.folder, table)
        except DataError:
            if not self.options.replace:
                raise
            return pl.DataFrame(schema=reference.SCHEMAS[table])


@attrs.frozen(kw_only=True, eq=False)
class _Merge:
    # The merged month of a symbol, or the conflict.
    conflict: str = ""
    bars: pl.DataFrame = parquet.NO_BARS
    file: str = ""
    added: int = 0
    unchanged: int = 0
    replaced: int = 0


@attrs.frozen(kw_only=True, eq=False)
class _SymbolMonth:
    # One symbol's rows of a month: the columns of stored bars, by time, and the rows of the file that held them.
    symbol: str
    month: str
    bars: pl.DataFrame
    rows: pl.Series
    first: dt.date
    last: dt.date


@attrs.frozen(kw_only=True)
class _SourceRecord:
    # An imported source: its symbols and days, the store's files by month, and the counts of its rows.
    symbols: tuple[str, ...]
    first: dt.date
    last: dt.date
    files: Mapping[str, Sequence[str]]
    bars: int
    dropped: int
    repeated: int
    rounded: int


ImportEvent: TypeAlias = ImportedFile | RefusedFile | ImportProgress | ImportCommitted


def source_files(path: Path) -> tuple[Path, ...]:
    """The file itself, or the files of a folder that can be imported, by name; DataError for a folder without any."""
    if not filesystem.is_folder(path):
        return (path,)
    files = tuple(file for file in filesystem.entries(path) if source_readers.is_source(file))
    if not files:
        remedy = "Give a file, or a folder of files."
        if folders := source_readers.nested_folders(path):
            remedy = f"Subfolders are not searched: give one of {', '.join(folders)}."
        raise DataError(f"{path} contains no Parquet, CSV or JSON file.", remedy)
    return files


def import_files(
    folder: Path,
    calendar: ExchangeCalendar,
    files: Sequence[Path],
    options: ImportOptions,
    on_event: Callable[[ImportEvent], None],
) -> None:
    """Import the files into the store under `folder`; `on_event` receives the progress and the result of each file.

    A refused file changes nothing, and the others continue. A file of bars that was imported as a whole, and whose rows
    are as it left them, is not read again. Raises AccessError when the folder cannot be written, the disk is full, or
    another import is running. Then, as after an interruption, the files that were done before are stored as far as
    their last `ImportCommitted` says.
    """
    filesystem.make_folder(folder)
    with filesystem.hold_lock(folder / manifest.LOCK):
        _remove_parts(folder)
        log = _ImportLog(folder)
        for done, some in _commits(files):
            work = _Import(
                folder=folder,
                calendar=calendar.every_weekday,
                options=options,
                changes=StoreChanges(folder, calendar),
                done=log,
                on_event=on_event,
            )
            work.run_all(some, done)


class _ImportedRows:
    # The rows of one file; `dropped` are outside regular hours, `repeated` occur again, `rounded` had other prices.
    def __init__(self, folder: Path, calendar: ExchangeCalendar, latest: dt.date | None = None) -> None:
        """`folder`: of the store, for the parts of a large file. Later days than `latest` are a fault."""
        self.faults = Faults()
        self.read = self.dropped = self.repeated = self.rounded = 0
        self._folder = folder / FOLDER
        self._calendar = calendar
        self._latest = latest
        self._codes: dict[str, int] = {}
        self._parts: list[pl.DataFrame] = []
        self._held = 0
        self._files: dict[int, list[Path]] = {}

    @property
    def regular(self) -> int:
        """The number of rows in regular hours."""
        return self.read - self.dropped

    def add(self, source: SourceTable, frame: pl.DataFrame) -> None:
        """Check some rows, and keep those in regular hours."""
        self.read += len(frame)
        rows = self._regular(frame)
        self.dropped += len(frame) - len(rows)
        rows, rounded = bar_checks.rounded_to_grid(rows)
        self.rounded += rounded
        self._check(source, rows)
        self._parts.append(rows.with_columns(self._coded(rows["symbol"])).select(_COLUMNS))
        self._held += len(rows)
        if self._held > ROWS_IN_MEMORY:
            self._write()

    def ordered(self, source: SourceTable) -> Iterator[_SymbolMonth]:
        """The rows by symbol and month, without repetitions; none any more once there is a fault.

        Rows that contradict each other are added to `faults` as they are met.
        """
        if self._files and self._held:
            self._write()
        listed = [files for _, files in sorted(self._files.items())]
        parts = ([pl.read_ipc(path) for path in files] for files in listed) if listed else [self._parts]
        for part in parts:
            rows, codes = self._clean(source, pl.concat(part))
            if not self.faults:
                yield from self._months(rows, codes)

    def close(self) -> None:
        """Remove the parts on disk."""
        self._parts = []
        _remove_parts(self._folder.parent)

    def _regular(self, frame: pl.DataFrame) -> pl.DataFrame:
        # The rows in regular hours, with the exchange date of each.
        sessions = self._sessions(frame["ts"])
        if not sessions:
            return frame.clear().with_columns(date=pl.lit(None, dtype=pl.Date))
        grid = SessionGrid(sessions)
        rows, _, inside = grid.place(times_of(frame))
        dated = frame.with_columns(pl.Series("date", grid.dates[rows], dtype=pl.Date))
        return dated if inside.all() else dated.filter(pl.Series(inside))

    def _sessions(self, times: pl.Series) -> tuple[Session, ...]:
        # The sessions that may contain the times; exchange date and UTC date differ by at most a day.
        first, last = times.min(), times.max()
        if not isinstance(first, dt.datetime) or not isinstance(last, dt.datetime):
            return ()
        one = dt.timedelta(days=1)
        return self._calendar.sessions(
            max(first.date() - one, exchange.FIRST_DAY), min(last.date() + one, exchange.LAST_DAY)
        )

    def _check(self, source: SourceTable, rows: pl.DataFrame) -> None:
        if self._latest is not None:
            self.faults.add(source, _IN_THE_FUTURE, rows.filter(pl.col("date") > self._latest))
        found = rows.select(fault.rows.any().alias(fault.what) for fault in bar_checks.BAR_FAULTS)
        for fault, has_fault in zip(bar_checks.BAR_FAULTS, found.row(0), strict=True):
            if has_fault:
                self.faults.add_rows(source, fault, rows)

    def _coded(self, symbols: pl.Series) -> pl.Series:
        # A number for each symbol, by first use: numbers are sorted and moved much faster than text.
        names = symbols.unique()
        own = np.array([self._codes.setdefault(name, len(self._codes)) for name in names], dtype=np.uint32)
        if len(names) == 1:
            return pl.Series("code", np.full(len(symbols), own[0]))
        return pl.Series("code", own[symbols.cast(pl.Enum(names)).to_physical().to_numpy()])

    def _months(self, rows: pl.DataFrame, codes: Index) -> Iterator[_SymbolMonth]:
        days = rows["date"].to_numpy()
        bars, lines = rows.select(parquet.BAR_SCHEMA.names()).cast(parquet.BAR_SCHEMA), rows[ROW]
        names = list(self._codes)
        for start, stop in itertools.pairwise((*_month_starts(codes, days), len(rows))):
            first, last = days[start].item(), days[stop - 1].item()
            yield _SymbolMonth(
                symbol=names[codes[start]],
                month=manifest.month_of(first),
                bars=bars[start:stop],
                rows=lines[start:stop],
                first=first,
                last=last,
            )

    def _clean(self, source: SourceTable, rows: pl.DataFrame) -> tuple[pl.DataFrame, Index]:
        # The rows by symbol and time, each once, and their symbols' numbers.
        codes, times = rows["code"].to_numpy().astype(np.intp), times_of(rows)
        if (order := _order(codes, times)) is not None:
            rows, codes, times = rows[order], codes[order], times[order]
        again: Flags = (codes[1:] == codes[:-1]) & (times[1:] == times[:-1])
        if not again.any():
            return rows, codes
        twice = np.flatnonzero(np.append(again, False) | np.append(False, again))
        names = list(self._codes)
        named = rows[twice].with_columns(pl.Series("symbol", [names[code] for code in codes[twice].tolist()]))
        self.faults.add_contradictions(source, named, ("symbol", "ts"), _VALUES)
        self.repeated += int(again.sum())
        once = np.flatnonzero(np.append(True, ~again))
        return rows[once], codes[once]

    def _write(self) -> None:
        # Write the rows in memory to parts by month, and within a month by symbol.
        filesystem.make_folder(self._folder)
        rows = pl.concat(self._parts)
        months = rows["date"].to_numpy().astype("datetime64[M]").astype(np.intp)
        keys = months * _BUCKETS + rows["code"].to_numpy() % _BUCKETS
        order = np.argsort(keys, kind="stable")
        rows, keys = rows[order], keys[order]
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
        for start, stop in itertools.pairwise((*starts.tolist(), len(rows))):
            files = self._files.setdefault(int(keys[start]), [])
            files.append(self._folder / f"{keys[start]}-{len(files)}.arrow")
            buffer = io.BytesIO()
            rows[start:stop].write_ipc(buffer, compression="lz4")
            filesystem.overwrite(files[-1], buffer.getvalue())
        self._parts, self._held = [], 0


def _remove_parts(folder: Path) -> None:
    # Remove the parts of an import into this store, as one that was killed leaves them.
    parts = folder / FOLDER
    if filesystem.exists(parts):
        for path in filesystem.entries(parts):
            filesystem.remove(path)
        filesystem.remove_empty_folder(parts)


class _ImportLog:
    # The sources of a store; those noted count from `write` on.
    def __init__(self, folder: Path) -> None:
        """Read the log; one that is damaged or absent knows no source."""
        self._folder = folder
        self._records = _read(folder)
        self._noted: dict[str, _SourceRecord] = {}

    def find(self, path: Path, sha256: str, options: ImportOptions) -> _SourceRecord | None:
        """The record of a source whose rows are stored as its import left them; None without one."""
        record = self._records.get(_key(path, sha256, options))
        return record if record is not None and self._holds(record, (options.adjustment, options.volume)) else None

    def note(self, path: Path, sha256: str, options: ImportOptions, record: _SourceRecord) -> None:
        """Add a source whose parts will be committed."""
        self._noted[_key(path, sha256, options)] = record

    def write(self) -> None:
        """Write the log with the noted sources, after their parts were committed."""
        if not self._noted:
            return
        self._records = dict(list((self._records | self._noted).items())[-_MOST:])
        self._noted = {}
        sources = {key: attrs.asdict(record) for key, record in self._records.items()}
        text = json.dumps({"format": _FORMAT, "sources": sources}, default=str)
        filesystem.write_atomic(self._folder / FILE, f"{text}\n".encode())

    def _holds(self, record: _SourceRecord, kind: tuple[str, str]) -> bool:
        # Whether the months name the source's files, as bars of its kind, and these and the daily rows are undamaged.
        try:
            for name, files in record.files.items():
                month = manifest.read_month(self._folder, name)
                entries = {} if month is None else {entry.file: entry for entry in month.entries.values()}
                found = [entries[file] for file in files if file in entries]
                if month is None or len(found) < len(files) or any((it.adjustment, it.volume) != kind for it in found):
                    return False
                for one in found:
                    manifest.prove(self._folder / name / one.file, one.sha256)
                parquet.read_daily(self._folder, month)
        except (DataError, AccessError):
            return False
        return True


def _commits(files: Sequence[Path]) -> Iterator[tuple[int, Sequence[Path]]]:
    # The number of files before, and the files that are committed together.
    start = 0
    while start < len(files):
        stop = start + max(_FILES_A_COMMIT, start // _SHARE_A_COMMIT)
        yield start, files[start:stop]
        start = stop


def _described(record: _SourceRecord) -> dict[str, Any]:
    names = ("symbols", "first", "last", "dropped", "repeated", "rounded")
    return {name: getattr(record, name) for name in names}


def _joined(new: pl.DataFrame, old: pl.DataFrame, differing: int) -> _Merge:
    common = len(new.join(old, on="ts", how="semi"))
    bars = pl.concat([old.join(new, on="ts", how="anti"), new]).sort("ts")
    return _Merge(bars=bars, added=len(new) - common, unchanged=common - differing, replaced=differing)


def _validated(
    source: SourceTable,
    frame: pl.DataFrame,
    keys: tuple[str, ...],
    values: tuple[str, ...],
    faults: Sequence[RowFault],
) -> pl.DataFrame:
    # The rows without repetitions; raises DataError with all faults of the file.
    found = Faults()
    for fault in faults:
        found.add_rows(source, fault, frame)
    found.add_contradictions(source, frame, keys, values)
    found.refuse(source)
    return frame.unique(keys, keep="first", maintain_order=True)


def _conflict(source: SourceTable, differing: pl.DataFrame) -> str:
    first = differing.row(0, named=True)
    name = next(
        name.removesuffix("_stored")
        for name in differing.columns
        if name.endswith("_stored") and first[name] != first[name.removesuffix("_stored")]
    )
    what = source.count("row that differs from the stored one", differing)
    return f"{what}: {name} {shown(first[name])}, stored {shown(first[f'{name}_stored'])}"


def _first(days: pl.Series) -> dt.date | None:
    day = days.min()
    return day if isinstance(day, dt.date) else None


def _last(days: pl.Series) -> dt.date | None:
    day = days.max()
    return day if isinstance(day, dt.date) else None


def _month_starts(codes: Index, days: Dates) -> list[int]:
    # Where a symbol's month begins. Of each day one row is looked at: the month of a day takes long to compute.
    changes = (codes[1:] != codes[:-1]) | (days[1:] != days[:-1])
    starts = np.flatnonzero(np.append(True, changes)) if len(codes) else np.array([], dtype=np.intp)
    symbols, months = codes[starts], days[starts].astype("datetime64[M]")
    begins = np.append(True, (symbols[1:] != symbols[:-1]) | (months[1:] != months[:-1]))[: len(starts)]
    found: list[int] = starts[begins].tolist()
    return found


def _order(codes: Index, times: Index) -> Index | None:
    # The order by symbol and time, that of the file among equals; None where the rows have it.
    later = times[1:] >= times[:-1]
    if (later | (codes[1:] > codes[:-1])).all() and (codes[1:] >= codes[:-1]).all():
        return None
    if later.all() and codes.max() < _RADIX:  # minutes of all symbols: a radix sort of small numbers is much faster
        return np.argsort(codes.astype(np.uint16), kind="stable")
    return np.lexsort((times, codes))


def _key(path: Path, sha256: str, options: ImportOptions) -> str:
    # With the file's name, or what is given in its place: the symbol of its rows.
    name = path.name if options.symbol is None else f"/{options.symbol}"
    how = f"{name} {sha256} {options.adjustment} {options.volume} {options.zone} {options.mapping}"
    return hashlib.sha256(how.encode()).hexdigest()


def _read(folder: Path) -> dict[str, _SourceRecord]:
    path = folder / FILE
    if not filesystem.exists(path):
        return {}
    try:
        content = json_document.parse_json(filesystem.read_bytes(path))
        if content["format"] != _FORMAT:
            return {}
        return {str(key): _record(fields) for key, fields in content["sources"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _record(fields: Mapping[str, Any]) -> _SourceRecord:
    days = {name: dt.date.fromisoformat(fields[name]) for name in ("first", "last")}
    return _SourceRecord(**{**fields, **days, "symbols": tuple(fields["symbols"])})
