"""Reads the form of a request: in time, within a size, and text but for the files that its route takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qsl

import attrs
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from tbot_core.actions.simulations import ReceivedFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.requests import Request

MOST_FORM_BYTES: Final = 1_000_000
MOST_FIELDS: Final = 1_000
FILE_NAME: Final = "{}:file"
READ_S: Final = 10.0
"""How long a form may take to arrive."""

PAUSE_S: Final = 60.0
"""How long the sender of a large file may be silent."""

_UTF_8: Final = frozenset({b"", b"utf-8", b"utf8"})
_PIECE_BYTES: Final = 1 << 20


@attrs.frozen(kw_only=True)
class LargeFile:
    """A file of a form that goes to the disk: the field that it is, its most bytes, and how long it may take.

    `larger` is what to do with one that has more bytes.

    `receive` makes the place for it: of the instance's folder, how the file is called, and its most bytes; it yields
    what has arrived at the end, and what writes some bytes of it.
    """

    field: str
    most_bytes: int
    within_s: float
    larger: str
    receive: Callable[[Path, str, int], AbstractContextManager[tuple[ReceivedFile, Callable[[bytes], None]]]]


class TooLarge(HTTPException):
    """A form, or a file of it, that has more bytes than its bound; `remedy` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(413, message)
        self.remedy = remedy


class Sink(Protocol):
    """Where a large file goes."""

    @property
    def file(self) -> LargeFile:
        """What it may be."""

    async def begin(self, form: Mapping[str, str], name: str, size: int) -> None:
        """Called before its first byte, with the fields that have arrived, how it is called, and its most bytes.

        What this raises refuses the form; nothing more of it is read.
        """

    async def write(self, data: bytes) -> None:
        """Called with its bytes, some at a time."""


async def read_form(
    request: Request, files: AbstractSet[str] = frozenset(), sink: Sink | None = None
) -> dict[str, str]:
    """The fields of a form; `files` are those that may be a file, whose bytes that are no text are surrogates.

    `sink` is for a file that is not kept in memory; its field is "". How a file is called is the field FILE_NAME with
    its name. Raises HTTPException for a form that is too large (TooLarge) or too slow, or is none.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    in_parts = kind == b"multipart/form-data" and bool(files or sink)
    size = _length(request, sink.file if sink is not None and in_parts else None)
    charset = options.get(b"charset", b"").lower() in _UTF_8
    if charset and in_parts:
        return await _Parts(files=files, sink=sink, size=size).read(request, options.get(b"boundary", b""))
    begun = asyncio.get_running_loop().time()
    body = b"".join([piece async for piece in _pieces(request, lambda: begun + READ_S, _SLOW)])
    if not charset:
        raise HTTPException(415, "A form is sent as UTF-8.")
    if kind != b"application/x-www-form-urlencoded":
        raise HTTPException(415, "A form is sent as the page sends it.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS))
    except ValueError as fault:  # UnicodeError is one
        raise HTTPException(400, _UNREADABLE) from fault


_UNREADABLE: Final = "The form cannot be read: its fields are not text."
_SLOW: Final = "The form did not arrive in time."
_LARGE: Final = f"A form has at most {MOST_FORM_BYTES // 1_000_000} MB ({MOST_FORM_BYTES:,} bytes), and says how many."
_SMALLER: Final = "Nothing of it was kept. Go back, and enter less text or choose a smaller file."


def _length(request: Request, file: LargeFile | None) -> int:
    length, most = request.headers.get("content-length", ""), MOST_FORM_BYTES + (file.most_bytes if file else 0)
    if not length.isdecimal() or int(length) > most:
        if file is None:
            raise TooLarge(_LARGE, _SMALLER)
        raise TooLarge(f"A file has at most {file.most_bytes / 1e6:,.0f} MB here.", file.larger)
    return int(length)


async def _pieces(request: Request, deadline: Callable[[], float], late: str) -> AsyncIterator[bytes]:
    # The body as it comes; each piece must be there by the deadline, on the clock of the loop.
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout_at(deadline()):
                piece = await anext(stream, None)
        except TimeoutError as fault:
            raise HTTPException(408, late) from fault
        except ClientDisconnect as fault:
            raise HTTPException(400, "The form did not arrive.") from fault
        if piece is None:
            return
        yield piece


@attrs.define(kw_only=True)
class _Parts:
    # A form in parts. What the parser calls does not wait: the bytes of a large file are delivered after each piece.
    files: AbstractSet[str]
    sink: Sink | None
    size: int
    form: dict[str, str] = attrs.field(factory=dict)
    received: int = 0
    count: int = 0
    ended: bool = False
    header: bytearray = attrs.field(factory=bytearray)
    value: bytearray = attrs.field(factory=bytearray)
    named: dict[bytes, bytes] = attrs.field(factory=dict)
    text: bytearray = attrs.field(factory=bytearray)
    large: bool = False  # whether the part that is read is the large file
    called: str | None = None  # how that is called; None before it
    waiting: bytearray = attrs.field(factory=bytearray)
    written: int = 0
    begun_s: float | None = None

    async def read(self, request: Request, boundary: bytes) -> dict[str, str]:
        loop = asyncio.get_running_loop()
        start = loop.time()

        def deadline() -> float:
            if self.sink is None or self.begun_s is None:
                return start + READ_S
            return min(self.begun_s + self.sink.file.within_s, loop.time() + PAUSE_S)

        parse = self._parser(boundary)
        async for piece in _pieces(request, deadline, _SLOW):
            self.received += len(piece)
            try:
                parse(piece)
            except (ValueError, KeyError) as fault:  # what the parser raises, and UnicodeError; a part without a name
                self._assert_small()
                raise HTTPException(400, _UNREADABLE) from fault
            self._assert_small()
            if self.called is not None and self.begun_s is None:
                await self._begin(loop)
            await self._deliver(_PIECE_BYTES)
        if not self.ended:
            raise HTTPException(400, "The form did not arrive: its end is missing.")
        await self._deliver(1)
        return self.form

    def _assert_small(self) -> None:
        if self.received - self.written - len(self.waiting) > MOST_FORM_BYTES:
            raise TooLarge(_LARGE, _SMALLER)

    async def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.sink is not None:
            await self.sink.begin({**self.form}, self.called or "", self.size)
            self.begun_s = loop.time()

    async def _deliver(self, least: int) -> None:
        # What is there of the large file, once that is so much.
        if self.sink is None or len(self.waiting) < least:
            return
        data = bytes(self.waiting)
        self.waiting.clear()
        self.written += len(data)
        await self.sink.write(data)

    def _parser(self, boundary: bytes) -> Callable[[bytes], object]:
        if not boundary:
            raise HTTPException(400, _UNREADABLE)
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self.header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self.value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._take,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            ).write
        except FormParserError as fault:
            raise HTTPException(400, _UNREADABLE) from fault

    def _begin_part(self) -> None:
        self.named, self.large = {}, False
        self.text.clear()

    def _end_header(self) -> None:
        if self.header.lower() == b"content-disposition":
            self.named = parse_options_header(self.value.decode("latin-1"))[1]
        self.header.clear()
        self.value.clear()

    def _end_headers(self) -> None:
        name, file = self.named[b"name"].decode(), self.named.get(b"filename")
        self.count += 1
        if self.count > MOST_FIELDS:
            raise ValueError(name)
        self.form[name] = ""
        if file is None:
            return
        self.large = self.sink is not None and name == self.sink.file.field
        if self.called is not None or not (self.large or name in self.files):
            raise ValueError(name)
        self.form[FILE_NAME.format(name)] = file.decode()
        if self.large and file:  # without a name no file was chosen
            self.called = file.decode()

    def _take(self, data: bytes, start: int, end: int) -> None:
        if not self.large:
            self.text += data[start:end]
            return
        self.called = self.called or ""
        self.waiting += data[start:end]

    def _end_part(self) -> None:
        if self.large:
            return
        errors = "surrogateescape" if b"filename" in self.named else "strict"
        self.form[self.named[b"name"].decode()] = self.text.decode(errors=errors)

    def _end(self) -> None:
        self.ended = True
