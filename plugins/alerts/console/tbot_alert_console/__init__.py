"""Alert channel `console`: writes alerts to the bot's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import Plugin, StructuredLogger, Urgency
from tbot_core.contracts.hooks import hookimpl

if TYPE_CHECKING:
    from tbot_core.contracts import Alert, Context

__all__ = ["Config", "Console"]


@attrs.frozen(kw_only=True)
class Config:
    """The channel has no settings."""


@attrs.frozen
class Console:
    """Writes each alert into a log."""

    log: StructuredLogger

    async def send(self, alert: Alert) -> None:
        """Write an alert: as an error if it is critical and not resolved, else as info."""
        critical = alert.urgency is Urgency.CRITICAL and not alert.resolved
        write = self.log.error if critical else self.log.info
        write("alert", incident=alert.key, text=alert.text, resolved=alert.resolved)


@hookimpl
def tbot_alert() -> Plugin:
    """Describe the plugin."""
    return Plugin(name="console", summary="Alerts in the log and on standard error", config=Config, create=_create)


def _create(_config: Config, context: Context) -> Console:
    return Console(context.log)
