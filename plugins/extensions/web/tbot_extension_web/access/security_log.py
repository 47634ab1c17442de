"""The security log: logins, refusals, locks and changes of accounts are lines of the vault's audit log.

One log, hash-chained and authenticated, verified by `tbot secrets audit --verify`. Its actor is `web/USER@SOURCE`; a
name that is no user's is never written, since people type passwords into the wrong field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import AccessError, VaultError
from tbot_core.system import filesystem, log
from tbot_core.vault.audit_log import AuditLog
from tbot_core.vault.categories import CONTROL
from tbot_core.vault.vault import SecretAccess, Vault

if TYPE_CHECKING:
    from tbot_core.vault.vault import AuditAction

LOGIN: Final = "login"
"""The category of these lines, unless another is given."""

FREE_BYTES: Final = 1_000_000
"""With less free space nothing is recorded, and so no login is accepted."""

UNKNOWN: Final = "-"
"""In the place of a user who is not known."""

_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class SecurityLog:
    """Writes the lines of one instance. A line that cannot be written raises VaultError, and nothing is done then."""

    vault: Vault

    def record(self, action: AuditAction, actor: str, outcome: str, *, source: str = "", category: str = LOGIN) -> None:
        """Write a line durably; `actor` is the user, "" where there is none. It may wait for the disk.

        Raises AccessError on a full disk: the space reserved for the log belongs to the bot, not to strangers' logins.
        """
        home = self.vault.instance.home
        if filesystem.free_bytes(home) < FREE_BYTES:
            raise AccessError(f"The disk of {home} is full: no login is recorded.", "Free some space, then try again.")
        self._audit(actor, source).record(SecretAccess(action=action, category=category, outcome=outcome))

    def acting(self, actor: str) -> Vault:
        """The vault, with its accesses recorded for the user."""
        return attrs.evolve(self.vault, audit=self._audit(actor))

    def _audit(self, actor: str, source: str = "") -> AuditLog:
        place = f"@{source}" if source else ""
        return AuditLog(store=self.vault.store, actor=f"web/{actor or UNKNOWN}{place}")


def note_request(security: SecurityLog, actor: str, words: str) -> None:
    """Write a line about a request that a user has made to the bot.

    The request has been made: a line that cannot be written is logged, and keeps nothing from the bot.
    """
    try:
        security.record("write", actor, f"requested {words}", category=CONTROL)
    except (AccessError, VaultError) as fault:
        _log.warning("audit.request_not_written", actor=actor, request=words, reason=fault.message)
