"""Lines between two processes of this machine, over a Unix socket: what one sends, the other receives whole or not."""

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
    """One end of a connection. Blocks, but never longer than the time-out that it was made with."""

    def __init__(self, connection: socket.socket, timeout_s: float) -> None:
        connection.settimeout(timeout_s)
        self._connection = connection
        self._came = bytearray()

    def fileno(self) -> int:
        """The number of the connection, for whoever waits for several."""
        return self._connection.fileno()

    def send(self, data: bytes) -> None:
        """Send bytes as they are; a message ends with a line feed. Raises AccessError where nobody takes them."""
        try:
            self._connection.sendall(data)
        except OSError as fault:
            raise _broken(fault) from fault

    @property
    def pending(self) -> bool:
        """Whether a whole message has come that was not received yet."""
        return _END in self._came

    def receive(self) -> bytes | None:
        """The next message, without its line feed; None once the other end has gone, whatever it had begun to say.

        Raises AccessError when nothing comes in time.
        """
        while not self.pending:
            if not self.fill_buffer():
                return None
        message, _, rest = bytes(self._came).partition(_END)
        self._came = bytearray(rest)
        return message

    def fill_buffer(self) -> bool:
        """Take in what has come, part of a message or several; false once the other end has gone."""
        try:
            chunk = self._connection.recv(_CHUNK)
        except ConnectionError:
            return False
        except OSError as fault:
            raise _broken(fault) from fault
        self._came += chunk
        return bool(chunk)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class SocketListener:
    """A place where others may connect."""

    def __init__(self, place: socket.socket, timeout_s: float) -> None:
        place.settimeout(timeout_s)
        self._place = place
        self._timeout_s = timeout_s

    def accept(self) -> SocketConnection:
        """The next one who connects. Raises AccessError when nobody does in time."""
        try:
            connection, _ = self._place.accept()
        except OSError as fault:
            raise _broken(fault) from fault
        return SocketConnection(connection, self._timeout_s)


@contextmanager
def listen(path: Path, timeout_s: float) -> Iterator[SocketListener]:
    """Listen at a path that is free, as long as the context lasts. Raises AccessError where that cannot be done."""
    with socket.socket(socket.AF_UNIX) as place:
        try:
            place.bind(str(path))
        except OSError as fault:
            words = fault.strerror or str(fault)
            raise AccessError(
                f"Cannot listen at {path}: {words}.", "Choose a short path that is not in use."
            ) from fault
        try:
            place.listen()
            yield SocketListener(place, timeout_s)
        finally:
            path.unlink()


def connect(path: Path, timeout_s: float) -> SocketConnection:
    """Connect to whoever listens at a path. Raises AccessError where nobody does."""
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
