"""Lines between two processes: whole messages or none, and never a wait without end."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import local_socket

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT_S = 0.05


@pytest.fixture
def path() -> Iterator[Path]:
    """A free path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="tbot") as folder:
        yield Path(folder) / "line"


def pending(line: local_socket.SocketConnection) -> bool:
    """Whether a whole message waits there; asked anew each time."""
    return line.pending


def test_messages_come_one_by_one_whichever_way_they_were_sent(path: Path) -> None:
    """Two messages in one sending, and one in two, come as they are; a number tells the connection from others."""
    with (
        local_socket.listen(path, SHORT_S) as listener,
        closing(local_socket.connect(path, SHORT_S)) as ours,
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
    """Whoever hangs up in the middle of a message has said nothing, and the rest is not awaited."""
    with local_socket.listen(path, SHORT_S) as listener, closing(local_socket.connect(path, SHORT_S)) as ours:
        theirs = listener.accept()
        theirs.send(b"whole\nhal")
        theirs.close()
        assert ours.receive() == b"whole"
        assert ours.receive() is None


def test_an_end_that_left_unread_words_behind_has_gone(path: Path) -> None:
    """A connection that is reset is one that has ended."""
    with local_socket.listen(path, SHORT_S) as listener, closing(local_socket.connect(path, SHORT_S)) as ours:
        theirs = listener.accept()
        ours.send(b"unread\n")
        theirs.close()
        assert ours.receive() is None
        with pytest.raises(AccessError, match="does not respond"):
            ours.send(b"more\n")


def test_nobody_waits_longer_than_was_agreed(path: Path) -> None:
    """Silence, and no connection, end in an error."""
    with local_socket.listen(path, SHORT_S) as listener:
        with closing(local_socket.connect(path, SHORT_S)) as ours, pytest.raises(AccessError, match="does not respond"):
            ours.receive()
        listener.accept().close()
        with pytest.raises(AccessError, match="does not respond"):
            listener.accept()


def test_a_path_that_cannot_be_used_is_named(path: Path) -> None:
    """A path that is taken, and one without a listener, are told from others."""
    with pytest.raises(AccessError, match=r"Cannot connect to .*No such file"):
        local_socket.connect(path, SHORT_S)
    with (
        local_socket.listen(path, SHORT_S),
        pytest.raises(AccessError, match=r"Cannot listen at .*in use"),
        local_socket.listen(path, SHORT_S),
    ):
        pass
