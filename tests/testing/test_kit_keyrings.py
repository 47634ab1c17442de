"""The keyring in memory behaves as the system's does."""

from __future__ import annotations

import pytest
from keyring.errors import PasswordDeleteError

from tbot_core.testing.keyrings import MemoryKeyring


def test_what_is_not_held_cannot_be_let_go() -> None:
    """It is an error, as in the library; what is held is gone after that."""
    ring = MemoryKeyring()
    with pytest.raises(PasswordDeleteError):
        ring.delete_password("tbot", "broker")
    ring.set_password("tbot", "broker", "x")
    ring.delete_password("tbot", "broker")
    assert ring.get_password("tbot", "broker") is None
