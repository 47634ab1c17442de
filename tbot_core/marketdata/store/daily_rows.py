"""The daily rows of months as arrays, and a file of them beside each Parquet file of record.

::

    <folder>/2018-02/days-<content>.block

A command that finds it need not load polars, whose import takes longer than reading a year. It is made from the Parquet
file on first use, has that file's SHA-256 in its name, and can be removed at any time; an import removes it with the
month's old manifest. After a line with the format come the SHA-256 of the rest, the length of the symbols' names, these
as JSON, and the rows.

The rows of several months say which symbol has bars in which session, and what its day was.
"""

from __future__ import annotations

import hashlib
import json
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np
import numpy.typing as npt

from tbot_core.errors import AccessError
from tbot_core.marketdata.store import manifest
from tbot_core.marketdata.store.daily_facts import DailyAggregates, share_counts
from tbot_core.marketdata.store.manifest import FIRST_ADJUSTED
from tbot_core.model import json_document
from tbot_core.model.bars import Flags, Index
from tbot_core.model.day_facts import Dates
from tbot_core.system import filesystem

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import polars as pl

    from tbot_core.contracts import Split
    from tbot_core.model.calendar import Session

_FORMAT: Final = b"tbot daily rows 2\n"

_DIGEST_LENGTH: Final = 32

_NUMBERS: Final = {"bars": "<i8", "open": "<f8", "high": "<f8", "low": "<f8", "close": "<f8", "volume": "<i8"}

_ROW: Final = np.dtype([("code", "<i4"), ("date", "<M8[D]"), *_NUMBERS.items(), ("digest", f"V{_DIGEST_LENGTH}")])

_VALUES: Final = ("bars", "open", "high", "low", "close", "volume")


@attrs.frozen(kw_only=True, eq=False)
class DailyRows:
    """One row per symbol and session of a month: the columns of the Parquet file, the symbol as its place in `names`.

    `names` are sorted; the column `code` has the places.
    """

    names: tuple[str, ...]
    table: npt.NDArray[Any]

    @classmethod
    def of(cls, frame: pl.DataFrame) -> DailyRows:
        """The rows of a month's daily file."""
        table = np.empty(len(frame), dtype=_ROW)
        table["code"] = frame["symbol"].rank("dense").to_numpy() - 1
        table["date"] = frame["date"].to_numpy()
        for name in _NUMBERS:
            table[name] = frame[name].to_numpy()
        table["digest"] = np.frombuffer(b"".join(frame["digest"]), dtype=f"V{_DIGEST_LENGTH}")
        return cls(names=tuple(frame["symbol"].unique().sort()), table=table)

    @classmethod
    def none(cls) -> DailyRows:
        """No rows."""
        return cls(names=(), table=np.empty(0, dtype=_ROW))

    @property
    def days(self) -> set[dt.date]:
        """The sessions that have bars."""
        return set(np.unique(self.table["date"]).tolist())


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
        codes = [
            np.array([place[name] for name in month.names], dtype=np.intp)[month.table["code"]] for month in months
        ]
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


def read_daily(folder: Path, month: manifest.MonthManifest) -> DailyRows:
    """Read the month's daily rows; raises DataError as `parquet.read_daily` does."""
    path = folder / month.name / f"days-{month.daily_sha256[: manifest.NAME_LENGTH]}{manifest.BLOCK_SUFFIX}"
    if (found := _read(path)) is not None:
        return found
    from tbot_core.marketdata.store import parquet

    rows = DailyRows.of(parquet.read_daily(folder, month))
    with suppress(AccessError):  # where it cannot be kept each run reads the Parquet file
        filesystem.write_atomic(path, _encoded(rows))
    return rows


def _read(path: Path) -> DailyRows | None:
    # The rows of a file; None where there is none, or one that is damaged or of another format.
    try:
        data = filesystem.read_bytes(path) if filesystem.exists(path) else b""
    except AccessError:
        return None
    start = len(_FORMAT) + _DIGEST_LENGTH
    if not data.startswith(_FORMAT) or hashlib.sha256(data[start:]).digest() != data[len(_FORMAT) : start]:
        return None
    stop = start + 4 + int.from_bytes(data[start : start + 4], "little")
    names = tuple(json_document.parse_json(data[start + 4 : stop]))
    return DailyRows(names=names, table=np.frombuffer(data, dtype=_ROW, offset=stop))


def _encoded(rows: DailyRows) -> bytes:
    names = json.dumps(rows.names).encode()
    content = struct.pack("<I", len(names)) + names + rows.table.tobytes()
    return _FORMAT + hashlib.sha256(content).digest() + content
