"""The last verified event of a journal, kept beside it, so that a reader need not verify it from the first.

Who has no key cannot write a head that counts. It does not prove that the events before it are still the same: a start,
`tbot check` and `tbot audit verify` verify them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.errors import AccessError, JournalError
from tbot_core.journal import chain
from tbot_core.system import filesystem, log

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.journal.chain import ChainKey
    from tbot_core.journal.store import Journal

_LABEL: Final = "verified"
_LIMIT_BYTES: Final = 500
_log = log.logger(__name__)


def verify_new_events(journal: Journal, key: ChainKey | None) -> tuple[int, str]:
    """Verify the events since the last verified one and return the head; all where that one is not known.

    Nothing is written. Raises JournalError.
    """
    known = _read(journal.path, key)
    if known is not None:
        try:
            return journal.verify(key, after=known)
        except JournalError as fault:  # an older journal may have taken its place: judge the whole
            _log.info("journal.verified_anew", reason=fault.message)
    return journal.verify(key)


def verify_all_events(journal: Journal, key: ChainKey | None) -> tuple[int, str]:
    """Verify every event, keep the head as the last verified one and return it. Raises JournalError."""
    head = journal.verify(key)
    _keep(journal.path, head, key)
    return head


def verified_path(journal: Path) -> Path:
    """The file of the last verified event."""
    return journal.with_name(f"{journal.name}-verified")


def _read(journal: Path, key: ChainKey | None) -> tuple[int, str] | None:
    # The last verified event; None without one that counts.
    try:
        count, digest, mac = filesystem.read_bytes(verified_path(journal), limit=_LIMIT_BYTES).decode().split()
        head = int(count), digest
    except (AccessError, ValueError):
        return None
    return head if mac == _mac(head, key) else None


def _keep(journal: Path, head: tuple[int, str], key: ChainKey | None) -> None:
    # Without the head only time is lost; a reader may not be allowed to write.
    try:
        filesystem.write_atomic(verified_path(journal), f"{head[0]} {head[1]} {_mac(head, key)}\n".encode())
    except AccessError as fault:
        _log.info("journal.head_not_kept", reason=fault.message)


def _mac(head: tuple[int, str], key: ChainKey | None) -> str:
    return chain.event_hash((_LABEL, *head), key)
