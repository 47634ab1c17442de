"""Bot and page are two processes: each goes on when the other is killed, and the page when files or viewers fail."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tbot_extension_web.app import create_app
from tbot_extension_web.live import LiveView
from tbot_extension_web.pages import dashboard
from tbot_extension_web.testing.client import HOST, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from starlette.types import ASGIApp
    from tbot_extension_web.live import Snapshot
    from tbot_extension_web.site import Site
    from tbot_extension_web.testing.given_sessions import GivenSessions

    from tbot_core.model.clock import ManualClock

VIEWER = {"cookie": "tbot-session=viewer"}
NO_BOT = "No bot is running."
STREAM: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.4"},
    "http_version": "1.1",
    "method": "GET",
    "path": "/live/dashboard",
    "raw_path": b"/live/dashboard",
    "query_string": b"",
    "root_path": "",
    "scheme": "http",
    "headers": [(b"host", HOST.encode()), (b"cookie", b"tbot-session=viewer")],
    "client": ("127.0.0.1", 5),
    "server": ("127.0.0.1", 8443),
}


@pytest.fixture
def home(traded: Path, tmp_path: Path) -> Path:
    """An instance that paper trading can start in."""
    folder = tmp_path / "own"
    folder.mkdir()
    shutil.copy(traded / ".env_bot", folder)
    return folder


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `tbot` with these arguments, and wait until a line matches this."""
    started: list[subprocess.Popen[str]] = []

    def begin(said: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tbot_core", *arguments, "--home", str(home)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        started.append(process)
        assert process.stdout is not None
        assert any(re.search(said, line) for line in process.stdout)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def free_port() -> str:
    """A port on which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


@pytest.mark.first(0)
@pytest.mark.slow
@pytest.mark.usefixtures("loopback")
def test_bot_and_page_outlive_each_other(
    home: Path, start: Callable[..., subprocess.Popen[str]], app_of: Callable[[Path], ASGIApp]
) -> None:
    """After kill -9 of the page the bot runs on, and a page starts again; after that of the bot a page says so."""
    app = app_of(home)
    bot = start(r"Waiting for the session|Session \d", "run")  # the second within a session
    page = start("The page is at", "web", "--port", free_port())
    shown = ask(app, "GET", "/", VIEWER)
    assert (shown.status, NO_BOT in shown.text) == (200, False)
    page.kill()
    page.wait()
    assert bot.poll() is None
    page = start("The page is at", "web", "--port", free_port())
    bot.kill()
    bot.wait()
    shown = ask(app, "GET", "/", VIEWER)
    assert (shown.status, NO_BOT in shown.text) == (200, True)
    assert page.poll() is None


def copied(traded: Path, home: Path) -> Path:
    """A copy of the demo; returns its journal."""
    shutil.copytree(traded, home)
    (journal,) = (home / "data" / "runs").glob("*.sqlite")
    return journal


def test_a_damaged_journal_is_a_sentence(traded: Path, tmp_path: Path, app_of: Callable[[Path], ASGIApp]) -> None:
    """Each page that needs it answers, and the next reading of a restored one is as before."""
    journal = copied(traded, tmp_path / "bot")
    app, content = app_of(tmp_path / "bot"), journal.read_bytes()
    assert "cannot be read" not in ask(app, "GET", "/", VIEWER).text
    journal.write_bytes(b"no journal" * 1000)
    for path in ("/", "/risk"):
        shown = ask(app, "GET", path, VIEWER)
        assert (shown.status, "state cannot be read" in shown.text) == (200, True)
    for path in ("/confirmations", "/trades", "/decisions", "/decisions/day", "/runs", "/alerts", "/healthz"):
        assert ask(app, "GET", path, VIEWER).status < 500
    journal.write_bytes(content)
    assert "cannot be read" not in ask(app, "GET", "/", VIEWER).text


def test_a_locked_journal_is_a_sentence(
    traded: Path, tmp_path: Path, app_of: Callable[[Path], ASGIApp], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that holds it for itself, such as a backup, costs the figures and not the page."""
    journal = copied(traded, tmp_path / "bot")
    app = app_of(tmp_path / "bot")
    with closing(sqlite3.connect(journal)) as holder:
        monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0.01))
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        for path in ("/", "/risk"):
            shown = ask(app, "GET", path, VIEWER)
            assert (shown.status, "state cannot be read" in shown.text) == (200, True)
        for path in ("/trades", "/decisions/day", "/runs"):
            assert ask(app, "GET", path, VIEWER).status < 500
    assert "cannot be read" not in ask(app, "GET", "/", VIEWER).text


def test_a_viewer_who_does_not_read_costs_one_message(site: Site) -> None:
    """However often the bot changes, what waits for a slow viewer is the one message that it has not taken."""
    made: list[Snapshot] = []

    def render(snapshot: Snapshot) -> Mapping[str, str]:
        made.append(snapshot)
        return {"state": f"{len(made)}" + "x" * 1000}

    clock: ManualClock = site.clock  # type: ignore[assignment]  # the fixture's
    site.live = LiveView(site.home, clock, render)

    async def watch() -> list[Any]:
        sent: list[Any] = []
        third, stuck, fourth = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 3:  # the headers, how often to try again, and the first parts
                third.set()
                await stuck.wait()
            elif len(sent) == 4:
                fourth.set()

        async def receive() -> Any:
            await asyncio.Event().wait()

        viewer = asyncio.create_task(create_app(site)(STREAM, receive, send))
        await third.wait()
        for _ in range(200):
            clock.advance(10)
            await site.live.snapshot()
        assert (len(sent), len(made), site.live.viewers) == (3, 201, 1)
        stuck.set()
        await fourth.wait()
        viewer.cancel()
        await asyncio.gather(viewer, return_exceptions=True)
        return sent

    sent = asyncio.run(watch())
    assert b"201x" in sent[3]["body"]
    assert b"200x" not in sent[3]["body"]


def test_streams_are_bounded_and_leave_the_page_to_others(
    site: Site, logins: GivenSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one session and of all: one too many is refused at once, and a stream that has ended counts no more."""
    monkeypatch.setattr(dashboard, "MOST_OF_SESSION", 3)
    monkeypatch.setattr(dashboard, "MOST_STREAMS", 4)
    app = create_app(site)

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def opened(role: str) -> tuple[int, asyncio.Task[None]]:
        began: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                began.set_result(message["status"])

        headers = [STREAM["headers"][0], (b"cookie", f"tbot-session={role}".encode())]
        task = asyncio.create_task(app({**STREAM, "headers": headers}, receive, send))
        return await began, task

    async def watch() -> tuple[list[int], list[int]]:
        found = [await opened("viewer") for _ in range(5)]
        found += [await opened("trader") for _ in range(2)]
        for _, task in found:
            task.cancel()
        await asyncio.gather(*(task for _, task in found), return_exceptions=True)
        status, task = await opened("viewer")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [one for one, _ in found], [status, len(site.streams)]

    assert asyncio.run(watch()) == ([200, 200, 200, 429, 429, 200, 429], [200, 0])
    assert logins.security.lines == []


def test_a_head_of_the_stream_ends(site: Site) -> None:
    """It has the headers of the stream, and opens none."""
    answer = ask(create_app(site), "HEAD", "/live/dashboard", VIEWER)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert answer.body == b""
