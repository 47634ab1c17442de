"""Evidence of a stalled process: its current activity, on a page that others can read, and the stacks of its threads.

The page is never synced; the interpreter itself writes the stacks.
"""

from __future__ import annotations

import faulthandler
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


@contextmanager
def dump_stacks_if_stalled(path: Path, after_s: float) -> Iterator[Callable[[], None]]:
    """Dump all stacks to `path` when the yielded function is not called for `after_s` seconds.

    The dump has file names and line numbers, no local variables and so no secrets. The file is private and appended
    to.
    """
    with filesystem.raising_access_errors("open", path):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "wb") as file:

        def rearm() -> None:
            faulthandler.dump_traceback_later(after_s, file=file)

        try:
            yield rearm
        finally:
            faulthandler.cancel_dump_traceback_later()
