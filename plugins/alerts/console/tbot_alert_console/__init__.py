"""Alert channel `console`: writes alerts to the bot's log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    """Writes each alert to a log."""

    log: StructuredLogger

    async def send(self, alert: Alert) -> None:
        """Write the alert, as an error if it is critical and not resolved."""
        grave = alert.urgency is Urgency.CRITICAL and not alert.resolved
        write = self.log.error if grave else self.log.info
        write("alert", incident=alert.key, text=alert.text, resolved=alert.resolved)


@hookimpl
def tbot_alert() -> Plugin:
    """The plugin's offer."""
    return Plugin(
        name="console", summary="Alerts in the log and on standard error", config=Config, create=_create, venue=_venue
    )


def _create(_config: Config, context: Context) -> Console:
    return Console(context.log)


def _venue() -> Any:
    from tbot_alert_console.venue import open_venue

    return open_venue()
