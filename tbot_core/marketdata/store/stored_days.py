"""The daily rows of several months: which symbol has bars in which session, and what its day was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np
import numpy.typing as npt

from tbot_core.marketdata.store.daily_facts import DailyAggregates
from tbot_core.marketdata.store.daily_rows import DailyRows
from tbot_core.marketdata.store.manifest import FIRST_ADJUSTED
from tbot_core.marketdata.store.splits import share_counts
from tbot_core.model.bars import Flags, Index
from tbot_core.model.day_facts import Dates

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator, Sequence

    from tbot_core.contracts import Split
    from tbot_core.model.calendar import Session

_VALUES: Final = ("bars", "open", "high", "low", "close", "volume")


@attrs.frozen(kw_only=True, eq=False)
class StoredDays:
    """Daily rows; of each the date, and the place of its symbol in `names`, which are sorted."""

    names: tuple[str, ...]
    dates: Dates
    codes: Index
    table: npt.NDArray[Any]

    @classmethod
    def of(cls, months: Sequence[DailyRows]) -> StoredDays:
        """The rows of some months."""
        names = tuple(sorted(set[str]().union(*(month.names for month in months))))
        place = {name: code for code, name in enumerate(names)}
        codes = [np.array([place[name] for name in one.names], dtype=np.intp)[one.table["code"]] for one in months]
        table = np.concatenate([DailyRows.none().table, *(month.table for month in months)])
        nothing = np.array([], dtype=np.intp)
        return cls(names=names, dates=table["date"], codes=np.concatenate([nothing, *codes]), table=table)

    def rows(self, first: dt.date, last: dt.date, symbols: Iterable[str] | None = None) -> Index:
        """The places of the rows of a range, of all or of some symbols."""
        found: Flags = (self.dates >= np.datetime64(first, "D")) & (self.dates <= np.datetime64(last, "D"))
        if symbols is not None:
            found &= self.columns(tuple(symbols))[self.codes] >= 0
        return np.flatnonzero(found)

    def columns(self, symbols: Sequence[str]) -> Index:
        """For each of `names` its place in `symbols`; -1 without one."""
        place = {symbol: column for column, symbol in enumerate(symbols)}
        return np.array([place.get(name, -1) for name in self.names], dtype=np.intp)

    def days(self, rows: Index) -> set[dt.date]:
        """The distinct dates of rows."""
        return set(np.unique(self.dates[rows]).tolist())

    def symbols(self, rows: Index, days: Iterable[dt.date]) -> tuple[str, ...]:
        """The symbols of rows that lie on these days, sorted."""
        on_days = np.isin(self.dates[rows], np.array(list(days), dtype="datetime64[D]"))
        return tuple(self.names[code] for code in np.unique(self.codes[rows][on_days]))

    def contents(self, rows: Index) -> Iterator[bytes]:
        """Date, symbol and SHA-256 of the bars of each row, by date and symbol."""
        ordered = rows[np.lexsort((self.codes[rows], self.dates[rows]))]
        days = {day: day.isoformat() for day in self.days(rows)}
        digests = self.table["digest"][ordered].tolist()
        for day, code, digest in zip(self.dates[ordered].tolist(), self.codes[ordered].tolist(), digests, strict=True):
            yield f"\n{days[day]} {self.names[code]} ".encode() + digest

    def aggregates(
        self, sessions: Sequence[Session], symbols: tuple[str, ...], kinds: Index, splits: Iterable[Split]
    ) -> DailyAggregates:
        """The rows as arrays (sessions, symbols); `kinds` are the kinds of bars in this shape.

        `splits` count for bars as they were traded.
        """
        days = np.array([session.date for session in sessions], dtype="datetime64[D]")
        rows = self.rows(sessions[0].date, sessions[-1].date, symbols)
        at = np.searchsorted(days, self.dates[rows])
        held = days[np.minimum(at, len(days) - 1)] == self.dates[rows]
        rows = rows[held]
        to = at[held], self.columns(symbols)[self.codes[rows]]
        values: dict[str, Any] = {name: np.full((len(sessions), len(symbols)), np.nan) for name in _VALUES}
        for name, column in values.items():
            column[to] = self.table[name][rows]
        return DailyAggregates(
            minutes=np.array([session.minutes for session in sessions], dtype=np.intp),
            kind=kinds,
            shares=np.where(kinds < FIRST_ADJUSTED, share_counts(splits, days, symbols), 1.0),
            bars=np.nan_to_num(values.pop("bars")).astype(np.intp),
            **values,
        )
