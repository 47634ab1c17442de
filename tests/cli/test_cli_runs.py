"""Which journal of an instance a command reads."""

from __future__ import annotations

import datetime as dt
import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import UsageError
from tbot_core.instance import Instance
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.status.runs import bot_time, current_run, run_file, with_current_run
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("paper", "6ae2", "rehearsal-1", "rehearsal-2", "dry-1")


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """An instance with a journal of each kind, the first one the newest; only the second one has a session."""
    (tmp_path / ".env").write_text("")
    made = Instance.at(tmp_path)
    made.runs.mkdir(parents=True)
    for age, name in enumerate(NAMES):
        path = made.journal if name == "paper" else made.runs / f"{name}.sqlite"
        with closing(open_journal(path)) as journal:
            if name == "6ae2":
                at = dt.datetime(2026, 3, 3, tzinfo=dt.UTC)
                journal.append([NewEvent(kind=records.SESSION_OPENED, payload={"date": "2026-03-03"}, time=at)])
        for file in (path, path.with_name(f"{path.name}-wal")):
            if file.exists():
                os.utime(file, (1_700_000_000 - age, 1_700_000_000 - age))
    return made


def test_without_a_name_it_is_the_newest_run_with_a_session(instance: Instance) -> None:
    """A run that only waited for the bell hides none before it."""
    assert run_file(instance).name == "6ae2"


def test_the_prefix_of_a_kind_is_the_newest_of_it_and_another_must_be_clear(instance: Instance) -> None:
    """`rehearsal-` and `dry-` need no whole name."""
    assert [run_file(instance, name).name for name in ("rehearsal-", "dry-", "6a")] == ["rehearsal-1", "dry-1", "6ae2"]
    with pytest.raises(UsageError, match="matches 2 runs"):
        run_file(instance, "rehears")


def test_a_request_is_looked_for_in_the_journal_of_the_running_rehearsal(instance: Instance, tmp_path: Path) -> None:
    """Without a rehearsal in that of paper and live trading; before the first start in none."""
    running = current_run(instance)
    assert running is not None
    assert running.name == "paper"
    with filesystem.hold_lock(instance.lock, "rehearsal-1"):
        running = current_run(instance)
    assert running is not None
    assert running.name == "rehearsal-1"
    assert current_run(Instance.at(tmp_path / "new")) is None


def test_a_rehearsal_without_a_journal_is_not_another_one(instance: Instance) -> None:
    """While it prepares it has no journal yet: its files are its own, and its clock."""
    with filesystem.hold_lock(instance.lock, "rehearsal-20261130T150000"):
        assert current_run(instance) is None
        assert with_current_run(instance).rehearsal == "rehearsal-20261130T150000"
        now = dt.datetime(2026, 11, 30, 14, 58, tzinfo=dt.UTC)
        assert bot_time(instance, now) == dt.datetime(2026, 12, 1, 14, 28, tzinfo=dt.UTC)


def test_where_commands_reach_a_rehearsal_it_is_the_run_that_is_shown(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While TBOT_REHEARSAL is set, unless the bot trades its own account."""
    monkeypatch.setenv(REHEARSAL_VARIABLE, "http://127.0.0.1:1")
    running = current_run(instance)
    assert running is not None
    assert running.name == "rehearsal-1"
    assert run_file(instance).name.startswith("rehearsal-")
    with filesystem.hold_lock(instance.lock, ""):
        assert run_file(instance).name == "6ae2"
