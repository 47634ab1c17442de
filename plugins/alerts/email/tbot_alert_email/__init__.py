"""Alert channel `email`: sends each alert as a mail of plain text by the operator's SMTP server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import Host, Plugin, PluginNeeds, SecretValue
from tbot_core.contracts.credentials import hidden_field, list_of, shown_field
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.network import MAIL_ADDRESS
from tbot_core.contracts.setting import choice, integer, optional, text

if TYPE_CHECKING:
    from tbot_core.contracts import AlertChannel, Context

__all__ = ["NEEDS", "Config", "SmtpCredentials", "create"]


@attrs.frozen(kw_only=True)
class Config:
    """The channel has no settings: server, login and addresses are the secrets `smtp`."""


@attrs.frozen(kw_only=True)
class SmtpCredentials:
    """The category `smtp`."""

    host: str = shown_field(
        text(pattern=r"[A-Za-z0-9.:_-]{1,253}", allowed="a host's name or address"),
        doc="Mail server.",
        aliases=("server", "smtp_host", "smtp_server"),
    )
    port: int | None = shown_field(
        optional(integer(least=1, most=65_535), absent="empty for 587, with tls 465, with none 25"),
        default="",
        doc="Its port.",
        aliases=("smtp_port",),
    )
    security: str = shown_field(
        choice("starttls", "tls", "none"),
        default="starttls",
        doc="How the connection is encrypted; none only for a server on this machine.",
    )
    user: str = shown_field(
        text(pattern=r"[^\x00-\x1f\x7f]{0,320}"),
        default="",
        doc="Name to log in with; empty for no login.",
        aliases=("username", "login", "smtp_user"),
    )
    password: SecretValue | None = hidden_field(doc="Its password.", optional=True, aliases=("smtp_password",))
    sender: str = shown_field(
        text(pattern=f"(?:{MAIL_ADDRESS})?", allowed="an address as in bot@example.com"),
        default="",
        doc="Sender of mail; empty for the user.",
        aliases=("from", "from_address"),
        fallback="user",
    )
    recipients: tuple[str, ...] = shown_field(
        list_of("addresses", pattern=MAIL_ADDRESS, allowed="addresses as in me@example.com"),
        default="",
        doc="Who gets mail; empty for the sender.",
        aliases=("to", "recipient"),
    )


NEEDS: Final = PluginNeeds(
    secrets={"smtp": SmtpCredentials}, hosts={"starttls": Host("smtp://*"), "tls": Host("smtps://*")}
)


@hookimpl
def tbot_alert() -> Plugin:
    """The plugin's offer."""
    return Plugin(
        name="email",
        summary="Alerts by email",
        config=Config,
        create=create,
        needs=NEEDS,
        venue=_venue,
    )


def create(_config: Config, context: Context) -> AlertChannel:
    """Make the channel; nothing is connected before the first alert."""
    from tbot_alert_email.channel import EmailChannel

    return EmailChannel(context)


def _venue(*place: Any) -> Any:
    from tbot_alert_email.venue import open_venue

    return open_venue(*place)
