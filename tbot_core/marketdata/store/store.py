"""The store of one-minute bars: its content, and blocks of bars with the facts of each session."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np
import polars as pl

from tbot_core.errors import DataError
from tbot_core.marketdata.store import parquet, reference
from tbot_core.marketdata.store.daily_facts import (
    DailyAggregates,
    ReferenceFacts,
    day_facts,
    look_back_sessions,
    mean_or_unknown,
    volume_session_flags,
)
from tbot_core.marketdata.store.session_grid import SessionGrid
from tbot_core.model import calendar as exchange
from tbot_core.model.bars import FIELDS, Array, Bars
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.day_facts import DayFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


_COLUMNS: Final = (*FIELDS, "vwap")
_NAMED_AT_MOST: Final = 5
_CLOSES_DAYS: Final = 400
_DAILY_VALUES: Final = ("bars", "high", "low", "close", "volume")


@attrs.frozen(kw_only=True, eq=False)
class BarBlock:
    """Sessions of one month and one length: bars and facts, leading axes (sessions, symbols).

    Memory order is (minutes, sessions, symbols), so that the engine need not transpose.
    """

    month: str
    sessions: tuple[Session, ...]
    bars: Bars
    day: DayFacts


@attrs.frozen(kw_only=True)
class BarStore:
    """The bars under a folder (`<instance>/data/bars`) for the sessions of a calendar.

    Manifests and reference facts are read once, on first use: what `data_hash` identifies is what `blocks` serves.
    Raises DataError when a file was changed, or removed by an import, and AccessError for an unreadable folder. Days
    are exchange dates; ranges include both ends.
    """

    folder: Path
    calendar: ExchangeCalendar
    _known: dict[str, tuple[parquet.MonthManifest, pl.DataFrame] | None] = attrs.field(
        factory=dict, init=False, eq=False, repr=False
    )

    def symbols(self, first: dt.date, last: dt.date) -> tuple[str, ...]:
        """The symbols with a bar in the range, sorted; none when nothing is stored."""
        index = self._traded(first, last)
        return tuple(sorted(index["symbol"].unique()))

    def sessions(self, first: dt.date, last: dt.date, symbols: Iterable[str] | None = None) -> tuple[Session, ...]:
        """The sessions in which a stored symbol, or one of `symbols`, has a bar, in order."""
        index = self._traded(first, last, symbols)
        days = set(index["date"])
        return tuple(session for session in self._calendar_sessions(first, last) if session.date in days)

    def missing(self, first: dt.date, last: dt.date, symbols: Iterable[str]) -> tuple[Session, ...]:
        """The sessions of the range in which none of these symbols has a bar, in order."""
        there = set(self.sessions(first, last, symbols))
        return tuple(session for session in self._calendar_sessions(first, last) if session not in there)

    def blocks(
        self, first: dt.date, last: dt.date, symbols: Iterable[str], *, typical_volume: bool = False
    ) -> Iterator[BarBlock]:
        """Iterate over the range's bars by month, and within a month by session length, in order of first use.

        Every block has all `symbols`, sorted; NaN where there are no bars. Raises DataError at once when none of them
        has a bar in the range. `typical_volume` adds that fact, which requires reading the look-back's bars.
        """
        wanted = tuple(sorted(set(symbols)))
        by_month: dict[str, list[Session]] = {}
        for session in self._served(first, last, wanted):
            by_month.setdefault(parquet.month_of(session.date), []).append(session)
        parts = [(month, by_month[month.name]) for month in self._months(first, last) if month.name in by_month]
        return self._blocks(parts, wanted, typical_volume=typical_volume)

    def facts(self, sessions: Sequence[Session], symbols: Iterable[str], *, typical_volume: bool = False) -> DayFacts:
        """Compute the facts of sessions from what is stored before each; leading axes (sessions, symbols).

        A session needs no stored bars itself. Typical volumes have the last session's number of minutes.
        """
        wanted = tuple(sorted(set(symbols)))
        before = look_back_sessions(self.calendar, sessions[0].date)
        whole = (*before, *self.calendar.every_weekday.sessions(sessions[0].date, sessions[-1].date))
        months = self._months(whole[0].date, whole[-1].date)
        daily = self._daily(months, whole, wanted)
        place = {session.date: row for row, session in enumerate(whole)}
        rows = [place[session.date] for session in sessions]
        day = day_facts(daily, whole, wanted, self._reference_facts).sessions(rows)
        if not typical_volume:
            return day
        typical = self._typical_volume(months, whole, wanted, daily)[rows][..., : sessions[-1].minutes]
        return attrs.evolve(day, typical_volume=typical)

    def fact_starts(self, name: str, symbols: Iterable[str]) -> dict[str, dt.date]:
        """The first day on which a stored fact was known of each of these symbols; those without it are left out."""
        return self._reference_facts.recorded.first_days(name, symbols)

    def closes(self, symbol: str, last: dt.date, most: int) -> tuple[tuple[dt.date, float], ...]:
        """The daily closes of the last stored session up to a day and of those before it, oldest first, at most `most`.

        They are of sessions that follow each other and of one kind of prices: what lies before a gap is left out.
        """
        first = max(exchange.FIRST_DAY, last - dt.timedelta(days=_CLOSES_DAYS))
        stored = self.sessions(first, last, (symbol,))
        if not stored:
            return ()
        whole = self.calendar.every_weekday.sessions(first, stored[-1].date)
        daily = self._daily(self._months(first, last), whole, (symbol,))
        kind, close = daily.kind[:, 0], daily.close[:, 0]
        follows = np.flip((kind == kind[-1]) & ~np.isnan(close))
        length = len(follows) if follows.all() else int(follows.argmin())
        rows = range(len(whole) - min(length, most), len(whole))
        return tuple((whole[row].date, float(close[row])) for row in rows)

    def data_hash(self, first: dt.date, last: dt.date, symbols: Iterable[str], *, typical_volume: bool = False) -> str:
        """SHA-256, in hex, of the range's bars and facts as served, independent of the file layout.

        Raises DataError when none of the symbols has a bar in the range.
        """
        wanted = tuple(sorted(set(symbols)))
        sessions = self._served(first, last, wanted)
        before = look_back_sessions(self.calendar, sessions[0].date) if typical_volume else ()
        whole = (*before, *sessions)
        digest = hashlib.sha256(b"tbot bars 1")
        for session in whole:
            digest.update(f"\n{session.open.isoformat()} {session.minutes}".encode())
        index = self._index(self._months(whole[0].date, last), whole[0].date, last, wanted)
        rows = index.filter(pl.col("date").is_in([session.date for session in whole])).sort("date", "symbol")
        for date, symbol, content in rows.select("date", "symbol", "digest").iter_rows():
            digest.update(f"\n{date.isoformat()} {symbol} ".encode() + content)
        day = self.facts(sessions, wanted)
        arrays = day.arrays()
        del arrays["date"]  # it is in the digest already
        for name in sorted(arrays):
            digest.update(f"\n{name} ".encode() + np.ascontiguousarray(arrays[name]).tobytes())
        return digest.hexdigest()

    def kinds(self, first: dt.date, last: dt.date, symbols: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """The distinct (adjustment, volume) pairs of the symbols' bars in the range's months, sorted."""
        wanted = set(symbols)
        found = {
            (entry.adjustment, entry.volume)
            for month in self._months(first, last)
            for symbol, entry in month.entries.items()
            if symbol in wanted
        }
        return tuple(sorted(found))

    def is_simulated(self, first: dt.date, last: dt.date, symbols: Iterable[str]) -> bool:
        """Whether bars of the symbols in the range's months come from a simulation."""
        wanted = set(symbols)
        return any(
            source.startswith(parquet.SIMULATED)
            for month in self._months(first, last)
            for symbol, entry in month.entries.items()
            if symbol in wanted
            for source in entry.sources
        )

    def partial_volume(self, first: dt.date, last: dt.date, symbols: Iterable[str]) -> frozenset[str]:
        """The symbols whose volumes are a part of the tape in some of the range's months."""
        wanted = set(symbols)
        return frozenset(
            symbol
            for month in self._months(first, last)
            for symbol, entry in month.entries.items()
            if symbol in wanted and entry.volume == "partial"
        )

    def _served(self, first: dt.date, last: dt.date, symbols: tuple[str, ...]) -> tuple[Session, ...]:
        sessions = self.sessions(first, last, symbols)
        if sessions:
            return sessions
        raise self.absence(first, last, symbols)

    def absence(self, first: dt.date, last: dt.date, symbols: Sequence[str]) -> DataError:
        """The error for a range in which none of the symbols has a bar; it says what is stored. No symbols: all."""
        if closed := self._closed_reason(first, last):
            days = f"on {first}" if first == last else f"from {first} to {last}"
            return DataError(f"The market is closed {days} ({closed}).", "`tbot calendar` lists the sessions.")
        names = ", ".join([*symbols[:_NAMED_AT_MOST], *(["..."] if len(symbols) > _NAMED_AT_MOST else [])])
        stored = self.sessions(exchange.FIRST_DAY, exchange.LAST_DAY)
        where = f"Stored are sessions from {stored[0].date} to {stored[-1].date}. " if stored else ""
        return DataError(
            f"No bars of {names or 'any symbol'} are stored from {first} to {last}.",
            f"{where}See `tbot data list`; `tbot data download` gets bars from a feed, `tbot data import PATH` takes "
            f"bars of your own.",
        )

    def _closed_reason(self, first: dt.date, last: dt.date) -> str:
        # Why the calendar has no session in a range that it covers; "" if it has one.
        first, last = max(first, exchange.FIRST_DAY), min(last, exchange.LAST_DAY)
        if first > last or self._calendar_sessions(first, last):
            return ""
        days = (first + dt.timedelta(days=offset) for offset in range((last - first).days + 1))
        return ", ".join(dict.fromkeys(filter(None, map(self.calendar.closed_reason, days))))

    def _calendar_sessions(self, first: dt.date, last: dt.date) -> tuple[Session, ...]:
        return self.calendar.sessions(max(first, exchange.FIRST_DAY), min(last, exchange.LAST_DAY))

    def _months(self, first: dt.date, last: dt.date) -> tuple[parquet.MonthManifest, ...]:
        held = (self._held(name) for name in parquet.months_between(first, last))
        return tuple(one[0] for one in held if one is not None)

    def _held(self, name: str) -> tuple[parquet.MonthManifest, pl.DataFrame] | None:
        # A month as first read, with its daily rows, since an import would replace the file.
        if name not in self._known:
            month = parquet.read_month(self.folder, name)
            self._known[name] = None if month is None else (month, parquet.read_daily(self.folder, month))
        return self._known[name]

    @functools.cached_property
    def _reference_facts(self) -> ReferenceFacts:
        return reference.reference_facts(self.folder)

    def _traded(self, first: dt.date, last: dt.date, symbols: Iterable[str] | None = None) -> pl.DataFrame:
        index = self._index(self._months(first, last), first, last, symbols)
        return index.filter(pl.col("date").is_in([session.date for session in self._calendar_sessions(first, last)]))

    def _index(
        self,
        months: Sequence[parquet.MonthManifest],
        first: dt.date,
        last: dt.date,
        symbols: Iterable[str] | None = None,
    ) -> pl.DataFrame:
        parts = [held[1] for month in months if (held := self._held(month.name)) is not None]
        index = pl.concat([pl.DataFrame(schema=parquet.DAILY_SCHEMA), *parts]).filter(
            pl.col("date").is_between(first, last)
        )
        return index if symbols is None else index.filter(pl.col("symbol").is_in(list(symbols)))

    def _blocks(
        self,
        parts: Sequence[tuple[parquet.MonthManifest, list[Session]]],
        symbols: tuple[str, ...],
        *,
        typical_volume: bool,
    ) -> Iterator[BarBlock]:
        for month, sessions in parts:
            lengths = dict.fromkeys(session.minutes for session in sessions)
            groups = [tuple(session for session in sessions if session.minutes == length) for length in lengths]
            filled = [_Cells(group, len(symbols), _COLUMNS) for group in groups]
            for column, symbol in enumerate(symbols):
                if symbol in month.entries:
                    bars = parquet.read_bars(self.folder, month, symbol)
                    for cells in filled:
                        cells.put(column, bars)
            for group in groups:
                # Removed from the list, so that a block is freed once the caller drops it.
                fields = filled.pop(0).fields
                day = self.facts(group, symbols, typical_volume=typical_volume)
                yield BarBlock(month=month.name, sessions=group, bars=Bars(fields, symbols), day=day)
                del fields

    def _daily(
        self, months: Sequence[parquet.MonthManifest], sessions: Sequence[Session], symbols: tuple[str, ...]
    ) -> DailyAggregates:
        index = self._index(months, sessions[0].date, sessions[-1].date, symbols)
        days = np.array([session.date for session in sessions], dtype="datetime64[D]")
        dates = index["date"].to_numpy()
        rows = np.searchsorted(days, dates)
        held = days[np.minimum(rows, len(days) - 1)] == dates
        place = {symbol: column for column, symbol in enumerate(symbols)}
        columns = np.array([place[symbol] for symbol in index["symbol"]], dtype=np.intp)
        at = rows[held], columns[held]
        shape = len(sessions), len(symbols)
        values: dict[str, Any] = {name: np.full(shape, np.nan) for name in _DAILY_VALUES}
        for name, column in values.items():
            column[at] = index[name].to_numpy()[held]
        return DailyAggregates(
            minutes=np.array([session.minutes for session in sessions], dtype=np.intp),
            kind=_kinds(months, sessions, symbols),
            bars=np.nan_to_num(values.pop("bars")).astype(np.intp),
            **values,
        )

    def _typical_volume(
        self,
        months: Sequence[parquet.MonthManifest],
        sessions: Sequence[Session],
        symbols: tuple[str, ...],
        daily: DailyAggregates,
    ) -> Array:
        # Volumes are whole numbers, so these sums are exact in any order.
        cells = _Cells(sessions, len(symbols), ("volume",))
        for month, (column, symbol) in itertools.product(months, enumerate(symbols)):
            if symbol in month.entries:
                cells.put(column, parquet.read_bars(self.folder, month, symbol))
        so_far = np.cumsum(np.nan_to_num(cells.fields["volume"]), axis=0)
        typical = np.full(so_far.shape, np.nan)
        for row, counts in enumerate(volume_session_flags(daily)):
            start = row - len(counts)
            total = np.where(counts, so_far[:, start:row], 0.0).sum(axis=1)
            typical[:, row] = mean_or_unknown(total, np.broadcast_to(counts.sum(axis=0), total.shape))
        return np.moveaxis(typical, 0, -1)


def walk_sessions(blocks: Iterable[BarBlock]) -> Iterator[tuple[BarBlock, int]]:
    """Iterate over sessions in order of date, as block and index; holds one month at a time."""
    for _, month in itertools.groupby(blocks, key=lambda block: block.month):
        pairs = [(block, index) for block in month for index in range(len(block.sessions))]
        yield from sorted(pairs, key=lambda pair: pair[0].sessions[pair[1]].date)


class _Cells:
    # Arrays (minutes, sessions, symbols) filled symbol by symbol; NaN without a bar.
    def __init__(self, sessions: Sequence[Session], symbols: int, columns: Sequence[str]) -> None:
        self._grid = SessionGrid(sessions)
        shape = int(self._grid.lengths.max()), len(sessions), symbols
        self.fields: dict[str, Array] = {name: np.full(shape, np.nan) for name in columns}

    def put(self, column: int, bars: pl.DataFrame) -> None:
        """Store a symbol's bars that lie in the sessions."""
        rows, minutes, inside = self._grid.place(bars["ts"].to_physical().to_numpy())
        at = minutes[inside], rows[inside]
        for name, field in self.fields.items():
            field[:, :, column][at] = bars[name].to_numpy()[inside]


def _kinds(
    months: Sequence[parquet.MonthManifest], sessions: Sequence[Session], symbols: tuple[str, ...]
) -> np.ndarray[Any, np.dtype[np.intp]]:
    by_name = {month.name: month for month in months}

    @functools.cache
    def row(name: str) -> list[int]:
        month = by_name.get(name)
        entries = {} if month is None else month.entries
        return [entries[symbol].kind if symbol in entries else -1 for symbol in symbols]

    return np.array([row(parquet.month_of(session.date)) for session in sessions], dtype=np.intp)
