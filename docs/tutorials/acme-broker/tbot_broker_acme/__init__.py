"""The broker Acme Securities: what it offers, needs and is configured with."""

from __future__ import annotations

from typing import Any, Final

import attrs

from tbot_core.contracts import Context, Host, Plugin, PluginNeeds, SecretValue
from tbot_core.contracts.credentials import hidden_field
from tbot_core.contracts.hooks import hookimpl


@attrs.frozen(kw_only=True)
class Credentials:
    """The plugin's section of the category `broker`: `tbot secrets set broker` asks for it."""

    api_key: SecretValue = hidden_field(doc="Key of the account.")


@attrs.frozen
class Config:
    """Acme needs no settings."""


NEEDS: Final = PluginNeeds(
    secrets={"broker": Credentials},
    hosts={"api": Host("https://api.acme.example/v1", requests_per_minute=240)},
    orders=True,
)


@hookimpl
def tbot_broker() -> Plugin:
    """Offer the broker; the client is imported when it is created."""
    return Plugin(
        name="acme",
        summary="Acme Securities",
        config=Config,
        create=_create,
        needs=NEEDS,
    )


def _create(_config: Config, context: Context) -> Any:
    from tbot_broker_acme.broker import AcmeBroker

    return AcmeBroker(context)
