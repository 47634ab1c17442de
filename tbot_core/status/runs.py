"""The journals of an instance: that of paper and live trading, and one per run."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import JournalError, SettingsError, UsageError
from tbot_core.instance import is_there
from tbot_core.instance.folder import DRY_RUN
from tbot_core.journal import tail_mark
from tbot_core.journal.store import Journal, read_journal
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.instance import Instance


PAPER: Final = "paper"


@attrs.frozen(kw_only=True)
class RunFile:
    """A journal file; `name` is the id of the run, or `paper`."""

    name: str
    path: Path
    changed: float

    @property
    def dry(self) -> bool:
        """Whether it is that of a dry run, which does not count for the status of the instance."""
        return self.name.startswith(DRY_RUN)


def run_files(instance: Instance) -> list[RunFile]:
    """Every journal of the instance, the latest first; raises JournalError if that of paper trading is missing."""
    paths = [instance.journal] if tail_mark.journal_exists(instance.journal) else []
    if filesystem.is_folder(instance.runs):
        paths += [path for path in filesystem.entries(instance.runs) if path.suffix == ".sqlite"]
    found = [
        RunFile(name=PAPER if path == instance.journal else path.stem, path=path, changed=_changed(path))
        for path in paths
    ]
    return sorted(found, key=lambda one: (-one.changed, one.name))


def run_file(instance: Instance, run: str | None = None) -> RunFile:
    """The journal of a run by its id, or a prefix of it; without a name the newest, dry runs last.

    Raises SettingsError where there is no instance, JournalError where nothing has run, UsageError for an unknown or
    ambiguous id.
    """
    files = run_files(instance)
    if not (files or is_there(instance)):
        raise SettingsError(f"{instance.home} is not an instance.", "Give its folder with --home.")
    if not files:
        raise JournalError(f"No run is recorded in {instance.home}.", "`tbot run --demo` records one in ./tbot-demo.")
    if run is None:
        return next((one for one in files if not one.dry), files[0])
    named = [one for one in files if one.name.startswith(run)]
    if len(named) != 1:
        names = ", ".join(one.name for one in files[:8])
        raise UsageError(f"--run {run} matches {len(named)} runs.", f"Recorded: {names}.")
    return named[0]


@contextmanager
def open_run_file(file: RunFile) -> Iterator[Journal]:
    """The journal, read-only."""
    journal = read_journal(file.path)
    try:
        yield journal
    finally:
        journal.close()


def _changed(path: Path) -> float:
    # What is not yet in the file itself is in the log beside it.
    log = path.with_name(f"{path.name}-wal")
    return max(filesystem.modified(one) for one in (path, log) if filesystem.exists(one))


def find_instance(home: Path | None) -> Instance:
    """The instance; raises SettingsError where there is none."""
    from tbot_core.errors import SettingsError
    from tbot_core.instance import Instance, is_there

    instance = Instance.at(home)
    if not is_there(instance):
        raise SettingsError(f"{instance.home} is not an instance.", "Give its folder with --home.")
    return instance
