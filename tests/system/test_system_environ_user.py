"""The account that runs the process, and which variables of its environment are anyone's business."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import pytest

from tbot_core.system import environ

if TYPE_CHECKING:
    from pathlib import Path


def test_the_account_has_a_name_or_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's own word counts, not a variable that anyone may set; an account without a name is its number."""
    monkeypatch.setenv("USER", "somebody-else")
    known = {entry.pw_uid: entry.pw_name for entry in pwd.getpwall()}
    assert environ.user_name() == known.get(os.getuid(), f"uid {os.getuid()}")
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_999)
    assert environ.user_name() == "uid 3999999999"


def test_a_program_is_called_as_it_can_be_called_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name where PATH leads to it, else by its path, from the working folder where it is in that."""
    here, other = tmp_path / "my work", tmp_path / "other"
    for folder in (here / "bin", other):
        folder.mkdir(parents=True)
        (folder / "tbot").write_text("")
        (folder / "tbot").chmod(0o700)
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", str(other))
    assert environ.own_command("tbot", "bin/tbot") == "./bin/tbot"
    assert environ.own_command("tbot", str(here / "bin" / "tbot")) == "./bin/tbot"
    assert environ.own_command("tbot", str(other / "tbot")) == "tbot"
    assert environ.own_command("tbot", "/usr/lib/tbot_core/__main__.py") == "tbot"
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(other)
    assert environ.own_command("tbot", str(here / "bin" / "tbot")) == f"'{here}/bin/tbot'"


def test_only_variables_that_the_docs_name_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of tbot's by its name, and those of a whole prefix, without what is empty; any other request is refused."""
    for name, value in (("TBOT_ODD", "1"), ("TRADIER_TOKEN", "t"), ("TRADIER_EMPTY", ""), ("AWS_SECRET", "s")):
        monkeypatch.setenv(name, value)
    assert environ.variable("TBOT_ODD") == "1"
    assert environ.variables_with_prefix("TRADIER_") == {"TOKEN": "t"}
    with pytest.raises(ValueError, match="begin with TBOT_"):
        environ.variable("AWS_SECRET")
    for prefix in ("", "_", "AWS", "AWS_SECRET"):
        with pytest.raises(ValueError, match="a prefix is a word"):
            environ.variables_with_prefix(prefix)


@pytest.mark.parametrize(("given", "found"), [("", "1"), ("4", "4")])
def test_threads_for_linear_algebra_are_only_those_that_were_set(
    monkeypatch: pytest.MonkeyPatch, given: str, found: str
) -> None:
    """Numpy starts none beside its own, unless the variable is set."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", given)
    if not given:
        monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    environ.without_blas_threads()
    assert os.environ["OPENBLAS_NUM_THREADS"] == found
