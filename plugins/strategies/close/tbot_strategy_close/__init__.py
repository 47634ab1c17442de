"""Strategy `close`: late-day momentum, and the fade of a large move that reverses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
from tbot_strategy_close.strategy import Close

if TYPE_CHECKING:
    from tbot_core.contracts import Context

__all__ = ["Close"]


@hookimpl
def tbot_strategy() -> Plugin:
    """Describe the plugin."""
    return Plugin(name="close", summary="Late-day momentum and fade", config=Close, create=_create)


def _create(config: Close, context: Context) -> Close:  # noqa: ARG001 - a pure strategy needs no context
    return config
