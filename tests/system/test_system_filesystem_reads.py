"""What the disk seam can say of files without opening them: who holds a lock, when, how much room."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import filesystem


def test_the_holder_of_a_lock_is_named_while_it_lives(tmp_path: Path) -> None:
    """No process before, this process while it holds the lock, none after."""
    lock = tmp_path / "data" / "tbot.lock"
    assert filesystem.lock_holder(lock) is None
    assert filesystem.lock_purpose(lock) == ""
    with filesystem.hold_lock(lock):
        assert (filesystem.lock_holder(lock), filesystem.lock_purpose(lock)) == (os.getpid(), "")
    with filesystem.hold_lock(lock, "simulation") as say:
        assert (filesystem.lock_holder(lock), filesystem.lock_purpose(lock)) == (os.getpid(), "simulation")
        say("another")
        assert (filesystem.lock_holder(lock), filesystem.lock_purpose(lock)) == (os.getpid(), "another")
    assert filesystem.lock_holder(lock) is None


def test_a_holder_that_died_is_none(tmp_path: Path) -> None:
    """What a killed process left behind, or a file that is no number, names no process."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    (tmp_path / "tbot.lock.pid").write_text(f"{child.pid}\n")
    assert filesystem.lock_holder(tmp_path / "tbot.lock") is None
    (tmp_path / "tbot.lock.pid").write_text("who knows\n")
    assert filesystem.lock_holder(tmp_path / "tbot.lock") is None


def test_a_holder_of_another_user_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may not be signalled lives all the same."""

    def refuse(_number: int, _signal: int) -> None:
        raise PermissionError

    (tmp_path / "tbot.lock.pid").write_text("1\n")
    monkeypatch.setattr(os, "kill", refuse)
    assert filesystem.lock_holder(tmp_path / "tbot.lock") == 1


def test_the_newer_of_two_files_has_the_later_time(tmp_path: Path) -> None:
    """Times of files compare as they were written."""
    old, new = tmp_path / "old", tmp_path / "new"
    for path, when in ((old, 1_000), (new, 2_000)):
        path.touch()
        os.utime(path, (when, when))
    assert filesystem.modified(old) < filesystem.modified(new)
    with pytest.raises(AccessError, match="absent"):
        filesystem.modified(tmp_path / "absent")


def test_the_revision_of_a_file_changes_with_it(tmp_path: Path) -> None:
    """Time and size; none without the file, also where a part of the path is no folder, and an error for a loop."""
    path = tmp_path / "a"
    assert filesystem.revision(path) is filesystem.revision(path / "below") is None
    path.write_text("12")
    os.utime(path, (1_000, 1_000))
    assert filesystem.revision(path) == (1_000.0, 2)
    assert filesystem.revision(path / "below") is None
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(AccessError, match="loop"):
        filesystem.revision(tmp_path / "loop")


def test_free_disk_space_is_known(tmp_path: Path) -> None:
    """There is some, and a path that is not there is refused with a sentence."""
    assert filesystem.free_bytes(tmp_path) > 0
    with pytest.raises(AccessError, match="absent"):
        filesystem.free_bytes(tmp_path / "absent")


def test_what_has_no_end_is_refused_at_once(tmp_path: Path) -> None:
    """Who reads a named pipe, a socket or a device might wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", tmp_path / "socket", Path("/dev/zero")):
            with pytest.raises(AccessError, match="it is a pipe, a socket or a device"):
                filesystem.read_bytes(path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    absent = (tmp_path / "absent", tmp_path / "absent" / "below", tmp_path / "loop")
    assert [path for path in (tmp_path, *absent) if filesystem.is_endless(path)] == []
    with pytest.raises(AccessError, match=r"Cannot look at .*: File name too long"):
        filesystem.is_endless(tmp_path / ("x" * 300))
