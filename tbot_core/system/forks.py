"""Ends the processes that are forked from a bot: one would go on as the bot, with its connections and files."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORDS: Final = b"tbot: A process that was forked from the bot was ended; the bot itself goes on.\n"


class _Sole:
    # The process that may act, and whether forks are noticed.
    process: int | None = None
    watched = False


@contextmanager
def without_forks() -> Iterator[None]:
    """End every process that is forked from this one while the context lasts, before it does anything.

    The log says where the fork was. Programs that are started, and processes that `multiprocessing` spawns, go on. One
    that native code forks is not noticed at once: `end_if_forked` ends it.
    """
    if not _Sole.watched:
        os.register_at_fork(after_in_child=end_if_forked, after_in_parent=_report)
        _Sole.watched = True
    before, _Sole.process = _Sole.process, os.getpid()
    try:
        yield
    finally:
        _Sole.process = before


def end_if_forked() -> None:
    """End this process at once if it was forked from one within `without_forks`; for what acts, before it does."""
    if _Sole.process is not None and os.getpid() != _Sole.process:
        with suppress(OSError):
            os.write(2, _WORDS)
        os._exit(1)


def _report() -> None:
    # In the process that goes on: where it was forked.
    if _Sole.process is None:
        return
    from tbot_core.system import log

    caller = sys._getframe(1)  # noqa: SLF001  -- what called os.fork
    where = f"{caller.f_code.co_filename}:{caller.f_lineno}"
    words = "The forked process was ended. Start a program, or spawn a process, instead."
    log.logger(__name__).error("process.forked", where=where, reason=words)
