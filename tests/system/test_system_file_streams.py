"""Large files: streams, mappings, and what is read ahead."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import file_streams

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_mapped_as_it_is(tmp_path: Path) -> None:
    """Read-only, in its length, and after it was removed; an empty one has no bytes."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    view = file_streams.map_file(path)
    path.unlink()
    assert bytes(view) == b"abc"
    assert view.readonly
    path.touch()
    assert bytes(file_streams.map_file(path)) == b""


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe is not waited for, and an absent file is named."""
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "it is a pipe"), ("none", "No such file"), (".", "Is a directory")):
        with pytest.raises(AccessError, match=words):
            file_streams.map_file(tmp_path / name)


def test_reading_ahead_never_fails(tmp_path: Path) -> None:
    """A file is left as it is, and one that is not there is left out."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    for one in (path, tmp_path / "none"):
        file_streams.read_ahead(one)
    for thread in [one for one in threading.enumerate() if one.name == "read ahead"]:
        thread.join(5)
    assert path.read_bytes() == b"abc"


def test_a_stream_is_of_a_regular_file(tmp_path: Path) -> None:
    """It is read from its begin; faults while it is read name the file as well."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    with file_streams.open_stream(path) as file:
        assert file.read(2) == b"ab"
    with pytest.raises(AccessError, match=r"Cannot read .*a: broken"), file_streams.open_stream(path):
        raise OSError(5, "broken")
