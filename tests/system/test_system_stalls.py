"""Where a process is: seen by others while it stands still, and nowhere once it has moved on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import stalls

if TYPE_CHECKING:
    from pathlib import Path


def test_a_stay_is_seen_as_long_as_it_lasts(tmp_path: Path) -> None:
    """Its words and its number; inside another the outer one is seen again afterwards, and others cannot read it."""
    path = tmp_path / "here"
    with stalls.activity_marker(path) as inside:
        assert stalls.read_activity(path) is None
        with inside("one"):
            assert stalls.read_activity(path) == stalls.CurrentActivity(entered=1, words="one")
            with inside("two"):
                assert stalls.read_activity(path) == stalls.CurrentActivity(entered=2, words="two")
            assert stalls.read_activity(path) == stalls.CurrentActivity(entered=1, words="one")
        with pytest.raises(ZeroDivisionError), inside("one"):
            raise ZeroDivisionError
        assert stalls.read_activity(path) is None
        with inside("x" * 10_000):
            place = stalls.read_activity(path)
            assert place is not None
            assert (place.entered, set(place.words)) == (4, {"x"})
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_read_is_nowhere(tmp_path: Path) -> None:
    """No file, or one of another size, says nothing; a folder that is not there is named."""
    assert stalls.read_activity(tmp_path / "none") is None
    (tmp_path / "short").write_bytes(b"x")
    assert stalls.read_activity(tmp_path / "short") is None
    with pytest.raises(AccessError, match="open"), stalls.activity_marker(tmp_path / "no" / "file"):
        raise AssertionError
