"""Who reads the status again and again opens the settings once, and again when they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tbot_core.actions.secrets import put_values
from tbot_core.status.runs import SettingsReader
from tbot_core.system import filesystem
from tbot_core.testing.canaries import canary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOGIN = {"api_key": canary("key"), "api_secret": canary("secret")}


def test_settings_are_opened_when_a_file_of_them_changes(
    tmp_path: Path, paper_instance: Callable[[Path], Path]
) -> None:
    """Each opening is a line of the access log: a page that is open all day writes none for what stays."""
    home = tmp_path / "bot"
    paper_instance(home)
    log, reader = home / "data" / "audit.log", SettingsReader(home)
    first = reader.read("replay")
    lines = filesystem.size(log)
    placed = reader.instance()
    lines = filesystem.size(log)
    assert reader.read("replay") is first
    assert reader.instance() is placed
    assert placed.control == home / "control"
    assert filesystem.size(log) == lines
    sealed = home / ".env_bot.enc"
    filesystem.write_atomic(sealed, filesystem.read_bytes(sealed))
    again = reader.read("replay")
    assert again is not first
    assert again[0].fingerprint == first[0].fingerprint
    assert filesystem.size(log) > lines


def test_the_account_that_a_start_would_trade_is_known_without_a_run(
    tmp_path: Path, paper_instance: Callable[[Path], Path]
) -> None:
    """By the credentials of the broker that the settings name; they are opened again when they change."""
    home = tmp_path / "bot"
    paper_instance(home)
    reader = SettingsReader(home)
    with pytest.raises(LookupError):
        reader.account_mode()
    reader.read("replay")
    assert reader.account_mode() == "paper"
    put_values(home, "env_bot", {"BROKER_NAME": "ALPACA"})
    put_values(home, "broker", {"alpaca": {**LOGIN, "mode": "live"}})
    reader.read("replay")
    assert reader.account_mode() == "live"
    lines = filesystem.size(home / "data" / "audit.log")
    assert reader.account_mode() == "live"
    assert filesystem.size(home / "data" / "audit.log") == lines
    put_values(home, "broker", {"alpaca": {**LOGIN, "mode": "paper"}})
    assert reader.account_mode() == "paper"
