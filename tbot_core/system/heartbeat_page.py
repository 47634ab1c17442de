"""A file page that shows the current activity of a process, readable by others when it hangs. Never synced."""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

SIZE: Final = 512
_HEAD: Final = struct.Struct("=QH")


@attrs.frozen(kw_only=True)
class CurrentActivity:
    """The activity of a process; `entered` is a number unique to each entry."""

    entered: int
    words: str


@contextmanager
def activity_marker(path: Path) -> Iterator[Callable[[str], AbstractContextManager[None]]]:
    """Create the page, and yield a context manager that marks an activity with a text."""
    with filesystem.raising_access_errors("open", path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(handle, SIZE)
            page = mmap.mmap(handle, SIZE)
        finally:
            os.close(handle)
    entered = 0

    @contextmanager
    def inside(words: str) -> Iterator[None]:
        nonlocal entered
        entered += 1
        before = page[:SIZE]
        data = words.encode()[: SIZE - _HEAD.size]
        page[: _HEAD.size + len(data)] = _HEAD.pack(entered, len(data)) + data
        try:
            yield
        finally:
            page[:SIZE] = before

    try:
        yield inside
    finally:
        page.close()


def read_activity(path: Path) -> CurrentActivity | None:
    """The activity recorded in this file; None when there is none or it cannot be read."""
    try:
        page = filesystem.read_bytes(path, limit=SIZE)
    except AccessError:
        return None
    if len(page) != SIZE:
        return None
    entered, length = _HEAD.unpack_from(page)
    words = page[_HEAD.size : _HEAD.size + length].decode(errors="replace")
    return CurrentActivity(entered=entered, words=words) if words else None
