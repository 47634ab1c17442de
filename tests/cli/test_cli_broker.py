"""`tbot broker test`: the stored credentials are tried at the broker's own venue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("as_json", [False, True])
def test_a_simulated_broker_needs_no_login(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    """A paper instance passes and says that there is nothing to log in to."""
    home = tmp_path / "x"
    assert cli.invoke(["init", "--paper", "--home", str(home)]) == 0
    capsys.readouterr()
    assert cli.invoke(["broker", "test", "--home", str(home), *(["--json"] if as_json else [])]) == 0
    said = capsys.readouterr().out
    assert "paper is a simulation: there is no login" in said
    if as_json:
        assert json.loads(said)["passed"] is True


def test_a_broker_that_is_not_enabled_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the brokers of the settings have credentials to try."""
    home = tmp_path / "x"
    assert cli.invoke(["init", "--paper", "--home", str(home)]) == 0
    assert cli.invoke(["broker", "test", "nobody", "--home", str(home)]) == 3
    assert "nobody" in capsys.readouterr().err
