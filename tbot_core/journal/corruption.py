"""Errors about journal files that cannot be used: damaged, inaccessible, or on a full disk."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from tbot_core.errors import JournalError
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path

_UNREACHABLE: Final = frozenset(
    getattr(sqlite3, f"SQLITE_{name}") for name in ("CANTOPEN", "PERM", "READONLY", "BUSY", "LOCKED", "IOERR")
)
"""SQLite result codes for a file that may be intact but cannot be accessed: permissions, disk, locks."""


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
