"""Alert channel `slack`: posts each alert by an incoming webhook, or as a bot into a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import Host, Plugin, PluginNeeds, SecretValue
from tbot_core.contracts.credentials import hidden_field, shown_field
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.setting import text

if TYPE_CHECKING:
    from tbot_core.contracts import AlertChannel, Context

__all__ = ["NEEDS", "Config", "SlackCredentials", "create"]

WEBHOOK: Final = text(
    pattern=r"https://hooks\.slack\.com/[A-Za-z0-9/_-]{1,300}",
    allowed="an address as in https://hooks.slack.com/services/...",
)
BOT_TOKEN: Final = text(pattern=r"xoxb-[A-Za-z0-9-]{1,300}", allowed="a bot's token, which begins with xoxb-")


@attrs.frozen(kw_only=True)
class Config:
    """The channel has no settings."""


@attrs.frozen(kw_only=True)
class SlackCredentials:
    """The plugin's section of the category `alert`: a webhook, or a bot token and its channel, which comes first."""

    webhook_url: SecretValue | None = hidden_field(
        WEBHOOK,
        doc="Address of an incoming webhook; empty with a bot token.",
        optional=True,
        aliases=("webhook", "url"),
    )
    bot_token: SecretValue | None = hidden_field(
        BOT_TOKEN, doc="Token of a bot with the scope chat:write.", optional=True, aliases=("token",)
    )
    channel: str = shown_field(
        text(pattern=r"(?:#?[^\s#@,]{1,80})?", allowed="a channel's id as in C0123456789, or its name"),
        default="",
        doc="Channel that the bot posts into.",
        aliases=("channel_id",),
        needed_with="bot_token",
    )


NEEDS: Final = PluginNeeds(
    secrets={"alert": SlackCredentials},
    hosts={"api": Host("https://slack.com/api"), "webhook": Host("https://hooks.slack.com")},
)


@hookimpl
def tbot_alert() -> Plugin:
    """The plugin's offer."""
    return Plugin(
        name="slack", summary="Alerts to a Slack channel", config=Config, create=create, needs=NEEDS, venue=_venue
    )


def create(_config: Config, context: Context) -> AlertChannel:
    """Make the channel; nothing is connected before the first alert."""
    from tbot_alert_slack.channel import SlackChannel

    return SlackChannel(context)


def _venue(*place: Any) -> Any:
    from tbot_alert_slack.venue import open_venue

    return open_venue(*place)
