"""Memory for secrets: separate pages, kept out of swap, core files and child processes, and wiped after use."""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

_ADVICE: Final = ("MADV_DONTDUMP", "MADV_DONTFORK")


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
        made = cls(sum(map(len, parts)))
        position = 0
        for part in parts:
            made.view[position : position + len(part)] = part
            position += len(part)
        return made

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
