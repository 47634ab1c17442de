"""The bars of a session as they were first received, in a file of their own beside the journal.

One frame for what was known before the bell, then one for each minute as it was decided, added once it has been dealt
with: length and checksum, then a compressed line of JSON and the bytes of its arrays. What a crash left of a frame at
the end is passed over. `tbot why` works minutes out anew from this, and a bot that comes again goes on with it.
"""

from __future__ import annotations

import datetime as dt
import json
import struct
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, Self

import attrs
import numpy as np

from tbot_core.errors import DataError
from tbot_core.marketdata.bar_aggregator import BarAmendment, BarArrival
from tbot_core.model import json_document
from tbot_core.model.bars import FIELDS, Array, DayFacts, MinuteSlice, Quotes
from tbot_core.model.calendar import Session
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = "received"
SUFFIX: Final = ".bars"
_FRAME: Final = struct.Struct("<II")
_COLUMNS: Final = (*FIELDS, "vwap")
_LEVEL: Final = 1  # bars hardly get smaller with more, and the loop waits for it


def received_folder(journal: Path) -> Path:
    """The folder of a run that keeps what it received beside its own journal."""
    return journal.with_name(f"{journal.stem}-{FOLDER}")


@attrs.frozen(kw_only=True)
class RecordingHeader:
    """What is known of a session before its bell: `source` names the feed, `coverage` is what it declares, if it does.

    `cut` are the symbols that a limit left out.
    """

    session: Session
    symbols: tuple[str, ...]
    day: DayFacts = attrs.field(eq=False)
    source: str = ""
    coverage: str = ""
    cut: tuple[str, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class RecordedMinute:
    """A minute as it was decided, and the bars that had come late by then or had been said otherwise.

    `filled`: it closed while nobody listened. `at` is when it was written, `counts` how bars had come by then. `quotes`
    are those that it was decided on, None where none were looked at.
    """

    minute: MinuteSlice
    late: tuple[BarAmendment, ...] = ()
    revised: tuple[BarAmendment, ...] = ()
    filled: bool = False
    at: dt.datetime
    counts: Mapping[str, int] = attrs.field(factory=dict)
    quotes: Quotes | None = None


@attrs.frozen(kw_only=True, eq=False)
class RecordedSession:
    """A recorded session, as a feed of whole minutes; `kept` are its minutes in order."""

    header: RecordingHeader
    records: tuple[RecordedMinute, ...]

    @property
    def session(self) -> Session:
        """The exchange day."""
        return self.header.session

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that were heard, sorted."""
        return self.header.symbols

    @property
    def day(self) -> DayFacts:
        """What was known before the bell."""
        return self.header.day

    async def minutes(self) -> AsyncIterator[MinuteSlice]:
        """Every minute that was decided; one that never came is without bars."""
        nothing = np.full(len(self.symbols), np.nan)
        due = 0
        for one in self.records:
            while due < one.minute.index:
                yield MinuteSlice(index=due, **dict.fromkeys(_COLUMNS, nothing))
                due += 1
            yield one.minute
            due += 1

    def late(self, minute: int) -> Sequence[BarAmendment]:
        """The bars that were put in their place when a minute was decided."""
        return next((one.late for one in self.records if one.minute.index == minute), ())

    def quotes(self, minute: int) -> Quotes | None:
        """The quotes that a minute was decided on; None where none were looked at."""
        return next((one.quotes for one in self.records if one.minute.index == minute), None)


class SessionRecorder:
    """Writes a session's file; `before` is what it held when it was opened, None where it is new."""

    def __init__(self, path: Path, header: RecordingHeader, before: RecordedSession | None) -> None:
        self.path = path
        self.previous = before
        self._rows = len(header.symbols)
        self._next = before.records[-1].minute.index + 1 if before is not None and before.records else 0

    @classmethod
    def open(cls, folder: Path, header: RecordingHeader) -> Self:
        """The file of a session, gone on with where its symbols are the same, else another one of that day."""
        filesystem.make_folder(folder)
        for number in range(1, 1000):
            path = folder / f"{header.session.date}{'' if number == 1 else f'-{number}'}{SUFFIX}"
            if not filesystem.exists(path):
                filesystem.append(path, _framed(*_told(header)))
                return cls(path, header, None)
            data = filesystem.read_bytes(path)
            sound = _sound(data)
            found = None if not sound else _received(sound)
            if found is not None and (found.session, found.symbols) == (header.session, header.symbols):
                whole = sum(_FRAME.size + len(body) for body in sound)
                if whole < len(data):
                    filesystem.write_atomic(path, data[:whole])
                return cls(path, found.header, found)
        raise DataError(f"{folder} holds 999 recordings of {header.session.date}.", "Move them to another folder.")

    def append(self, kept: RecordedMinute) -> None:
        """Add a minute, on the disk when this returns; one that is there already is left as it is."""
        if kept.minute.index >= self._next:
            filesystem.append(self.path, _framed(*_written(kept)))
            self._next = kept.minute.index + 1


def recorded_file(folder: Path, day: dt.date) -> Path | None:
    """The latest file of a day, None where there is none."""
    if not filesystem.exists(folder):
        return None
    names = [
        path for path in filesystem.entries(folder) if path.suffix == SUFFIX and path.stem.startswith(day.isoformat())
    ]
    return max(names, key=lambda path: (len(path.stem), path.stem), default=None)


def read_recording(path: Path) -> RecordedSession:
    """All that a file holds; raises DataError for one that holds nothing."""
    return _received(_whole(path))


def read_first_and_last(path: Path) -> tuple[RecordingHeader, RecordedMinute | None]:
    """What a file begins and ends with; raises DataError for one that holds nothing."""
    first, *rest = _whole(path)
    found = _received([first, *rest[-1:]])
    return found.header, found.records[-1] if found.records else None


def _whole(path: Path) -> list[bytes]:
    sound = _sound(filesystem.read_bytes(path))
    if not sound:
        raise DataError(f"{path} holds no recorded session.", "It was cut off before its first minute.")
    return sound


def _received(bodies: Sequence[bytes]) -> RecordedSession:
    header = _header(*_parts(bodies[0]))
    kept = tuple(_kept(*_parts(body), len(header.symbols)) for body in bodies[1:])
    return RecordedSession(header=header, records=kept)


def _sound(data: bytes) -> list[bytes]:
    # The bodies of all frames that are whole.
    return list(takewhile(bool, _bodies(data)))


def _bodies(data: bytes) -> Iterator[bytes]:
    place = 0
    while place + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, place)
        body = data[place + _FRAME.size : place + _FRAME.size + length]
        yield body if len(body) == length and zlib.crc32(body) == checksum else b""
        place += _FRAME.size + length


def _framed(document: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    forms = {name: [array.dtype.str, array.shape] for name, array in arrays.items()}
    line = json.dumps({**document, "arrays": forms}).encode()
    body = zlib.compress(b"\n".join((line, b"".join(array.tobytes() for array in arrays.values()))), _LEVEL)
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _parts(body: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    line, _, raw = zlib.decompress(body).partition(b"\n")
    document, arrays, place = json_document.parse_json(line), {}, 0
    for name, (form, shape) in document.pop("arrays").items():
        kind, count = np.dtype(form), int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(raw, kind, count, place).reshape(shape)
        place += count * kind.itemsize
    return document, arrays


def _told(header: RecordingHeader) -> tuple[dict[str, Any], dict[str, Array]]:
    session = header.session
    facts = {name: value for name, value in attrs.asdict(header.day, recurse=False).items() if value is not None}
    document = {
        "date": session.date.isoformat(),
        "open": session.open.isoformat(),
        "close": session.close.isoformat(),
        "symbols": header.symbols,
        "source": header.source,
        "coverage": header.coverage,
        "cut": header.cut,
    }
    return document, {name: np.asarray(value) for name, value in facts.items()}


def _header(document: Mapping[str, Any], facts: Mapping[str, Any]) -> RecordingHeader:
    opened, closes = (dt.datetime.fromisoformat(document[name]) for name in ("open", "close"))
    return RecordingHeader(
        session=Session(date=dt.date.fromisoformat(document["date"]), open=opened, close=closes),
        symbols=tuple(document["symbols"]),
        day=DayFacts(**facts),
        source=document["source"],
        coverage=document["coverage"],
        cut=tuple(document["cut"]),
    )


def _written(kept: RecordedMinute) -> tuple[dict[str, Any], dict[str, Array]]:
    minute = kept.minute
    rows = np.flatnonzero(~np.isnan(minute.close))
    document = {
        "minute": minute.index,
        "filled": kept.filled,
        "at": kept.at.isoformat(),
        "counts": dict(kept.counts),
        "tags": [one.arrival.value for one in (*kept.late, *kept.revised)],
    }
    others = (*kept.late, *kept.revised)
    arrays: dict[str, Any] = {
        "rows": rows.astype(np.uint32),
        "bars": np.array([getattr(minute, name)[rows] for name in _COLUMNS]),
        "places": np.array([(one.minute, one.row) for one in others], dtype=np.uint32).reshape(-1, 2),
        "values": np.array([one.values for one in others], dtype=np.float64).reshape(-1, len(_COLUMNS)),
    }
    if kept.quotes is not None:
        quoted = np.flatnonzero(~np.isnan(kept.quotes.age_s))
        sides = np.array([kept.quotes.bid[quoted], kept.quotes.ask[quoted]])
        arrays |= {"quoted": quoted.astype(np.uint32), "sides": sides, "ages": kept.quotes.age_s[quoted].astype("f4")}
    return document, arrays


def _quotes(arrays: Mapping[str, Any], symbols: int) -> Quotes | None:
    if "quoted" not in arrays:
        return None
    found = np.full((3, symbols), np.nan)
    found[:, arrays["quoted"]] = (*arrays["sides"], arrays["ages"])
    return Quotes(bid=found[0], ask=found[1], age_s=found[2])


def _kept(document: Mapping[str, Any], arrays: Mapping[str, Any], symbols: int) -> RecordedMinute:
    bars = np.full((len(_COLUMNS), symbols), np.nan)
    bars[:, arrays["rows"]] = arrays["bars"]
    others = [
        BarAmendment(minute=int(minute), row=int(row), values=values, arrival=BarArrival(tag))
        for (minute, row), values, tag in zip(arrays["places"], arrays["values"], document["tags"], strict=True)
    ]
    return RecordedMinute(
        minute=MinuteSlice(index=document["minute"], **dict(zip(_COLUMNS, bars, strict=True))),
        late=tuple(one for one in others if one.arrival is not BarArrival.REVISED),
        revised=tuple(one for one in others if one.arrival is BarArrival.REVISED),
        filled=document["filled"],
        at=dt.datetime.fromisoformat(document["at"]),
        counts=document["counts"],
        quotes=_quotes(arrays, symbols),
    )
