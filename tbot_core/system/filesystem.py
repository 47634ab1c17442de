"""Access to files and folders, and of which type their file system is.

Every OSError becomes an AccessError that names the path.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Literal

from tbot_core.errors import AccessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Exposure = Literal["owner", "mode"]
LOCKS: Final = Path("/proc/locks")
"""The kernel's table of locks."""

_NO_FOLDER_LOCKS: Final = frozenset({errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP})
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
NOWHERE: Final = os.devnull
"""A path below which nothing can be read or written."""

_REMEDIES: Final = {
    errno.ENOENT: "Check the path.",
    errno.EEXIST: "A file has the name of a needed folder: move it away.",
    errno.EACCES: "Give the user who runs tbot the permission.",
    errno.EPERM: "Give the user who runs tbot the permission.",
    errno.EROFS: "The file system is read-only: choose another folder, or mount it writable.",
    errno.ENOSPC: "The disk is full: free some space.",
    errno.EDQUOT: "The disk quota is used up: free some space.",
    errno.EISDIR: "It is a folder: give a file, or move the folder away.",
    errno.ENOTDIR: "A part of the path is a file: give a folder.",
    errno.ELOOP: "The path contains a loop of links.",
}
MOUNTS: Final = Path("/proc/mounts")
_NETWORK_NAMES: Final = (
    "9p afs beegfs ceph cifs fuse.ceph fuse.cephfs fuse.glusterfs fuse.s3fs "
    "fuse.sshfs gfs2 glusterfs lustre nfs nfs4 ocfs2 smb2 smb3 smbfs"
)
NETWORKS: Final = frozenset(_NETWORK_NAMES.split())
"""File systems served by, or shared with, other machines."""


class _Faults:
    # A class, since a generator-based context manager is several times slower, and this runs every second.
    __slots__ = ("_action", "_path")

    def __init__(self, action: str, path: Path) -> None:
        self._action, self._path = action, path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> None:
        if isinstance(fault, OSError):
            reason = fault.strerror or type(fault).__name__
            remedy = _REMEDIES.get(fault.errno or 0, "Check the path and the disk.")
            raise AccessError(f"Cannot {self._action} {self._path}: {reason}.", remedy) from fault


def raising_access_errors(action: str, path: Path) -> _Faults:
    """Turn an OSError raised inside into an AccessError: "Cannot `action` `path`", the system's reason, a remedy."""
    return _Faults(action, path)


def exists(path: Path) -> bool:
    """Whether a file or folder exists at the path; links are followed."""
    with raising_access_errors("look at", path):
        return path.exists()


def is_present(path: Path) -> bool:
    """Whether anything has that name, including a broken link."""
    with raising_access_errors("look at", path):
        return os.path.lexists(path)


def is_link(path: Path) -> bool:
    """Whether the path is a symbolic link, also a broken one."""
    with raising_access_errors("look at", path):
        return path.is_symlink()


def is_visible(path: Path) -> bool:
    """Whether anything has that name; raises AccessError when that cannot be determined, as in a locked folder."""
    with raising_access_errors("look at", path):
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def is_folder(path: Path) -> bool:
    """Whether the path is a folder."""
    with raising_access_errors("look at", path):
        return path.is_dir()


def is_endless(path: Path) -> bool:
    """Whether the path is a pipe, socket or device; reading one could block forever."""
    with raising_access_errors("look at", path):
        try:
            mode = path.stat().st_mode
        except OSError as fault:
            if fault.errno in _ABSENT:
                return False
            raise
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_writable_folder(path: Path) -> bool:
    """Whether files can be created in the folder, or in the nearest one above that exists."""
    with raising_access_errors("look at", path):
        while not os.path.lexists(path) and path != path.parent:
            path = path.parent
        return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


def size(path: Path) -> int:
    """The size of a file in bytes."""
    with raising_access_errors("look at", path):
        return path.stat().st_size


def modified(path: Path) -> float:
    """When the content last changed, in epoch seconds; used to find the newer of two files."""
    with raising_access_errors("look at", path):
        return path.stat().st_mtime


def revision(path: Path) -> tuple[float, int] | None:
    """When a file's content last changed, in epoch seconds, and its size; None without the file."""
    with raising_access_errors("look at", path):
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_mtime, found.st_size


def free_bytes(path: Path) -> int:
    """The space available to this user on the path's file system."""
    with raising_access_errors("look at", path):
        return shutil.disk_usage(path).free


def read_bytes(path: Path, *, limit: int | None = None) -> bytes:
    """Read the whole file; AccessError when it exceeds `limit` bytes, and for a pipe, socket or device."""
    if is_endless(path):
        raise AccessError(f"Cannot read {path}: it is a pipe, a socket or a device.", "Give a regular file.")
    with raising_access_errors("read", path), path.open("rb") as file:
        data = file.read() if limit is None else file.read(limit + 1)
    if limit is not None and len(data) > limit:
        raise AccessError(f"Cannot read {path}: it holds more than {limit} bytes.", "Check that it is the right file.")
    return data


def read_text(path: Path) -> str:
    """Read the whole file as UTF-8 text, without a byte order mark; AccessError when it is not UTF-8."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        message = f"Cannot read {path}: byte {fault.start} is not UTF-8 text."
        raise AccessError(message, "Save the file as UTF-8.") from fault


@contextmanager
def replacing(path: Path, *, mode: int = 0o600, settles: bool = True) -> Iterator[IO[bytes]]:
    """Write a file that takes the place of the path's durably when the context ends; after an error nothing is left.

    After a crash the path holds the old content or the new, never a part. Without `settles` the new content counts once
    the folder was settled.
    """
    with raising_access_errors("write", path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    if settles:
        settle(path.parent)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600, settles: bool = True) -> None:
    """Replace the file durably, as `replacing` does."""
    with replacing(path, mode=mode, settles=settles) as file:
        file.write(data)


def settle(folder: Path) -> None:
    """Make the names in a folder durable: a rename is only after that."""
    with raising_access_errors("write", folder):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def append(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Append `data`, creating the file if absent; returns once it is on the disk."""
    with raising_access_errors("write", path):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode)
        with os.fdopen(handle, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def overwrite(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write `data` at the file's start, creating it if absent, without waiting for the disk."""
    with raising_access_errors("write", path), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, mode), "wb") as file:
        file.write(data)


def replace(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace the file atomically for readers, without waiting for the disk; a power cut may lose it."""
    beside = path.with_name(f".{path.name}.new")
    with raising_access_errors("write", path):
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(data)
        beside.replace(path)


def keep_end(path: Path, most: int) -> None:
    """Shorten a file that others append to, once it has more than `most` bytes: the last half of them stays.

    What is appended at that very moment may be lost. Does nothing where there is no file.
    """
    with raising_access_errors("shorten", path), suppress(FileNotFoundError), path.open("r+b") as file:
        if (size := file.seek(0, os.SEEK_END)) <= most:
            return
        file.seek(size - most // 2)
        end = file.read().partition(b"\n")[2]
        file.seek(0)
        file.truncate()
        file.write(end)


def preallocate(path: Path, size: int, *, mode: int = 0o600) -> None:
    """Create a file whose `size` bytes are allocated; nothing is left when they are not available."""
    with raising_access_errors("allocate", path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(handle)


@contextmanager
def passing_file(path: Path, *, mode: int = 0o600) -> Iterator[Callable[[bytes], None]]:
    """Create a file and yield what appends to it, without waiting for the disk; it is removed when the context ends.

    One that has got another name by then stays. Raises AccessError if the path exists.
    """
    with raising_access_errors("write", path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)

    def write(data: bytes) -> None:
        with raising_access_errors("write", path):
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(handle, rest) :]

    try:
        yield write
    finally:
        os.close(handle)
        remove(path)


def rename(path: Path, to: Path) -> None:
    """Give a file another name on the same file system; a file that has it is replaced."""
    with raising_access_errors("rename", path):
        path.replace(to)


def make_folder(path: Path, *, mode: int = 0o700) -> None:
    """Create the folder and its parents; an existing one is left unchanged."""
    with raising_access_errors("make the folder", path):
        path.mkdir(mode=mode, parents=True, exist_ok=True)


def make_private_folder(path: Path, *, mode: int = 0o700, user: int | None = None) -> None:
    """Create the folder and its parents; an existing one loses the permissions beyond `mode`.

    Raises AccessError if it belongs to another user than `user` (None: this one) and root.
    """
    make_folder(path, mode=mode)
    if write_exposure(path, user=user) == "owner":
        raise AccessError(f"Cannot use {path}: it belongs to another user.", "Choose another folder, or chown it.")
    with raising_access_errors("change the mode of", path):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & mode)


def write_exposure(path: Path, *, user: int | None = None) -> Exposure | None:
    """Why somebody else could change a file or folder: its owner, or its mode; None if only `user` and root can.

    `user` None means this one. Links are followed.
    """
    with raising_access_errors("look at", path):
        status = path.stat()
    if status.st_uid not in {os.geteuid() if user is None else user, 0}:
        return "owner"
    return "mode" if status.st_mode & 0o022 else None


def belongs_to(folder: Path, *, user: int | None = None) -> bool:
    """Whether everything below the folder belongs to `user` (None: this one) or root; links are not followed."""
    owners = {os.geteuid() if user is None else user, 0}
    with raising_access_errors("list", folder):
        return all(path.lstat().st_uid in owners for path in folder.rglob("*"))


def entries(folder: Path) -> list[Path]:
    """The entries of the folder, sorted by name."""
    with raising_access_errors("list", folder):
        return sorted(folder.iterdir(), key=lambda path: path.name)


def files(folder: Path) -> list[Path]:
    """Every regular file below the folder, sorted; links are not followed."""
    with raising_access_errors("list", folder):
        return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def remove(path: Path) -> None:
    """Remove the file, if it exists."""
    with raising_access_errors("remove", path):
        path.unlink(missing_ok=True)


def remove_empty_folder(path: Path) -> None:
    """Remove the folder if it exists and is empty."""
    with raising_access_errors("remove", path):
        try:
            path.rmdir()
        except OSError as fault:
            if fault.errno not in {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}:
                raise


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Create a private folder outside the instance; it is removed with its content at the end."""
    with raising_access_errors("make a scratch folder in", Path(tempfile.gettempdir())):
        folder = tempfile.TemporaryDirectory(prefix="tbot-", ignore_cleanup_errors=True)
    with folder as name:
        yield Path(name)


@contextmanager
def hold_lock(
    path: Path, purpose: str = "", *, folder: Path | None = None, wait_s: float = 0
) -> Iterator[Callable[[str], None]]:
    """Hold the lock file at `path`; the kernel releases it when the process ends in any way.

    Creates a missing folder; writes process id and `purpose` to `path` + ".pid". Yields what replaces the purpose.
    `folder` is locked as well: unlike a file it cannot be removed with what is in it, so that a removed lock file
    admits no second one. Raises AccessError, naming the holder, when another process or context holds the lock after
    `wait_s` seconds.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=wait_s, mode=0o600)
    owner = _owner(path)
    with raising_access_errors("lock", path):
        try:
            lock.acquire()
        except Timeout as fault:
            raise _in_use(path, folder) from fault

    def say(purpose: str) -> None:
        write_atomic(owner, "".join(f"{line}\n" for line in (os.getpid(), purpose) if line).encode())

    with ExitStack() as held:
        held.callback(lock.release)
        if folder is not None and not held.enter_context(try_lock(folder)):
            raise _in_use(path, folder)
        held.callback(remove, owner)
        say(purpose)
        yield say


@contextmanager
def try_lock(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Lock an existing file or folder while the context lasts; yields False where another process, or context, has.

    With `shared` others may lock it so at the same time. The kernel releases the lock when the process ends in any way;
    no file is added. A folder on a file system that locks files only, as that of another machine, counts as free.
    """
    with raising_access_errors("lock", path):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with raising_access_errors("lock", path):
            locked = _is_locked(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield locked
    finally:
        os.close(handle)


def lock_holder(path: Path, folder: Path | None = None) -> int | None:
    """The process id that holds the lock file at `path`; None without one. The lock itself is not touched.

    Where its process id was removed, the kernel's table of locks says who has locked `folder`.
    """
    try:
        number = int(_held(_owner(path))[0])
    except (AccessError, ValueError):
        return None if folder is None else locker(folder)
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return number  # it runs as another user
    return number


def lock_purpose(path: Path) -> str:
    """The purpose given by the holder of the lock file at `path`; "" without one."""
    with suppress(AccessError, ValueError):
        return _held(_owner(path))[1]
    return ""


def locker(folder: Path) -> int | None:
    """The process that has locked a folder, by the kernel's table; None without one, or where that does not say."""
    try:
        status, rows = folder.stat(), LOCKS.read_text().splitlines()
    except OSError:
        return None
    inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for row in rows:
        _, kind, *_, process, what, _, _ = row.split()
        if kind == "FLOCK" and what == inode and process.isdecimal() and int(process):
            return int(process)
    return None


def file_system(path: Path, *, mounts: Path = MOUNTS) -> str:
    """The type of the path's file system, as the kernel names it; "" if unknown."""
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return ""
    with raising_access_errors("look at", path):
        whole = path.resolve()
    # A blank in a mount point is written as \040; of two mounts on one folder the last is visible.
    kinds = {Path(row[1].replace("\\040", " ")): row[2] for row in rows}
    return next((kinds[one] for one in (whole, *whole.parents) if one in kinds), "")


def _is_locked(handle: int, how: int) -> bool:
    # Whether the lock was free, and is held by this handle now.
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as fault:
        if fault.errno not in _NO_FOLDER_LOCKS or not stat.S_ISDIR(os.fstat(handle).st_mode):
            raise
    return True


def _owner(path: Path) -> Path:
    return path.with_name(f"{path.name}.pid")


def _held(owner: Path) -> tuple[str, str]:
    # Process id and purpose written beside a lock file.
    number, _, word = read_bytes(owner, limit=100).decode().partition("\n")
    return number, word.strip()


def _in_use(path: Path, folder: Path | None) -> AccessError:
    # The id is written after the lock is acquired, so it may be missing for a moment.
    holder = ""
    with suppress(AccessError, ValueError):
        holder = _held(_owner(path))[0]
    number = int(holder) if holder.isdecimal() else None if folder is None else locker(folder)
    named = "" if number is None else f", process {number}"
    return AccessError(f"{path.parent} is in use by another tbot{named}.", "Stop that one, or choose another --home.")
