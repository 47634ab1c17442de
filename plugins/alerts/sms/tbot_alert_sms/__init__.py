"""Alert channel `sms`: sends each alert as a text message by Twilio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import Host, Plugin, PluginNeeds, SecretValue
from tbot_core.contracts.credentials import hidden_field, list_of, shown_field
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.setting import text

if TYPE_CHECKING:
    from tbot_core.contracts import AlertChannel, Context

__all__ = ["NEEDS", "Config", "TwilioCredentials", "create"]

_NUMBER: Final = r"\+[1-9][0-9]{6,14}"
_SENDER: Final = "a telephone number as in +12025550123, or a messaging service's id (MG...)"


@attrs.frozen(kw_only=True)
class Config:
    """The channel has no settings."""


@attrs.frozen(kw_only=True)
class TwilioCredentials:
    """The plugin's section of the category `alert`."""

    account_sid: str = shown_field(
        text(pattern="AC[0-9a-fA-F]{32}", allowed="AC and 32 hexadecimal digits"), doc="Account at Twilio."
    )
    auth_token: SecretValue = hidden_field(doc="Token of the account.", aliases=("token",))
    sender: str = shown_field(
        text(pattern=rf"{_NUMBER}|MG[0-9a-fA-F]{{32}}", allowed=_SENDER),
        doc="Number or messaging service that sends.",
        aliases=("from", "from_number", "messaging_service_sid"),
    )
    recipients: tuple[str, ...] = shown_field(
        list_of("telephone numbers", pattern=_NUMBER, allowed="telephone numbers as in +12025550123"),
        doc="Numbers that get it.",
        aliases=("to", "to_number"),
    )


NEEDS: Final = PluginNeeds(secrets={"alert": TwilioCredentials}, hosts={"api": Host("https://api.twilio.com")})


@hookimpl
def tbot_alert() -> Plugin:
    """The plugin's offer."""
    return Plugin(
        name="sms", summary="Alerts as text messages by Twilio", config=Config, create=create, needs=NEEDS, venue=_venue
    )


def create(_config: Config, context: Context) -> AlertChannel:
    """Make the channel; nothing is connected before the first alert."""
    from tbot_alert_sms.channel import SmsChannel

    return SmsChannel(context)


def _venue(*place: Any) -> Any:
    from tbot_alert_sms.venue import open_venue

    return open_venue(*place)
