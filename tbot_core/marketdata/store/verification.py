"""Verifies the store: reads every file, checks every bar again, and lists missing data."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np
import polars as pl

from tbot_core.errors import AccessError, DataError
from tbot_core.marketdata.store import bar_checks, manifest, month_blocks, parquet, reference
from tbot_core.marketdata.store.daily_facts import full_enough
from tbot_core.marketdata.store.daily_rows import DailyRows
from tbot_core.marketdata.store.month_blocks import BlockLayout, MonthFiles
from tbot_core.marketdata.store.session_grid import SessionGrid, month_sessions, times_of
from tbot_core.marketdata.store.source_readers import READER_FAULTS
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.formatting import plural
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


_NAMED_AT_MOST: Final = 3


class FindingLevel(StrEnum):
    """Severity: a fault fails the check, a warning affects facts, a note only informs."""

    FAULT = "fault"
    WARNING = "warning"
    NOTE = "note"


@attrs.frozen(kw_only=True)
class StoreFinding:
    """A finding, its location, and the remedy."""

    level: FindingLevel
    where: str
    message: str
    remedy: str = ""


@attrs.frozen(kw_only=True)
class StoreVerification:
    """The result of a check of the whole store, with the number of bars and files read."""

    findings: tuple[StoreFinding, ...]
    files: int
    bars: int

    def of(self, level: FindingLevel) -> tuple[StoreFinding, ...]:
        """The findings of one level."""
        return tuple(finding for finding in self.findings if finding.level is level)


def verify_store(folder: Path, calendar: ExchangeCalendar, on_month: Callable[[str], None]) -> StoreVerification:
    """Check everything under `folder`; `on_month` receives each month's name before it is read."""
    if not filesystem.exists(folder):
        return StoreVerification(findings=(), files=0, bars=0)
    check = _Check(folder=folder, calendar=calendar.every_weekday)
    check.tables()
    for place in filesystem.entries(folder):
        if filesystem.is_folder(place):
            on_month(place.name)
            check.month(place.name)
    check.coverage()
    return StoreVerification(findings=tuple(check.findings), files=check.files, bars=check.bars)


@attrs.define(kw_only=True)
class _Check:
    folder: Path
    calendar: ExchangeCalendar
    findings: list[StoreFinding] = attrs.field(factory=list)
    files: int = 0
    bars: int = 0
    counts: dict[str, dict[Session, int]] = attrs.field(factory=dict)

    def tables(self) -> None:
        """Check the reference facts."""
        named: dict[str, manifest.FactsTable] = {}
        with self._finding(self.folder / manifest.FACTS):
            named = manifest.read_facts(self.folder)
        for name, table in named.items():
            self.files += 1
            with self._finding(self.folder / table.file):
                rows = parquet.read_proved((self.folder / table.file, table.sha256))
                if table.extent not in {None, reference.extent(name, rows)}:
                    words = f"the days or rows of {name} are not those of its file."
                    self._find(FindingLevel.FAULT, str(self.folder / manifest.FACTS), words, manifest.FACTS_HINT)
        self.strays(manifest.unnamed_files(self.folder, "", [table.file for table in named.values()]))

    def month(self, name: str) -> None:
        """Check a month's manifest, files and bars."""
        month: manifest.MonthManifest | None = None
        with self._finding(self.folder / name / manifest.MANIFEST):
            month = manifest.read_month(self.folder, name)
        self.strays(manifest.unnamed_files(self.folder, name, () if month is None else month.files))
        if month is None:
            return
        sessions = month_sessions(self.calendar, name)
        daily: pl.DataFrame | None = None
        with self._finding(self.folder / name / month.daily):
            daily = parquet.read_daily(self.folder, month)
        for symbol in sorted(month.entries):
            self.files += 1
            with self._finding(self.folder / name / month.entries[symbol].file):
                self._check_bars(symbol, parquet.read_bars(self.folder, month, symbol), sessions, daily)
        if daily is not None:
            rows = DailyRows.of(daily)
            self._check_block(BlockLayout.of(self.folder, month, rows.days), month, rows)

    def strays(self, paths: Sequence[Path]) -> None:
        """Report the Parquet files of a folder that are in no manifest."""
        sound = []
        for path in paths:
            try:
                pl.read_parquet_schema(filesystem.read_bytes(path))
                sound.append(path)
            except (*READER_FAULTS, AccessError) as fault:
                words = str(fault).rstrip(".")
                self._find(FindingLevel.FAULT, str(path), f"cannot be read as Parquet: {words}.", "Remove it.")
        if sound:
            count = plural(len(sound), "file is", "files are")
            words = f"{count} listed in no manifest and not used, as an interrupted import leaves them: {sound[0].name}"
            more = " and others" if len(sound) > 1 else ""
            remedy = "Repeat that import, or remove them."
            self._find(FindingLevel.WARNING, str(sound[0].parent), f"{words}{more}.", remedy)

    def coverage(self) -> None:
        """Report missing sessions, sessions with too few minutes, and missing minutes in the others."""
        for symbol, counts in sorted(self.counts.items()):
            days = sorted(counts, key=lambda session: session.date)
            whole = self.calendar.sessions(days[0].date, days[-1].date)
            held = np.array([counts.get(session, 0) for session in whole])
            lengths = np.array([session.minutes for session in whole])
            thin = (held > 0) & ~full_enough(held, lengths)
            named = _dates([session for session, is_thin in zip(whole, thin, strict=True) if is_thin])
            if named:
                self._find(FindingLevel.WARNING, symbol, f"under 90 % of the minutes in {named}.")
            named = _dates([session for session, count in zip(whole, held, strict=True) if not count])
            if named:
                self._find(FindingLevel.WARNING, symbol, f"no bar in {named}, between its first and last.")
            lacking = int((lengths - held)[held > 0].sum())
            if lacking:
                whole_minutes = int(lengths[held > 0].sum())
                words = f"{lacking:,} of {whole_minutes:,} minutes {'has' if lacking == 1 else 'have'} no bar."
                self._find(FindingLevel.NOTE, symbol, words)

    def _check_bars(
        self, symbol: str, bars: pl.DataFrame, sessions: Sequence[Session], daily: pl.DataFrame | None
    ) -> None:
        # Check bars as an import does, and that the daily rows match them.
        self.bars += len(bars)
        rows, _, inside = SessionGrid(sessions).place(times_of(bars))
        faults = [
            *((fault.what, bars.filter(fault.rows)) for fault in bar_checks.BAR_FAULTS),
            ("bar that is not later than the one before", bars.filter(pl.col("ts").diff() <= pl.duration())),
            ("bar outside the calendar's regular hours", bars.filter(~pl.Series(inside))),
        ]
        texts = [f"{what} ({len(bad)}, first: {bad['ts'][0]:%Y-%m-%d %H:%M} UTC)" for what, bad in faults if len(bad)]
        if texts:
            raise DataError(f"{symbol}: {'; '.join(texts)}.", manifest.REIMPORT_HINT)
        counts = self.counts.setdefault(symbol, {})
        for row, count in zip(*np.unique(rows, return_counts=True), strict=True):
            counts[sessions[row]] = int(count)
        if daily is not None:
            own = parquet.daily_frame([parquet.daily_rows(symbol, bars, SessionGrid(sessions).dates[rows])])
            if not own.equals(daily.filter(pl.col("symbol") == symbol)):
                raise DataError(f"{symbol}: the month's daily rows do not match its bars.", manifest.REIMPORT_HINT)

    def _check_block(self, layout: BlockLayout, month: manifest.MonthManifest, daily: DailyRows) -> None:
        # A block is made of the month's files; faults of these are reported already.
        with suppress(DataError, AccessError):
            if month_blocks.differs(layout, MonthFiles(folder=self.folder, month=month, daily=daily)):
                self._find(
                    FindingLevel.FAULT,
                    str(layout.path),
                    "has other bars than the month's Parquet files.",
                    "Remove it: the next run makes it again.",
                )

    @contextmanager
    def _finding(self, path: Path) -> Iterator[None]:
        # Report an unreadable file as a fault, and continue.
        try:
            yield
        except (DataError, AccessError) as fault:
            self._find(FindingLevel.FAULT, str(path), fault.message, fault.remedy)

    def _find(self, level: FindingLevel, where: str, message: str, remedy: str = "") -> None:
        self.findings.append(StoreFinding(level=level, where=where, message=message, remedy=remedy))


def _dates(sessions: Sequence[Session]) -> str:
    # The first dates and their number; "" for none.
    if not sessions:
        return ""
    named = [session.date.isoformat() for session in sessions[:_NAMED_AT_MOST]]
    rest = ["..."] if len(sessions) > _NAMED_AT_MOST else []
    return f"{len(sessions)} session{'s' if len(sessions) > 1 else ''} ({', '.join([*named, *rest])})"
