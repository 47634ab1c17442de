"""Shows and verifies the log of every access to the secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.instance import Instance
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.vault.audit_log import AuditAnchor, AuditLogEntry


def logged_accesses(home: Path | None, *, verify: bool) -> tuple[tuple[AuditLogEntry, ...], AuditAnchor | None]:
    """All logged accesses, and with `verify` the head of the verified chain. Raises VaultError."""
    from tbot_core.vault.audit_log import log_entries, log_path

    instance = Instance.at(home)
    anchor = verify_audit_log(instance) if verify else None
    return tuple(log_entries(log_path(instance))), anchor


def access_lines(entries: Sequence[AuditLogEntry], anchor: AuditAnchor | None) -> Iterator[str]:
    """The accesses as text; with the head of the chain if it was verified."""
    for it in entries:
        key = it.key_id or "-"
        yield f"{it.utc:%Y-%m-%d %H:%M:%S}  {it.action:8} {it.category:13} {key:16}  {it.outcome:10} {it.actor}"
    if not entries:
        yield "No access is logged yet."
    if anchor is not None:
        yield f"The chain of {anchor.count} accesses is intact, head {anchor.hash[:16]}."


def verify_audit_log(instance: Instance, collected: Sequence[AuditAnchor] = ()) -> AuditAnchor | None:
    """The head of the verified log of accesses; None if nothing was logged. Raises VaultError.

    `collected`: anchors that were kept elsewhere.

    The settings are not opened, since that would add lines to the log that is verified.
    """
    from tbot_core.contracts.settings import DeploymentSettings
    from tbot_core.instance.secrets import open_instance_vault
    from tbot_core.vault.audit_log import AuditLog, anchor_path, log_path

    kept = [filesystem.is_present(path) for path in (log_path(instance), anchor_path(instance))]
    if not (collected or any(kept)):
        return None
    store = open_instance_vault(instance, DeploymentSettings(), ready=False).store
    return AuditLog(store=store, actor="").verify(collected)
