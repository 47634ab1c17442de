"""Files that are mapped into memory, and read ahead by the system."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from tbot_core.errors import AccessError
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path


def map_file(path: Path) -> memoryview:
    """Map a file, read-only, in the length that it has now; the mapping ends with the last object that uses it.

    Raises AccessError for a file that cannot be read, and for a pipe, socket or device.
    """
    if filesystem.is_endless(path):
        raise AccessError(f"Cannot read {path}: it is a pipe, a socket or a device.", "Give a regular file.")
    with filesystem.raising_access_errors("read", path), path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def read_ahead(path: Path) -> None:
    """Let the system read a file into its cache; one that cannot be read is left out."""
    with suppress(OSError), path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
