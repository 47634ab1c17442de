"""Large files: read as a stream, mapped into memory, read ahead by the system, or marked as unchanged by their time."""

from __future__ import annotations

import mmap
import os
import threading
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from tbot_core.errors import AccessError
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def open_stream(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to be read; raises AccessError where it cannot be, and for a pipe, socket or device."""
    if filesystem.is_endless(path):
        raise AccessError(f"Cannot read {path}: it is a pipe, a socket or a device.", "Give a regular file.")
    with filesystem.raising_access_errors("read", path), path.open("rb") as file:
        yield file


def read_start(path: Path, most: int) -> bytes:
    """The first bytes of a file, at most so many; raises AccessError as `open_stream` does."""
    with open_stream(path) as file:
        return file.read(most)


def map_file(path: Path) -> memoryview:
    """Map a file, read-only, in the length that it has now; the mapping ends with the last object that uses it.

    Raises AccessError as `open_stream` does.
    """
    with open_stream(path) as file:
        if not os.fstat(file.fileno()).st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def set_modified_as(path: Path, other: Path) -> None:
    """Give a file the time at which another last changed."""
    with filesystem.raising_access_errors("write", path):
        found = other.stat()
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def read_ahead(path: Path) -> None:
    """Let the system read a file into its cache, in a thread; one that cannot be read is left out."""
    threading.Thread(target=_advise, args=(path,), name="read ahead", daemon=True).start()


def _advise(path: Path) -> None:
    with suppress(OSError), path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
