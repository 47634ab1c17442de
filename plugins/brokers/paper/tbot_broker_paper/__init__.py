"""Broker `paper`: simulated fills and an exact account, on stored bars or a simulated market."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbot_broker_paper.config import Config
from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.permissions import PluginNeeds

if TYPE_CHECKING:
    from tbot_broker_paper.broker import PaperBroker
    from tbot_core.contracts import Context

__all__ = ["Config"]


@hookimpl
def tbot_broker() -> Plugin:
    """Describe the plugin."""
    return Plugin(
        name="paper",
        summary="A simulated market of invented companies and prices, or simulated fills over stored bars",
        config=Config,
        create=_create,
        needs=PluginNeeds(orders=True),
        venue=_venue,
    )


def _create(config: Config, context: Context) -> PaperBroker:
    from tbot_broker_paper.broker import PaperBroker

    return PaperBroker(config, context.clock)


def _venue() -> Any:
    from tbot_broker_paper.venue import open_venue

    return open_venue()
