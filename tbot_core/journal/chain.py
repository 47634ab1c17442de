"""The hash chain of a journal: what the hash of an event covers, with a key or without, and how it is verified.

Without a key anyone who can write the file can write a whole new chain. A keyed hash begins with `hmac:`; a chain goes
over to it once, and every later event has one.
"""

from __future__ import annotations

import hmac
import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

GENESIS: Final = "0" * 64
START: Final = (0, GENESIS)
"""Number and hash before the first event."""

_KEYED: Final = "hmac:"
_LINE: Final = json.JSONEncoder(separators=(",", ":"))
_RESTORE: Final = "Restore it from a backup; events after the last good one cannot be trusted."


@attrs.frozen(kw_only=True)
class ChainKey:
    """The key of a chain; `since` is the first event that has to have a keyed hash, None if that is not known."""

    secret: bytes = attrs.field(repr=False)
    since: int | None = None

    def demands(self, seq: int) -> bool:
        """Whether this event has to have a keyed hash."""
        return self.since is not None and seq >= self.since


def is_keyed(digest: str) -> bool:
    """Whether an event's hash was made with a key."""
    return digest.startswith(_KEYED)


def event_hash(body: Sequence[Any], key: ChainKey | None) -> str:
    """The hash of an event: of all its columns but the hash itself, the hash of the event before included."""
    line = _LINE.encode(body).encode()
    if key is None:
        return sha256(line).hexdigest()
    return _KEYED + hmac.digest(key.secret, line, "sha256").hex()


def verified_events(
    path: Path, rows: Iterable[Sequence[Any]], key: ChainKey | None, after: tuple[int, str] = START
) -> Iterator[tuple[int, str]]:
    """Verify the rows of a journal after an event, given by number and hash; yields number and hash of each.

    Raises JournalError naming the first that does not fit.
    """
    (seq, previous), keyed = after, is_keyed(after[1])
    for row in rows:
        keyed = keyed or is_keyed(row[-1]) or (key is not None and key.demands(row[0]))
        if keyed and key is None:
            raise _key_missing(path)
        if row[0] != seq + 1 or row[-2] != previous or row[-1] != event_hash(row[:-1], key if keyed else None):
            raise JournalError(
                f"The journal {path} was changed: event {row[0]} breaks the hash chain after {seq}.", _RESTORE
            )
        seq, previous = row[0], row[-1]
        yield seq, previous


def assert_continuable(path: Path, last: Sequence[Any] | None, key: ChainKey | None) -> None:
    """Raises JournalError if a journal that ends with this row cannot be continued with the key."""
    if last is None:
        return
    keyed = is_keyed(last[-1])
    if keyed and key is None:
        raise _key_missing(path)
    if not keyed and key is not None and key.demands(last[0]):
        raise JournalError(
            f"The journal {path} was changed: its last event has no keyed hash, which events since {key.since} have.",
            _RESTORE,
        )
    if keyed and last[-1] != event_hash(last[:-1], key):
        raise JournalError(
            f"The last event of the journal {path} was changed, or was written with another key of the audit log.",
            "Restore the journal, or storage/keys/audit.key, from a backup.",
        )


def ends_early(path: Path, found: int, before: int) -> JournalError:
    """Return the error for a journal that lost events while it was open."""
    return JournalError(
        f"The journal {path} was changed: it ends at event {found}, but had event {before} before.", _RESTORE
    )


def _key_missing(path: Path) -> JournalError:
    return JournalError(
        f"The hash chain of the journal {path} needs the key of the audit log, which is missing.",
        "Restore storage/keys/audit.key from a backup.",
    )
