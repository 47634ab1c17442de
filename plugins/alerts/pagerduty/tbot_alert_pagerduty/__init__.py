"""Alert channel `pagerduty`: each alert is an event of PagerDuty's Events API v2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import Host, Plugin, PluginNeeds, SecretValue
from tbot_core.contracts.credentials import hidden_field
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.setting import text

if TYPE_CHECKING:
    from tbot_core.contracts import AlertChannel, Context

__all__ = ["NEEDS", "Config", "PagerDutyCredentials", "create"]


@attrs.frozen(kw_only=True)
class Config:
    """The channel has no settings."""


@attrs.frozen(kw_only=True)
class PagerDutyCredentials:
    """The plugin's section of the category `alert`."""

    routing_key: SecretValue = hidden_field(
        text(pattern=r"[A-Za-z0-9]{32}", allowed="32 letters or digits"),
        doc="Integration key of the service.",
        aliases=("integration_key", "key"),
    )


NEEDS: Final = PluginNeeds(
    secrets={"alert": PagerDutyCredentials}, hosts={"events": Host("https://events.pagerduty.com/v2")}
)


@hookimpl
def tbot_alert() -> Plugin:
    """The plugin's offer."""
    return Plugin(
        name="pagerduty",
        summary="Alerts as PagerDuty incidents",
        config=Config,
        create=create,
        needs=NEEDS,
        venue=_venue,
    )


def create(_config: Config, context: Context) -> AlertChannel:
    """Make the channel; nothing is connected before the first alert."""
    from tbot_alert_pagerduty.channel import PagerDutyChannel

    return PagerDutyChannel(context)


def _venue(*place: Any) -> Any:
    from tbot_alert_pagerduty.venue import open_venue

    return open_venue(*place)
