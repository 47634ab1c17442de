"""The number of events in a journal, kept in a file beside it, so that events missing from the end are noticed.

A hash chain cannot detect that its end was removed, nor SQLite that a WAL was deleted. The count is written after each
append without waiting for the disk: after a power cut it may be too low, never too high.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.errors import AccessError, JournalError
from tbot_core.system import filesystem, log

if TYPE_CHECKING:
    from pathlib import Path

_log = log.logger(__name__)


def journal_files(journal: Path) -> tuple[Path, ...]:
    """The journal's file and those beside it: WAL, WAL index, and event count."""
    return journal, *(journal.with_name(f"{journal.name}-{suffix}") for suffix in ("wal", "shm", "anchor"))


def note_event_count(journal: Path, events: int) -> None:
    """Store the number of events; a failure is only logged."""
    try:
        filesystem.overwrite(journal_files(journal)[-1], f"{events:020}\n".encode())
    except AccessError as fault:
        _log.warning("journal.not_anchored", reason=fault.message)


def noted_event_count(journal: Path) -> int:
    """Return the minimum number of events the journal held; 0 when no count is readable.

    Raises JournalError when the count is positive and the journal's file is missing or empty.
    """
    try:
        events = int(filesystem.read_bytes(journal_files(journal)[-1], limit=100))
    except (AccessError, ValueError):
        return 0
    if events and not (filesystem.exists(journal) and filesystem.size(journal)):
        raise truncated_error(journal, 0, events)
    return events


def journal_exists(journal: Path) -> bool:
    """Whether there is a journal; raises JournalError when one existed and is gone."""
    return bool(noted_event_count(journal)) or filesystem.exists(journal)


def truncated_error(journal: Path, found: int, before: int) -> JournalError:
    """Return the error for a journal that ends too early."""
    _, wal, _, mark = journal_files(journal)
    return JournalError(
        f"The journal {journal} ends at event {found} but had {before} before: its file is an older one, or "
        f"{wal.name}, the log beside it, was removed or damaged.",
        "Put the previous files back, from a backup if necessary. To continue without those events, remove "
        f"{mark}: orders known only from them then count as external.",
    )
