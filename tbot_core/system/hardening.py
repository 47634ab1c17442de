"""Hardens the process: no core files, no debugger, no new privileges, private file modes."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def harden(prctl: Callable[[int, int], bool] | None = None, platform: str = sys.platform) -> tuple[str, ...]:
    """Harden this process; call it again after every exec. Returns one sentence per failed measure.

    `prctl` sets a property of the process and returns whether that failed; the default calls the system.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not platform.startswith("linux"):
        return ("This system cannot protect the memory against debuggers, nor prevent new privileges.",)
    failed = prctl or _prctl
    failures = {
        "The memory could not be protected against debuggers.": failed(_PR_SET_DUMPABLE, 0),
        "New privileges could not be prevented.": failed(_PR_SET_NO_NEW_PRIVS, 1),
    }
    return tuple(sentence for sentence, has_failed in failures.items() if has_failed)


def _prctl(option: int, value: int) -> bool:
    word = ctypes.c_ulong
    return bool(ctypes.CDLL(None).prctl(ctypes.c_int(option), word(value), word(0), word(0), word(0)))
