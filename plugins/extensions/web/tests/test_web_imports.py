"""The import of a file that is sent: who may send one, what is read of it, and what is left of it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from html import unescape
from typing import TYPE_CHECKING, Final

import attrs
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from tbot_extension_web import app as application
from tbot_extension_web import forms
from tbot_extension_web.forms import MOST_FORM_BYTES, LargeFile, read_form
from tbot_extension_web.pages.runs import UPLOAD
from tbot_extension_web.testing.client import Answer, ask, send_pieces
from tbot_extension_web.testing.given_sessions import CSRF

from tbot_core.actions.simulations import receive_file
from tbot_core.marketdata.store.listing import list_store
from tbot_core.model.calendar import ExchangeCalendar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from starlette.types import ASGIApp
    from tbot_extension_web.testing.given_sessions import GivenSessions

VIEWER: Final = {"cookie": "tbot-session=viewer"}
TRADER: Final = {"cookie": "tbot-session=trader"}
PARTS: Final = {"content-type": "multipart/form-data; boundary=x"}
PATH: Final = "/runs/import"
HEAD: Final = b"time,open,high,low,close,volume\n"
ROWS: Final = b"2018-07-02 09:30,10,11,9,10,100\n2018-07-02 09:31,10,11,9,10,100\n"
END: Final = b"\r\n--x--\r\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance without bars."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / ".env_bot").write_text("BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=open\nFILTERS=none\n")
    return folder


@pytest.fixture
def page(home: Path, app_of: Callable[[Path], ASGIApp]) -> ASGIApp:
    """Its page."""
    return app_of(home)


def field(name: str, text: str) -> bytes:
    """A field of the form."""
    return f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()


def begin(name: str = "AAPL.csv", csrf: str = CSRF, **more: str) -> bytes:
    """The form as far as the first byte of its file."""
    fields = b"".join(field(one, text) for one, text in {"csrf": csrf, **more}.items())
    return fields + f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()


def sent(page: ASGIApp, *pieces: bytes | Callable[[], bytes], who: Mapping[str, str] = TRADER) -> Answer:
    """Send the form in pieces."""
    return sent_partly(page, *pieces, who=who)[0]


def sent_partly(
    page: ASGIApp, *pieces: bytes | Callable[[], bytes], who: Mapping[str, str] = TRADER
) -> tuple[Answer, int]:
    """Send the form in pieces; also how many were not read."""
    waiting = [(lambda one=one: one) if isinstance(one, bytes) else one for one in pieces]
    return send_pieces(page, PATH, {**who, **PARTS}, waiting), len(waiting)


def shown(page: ASGIApp, answer: Answer) -> str:
    """The page to which an answer leads."""
    place = answer.headers.get("location", "")
    return unescape(ask(page, "GET", place, TRADER).text if place else answer.text)


def left(home: Path) -> list[str]:
    """What the upload has left behind."""
    folder = home / "data" / "uploads"
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def ended(home: Path) -> None:
    """Wait for the end of the import."""
    with (home / "data" / "simulations" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


@pytest.mark.slow
@pytest.mark.first(0)  # it starts a process
def test_a_file_is_imported_and_then_gone(page: ASGIApp, home: Path) -> None:
    """Its result says what was stored, to every reader, and leads to the backtest."""
    answer = sent(page, begin(zone="America/New_York"), HEAD, ROWS, END)
    assert answer.status == 303
    ended(home)
    text = unescape(ask(page, "GET", answer.headers["location"], VIEWER).text)
    assert "AAPL.csv: bars of AAPL, 2018-07-02 to 2018-07-02: 2 added." in text
    assert '<a class="button main" href="/runs">Start a backtest</a>' in text
    assert "America/New_York" in text
    (row,) = list_store(home / "data" / "bars", ExchangeCalendar()).symbols
    assert (row.symbol, row.bars) == ("AAPL", 2)
    listed = unescape(ask(page, "GET", "/runs", VIEWER).text)
    assert '<td class="wrap">AAPL.csv</td>' in listed
    refused = sent(page, begin("my bars.csv"), HEAD, ROWS.replace(b"2018-07-02 09:31,10", b"2018-07-02 09:31,-1"), END)
    ended(home)
    text = shown(page, refused)
    assert "my bars.csv: it has no symbol column, and its name 'my bars' is not a symbol" in text
    assert 'Give the symbol under "Symbol"' in text


@pytest.mark.parametrize(
    ("who", "csrf", "status", "words"),
    [
        ({}, CSRF, 401, "Your session had ended: the file was not read"),
        ({"cookie": "tbot-session=ended"}, CSRF, 401, "Your session had ended: the file was not read"),
        (VIEWER, CSRF, 403, "The role viewer has no permission"),
        (TRADER, "another", 403, "The form is out of date"),
    ],
)
def test_who_may_not_send_a_file_is_refused_before_it_is_read(
    page: ASGIApp, home: Path, who: dict[str, str], csrf: str, status: int, words: str
) -> None:
    """Without a login, a role or the token of the form, no more is read than the fields before the file."""
    answer, unread = sent_partly(page, begin(csrf=csrf), ROWS, END, who=who)
    assert (answer.status, unread) == (status, 2)
    assert words in shown(page, answer)
    assert left(home) == []


def test_the_token_stands_before_the_file(page: ASGIApp, home: Path) -> None:
    """Else the file is refused unread, though the token would follow."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="A.csv"\r\n\r\n'
    answer, unread = sent_partly(page, head, HEAD + b"\r\n" + field("csrf", CSRF), END)
    assert (answer.status, unread, left(home)) == (403, 2, [])


def test_a_right_that_ends_while_the_file_arrives_ends_the_upload(
    page: ASGIApp, home: Path, logins: GivenSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its last byte at the latest, and before where the file takes long."""

    def meanwhile() -> bytes:
        logins.became["trader"] = "viewer"
        return ROWS

    assert sent(page, begin(), HEAD, meanwhile, END).status == 403
    logins.became.clear()
    monkeypatch.setattr(application, "_JUDGED_EVERY_S", -1.0)
    monkeypatch.setattr(forms, "_PIECE_BYTES", 1)
    answer, unread = sent_partly(page, begin(), HEAD, meanwhile, ROWS, END)
    assert (answer.status, unread) == (403, 2)
    assert (left(home), (home / "data" / "simulations").exists()) == ([], False)


def gone() -> bytes:
    """The sender is not there any longer."""
    raise ClientDisconnect


@pytest.mark.parametrize(
    ("pieces", "status", "words"),
    [
        ((begin(), HEAD, gone), 400, "did not arrive"),
        ((begin(), HEAD, ROWS), 400, "its end is missing"),
        ((begin("bars.xlsx"), HEAD, END), 400, "The name bars.xlsx ends in none of .parquet, .csv"),
        ((begin("../../x.csv/"), HEAD, END), 400, "ends in none"),
        ((begin(""), HEAD, END), 400, "ends in none"),
        ((begin("A.csv"), HEAD, b"\r\n" + begin("B.csv"), END), 400, "cannot be read"),
        ((begin().replace(b'"csrf"', b'"\xff"'), HEAD, END), 400, "cannot be read"),
        ((b"--x\r\nContent-Disposition: form-data\r\n\r\nfile", END), 400, "cannot be read"),
        ((b"no part", END), 400, "cannot be read"),
        ((begin(note="a" * MOST_FORM_BYTES), HEAD, END), 413, "A form has at most"),
        ((begin(), HEAD, b"\r\n" + field("note", "a" * MOST_FORM_BYTES), END), 413, "A form has at most"),
    ],
)
def test_a_file_that_does_not_arrive_leaves_nothing(
    page: ASGIApp, home: Path, pieces: tuple[bytes | Callable[[], bytes], ...], status: int, words: str
) -> None:
    """A lost connection, a form without an end, another kind of file, and fields that are none: one sentence."""
    answer = sent(page, *pieces)
    assert (answer.status, left(home)) == (status, [])
    assert words in shown(page, answer)
    assert not (home / "data" / "simulations").exists()


@pytest.mark.parametrize(
    "pieces",
    [(begin(""), END), (field("csrf", CSRF) + field("file", "text") + b"--x--\r\n",)],
)
def test_without_a_file_the_page_asks_for_one(page: ASGIApp, home: Path, pieces: tuple[bytes, ...]) -> None:
    """An empty field of a browser, and text in its place."""
    assert "No file was chosen. Choose a file of bars." in shown(page, sent(page, *pieces))
    assert left(home) == []


def test_a_bad_field_keeps_what_was_entered(page: ASGIApp, home: Path) -> None:
    """The fault and the fields are shown; the file is to be chosen again."""
    text = shown(page, sent(page, begin(zone="Mars", symbol="qqq", adjustment="split", replace="yes"), HEAD, END))
    assert "'Mars' is not a time zone. Give a name such as America/New_York or UTC." in text
    form = text.partition("<h2>Import bars</h2>")[2].partition("</form>")[0]
    for part in ('value="Mars"', 'value="qqq"', 'value="split" selected', 'value="yes" checked'):
        assert part in form
    assert left(home) == []


def test_a_file_above_the_limit_is_not_read(page: ASGIApp, home: Path) -> None:
    """By the length that the request says."""
    pieces: list[Callable[[], bytes]] = [begin]
    answer = send_pieces(page, PATH, {**TRADER, **PARTS}, pieces, UPLOAD.most_bytes + MOST_FORM_BYTES + 1)
    assert (answer.status, len(pieces), left(home)) == (413, 1, [])
    assert "A file has at most 500 MB here." in answer.text
    assert "tbot data import PATH" in answer.text


def test_one_file_arrives_at_a_time(page: ASGIApp, home: Path) -> None:
    """Another is refused with what to do; the first is not touched."""
    with receive_file(home, "A.csv", 1) as (file, _):
        assert "Another file arrives at this moment." in shown(page, sent(page, begin(), HEAD, END))
        assert left(home) == [file.path.name]


def test_a_full_disk_is_one_sentence(page: ASGIApp, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its remedy; nothing of the file is left."""
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if bytes(data).startswith(HEAD):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data)

    monkeypatch.setattr(os, "write", full)
    assert "The disk is full: free some space." in shown(page, sent(page, begin(), HEAD, ROWS, END))
    assert left(home) == []


@attrs.define
class _Kept:
    # What a reader of forms delivers.
    file: LargeFile = attrs.field(default=UPLOAD)
    began: list[tuple[dict[str, str], str]] = attrs.field(factory=list)
    data: list[bytes] = attrs.field(factory=list)

    async def begin(self, form: Mapping[str, str], name: str, _size: int) -> None:
        self.began.append(({**form}, name))

    async def write(self, data: bytes) -> None:
        self.data.append(data)


def read(sink: _Kept, *pieces: bytes, ends: bool = False) -> dict[str, str]:
    """Read a form that comes in pieces, and then no further, or ends."""
    waiting = list(pieces)
    headers = [(b"content-length", b"999"), (b"content-type", PARTS["content-type"].encode())]

    async def receive() -> dict[str, object]:
        if not waiting:
            await asyncio.Event().wait()
        piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(waiting) or not ends}

    return asyncio.run(read_form(Request({"type": "http", "headers": headers}, receive), sink=sink))


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_file_is_delivered_to_the_byte_however_it_comes(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Also with what looks like its end inside, in pieces of a size; the fields are those of the form."""
    monkeypatch.setattr(forms, "_PIECE_BYTES", 16)
    data = b"\r\n--x-\r\n\x00\xff--x" * 9
    body = begin("d\u00e9j\u00e0.csv", csrf="token") + data + b"\r\n" + field("after", "it") + b"--x--\r\n"
    sink = _Kept()
    form = read(sink, *(body[at : at + step] for at in range(0, len(body), step)), ends=True)
    assert b"".join(sink.data) == data
    assert form == {"csrf": "token", "file": "", "file:file": "d\u00e9j\u00e0.csv", "after": "it"}
    ((fields, name),) = sink.began
    assert (fields["csrf"], name) == ("token", "d\u00e9j\u00e0.csv")
    assert ("after" in fields) is (step == 1000)


@pytest.mark.parametrize(("name", "value"), [("PAUSE_S", 0.01), ("READ_S", 0.01)])
def test_a_file_that_stops_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> None:
    """Neither before its first byte, nor between two of them."""
    monkeypatch.setattr(forms, name, value)
    with pytest.raises(HTTPException) as caught:
        read(_Kept(), *((begin(), HEAD) if name == "PAUSE_S" else (field("csrf", CSRF),)))
    assert caught.value.status_code == 408


def test_a_file_has_a_time_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be longer than that of a form, and ends too, however steadily its bytes come."""
    monkeypatch.setattr(forms, "READ_S", 0.01)
    sink = _Kept(file=attrs.evolve(UPLOAD, within_s=0.0))
    with pytest.raises(HTTPException) as caught:
        read(sink, begin())
    assert caught.value.status_code == 408
    assert sink.began != []
