"""The identity of a bot: entity, jurisdiction, broker and its own id, as one string of four parts."""

from __future__ import annotations

import re
from typing import Final

import attrs

from tbot_core.errors import SettingsError

FIELD: Final = "BOT_IDENTITY_STRING"
PATTERN: Final = re.compile(r"([A-Z]{2,6})_([A-Z]{2,4})_([A-Z]{2,10})_([A-Z0-9]{2,6})")
SHORT: Final = "ENTITY_JURISDICTION_BROKER_BOTID"
ALLOWED: Final = (
    f"{SHORT}: 2 to 6, 2 to 4 and 2 to 10 capital letters, then 2 to 6 capital letters or "
    "digits, as in ACME_US_PAPER_B01"
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
        found = PATTERN.fullmatch(text)
        if found is None:
            raise SettingsError(f"{FIELD}: the text is not a bot identity.", f"Write {ALLOWED}.")
        entity, jurisdiction, broker, bot_id = found.groups()
        return cls(entity=entity, jurisdiction=jurisdiction, broker=broker, bot_id=bot_id)

    @property
    def text(self) -> str:
        """The identity as one string."""
        return f"{self.entity}_{self.jurisdiction}_{self.broker}_{self.bot_id}"
