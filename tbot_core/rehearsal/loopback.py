"""Bytes in transit between the two ends of connections on this machine, both of which one process holds.

A kernel delivers what was sent over loopback at once, or a moment later. `LoopbackTraffic` knows which of the two by
counting at both ends, so that a loop in virtual time can wait for it.
"""

from __future__ import annotations

import socket  # seam: counts what a rehearsal's own connections carry
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Value = TypeVar("Value")
_Address: TypeAlias = tuple[Any, ...]


class LoopbackTraffic:
    """The connections of one loop; `reads` tells whether a file descriptor is waited on for reading."""

    def __init__(self, reads: Callable[[int], bool]) -> None:
        self._reads = reads
        self._connecting = 0
        self._listening: set[_Address] = set()
        self._ends: dict[tuple[_Address, _Address], CountedSocket] = {}

    @property
    def in_transit(self) -> list[str]:
        """The connections on which something is still to arrive, as text; those without a reader are left out."""
        found = ["a connection that is being made"] * self._connecting
        for (here, there), end in self._ends.items():
            if end.is_open and self._is_awaited(end, there, self._ends.get((there, here))):
                found.append(f"{there} to {here}")
        return found

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """A connection is being made."""
        self._connecting += 1
        try:
            yield
        finally:
            self._connecting -= 1

    def listen(self, listener: socket.socket) -> None:
        """A socket accepts connections."""
        self._listening.add(listener.getsockname())

    def stop_listening(self, listener: socket.socket) -> None:
        """It accepts no more."""
        self._listening.discard(listener.getsockname())

    def counted(self, plain: socket.socket) -> CountedSocket:
        """A connected socket as one that counts."""
        here, there = plain.getsockname(), plain.getpeername()
        end = CountedSocket(plain, lambda: self._forget(here, there))
        self._ends[here, there] = end
        return end

    def _is_awaited(self, end: CountedSocket, there: _Address, other: CountedSocket | None) -> bool:
        # Whether something is still to arrive at this end, or the other end is still to be accepted.
        if other is None:
            return there in self._listening
        if end.has_ended or not self._reads(end.fileno()):
            return False
        return other.sent > end.received or other.sends_no_more

    def _forget(self, here: _Address, there: _Address) -> None:
        # The end that closes first is kept for what the other one has still to read.
        other = self._ends.get((there, here))
        if other is not None and not other.is_open:
            del self._ends[there, here], self._ends[here, there]


class CountedSocket:
    """One end of a connection: the bytes `sent` and `received`; `has_ended`: it has read the end of the other's bytes.

    `sends_no_more`: it was closed, also in one direction only.
    """

    def __init__(self, plain: socket.socket, on_close: Callable[[], None]) -> None:
        self._plain = plain
        self._on_close = on_close
        self.sent = self.received = 0
        self.is_open = True
        self.has_ended = self.sends_no_more = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)

    def send(self, data: Any) -> int:
        """Send and count."""
        count = self._plain.send(data)
        self.sent += count
        return count

    def sendmsg(self, buffers: Any) -> int:
        """Send and count."""
        count = self._plain.sendmsg(buffers)
        self.sent += count
        return count

    def recv(self, size: int) -> bytes:
        """Receive and count."""
        data = self._read(self._plain.recv, size)
        self._count(len(data))
        return data

    def recv_into(self, buffer: Any) -> int:
        """Receive and count."""
        count = self._read(self._plain.recv_into, buffer)
        self._count(count)
        return count

    def shutdown(self, how: int) -> None:
        """End one direction or both."""
        self.sends_no_more = self.sends_no_more or how != socket.SHUT_RD
        self._plain.shutdown(how)

    def close(self) -> None:
        """Close this end."""
        if self.is_open:
            self.is_open, self.sends_no_more = False, True
            self._plain.close()
            self._on_close()

    def _count(self, size: int) -> None:
        self.received += size
        self.has_ended = self.has_ended or not size

    def _read(self, call: Callable[[Any], Value], argument: object) -> Value:
        # After a reset nothing more arrives.
        try:
            return call(argument)
        except BlockingIOError:
            raise
        except OSError:
            self.has_ended = True
            raise
