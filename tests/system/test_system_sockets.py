"""Sockets of this machine: messages, listening sockets, and news for the service manager."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import sockets
from tbot_core.system.sockets import listening_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT_S = 0.05


@pytest.fixture
def path() -> Iterator[Path]:
    """A free path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="tbot") as folder:
        yield Path(folder) / "line"


def pending(line: sockets.SocketConnection) -> bool:
    """Whether a whole message waits there; asked anew each time."""
    return line.pending


def test_messages_come_one_by_one_whichever_way_they_were_sent(path: Path) -> None:
    """Two messages in one sending, and one in two, come as they are; each connection has its number."""
    with (
        sockets.listen(path, SHORT_S) as listener,
        closing(sockets.connect(path, SHORT_S)) as ours,
        closing(listener.accept()) as theirs,
    ):
        ours.send(b"one\ntwo\nth")
        assert [theirs.receive(), theirs.receive()] == [b"one", b"two"]
        assert pending(theirs) is False
        ours.send(b"ree\n")
        assert theirs.fill_buffer()
        assert pending(theirs) is True
        assert theirs.receive() == b"three"
        assert ours.fileno() != theirs.fileno()
    assert not path.exists()


def test_what_was_begun_and_never_ended_is_no_message(path: Path) -> None:
    """A side that hangs up in the middle of a message has said nothing, and the rest is not awaited."""
    with sockets.listen(path, SHORT_S) as listener, closing(sockets.connect(path, SHORT_S)) as ours:
        theirs = listener.accept()
        theirs.send(b"whole\nhal")
        theirs.close()
        assert ours.receive() == b"whole"
        assert ours.receive() is None


def test_an_end_that_left_unread_words_behind_has_gone(path: Path) -> None:
    """A connection that is reset is one that has ended."""
    with sockets.listen(path, SHORT_S) as listener, closing(sockets.connect(path, SHORT_S)) as ours:
        theirs = listener.accept()
        ours.send(b"unread\n")
        theirs.close()
        assert ours.receive() is None
        with pytest.raises(AccessError, match="does not respond"):
            ours.send(b"more\n")


def test_no_call_waits_longer_than_its_timeout(path: Path) -> None:
    """Silence, and no connection, end in an error."""
    with sockets.listen(path, SHORT_S) as listener:
        with closing(sockets.connect(path, SHORT_S)) as ours, pytest.raises(AccessError, match="does not respond"):
            ours.receive()
        listener.accept().close()
        with pytest.raises(AccessError, match="does not respond"):
            listener.accept()


def test_a_path_that_cannot_be_used_is_named(path: Path) -> None:
    """A path that is taken, and one without a listener, are distinguished from others."""
    with pytest.raises(AccessError, match=r"Cannot connect to .*No such file"):
        sockets.connect(path, SHORT_S)
    with (
        sockets.listen(path, SHORT_S),
        pytest.raises(AccessError, match=r"Cannot listen at .*in use"),
        sockets.listen(path, SHORT_S),
    ):
        pass


@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_who_connects_is_served_at_once(host: str, family: int) -> None:
    """Before a server accepts."""
    (one,) = listening_sockets(host, 0)
    with one, closing(socket.create_connection(one.getsockname()[:2])):
        assert one.family == family


@pytest.mark.usefixtures("loopback")
def test_a_port_that_is_taken_leaves_no_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one of the host's other addresses."""
    made: list[socket.socket] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        taken = other.getsockname()[1]
        stream = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        found = [(*stream, ("127.0.0.1", 0)), (*stream, ("127.0.0.1", taken))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: found)
        bind = socket.socket.bind

        def noted(one: socket.socket, place: object) -> None:
            made.append(one)
            bind(one, place)  # type: ignore[arg-type]  # as it was given

        monkeypatch.setattr(socket.socket, "bind", noted)
        with pytest.raises(OSError, match="in use"):
            listening_sockets("two", taken)
    assert [one.fileno() for one in made] == [-1, -1]


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A listening manager, at a path or at an abstract name."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract names exist on Linux only")
    name = f"@{tmp_path.name}-notify" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield receiver


def test_each_state_is_one_datagram(manager: socket.socket) -> None:
    """The states arrive in order, each whole."""
    states = (sockets.READY, sockets.ALIVE, sockets.STOPPING)
    assert all(sockets.notify(state) for state in states)
    assert [manager.recv(100).decode() for _ in states] == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """No variable, a malformed one and a manager that is gone are no failure."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not sockets.notify(sockets.READY)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_valid_and_exposes_little(root: Path, tmp_path: Path) -> None:
    """Systemd accepts deploy/tbot@.service without a remark, and rates its exposure as OK."""
    unit = tmp_path / "tbot@one.service"
    text = (root / "deploy" / "tbot@.service").read_text()
    unit.write_text(text.replace("/opt/tbot/bin/tbot", sys.executable))
    judged = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (judged.returncode, judged.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    exposure = re.search(r"Overall exposure level for .*: ([0-9.]+)", rated.stdout)
    assert exposure is not None
    assert float(exposure[1]) < 2
