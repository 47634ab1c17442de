"""The bot's identity: entity, jurisdiction, broker and its own id, as one string of four parts in an encrypted file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts.credentials import shown_field
from tbot_core.contracts.setting import text as text_setting
from tbot_core.errors import SettingsError
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.system import filesystem
from tbot_core.vault.categories import category_paths

if TYPE_CHECKING:
    from tbot_core.contracts.settings import DeploymentSettings
    from tbot_core.instance.folder import Instance

FIELD: Final = "BOT_IDENTITY_STRING"
PATTERN: Final = re.compile(r"([A-Z]{2,6})_([A-Z]{2,4})_([A-Z]{2,10})_([A-Z0-9]{2,6})")
_LETTERS: Final = 10
_SHORT: Final = "ENTITY_JURISDICTION_BROKER_BOTID"
ALLOWED: Final = (
    f"{_SHORT}: four parts in capital letters, the owner (2 to 6), the country (2 to 4), the broker (2 to 10) and a "
    "name of the bot (2 to 6 letters or digits), as in ACME_US_PAPER_B01"
)


@attrs.frozen(kw_only=True)
class Identity:
    """The parts of BOT_IDENTITY_STRING; it names ledgers and alerts, and enters the hash of client order ids."""

    entity: str
    jurisdiction: str
    broker: str
    bot_id: str

    @classmethod
    def parse(cls, text: str) -> Identity:
        """Parse the text; raises SettingsError for an invalid one."""
        match = PATTERN.fullmatch(text)
        if match is None:
            raise SettingsError(f"{FIELD}: the text is not a bot identity.", f"Write {ALLOWED}.")
        entity, jurisdiction, broker, bot_id = match.groups()
        return cls(entity=entity, jurisdiction=jurisdiction, broker=broker, bot_id=bot_id)

    @classmethod
    def proposed(cls, broker: str, bot_id: str) -> Identity:
        """An identity for a bot at this broker, until a person gives another one."""
        letters = re.sub("[^A-Z]", "", broker.upper())[:_LETTERS]
        return cls(
            entity="TBOT",
            jurisdiction="US",
            broker=letters if len(letters) > 1 else "BROKER",
            bot_id=bot_id.upper(),
        )

    @property
    def text(self) -> str:
        """The identity as one string."""
        return f"{self.entity}_{self.jurisdiction}_{self.broker}_{self.bot_id}"


def jurisdiction_of(identity: str) -> str:
    """The jurisdiction in the text of an identity, "" for a text that is none."""
    match = PATTERN.fullmatch(identity)
    return match.group(2) if match else ""


@attrs.frozen(kw_only=True)
class BotIdentityConfig:
    """The bot's identity."""

    identity: str = shown_field(
        text_setting(pattern=PATTERN.pattern, allowed=ALLOWED), name=FIELD, doc=f"The bot's identity, {_SHORT}."
    )


def read_identity(instance: Instance, deployment: DeploymentSettings, *, live: bool = False) -> Identity | None:
    """The bot's identity; None without the file. Raises VaultError."""
    here = category_paths("bot_identity", instance, deployment)
    if not filesystem.is_present(here.file):
        return None
    found = open_instance_vault(instance, deployment, live=live).read_as(BotIdentityConfig, "bot_identity")
    return Identity.parse(found.identity)
