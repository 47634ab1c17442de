"""Sockets that listen: on each address of a host, or none of them."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from tbot_core.system.listener import listening_sockets

pytestmark = pytest.mark.usefixtures("loopback")


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_who_connects_is_heard_at_once(host: str, family: int) -> None:
    """Before a server accepts."""
    (one,) = listening_sockets(host, 0)
    with one, closing(socket.create_connection(one.getsockname()[:2])):
        assert one.family == family


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
