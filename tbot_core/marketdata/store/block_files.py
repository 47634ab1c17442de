"""A month of bars in the layout of the engine: one memory-mapped file beside the Parquet files of record.

::

    <folder>/2018-02/bars-<key>.block

The key names the month's manifest and its sessions, so an import makes the file useless. It is made from the Parquet
files on first use, and can be removed at any time. After a header of 4096 bytes come, for each length of sessions, the
fields as float64 of shape (minutes, sessions, symbols). A field without any number, as the VWAP often is, is left out.
What a file must hold follows from the manifest and the daily rows; the header says which fields are there, and has a
checksum of them. A file has the time of its month's manifest; a later write changes that time, and then
the checksum is computed before the file is used.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import struct
import zlib
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from tbot_core.errors import AccessError
from tbot_core.marketdata.store import manifest
from tbot_core.marketdata.store.session_grid import month_sessions
from tbot_core.model import json_document
from tbot_core.model.bars import FIELDS, Array
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.system import file_streams, filesystem, log

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence


COLUMNS: Final = (*FIELDS, "vwap")
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


@attrs.frozen(kw_only=True, eq=False)
class BlockPart:
    """The sessions of one length, and their fields: arrays of shape (minutes, sessions, symbols), NaN = no bar."""

    sessions: tuple[Session, ...]
    fields: Mapping[str, Array]


@attrs.frozen(kw_only=True, eq=False)
class MonthBlock:
    """The bars of a month for some symbols, in parts by length of session."""

    symbols: tuple[str, ...]
    parts: tuple[BlockPart, ...]

    def of(
        self,
        sessions: Sequence[Session],
        symbols: tuple[str, ...],
        names: Sequence[str] = COLUMNS,
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


def _rows(part: BlockPart, sessions: Sequence[Session]) -> list[int | None]:
    places = {session.date: row for row, session in enumerate(part.sessions)}
    return [places.get(session.date) for session in sessions]


def _span(rows: Sequence[int | None]) -> Any:
    # The rows as a slice where they follow each other, so that they are a view.
    first = rows[0]
    if first is not None and list(rows) == list(range(first, first + len(rows))):
        return slice(first, first + len(rows))
    return list(rows)


def _picked(part: BlockPart, names: Sequence[str]) -> Iterator[tuple[str, Array]]:
    return ((name, part.fields[name]) for name in names)


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
        held = tuple(one for one in month_sessions(_EXCHANGE, month.name) if one.date in days)
        words = [f"{session.open.isoformat()} {session.minutes}" for session in held]
        key = hashlib.sha256("\n".join((month.sha256, *words)).encode()).hexdigest()
        path = folder / month.name / f"bars-{key[: manifest.NAME_LENGTH]}{manifest.BLOCK_SUFFIX}"
        return cls(path=path, key=key, symbols=tuple(sorted(month.entries)), groups=by_length(held))

    @property
    def most_bytes(self) -> int:
        """The length of a file with all fields."""
        return HEADER_LENGTH + sum(self.field_bytes(group) * len(COLUMNS) for group in self.groups)

    def field_bytes(self, group: tuple[Session, ...]) -> int:
        """The length of one field of a group."""
        return group[0].minutes * len(group) * len(self.symbols) * _CELL_BYTES


def by_length(sessions: Iterable[Session]) -> tuple[tuple[Session, ...], ...]:
    """The sessions grouped by their length, in order of first use."""
    groups: dict[int, list[Session]] = {}
    for session in sessions:
        groups.setdefault(session.minutes, []).append(session)
    return tuple(tuple(group) for group in groups.values())


def read_block(layout: BlockLayout, *, proved: bool = True) -> MonthBlock | None:
    """Map a month's block; None where there is none, or one that is unreadable, short, damaged or of another format.

    With `proved` a file that was written to since it was made is compared with its checksum.
    """
    try:
        data = file_streams.map_file(layout.path)
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
        fields = {name: np.broadcast_to(np.nan, shape) for name in COLUMNS}
        for name in held:
            count = layout.field_bytes(group) // _CELL_BYTES
            fields[name] = np.frombuffer(data, "<f8", count, at).reshape(shape)
            at += layout.field_bytes(group)
        parts.append(BlockPart(sessions=group, fields=fields))
    return MonthBlock(symbols=layout.symbols, parts=tuple(parts))


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
        file_streams.set_modified_as(path, record)
    return True


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
    file_streams.set_modified_as(layout.path, layout.path.with_name(manifest.MANIFEST))
    for path in filesystem.entries(folder):
        stranded = path.name.startswith((".bars-", ".days-")) and filesystem.modified(path) < now - _STRANDED_S
        if stranded or (path.match(f"bars-*{manifest.BLOCK_SUFFIX}") and path != layout.path):
            filesystem.remove(path)


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
