"""The bot's identity from its encrypted file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.errors import SettingsError
from tbot_core.identity import FIELD, Identity
from tbot_core.seams import disk
from tbot_core.settings.access import vault
from tbot_core.vault.categories import place

if TYPE_CHECKING:
    from tbot_core.policy import Deployment
    from tbot_core.settings.instance import Instance


def identity(instance: Instance, deployment: Deployment, *, live: bool = False) -> Identity | None:
    """Who the bot is; None where there is no such file. Raises VaultError, and SettingsError for its content."""
    here = place("bot_identity", instance, deployment)
    if not disk.is_present(here.file):
        return None
    fields = vault(instance, deployment, live=live).read_section("bot_identity")
    if FIELD not in fields:
        raise SettingsError(
            f"{here.shown(here.file)} has no field {FIELD}.", "`tbot secrets edit bot_identity` adds it."
        )
    return Identity.parse(fields[FIELD].reveal())
