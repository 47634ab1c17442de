"""Files mapped into memory, and read ahead."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import mapped_files

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_mapped_as_it_is(tmp_path: Path) -> None:
    """Read-only, in its length, and after it was removed; an empty one has no bytes."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    view = mapped_files.map_file(path)
    path.unlink()
    assert bytes(view) == b"abc"
    assert view.readonly
    path.touch()
    assert bytes(mapped_files.map_file(path)) == b""


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe is not waited for, and an absent file is named."""
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "it is a pipe"), ("none", "No such file"), (".", "Is a directory")):
        with pytest.raises(AccessError, match=words):
            mapped_files.map_file(tmp_path / name)


def test_reading_ahead_never_fails(tmp_path: Path) -> None:
    """A file is left as it is, and one that is not there is left out."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    mapped_files.read_ahead(path)
    mapped_files.read_ahead(tmp_path / "none")
    assert path.read_bytes() == b"abc"
