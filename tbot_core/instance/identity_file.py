"""The bot's identity from its encrypted file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.instance.secret_schemas import BotIdentityConfig
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.model.identity import Identity
from tbot_core.system import filesystem
from tbot_core.vault.categories import category_paths

if TYPE_CHECKING:
    from tbot_core.contracts.settings import DeploymentSettings
    from tbot_core.instance.folder import Instance


def read_identity(instance: Instance, deployment: DeploymentSettings, *, live: bool = False) -> Identity | None:
    """The bot's identity; None without the file. Raises VaultError."""
    here = category_paths("bot_identity", instance, deployment)
    if not filesystem.is_present(here.file):
        return None
    found = open_instance_vault(instance, deployment, live=live).read_as(BotIdentityConfig, "bot_identity")
    return Identity.parse(found.identity)
