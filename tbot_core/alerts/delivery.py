"""Delivers messages to channels: first to the urgency's own channel, then to the other, each call limited in time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import Undelivered
from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure
from tbot_core.system.redaction import redact
from tbot_core.system.timeouts import steps_within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.contracts import Alert, AlertChannel, Urgency

SEND_S: Final = 10.0
"""The time limit of a channel for one message."""

STEP_S: Final = 2.0
"""The longest time that a channel may block the event loop of trading."""

_BACKOFF_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_log = log.logger(__name__)


class AlertDelivery:
    """The channels by name; `own` is the name of the channel of each urgency."""

    def __init__(self, channels: Mapping[str, AlertChannel], own: Mapping[Urgency, str]) -> None:
        self._channels = channels
        self.channel_names = own

    async def send(self, alert: Alert) -> str:
        """Deliver a message; returns the name of the channel that accepted it. Raises `Undelivered` if none did."""
        first = self.channel_names[alert.urgency]
        rest: dict[str, float] = {}
        for name in dict.fromkeys((first, *self.channel_names.values())):
            fault = await self._try(name, alert)
            if fault is None:
                return name
            rest[name] = fault.retry_after_s or 0.0
        raise Undelivered(
            f"No channel delivered the alert {alert.key}: {', '.join(rest)}.",
            "`tbot alerts test` shows why.",
            retry_after_s=min(rest.values()),
        )

    async def test(self, alert: Alert) -> str:
        """Deliver a message to its urgency's own channel only; returns the reason of a failure, or ""."""
        fault = await self._try(self.channel_names[alert.urgency], alert)
        return "" if fault is None else str(fault)

    async def _try(self, name: str, alert: Alert) -> Undelivered | None:
        alert = attrs.evolve(alert, title=redact(alert.title), text=redact(alert.text))
        try:
            async with asyncio.timeout(SEND_S):
                await steps_within(STEP_S, self._channels[name].send(alert))
        except BaseException as fault:  # noqa: BLE001  -- the border of an alert channel
            assert_failure(fault)
            _log.exception("alert.undelivered", channel=name, incident=alert.key)
            if isinstance(fault, Undelivered):
                return fault
            late = type(fault) is TimeoutError
            return Undelivered(f"It took longer than {SEND_S:g} s." if late else f"{type(fault).__name__}: {fault}")
        return None


class SendBackoff:
    """The retry delay after failures: doubled each time, up to a minute."""

    def __init__(self) -> None:
        self._failures = 0
        self._due = 0.0

    def is_due(self, now: float) -> bool:
        """Whether the delay has passed; `now` is in seconds of a steady clock."""
        return now >= self._due

    def record_failure(self, now: float, least_s: float = 0.0) -> None:
        """Record a failure, with the minimum delay that the service requested."""
        wait = _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
        self._failures, self._due = self._failures + 1, now + max(wait, least_s)

    def reset(self) -> None:
        """Record a success."""
        self._failures, self._due = 0, 0.0
