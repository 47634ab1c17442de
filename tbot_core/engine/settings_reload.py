"""Changed settings: recorded while the bot runs, and applied from the next session.

Between two sessions a run with changed settings ends, and a new one begins in the same process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.engine import resume
from tbot_core.journal.events.sessions import SettingsEdited
from tbot_core.journal.store import JournalRecorder, read_journal
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


EVERY_S: Final = 5.0


class SettingsChanged(Exception):
    """The settings have changed, and no session is open."""


@attrs.frozen(kw_only=True)
class SettingsDiff:
    """The differences between the run's settings and the files, by name; `fault`: why the files are invalid."""

    differences: Mapping[str, tuple[str | None, str | None]]
    fault: str = ""


def _never() -> SettingsDiff | None:
    return None


class SettingsReloader:
    """Polls for changed settings; `read_change` returns each change once; a valid one waits as `pending`."""

    def __init__(self, read_change: Callable[[], SettingsDiff | None] = _never) -> None:
        self._read_change = read_change
        self._due: float | None = None
        self.pending = False

    def poll(self, recorder: JournalRecorder, now: float) -> None:
        """Check the files every EVERY_S seconds of `now`, and record a change; called often."""
        if self._due is not None and now < self._due:
            return
        self._due = now + EVERY_S
        change = self._read_change()
        if change is not None:
            self.pending = not change.fault and bool(change.differences)
            recorder.record(SettingsEdited(changes=change.differences, fault=change.fault))

    def raise_if_pending(self) -> None:
        """Raise SettingsChanged if settings are pending; called while no session is open."""
        if self.pending:
            raise SettingsChanged


def open_session_settings(path: Path, now: datetime) -> dict[str, str]:
    """The settings of an interrupted session that will be continued: its close has not passed. Empty without one."""
    if not filesystem.exists(path):
        return {}
    journal = read_journal(path)
    try:
        found = resume.interrupted_session(journal)
    finally:
        journal.close()
    if found is None or found.session.close <= now:
        return {}
    return dict(found.run["settings"])
