"""A child process with request and response: bytes to its standard input, bytes from its standard output."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Final, cast

from tbot_core.errors import AccessError
from tbot_core.system import secure_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MEMORY_BYTES: Final = 4 * 2**30
"""The address space of a confined child; numpy reserves far more than it uses."""

FILES: Final = 64
_CHUNK: Final = 1 << 20


class WorkerProcess:
    """The child process; reads and writes block without a limit unless interrupted.

    It gets no file of ours, only `environment`, and its own session. Raises AccessError when it cannot be started, and
    later when it has ended.
    """

    def __init__(self, args: Sequence[str], *, environment: Mapping[str, str]) -> None:
        try:
            self._child = subprocess.Popen(  # noqa: S603  -- no shell, and callers choose the program
                args,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=dict(environment),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as fault:
            raise AccessError(f"Cannot start {args[0]}: {fault.strerror}.", "Check that the program exists.") from fault
        self._in = cast("IO[bytes]", self._child.stdin)
        self._out = cast("IO[bytes]", self._child.stdout)

    def write(self, data: bytes) -> None:
        """Write everything to its standard input."""
        try:
            write_whole(self._in.fileno(), data)
        except OSError as fault:
            raise self._ended_error() from fault

    def read(self, size: int) -> bytes:
        """Read exactly so many bytes of its output."""
        data = read_whole(self._out.fileno(), size)
        if len(data) < size:
            raise self._ended_error()
        return data

    def end(self) -> None:
        """Kill it and its descendants."""
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._in.close()
        self._out.close()

    def _ended_error(self) -> AccessError:
        return AccessError(f"its process ended with code {self._child.wait()} before it had answered.")


def read_whole(handle: int, size: int) -> bytes:
    """Read so many bytes; fewer only at the end of the stream."""
    data = bytearray()
    while len(data) < size:
        part = os.read(handle, min(size - len(data), _CHUNK))
        if not part:
            break
        data += part
    return bytes(data)


def write_whole(handle: int, data: bytes) -> None:
    """Write everything."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def open_child_pipe() -> tuple[Callable[[int], bytes], Callable[[bytes], None]]:
    """In the child: return functions to read and to write. Later prints go to standard error, which is discarded."""
    requests, responses = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return lambda size: read_whole(requests, size), lambda data: write_whole(responses, data)


def confine(hardened: Callable[[], object] = secure_memory.harden) -> None:
    """In the child: harden the process, and limit its memory and files."""
    hardened()
    for what, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_NOFILE, FILES)):
        _, hard = resource.getrlimit(what)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (limit, limit))
