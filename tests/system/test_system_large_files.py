"""Large files: streams, and lines from the end and by bisection."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import large_files
from tbot_core.system.large_files import BLOCK, LONGEST, first_line, lines_back

if TYPE_CHECKING:
    from pathlib import Path

CONTENTS = [
    b"",
    b"\n",
    b"one",
    b"one\n",
    b"one\n\nthree\n",
    b"one\r\ntwo\rthree\n",
    b"a" * BLOCK + b"\n" + b"b" * BLOCK,
    b"".join(b"%d %s\n" % (number, b"x" * (number % 300)) for number in range(3_000)),
    (b"y" * (BLOCK - 1) + b"\n") * 3 + b"half",
]


def test_a_file_is_mapped_as_it_is(tmp_path: Path) -> None:
    """Read-only, in its length, and after it was removed; an empty one has no bytes."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    view = large_files.map_file(path)
    path.unlink()
    assert bytes(view) == b"abc"
    assert view.readonly
    path.touch()
    assert bytes(large_files.map_file(path)) == b""


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe is not waited for, and an absent file is named."""
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "it is a pipe"), ("none", "No such file"), (".", "Is a directory")):
        with pytest.raises(AccessError, match=words):
            large_files.map_file(tmp_path / name)


def test_reading_ahead_never_fails(tmp_path: Path) -> None:
    """A file is left as it is, and one that is not there is left out."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    for one in (path, tmp_path / "none"):
        large_files.read_ahead(one)
    for thread in [one for one in threading.enumerate() if one.name == "read ahead"]:
        thread.join(5)
    assert path.read_bytes() == b"abc"


def test_a_stream_is_of_a_regular_file(tmp_path: Path) -> None:
    """It is read from its begin; faults while it is read name the file as well."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    with large_files.open_stream(path) as file:
        assert file.read(2) == b"ab"
    with pytest.raises(AccessError, match=r"Cannot read .*a: broken"), large_files.open_stream(path):
        raise OSError(5, "broken")


def split(data: bytes) -> list[bytes]:
    """The lines with their newlines."""
    *lines, last = data.split(b"\n")
    return [line + b"\n" for line in lines] + ([last] if last else [])


@pytest.mark.parametrize("data", CONTENTS)
def test_lines_come_from_the_end_with_their_places(tmp_path: Path, data: bytes) -> None:
    """Each once, as it is in the file; up to a place only those before it."""
    path = tmp_path / "log"
    path.write_bytes(data)
    found = list(lines_back(path))
    assert [line for _, line in reversed(found)] == split(data)
    assert all(data[start : start + len(line)] == line for start, line in found)
    for number in {0, len(found) // 2, len(found) - 1} if found else ():
        assert list(lines_back(path, found[number][0])) == found[number + 1 :]
    assert list(lines_back(path, len(data) + 99)) == found


def test_a_line_without_end_comes_in_parts(tmp_path: Path) -> None:
    """No more of it is in memory than its longest part, and nothing is lost."""
    path = tmp_path / "log"
    path.write_bytes(b"first\n" + b"x" * (3 * LONGEST))
    parts = [line for _, line in lines_back(path)]
    assert max(map(len, parts)) <= LONGEST + BLOCK
    assert b"".join(reversed(parts)) == path.read_bytes()


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1_000])
def test_the_first_wanted_line_is_found(tmp_path: Path, count: int) -> None:
    """Wherever it is, with lines of any length; the size of the file where there is none."""
    path = tmp_path / "log"
    lines = [b"%06d%s\n" % (number, b"z" * (number * 37 % 400)) for number in range(count)]
    path.write_bytes(b"".join(lines))
    for wanted in {0, 1, count // 3, count - 1, count, count + 5}:
        place = first_line(path, lambda line, wanted=wanted: int(line[:6]) >= wanted)  # type: ignore[misc]  # bound now
        assert place == sum(map(len, lines[: max(wanted, 0)]))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(AccessError, match="none"):
        list(lines_back(tmp_path / "none"))
    with pytest.raises(AccessError, match="none"):
        first_line(tmp_path / "none", bool)
