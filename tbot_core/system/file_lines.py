"""Lines of large files: read from the end, and found by bisection, so that no file is read whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from tbot_core.system.file_streams import open_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

BLOCK: Final = 65_536
"""Bytes that are read at once."""

LONGEST: Final = 1_048_576
"""A longer line comes in parts."""


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
