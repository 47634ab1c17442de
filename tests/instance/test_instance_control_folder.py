"""Which control folder commands use: that of the running bot, else that of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import VaultError
from tbot_core.instance import Instance
from tbot_core.instance.control_folder import NAME, known_control_folder, record_control_folder, with_control_folder
from tbot_core.instance.loading import load_settings
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path


def configured(home: Path, folder: str) -> Instance:
    """An instance whose settings name this folder."""
    (home / ".env").write_text(f"CONTROL_DIR={folder}\n")
    (home / ".env_bot").write_text("STRATEGY_SEQUENCE=open\n")
    return Instance.at(home)


def test_the_folder_of_the_settings_counts_without_a_bot(tmp_path: Path) -> None:
    """Commands and the next start read the same setting; without one it is control/ in the instance."""
    assert with_control_folder(Instance.at(tmp_path)).control == tmp_path / "control"
    instance = configured(tmp_path, "requests/today")
    assert with_control_folder(instance).control == tmp_path / "requests" / "today"
    assert load_settings(tmp_path, mode="replay").instance.control == tmp_path / "requests" / "today"


def test_a_running_bot_keeps_the_folder_of_its_start(tmp_path: Path) -> None:
    """A setting that was changed since applies from its next session; commands use what the bot watches."""
    started = with_control_folder(configured(tmp_path, "requests"))
    with filesystem.hold_lock(started.lock):
        record_control_folder(started)
        changed = configured(tmp_path, "elsewhere")
        assert with_control_folder(changed).control_dir == "requests"
    assert with_control_folder(changed).control_dir == "elsewhere"


def test_a_process_that_holds_no_lock_records_nothing(tmp_path: Path) -> None:
    """The record belongs to the holder of the instance's lock."""
    record_control_folder(Instance.at(tmp_path))
    assert not (tmp_path / "data" / NAME).exists()


def test_settings_that_cannot_be_opened_leave_the_folder_of_the_last_run(tmp_path: Path) -> None:
    """Without such a run the fault is said: a request in the wrong folder would stop nothing."""
    instance = configured(tmp_path, "requests")
    (tmp_path / ".env.enc").write_bytes(b"token")
    (tmp_path / ".env.enc").chmod(0o600)
    with pytest.raises(VaultError, match="its key file storage/keys/"):
        with_control_folder(instance)
    assert known_control_folder(instance).control_dir == "control"
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / NAME).write_text("1\nrequests\n")
    assert with_control_folder(instance).control_dir == "requests"
    (tmp_path / "data" / NAME).write_bytes(b"1\n\xff")
    assert known_control_folder(instance).control_dir == "control"
