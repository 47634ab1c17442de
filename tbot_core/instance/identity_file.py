"""The bot's identity from its encrypted file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.instance.secret_schemas import BotIdentity
from tbot_core.instance.secrets import vault
from tbot_core.model.identity import Identity
from tbot_core.system import filesystem
from tbot_core.vault.categories import place

if TYPE_CHECKING:
    from tbot_core.contracts.settings import Deployment
    from tbot_core.instance.folder import Instance


def identity(instance: Instance, deployment: Deployment, *, live: bool = False) -> Identity | None:
    """Who the bot is; None where there is no such file. Raises VaultError."""
    here = place("bot_identity", instance, deployment)
    if not filesystem.is_present(here.file):
        return None
    found = vault(instance, deployment, live=live).read_as(BotIdentity, "bot_identity")
    return Identity.parse(found.identity)
