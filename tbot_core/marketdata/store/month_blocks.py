"""A month of bars in the layout of the engine: one memory-mapped file beside the Parquet files of record.

::

    <folder>/2018-02/bars-<key>.block

The key names the month's manifest and its sessions, so an import makes the file useless. It is collected from the
Parquet files on first use, some symbols at a time, and can be removed at any time. After a header of 4096 bytes come,
for each length of sessions, the fields as float64 of shape (minutes, sessions, symbols). A field without any number, as
the VWAP often is, is left out. What a file must hold follows from the manifest and the daily rows; the header says
which fields are there, and has a checksum of them. A file has the time of its month's manifest; a later write changes
that time, and then the checksum is computed before the file is used.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import itertools
import json
import math
import operator
import struct
import zlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from tbot_core.errors import AccessError
from tbot_core.marketdata.store import manifest
from tbot_core.marketdata.store.daily_rows import DailyRows
from tbot_core.marketdata.store.session_grid import SessionGrid, month_sessions, times_of
from tbot_core.model import json_document
from tbot_core.model.bars import FIELDS, Array
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.system import filesystem, large_files, log
from tbot_core.system.threads import DaemonThreads, iterate_ahead, map_in_threads

if TYPE_CHECKING:
    from concurrent.futures import Future

    import polars as pl

_COLUMNS: Final = (*FIELDS, "vwap")

HEADER_LENGTH: Final = 4096

ROOM_LEFT: Final = 256 << 20
"""The bytes of a disk that blocks leave free."""

_FORMAT: Final = b"tbot block of bars 2\n"

_DIGEST_LENGTH: Final = 32

_CELL_BYTES: Final = 8

_STRANDED_S: Final = 3600

# A piece stays in the cache of the processor between its checksum and its copy; larger writes are slower.
_PIECE_BYTES: Final = 256 << 10

_EXCHANGE: Final = ExchangeCalendar()

_log = log.logger(__name__)

# Symbols are written side by side, so that each write fills whole cache lines.
_SYMBOLS_AT_ONCE: Final = 16

# A smaller share of a month's symbols is read from their own files.
_BLOCK_SHARE: Final = 8


@attrs.frozen(kw_only=True, eq=False)
class _BlockPart:
    # The sessions of one length, and their fields: arrays of shape (minutes, sessions, symbols), NaN = no bar.
    sessions: tuple[Session, ...]
    fields: Mapping[str, Array]


@attrs.frozen(kw_only=True, eq=False)
class MonthBlock:
    """The bars of a month for some symbols, in parts by length of session."""

    symbols: tuple[str, ...]
    parts: tuple[_BlockPart, ...]

    def of(
        self,
        sessions: Sequence[Session],
        symbols: tuple[str, ...],
        names: Sequence[str] = _COLUMNS,
        minutes: int | None = None,
    ) -> dict[str, Array]:
        """Fields of these sessions and symbols, shape (minutes, sessions, symbols); NaN where the month has none.

        All symbols of the month and sessions that follow each other are views, anything else copies. `minutes`: by
        default those of the first session.
        """
        length = sessions[0].minutes if minutes is None else minutes
        for part in self.parts:
            rows = _rows(part, sessions)
            if None not in rows and length <= part.sessions[0].minutes and symbols == self.symbols:
                return {name: field[:length, _span(rows)] for name, field in _picked(part, names)}
        found = {name: np.full((length, len(sessions), len(symbols)), np.nan) for name in names}
        place = {symbol: column for column, symbol in enumerate(self.symbols)}
        to = [column for column, symbol in enumerate(symbols) if symbol in place]
        columns = [place[symbols[column]] for column in to]
        for part in self.parts:
            for at, row in enumerate(_rows(part, sessions)):
                if row is not None:
                    for name, field in _picked(part, names):
                        cells = field[:length, row][:, columns]
                        found[name][: len(cells), at, to] = cells
        return found


@attrs.frozen(kw_only=True)
class BlockLayout:
    """What the block of a month must hold, and where it lies; `groups` are its sessions by length."""

    path: Path
    key: str
    symbols: tuple[str, ...]
    groups: tuple[tuple[Session, ...], ...]

    @classmethod
    def of(cls, folder: Path, month: manifest.MonthManifest, days: Collection[dt.date]) -> BlockLayout:
        """The layout of a month that has bars on these days.

        Its sessions are the exchange's own: an instance's calendar only shortens them or leaves some out.
        """
        held = tuple(session for session in month_sessions(_EXCHANGE, month.name) if session.date in days)
        words = [f"{session.open.isoformat()} {session.minutes}" for session in held]
        key = hashlib.sha256("\n".join((month.sha256, *words)).encode()).hexdigest()
        path = folder / month.name / f"bars-{key[: manifest.NAME_LENGTH]}{manifest.BLOCK_SUFFIX}"
        return cls(path=path, key=key, symbols=tuple(sorted(month.entries)), groups=by_length(held))

    @property
    def most_bytes(self) -> int:
        """The length of a file with all fields."""
        return HEADER_LENGTH + sum(self.field_bytes(group) * len(_COLUMNS) for group in self.groups)

    def field_bytes(self, group: tuple[Session, ...]) -> int:
        """The length of one field of a group."""
        return group[0].minutes * len(group) * len(self.symbols) * _CELL_BYTES


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
            symbols=held, parts=tuple(_BlockPart(sessions=part.sessions, fields=part.filled()) for part in parts)
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
        wanted = _COLUMNS if whole else ("ts", *_COLUMNS)
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


@attrs.frozen(kw_only=True, eq=False)
class WantedMonth:
    """A month, and of it the sessions by length and the symbols that are wanted."""

    month: manifest.MonthManifest
    groups: tuple[tuple[Session, ...], ...]
    symbols: tuple[str, ...]

    @property
    def wants_block(self) -> bool:
        """Whether a block of the whole month serves it; few symbols of many come from their own files."""
        held = self.month.entries
        return _BLOCK_SHARE * sum(symbol in held for symbol in self.symbols) >= len(held)


@attrs.define(eq=False)
class MonthBlocks:
    """Reads and makes blocks; `folder` is that of the store, `daily` has the daily rows of the months in question.

    Raises DataError when a file of a month was changed, or removed by an import, and AccessError for one that cannot
    be read. A block that cannot be written is noted once, and served from memory.
    """

    folder: Path
    daily: Mapping[str, DailyRows]
    _has_warned: bool = attrs.field(default=False, init=False)

    def block(self, wanted: WantedMonth) -> MonthBlock:
        """The bars of a month."""
        if not wanted.wants_block:
            return self._files(wanted.month).collect(wanted.groups, wanted.symbols)
        layout = self._layout(wanted.month)
        return _read_block(layout) or self._made(wanted.month, layout)

    def in_order(self, months: Sequence[WantedMonth]) -> Generator[MonthBlock, None, None]:
        """Iterate over the bars of months; while one is used the next is read ahead, or made in threads.

        One month is made ahead, in memory that is used again. An error is raised in the place of its month.
        """
        if len(months) == 1:
            yield self.block(months[0])
        else:
            with closing(iterate_ahead(self._ahead(months))) as ahead:
                yield from map(operator.call, ahead)

    def _ahead(self, months: Iterable[WantedMonth]) -> Generator[Callable[[], MonthBlock], None, None]:
        # For each month what returns its block. Ended early, it waits for those that are being kept.
        memory = BlockMemory()
        with ExitStack() as ends:
            for wanted in months:
                yield self._begun(wanted, memory, ends)

    def _begun(self, wanted: WantedMonth, memory: BlockMemory, ends: ExitStack) -> Callable[[], MonthBlock]:
        # A block as far as it is made ahead: what is written is put on the disk while the next month is collected.
        if not wanted.wants_block:
            return partial(_same, self._files(wanted.month).collect(wanted.groups, wanted.symbols))
        layout = self._layout(wanted.month)
        if (block := _read_block(layout)) is not None:
            large_files.read_ahead(layout.path)
            return partial(_same, block)
        try:
            writing = self._written(wanted.month, layout, memory)
        except AccessError:  # made once it is needed, in memory of its own; the fault is raised or noted there
            return partial(self.block, wanted)
        kept = DaemonThreads().submit(writing.close)
        ends.callback(kept.exception)
        return partial(self._kept, kept, wanted)

    def _kept(self, kept: Future[None], wanted: WantedMonth) -> MonthBlock:
        with suppress(AccessError):  # as where it cannot be written
            kept.result()
        return self.block(wanted)

    def _written(self, month: manifest.MonthManifest, layout: BlockLayout, memory: BlockMemory) -> ExitStack:
        # Write a block; it is kept once the stack is closed.
        with ExitStack() as failing:
            write = failing.enter_context(writing(layout))
            write(self._files(month).collect(layout.groups, layout.symbols, memory))
            return failing.pop_all()

    def _made(self, month: manifest.MonthManifest, layout: BlockLayout) -> MonthBlock:
        made = self._files(month).collect(layout.groups, layout.symbols)
        try:
            with writing(layout) as write:
                write(made)
        except AccessError as fault:
            if not self._has_warned:
                _log.warning("bars.block_not_kept", reason=fault.message, effect="each run reads Parquet: slower")
            self._has_warned = True
            return made
        return _read_block(layout) or made  # the file, so that the memory is free for the next month

    def _layout(self, month: manifest.MonthManifest) -> BlockLayout:
        return BlockLayout.of(self.folder, month, self.daily[month.name].days)

    def _files(self, month: manifest.MonthManifest) -> MonthFiles:
        return MonthFiles(folder=self.folder, month=month, daily=self.daily[month.name])


def by_length(sessions: Iterable[Session]) -> tuple[tuple[Session, ...], ...]:
    """The sessions grouped by their length, in order of first use."""
    groups: dict[int, list[Session]] = {}
    for session in sessions:
        groups.setdefault(session.minutes, []).append(session)
    return tuple(tuple(group) for group in groups.values())


def _read_block(layout: BlockLayout, *, proved: bool = True) -> MonthBlock | None:
    # Map a month's block; None where there is none, or one that is unreadable, short, damaged or of another format.
    # With `proved` a file that was written to since it was made is compared with its checksum.
    try:
        data = large_files.map_file(layout.path)
    except AccessError:
        return None
    names, checksum = _fields_of_header(bytes(data[:HEADER_LENGTH]), layout)
    needed = HEADER_LENGTH + sum(
        layout.field_bytes(group) * len(fields) for group, fields in zip(layout.groups, names, strict=False)
    )
    if len(names) != len(layout.groups) or len(data) != needed:
        return None
    if proved and not _is_proved(layout.path, data, checksum):
        return None
    parts, at = [], HEADER_LENGTH
    for group, held in zip(layout.groups, names, strict=True):
        shape = group[0].minutes, len(group), len(layout.symbols)
        fields = {name: np.broadcast_to(np.nan, shape) for name in _COLUMNS}
        for name in held:
            count = layout.field_bytes(group) // _CELL_BYTES
            fields[name] = np.frombuffer(data, "<f8", count, at).reshape(shape)
            at += layout.field_bytes(group)
        parts.append(_BlockPart(sessions=group, fields=fields))
    return MonthBlock(symbols=layout.symbols, parts=tuple(parts))


@contextmanager
def writing(layout: BlockLayout) -> Iterator[Callable[[MonthBlock], None]]:
    """Yield what writes a month's block; it is kept, and those that it replaces are removed, when the context ends.

    Raises AccessError where the folder cannot be written, or the disk would have less than ROOM_LEFT bytes.
    """
    folder = layout.path.parent
    if filesystem.free_bytes(folder) < layout.most_bytes + ROOM_LEFT:
        raise AccessError(f"Cannot write {layout.path}: the disk is nearly full.", "Free some space.")
    with filesystem.replacing(layout.path) as file:
        yield functools.partial(_write, file, layout.key)
    now = filesystem.modified(layout.path)
    large_files.set_modified_as(layout.path, layout.path.with_name(manifest.MANIFEST))
    for path in filesystem.entries(folder):
        stranded = path.name.startswith((".bars-", ".days-")) and filesystem.modified(path) < now - _STRANDED_S
        if stranded or (path.match(f"bars-*{manifest.BLOCK_SUFFIX}") and path != layout.path):
            filesystem.remove(path)


class BlockMemory:
    """Arrays for one month at a time: what was collected in them is valid until the next month is.

    Memory that was used before costs nothing; new memory has to be cleared by the system first.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def fields(self, shapes: Sequence[tuple[int, int, int]]) -> list[dict[str, Array]]:
        """The fields of parts of these shapes, with any content; those that are not written to take no memory."""
        ends = list(itertools.accumulate(map(math.prod, shapes)))
        for name in _COLUMNS:
            if name not in self._arrays or self._arrays[name].size < ends[-1]:
                self._arrays[name] = np.empty(ends[-1])
        return [
            {name: self._arrays[name][end - math.prod(shape) : end].reshape(shape) for name in _COLUMNS}
            for shape, end in zip(shapes, ends, strict=True)
        ]


def differs(layout: BlockLayout, files: MonthFiles) -> bool:
    """Whether a month's block has other bars than its Parquet files; not where there is no block to be read.

    Raises DataError for a changed file.
    """
    block = _read_block(layout, proved=False)
    if block is None:
        return False
    made = files.collect(layout.groups, layout.symbols)
    pairs = zip(block.parts, made.parts, strict=True)
    return not all(
        np.array_equal(one.fields[name], two.fields[name], equal_nan=True) for one, two in pairs for name in _COLUMNS
    )


def _rows(part: _BlockPart, sessions: Sequence[Session]) -> list[int | None]:
    places = {session.date: row for row, session in enumerate(part.sessions)}
    return [places.get(session.date) for session in sessions]


def _span(rows: Sequence[int | None]) -> Any:
    # The rows as a slice where they follow each other, so that they are a view.
    first = rows[0]
    if first is not None and list(rows) == list(range(first, first + len(rows))):
        return slice(first, first + len(rows))
    return list(rows)


def _picked(part: _BlockPart, names: Sequence[str]) -> Iterator[tuple[str, Array]]:
    return ((name, part.fields[name]) for name in names)


def _is_proved(path: Path, data: memoryview, checksum: int) -> bool:
    # Whether a file was not written to since it was made, or its content is as it was made.
    record = path.with_name(manifest.MANIFEST)
    with suppress(AccessError):
        if filesystem.modified(path) == filesystem.modified(record):
            return True
    if zlib.crc32(data[HEADER_LENGTH:]) != checksum:
        _log.warning("bars.block_damaged", file=str(path), effect="it is made again from the Parquet files")
        return False
    with suppress(AccessError):  # in a read-only folder it is computed each time
        large_files.set_modified_as(path, record)
    return True


def _write(file: IO[bytes], key: str, block: MonthBlock) -> None:
    held = [{name: field for name, field in part.fields.items() if _has_numbers(field)} for part in block.parts]
    checksum = 0
    file.seek(HEADER_LENGTH)
    for field in itertools.chain.from_iterable(part.values() for part in held):
        data = np.ascontiguousarray(field, "<f8").data.cast("B")
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            checksum = zlib.crc32(piece, checksum)
            file.write(piece)
    file.seek(0)
    file.write(_header(key, [list(part) for part in held], checksum))


def _has_numbers(field: Array) -> bool:
    return not all(np.isnan(minute).all() for minute in field)


def _header(key: str, names: list[list[str]], checksum: int) -> bytes:
    text = json.dumps({"key": key, "fields": names, "crc32": checksum}).encode()
    counted = struct.pack("<I", len(text)) + text
    return (_FORMAT + hashlib.sha256(counted).digest() + counted).ljust(HEADER_LENGTH, b"\0")


def _fields_of_header(data: bytes, layout: BlockLayout) -> tuple[list[list[str]], int]:
    # The names of the fields of each part and their checksum; none for a header that is not the layout's.
    start = len(_FORMAT) + _DIGEST_LENGTH
    length = int.from_bytes(data[start : start + 4], "little")
    counted = data[start : start + 4 + length]
    proved = hashlib.sha256(counted).digest() == data[len(_FORMAT) : start]
    if not data.startswith(_FORMAT) or not proved:
        return [], 0
    content = json_document.parse_json(counted[4:])
    return (content["fields"], content["crc32"]) if content["key"] == layout.key else ([], 0)


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
        for name in _COLUMNS:
            if bars[name].null_count() == len(bars):
                self._unknown.append((name, columns))
                continue
            self._known.add(name)
            at = 0
            for chunk in bars[name].get_chunks():
                values[at : at + len(chunk)] = chunk.to_numpy()
                at += len(chunk)
            yield values, self._fields[name][:, :, columns]


def _same(block: MonthBlock) -> MonthBlock:
    return block
