"""The bars of a session as first received, in a file beside the journal.

One frame with the facts known before the open, then one per closed minute, appended after it was processed: length and
checksum, then a compressed JSON line and the bytes of its arrays. An incomplete frame at the end is ignored. `tbot
why` recomputes minutes from this file, and a restarted bot continues it.
"""

from __future__ import annotations

import datetime as dt
import json
import struct
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any, Final, Self

import attrs
import numpy as np

from tbot_core.contracts import FeedCoverage
from tbot_core.errors import DataError
from tbot_core.marketdata.bar_aggregator import BarAmendment, BarArrival
from tbot_core.marketdata.received_files import SUFFIX
from tbot_core.model import json_document
from tbot_core.model.bars import FIELDS, Array, MinuteSlice, Quotes
from tbot_core.model.calendar import Session
from tbot_core.model.day_facts import DayFacts
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path

_FRAME: Final = struct.Struct("<II")
_COLUMNS: Final = (*FIELDS, "vwap")
_LEFT_OUT: Final = "left_out/"
_LEVEL: Final = 1  # higher levels hardly compress bars better, and block the loop


@attrs.frozen(kw_only=True)
class RecordingHeader:
    """Facts known before the open: `source` names the feed, `coverage` is what it declares.

    `cut` are the symbols that a limit left out, `denied` those that it left out because a filter denies them, by
    reason; `left_out_day` holds the facts of `cut`, then those of `denied`. `watch_only` are subscribed, but not
    traded.
    """

    session: Session
    symbols: tuple[str, ...]
    day: DayFacts = attrs.field(eq=False)
    source: str = ""
    coverage: str = ""
    cut: tuple[str, ...] = ()
    denied: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    left_out_day: DayFacts | None = attrs.field(default=None, eq=False)
    watch_only: tuple[str, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class RecordedMinute:
    """A closed minute, and the late and revised bars received by then.

    `filled`: it ended before the start. `at`: when it was written. `counts`: number of bars by arrival. `quotes`:
    those used for the decision; None without any.
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
    """A recorded session as a feed of closed minutes; `records` are its minutes in order."""

    header: RecordingHeader
    records: tuple[RecordedMinute, ...]

    @property
    def session(self) -> Session:
        """The exchange day."""
        return self.header.session

    @property
    def symbols(self) -> tuple[str, ...]:
        """The subscribed symbols, sorted."""
        return self.header.symbols

    @property
    def day(self) -> DayFacts:
        """Facts known before the open."""
        return self.header.day

    @property
    def partial_volume(self) -> frozenset[str]:
        """The symbols whose volumes are a part of the tape: all of a feed that covers one venue."""
        return frozenset(self.symbols if self.header.coverage == FeedCoverage.SINGLE_VENUE else ())

    async def minutes(self) -> AsyncIterator[MinuteSlice]:
        """Iterate over all minutes; a missing one has no bars."""
        nothing = np.full(len(self.symbols), np.nan)
        due = 0
        for record in self.records:
            while due < record.minute.index:
                yield MinuteSlice(index=due, **dict.fromkeys(_COLUMNS, nothing))
                due += 1
            yield record.minute
            due += 1

    def late(self, minute: int) -> Sequence[BarAmendment]:
        """The late bars that were restored when a minute was closed."""
        return next((record.late for record in self.records if record.minute.index == minute), ())

    def quotes(self, minute: int) -> Quotes | None:
        """The quotes used for the decision of a minute; None without any."""
        return next((record.quotes for record in self.records if record.minute.index == minute), None)


class SessionRecorder:
    """Writes a session's file; `before` is what the file held when opened, None for a new file."""

    def __init__(self, path: Path, header: RecordingHeader, before: RecordedSession | None) -> None:
        self.path = path
        self.previous = before
        self._rows = len(header.symbols)
        self._next = before.records[-1].minute.index + 1 if before is not None and before.records else 0

    @classmethod
    def open(cls, folder: Path, header: RecordingHeader) -> Self:
        """Continue the session's file if its symbols are the same, else create another one for that day."""
        filesystem.make_folder(folder)
        for number in range(1, 1000):
            path = folder / f"{header.session.date}{'' if number == 1 else f'-{number}'}{SUFFIX}"
            if not filesystem.exists(path):
                filesystem.append(path, _framed(*_header_parts(header)))
                return cls(path, header, None)
            data = filesystem.read_bytes(path)
            frames = _frames(data)
            recording = None if not frames else _recorded_session(frames)
            if recording is not None and (recording.session, recording.symbols) == (header.session, header.symbols):
                whole = sum(_FRAME.size + len(body) for body in frames)
                if whole < len(data):
                    filesystem.write_atomic(path, data[:whole])
                return cls(path, recording.header, recording)
        raise DataError(f"{folder} holds 999 recordings of {header.session.date}.", "Move them to another folder.")

    def append(self, record: RecordedMinute) -> None:
        """Append a minute durably; one that is already there is left unchanged."""
        if record.minute.index >= self._next:
            filesystem.append(self.path, _framed(*_minute_parts(record)))
            self._next = record.minute.index + 1


def read_recording(path: Path) -> RecordedSession:
    """Read a whole file; raises DataError for a file without a session."""
    return _recorded_session(_all_frames(path))


@attrs.frozen(kw_only=True, eq=False)
class RecordingEnds:
    """The first and the last of a recording: `last` is its last minute, `with_bars` the last one that has a bar."""

    header: RecordingHeader
    last: RecordedMinute | None
    with_bars: RecordedMinute | None


def read_ends(path: Path) -> RecordingEnds:
    """Read a file's header and its last minutes; raises DataError for a file without a session."""
    first, *rest = _all_frames(path)
    header = _header(*_parts(first))
    minutes = (_minute(*_parts(body), len(header.symbols)) for body in reversed(rest))
    last = next(minutes, None)
    latest = () if last is None else chain((last,), minutes)
    with_bars = next((record for record in latest if not np.isnan(record.minute.close).all()), None)
    return RecordingEnds(header=header, last=last, with_bars=with_bars)


def _all_frames(path: Path) -> list[bytes]:
    frames = _frames(filesystem.read_bytes(path))
    if not frames:
        raise DataError(f"{path} holds no recorded session.", "It was cut off before its first minute.")
    return frames


def _recorded_session(bodies: Sequence[bytes]) -> RecordedSession:
    header = _header(*_parts(bodies[0]))
    records = tuple(_minute(*_parts(body), len(header.symbols)) for body in bodies[1:])
    return RecordedSession(header=header, records=records)


def _frames(data: bytes) -> list[bytes]:
    # The bodies of the intact frames before the first damaged one.
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


def _header_parts(header: RecordingHeader) -> tuple[dict[str, Any], dict[str, Array]]:
    session = header.session
    document = {
        "date": session.date.isoformat(),
        "open": session.open.isoformat(),
        "close": session.close.isoformat(),
        "symbols": header.symbols,
        "source": header.source,
        "coverage": header.coverage,
        "cut": header.cut,
        "denied": dict(header.denied),
        "watch_only": header.watch_only,
    }
    arrays = header.day.arrays()
    if header.left_out_day is not None:
        arrays |= {f"{_LEFT_OUT}{name}": value for name, value in header.left_out_day.arrays().items()}
    return document, {name: np.asarray(value) for name, value in arrays.items()}


def _header(document: Mapping[str, Any], facts: Mapping[str, Any]) -> RecordingHeader:
    opened, closes = (dt.datetime.fromisoformat(document[name]) for name in ("open", "close"))
    left_out = {name.removeprefix(_LEFT_OUT): value for name, value in facts.items() if name.startswith(_LEFT_OUT)}
    return RecordingHeader(
        session=Session(date=dt.date.fromisoformat(document["date"]), open=opened, close=closes),
        symbols=tuple(document["symbols"]),
        day=DayFacts.from_arrays({name: value for name, value in facts.items() if not name.startswith(_LEFT_OUT)}),
        left_out_day=DayFacts.from_arrays(left_out) if left_out else None,
        source=document["source"],
        coverage=document["coverage"],
        cut=tuple(document["cut"]),
        denied={reason: tuple(found) for reason, found in document.get("denied", {}).items()},
        watch_only=tuple(document.get("watch_only", ())),
    )


def _minute_parts(record: RecordedMinute) -> tuple[dict[str, Any], dict[str, Array]]:
    minute = record.minute
    rows = np.flatnonzero(~np.isnan(minute.close))
    document = {
        "minute": minute.index,
        "filled": record.filled,
        "at": record.at.isoformat(),
        "counts": dict(record.counts),
        "tags": [one.arrival.value for one in (*record.late, *record.revised)],
    }
    others = (*record.late, *record.revised)
    arrays: dict[str, Any] = {
        "rows": rows.astype(np.uint32),
        "bars": np.array([getattr(minute, name)[rows] for name in _COLUMNS]),
        "places": np.array([(other.minute, other.row) for other in others], dtype=np.uint32).reshape(-1, 2),
        "values": np.array([other.values for other in others], dtype=np.float64).reshape(-1, len(_COLUMNS)),
    }
    if record.quotes is not None:
        quoted = np.flatnonzero(~np.isnan(record.quotes.age_s))
        sides = np.array([record.quotes.bid[quoted], record.quotes.ask[quoted]])
        arrays |= {"quoted": quoted.astype(np.uint32), "sides": sides, "ages": record.quotes.age_s[quoted].astype("f4")}
    return document, arrays


def _quotes(arrays: Mapping[str, Any], symbols: int) -> Quotes | None:
    if "quoted" not in arrays:
        return None
    found = np.full((3, symbols), np.nan)
    found[:, arrays["quoted"]] = (*arrays["sides"], arrays["ages"])
    return Quotes(bid=found[0], ask=found[1], age_s=found[2])


def _minute(document: Mapping[str, Any], arrays: Mapping[str, Any], symbols: int) -> RecordedMinute:
    bars = np.full((len(_COLUMNS), symbols), np.nan)
    bars[:, arrays["rows"]] = arrays["bars"]
    others = [
        BarAmendment(minute=int(minute), row=int(row), values=values, arrival=BarArrival(tag))
        for (minute, row), values, tag in zip(arrays["places"], arrays["values"], document["tags"], strict=True)
    ]
    return RecordedMinute(
        minute=MinuteSlice(index=document["minute"], **dict(zip(_COLUMNS, bars, strict=True))),
        late=tuple(other for other in others if other.arrival is not BarArrival.REVISED),
        revised=tuple(other for other in others if other.arrival is BarArrival.REVISED),
        filled=document["filled"],
        at=dt.datetime.fromisoformat(document["at"]),
        counts=document["counts"],
        quotes=_quotes(arrays, symbols),
    )
