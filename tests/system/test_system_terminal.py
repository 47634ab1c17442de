"""What is for nobody's eyes or for a while only: typed passphrases, folders in memory, variables set aside."""

from __future__ import annotations

import getpass
import io
import os
import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import editor, environ, terminal

if TYPE_CHECKING:
    from pathlib import Path


class Keyboard(io.StringIO):
    """A person at a terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def test_what_is_new_is_typed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person is asked again, and refused where the two differ; a script gives one line."""
    asked: list[str] = []
    answers = iter(["one phrase", "one phrase", "one phrase", "another", "one phrase"])

    def typed(words: str) -> str:
        asked.append(words)
        return next(answers)

    monkeypatch.setattr(getpass, "getpass", typed)
    monkeypatch.setattr(sys, "stdin", Keyboard())
    assert terminal.read_hidden("Passphrase", twice=True) == "one phrase"
    with pytest.raises(AccessError, match="Passphrase: the two inputs differ"):
        terminal.read_hidden("Passphrase", twice=True)
    assert terminal.read_hidden("Passphrase") == "one phrase"
    assert asked == ["Passphrase: ", "Passphrase again: "] * 2 + ["Passphrase: "]
    monkeypatch.setattr(sys, "stdin", io.StringIO("one line\nnot read\n"))
    assert terminal.read_hidden("Passphrase", twice=True) == "one line"
    assert sys.stdin.read() == "not read\n"


def test_a_folder_in_memory_is_overwritten_and_removed() -> None:
    """It is its owner's alone, and what was in it reads as zeros to whoever still holds it open."""
    with editor.in_memory() as folder:
        assert folder.parent == editor.MEMORY
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "keys").mkdir()
        (folder / "keys" / "one").write_bytes(b"secret")
        (folder / "link").symlink_to("/etc/hostname")
        held = (folder / "keys" / "one").open("rb")
    with held:
        assert held.read() == bytes(6)
    assert not folder.exists()


def test_variables_are_set_aside_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset inside, as they were afterwards, also after a failure; one that was not set stays so."""
    monkeypatch.setenv("TBOT_ODD", "1")
    monkeypatch.delenv("TBOT_EVEN", raising=False)
    with environ.without_variables("TBOT_ODD", "TBOT_EVEN"):
        assert environ.variable("TBOT_ODD") is None
        assert "TBOT_ODD" not in os.environ
    assert environ.variable("TBOT_ODD") == "1"
    with pytest.raises(KeyError), environ.without_variables("TBOT_ODD"):
        raise KeyError
    assert environ.variable("TBOT_ODD") == "1"
    assert environ.variable("TBOT_EVEN") is None


def test_a_disk_is_no_memory(tmp_path: Path) -> None:
    """A folder elsewhere is refused before anything is made in it."""
    with pytest.raises(AccessError, match="not a file system in memory"), editor.in_memory(folder=tmp_path):
        pytest.fail("a folder was given")
    assert not list(tmp_path.iterdir())
