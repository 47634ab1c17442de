"""`tbot init --from-json` and `--from-env`: which broker trades follows from the credentials that were given."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, load_settings, secrets
from tbot_core.instance.plugin_settings import known_plugins

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ALPACA = {"alpaca": {"api_key": "k-123456"}}
TRADIER = {"tradier": {"access_token": "t-123456"}}


@pytest.fixture(scope="module", autouse=True)
def alpaca(simulated_only: None, install: Callable[[str], Any]) -> None:  # noqa: ARG001  -- hides the project's own
    """A broker that is installed under the name of one of the project's."""
    install("alpaca")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    prefixes = tuple(prefix for one in known_plugins() for prefix in one.environment)
    for name in [name for name in os.environ if name.startswith(prefixes)]:
        monkeypatch.delenv(name)


def made(folder: Path, document: dict[str, Any], *more: str) -> int:
    """The exit code of making the instance `x` in the folder from a document."""
    (folder / "in.json").write_text(json.dumps(document))
    return cli.invoke(["init", "--from-json", str(folder / "in.json"), *more, "--home", str(folder / "x")])


@pytest.mark.parametrize(
    ("document", "broker", "sentence"),
    [
        ({"broker": ALPACA}, "alpaca", "BROKER_NAME is ALPACA, the broker of the given credentials."),
        ({"broker": {"ALPACA": {"API_KEY": "k-123456"}}}, "alpaca", "BROKER_NAME is ALPACA, the broker"),
        ({"broker": ALPACA, "env_bot": {"BROKER_NAME": "Alpaca"}}, "alpaca", ""),
        (
            {"broker": ALPACA, "env_bot": {"BROKER_NAME": "PAPER"}},
            "paper",
            "BROKER_NAME is PAPER: the credentials of alpaca are stored, and not used.",
        ),
        ({"broker": ALPACA, "env_bot": {"BROKER_NAME": "PAPER", "DATA_SOURCE": "alpaca"}}, "paper", ""),
        ({"broker": ALPACA, "env_bot": {"DATA_SOURCE": "alpaca"}}, "paper", ""),
        (
            {"broker": TRADIER},
            "paper",
            "BROKER_NAME stays PAPER, since the broker tradier is not installed: install it, then",
        ),
        ({"broker": {"other": {"key": "k-123456"}}}, "paper", "the broker other is not installed: install it, then"),
        (
            {"broker": {**ALPACA, **TRADIER}, "env_bot": {"BROKER_NAME": "ALPACA"}},
            "alpaca",
            "the credentials of tradier are stored, and not used",
        ),
        ({"env_bot": {"SEED": 2}}, "paper", ""),
    ],
)
def test_the_broker_is_that_of_the_credentials(
    document: dict[str, Any], broker: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or a sentence says why it is not; a broker that was named stays."""
    made(tmp_path, document)
    said = capsys.readouterr()
    assert "Created the instance" in said.out, said.err
    assert sentence in said.out
    assert any(line.startswith("BROKER_NAME ") for line in said.out.splitlines()) == bool(sentence)
    assert load_settings(tmp_path / "x", mode="replay").trading.broker_name == broker


def test_credentials_of_several_brokers_need_a_broker_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which one trades is not guessed: exit 2 with both names, and nothing is created."""
    assert made(tmp_path, {"broker": {**ALPACA, **TRADIER}}) == 2
    said = capsys.readouterr().err
    assert "Credentials of several brokers were given: alpaca, tradier." in said
    assert "set BROKER_NAME in `env_bot`" in said
    assert not (tmp_path / "x").exists()


def test_an_installed_broker_judges_its_credentials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where another broker trades: its own declaration counts."""
    document = {"broker": {"alpaca": {"api_key": "k", "api_secret": "s"}}, "env_bot": {"BROKER_NAME": "PAPER"}}
    assert made(tmp_path, document) == 3
    assert "unknown field alpaca.api_secret; known: api_key, mode, account_id" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_variables_of_an_installed_broker_name_the_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their fields are those of the plugin; what a document holds takes precedence, section by section."""
    monkeypatch.setenv("ALPACA_API_KEY", "k-123456")
    monkeypatch.setenv("TRADIER_ACCESS_TOKEN", "t-123456")
    assert cli.invoke(["init", "--from-env", "--home", str(tmp_path / "x")]) == 2
    assert "several brokers were given: alpaca, tradier" in capsys.readouterr().err
    document = {"broker": {"tradier": {"access_token": "other-1234"}}, "env_bot": {"BROKER_NAME": "ALPACA"}}
    made(tmp_path, document, "--from-env")
    vault = secrets.open_instance_vault(Instance(tmp_path / "x"), DeploymentSettings())
    assert vault.read_section("broker", "alpaca")["api_key"].reveal() == "k-123456"
    assert vault.read_section("broker", "tradier")["access_token"].reveal() == "other-1234"
    monkeypatch.delenv("TRADIER_ACCESS_TOKEN")
    cli.invoke(["init", "--from-env", "--home", str(tmp_path / "y")])
    assert load_settings(tmp_path / "y", mode="replay").trading.broker_name == "alpaca"
