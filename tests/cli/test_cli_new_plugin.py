"""`tbot plugins new`: packages that work before the first edit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core.cli import invoke
from tbot_core.cli.actions.plugin_development import KINDS, write_plugin
from tbot_core.errors import AccessError, UsageError
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.probe import probe_plugin

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_its_own_tests(kind: str, tmp_path: Path) -> None:
    """In a process of its own, with the settings of its own pyproject.toml, and ruff finds no fault in it."""
    made = write_plugin(kind, "my_first", tmp_path / "new")
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=made.folder,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout
    checked = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select=E,F,W", "--line-length=120", "."],
        cwd=made.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_passes_its_trial(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is imported, offered and created as `tbot plugins list --probe` does it."""
    made = write_plugin(kind, "my_first", tmp_path / "new")
    monkeypatch.syspath_prepend(made.folder)
    entry = EntryPointInfo(
        kind=kind, name="my_first", target=f"tbot_{kind}_my_first", dist=made.distribution, version="0.1.0", requires=()
    )
    outcome = probe_plugin(entry)
    assert outcome.failure is None


@pytest.mark.parametrize("name", ["", "x", "Acme", "my-first", "1st", "class", "a" * 33])
def test_a_name_that_no_plugin_may_have_is_refused(name: str, tmp_path: Path) -> None:
    """It must be a word of Python in lower case; nothing is written."""
    with pytest.raises(UsageError, match="is not allowed"):
        write_plugin("filter", name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    """A folder that holds something, or a file, is refused; an empty folder is filled."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for there in ("full", "full/mine"):
        with pytest.raises(AccessError, match="exists and is not empty"):
            write_plugin("filter", "acme", tmp_path / there)
    (tmp_path / "empty").mkdir()
    assert write_plugin("filter", "acme", tmp_path / "empty").folder == tmp_path / "empty"


def test_the_command_says_what_to_run_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is named after the distribution; JSON lists the files."""
    monkeypatch.chdir(tmp_path)
    assert invoke(["plugins", "new", "strategy", "acme"]) == 0
    assert "pip install -e tbot-strategy-acme" in capsys.readouterr().out
    assert invoke(["plugins", "new", "alert", "acme", "--dir", "here", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["folder"] == "here"
    assert "tbot_alert_acme/__init__.py" in listed["files"]
    assert all((tmp_path / "here" / place).exists() for place in listed["files"])
