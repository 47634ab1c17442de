"""Dumps the stacks of all threads when the process stalls; the interpreter itself writes them."""

from __future__ import annotations

import faulthandler
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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
