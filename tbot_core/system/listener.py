"""Sockets that listen for a server of this process."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Final

_BACKLOG: Final = 128


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each address of the host, as `localhost` has two; the caller closes them.

    Who connects waits until the server accepts. Raises OSError for a host that is none of this machine, and for a port
    that is taken or not allowed; no socket is left open then.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as ends:
        made = []
        for family, kind, protocol, _, place in dict.fromkeys(found):
            one = ends.enter_context(socket.socket(family, kind, protocol))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(place)
            one.listen(_BACKLOG)
            made.append(one)
        ends.pop_all()
    return made
