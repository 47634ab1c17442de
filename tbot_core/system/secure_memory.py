"""Memory for secrets: separate pages, kept out of swap, core files and child processes, and wiped after use.

The process that holds them is hardened: no core files, no debugger, no new privileges, private file modes.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ADVICE: Final = ("MADV_DONTDUMP", "MADV_DONTFORK")
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


class SecureBuffer:
    """A zeroed buffer on locked pages of its own; as a context manager it is wiped at the end.

    If the system refuses to lock the pages (limit, platform), they are used unlocked.
    """

    __slots__ = ("_held", "_pages", "_size", "_view")

    def __init__(self, size: int) -> None:
        self._held = True
        self._pages = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._size = size
        self._view = memoryview(self._pages)[:size]
        for advice in [getattr(mmap, name) for name in _ADVICE if hasattr(mmap, name)]:
            self._pages.madvise(advice)
        _lock(self._pages)

    @classmethod
    def of(cls, parts: Sequence[bytes | bytearray | memoryview]) -> SecureBuffer:
        """Create a buffer with a copy of the concatenated parts."""
        buffer = cls(sum(map(len, parts)))
        position = 0
        for part in parts:
            buffer.view[position : position + len(part)] = part
            position += len(part)
        return buffer

    @property
    def view(self) -> memoryview:
        """The bytes, readable and writable in place; ValueError once wiped."""
        if not self._held:
            raise ValueError("the buffer was wiped")
        return self._view

    @property
    def is_held(self) -> bool:
        """Whether the bytes are still there; False once wiped."""
        return self._held

    def wipe(self) -> None:
        """Overwrite the bytes with zeros and release the pages; a second call does nothing.

        A remaining slice of `view` reads as zeros, and the pages are released with it.
        """
        if self._held:
            self._held = False
            self._view[:] = bytes(self._size)
            self._view.release()
            with suppress(BufferError):
                self._pages.close()

    def __len__(self) -> int:
        return self._size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __del__(self) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return "Buffer([redacted])"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Raises TypeError: secrets must not be pickled or copied."""
        raise TypeError("a buffer of a secret cannot be pickled or copied")


def wipe(buffer: bytearray) -> None:
    """Overwrite a plain buffer with zeros, in place."""
    buffer[:] = bytes(len(buffer))


def _lock(pages: mmap.mmap) -> None:
    # Best effort: locking is limited (RLIMIT_MEMLOCK); unmapping unlocks the page.
    libc = ctypes.CDLL(None)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(len(pages)))


def harden(prctl: Callable[[int, int], bool] | None = None, platform: str = sys.platform) -> tuple[str, ...]:
    """Harden this process; call it again after every exec. Returns one sentence per failed measure.

    `prctl` sets a property of the process and returns whether that failed; the default calls the system.
    """
    os.umask(0o077)
    os.environ.pop("SSLKEYLOGFILE", None)  # into this file Python's TLS would write the keys of each connection
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
