"""The token with which a monitoring system reads /metrics: stored as a hash, shown once."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from tbot_core.system import filesystem, random
from tbot_core.vault.categories import PAGE

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_extension_web.access.security_log import SecurityLog

FILE_NAME: Final = "metrics.token"
_BYTES: Final = 32


class MetricsToken:
    """The token of an instance; a change of it is recorded with the user who made it."""

    def __init__(self, home: Path, security: SecurityLog) -> None:
        self._path = home / "data" / FILE_NAME
        self._security = security

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return filesystem.is_present(self._path)

    def make(self, actor: str) -> str:
        """Make a new one, which replaces the former, and return it."""
        token = random.entropy(_BYTES).hex()
        self._security.record("account", actor, "token of metrics: made", category=PAGE)
        filesystem.make_folder(self._path.parent)
        filesystem.write_atomic(self._path, _hash(token).encode())
        return token

    def remove(self, actor: str) -> None:
        """Remove it."""
        if self.exists:
            self._security.record("account", actor, "token of metrics: removed", category=PAGE)
            filesystem.remove(self._path)

    def admits(self, authorization: str) -> bool:
        """Whether a header `Authorization: Bearer TOKEN` has the token."""
        kind, _, token = authorization.partition(" ")
        if not self.exists or kind.lower() != "bearer":
            return False
        return hmac.compare_digest(_hash(token.strip()).encode(), filesystem.read_bytes(self._path))


def _hash(token: str) -> str:
    # A fast hash is enough: 256 random bits cannot be guessed.
    return sha256(token.encode(errors="surrogatepass")).hexdigest()
