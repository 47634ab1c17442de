"""The bars of one source file on their way into the store: checked as they are read, then ordered by symbol and time.

A file of many rows is held in parts on disk, each with all rows of some symbols of a month, so that the memory that an
import needs does not grow with its files.
"""

from __future__ import annotations

import datetime as dt
import io
import itertools
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np
import polars as pl

from tbot_core.marketdata.store import bar_checks, manifest, parquet
from tbot_core.marketdata.store.session_grid import SessionGrid, times_of
from tbot_core.marketdata.store.source_table import ROW, Faults, RowFault, SourceTable
from tbot_core.model import calendar as exchange
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.model.bars import Flags, Index
    from tbot_core.model.calendar import ExchangeCalendar, Session
    from tbot_core.model.day_facts import Dates

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


@attrs.frozen(kw_only=True, eq=False)
class SymbolMonth:
    """One symbol's rows of a month: the columns of stored bars, by time, and the rows of the file that held them."""

    symbol: str
    month: str
    bars: pl.DataFrame
    rows: pl.Series
    first: dt.date
    last: dt.date


class ImportedRows:
    """The rows of one file; `dropped` are outside regular hours, `repeated` occur again, `rounded` had other prices."""

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

    def ordered(self, source: SourceTable) -> Iterator[SymbolMonth]:
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
        remove_parts(self._folder.parent)

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
        for fault, is_there in zip(bar_checks.BAR_FAULTS, found.row(0), strict=True):
            if is_there:
                self.faults.add_rows(source, fault, rows)

    def _coded(self, symbols: pl.Series) -> pl.Series:
        # A number for each symbol, by first use: numbers are sorted and moved much faster than text.
        names = symbols.unique()
        own = np.array([self._codes.setdefault(name, len(self._codes)) for name in names], dtype=np.uint32)
        if len(names) == 1:
            return pl.Series("code", np.full(len(symbols), own[0]))
        return pl.Series("code", own[symbols.cast(pl.Enum(names)).to_physical().to_numpy()])

    def _months(self, rows: pl.DataFrame, codes: Index) -> Iterator[SymbolMonth]:
        days = rows["date"].to_numpy()
        bars, lines = rows.select(parquet.BAR_SCHEMA.names()).cast(parquet.BAR_SCHEMA), rows[ROW]
        names = list(self._codes)
        for start, stop in itertools.pairwise((*_month_starts(codes, days), len(rows))):
            first, last = days[start].item(), days[stop - 1].item()
            yield SymbolMonth(
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


def remove_parts(folder: Path) -> None:
    """Remove the parts of an import into this store, as one that was killed leaves them."""
    parts = folder / FOLDER
    if filesystem.exists(parts):
        for path in filesystem.entries(parts):
            filesystem.remove(path)
        filesystem.remove_empty_folder(parts)


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
