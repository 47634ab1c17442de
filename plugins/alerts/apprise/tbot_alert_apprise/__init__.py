"""Alert channel `apprise`: sends each alert to the addresses of services that the library Apprise knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import Plugin, PluginNeeds, SecretValue
from tbot_core.contracts.credentials import hidden_field
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.setting import SettingKind

if TYPE_CHECKING:
    from tbot_core.contracts import AlertChannel, Context

__all__ = ["NEEDS", "AppriseAddresses", "Config", "create"]


@attrs.frozen(kw_only=True)
class Config:
    """The channel has no settings."""


def _checked(written: str) -> str:
    # Apprise itself judges each address; it is loaded only when there is one to judge.
    from tbot_alert_apprise.addresses import split_addresses
    from tbot_alert_apprise.services import find_service

    addresses = split_addresses(written)
    if not addresses or any(find_service(address) is None for address in addresses):
        raise ValueError("not an address of Apprise's")  # the address is a secret
    return written


ADDRESSES: Final = SettingKind(
    name="text",
    allowed="addresses in Apprise's form, such as discord://ID/TOKEN, separated by blanks or as a list",
    parse=_checked,
    show=str,
)


@attrs.frozen(kw_only=True)
class AppriseAddresses:
    """The plugin's section of the category `alert`. An address contains its credentials, so it is never shown."""

    urls: SecretValue = hidden_field(
        ADDRESSES, doc="Addresses in Apprise's form, separated by blanks or as a list.", aliases=("url",)
    )


NEEDS: Final = PluginNeeds(secrets={"alert": AppriseAddresses}, own_network=True)


@hookimpl
def tbot_alert() -> Plugin:
    """The plugin's offer."""
    return Plugin(
        name="apprise",
        summary="Alerts by any service that Apprise knows",
        config=Config,
        create=create,
        needs=NEEDS,
        venue=_venue,
    )


def create(_config: Config, context: Context) -> AlertChannel:
    """Make the channel; the addresses are read at the first alert."""
    from tbot_alert_apprise.channel import AppriseChannel

    return AppriseChannel(context)


def _venue() -> Any:
    from tbot_alert_apprise.venue import open_venue

    return open_venue()
