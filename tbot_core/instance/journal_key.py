"""The key of the hash chain of the instance's journal: derived from the key of the audit log, where there is one.

The audit log says from which event on the chain is keyed, so a chain that was written anew without the key is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.journal import chain
from tbot_core.journal.chain import ChainKey
from tbot_core.journal.store import open_journal
from tbot_core.system import filesystem
from tbot_core.vault import audit_log, categories, keys
from tbot_core.vault.vault import SecretAccess

if TYPE_CHECKING:
    from tbot_core.instance.folder import Instance
    from tbot_core.journal.store import Journal
    from tbot_core.vault.vault import Vault

_LABEL: Final = b"tbot journal v1"
_ACTION: Final = "write"
_CATEGORY: Final = "journal"
_SINCE: Final = "keyed from "


def open_instance_journal(instance: Instance, *, live: bool = False) -> Journal:
    """Open the journal of paper and live trading for writing; its new events get keyed hashes if there is a key.

    `live` refuses loose modes of the key file. Raises JournalError and VaultError.
    """
    filesystem.make_folder(instance.data)
    opened = _vault(instance, live=live)
    key = _key(instance, opened)
    journal = open_journal(instance.journal, key=key)
    seq, digest = journal.head
    if key is not None and not chain.is_keyed(digest) and key.since != seq + 1:
        try:
            opened.audit.record(SecretAccess(action=_ACTION, category=_CATEGORY, outcome=f"{_SINCE}{seq + 1}"))
        except BaseException:
            journal.close()
            raise
    return journal


def chain_key(instance: Instance, *, live: bool = False) -> ChainKey | None:
    """The key with which the instance's journal is verified; None without one. Raises VaultError."""
    return _key(instance, _vault(instance, live=live))


def _vault(instance: Instance, *, live: bool) -> Vault:
    # The path of the audit log's key cannot be set.
    return open_instance_vault(instance, DeploymentSettings(), live=live, ready=False)


def _key(instance: Instance, opened: Vault) -> ChainKey | None:
    log = audit_log.log_path(instance)
    root = opened.store.key(categories.AUDIT) if filesystem.is_present(log) else None
    if root is None:
        return None
    secret = keys.derived_key(root, _LABEL)
    root.wipe()
    since = [
        int(it.outcome.removeprefix(_SINCE))
        for it in audit_log.log_entries(log)
        if (it.action, it.category) == (_ACTION, _CATEGORY) and it.outcome.removeprefix(_SINCE).isdecimal()
    ]
    return ChainKey(secret=secret, since=since[-1] if since else None)
