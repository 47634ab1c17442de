"""Settings are read by a start: what is changed while a bot runs is written down, and counts from the next session.

Between two sessions a run with changed settings ends, and another one begins with them, in the same process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.engine import resume
from tbot_core.journal import records
from tbot_core.journal.store import read_journal
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tbot_core.journal.recorder import JournalRecorder

EVERY_S: Final = 5.0


class SettingsChanged(Exception):
    """The settings have changed, and no session is under way."""


@attrs.frozen(kw_only=True)
class SettingsDiff:
    """What differs between the settings of the run and those in the files, by name; `fault`: why they are not fit."""

    differences: Mapping[str, tuple[str | None, str | None]]
    fault: str = ""

    @property
    def payload(self) -> records.Payload:
        """As the journal keeps it."""
        return {"changes": {name: list(texts) for name, texts in self.differences.items()}, "fault": self.fault}


def _never() -> SettingsDiff | None:
    return None


class SettingsReloader:
    """Looks for changed settings; `look` tells of each change once. What is fit waits, as `pending`, for its moment."""

    def __init__(self, look: Callable[[], SettingsDiff | None] = _never) -> None:
        self._look = look
        self._due: float | None = None
        self.pending = False

    def poll(self, recorder: JournalRecorder, now: float) -> None:
        """Called often; the files are looked at every few seconds of `now`."""
        if self._due is not None and now < self._due:
            return
        self._due = now + EVERY_S
        change = self._look()
        if change is not None:
            self.pending = not change.fault and bool(change.differences)
            recorder.record(records.SETTINGS, change.payload)

    def raise_if_pending(self) -> None:
        """No session is under way: raises Renewed where settings wait for that."""
        if self.pending:
            raise SettingsChanged


def open_session_settings(path: Path, now: datetime, *, simulated: bool) -> dict[str, str]:
    """The settings under which a session was opened that is to be gone on with; empty where there is none.

    One at a simulated venue is repeated to its end; at a market one that is over is merely ended.
    """
    if not filesystem.exists(path):
        return {}
    journal = read_journal(path)
    try:
        found = resume.interrupted_session(journal)
    finally:
        journal.close()
    if found is None or (not simulated and found.session.close <= now):
        return {}
    return dict(found.run["settings"])
