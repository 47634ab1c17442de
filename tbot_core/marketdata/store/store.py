"""The store of one-minute bars: its content, and blocks of bars with the facts of each session."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import itertools
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts.feed import NO_EXTRA_FACTS, ExtraFacts
from tbot_core.errors import DataError
from tbot_core.marketdata.store import manifest
from tbot_core.marketdata.store.daily_facts import (
    LOOK_BACK,
    DailyAggregates,
    ReferenceFacts,
    daily_bars,
    day_facts,
    look_back_sessions,
    mean_or_unknown,
    volume_session_flags,
)
from tbot_core.marketdata.store.daily_rows import DailyRows, StoredDays, read_daily
from tbot_core.marketdata.store.month_blocks import MonthBlocks, WantedMonth, by_length
from tbot_core.model import calendar as exchange
from tbot_core.model.bars import FIELDS, Array, Bars, Index
from tbot_core.model.calendar import ExchangeCalendar, Session, SessionGap
from tbot_core.model.day_facts import DailyBars, DayFacts
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import polars as pl

    from tbot_core.marketdata.store.recorded_facts import RecordedFacts


NO_BARS: Final = "No bars"
"""How each sentence begins that says which bars are not stored."""

_NAMED_AT_MOST: Final = 5
_CLOSES_DAYS: Final = 400


@attrs.frozen(kw_only=True, eq=False)
class BarBlock:
    """Sessions of one month and one length: bars and facts, leading axes (sessions, symbols).

    Memory order is (minutes, sessions, symbols), so that the engine need not transpose. The arrays cannot be written:
    they are views of a mapped file where they can.
    """

    month: str
    sessions: tuple[Session, ...]
    bars: Bars
    day: DayFacts


@attrs.frozen(kw_only=True, eq=False)
class _RangeFacts:
    # The facts of sessions that were computed at once; `place` is each session's row.
    first: dt.date
    place: Mapping[dt.date, int]
    day: DayFacts

    def has(self, sessions: Iterable[Session]) -> bool:
        return all(session.date >= self.first and session.date in self.place for session in sessions)


@attrs.define(eq=False)
class _Known:
    # What a store has read: months with their daily rows, the rows of several months, and facts by symbols.
    months: dict[str, manifest.MonthManifest | None] = attrs.field(factory=dict)
    daily: dict[str, DailyRows] = attrs.field(factory=dict)
    days: dict[tuple[str, ...], StoredDays] = attrs.field(factory=dict)
    facts: dict[tuple[str, ...], _RangeFacts] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class BarStore:
    """The bars under a folder (`<instance>/data/bars`) for the sessions of a calendar.

    Manifests and reference facts are read once, on first use: what `data_hash` identifies is what `blocks` serves.
    Raises DataError when a file was changed, or removed by an import, and AccessError for an unreadable folder. Days
    are exchange dates; ranges include both ends.
    """

    folder: Path
    calendar: ExchangeCalendar
    _known: _Known = attrs.field(factory=_Known, init=False, eq=False, repr=False)

    def symbols(self, first: dt.date, last: dt.date) -> tuple[str, ...]:
        """The symbols with a bar in the range, sorted; none when nothing is stored."""
        days = self._stored_days(self._months(first, last))
        return days.symbols(days.rows(first, last), (session.date for session in self._calendar_sessions(first, last)))

    def sessions(self, first: dt.date, last: dt.date, symbols: Iterable[str] | None = None) -> tuple[Session, ...]:
        """The sessions in which a stored symbol, or one of `symbols`, has a bar, in order."""
        stored = self._stored_days(self._months(first, last))
        days = stored.days(stored.rows(first, last, symbols))
        return tuple(session for session in self._calendar_sessions(first, last) if session.date in days)

    def gaps(self, first: dt.date, last: dt.date, symbols: Iterable[str]) -> tuple[SessionGap, ...]:
        """The gaps of the range: consecutive sessions in which none of these symbols has a bar, in order."""
        there = {session.date for session in self.sessions(first, last, symbols)}
        return exchange.session_gaps(self._calendar_sessions(first, last), there)

    def blocks(
        self, first: dt.date, last: dt.date, symbols: Iterable[str], *, extra: ExtraFacts = NO_EXTRA_FACTS
    ) -> Iterator[BarBlock]:
        """Iterate over the range's bars by month, and within a month by session length, in order of first use.

        Every block has all `symbols`, sorted; NaN where there are no bars. Raises DataError at once when none of them
        has a bar in the range. `extra` facts are added; typical volumes require reading the look-back's minutes.
        """
        wanted = tuple(sorted(set(symbols)))
        served = self._served(first, last, wanted)
        by_month: dict[str, list[Session]] = {}
        for session in served:
            by_month.setdefault(manifest.month_of(session.date), []).append(session)
        parts = [(month, by_month[month.name]) for month in self._months(first, last) if month.name in by_month]
        return self._blocks(parts, wanted, extra)

    def stored_bars(self, first: dt.date, last: dt.date, symbol: str) -> Iterator[pl.DataFrame]:
        """Iterate over a symbol's bars of the range's months, as they were stored, by time."""
        from tbot_core.marketdata.store import parquet

        return (
            parquet.read_bars(self.folder, month, symbol)
            for month in self._months(first, last)
            if symbol in month.entries
        )

    def facts(
        self, sessions: Sequence[Session], symbols: Iterable[str], *, extra: ExtraFacts = NO_EXTRA_FACTS
    ) -> DayFacts:
        """Compute the facts of sessions from what is stored before each; leading axes (sessions, symbols).

        A session needs no stored bars itself. Typical volumes have the last session's number of minutes.
        """
        wanted = tuple(sorted(set(symbols)))
        if wanted not in self._known.facts or not self._known.facts[wanted].has(sessions):
            self._known.facts.clear()
            self._known.facts[wanted] = self._range_facts(sessions, wanted)
        known = self._known.facts[wanted]
        day = known.day.sessions([known.place[session.date] for session in sessions])
        if day.adjusted is not None and not day.adjusted.any():  # of other sessions that were computed with these
            day = attrs.evolve(day, adjusted=None)
        if extra.daily_bars:
            day = attrs.evolve(day, daily=self._daily_bars(sessions, wanted, extra.daily_bars))
        if extra.typical_volume:
            day = attrs.evolve(day, typical_volume=self._typical_volume(sessions, wanted))
        return day

    @property
    def recorded_facts(self) -> RecordedFacts:
        """The facts that were imported, or fetched by filters, with the days from which they were known."""
        return self._reference_facts.recorded

    def closes(self, symbol: str, last: dt.date, most: int) -> tuple[tuple[dt.date, float], ...]:
        """The daily closes of the last stored session up to a day and of those before it, oldest first, at most `most`.

        They are of sessions that follow each other, of one kind of prices, and adjusted for splits between them: what
        lies before a gap is left out.
        """
        first = max(exchange.FIRST_DAY, last - dt.timedelta(days=_CLOSES_DAYS))
        stored = self.sessions(first, last, (symbol,))
        if not stored:
            return ()
        whole = self.calendar.every_weekday.sessions(first, stored[-1].date)
        daily = self._daily(whole, (symbol,))
        kind, close = daily.kind[:, 0], daily.close[:, 0]
        follows = np.flip((kind == kind[-1]) & ~np.isnan(close))
        length = len(follows) if follows.all() else int(follows.argmin())
        rows, price = (
            range(len(whole) - min(length, most), len(whole)),
            close * daily.shares[:, 0] / daily.shares[-1, 0],
        )
        return tuple((whole[row].date, float(price[row])) for row in rows)

    def data_hash(
        self, first: dt.date, last: dt.date, symbols: Iterable[str], *, extra: ExtraFacts = NO_EXTRA_FACTS
    ) -> str:
        """SHA-256, in hex, of the range's bars and facts as served, independent of the file layout.

        Raises DataError when none of the symbols has a bar in the range.
        """
        wanted = tuple(sorted(set(symbols)))
        sessions = self._served(first, last, wanted)
        days = max(LOOK_BACK if extra.typical_volume else 0, extra.daily_bars)
        before = look_back_sessions(self.calendar, sessions[0].date, days) if days else ()
        whole = (*before, *sessions)
        digest = hashlib.sha256(b"tbot bars 1")
        for session in whole:
            digest.update(f"\n{session.open.isoformat()} {session.minutes}".encode())
        stored = self._stored_days(self._months(whole[0].date, last))
        rows = stored.rows(whole[0].date, last, wanted)
        dates = np.array([session.date for session in whole], dtype="datetime64[D]")
        digest.update(b"".join(stored.contents(rows[np.isin(stored.dates[rows], dates)])))
        splits = [split for split in self._reference_facts.splits if split.symbol in wanted and split.date <= last]
        digest.update("".join(f"\nsplit {split}" for split in splits).encode())
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

    def adjusted(self, first: dt.date, last: dt.date, symbols: Iterable[str]) -> tuple[str, ...]:
        """The symbols whose prices are adjusted in some of the range's months, as `NVDA (split)`, sorted."""
        wanted, found = set(symbols), dict[str, set[str]]()
        for month in self._months(first, last):
            for symbol, entry in month.entries.items():
                if symbol in wanted and entry.adjustment != "raw":
                    found.setdefault(symbol, set()).add(entry.adjustment)
        return tuple(f"{symbol} ({', '.join(sorted(found[symbol]))})" for symbol in sorted(found))

    def is_simulated(self, first: dt.date, last: dt.date, symbols: Iterable[str]) -> bool:
        """Whether bars of the symbols in the range's months come from a simulation."""
        wanted = set(symbols)
        return any(
            source.startswith(manifest.SIMULATED)
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
            f"{NO_BARS} of {names or 'any symbol'} are stored from {first} to {last}.",
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

    def _months(self, first: dt.date, last: dt.date) -> tuple[manifest.MonthManifest, ...]:
        held = (self._held(name) for name in manifest.months_between(first, last))
        return tuple(month for month in held if month is not None)

    def _held(self, name: str) -> manifest.MonthManifest | None:
        # A month as first read, with its daily rows, since an import would replace the file.
        if name not in self._known.months:
            month = manifest.read_month(self.folder, name)
            if month is not None:
                self._known.daily[name] = read_daily(self.folder, month)
            self._known.months[name] = month
        return self._known.months[name]

    def _stored_days(self, months: Sequence[manifest.MonthManifest]) -> StoredDays:
        names = tuple(month.name for month in months)
        if names not in self._known.days:
            self._known.days[names] = StoredDays.of([self._known.daily[name] for name in names])
        return self._known.days[names]

    @functools.cached_property
    def _reference_facts(self) -> ReferenceFacts:
        if not filesystem.exists(self.folder / manifest.FACTS):
            return ReferenceFacts(vix={})
        from tbot_core.marketdata.store import reference

        return reference.reference_facts(self.folder)

    def _blocks(
        self,
        parts: Sequence[tuple[manifest.MonthManifest, list[Session]]],
        symbols: tuple[str, ...],
        extra: ExtraFacts,
    ) -> Iterator[BarBlock]:
        self.facts([session for _, sessions in parts for session in sessions], symbols)  # of all months at once
        months = [WantedMonth(month=it, groups=by_length(sessions), symbols=symbols) for it, sessions in parts]
        with closing(self._month_blocks.in_order(months)) as blocks:
            for wanted in months:
                block = next(blocks)
                fields = [block.of(group, symbols) for group in wanted.groups]
                del block
                for group in wanted.groups:
                    day = self.facts(group, symbols, extra=extra)
                    # Removed from the list, so that a block is freed once the caller drops it.
                    yield BarBlock(month=wanted.month.name, sessions=group, bars=Bars(fields.pop(0), symbols), day=day)

    @functools.cached_property
    def _month_blocks(self) -> MonthBlocks:
        return MonthBlocks(self.folder, self._known.daily)

    def _range_facts(self, sessions: Sequence[Session], symbols: tuple[str, ...]) -> _RangeFacts:
        whole = self._with_look_back(sessions)
        day = day_facts(self._daily(whole, symbols), whole, symbols, self._reference_facts)
        place = {session.date: row for row, session in enumerate(whole)}
        return _RangeFacts(first=sessions[0].date, place=place, day=day)

    def _with_look_back(self, sessions: Sequence[Session], days: int = LOOK_BACK) -> tuple[Session, ...]:
        before = look_back_sessions(self.calendar, sessions[0].date, days)
        return (*before, *self.calendar.every_weekday.sessions(sessions[0].date, sessions[-1].date))

    def _daily(self, sessions: Sequence[Session], symbols: tuple[str, ...]) -> DailyAggregates:
        months = self._months(sessions[0].date, sessions[-1].date)
        daily = self._stored_days(months).aggregates(
            sessions, symbols, _kinds(months, sessions, symbols), self._reference_facts.splits
        )
        for row, session in enumerate(sessions):
            if session.date in self.calendar.overrides:  # the stored row may count bars after its early close
                daily.replace_session(row, self._minute_bars(session, symbols))
        return daily

    def _minute_bars(self, session: Session, symbols: tuple[str, ...]) -> dict[str, Array]:
        # A session's fields of shape (minutes, symbols).
        names, month = FIELDS, self._held(manifest.month_of(session.date))
        if month is None:
            return {name: np.full((session.minutes, len(symbols)), np.nan) for name in names}
        wanted = WantedMonth(month=month, groups=((session,),), symbols=symbols)
        found = self._month_blocks.block(wanted).of((session,), symbols, names)
        return {name: field[:, 0] for name, field in found.items()}

    def _daily_bars(self, sessions: Sequence[Session], symbols: tuple[str, ...], days: int) -> DailyBars:
        whole = self._with_look_back(sessions, days)
        place = {session.date: row for row, session in enumerate(whole)}
        return daily_bars(self._daily(whole, symbols), [place[session.date] for session in sessions], days)

    def _typical_volume(self, sessions: Sequence[Session], symbols: tuple[str, ...]) -> Array:
        # Volumes are whole numbers, so these sums are exact in any order.
        whole = self._with_look_back(sessions)
        longest = max(session.minutes for session in whole)
        volumes = np.zeros((longest, len(whole), len(symbols)))
        row = 0
        for name, in_month in itertools.groupby(whole, key=lambda session: manifest.month_of(session.date)):
            of_month = tuple(in_month)
            if (month := self._held(name)) is not None:
                wanted = WantedMonth(month=month, groups=by_length(of_month), symbols=symbols)
                found = self._month_blocks.block(wanted).of(of_month, symbols, ("volume",), longest)["volume"]
                volumes[:, row : row + len(of_month)] = np.nan_to_num(found)
                for at, session in enumerate(of_month, row):
                    volumes[session.minutes :, at] = 0  # bars after an early close of CALENDAR_OVERRIDES
            row += len(of_month)
        so_far = np.cumsum(volumes, axis=0, out=volumes)
        typical, daily = np.full(so_far.shape, np.nan), self._daily(whole, symbols)
        for row, counts in enumerate(volume_session_flags(daily)):
            start = row - len(counts)
            shares = daily.shares[row] / daily.shares[start:row]
            total = np.where(counts, so_far[:, start:row] * shares, 0.0).sum(axis=1)
            typical[:, row] = mean_or_unknown(total, np.broadcast_to(counts.sum(axis=0), total.shape))
        place = {session.date: row for row, session in enumerate(whole)}
        rows = [place[session.date] for session in sessions]
        return np.moveaxis(typical, 0, -1)[rows][..., : sessions[-1].minutes]


def _kinds(months: Sequence[manifest.MonthManifest], sessions: Sequence[Session], symbols: tuple[str, ...]) -> Index:
    by_name = {month.name: month for month in months}

    @functools.cache
    def row(name: str) -> list[int]:
        month = by_name.get(name)
        entries = {} if month is None else month.entries
        return [entries[symbol].kind if symbol in entries else -1 for symbol in symbols]

    return np.array([row(manifest.month_of(session.date)) for session in sessions], dtype=np.intp)
