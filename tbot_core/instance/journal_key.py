"""The key of the hash chain of the instance's journal: derived from the key of the audit log, where there is one.

One line of the audit log says from which event on the chain is keyed, so a chain that was written anew without the key
is refused. The first such line counts, and it must be authentic; without it the journal is not used.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance.journal_key_start import note_switch, read_switch
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.journal import integrity
from tbot_core.journal.store import ChainKey, Journal, is_keyed, open_journal, read_journal, verify_all_events
from tbot_core.system import filesystem
from tbot_core.vault import audit_log, categories, keys
from tbot_core.vault.error_codes import VaultErrorCode, vault_error

if TYPE_CHECKING:
    from tbot_core.errors import VaultError
    from tbot_core.instance.folder import Instance
    from tbot_core.vault.vault import Vault

_LABEL: Final = b"tbot journal v1"


def open_instance_journal(instance: Instance, *, live: bool = False) -> Journal:
    """Open the journal of paper and live trading for writing; its new events get keyed hashes if there is a key.

    The whole chain is verified, about a second for 100,000 events. `live` refuses loose modes of the key file. Raises
    JournalError and VaultError.
    """
    filesystem.make_folder(instance.data)
    opened = _vault(instance, live=live)
    key = _key(instance, opened)
    journal = open_journal(instance.journal, key=key)
    try:
        if key is not None and key.since is None:
            _begin_chain(opened, journal)
        verify_all_events(journal, key)
    except BaseException:
        journal.close()
        raise
    return journal


def chain_key(instance: Instance, *, live: bool = False) -> ChainKey | None:
    """The key with which the instance's journal is verified; None without one.

    Raises VaultError, also when the audit log does not say from which event on the journal is keyed.
    """
    opened = _vault(instance, live=live)
    key = _key(instance, opened)
    if key is not None and key.since is None:
        raise _fault(opened, VaultErrorCode.AUDIT_JOURNAL_UNSAID)
    return key


def accept_journal(instance: Instance) -> tuple[int, bool]:
    """Record in the audit log from which event on the chain of the journal, as it is now, is keyed.

    Returns the event, and whether that was recorded now. The chain is verified before. Where the log says it already,
    nothing is recorded. Raises VaultError, JournalError for a chain that is broken, and AccessError while a bot uses
    the instance.
    """
    opened = _vault(instance, live=False)
    root = audit_log.AuditLog(store=opened.store, actor="").key()
    secret = keys.derived_key(root, _LABEL)
    try:
        first = read_switch(instance, root)
        if first is not None:
            return first, False
        with filesystem.hold_lock(instance.lock, folder=instance.home):
            first = _first_keyed(instance, ChainKey(secret=secret))
            note_switch(opened, first)
            return first, True
    finally:
        root.wipe()


def _begin_chain(opened: Vault, journal: Journal) -> None:
    # An empty journal is keyed from its first event on; about one with events the log has to say it already.
    if journal.head[0]:
        raise _fault(opened, VaultErrorCode.AUDIT_JOURNAL_UNSAID)
    note_switch(opened, 1)


def _first_keyed(instance: Instance, key: ChainKey) -> int:
    # The first event with a keyed hash, else the next event, of a journal whose chain is whole.
    if not integrity.journal_exists(instance.journal):
        return 1
    with closing(read_journal(instance.journal)) as journal:
        journal.verify(key)
        return next((event.seq for event in journal.events() if is_keyed(event.hash)), journal.head[0] + 1)


def _vault(instance: Instance, *, live: bool) -> Vault:
    # The path of the audit log's key cannot be set.
    return open_instance_vault(instance, DeploymentSettings(), live=live, ready=False)


def _key(instance: Instance, opened: Vault) -> ChainKey | None:
    # A provider that derives its keys has one before the first access, so then the log may not exist yet.
    logged = filesystem.is_present(audit_log.log_path(instance))
    stored = "put" in opened.store.keys.capabilities
    if not (logged or stored or integrity.journal_exists(instance.journal)):
        return None
    root = opened.store.key(categories.AUDIT)
    if root is None:
        return None
    try:
        if not logged:
            raise _fault(opened, VaultErrorCode.AUDIT_GONE)
        return ChainKey(secret=keys.derived_key(root, _LABEL), since=read_switch(instance, root))
    finally:
        root.wipe()


def _fault(opened: Vault, code: VaultErrorCode) -> VaultError:
    here = opened.store.place(categories.AUDIT)
    return vault_error(code, categories.AUDIT, here.shown(here.file))
