"""Hardens the process: no core files, no debugger, no new rights, nothing written that others may read."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def harden() -> tuple[str, ...]:
    """Harden this process, at once and again after every exec; returns what could not be done, a sentence each."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return ("Memory cannot be closed to debuggers, nor new rights refused, on this system.",)
    failures = {
        "Memory could not be closed to debuggers.": _prctl(_PR_SET_DUMPABLE, 0),
        "New rights could not be refused.": _prctl(_PR_SET_NO_NEW_PRIVS, 1),
    }
    return tuple(sentence for sentence, failed in failures.items() if failed)


def _prctl(option: int, value: int) -> bool:
    """Whether the call failed."""
    word = ctypes.c_ulong
    return bool(ctypes.CDLL(None, use_errno=True).prctl(ctypes.c_int(option), word(value), word(0), word(0), word(0)))
