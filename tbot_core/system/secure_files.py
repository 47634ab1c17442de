"""Private files: checked through the open handle, and replaced atomically."""

from __future__ import annotations

import ctypes
import enum
import errno
import fcntl
import os
import stat
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import AccessError, DataError
from tbot_core.system.secure_memory import SecureBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class FileFlaw(enum.Enum):
    """What is wrong with a file or its folder; the value is the text for users."""

    FOLDER_MISSING = "its folder is missing"
    MISSING = "it is missing"
    DENIED = "the system denies access to it"
    FAULT = "disk error"
    FULL = "the disk is full"
    READ_ONLY = "the file system is read-only"
    SYMLINK = "it is a symbolic link"
    NOT_REGULAR = "it is not a regular file"
    OWNER = "it belongs to another user"
    LINKS = "it has more than one hard link"
    TOO_LARGE = "it is too large"
    FOLDER_OWNER = "its folder belongs to another user"
    MODE = "other users may read or write it"
    FOLDER_MODE = "other users may enter its folder"
    FOLDER_OPEN = "other users may replace files in its folder"
    UNPROVEN = "it read back differently than it was written"


_LOOSE_FLAWS: Final = frozenset({FileFlaw.MODE, FileFlaw.FOLDER_MODE, FileFlaw.FOLDER_OPEN})
"""Flaws that a strict reader refuses and others report."""

_FOREIGN_FLAWS: Final = _LOOSE_FLAWS | {FileFlaw.OWNER, FileFlaw.FOLDER_OWNER, FileFlaw.LINKS}
"""Flaws that would let another user have written the file."""

_BY_ERRNO: Final = {
    errno.ENOENT: FileFlaw.MISSING,
    errno.EACCES: FileFlaw.DENIED,
    errno.EPERM: FileFlaw.DENIED,
    errno.ENOSPC: FileFlaw.FULL,
    errno.EDQUOT: FileFlaw.FULL,
    errno.EROFS: FileFlaw.READ_ONLY,
    errno.ELOOP: FileFlaw.SYMLINK,
    errno.EISDIR: FileFlaw.NOT_REGULAR,
    errno.ENXIO: FileFlaw.NOT_REGULAR,
    errno.ENOTDIR: FileFlaw.FOLDER_MISSING,
}
_TAIL: Final = 65_536
_BLOCK: Final = 512
_KEEP_SIZE: Final = 1
_NEW: Final = ".{}.new"


class PrivateFileError(AccessError):
    """A private file that must not or cannot be used; `flaw` is the reason."""

    def __init__(self, path: Path, flaw: FileFlaw) -> None:
        super().__init__(f"Cannot use {path}: {flaw.value}.", "Check the file and its folder.")
        self.flaw = flaw


@attrs.frozen(kw_only=True)
class PrivateFileContent:
    """The content of a private file, and its tolerated flaws; the reader wipes the bytes."""

    data: SecureBuffer
    mode: int
    flaws: tuple[FileFlaw, ...]


class FileSystemCalls:
    """The system calls used for private files; tests substitute them."""

    def folder(self, path: Path) -> int:
        """Open the folder."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open(self, name: str, flags: int, folder: int) -> int:
        """Open a file in the folder, without following links or blocking."""
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o600, dir_fd=folder)

    def status(self, handle: int) -> os.stat_result:
        """The status of an open file or folder."""
        return os.fstat(handle)

    def read(self, handle: int, target: memoryview) -> int:
        """Read into the target from the current position; returns the number of bytes, 0 at the end."""
        return os.readv(handle, [target])

    def seek(self, handle: int, position: int) -> None:
        """Set the position, in bytes from the file's start."""
        os.lseek(handle, position, os.SEEK_SET)

    def write(self, handle: int, data: bytes | memoryview) -> int:
        """Write at the current position; returns the number of bytes written."""
        return os.write(handle, data)

    def sync(self, handle: int) -> None:
        """Wait until the file or folder is on the disk."""
        os.fsync(handle)

    def truncate(self, handle: int, size: int) -> None:
        """Truncate an open file to a size."""
        os.ftruncate(handle, size)

    def lock(self, handle: int) -> None:
        """Wait for the file's exclusive lock; it is held until the handle is closed."""
        fcntl.flock(handle, fcntl.LOCK_EX)

    def rename(self, old: str, new: str, folder: int) -> None:
        """Rename a file within the folder, replacing an existing one."""
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)

    def remove(self, name: str, folder: int) -> None:
        """Remove a file from the folder."""
        os.unlink(name, dir_fd=folder)

    def close(self, handle: int) -> None:
        """Close a handle."""
        os.close(handle)


SYSTEM: Final = FileSystemCalls()


def read(
    path: Path, *, limit: int, strict: bool, folder_private: bool = False, system: FileSystemCalls = SYSTEM
) -> PrivateFileContent:
    """Read a private file of at most `limit` bytes.

    The open file must be a regular file with one name, not a link, owned by this user, with mode 0600 or less. Its
    folder must belong to this user or root, and others must not be able to replace the file (with `folder_private`:
    mode 0700 or less). Loose modes are refused when `strict`, else reported. Raises PrivateFileError.
    """
    with _handles(path, system) as handles:
        folder = _folder(path, handles, system)
        flaws = _folder_flaws(path, system.status(folder), private=folder_private)
        handles.append(handle := system.open(path.name, os.O_RDONLY, folder))
        status = system.status(handle)
        flaws += _file_flaws(path, status, limit)
        if strict and flaws:
            raise PrivateFileError(path, flaws[0])
        data = _fill(path, handle, status.st_size, system)
        return PrivateFileContent(data=data, mode=stat.S_IMODE(status.st_mode), flaws=tuple(flaws))


def inspect(path: Path, *, limit: int, system: FileSystemCalls = SYSTEM) -> PrivateFileContent:
    """Read a file of any owner, and report all flaws that would let another user have written it.

    It must still be a regular file of at most `limit` bytes, and no symbolic link. Raises PrivateFileError.
    """
    with _handles(path, system) as handles:
        folder = _folder(path, handles, system)
        flaws = _folder_flaws(path, system.status(folder), private=False, tolerated=_FOREIGN_FLAWS)
        handles.append(handle := system.open(path.name, os.O_RDONLY, folder))
        status = system.status(handle)
        flaws += _file_flaws(path, status, limit, _FOREIGN_FLAWS)
        data = _fill(path, handle, status.st_size, system)
        return PrivateFileContent(data=data, mode=stat.S_IMODE(status.st_mode), flaws=tuple(flaws))


def read_operators_text(path: Path, *, limit: int, remedy: str) -> str:
    """Read a text file of the operator, of at most `limit` bytes, which no other user may write.

    Raises PrivateFileError if another user could have written it, DataError with the `remedy` if it is not UTF-8.
    """
    content = inspect(path, limit=limit)
    if content.flaws:
        raise PrivateFileError(path, content.flaws[0])
    try:
        return bytes(content.data.view).decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise DataError(f"{path} is not a text file.", remedy) from fault


def folder_looseness(folder: Path, *, system: FileSystemCalls = SYSTEM) -> str:
    """Describe why a folder is not private; "" when it is."""
    handles: list[int] = []
    try:
        handles.append(handle := system.folder(folder))
        flaws = _folder_flaws(folder, system.status(handle), private=True)
        return PrivateFileError(folder, flaws[0]).message if flaws else ""
    except PrivateFileError as fault:
        return fault.message
    except OSError as fault:
        return f"Cannot use {folder}: {fault.strerror}."
    finally:
        for opened in handles:
            system.close(opened)


def write(
    path: Path, data: bytes | memoryview, *, check: Callable[[memoryview], None], system: FileSystemCalls = SYSTEM
) -> None:
    """Replace the file durably, with mode 0600: after a crash the path holds the old or the new content.

    The written bytes are read back and passed to `check` before they replace the old file; its exceptions propagate.
    The caller must hold a lock. Raises PrivateFileError.
    """
    with _handles(path, system) as handles:
        folder = _folder(path, handles, system)
        _folder_flaws(path, system.status(folder), private=False)
        _replace(path, data, folder, check, system)
        system.sync(folder)


def append(
    path: Path, make: Callable[[bytes | None, bool], bytes], *, reserve: int, system: FileSystemCalls = SYSTEM
) -> None:
    """Append lines durably to a file, created with mode 0600 if absent.

    `make` receives the last complete line (None without one), and whether an incomplete line after it was removed,
    which a crash may leave. It returns the bytes to append, under the file's lock. Where the file system can,
    `reserve` bytes are kept allocated behind the end, for writing while the disk is full. A failed append is undone.
    Raises PrivateFileError.
    """
    with _handles(path, system) as handles:
        folder = _folder(path, handles, system)
        _folder_flaws(path, system.status(folder), private=False)
        handles.append(handle := system.open(path.name, os.O_RDWR | os.O_CREAT | os.O_APPEND, folder))
        system.lock(handle)
        status = system.status(handle)
        _file_flaws(path, status, sys.maxsize)
        size, last = _tail(path, handle, status.st_size, system)
        if size < status.st_size:
            system.truncate(handle, size)
        _add(handle, size, make(last, size < status.st_size), system)
        if not size:
            system.sync(folder)
        if status.st_blocks * _BLOCK < size + reserve // 2:
            _reserve(handle, size, reserve)


def _tail(path: Path, handle: int, size: int, system: FileSystemCalls) -> tuple[int, bytes | None]:
    # The end of the last complete line, and the line; a longer line than any written is refused.
    begin = max(size - _TAIL, 0)
    system.seek(handle, begin)
    with _fill(path, handle, size - begin, system) as read:
        text = bytes(read.view)
    whole = text[: text.rfind(b"\n") + 1]
    if not whole:
        if begin:
            raise PrivateFileError(path, FileFlaw.UNPROVEN)
        return 0, None
    return begin + len(whole), whole[:-1].rpartition(b"\n")[2]


def _add(handle: int, size: int, lines: bytes, system: FileSystemCalls) -> None:
    try:
        _put(handle, lines, system)
        system.sync(handle)
    except OSError:
        with suppress(OSError):
            system.truncate(handle, size)
        raise


def _reserve(handle: int, size: int, reserve: int) -> None:
    # Best effort: allocate blocks behind the end, which does not move.
    word = ctypes.c_int64
    fallocate = getattr(ctypes.CDLL(None), "fallocate", lambda *_: None)
    fallocate(ctypes.c_int(handle), ctypes.c_int(_KEEP_SIZE), word(size), word(reserve))


def new_file(path: Path) -> Path:
    """The file that `write` makes before it replaces this one; a killed writer leaves it."""
    return path.with_name(_NEW.format(path.name))


def remove(path: Path, *, system: FileSystemCalls = SYSTEM) -> None:
    """Remove the file durably, if it exists. Raises PrivateFileError."""
    with _handles(path, system) as handles, suppress(FileNotFoundError):
        folder = _folder(path, handles, system)
        system.remove(path.name, folder)
        system.sync(folder)


@contextmanager
def _handles(path: Path, system: FileSystemCalls) -> Iterator[list[int]]:
    # Handles to be closed at the end; an OSError becomes a PrivateFileError for the path.
    handles: list[int] = []
    try:
        yield handles
    except OSError as fault:
        raise PrivateFileError(path, _BY_ERRNO.get(fault.errno or 0, FileFlaw.FAULT)) from fault
    finally:
        for opened in handles:
            system.close(opened)


def _folder(path: Path, handles: list[int], system: FileSystemCalls) -> int:
    try:
        handles.append(folder := system.folder(path.parent))
    except FileNotFoundError as fault:
        raise PrivateFileError(path, FileFlaw.FOLDER_MISSING) from fault
    return folder


def _replace(
    path: Path, data: bytes | memoryview, folder: int, check: Callable[[memoryview], None], system: FileSystemCalls
) -> None:
    new, placed = _NEW.format(path.name), False
    handle = _create(new, folder, system)
    try:
        _put(handle, data, system)
        system.sync(handle)
        _prove(path, data, handle, check, system)
        system.rename(new, path.name, folder)
        placed = True
    finally:
        system.close(handle)
        if not placed:
            _drop(new, folder, system)


def _create(name: str, folder: int, system: FileSystemCalls) -> int:
    # A leftover of a killed writer is unused, since this process holds the lock now.
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    try:
        return system.open(name, flags, folder)
    except FileExistsError:
        system.remove(name, folder)
        return system.open(name, flags, folder)


def _put(handle: int, data: bytes | memoryview, system: FileSystemCalls) -> None:
    rest = memoryview(data)
    while rest:
        written = system.write(handle, rest)
        if not written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest = rest[written:]


def _prove(
    path: Path, data: bytes | memoryview, handle: int, check: Callable[[memoryview], None], system: FileSystemCalls
) -> None:
    # Through the same handle, so that the file cannot be exchanged in between.
    system.seek(handle, 0)
    with _fill(path, handle, system.status(handle).st_size, system) as buffer:
        if buffer.view != memoryview(data):
            raise PrivateFileError(path, FileFlaw.UNPROVEN)
        check(buffer.view)


def _fill(path: Path, handle: int, size: int, system: FileSystemCalls) -> SecureBuffer:
    # Read exactly the checked size: a file that shrinks is refused, one that grows is cut.
    data, position = SecureBuffer(size), 0
    while position < size:
        with data.view[position:] as rest:
            count = system.read(handle, rest)
        if not count:
            data.wipe()
            raise PrivateFileError(path, FileFlaw.FAULT)
        position += count
    return data


def _drop(name: str, folder: int, system: FileSystemCalls) -> None:
    # The caller needs the original failure, not that the leftover could not be removed.
    try:
        system.remove(name, folder)
    except OSError:
        return


def _folder_flaws(
    path: Path, status: os.stat_result, *, private: bool, tolerated: frozenset[FileFlaw] = _LOOSE_FLAWS
) -> list[FileFlaw]:
    flaws = [] if status.st_uid in {os.geteuid(), 0} else [FileFlaw.FOLDER_OWNER]
    if flaws and FileFlaw.FOLDER_OWNER not in tolerated:
        raise PrivateFileError(path, FileFlaw.FOLDER_OWNER)
    mode = stat.S_IMODE(status.st_mode)
    if private and mode & 0o077:
        return [*flaws, FileFlaw.FOLDER_MODE]
    return [*flaws, FileFlaw.FOLDER_OPEN] if mode & 0o022 and not mode & stat.S_ISVTX else flaws


def _file_flaws(
    path: Path, status: os.stat_result, limit: int, tolerated: frozenset[FileFlaw] = _LOOSE_FLAWS
) -> list[FileFlaw]:
    # The flaws of a file, the most severe first; raises PrivateFileError for one that is not tolerated.
    found = {
        FileFlaw.NOT_REGULAR: not stat.S_ISREG(status.st_mode),
        FileFlaw.OWNER: status.st_uid != os.geteuid(),
        FileFlaw.LINKS: status.st_nlink > 1,  # zero: it was replaced after it was opened
        FileFlaw.TOO_LARGE: status.st_size > limit,
        FileFlaw.MODE: bool(status.st_mode & 0o077),
    }
    flaws = [flaw for flaw, there in found.items() if there]
    for flaw in flaws:
        if flaw not in tolerated:
            raise PrivateFileError(path, flaw)
    return flaws
