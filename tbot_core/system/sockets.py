"""Sockets of this machine: messages between two processes, sockets that listen, and news for the service manager.

Messages go as lines over a Unix socket; each is received whole or not at all. The service manager is told that the
process is ready, lives and ends, as systemd's sd_notify(3) describes.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from tbot_core.errors import AccessError
from tbot_core.system import environ

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK: Final = 65_536
_END: Final = b"\n"
_BACKLOG: Final = 128
READY: Final = "READY=1"
ALIVE: Final = "WATCHDOG=1"
STOPPING: Final = "STOPPING=1"


class SocketConnection:
    """One end of a connection. Blocks at most for the timeout it was created with."""

    def __init__(self, connection: socket.socket, timeout_s: float) -> None:
        connection.settimeout(timeout_s)
        self._connection = connection
        self._received = bytearray()

    def fileno(self) -> int:
        """The file descriptor, for selecting among several."""
        return self._connection.fileno()

    def send(self, data: bytes) -> None:
        """Send bytes unchanged; a message ends with a line feed. Raises AccessError on failure."""
        try:
            self._connection.sendall(data)
        except OSError as fault:
            raise _broken(fault) from fault

    @property
    def pending(self) -> bool:
        """Whether a complete message is buffered."""
        return _END in self._received

    def receive(self) -> bytes | None:
        """Return the next message without its line feed; None after the other end has closed.

        A partial message is dropped. Raises AccessError on timeout.
        """
        while not self.pending:
            if not self.fill_buffer():
                return None
        message, _, rest = bytes(self._received).partition(_END)
        self._received = bytearray(rest)
        return message

    def fill_buffer(self) -> bool:
        """Read available bytes into the buffer; False after the other end has closed."""
        try:
            chunk = self._connection.recv(_CHUNK)
        except ConnectionError:
            return False
        except OSError as fault:
            raise _broken(fault) from fault
        self._received += chunk
        return bool(chunk)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class SocketListener:
    """Accepts connections."""

    def __init__(self, listener: socket.socket, timeout_s: float) -> None:
        listener.settimeout(timeout_s)
        self._socket = listener
        self._timeout_s = timeout_s

    def accept(self) -> SocketConnection:
        """Accept the next connection. Raises AccessError on timeout."""
        try:
            connection, _ = self._socket.accept()
        except OSError as fault:
            raise _broken(fault) from fault
        return SocketConnection(connection, self._timeout_s)


@contextmanager
def listen(path: Path, timeout_s: float) -> Iterator[SocketListener]:
    """Listen at a free path for the duration of the context. Raises AccessError on failure."""
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(str(path))
        except OSError as fault:
            words = fault.strerror or str(fault)
            raise AccessError(
                f"Cannot listen at {path}: {words}.", "Choose a short path that is not in use."
            ) from fault
        try:
            listener.listen()
            yield SocketListener(listener, timeout_s)
        finally:
            path.unlink()


def connect(path: Path, timeout_s: float) -> SocketConnection:
    """Connect to the listener at a path. Raises AccessError on failure."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError as fault:
        connection.close()
        words = fault.strerror or str(fault)
        raise AccessError(
            f"Cannot connect to {path}: {words}.", "Start the process that listens there first."
        ) from fault
    return SocketConnection(connection, timeout_s)


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


def notify(state: str) -> bool:
    """Send a state to the socket that NOTIFY_SOCKET names; returns whether it was sent.

    Without the variable, and where the manager does not listen, nothing happens. It never blocks.
    """
    address = environ.service_socket()
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
    except OSError:
        return False
    return True


def _broken(fault: OSError) -> AccessError:
    return AccessError(f"The other process does not respond: {fault}.", "Check whether it is still running.")
