"""The account that runs the process."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from tbot_core.seams import environ

if TYPE_CHECKING:
    import pytest


def test_the_account_has_a_name_or_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own word counts, not a variable that anyone may set; an account without a name is its number."""
    monkeypatch.setenv("USER", "somebody-else")
    known = {entry.pw_uid: entry.pw_name for entry in pwd.getpwall()}
    assert environ.user() == known.get(os.getuid(), f"uid {os.getuid()}")
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert environ.user() == "uid 3999999999"
