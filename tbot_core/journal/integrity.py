"""Whether the files of a journal are complete and usable, and the errors if they are not.

The number of events is kept in a file beside the journal: a hash chain cannot detect that its end was removed, nor
SQLite that a WAL was deleted. The count is written after each append without waiting for the disk: after a power cut it
may be too low, never too high.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from tbot_core.errors import AccessError, JournalError
from tbot_core.system import filesystem, log

if TYPE_CHECKING:
    from pathlib import Path

_log = log.logger(__name__)
_UNREACHABLE: Final = frozenset(
    getattr(sqlite3, f"SQLITE_{name}") for name in ("CANTOPEN", "PERM", "READONLY", "BUSY", "LOCKED", "IOERR")
)
"""SQLite result codes for a file that may be intact but cannot be accessed: permissions, disk, locks."""


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

    Raises JournalError when the count is positive and the journal's file is missing or empty, and for a pipe, socket or
    device in the place of one of its files: reading that could block forever.
    """
    for file in journal_files(journal):
        if filesystem.is_endless(file):
            raise JournalError(
                f"The journal {journal} cannot be used: {file.name} is a pipe, a socket or a device.",
                "Put the journal's own file back, or remove what is in its place.",
            )
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


def damaged_journal(path: Path, words: str) -> JournalError:
    """Return the error for a file whose content is damaged."""
    return JournalError(f"The journal {path} is damaged: {words}.", "Restore it from a backup.")


def unusable_journal(path: Path, error: Exception) -> JournalError:
    """Return the error for a file that cannot be opened or read."""
    if _code(error) not in _UNREACHABLE:
        return damaged_journal(path, str(error).partition(" with text ")[0])  # cut off the undecodable text
    return JournalError(
        f"The journal {path} cannot be used: {error}.",
        "There is no sign of damage: check the disk, and the permissions of the file and its folder.",
    )


def closed_out_of_reach(path: Path, error: BaseException | None) -> bool:
    """Whether a file that cannot be opened was closed cleanly, so that the main file is complete (no WAL beside it)."""
    log = path.with_name(f"{path.name}-wal")
    return _code(error) == sqlite3.SQLITE_CANTOPEN and not filesystem.exists(log)


def is_full(error: BaseException) -> bool:
    """Whether the disk was full. Nothing of the transaction was written then."""
    return _code(error) == sqlite3.SQLITE_FULL


def _code(error: BaseException | None) -> int:
    # SQLite's primary result code; 0 for an error that is not SQLite's.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
