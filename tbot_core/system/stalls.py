"""Evidence of a stalled process: its current activity, on a page that others can read, and the stacks of its threads.

The page is never synced; the interpreter itself writes the stacks.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import struct
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

_SIZE: Final = 512
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
            os.ftruncate(handle, _SIZE)
            page = mmap.mmap(handle, _SIZE)
        finally:
            os.close(handle)
    entries = count(1)
    try:
        yield lambda words: _Activity(page, next(entries), words)
    finally:
        page.close()


class _Activity:
    # An activity while its context lasts; a class, since a generator costs several times as much.
    __slots__ = ("_before", "_data", "_page")

    def __init__(self, page: mmap.mmap, entered: int, words: str) -> None:
        data = words.encode()[: _SIZE - _HEAD.size]
        self._page = page
        self._data = _HEAD.pack(entered, len(data)) + data

    def __enter__(self) -> None:
        self._before = self._page[:_SIZE]
        self._page[: len(self._data)] = self._data

    def __exit__(self, *_: object) -> None:
        self._page[:_SIZE] = self._before


def read_activity(path: Path) -> CurrentActivity | None:
    """The activity recorded in this file; None when there is none or it cannot be read."""
    try:
        page = filesystem.read_bytes(path, limit=_SIZE)
    except AccessError:
        return None
    if len(page) != _SIZE:
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
