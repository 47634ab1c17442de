"""What the checks before a start are given, and what they return."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts.setting import DeclaredConfig
from tbot_core.instance.findings import Level
from tbot_core.instance.folder import Instance
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.instance.sources import SettingsFiles, deployment_of

if TYPE_CHECKING:
    from tbot_core.vault.vault import Vault


@attrs.frozen(kw_only=True)
class PreflightFinding:
    """A finding: level, subject, sentence, remedy, and the exit code if it fails.

    `refused_live`: it is a warning on paper alone, and a failure in live trading.
    """

    level: Level
    subject: str
    message: str
    remedy: str = ""
    exit_code: int = 3
    refused_live: bool = False

    def __str__(self) -> str:
        """The sentence with its remedy."""
        return f"{self.message} {self.remedy}".rstrip()

    @property
    def document(self) -> dict[str, object]:
        """The finding for JSON."""
        return {"level": self.level, "subject": self.subject, "message": self.message, "remedy": self.remedy}


@attrs.frozen(kw_only=True)
class PreflightSubject:
    """The instance to check: its settings files as read, the time, and its plugins.

    `declared` are the loaded ones, whose secrets must be there, `installed` the (kind, name) of all.
    """

    instance: Instance
    sources: SettingsFiles
    now: datetime
    strict: bool = False
    allow_shared_key: bool = False
    declared: tuple[DeclaredConfig, ...] = ()
    installed: frozenset[tuple[str, str]] = frozenset()

    def vault(self) -> Vault:
        """The instance's vault."""
        return open_instance_vault(self.instance, deployment_of(self.sources.env.parsed), live=self.strict, ready=False)
