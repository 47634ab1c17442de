"""Large files: read as a stream, mapped into memory, read ahead by the system, or marked as unchanged by their time.

Lines are read from the end, and found by bisection, so that no file is read whole.
"""

from __future__ import annotations

import mmap
import os
import threading
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Final

from tbot_core.errors import AccessError
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

BLOCK: Final = 65_536
"""Bytes that are read at once."""

LONGEST: Final = 1_048_576
"""A longer line comes in parts."""


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


def lines_back(path: Path, end: int | None = None) -> Generator[tuple[int, bytes], None, None]:
    """Each line, the last one first, with the place in bytes where it begins; `end`: only what is before that place.

    A line keeps its newline, which the last one of a file that is being written may lack. Raises AccessError where the
    file cannot be read.
    """
    with open_stream(path) as file:
        size = os.fstat(file.fileno()).st_size
        at, rest = size if end is None else min(end, size), b""
        while at > 0:
            start = max(at - BLOCK, 0)
            file.seek(start)
            data = file.read(at - start) + rest
            at, edge = start, len(data)
            while (newline := data.rfind(b"\n", 0, edge - 1)) >= 0:
                yield at + newline + 1, data[newline + 1 : edge]
                edge = newline + 1
            rest = data[:edge]
            if len(rest) > LONGEST:
                yield at, rest
                rest = b""
        if rest:
            yield 0, rest


def first_line(path: Path, is_wanted: Callable[[bytes], bool]) -> int:
    """The place where the first wanted line begins, of a file in which only wanted lines follow one.

    The size of the file where none is wanted. Raises AccessError where the file cannot be read.
    """
    with open_stream(path) as file:
        low, high = 0, os.fstat(file.fileno()).st_size
        found = high
        while low < high:
            middle = (low + high) // 2
            file.seek(max(middle - 1, 0))
            start = middle - 1 + len(file.readline()) if middle else 0
            line = file.readline(LONGEST) if start < high else b""
            if line and not is_wanted(line):
                low = start + len(line)
                continue
            high, found = middle, start if line else found
        return found


def _advise(path: Path) -> None:
    with suppress(OSError), path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
