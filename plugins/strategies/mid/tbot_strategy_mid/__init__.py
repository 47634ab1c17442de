"""Strategy `mid`: reversion to the session's VWAP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
from tbot_strategy_mid.strategy import Mid

if TYPE_CHECKING:
    from tbot_core.contracts import Context

__all__ = ["Mid"]


@hookimpl
def tbot_strategy() -> Plugin:
    """Describe the plugin."""
    return Plugin(name="mid", summary="Reversion to the session's VWAP", config=Mid, create=_create)


def _create(config: Mid, context: Context) -> Mid:  # noqa: ARG001 - a pure strategy needs no context
    return config
