"""Where the bars that a run received are stored: a folder beside its journal, with a file for each session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.system import filesystem

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

FOLDER: Final = "received"
SUFFIX: Final = ".bars"


def received_folder(journal: Path) -> Path:
    """The folder for received bars beside a run's journal."""
    return journal.with_name(f"{journal.stem}-{FOLDER}")


def recorded_file(folder: Path, day: dt.date) -> Path | None:
    """The latest file of a day; None without one."""
    if not filesystem.exists(folder):
        return None
    names = [
        path for path in filesystem.entries(folder) if path.suffix == SUFFIX and path.stem.startswith(day.isoformat())
    ]
    return max(names, key=lambda path: (len(path.stem), path.stem), default=None)
