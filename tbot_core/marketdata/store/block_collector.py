"""Collects the block of a month from its Parquet files, some symbols at a time."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.marketdata.store import block_files, manifest
from tbot_core.marketdata.store.block_files import COLUMNS, BlockLayout, BlockPart, MonthBlock
from tbot_core.marketdata.store.daily_rows import DailyRows
from tbot_core.marketdata.store.session_grid import SessionGrid, times_of
from tbot_core.system.worker_threads import map_in_threads

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import polars as pl

    from tbot_core.model.bars import Array
    from tbot_core.model.calendar import Session

# Symbols are written side by side, so that each write fills whole cache lines.
_SYMBOLS_AT_ONCE: Final = 16


class BlockMemory:
    """Arrays for one month at a time: what was collected in them is valid until the next month is.

    Memory that was used before costs nothing; new memory has to be cleared by the system first.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def fields(self, shapes: Sequence[tuple[int, int, int]]) -> list[dict[str, Array]]:
        """The fields of parts of these shapes, with any content; those that are not written to take no memory."""
        ends = list(itertools.accumulate(map(math.prod, shapes)))
        for name in COLUMNS:
            if name not in self._arrays or self._arrays[name].size < ends[-1]:
                self._arrays[name] = np.empty(ends[-1])
        return [
            {name: self._arrays[name][end - math.prod(shape) : end].reshape(shape) for name in COLUMNS}
            for shape, end in zip(shapes, ends, strict=True)
        ]


@attrs.frozen(kw_only=True, eq=False)
class MonthFiles:
    """The Parquet files of a month, and its daily rows; `folder` is that of the store."""

    folder: Path
    month: manifest.MonthManifest
    daily: DailyRows

    def collect(
        self, groups: Iterable[tuple[Session, ...]], symbols: tuple[str, ...], memory: BlockMemory | None = None
    ) -> MonthBlock:
        """Make a block of the symbols that the month has, in several threads, in memory of its own by default.

        Raises DataError for a changed file: the first one in the order of the symbols.
        """
        groups = tuple(groups)
        counted = _Counted.of(self.daily, sorted(itertools.chain(*groups), key=lambda session: session.date))
        held = tuple(symbol for symbol in symbols if symbol in self.month.entries)
        shapes = [(group[0].minutes, len(group), len(held)) for group in groups]
        fields = (BlockMemory() if memory is None else memory).fields(shapes)
        parts = [_EmptyPart(*one) for one in zip(groups, fields, strict=True)]
        work = _Collection(files=self, counted=counted, symbols=held, parts=parts)
        map_in_threads(work.fill, range(0, len(held), _SYMBOLS_AT_ONCE))
        return MonthBlock(
            symbols=held, parts=tuple(BlockPart(sessions=part.sessions, fields=part.filled()) for part in parts)
        )


def differs(layout: BlockLayout, files: MonthFiles) -> bool:
    """Whether a month's block has other bars than its Parquet files; not where there is no block to be read.

    Raises DataError for a changed file.
    """
    block = block_files.read_block(layout, proved=False)
    if block is None:
        return False
    made = files.collect(layout.groups, layout.symbols)
    pairs = zip(block.parts, made.parts, strict=True)
    return not all(
        np.array_equal(one.fields[name], two.fields[name], equal_nan=True) for one, two in pairs for name in COLUMNS
    )


@attrs.frozen(kw_only=True, eq=False)
class _Collection:
    # The parts of a month as they are filled: by several threads, each with symbols of its own.
    files: MonthFiles
    counted: _Counted
    symbols: tuple[str, ...]
    parts: list[_EmptyPart]

    def fill(self, start: int) -> None:
        """Read some symbols from the place of the first on, and put them in."""
        from tbot_core.marketdata.store import parquet

        some = self.symbols[start : start + _SYMBOLS_AT_ONCE]
        whole = self.counted.whole.issuperset(some)
        wanted = COLUMNS if whole else ("ts", *COLUMNS)
        bars = parquet.read_bars(self.files.folder, self.files.month, *some, columns=wanted)
        columns = slice(start, start + len(some))
        for part in self.parts:
            if whole:
                part.fill_whole(columns, bars, self.counted)
            else:
                part.fill(columns, bars, [self.counted.bars[symbol] for symbol in some])


@attrs.frozen(kw_only=True, eq=False)
class _Counted:
    # The bars of each symbol in a month, and the symbols with one in every minute of the sessions and none elsewhere:
    # the times of these need not be read. `starts`: the place of each session's first bar among those of such a symbol.
    bars: Mapping[str, int]
    whole: frozenset[str]
    starts: Mapping[dt.date, int]

    @classmethod
    def of(cls, daily: DailyRows, sessions: Sequence[Session]) -> _Counted:
        minutes = np.array([session.minutes for session in sessions])
        dates = np.array([session.date for session in sessions], dtype="datetime64[D]")
        codes, table = daily.table["code"], daily.table
        at = np.minimum(np.searchsorted(dates, table["date"]), len(dates) - 1)
        full = (dates[at] == table["date"]) & (table["bars"] == minutes[at])
        days, whole_days = np.bincount(codes), np.bincount(codes, weights=full)
        whole = (days == len(sessions)) & (whole_days == len(sessions))
        return cls(
            bars=dict(zip(daily.names, np.bincount(codes, weights=table["bars"]).astype(int).tolist(), strict=True)),
            whole=frozenset(itertools.compress(daily.names, whole)),
            starts=dict(zip(dates.tolist(), (np.cumsum(minutes) - minutes).tolist(), strict=True)),
        )


class _EmptyPart:
    # A part that is filled some symbols at a time.
    def __init__(self, sessions: tuple[Session, ...], fields: dict[str, Array]) -> None:
        self.sessions = sessions
        self._grid, self._fields = SessionGrid(sessions), fields
        self._known: set[str] = set()
        self._unknown: list[tuple[str, slice]] = []

    def filled(self) -> dict[str, Array]:
        """The fields, once all symbols are in; one that has no number is NaN without taking memory."""
        for name, columns in self._unknown:
            if name in self._known:
                self._fields[name][:, :, columns] = np.nan
        return {
            name: field if name in self._known else np.broadcast_to(np.nan, field.shape)
            for name, field in self._fields.items()
        }

    def fill(self, columns: slice, bars: pl.DataFrame, counts: Sequence[int]) -> None:
        """Put in the bars of some symbols, as far as they lie in the sessions.

        `bars` are those of one symbol after another; `counts`: how many each has.
        """
        minutes, sessions = self.sessions[0].minutes, len(self.sessions)
        rows, at, inside = self._grid.place(times_of(bars))
        symbol = np.repeat(np.arange(len(counts)), counts)
        cells = ((at * sessions + rows) * len(counts) + symbol)[inside]
        found = np.full(minutes * sessions * len(counts), np.nan)
        for values, field in self._fields_of(columns, bars):
            found[cells] = values[inside]
            field[:] = found.reshape(field.shape)

    def fill_whole(self, columns: slice, bars: pl.DataFrame, counted: _Counted) -> None:
        """The same for symbols with a bar in every minute of the month."""
        for values, field in self._fields_of(columns, bars):
            by_symbol = values.reshape(field.shape[-1], -1)
            for row, session in enumerate(self.sessions):
                start = counted.starts[session.date]
                field[:, row] = by_symbol[:, start : start + session.minutes].T

    def _fields_of(self, columns: slice, bars: pl.DataFrame) -> Iterator[tuple[Array, Array]]:
        # Of each field that has numbers the values of the bars, and the cells of the symbols.
        values = np.empty(len(bars))
        for name in COLUMNS:
            if bars[name].null_count() == len(bars):
                self._unknown.append((name, columns))
                continue
            self._known.add(name)
            at = 0
            for chunk in bars[name].get_chunks():
                values[at : at + len(chunk)] = chunk.to_numpy()
                at += len(chunk)
            yield values, self._fields[name][:, :, columns]
