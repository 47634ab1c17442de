"""The settings of a session that goes on, against those in the files."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tbot_core.cli.commands.run import create_demo_instance, settings_of_open_session
from tbot_core.cli.run_options import RunOptions
from tbot_core.instance import Instance, load_settings, read_settings_files
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal

if TYPE_CHECKING:
    from pathlib import Path

OPEN = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)


def test_only_what_has_changed_since_is_kept_from_before(tmp_path: Path) -> None:
    """Unchanged settings stay those of their file and line; of files that are not fit any more nothing is taken."""
    create_demo_instance(tmp_path)
    options, instance = RunOptions(mode="paper", home=tmp_path), Instance.at(tmp_path)
    texts = {name: one.text for name, one in load_settings(tmp_path, mode="paper").values.items()}
    (tmp_path / "data").mkdir()
    bells = {"open": OPEN.isoformat(), "close": (OPEN + dt.timedelta(minutes=390)).isoformat()}
    opened = {"date": "2026-11-24", "equity": "1000", "symbols": 1} | bells
    settings_by_run: dict[str, dict[str, Any]] = {
        records.RUN_STARTED: {"settings": texts, "equity": "1000"},
        records.SESSION_OPENED: opened,
    }
    with closing(open_journal(instance.journal)) as journal:
        journal.append([NewEvent(kind=kind, payload=payload, time=OPEN) for kind, payload in settings_by_run.items()])
    assert settings_of_open_session(options, read_settings_files(instance), OPEN) == {}
    with (tmp_path / ".env_bot").open("a") as file:
        file.write("\nBAR_GRACE=3s\n")
    assert settings_of_open_session(options, read_settings_files(instance), OPEN) == {"BAR_GRACE": texts["BAR_GRACE"]}
    with (tmp_path / ".env_bot").open("a") as file:
        file.write("\nBAR_GRACE=never\n")
    assert settings_of_open_session(options, read_settings_files(instance), OPEN) == texts
