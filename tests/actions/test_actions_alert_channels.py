"""The rows of `tbot check` about alert channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from tbot_core.actions import plugin_checks
from tbot_core.actions.plugin_declarations import plugin_declarations
from tbot_core.errors import SettingsError, TbotError, VaultError
from tbot_core.instance import load_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance whose alerts are printed."""
    (tmp_path / ".env_bot").write_text("BROKER_NAME=PAPER\nROUTINE_ALERT_CHANNEL=console\n")
    return tmp_path


@pytest.mark.parametrize(
    ("fault", "rows"),
    [
        (SettingsError("No way.", "Mend it."), [("fail", "Alert channel console: No way.", "Mend it.")]),
        (VaultError("No key.", "Restore it.", code="TB-SEC-021"), []),
    ],
)
def test_a_channel_that_cannot_be_given_its_secrets_fails(
    home: Path, monkeypatch: pytest.MonkeyPatch, fault: TbotError, rows: list[tuple[str, str, str]]
) -> None:
    """What the rows of secrets say already is not said again."""

    def fail(*_args: object) -> NoReturn:
        raise fault

    monkeypatch.setattr(plugin_checks, "plugin_context", fail)
    plugins = plugin_declarations(home)
    settings = load_settings(home, mode="paper", declared=plugins.declared)
    found = plugin_checks.alert_findings(settings, plugins)
    assert [(one.level, one.message, one.remedy) for one in found] == rows
