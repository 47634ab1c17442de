"""Messages between two processes of this machine, as lines over a Unix socket. Each is received whole or not at all."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tbot_core.errors import AccessError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK: Final = 65_536
_END: Final = b"\n"


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


def _broken(fault: OSError) -> AccessError:
    return AccessError(f"The other process does not respond: {fault}.", "Check whether it is still running.")
