"""Imports source files: reads, checks and merges them into the store; a file is imported completely or not at all."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import polars as pl

from tbot_core.errors import AccessError, DataError
from tbot_core.marketdata.store import bar_checks, parquet, reference
from tbot_core.marketdata.store import source_files as readers
from tbot_core.marketdata.store.session_grid import SessionGrid
from tbot_core.marketdata.store.source_files import ROW, ImportOptions, SourceKind, SourceTable
from tbot_core.marketdata.store.writer import MonthPart, StoreChanges
from tbot_core.model import calendar as exchange
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tbot_core.model.calendar import Session

# Manifests are written once per so many files, so that a folder of hundreds does not rewrite each month hundreds of
# times.
_FILES_A_COMMIT: Final = 25
_FRIDAY: Final = 5


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


def source_files(path: Path) -> tuple[Path, ...]:
    """The file itself, or the Parquet and CSV files of a folder by name; raises DataError for a folder without any."""
    if not filesystem.is_folder(path):
        return (path,)
    files = tuple(file for file in filesystem.entries(path) if file.suffix.lower() in readers.SUFFIXES)
    if not files:
        remedy = "Give a file, or a folder of files."
        if folders := nested_folders(path):
            remedy = f"Subfolders are not searched: give one of {', '.join(folders)}."
        raise DataError(f"{path} contains no Parquet or CSV file.", remedy)
    return files


def nested_folders(path: Path) -> tuple[str, ...]:
    """The subfolders of a folder by name; an import does not search them. None of a file."""
    if not filesystem.is_folder(path):
        return ()
    return tuple(entry.name for entry in filesystem.entries(path) if filesystem.is_folder(entry))


def import_files(
    folder: Path,
    calendar: ExchangeCalendar,
    files: Sequence[Path],
    options: ImportOptions,
    on_result: Callable[[ImportedFile | RefusedFile], None],
) -> None:
    """Import the files into the store under `folder`; `on_result` receives the result of each file.

    A refused file changes nothing, and the others continue. Results are final when this returns. Raises AccessError
    when the folder cannot be written or another import is running.
    """
    filesystem.make_folder(folder)
    with filesystem.hold_lock(folder / parquet.LOCK):
        for start in range(0, len(files), _FILES_A_COMMIT):
            changes = StoreChanges(folder, calendar)
            work = _Import(folder=folder, calendar=calendar.every_weekday, options=options, changes=changes)
            for path in files[start : start + _FILES_A_COMMIT]:
                on_result(work.run(path))
            changes.commit()


@attrs.frozen(kw_only=True)
class _Import:
    folder: Path
    calendar: ExchangeCalendar
    options: ImportOptions
    changes: StoreChanges

    def run(self, path: Path) -> ImportedFile | RefusedFile:
        try:
            data = filesystem.read_bytes(path)
        except AccessError as fault:
            return RefusedFile(file=path.name, reason=str(fault))
        try:
            source = readers.read_source(path, data)
            match source.kind:
                case SourceKind.BARS:
                    return self._bars(source, path, hashlib.sha256(data).hexdigest())
                case SourceKind.VIX:
                    return self._vix(source)
                case _:
                    frame = readers.fundamentals_of(source, self.options)
                    return self._facts(source, frame, reference.FUNDAMENTALS)
        except DataError as fault:
            return RefusedFile(file=path.name, reason=str(fault))
        except pl.exceptions.PolarsError as fault:
            # For example a column of lists where numbers are expected.
            return RefusedFile(file=path.name, reason=f"{path.name}: a column has an unsupported type: {fault}.")

    def _bars(self, source: SourceTable, path: Path, sha256: str) -> ImportedFile:
        frame = readers.bars_of(source, path, self.options)
        sessions = self._sessions(frame)
        regular, dates = _regular(frame, sessions)
        if not len(regular):
            raise source.refuse([f"none of its {len(frame)} rows is in the regular hours of a session"])
        regular, rounded = bar_checks.rounded_to_grid(regular.with_columns(date=dates))
        clean = _validated(source, regular, ("symbol", "ts"), ("open", "high", "low", "close", "volume", "vwap"))
        parts = [
            self._merged(source, key, rows, sha256)
            for key, rows in clean.with_columns(month=pl.col("date").dt.strftime("%Y-%m"))
            .sort("symbol", "ts")
            .group_by("symbol", "month", maintain_order=True)
        ]
        faults = [merge.conflict for merge in parts if merge.conflict]
        if faults:
            raise DataError(f"{source.name}: {'; '.join(faults)}.", _REPLACE)
        for merge in parts:
            if merge.part is not None:
                self.changes.put(merge.part)
        return ImportedFile(
            file=source.name,
            kind=source.kind,
            symbols=tuple(sorted(clean["symbol"].unique())),
            first=_first(clean["date"]),
            last=_last(clean["date"]),
            added=sum(merge.added for merge in parts),
            unchanged=sum(merge.unchanged for merge in parts),
            replaced=sum(merge.replaced for merge in parts),
            dropped=len(frame) - len(regular),
            repeated=len(regular) - len(clean),
            rounded=rounded,
        )

    def _merged(self, source: SourceTable, key: tuple[Any, ...], rows: pl.DataFrame, sha256: str) -> _Merge:
        # Merge a symbol's new rows of a month with the stored ones.
        symbol, month = key
        entry = self.changes.stored(month, symbol)
        new = rows.select(parquet.BAR_SCHEMA.names()).cast(parquet.BAR_SCHEMA)
        old, since = self._stored_bars(month, symbol, entry)
        kind = self.options.adjustment, self.options.volume
        if entry is not None and (entry.adjustment, entry.volume) != kind and len(old):
            if not self.options.replace:
                stored = f"{entry.adjustment} prices and {entry.volume} volume"
                return _Merge(conflict=f"the stored bars of {symbol} in {month} have {stored}, these have not")
            # Two kinds in one month would be compared with each other, so all stored bars are replaced.
            merge = _Merge(bars=new, added=0, replaced=len(old))
        else:
            differing = bar_checks.differing_rows(new.with_columns(rows[ROW], rows["symbol"]), old, ("ts",))
            if len(differing) and not self.options.replace:
                return _Merge(conflict=_conflict(source, differing))
            merge = _joined(new, old, len(differing))
        part = MonthPart(
            month=month,
            symbol=symbol,
            bars=merge.bars,
            adjustment=self.options.adjustment,
            volume=self.options.volume,
            sources=tuple(sorted({*since, sha256})),
        )
        return attrs.evolve(merge, part=part if merge.added or merge.replaced else None)

    def _stored_bars(
        self, month: str, symbol: str, entry: parquet.SymbolMonth | None
    ) -> tuple[pl.DataFrame, tuple[str, ...]]:
        # The stored bars and their sources; with `replace`, damaged ones count as none.
        if entry is None:
            return pl.DataFrame(schema=parquet.BAR_SCHEMA), ()
        try:
            return self.changes.bars(month, symbol), entry.sources
        except DataError:
            if not self.options.replace:
                raise
            return pl.DataFrame(schema=parquet.BAR_SCHEMA), ()

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
        result = self._facts(source, traded, reference.VIX)
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

    def _sessions(self, frame: pl.DataFrame) -> tuple[Session, ...]:
        # The sessions that may contain the rows; exchange date and UTC date differ by at most a day.
        first, last = _first(frame["ts"].dt.date()), _last(frame["ts"].dt.date())
        if first is None or last is None:
            return ()
        one = dt.timedelta(days=1)
        return self.calendar.sessions(max(first - one, exchange.FIRST_DAY), min(last + one, exchange.LAST_DAY))


@attrs.frozen(kw_only=True, eq=False)
class _Merge:
    # The merged month of a symbol: the part to store if it changed, or the conflict.
    conflict: str = ""
    bars: pl.DataFrame = attrs.field(factory=pl.DataFrame)
    part: MonthPart | None = None
    added: int = 0
    unchanged: int = 0
    replaced: int = 0


def _joined(new: pl.DataFrame, old: pl.DataFrame, differing: int) -> _Merge:
    common = len(new.join(old, on="ts", how="semi"))
    bars = pl.concat([old.join(new, on="ts", how="anti"), new]).sort("ts")
    return _Merge(bars=bars, added=len(new) - common, unchanged=common - differing, replaced=differing)


_REPLACE: Final = "Compare both; --replace overwrites the stored values with those of this file."


def _regular(frame: pl.DataFrame, sessions: Sequence[Session]) -> tuple[pl.DataFrame, pl.Series]:
    # The rows in regular hours, and the exchange date of each.
    if not sessions:
        return frame.clear(), pl.Series("date", [], dtype=pl.Date)
    grid = SessionGrid(sessions)
    rows, _, inside = grid.place(frame["ts"].to_physical().to_numpy())
    return frame.filter(pl.Series(inside)), pl.Series("date", grid.dates[rows[inside]], dtype=pl.Date)


def _validated(
    source: SourceTable,
    frame: pl.DataFrame,
    keys: tuple[str, ...],
    values: tuple[str, ...],
    faults: Sequence[tuple[str, pl.Expr]] = bar_checks.BAR_FAULTS,
) -> pl.DataFrame:
    # The rows without repetitions; raises DataError with all faults of the file.
    found = [(what, frame.filter(wrong)) for what, wrong in faults]
    found.append(("row that contradicts an earlier one", bar_checks.contradicting_rows(frame, keys, values)))
    texts = [
        source.count(what, bad, bar_checks.out_of_range_column(what, bad.row(0, named=True)))
        for what, bad in found
        if len(bad)
    ]
    if texts:
        raise source.refuse(texts)
    return frame.unique(keys, keep="first", maintain_order=True)


def _conflict(source: SourceTable, differing: pl.DataFrame) -> str:
    first = differing.row(0, named=True)
    name = next(
        name.removesuffix("_stored")
        for name in differing.columns
        if name.endswith("_stored") and first[name] != first[name.removesuffix("_stored")]
    )
    what = source.count("row that differs from the stored one", differing)
    return f"{what}: {name} {first[name]}, stored {first[f'{name}_stored']}"


def _first(days: pl.Series) -> dt.date | None:
    day = days.min()
    return day if isinstance(day, dt.date) else None


def _last(days: pl.Series) -> dt.date | None:
    day = days.max()
    return day if isinstance(day, dt.date) else None
