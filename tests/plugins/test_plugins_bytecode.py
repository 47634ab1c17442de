"""Live trading reads bytecode only where no other user can put it."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core.plugins.bytecode import read_private_bytecode
from tbot_core.system import environ, filesystem, processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    # What this process reads and writes comes back; warnings are kept from the screen.
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    with caplog.at_level(logging.INFO):
        yield


def test_bytecode_is_kept_in_a_folder_of_its_owner(tmp_path: Path) -> None:
    """It is created with mode 0700, and closed where it was open."""
    folder = tmp_path / "data/bytecode"
    read_private_bytecode(tmp_path)
    assert (sys.pycache_prefix, sys.dont_write_bytecode) == (str(folder), False)
    folder.chmod(0o777)
    read_private_bytecode(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["", "data"])
def test_a_folder_that_others_can_replace_is_not_used(tmp_path: Path, name: str) -> None:
    """Nothing is read from it, and nothing is written to it."""
    (tmp_path / "data").mkdir()
    (tmp_path / name).chmod(0o770)
    read_private_bytecode(tmp_path)
    assert (sys.pycache_prefix, sys.dont_write_bytecode) == (filesystem.NOWHERE, True)


@pytest.mark.parametrize("name", ["data/bytecode", "data/bytecode/planted.pyc"])
def test_a_folder_with_something_of_another_user_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The log says which folder to remove."""
    (tmp_path / "data/bytecode").mkdir(parents=True)
    (tmp_path / "data/bytecode/planted.pyc").write_text("")
    user = os.geteuid() + 1
    if os.geteuid() == 0:
        os.chown(tmp_path / name, 12345, 12345)
        user = 0
    read_private_bytecode(tmp_path, user=user)
    assert sys.pycache_prefix == filesystem.NOWHERE
    assert f"rm -r {tmp_path / 'data/bytecode'}" in caplog.text


def test_without_a_folder_python_compiles_each_module_anew(tmp_path: Path) -> None:
    """A module is imported, and no bytecode of it is left anywhere."""
    (tmp_path / "mine.py").write_text("print('compiled')\n")
    code = f"import sys; sys.pycache_prefix = {filesystem.NOWHERE!r}; sys.dont_write_bytecode = True; import mine"
    environment = environ.minimal_environment() | {"PYTHONPATH": str(tmp_path)}
    done = processes.run_program([sys.executable, "-c", code], timeout_s=30, environment=environment)
    assert (done.output, done.errors) == ("compiled\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
