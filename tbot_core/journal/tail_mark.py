"""How many events a journal holds, noted in a file beside it: those that were there and are gone are missed.

A chain of hashes knows nothing of what was taken off its end, and SQLite nothing of a log that was deleted. The note is
made after each append and not waited for: a power cut may leave it behind the journal, nothing brings it ahead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.errors import AccessError, JournalError
from tbot_core.system import filesystem, log

if TYPE_CHECKING:
    from pathlib import Path

_log = log.logger(__name__)


def journal_files(journal: Path) -> tuple[Path, ...]:
    """A journal's file and all that may lie beside it: log, index of the log, and the note."""
    return journal, *(journal.with_name(f"{journal.name}-{suffix}") for suffix in ("wal", "shm", "anchor"))


def note_event_count(journal: Path, events: int) -> None:
    """Note how many events are written; that this fails is said in the log and stops nobody."""
    try:
        filesystem.overwrite(journal_files(journal)[-1], f"{events:020}\n".encode())
    except AccessError as fault:
        _log.warning("journal.not_anchored", reason=fault.message)


def noted_event_count(journal: Path) -> int:
    """How many events the journal held at least; 0 when nothing legible says so.

    Raises JournalError when it held some and its file is gone or empty, before anybody makes a new one.
    """
    try:
        events = int(filesystem.read_bytes(journal_files(journal)[-1], limit=100))
    except (AccessError, ValueError):
        return 0
    if events and not (filesystem.exists(journal) and filesystem.size(journal)):
        raise truncated_error(journal, 0, events)
    return events


def journal_exists(journal: Path) -> bool:
    """Whether there is a journal; raises JournalError where one was and is gone."""
    return bool(noted_event_count(journal)) or filesystem.exists(journal)


def truncated_error(journal: Path, found: int, before: int) -> JournalError:
    """The error about a journal that ends too early."""
    _, wal, _, mark = journal_files(journal)
    return JournalError(
        f"The journal {journal} ends at event {found} but had {before} before: its file is an older one, or "
        f"{wal.name}, the log beside it, was removed or damaged.",
        "Put the previous files back, from a backup if necessary. To continue without those events, remove "
        f"{mark}: orders known only from them then count as external.",
    )
