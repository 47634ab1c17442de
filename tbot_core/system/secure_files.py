"""Files for their owner alone: what is opened is checked by its handle, and replaced whole or not at all."""

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

from tbot_core.errors import AccessError
from tbot_core.system.secure_memory import SecureBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class FileFlaw(enum.Enum):
    """What is wrong with a file or its folder; the value says it in words."""

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


LOOSE_FLAWS: Final = frozenset({FileFlaw.MODE, FileFlaw.FOLDER_MODE, FileFlaw.FOLDER_OPEN})
"""Flaws that a strict reader refuses and any other reports."""

FOREIGN_FLAWS: Final = LOOSE_FLAWS | {FileFlaw.OWNER, FileFlaw.FOLDER_OWNER, FileFlaw.LINKS}
"""Flaws by which somebody else may have written a file."""

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
    """A private file that may not be used, or could not be; `flaw` says why."""

    def __init__(self, path: Path, flaw: FileFlaw) -> None:
        super().__init__(f"Cannot use {path}: {flaw.value}.", "Check the file and its folder.")
        self.flaw = flaw


@attrs.frozen(kw_only=True)
class PrivateFileContent:
    """What a private file held, and the loose flaws that were put up with; the reader wipes the bytes."""

    data: SecureBuffer
    mode: int
    flaws: tuple[FileFlaw, ...]


class FileSystemCalls:
    """The system calls that private files are made of; what stands in for the disk in a test has the same."""

    def folder(self, path: Path) -> int:
        """A handle of the folder."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open(self, name: str, flags: int, folder: int) -> int:
        """A handle of the file in the folder; links are not followed, and nothing is waited for."""
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o600, dir_fd=folder)

    def status(self, handle: int) -> os.stat_result:
        """What the system knows of an open file or folder."""
        return os.fstat(handle)

    def read(self, handle: int, target: memoryview) -> int:
        """Fill the target from where the handle stands; how many bytes came, 0 at the end."""
        return os.readv(handle, [target])

    def seek(self, handle: int, position: int) -> None:
        """Let the handle stand at so many bytes from the file's begin."""
        os.lseek(handle, position, os.SEEK_SET)

    def write(self, handle: int, data: bytes | memoryview) -> int:
        """Write from where the handle stands; how many bytes went."""
        return os.write(handle, data)

    def sync(self, handle: int) -> None:
        """Return once the file or folder is on the disk."""
        os.fsync(handle)

    def truncate(self, handle: int, size: int) -> None:
        """Cut an open file to a size."""
        os.ftruncate(handle, size)

    def lock(self, handle: int) -> None:
        """Wait until no other handle has the file's lock, and take it until the handle is closed."""
        fcntl.flock(handle, fcntl.LOCK_EX)

    def rename(self, old: str, new: str, folder: int) -> None:
        """Give a file of the folder another name, in place of whatever bore it."""
        os.rename(old, new, src_dir_fd=folder, dst_dir_fd=folder)

    def remove(self, name: str, folder: int) -> None:
        """Take a file out of the folder."""
        os.unlink(name, dir_fd=folder)

    def close(self, handle: int) -> None:
        """Give a handle back."""
        os.close(handle)


SYSTEM: Final = FileSystemCalls()


def read(
    path: Path, *, limit: int, strict: bool, folder_private: bool = False, system: FileSystemCalls = SYSTEM
) -> PrivateFileContent:
    """The content of a file that is its owner's alone, of at most `limit` bytes.

    Checked on what was opened: a regular file, no link, one name, this user's, mode 0600 or less, in a folder of this
    user's or root's in which nobody else can replace it (with `folder_private`: mode 0700 or less). Loose modes are
    refused when `strict`, else told. Raises PrivateFileError.
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
    """The content of a file whosever it is, with all flaws by which somebody else may have written it.

    A regular file of at most `limit` bytes all the same, and no symbolic link. Raises PrivateFileError.
    """
    with _handles(path, system) as handles:
        folder = _folder(path, handles, system)
        flaws = _folder_flaws(path, system.status(folder), private=False, put_up=FOREIGN_FLAWS)
        handles.append(handle := system.open(path.name, os.O_RDONLY, folder))
        status = system.status(handle)
        flaws += _file_flaws(path, status, limit, FOREIGN_FLAWS)
        data = _fill(path, handle, status.st_size, system)
        return PrivateFileContent(data=data, mode=stat.S_IMODE(status.st_mode), flaws=tuple(flaws))


def folder_looseness(folder: Path, *, system: FileSystemCalls = SYSTEM) -> str:
    """What is loose about a folder that is to be its owner's alone, in a sentence; "" when nothing is."""
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
    """Replace the file by `data`, mode 0600, durably: after any crash the path holds the old or the new.

    What was written is read back and handed to `check` before it takes the old one's place; whatever that raises is
    passed on. One writer at a time: the callers hold a lock. Raises PrivateFileError.
    """
    with _handles(path, system) as handles:
        folder = _folder(path, handles, system)
        _folder_flaws(path, system.status(folder), private=False)
        _replace(path, data, folder, check, system)
        system.sync(folder)


def append(
    path: Path, make: Callable[[bytes | None, bool], bytes], *, reserve: int, system: FileSystemCalls = SYSTEM
) -> None:
    """Add lines at the end of a file that is made when absent, mode 0600, and return once they are on the disk.

    `make` is given the last whole line, None when there is none, and whether a broken one behind it was cut off: what a
    crash left of an append that never returned. It returns what is added; nobody else adds meanwhile.
    `reserve` bytes behind the end are kept for later lines, so that they can be written while the disk is full, where
    the file system can. What fails is taken back. Raises PrivateFileError.
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
    # Where the last whole line ends, and the line; one longer than any that is written is refused.
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
    # Best effort: blocks behind the end, which does not move.
    word = ctypes.c_int64
    fallocate = getattr(ctypes.CDLL(None), "fallocate", lambda *_: None)
    fallocate(ctypes.c_int(handle), ctypes.c_int(_KEEP_SIZE), word(size), word(reserve))


def remove(path: Path, *, system: FileSystemCalls = SYSTEM) -> None:
    """Take the file away, durably; nothing happens when it is not there. Raises PrivateFileError."""
    with _handles(path, system) as handles, suppress(FileNotFoundError):
        folder = _folder(path, handles, system)
        system.remove(path.name, folder)
        system.sync(folder)


@contextmanager
def _handles(path: Path, system: FileSystemCalls) -> Iterator[list[int]]:
    # Handles that are given back at the end; what the system refuses meanwhile is said of the path.
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
    # A leftover of a killed writer, who held the lock that its successor holds now, is in nobody's use.
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
    # By the same handle, so that nobody can slip another file in between.
    system.seek(handle, 0)
    with _fill(path, handle, system.status(handle).st_size, system) as found:
        if found.view != memoryview(data):
            raise PrivateFileError(path, FileFlaw.UNPROVEN)
        check(found.view)


def _fill(path: Path, handle: int, size: int, system: FileSystemCalls) -> SecureBuffer:
    # Exactly the size that was checked: a file that shrinks meanwhile is refused, one that grows is cut.
    data, position = SecureBuffer(size), 0
    while position < size:
        with data.view[position:] as rest:
            came = system.read(handle, rest)
        if not came:
            data.wipe()
            raise PrivateFileError(path, FileFlaw.FAULT)
        position += came
    return data


def _drop(name: str, folder: int, system: FileSystemCalls) -> None:
    # The reason of the failure is what the caller must hear, not that the leftover could not be removed either.
    try:
        system.remove(name, folder)
    except OSError:
        return


def _folder_flaws(
    path: Path, status: os.stat_result, *, private: bool, put_up: frozenset[FileFlaw] = LOOSE_FLAWS
) -> list[FileFlaw]:
    flaws = [] if status.st_uid in {os.geteuid(), 0} else [FileFlaw.FOLDER_OWNER]
    if flaws and FileFlaw.FOLDER_OWNER not in put_up:
        raise PrivateFileError(path, FileFlaw.FOLDER_OWNER)
    mode = stat.S_IMODE(status.st_mode)
    if private and mode & 0o077:
        return [*flaws, FileFlaw.FOLDER_MODE]
    return [*flaws, FileFlaw.FOLDER_OPEN] if mode & 0o022 and not mode & stat.S_ISVTX else flaws


def _file_flaws(
    path: Path, status: os.stat_result, limit: int, put_up: frozenset[FileFlaw] = LOOSE_FLAWS
) -> list[FileFlaw]:
    # What is wrong with a file, the gravest first; raises PrivateFileError for what is not put up with.
    found = {
        FileFlaw.NOT_REGULAR: not stat.S_ISREG(status.st_mode),
        FileFlaw.OWNER: status.st_uid != os.geteuid(),
        FileFlaw.LINKS: status.st_nlink > 1,  # none at all: it was replaced since it was opened, and is what it was
        FileFlaw.TOO_LARGE: status.st_size > limit,
        FileFlaw.MODE: bool(status.st_mode & 0o077),
    }
    flaws = [flaw for flaw, there in found.items() if there]
    for flaw in flaws:
        if flaw not in put_up:
            raise PrivateFileError(path, flaw)
    return flaws
