"""Strategy `open`: a close beyond the opening range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
from tbot_strategy_open.strategy import Open

if TYPE_CHECKING:
    from tbot_core.contracts import Context

__all__ = ["Open"]


@hookimpl
def tbot_strategy() -> Plugin:
    """Describe the plugin."""
    return Plugin(name="open", summary="Opening-range breakout", config=Open, create=_create)


def _create(config: Open, context: Context) -> Open:  # noqa: ARG001 - a pure strategy needs no context
    return config
