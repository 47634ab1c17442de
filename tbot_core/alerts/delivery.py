"""Delivers messages to channels: first to the urgency's own channel, then to the other, each call limited in time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import SupportsAcknowledgement
from tbot_core.errors import PartlyDelivered, TbotError, Undelivered
from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure
from tbot_core.system.redaction import redact
from tbot_core.system.timeouts import steps_within

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from tbot_core.contracts import Alert, AlertChannel, Urgency

SEND_S: Final = 10.0
"""The time limit of a channel for one message."""

STEP_S: Final = 2.0
"""The longest time that a channel may block the event loop of trading."""

_BACKOFF_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class ChannelAnswer:
    """What a channel answered: the service's words, or why it did not deliver the message."""

    words: str = ""
    fault: str = ""


class AlertDelivery:
    """The channels by name; `own` is the name of the channel of each urgency.

    `on_partly` is called with the name of a channel that delivered a message to some recipients only, and with why.
    """

    def __init__(self, channels: Mapping[str, AlertChannel], own: Mapping[Urgency, str]) -> None:
        self._channels = channels
        self.channel_names = own
        self.on_partly: Callable[[str, PartlyDelivered], None] = lambda _name, _fault: None

    async def send(self, alert: Alert, first: str | None = None, *, only: bool = False) -> str:
        """Deliver a message; returns the name of the channel that accepted it. Raises `Undelivered` if none did.

        `first` is tried before the urgency's own channel, and with `only` no other one, if the settings still name it.
        """
        alert, own = _redacted(alert), self.channel_names[alert.urgency]
        names = tuple(dict.fromkeys((own, *self.channel_names.values())))
        if first in names:
            names = (first,) if only else tuple(dict.fromkeys((first, *names)))
        rest: dict[str, float] = {}
        for name in names:
            found = await self._try(name, lambda channel: channel.send(alert), alert)
            if isinstance(found, PartlyDelivered):
                self.on_partly(name, found)
            elif isinstance(found, Undelivered):
                rest[name] = found.retry_after_s or 0.0
                continue
            return name
        raise Undelivered(
            f"No channel delivered the alert {alert.key}: {', '.join(rest)}.",
            "`tbot alerts test` shows why.",
            retry_after_s=min(rest.values()),
        )

    async def acknowledge(self, alert: Alert, name: str) -> None:
        """Report to a channel's service that the incident was acknowledged, where it knows such a thing.

        Raises `Undelivered` if that fails.
        """
        channel: object = self._channels.get(name)
        if isinstance(channel, SupportsAcknowledgement):
            acknowledge = channel.acknowledge
            found = await self._try(name, lambda _channel: acknowledge(alert), alert)
            if isinstance(found, Undelivered):
                raise found

    async def test(self, alert: Alert) -> ChannelAnswer:
        """Deliver a message by its urgency's own channel only."""
        alert, own = _redacted(alert), self.channel_names[alert.urgency]
        found = await self._try(own, lambda channel: channel.send(alert), alert)
        return ChannelAnswer(fault=redact(str(found))) if isinstance(found, Undelivered) else ChannelAnswer(words=found)

    async def _try(
        self, name: str, call: Callable[[AlertChannel], Coroutine[Any, Any, str | None]], alert: Alert
    ) -> Undelivered | str:
        # The words of the channel's service, or why the call failed.
        try:
            async with asyncio.timeout(SEND_S):
                words: str | None = await steps_within(STEP_S, call(self._channels[name]))
                return redact(words or "")
        except BaseException as fault:  # noqa: BLE001  -- the border of an alert channel
            assert_failure(fault)
            if isinstance(fault, PartlyDelivered):
                _log.error("alert.partly_delivered", channel=name, incident=alert.key, reason=str(fault))
                return fault
            found = _undelivered(fault)
            if isinstance(fault, TbotError) or type(fault) is TimeoutError:
                _log.warning("alert.undelivered", channel=name, incident=alert.key, reason=str(found))
            else:
                _log.exception("alert.undelivered", channel=name, incident=alert.key)
            return found


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


def _undelivered(fault: BaseException) -> Undelivered:
    # A channel's failure as the reason of a message that was not delivered.
    if isinstance(fault, Undelivered):
        return fault
    late = type(fault) is TimeoutError
    return Undelivered(f"It took longer than {SEND_S:g} s." if late else f"{type(fault).__name__}: {fault}")


def _redacted(alert: Alert) -> Alert:
    return attrs.evolve(alert, title=redact(alert.title), text=redact(alert.text), command=redact(alert.command))
