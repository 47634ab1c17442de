"""Where the page listens: it listens before its address is said, and says why where it cannot."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route
from tbot_extension_web import server
from tbot_extension_web.live import LiveView
from tbot_extension_web.server import Address, EndingServer, listening, server_config

from tbot_core import cli
from tbot_core.actions.secrets import vault_of_home
from tbot_core.errors import AccessError, SettingsError
from tbot_core.instance import Instance
from tbot_core.instance.folder import SETUP_DRAFT
from tbot_core.instance.secrets import encrypt_category
from tbot_core.model.clock import SystemClock
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request
    from starlette.types import ASGIApp

pytestmark = pytest.mark.usefixtures("loopback")
FREE = 0
"""A port that the kernel chooses."""


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another program listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        yield other.getsockname()[1]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The hosts of the sockets that were handed to the server, which serves nothing."""
    hosts: list[list[str]] = []

    def run(_server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        hosts.append([one.getsockname()[0] for one in sockets])
        for one in sockets:  # each listens already
            with closing(socket.create_connection(one.getsockname()[:2])):
                pass

    monkeypatch.setattr(uvicorn.Server, "run", run)
    return hosts


def start(app: ASGIApp, address: Address) -> None:
    """Serve the page there."""
    with listening(app, address, lambda: None) as serve:
        serve()


def test_a_page_ends_at_once_while_a_dashboard_is_open(caplog: pytest.LogCaptureFixture) -> None:
    """Its stream is ended before the server waits for answers: nothing is cut off, and no traceback is logged."""

    async def watched() -> tuple[list[str], float]:
        view = LiveView(Path("nowhere"), SystemClock(), lambda _: {"part": "<p>one</p>"})

        async def stream(_request: Request) -> StreamingResponse:
            return StreamingResponse(f"{len(parts or ())}\n" async for parts in view.changes())

        config = server_config(Starlette(routes=[Route("/", stream)]), Address(port=FREE))
        page = EndingServer(config)
        page.ending = view.end
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            serving = asyncio.create_task(page.serve([listener]))
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            seen = [(await reader.readuntil(b"1\n")).decode()]
            page.should_exit = True
            begun = asyncio.get_running_loop().time()
            await serving
            seen.append((await reader.read()).decode())
            writer.close()
            return seen, asyncio.get_running_loop().time() - begun

    (first, rest), took = asyncio.run(watched())
    assert first.startswith("HTTP/1.1 200")
    assert rest.endswith("0\r\n\r\n")  # the answer is whole
    assert took < 2  # uvicorn would cut it off after 3 s
    assert "Traceback" not in caplog.text


def test_a_taken_port_is_said_before_any_address(
    sealed: Path, taken: int, capsys: pytest.CaptureFixture[str], served: list[list[str]]
) -> None:
    """With address, cause and remedy, and exit code 1; no link is made, and the page's lock is free."""
    assert cli.invoke(["web", "--home", str(sealed), "--port", str(taken)]) == 1
    out, err = capsys.readouterr()
    assert "The page is at" not in out
    assert f"http://127.0.0.1:{taken}/: Address already in use" in err
    assert "--port N" in err
    assert served == []
    with filesystem.hold_lock(Instance(sealed).page_lock):
        pass


def test_a_second_page_of_a_folder_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], served: list[list[str]]
) -> None:
    """It is refused before a set-up is begun or gone on with, and before a link is made."""
    with filesystem.hold_lock(Instance(tmp_path / "bot").page_lock, "http://127.0.0.1:8555/"):
        before = sorted((tmp_path / "bot").rglob("*"))
        assert cli.invoke(["web", "--home", str(tmp_path / "bot")]) == 1
        assert sorted((tmp_path / "bot").rglob("*")) == before
        out, err = capsys.readouterr()
        assert f"The page of {tmp_path / 'bot'} runs already, at http://127.0.0.1:8555/ (process " in err
        assert ("link=" in out, served) == (False, [])


def test_no_set_up_is_begun_where_its_page_cannot_listen(
    tmp_path: Path, taken: int, capsys: pytest.CaptureFixture[str], served: list[list[str]]
) -> None:
    """The remedy is one for a folder without an instance; the lock is free again."""
    home = tmp_path / "bot"
    assert cli.invoke(["web", "--home", str(home), "--port", str(taken)]) == 1
    err = capsys.readouterr().err
    assert ("Address already in use" in err, "--port N" in err, "network_config" in err) == (True, True, False)
    assert not Instance(home).path(SETUP_DRAFT).exists()
    assert not any(home.rglob("*.key"))
    assert served == []


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_an_address_of_another_machine_is_a_fault_of_the_settings(app: ASGIApp, host: str) -> None:
    """With exit code 3; so is a host name that cannot be resolved."""
    with pytest.raises(SettingsError, match=f"http://{host}:8443/.* an address of this machine") as caught:
        start(app, Address(host=host))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_listens_when_its_address_is_said(app: ASGIApp, served: list[list[str]], host: str) -> None:
    """On each address of the host's name; the port is free again afterwards."""
    start(app, Address(host=host, port=FREE))
    assert "127.0.0.1" in served[0]


def test_a_page_says_its_address_and_link_once_it_listens(
    sealed: Path, capsys: pytest.CaptureFixture[str], served: list[list[str]]
) -> None:
    """The link is made last: a start that fails leaves the link of the page that is served."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
    assert cli.invoke(["web", "--home", str(sealed), "--port", str(port)]) == 0
    said = capsys.readouterr().out
    assert f"The page is at http://127.0.0.1:{port}/" in said
    assert "first-run?link=" in said
    assert served == [["127.0.0.1"]]


def test_a_page_of_a_new_folder_begins_a_set_up_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], served: list[list[str]]
) -> None:
    """Once it listens, with the link of the first admin; started again it goes on with the same set-up."""
    home = tmp_path / "bot"
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
    for _ in range(2):
        assert cli.invoke(["web", "--home", str(home), "--port", str(port)]) == 0
        said = capsys.readouterr().out
        assert f"{home} is no instance yet: the page sets it up" in said
        assert f"http://127.0.0.1:{port}/first-run?link=" in said
    assert Instance(home).path(SETUP_DRAFT).exists()
    assert served == [["127.0.0.1"]] * 2


def test_an_address_that_waits_for_codes_is_said(
    sealed: Path, capsys: pytest.CaptureFixture[str], served: list[list[str]]
) -> None:
    """The page is on this machine, and says what is missing for the other one."""
    network = {"host": "192.0.2.1", "public": True, "certificate": "c.pem", "private_key": "k.pem"}
    encrypt_category(vault_of_home(sealed), "network", json.dumps(network).encode())
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
    assert cli.invoke(["web", "--home", str(sealed), "--port", str(port)]) == 0
    said = capsys.readouterr().out
    assert f"No admin has one-time codes, which every login at https://192.0.2.1:{port}/ needs" in said
    assert f"The page is at http://127.0.0.1:{port}/" in said
    assert served == [["127.0.0.1"]]


def test_a_certificate_that_cannot_be_used_is_a_sentence(app: ASGIApp, tmp_path: Path) -> None:
    """As a file that is none, and one that is absent."""
    file = tmp_path / "c.pem"
    for there in (False, True):
        file.write_text("none", encoding="utf-8") if there else None
        address = Address(port=FREE, certificate=file, private_key=file)
        with pytest.raises(SettingsError, match="certificate or private key"):
            start(app, address)


def test_a_port_that_is_not_allowed_is_a_sentence(app: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the ports that are."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(AccessError, match="from 1024 up"):
        start(app, Address(port=80))


async def answered(head: bytes, port: int) -> bytes:
    """What a new connection is answered to the head of a request, until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    answer = await reader.read()
    writer.close()
    return answer


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[int]:
    """Serve the page on a port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        served = uvicorn.Server(server.server_config(app, Address(port=FREE)))
        task = asyncio.create_task(served.serve([listener]))
        yield listener.getsockname()[1]
        served.should_exit = True
        await task


WHOLE = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:8443\r\nConnection: close\r\n\r\n"
KEPT = WHOLE.replace(b"close", b"keep-alive")
SENT = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1:8443\r\nOrigin: http://127.0.0.1:8443\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize("begun", [b"", b"GET / HT", SENT + b"c", KEPT, KEPT + b"GET / HT", KEPT + SENT + b"c"])
def test_a_request_that_does_not_arrive_ends_its_connection(
    app: ASGIApp, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """Without a byte, in its head, in its body, and after one that was answered."""
    monkeypatch.setattr(server, "RECEIVE_S", 0.1)

    async def story() -> bytes:
        async with serving(app) as port:
            return await answered(begun, port)

    assert asyncio.run(asyncio.wait_for(story(), 10)).count(b"200 OK") == (KEPT in begun)


def test_a_request_may_be_given_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the application, once it knows whose request it is; one that has arrived needs none."""
    monkeypatch.setattr(server, "RECEIVE_S", 0.1)
    given: list[float] = []

    async def patient(scope: Any, receive: Any, send: Any) -> None:
        give = scope["state"][server.RECEIVE_WITHIN]
        give(given[0])
        while (await receive()).get("more_body"):
            pass
        give(given[0])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b""})

    async def story(seconds: float) -> bytes:
        given[:] = [seconds]
        async with serving(patient) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(SENT + b"12345678")
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.3)
            writer.write(b"9")
            answer = await reader.read()
            writer.close()
            return answer

    assert asyncio.run(asyncio.wait_for(story(9), 10)).startswith(b"HTTP/1.1 200")


def test_connections_that_wait_do_not_close_the_page(app: ASGIApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are opened: the oldest of them end, and a request is answered."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 8)
    monkeypatch.setattr(server, "MOST_WAITING", 6)

    async def story() -> tuple[bytes, bytes]:
        async with serving(app) as port:
            idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
            found = await answered(WHOLE, port), await idle[0][0].read()
            for _, writer in idle:
                writer.close()
            return found

    answer, oldest = asyncio.run(asyncio.wait_for(story(), 10))
    assert (answer.startswith(b"HTTP/1.1 200"), oldest) == (True, b"")
