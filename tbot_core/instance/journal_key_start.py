"""The line of the audit log that says from which event on the chain of the instance's journal is keyed.

It is written when the key of the audit log is made, or for a journal without events. The first such line counts.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from tbot_core.errors import JournalError
from tbot_core.journal import integrity
from tbot_core.journal.store import read_journal
from tbot_core.system import log
from tbot_core.vault import audit_log
from tbot_core.vault.categories import JOURNAL
from tbot_core.vault.vault import SecretAccess

if TYPE_CHECKING:
    from tbot_core.instance.folder import Instance
    from tbot_core.vault.audit_log import AuditLogEntry
    from tbot_core.vault.keys import RootKey
    from tbot_core.vault.vault import Vault

_log = log.logger(__name__)
_ACTION: Final = "write"
_SINCE: Final = "keyed from "


def note_switch(opened: Vault, first: int) -> None:
    """Record that every event from this one on has a keyed hash. Raises VaultError."""
    opened.audit.record(SecretAccess(action=_ACTION, category=JOURNAL, outcome=f"{_SINCE}{first}"))


def note_new_key(instance: Instance, opened: Vault) -> None:
    """Record the switch for a key that was made just now: the journal's events of before have no keyed hash.

    A running bot goes on without the key, and a damaged journal has no known end: nothing is recorded then, and `tbot
    audit accept` does it later. Raises VaultError.
    """
    if instance.lock_holder is not None:
        return
    before = 0
    try:
        if integrity.journal_exists(instance.journal):
            with closing(read_journal(instance.journal)) as journal:
                before = journal.head[0]
    except JournalError as fault:
        _log.warning("journal.not_keyed", reason=fault.message)
        return
    note_switch(opened, before + 1)


def read_switch(instance: Instance, root: RootKey) -> int | None:
    """The first event that has to have a keyed hash; None if no line says so. Raises VaultError for a forged line."""
    entry = audit_log.first_entry(audit_log.log_path(instance), root, _is_switch)
    return None if entry is None else int(entry.outcome.removeprefix(_SINCE))


def _is_switch(entry: AuditLogEntry) -> bool:
    said = entry.outcome.removeprefix(_SINCE)
    return (entry.action, entry.category) == (_ACTION, JOURNAL) and said != entry.outcome and said.isdecimal()
