"""The disk seam: durable writes, clear refusals, one holder of an instance."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from tbot_core.errors import AccessError
from tbot_core.model.clock import SystemClock
from tbot_core.system import environ, filesystem, processes
from tbot_core.system.filesystem import file_system


def test_a_file_written_is_read_back_private_and_alone(tmp_path: Path) -> None:
    """`write_atomic` leaves the content, the mode asked for, and no temporary file."""
    path = tmp_path / "a.txt"
    filesystem.write_atomic(path, b"one")
    filesystem.write_atomic(path, b"two", mode=0o640)
    assert filesystem.read_bytes(path) == b"two"
    assert filesystem.size(path) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert filesystem.entries(tmp_path) == [path]


def given_away(path: Path) -> int:
    """The user who is to own what is at the path, so that it belongs to somebody else."""
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
        return 0
    return os.geteuid() + 1


def test_a_private_folder_is_closed_to_others_or_refused(tmp_path: Path) -> None:
    """An existing one keeps no permission beyond the mode; one of another user is no private folder."""
    folder = tmp_path / "a"
    filesystem.make_private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    filesystem.make_private_folder(folder, mode=0o755)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    user = given_away(folder)
    with pytest.raises(AccessError, match="it belongs to another user"):
        filesystem.make_private_folder(folder, user=user)


def test_what_others_could_change_is_named(tmp_path: Path) -> None:
    """A file that the group may write, and one of another user; to read it is no exposure."""
    path = tmp_path / "a"
    path.write_text("")
    for mode, exposure in ((0o644, None), (0o664, "mode"), (0o602, "mode")):
        path.chmod(mode)
        assert filesystem.write_exposure(path) == exposure
    assert filesystem.belongs_to(tmp_path)
    user = given_away(path)
    assert filesystem.write_exposure(path, user=user) == "owner"
    assert not filesystem.belongs_to(tmp_path, user=user)


def test_a_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    """When the target cannot be replaced nothing is lost and no temporary file stays."""
    target = tmp_path / "folder"
    (target / "inside").mkdir(parents=True)
    with pytest.raises(AccessError, match="Cannot write"):
        filesystem.write_atomic(target, b"x")
    assert filesystem.entries(tmp_path) == [target]


def test_a_byte_order_mark_is_dropped_and_foreign_text_refused(tmp_path: Path) -> None:
    """`read_text` gives UTF-8 without its mark, and names the first byte that is none."""
    path = tmp_path / "a.env"
    path.write_bytes(b"\xef\xbb\xbfKEY=\xc3\xa4")
    assert filesystem.read_text(path) == "KEY=ä"
    path.write_bytes(b"ab\xff")
    with pytest.raises(AccessError, match="byte 2 is not UTF-8"):
        filesystem.read_text(path)


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    """`limit` counts bytes: as many are read, one more is refused."""
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert filesystem.read_bytes(path, limit=5) == b"12345"
    with pytest.raises(AccessError, match="more than 4 bytes"):
        filesystem.read_bytes(path, limit=4)


def test_append_adds_and_remove_takes_away(tmp_path: Path) -> None:
    """`append` makes the file and keeps what it held; `remove` is content when there is nothing."""
    path = tmp_path / "log"
    filesystem.append(path, b"a")
    filesystem.append(path, b"b")
    assert filesystem.read_bytes(path) == b"ab"
    assert filesystem.exists(path)
    assert filesystem.is_folder(tmp_path)
    assert not filesystem.is_folder(path)
    filesystem.remove(path)
    filesystem.remove(path)
    assert not filesystem.exists(path)


def test_folders_are_made_with_those_above_them(tmp_path: Path) -> None:
    """`make_folder` makes the way, privately, and accepts one that stands."""
    path = tmp_path / "a" / "b"
    filesystem.make_folder(path)
    filesystem.make_folder(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_file_is_locked_once(tmp_path: Path) -> None:
    """A second lock is not given while the first is held; a file that is not there is named."""
    file = tmp_path / "file"
    file.touch()
    with filesystem.try_lock(file) as first, filesystem.try_lock(file) as second:
        assert (first, second) == (True, False)
    with filesystem.try_lock(file) as again:
        assert again
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    with pytest.raises(AccessError, match="Cannot lock"), filesystem.try_lock(tmp_path / "absent"):
        pass


def test_only_an_empty_folder_is_removed(tmp_path: Path) -> None:
    """One with content and one that is absent are left alone; a file is refused, and named."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").touch()
    for name in ("empty", "used", "absent"):
        filesystem.remove_empty_folder(tmp_path / name)
    assert [one.name for one in tmp_path.iterdir()] == ["used"]
    with pytest.raises(AccessError, match=r"Cannot remove .*file: Not a directory"):
        filesystem.remove_empty_folder(tmp_path / "used/file")


@pytest.mark.parametrize("deed", [filesystem.read_bytes, filesystem.read_text, filesystem.entries, filesystem.size])
def test_what_is_missing_is_named_with_a_remedy(tmp_path: Path, deed: object) -> None:
    """Every OSError becomes an AccessError with the path and what to do."""
    assert callable(deed)
    with pytest.raises(AccessError) as caught:
        deed(tmp_path / "absent")
    assert str(tmp_path / "absent") in caught.value.message
    assert caught.value.remedy == "Check the path."


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    """The refusal says what is to be moved away."""
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(AccessError, match="Cannot make the folder") as caught:
        filesystem.make_folder(tmp_path / "a")
    assert caught.value.remedy == "A file has the name of a needed folder: move it away."


HOLDER = """
import sys
from pathlib import Path
from tbot_core.errors import AccessError
from tbot_core.system import filesystem
try:
    with filesystem.hold_lock(Path(sys.argv[1])):
        print("held")
except AccessError as fault:
    print(fault)
"""


def test_a_second_process_is_refused_with_the_holders_id(tmp_path: Path) -> None:
    """The lock is for one process; the other reads the holder's id, and gets it once it is free."""
    path = tmp_path / "instance.lock"
    other = [sys.executable, "-c", HOLDER, str(path)]
    with filesystem.hold_lock(path, "simulation"):
        refused = processes.run_program(other, timeout_s=30, environment=environ.minimal_environment())
    admitted = processes.run_program(other, timeout_s=30, environment=environ.minimal_environment())
    assert f"{tmp_path} is in use by another tbot, process {os.getpid()}." in refused.output
    assert admitted.output == "held\n"
    assert not (tmp_path / "instance.lock.pid").exists()


def test_a_holder_that_has_not_written_its_id_is_refused_without_one(tmp_path: Path) -> None:
    """A missing or damaged id file never hides that the instance is held."""
    path = tmp_path / "instance.lock"
    with filesystem.hold_lock(path):
        (tmp_path / "instance.lock.pid").write_bytes(b"?")
        with pytest.raises(AccessError, match=r"in use by another tbot\."), filesystem.hold_lock(path):
            pass


def test_a_lock_that_cannot_be_made_is_an_access_error(tmp_path: Path) -> None:
    """`hold` says why the lock file cannot be there instead of waiting for it."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AccessError, match="Cannot lock"), filesystem.hold_lock(tmp_path / "file" / "instance.lock"):
        pass


def test_a_removed_lock_file_admits_no_other_process(tmp_path: Path) -> None:
    """The folder is locked as well, so that another process is refused, and named by the kernel's table of locks."""
    path = tmp_path / "data" / "instance.lock"
    with filesystem.hold_lock(path, folder=tmp_path):
        path.unlink()
        (tmp_path / "data" / "instance.lock.pid").unlink()
        with pytest.raises(AccessError, match=f"process {os.getpid()}"), filesystem.hold_lock(path, folder=tmp_path):
            pass
        assert filesystem.lock_holder(path, tmp_path) == os.getpid()
        moved = tmp_path.rename(tmp_path.with_name("moved"))
        again = filesystem.hold_lock(moved / "data" / "instance.lock", folder=moved)
        with pytest.raises(AccessError, match="in use by another tbot"), again:
            pass
    with filesystem.hold_lock(moved / "data" / "instance.lock", folder=moved):
        assert filesystem.lock_holder(moved / "data" / "instance.lock", moved) == os.getpid()
    assert filesystem.lock_holder(moved / "data" / "instance.lock", moved) is None


def test_without_a_table_of_locks_the_holder_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another system than Linux: the second process is refused all the same."""
    monkeypatch.setattr(filesystem, "LOCKS", tmp_path / "absent")
    path = tmp_path / "instance.lock"
    with filesystem.hold_lock(path, folder=tmp_path):
        (tmp_path / "instance.lock.pid").unlink()
        with pytest.raises(AccessError, match=r"tbot\."), filesystem.hold_lock(path, folder=tmp_path):
            pass
        assert filesystem.lock_holder(path, tmp_path) is None


@pytest.mark.parametrize(("code", "folder", "locked"), [(errno.EBADF, True, True), (errno.EBADF, False, False)])
def test_a_system_without_locks_of_folders_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, code: int, folder: bool, locked: bool
) -> None:
    """A folder that cannot be locked counts as free; a file that cannot be locked is a fault."""

    def refuse(_handle: int, _operation: int) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    file = tmp_path / "file"
    file.write_bytes(b"")
    outcome = nullcontext() if locked else pytest.raises(AccessError)
    with outcome, filesystem.try_lock(tmp_path if folder else file) as found:
        assert found


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    """For as long as asked, and no longer: the error names the holder."""
    path, clock = tmp_path / "instance.lock", SystemClock()
    begun = clock.monotonic()
    with filesystem.hold_lock(path), pytest.raises(AccessError, match=f"{os.getpid()}"):
        filesystem.hold_lock(path, wait_s=0.06).__enter__()
    assert clock.monotonic() - begun >= 0.06


def test_a_lock_is_free_again_after_a_failure_inside(tmp_path: Path) -> None:
    """An exception under the lock releases it and removes the holder's id."""
    path = tmp_path / "instance.lock"
    with pytest.raises(KeyError), filesystem.hold_lock(path):
        raise KeyError
    with filesystem.hold_lock(path):
        assert filesystem.read_text(tmp_path / "instance.lock.pid") == f"{os.getpid()}\n"


def test_a_scratch_folder_is_private_and_leaves_nothing_behind() -> None:
    """`scratch` gives an empty folder of the owner's alone, and removes it with what was put there."""
    with filesystem.scratch_folder() as folder:
        assert filesystem.entries(folder) == []
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        filesystem.write_atomic(folder / "left.txt", b"x")
    assert not filesystem.exists(folder)


@pytest.mark.parametrize(
    ("path", "kind"), [("/srv/bot", "nfs4"), ("/srv/local/bot", "ext4"), ("/a b/bot", "cifs"), ("/home", "ext4")]
)
def test_f85_the_file_system_of_a_path_is_that_of_its_nearest_mount(path: str, kind: str, tmp_path: Path) -> None:
    """F85: as the kernel lists it, the last of two mounts on one folder; without a list nothing is known."""
    mounts = tmp_path / "mounts"
    rows = ["/dev/a / ext4 rw 0 0", "x /srv ext4 rw 0 0", "server:/b /srv nfs4 rw 0 0", "/dev/c /srv/local ext4 rw 0 0"]
    mounts.write_text("\n".join([*rows, r"//server/b /a\040b cifs rw 0 0"]))
    assert file_system(Path(path), mounts=mounts) == kind
    assert file_system(Path(path), mounts=tmp_path / "none") == ""


def test_f77_room_is_held_whole_or_not_at_all(tmp_path: Path) -> None:
    """F77: the file is as long as was asked; where the disk cannot give it all, there is none."""
    filesystem.preallocate(tmp_path / "held", 4096)
    assert filesystem.size(tmp_path / "held") == 4096
    with pytest.raises(AccessError, match="Cannot allocate"):
        filesystem.preallocate(tmp_path / "more", 2**62)
    assert not filesystem.exists(tmp_path / "more")


def test_a_passing_file_is_private_and_gone_at_the_end(tmp_path: Path) -> None:
    """Unless it was renamed; one that exists is not touched."""
    path = tmp_path / "passing"
    with filesystem.passing_file(path) as write:
        write(b"some")
        write(b" bytes")
        assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"some bytes", 0o600)
        with pytest.raises(AccessError, match="Cannot write"), filesystem.passing_file(path):
            pass
        assert path.exists()
    assert not path.exists()
    with filesystem.passing_file(path) as write:
        write(b"kept")
        filesystem.rename(path, tmp_path / "kept")
    assert [one.name for one in tmp_path.iterdir()] == ["kept"]


def test_a_passing_file_on_a_full_disk_is_an_access_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the remedy; nothing is left."""

    def full(_handle: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with filesystem.passing_file(tmp_path / "passing") as write, pytest.raises(AccessError, match="The disk is full"):
        write(b"some")
    assert list(tmp_path.iterdir()) == []
