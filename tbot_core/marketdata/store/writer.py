"""Stages changes of symbols' months with their files, and commits them month by month."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import polars as pl

from tbot_core.errors import DataError
from tbot_core.marketdata.store import manifest, parquet
from tbot_core.marketdata.store.session_grid import SessionGrid, month_sessions, times_of
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from tbot_core.marketdata.store.parquet import DailyColumns
    from tbot_core.model.calendar import ExchangeCalendar


@attrs.frozen(kw_only=True, eq=False)
class MonthPart:
    """One symbol's bars of one month to be stored: regular hours only, sorted, checked."""

    month: str
    symbol: str
    bars: pl.DataFrame
    adjustment: str
    volume: str
    sources: tuple[str, ...]


class StoreChanges:
    """Staged parts. Their files are written at once; `commit` makes them effective.

    The parts of one source are put, and then accepted or rejected together.
    """

    def __init__(self, folder: Path, calendar: ExchangeCalendar) -> None:
        self._folder = folder
        self._calendar = calendar.every_weekday
        self._months: dict[str, manifest.MonthManifest] = {}
        self._grids: dict[str, SessionGrid] = {}
        self._staged: dict[str, dict[str, tuple[manifest.SymbolMonth, DailyColumns]]] = {}
        self._put: list[tuple[str, str, manifest.SymbolMonth, DailyColumns]] = []

    def stored(self, month: str, symbol: str) -> manifest.SymbolMonth | None:
        """The staged, else stored, entry of a symbol's month; None without one."""
        staged = self._staged.get(month, {}).get(symbol)
        if staged is not None:
            return staged[0]
        return self._month(month).entries.get(symbol)

    def bars(self, month: str, symbol: str) -> pl.DataFrame:
        """The bars of the entry that `stored` returns; raises DataError for a damaged file."""
        staged = self._staged.get(month, {}).get(symbol)
        if staged is not None:
            return parquet.read_proved((self._folder / month / staged[0].file, staged[0].sha256))
        return parquet.read_bars(self._folder, self._month(month), symbol)

    def put(self, part: MonthPart) -> str:
        """Write a part, to be accepted or rejected; returns the name of its file."""
        daily = self._daily(part.month, part.symbol, part.bars)
        file, sha256 = parquet.write_frame(self._folder, part.month, part.symbol, part.bars)
        entry = manifest.SymbolMonth(
            file=file, sha256=sha256, adjustment=part.adjustment, volume=part.volume, sources=part.sources
        )
        self._put.append((part.month, part.symbol, entry, daily))
        return file

    def accept(self) -> None:
        """Stage what was put."""
        # All or nothing, also where Ctrl-C comes in between.
        staged = {month: dict(parts) for month, parts in self._staged.items()}
        for month, symbol, entry, daily in self._put:
            staged.setdefault(month, {})[symbol] = entry, daily
        self._staged, self._put = staged, []

    def reject(self) -> None:
        """Remove the files of what was put, unless another part has the same content."""
        for month, _, entry, _ in self._put:
            known = {one.file for one, _ in self._staged.get(month, {}).values()} | self._month(month).files
            if entry.file not in known:
                filesystem.remove(self._folder / month / entry.file)
        self._put.clear()

    def discard(self) -> None:
        """Remove the files of everything that was not committed."""
        staged = [(name, symbol, *both) for name, parts in self._staged.items() for symbol, both in parts.items()]
        self._put += staged
        self._staged.clear()
        self.reject()

    def commit(self) -> None:
        """Commit all accepted parts, month by month."""
        for name in sorted(self._staged):
            staged = self._staged[name]
            known = self._month(name)
            entries = {**known.entries, **{symbol: entry for symbol, (entry, _) in staged.items()}}
            rows = parquet.daily_frame([rows for _, rows in staged.values()])
            daily = pl.concat([self._kept(known, staged), rows]).sort("symbol", "date")
            file, sha256 = parquet.write_frame(self._folder, name, "daily", daily)
            month = manifest.MonthManifest(name=name, daily=file, daily_sha256=sha256, entries=entries)
            try:
                manifest.write_month(self._folder, month)
            except BaseException:
                if file not in known.files:
                    filesystem.remove(self._folder / name / file)
                raise
            self._staged.pop(name)
        self._months.clear()

    def _kept(self, month: manifest.MonthManifest, staged: Collection[str]) -> pl.DataFrame:
        # The daily rows of the month's other symbols, recomputed from their bars if the file is damaged.
        others = [symbol for symbol in month.entries if symbol not in staged]
        if not others:
            return pl.DataFrame(schema=parquet.DAILY_SCHEMA)
        try:
            return parquet.read_daily(self._folder, month).filter(pl.col("symbol").is_in(others))
        except DataError:
            rows = [self._daily(month.name, other, parquet.read_bars(self._folder, month, other)) for other in others]
            return parquet.daily_frame(rows)

    def _daily(self, month: str, symbol: str, bars: pl.DataFrame) -> DailyColumns:
        if month not in self._grids:
            self._grids[month] = SessionGrid(month_sessions(self._calendar, month))
        grid = self._grids[month]
        return parquet.daily_rows(symbol, bars, grid.dates[grid.rows(times_of(bars))])

    def _month(self, name: str) -> manifest.MonthManifest:
        if name not in self._months:
            nothing = manifest.MonthManifest(name=name, daily="", daily_sha256="", entries={})
            self._months[name] = manifest.read_month(self._folder, name) or nothing
        return self._months[name]
