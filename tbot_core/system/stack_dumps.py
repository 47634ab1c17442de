"""Where every thread stands when the process does not come round in time: written by the interpreter itself."""

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
    """Files and lines of all stacks go to `path` when what this yields is not called for `after_s` seconds.

    Names and lines alone: no local, and so no secret. The file is made for the owner alone and added to.
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
