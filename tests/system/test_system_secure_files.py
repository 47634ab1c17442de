"""Private files: checked on the opened handle, replaced whole or not at all, appended to even on a full disk."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.system import secure_files
from tbot_core.system.secure_files import FileFlaw, FileSystemCalls, PrivateFileError

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS = list(os.stat_result((0,) * 10))


class Failing(FileSystemCalls):
    """A disk on which one call of a name, counted from 0, fails or answers something else."""

    def __init__(self, name: str, answer: Any, number: int = 0) -> None:
        self._left = number
        self._name = name
        kept = getattr(super(), name)

        def call(*args: Any) -> Any:
            self._left -= 1
            if self._left == -1:
                if isinstance(answer, BaseException):
                    raise answer
                return answer(*args)
            return kept(*args)

        setattr(self, name, call)


def fault(number: int) -> OSError:
    """What the system says with that number."""
    return OSError(number, os.strerror(number))


def owned_by(user: int) -> Callable[[int], os.stat_result]:
    """A status of somebody else's."""

    def status(handle: int) -> os.stat_result:
        values = list(os.fstat(handle))
        values[stat.ST_UID] = user
        return os.stat_result(values)

    return status


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A private file in a private folder."""
    tmp_path.chmod(0o700)
    file = tmp_path / "a.key"
    file.write_bytes(b"content")
    file.chmod(0o600)
    return file


def read(path: Path, *, limit: int = 7, strict: bool = True, system: FileSystemCalls = secure_files.SYSTEM) -> bytes:
    """The content, with a private folder demanded."""
    with secure_files.read(path, limit=limit, strict=strict, folder_private=True, system=system).data as data:
        return bytes(data.view)


def flaw_of(deed: Callable[[], object]) -> FileFlaw:
    """Why a deed was refused."""
    with pytest.raises(PrivateFileError) as refused:
        deed()
    return refused.value.flaw


def test_a_private_file_is_read(path: Path) -> None:
    """A regular file of ours, 0600, in a folder of ours, 0700, is read up to the limit, and no handle stays open."""
    before = list(Path("/proc/self/fd").iterdir()) if sys.platform == "linux" else []
    content = secure_files.read(path, limit=7, strict=True, folder_private=True)
    assert (bytes(content.data.view), content.mode, content.flaws) == (b"content", 0o600, ())
    assert flaw_of(lambda: read(path, limit=6)) is FileFlaw.TOO_LARGE
    after = list(Path("/proc/self/fd").iterdir()) if sys.platform == "linux" else []
    assert len(after) == len(before)


def test_an_empty_file_is_read(path: Path) -> None:
    """Nothing is what it holds."""
    path.write_bytes(b"")
    assert read(path) == b""


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o602, 0o601, 0o666])
def test_loose_modes_are_refused_or_reported(path: Path, mode: int) -> None:
    """What others may do with a file refuses it when strict, and is reported otherwise."""
    path.chmod(mode)
    assert flaw_of(lambda: read(path)) is FileFlaw.MODE
    content = secure_files.read(path, limit=7, strict=False)
    assert (content.flaws, content.mode) == ((FileFlaw.MODE,), mode)


@pytest.mark.parametrize(
    ("mode", "private_flaw", "flaw"),
    [
        (0o750, FileFlaw.FOLDER_MODE, None),
        (0o701, FileFlaw.FOLDER_MODE, None),
        (0o777, FileFlaw.FOLDER_MODE, FileFlaw.FOLDER_OPEN),
        (0o720, FileFlaw.FOLDER_MODE, FileFlaw.FOLDER_OPEN),
        (0o702, FileFlaw.FOLDER_MODE, FileFlaw.FOLDER_OPEN),
        (0o1777, FileFlaw.FOLDER_MODE, None),
    ],
)
def test_a_folders_mode_counts(path: Path, mode: int, private_flaw: FileFlaw, flaw: FileFlaw | None) -> None:
    """Others cannot enter a private folder; in any other folder they cannot replace what lies in it."""
    path.parent.chmod(mode)
    assert flaw_of(lambda: read(path)) is private_flaw
    assert secure_files.read(path, limit=7, strict=False).flaws == ((flaw,) if flaw else ())
    assert secure_files.read(path, limit=7, strict=False, folder_private=True).flaws == (private_flaw,)


def test_links_of_either_kind_are_refused_even_when_not_strict(path: Path) -> None:
    """A symbolic link is not followed, nor one that leads nowhere; a second name is a second way to change the file."""
    link = path.with_name("link")
    link.symlink_to(path)
    assert flaw_of(lambda: read(link, strict=False)) is FileFlaw.SYMLINK
    path.rename(path.with_name("gone"))
    assert flaw_of(lambda: read(link, strict=False)) is FileFlaw.SYMLINK
    gone = path.with_name("gone")
    path.hardlink_to(gone)
    assert flaw_of(lambda: read(path, strict=False)) is FileFlaw.LINKS


def test_what_is_no_file_is_refused_without_waiting(path: Path, tmp_path: Path) -> None:
    """A FIFO, a folder, a socket and a device are refused at once, whatever is at their other end."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder"):
        assert flaw_of(lambda name=name: read(tmp_path / name, strict=False)) is FileFlaw.NOT_REGULAR  # type: ignore[misc]
    assert flaw_of(lambda: secure_files.read(Path("/dev/null"), limit=1, strict=False)) is FileFlaw.NOT_REGULAR
    system = Failing("open", fault(errno.ENXIO))
    assert flaw_of(lambda: read(path, system=system)) is FileFlaw.NOT_REGULAR


def test_what_is_missing_is_said(path: Path) -> None:
    """The file, or its folder."""
    path.unlink()
    assert flaw_of(lambda: read(path)) is FileFlaw.MISSING
    assert flaw_of(lambda: read(path / "x")) is FileFlaw.FOLDER_MISSING
    path.write_bytes(b"")
    assert flaw_of(lambda: read(path / "x")) is FileFlaw.FOLDER_MISSING


def test_another_users_file_or_folder_is_refused(path: Path) -> None:
    """Even when not strict; a folder may also be root's."""
    foreign = owned_by(os.geteuid() + 1)
    assert flaw_of(lambda: read(path, strict=False, system=Failing("status", foreign))) is FileFlaw.FOLDER_OWNER
    assert flaw_of(lambda: read(path, strict=False, system=Failing("status", foreign, 1))) is FileFlaw.OWNER
    assert read(path, system=Failing("status", owned_by(0))) == b"content"


@pytest.mark.parametrize(
    ("number", "flaw"),
    [
        (errno.EACCES, FileFlaw.DENIED),
        (errno.EPERM, FileFlaw.DENIED),
        (errno.EIO, FileFlaw.FAULT),
        (errno.ENOSPC, FileFlaw.FULL),
        (errno.EDQUOT, FileFlaw.FULL),
        (errno.EROFS, FileFlaw.READ_ONLY),
    ],
)
def test_what_the_system_refuses_has_its_flaw(path: Path, number: int, flaw: FileFlaw) -> None:
    """Each reason of the system is distinguished, in reading and in writing, and the old file stays."""
    assert flaw_of(lambda: read(path, system=Failing("open", fault(number)))) is flaw
    for name in ("folder", "open", "status", "write", "sync", "seek", "read", "rename"):
        assert flaw_of(lambda name=name: write(path, system=Failing(name, fault(number)))) is flaw  # type: ignore[misc]
        assert [it.name for it in path.parent.iterdir()] == ["a.key"]
        assert read(path) == b"content"


def test_a_file_that_shrinks_while_it_is_read_is_refused(path: Path) -> None:
    """The size that was checked is read, no less; in pieces when the system gives pieces."""
    assert flaw_of(lambda: read(path, system=Failing("read", lambda *_: 0))) is FileFlaw.FAULT
    pieces = Failing("read", lambda handle, target: os.readv(handle, [target[:3]]))
    assert read(path, system=pieces) == b"content"


def write(path: Path, data: bytes = b"new", *, system: FileSystemCalls = secure_files.SYSTEM) -> None:
    """Write without a check of the content."""
    secure_files.write(path, data, check=lambda _: None, system=system)


def test_a_file_is_replaced_whole(path: Path) -> None:
    """The new content is there, 0600 whatever the mask, alone in its folder, and its links are gone."""
    mask = os.umask(0)
    try:
        write(path)
    finally:
        os.umask(mask)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)
    assert list(path.parent.iterdir()) == [path]


def test_what_was_written_is_checked_before_it_counts(path: Path) -> None:
    """The check sees what stands on the disk; what it raises leaves the old file, and no other beside it."""
    seen: list[bytes] = []
    secure_files.write(path, b"new", check=lambda data: seen.append(bytes(data)))
    assert seen == [b"new"]

    def refuse(_: memoryview) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        secure_files.write(path, b"newer", check=refuse)
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_what_does_not_read_back_is_refused(path: Path) -> None:
    """Other bytes of the same size, or another size, are not put in the old file's place."""
    wrong = Failing("write", lambda handle, _: os.write(handle, b"wen"))
    assert flaw_of(lambda: write(path, system=wrong)) is FileFlaw.UNPROVEN
    more = Failing("write", lambda handle, data: os.write(handle, bytes(data) + b"x") - 1)
    assert flaw_of(lambda: write(path, system=more)) is FileFlaw.UNPROVEN
    assert path.read_bytes() == b"content"


def test_short_writes_are_gone_on_with_and_an_empty_one_is_a_fault(path: Path) -> None:
    """The system may take a part; when it takes nothing, the disk has failed."""
    write(path, b"three", system=Failing("write", lambda handle, data: os.write(handle, data[:2])))
    assert path.read_bytes() == b"three"
    assert flaw_of(lambda: write(path, system=Failing("write", lambda *_: 0))) is FileFlaw.FAULT
    assert path.read_bytes() == b"three"


def test_a_leftover_of_a_killed_writer_is_replaced(path: Path) -> None:
    """It is not in use, be it a file or a link to one."""
    new = path.with_name(".a.key.new")
    new.write_bytes(b"half")
    write(path)
    victim = path.with_name("victim")
    victim.write_bytes(b"mine")
    new.symlink_to(victim)
    write(path, b"newer")
    assert (path.read_bytes(), victim.read_bytes(), new.exists()) == (b"newer", b"mine", False)


def test_a_leftover_that_cannot_be_removed_hides_no_reason(path: Path) -> None:
    """When both the write and the clearing up fail, the write's reason is reported."""
    system = Failing("write", fault(errno.ENOSPC))
    system.remove = Failing("remove", fault(errno.EIO)).remove  # type: ignore[method-assign]
    assert flaw_of(lambda: write(path, system=system)) is FileFlaw.FULL


def test_the_folder_is_on_the_disk_before_a_write_returns(path: Path) -> None:
    """A rename that is not durable is no success: the file's and the folder's sync are both waited for."""
    synced: list[int] = []

    class Watched(FileSystemCalls):
        def sync(self, handle: int) -> None:
            synced.append(stat.S_IFMT(os.fstat(handle).st_mode))
            super().sync(handle)

    system = Watched()
    write(path, system=system)
    assert synced == [stat.S_IFREG, stat.S_IFDIR]
    assert flaw_of(lambda: write(path, b"x", system=Failing("sync", fault(errno.EIO), 1))) is FileFlaw.FAULT


def test_a_file_is_removed_durably(path: Path) -> None:
    """Once; a second time nothing happens, and what the system refuses is reported."""
    assert (
        flaw_of(lambda: secure_files.remove(path, system=Failing("remove", fault(errno.EROFS)))) is FileFlaw.READ_ONLY
    )
    assert flaw_of(lambda: secure_files.remove(path / "x")) is FileFlaw.FOLDER_MISSING
    secure_files.remove(path)
    secure_files.remove(path)
    assert not path.exists()
    assert flaw_of(lambda: secure_files.remove(path.parent / "no" / "x")) is FileFlaw.FOLDER_MISSING


def add(path: Path, line: bytes, *, system: FileSystemCalls = secure_files.SYSTEM) -> tuple[bytes | None, bool]:
    """Append a line, and return what was said to stand before it."""
    said: list[tuple[bytes | None, bool]] = []

    def make(last: bytes | None, torn: bool) -> bytes:
        said.append((last, torn))
        return line + b"\n"

    secure_files.append(path, make, reserve=8192, system=system)
    return said[0]


def test_lines_are_added_each_after_the_last(path: Path) -> None:
    """The writer of the next line gets the last whole one; what a crash left of another is cut off."""
    log = path.with_name("log")
    assert add(log, b"one") == (None, False)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert add(log, b"two") == (b"one", False)
    with log.open("ab") as file:
        file.write(b"thr")
    assert add(log, b"three") == (b"two", True)
    assert log.read_bytes() == b"one\ntwo\nthree\n"
    log.write_bytes(b"on")
    assert add(log, b"one") == (None, True)
    assert log.read_bytes() == b"one\n"


def test_a_long_log_is_read_at_its_end_alone(path: Path) -> None:
    """However long it is; a line longer than any that is written is refused, not cut."""
    path.write_bytes(b"x\n" * 100_000 + b"last\n")
    assert add(path, b"new") == (b"last", False)
    path.write_bytes(b"a\n" + b"x" * 70_000)
    assert flaw_of(lambda: add(path, b"new")) is FileFlaw.UNPROVEN
    assert path.stat().st_size == 70_002


@pytest.mark.parametrize("name", ["folder", "open", "lock", "status", "seek", "write", "sync"])
def test_an_append_that_fails_leaves_the_log_as_it_was(path: Path, name: str) -> None:
    """Whichever call fails, and also when half a line was written and cannot be taken back."""
    path.write_bytes(b"one\n")
    assert flaw_of(lambda: add(path, b"two", system=Failing(name, fault(errno.ENOSPC)))) is FileFlaw.FULL
    assert path.read_bytes() == b"one\n"


def test_half_a_line_is_taken_back(path: Path) -> None:
    """When the disk fills up inside a line, the line goes; if even that fails, the next append cuts it off."""
    path.write_bytes(b"one\n")
    half = Failing("write", lambda handle, data: os.write(handle, data[:2]))
    half.sync = Failing("sync", fault(errno.ENOSPC)).sync  # type: ignore[method-assign]
    assert flaw_of(lambda: add(path, b"two", system=half)) is FileFlaw.FULL
    assert path.read_bytes() == b"one\n"
    stuck = Failing("sync", fault(errno.EIO))
    stuck.truncate = Failing("truncate", fault(errno.EIO)).truncate  # type: ignore[method-assign]
    assert flaw_of(lambda: add(path, b"two", system=stuck)) is FileFlaw.FAULT


def test_room_is_kept_behind_the_end(path: Path) -> None:
    """Blocks are reserved where the file system can, and the size stays what was written."""
    add(path.with_name("log"), b"one")
    status = path.with_name("log").stat()
    assert status.st_size == 4
    if sys.platform == "linux":
        assert status.st_blocks * 512 >= 8192
    for number in range(9):
        add(path.with_name("log"), str(number).encode() * 1000)
    assert status.st_blocks * 512 >= 8192


@pytest.fixture
def small_disk(mounted: Callable[[str], Path]) -> Path:
    """A file system of 256 KiB."""
    return mounted("256k")


def test_a_full_disk_leaves_the_old_file_and_lets_the_log_go_on(small_disk: Path) -> None:
    """On a disk without room a write is refused and the old file whole; the log has its reserve."""
    file, log = small_disk / "a.key", small_disk / "log"
    write(file, b"old")
    add(log, b"one")
    with pytest.raises(OSError, match="No space"):
        (small_disk / "ballast").write_bytes(bytes(262_144))
    assert flaw_of(lambda: write(file, b"x" * 8192)) is FileFlaw.FULL
    assert file.read_bytes() == b"old"
    for number in range(5):
        add(log, str(number).encode() * 1000)
    assert log.stat().st_size == 4 + 5 * 1001


def test_a_folder_that_others_may_use_is_said(tmp_path: Path) -> None:
    """Its owner's alone: nothing; a loose mode, another owner, a file and a fault of the disk: each a sentence."""
    folder = tmp_path / "control"
    folder.mkdir(mode=0o700)
    assert secure_files.folder_looseness(folder) == ""
    folder.chmod(0o750)
    assert FileFlaw.FOLDER_MODE.value in secure_files.folder_looseness(folder)

    def foreign(handle: int) -> os.stat_result:
        found = list(os.fstat(handle))
        found[stat.ST_UID] = os.geteuid() + 4711
        return os.stat_result(found)

    assert FileFlaw.FOLDER_OWNER.value in secure_files.folder_looseness(folder, system=Failing("status", foreign))
    (tmp_path / "file").touch()
    assert "Not a directory" in secure_files.folder_looseness(tmp_path / "file")


@pytest.mark.parametrize(
    ("place", "field", "value", "flaws"),
    [
        (0, stat.ST_UID, os.geteuid() + 4711, (FileFlaw.FOLDER_OWNER,)),
        (1, stat.ST_UID, os.geteuid() + 4711, (FileFlaw.OWNER,)),
        (1, stat.ST_NLINK, 2, (FileFlaw.LINKS,)),
        (0, stat.ST_MODE, stat.S_IFDIR | 0o777, (FileFlaw.FOLDER_OPEN,)),
        (1, stat.ST_MODE, stat.S_IFREG | 0o666, (FileFlaw.MODE,)),
        (1, stat.ST_UID, os.geteuid(), ()),
    ],
)
def test_whosever_a_file_is_its_content_comes_with_its_flaws(
    path: Path, place: int, field: int, value: int, flaws: tuple[FileFlaw, ...]
) -> None:
    """The folder is looked at first, then the file: each flaw by which somebody else may have written it is named."""

    def odd(handle: int) -> os.stat_result:
        found = list(os.fstat(handle))
        found[field] = value
        return os.stat_result(found)

    content = secure_files.inspect(path, limit=7, system=Failing("status", odd, place))
    assert (bytes(content.data.view), content.flaws) == (b"content", flaws)


def test_what_is_no_file_of_its_size_is_not_inspected(path: Path) -> None:
    """A link, a folder, one that is too large and one that is not there are refused, in every mode."""
    link = path.with_name("link")
    link.symlink_to(path)
    assert flaw_of(lambda: secure_files.inspect(link, limit=7)) is FileFlaw.SYMLINK
    assert flaw_of(lambda: secure_files.inspect(path.parent, limit=7)) is FileFlaw.NOT_REGULAR
    assert flaw_of(lambda: secure_files.inspect(path, limit=6)) is FileFlaw.TOO_LARGE
    assert flaw_of(lambda: secure_files.inspect(path.with_name("none"), limit=7)) is FileFlaw.MISSING
