"""`tbot broker test`: the stored credentials are tried at the broker's own venue."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.testing.canaries import canary, shows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("as_json", [False, True])
def test_a_simulated_broker_needs_no_login(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], paper_instance: Callable[[Path], Path], *, as_json: bool
) -> None:
    """A paper instance passes and says that there is nothing to log in to."""
    home = tmp_path / "x"
    paper_instance(home)
    capsys.readouterr()
    assert cli.invoke(["broker", "test", "--home", str(home), *(["--json"] if as_json else [])]) == 0
    said = capsys.readouterr().out
    assert "paper is a simulation: there is no login" in said
    if as_json:
        assert json.loads(said)["passed"] is True


def test_a_broker_that_is_not_enabled_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], paper_instance: Callable[[Path], Path]
) -> None:
    """Only the brokers of the settings have credentials to try."""
    home = tmp_path / "x"
    paper_instance(home)
    assert cli.invoke(["broker", "test", "nobody", "--home", str(home)]) == 3
    assert "nobody" in capsys.readouterr().err


@pytest.mark.slow
def test_the_stored_credentials_are_tried_at_the_broker(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the key of the account it passes; with another one it exits 4, names the reason and shows no secret."""
    home, document = tmp_path / "x", tmp_path / "in.json"
    settings = {"BROKER_NAME": "ACME", "HOST_ACME_API": address}
    for key, code in ((canary("broker"), 0), (canary("other"), 4)):
        document.write_text(json.dumps({"env_bot": settings, "broker": {"acme": {"api_key": key}}}))
        cli.invoke(["init", "--from-json", str(document), "--home", str(home)])
        document.unlink()
        capsys.readouterr()
        assert cli.invoke(["broker", "test", "--home", str(home)]) == code
        said = capsys.readouterr().out
        assert said.startswith("ok    login    account " if code == 0 else "fail  login    ")
        assert ("feed" in said, "requests a minute allowed" in said) == (code == 0, code == 0)
        assert not shows(said)
        assert cli.invoke(["check", "--home", str(home)]) == 0
        said = capsys.readouterr().out
        assert ("ok    broker    acme, login: account " if code == 0 else "warn  broker    acme, login: ") in said
        assert not shows(said)
        shutil.rmtree(home)


@pytest.mark.usefixtures("acme", "loopback")
def test_a_check_without_a_network_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The broker is not reached: a warning with what to do, and no failure of what was checked on this machine."""
    home, document = tmp_path / "x", tmp_path / "in.json"
    settings = {"BROKER_NAME": "ACME", "HOST_ACME_API": "http://127.0.0.1:9", "API_RETRY_LIMIT": "0"}
    document.write_text(json.dumps({"env_bot": settings, "broker": {"acme": {"api_key": canary("broker")}}}))
    assert cli.invoke(["init", "--from-json", str(document), "--home", str(home)]) == 0
    document.unlink()
    capsys.readouterr()
    assert cli.invoke(["check", "--home", str(home)]) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if " broker    acme, " in one]
    assert line.startswith("warn  broker    acme, login: ")
    assert line.endswith("`tbot broker test` tries it again.")
