"""Who reads the status again and again opens the settings once, and again when they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core import cli
from tbot_core.status.runs import SettingsReader
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path


def test_settings_are_opened_when_a_file_of_them_changes(tmp_path: Path) -> None:
    """Each opening is a line of the access log: a page that is open all day writes none for what stays."""
    home = tmp_path / "bot"
    assert cli.invoke(["init", "--paper", "--home", str(home)]) == 0
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
