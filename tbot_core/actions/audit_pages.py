"""The audit log in pages, read from its end, by user, category and day."""

from __future__ import annotations

import datetime as dt
import re
from contextlib import closing
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.instance import Instance
from tbot_core.instance.journal_head import NOTED
from tbot_core.model.clock import exchange_moment, exchange_time
from tbot_core.vault.audit_log import AuditLogEntry, entries_back, log_path, place_of

if TYPE_CHECKING:
    from pathlib import Path

MOST_ROWS: Final = 200
"""Rows of a page."""

MOST_BYTES: Final = 1_048_576
"""How much of the log is searched for a page: about 2,500 lines."""

_READS: Final = frozenset({"open", "decrypt"})
_NAMES: Final = re.compile(r"[a-z0-9][a-z0-9._-]*[a-z0-9_-]")


@attrs.frozen(kw_only=True)
class AccessSearch:
    """Which accesses are wanted: a user, a category and a day of New York; empty fits each.

    `user` is a part of the name of who did it, or the whole name of a user whom the result names. Without `reads` what
    was read without a fault is left out, and beginnings, whose end is a line too, and the hourly heads of the journal.
    """

    user: str = ""
    category: str = ""
    day: dt.date | None = None
    reads: bool = False

    def fits(self, entry: AuditLogEntry) -> bool:
        """Whether the access is wanted."""
        return (
            self._is_of_user(entry)
            and self.category in {"", entry.category}
            and self.day in {None, exchange_time(entry.utc).date()}
            and (self.reads or not _is_usual(entry))
        )

    def _is_of_user(self, entry: AuditLogEntry) -> bool:
        user = self.user.casefold()
        return user in entry.actor.casefold() or user in _NAMES.findall(entry.outcome.casefold())


def _is_usual(entry: AuditLogEntry) -> bool:
    # What is left out unless asked for: beginnings, readings without a fault, and the hourly heads of the journal.
    read = entry.action in _READS and entry.outcome == "ok"
    return read or entry.outcome == "begun" or entry.action == NOTED


@attrs.frozen(kw_only=True)
class AccessPage:
    """Accesses, the newest first; `older` is where the page of those before ends, None where there are none."""

    rows: tuple[AuditLogEntry, ...] = ()
    older: int | None = None


def access_page(
    home: Path | None, search: AccessSearch, before: int | None = None, most: int = MOST_ROWS
) -> AccessPage:
    """The latest accesses that fit, or the latest before a place, not verified. Raises VaultError.

    It reads no more than MOST_BYTES, and finds a day by bisection, whatever the size of the log: a page may have fewer
    rows, or none.
    """
    path, ended = log_path(Instance.at(home)), None
    found: list[AuditLogEntry] = []
    if search.day is not None and before is None:
        before = place_of(path, exchange_moment(search.day + dt.timedelta(days=1), dt.time()))
    with closing(entries_back(path, before)) as entries:
        for start, entry in entries:
            if search.day is not None and exchange_time(entry.utc).date() < search.day:
                break
            ended = start if ended is None else ended
            if search.fits(entry):
                found.append(entry)
            if len(found) == most or ended - start >= MOST_BYTES:
                return AccessPage(rows=tuple(found), older=start or None)
    return AccessPage(rows=tuple(found))
