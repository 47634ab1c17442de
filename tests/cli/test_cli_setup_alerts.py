"""The question of `tbot init` for the channel of alerts, where several are installed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tbot_core import cli
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, load_settings, secrets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Keyboard(io.BytesIO):
    """What a person types; it says that it is a terminal."""

    def isatty(self) -> bool:
        """As a terminal does."""
        return True


@pytest.fixture(scope="module", autouse=True)
def pigeon(install: Callable[..., Any]) -> None:
    """An alert channel with credentials."""
    install("pigeon", "alert")


def typed(home: Path, *lines: str) -> str:
    """What is shown while these lines answer the questions."""
    keys = Keyboard("".join(f"{line}\n" for line in lines).encode())
    result = CliRunner().invoke(cli.group, ["init", "--home", str(home)], input=keys, standalone_mode=False)
    assert result.exception is None, result.output
    return result.output


def test_the_chosen_channel_gets_both_kinds_of_alerts_and_its_credentials(tmp_path: Path) -> None:
    """They are asked for as a broker's are, and the summary names their fields."""
    shown = typed(tmp_path / "x", "paper", "", "post", "pigeon", "", "t-123456", "yes")
    assert "Allowed: a number from 1 to 2, or a name: console, pigeon." in " ".join(shown.split())
    assert "pigeon: token" in shown
    assert "t-123456" not in shown
    texts = load_settings(tmp_path / "x", mode="replay").texts
    assert (texts["CRITICAL_ALERT_CHANNEL"], texts["ROUTINE_ALERT_CHANNEL"]) == ("pigeon", "pigeon")
    vault = secrets.open_instance_vault(Instance(tmp_path / "x"), DeploymentSettings())
    assert vault.read_section("alert", "pigeon")["token"].reveal() == "t-123456"


def test_the_console_is_the_default(tmp_path: Path) -> None:
    """It needs no credentials."""
    typed(tmp_path / "x", "paper", "", "", "yes")
    texts = load_settings(tmp_path / "x", mode="replay").texts
    assert (texts["CRITICAL_ALERT_CHANNEL"], texts["ROUTINE_ALERT_CHANNEL"]) == ("console", "console")
