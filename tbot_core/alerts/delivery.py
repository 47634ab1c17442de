"""Delivers messages: to all channels of the urgency at once, to the others if these fail, each call limited in time."""

from __future__ import annotations

import asyncio
from decimal import localcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import attrs

from tbot_core.alerts.pending import Delivery
from tbot_core.contracts import SendsOnce, SupportsAcknowledgement
from tbot_core.errors import PartlyDelivered, TbotError, Undelivered
from tbot_core.model.formatting import one_line
from tbot_core.plugins.call_guard import PluginBorder
from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure, exception_text, own_error, type_name
from tbot_core.system.redaction import redact
from tbot_core.system.timeouts import steps_within

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence

    from tbot_core.contracts import Alert, AlertChannel, Urgency

SEND_S: Final = 10.0
"""The time limit of a channel for one message."""

STEP_S: Final = 2.0
"""The longest time that a channel may block the event loop of trading."""

_BACKOFF_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_OFF: Final = "It is disabled for the rest of the session: a call of it did not return."
_GIVEN: Final = "It was given to the channel before, and may have arrived: it is not sent by this channel again."
_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class ChannelAnswer:
    """What a channel answered: the service's words, or why it did not deliver the message to everybody.

    `accepted`: at least one recipient gets it. `unclear`: it may have arrived, and must not be sent again.
    """

    words: str = ""
    fault: str = ""
    accepted: bool = False
    unclear: bool = False
    retry_after_s: float = 0.0

    @property
    def reached(self) -> bool:
        """Whether the channel is not to get the message again."""
        return self.accepted or self.unclear


class Attempts(Protocol):
    """The record of what was given to channels that `sends_once`; it outlives the process."""

    def begin(self, channel: str) -> bool:
        """Record that the channel is given the message; false if it was before, and no answer is known."""

    def withdraw(self, channel: str) -> None:
        """Record that the channel did not accept it."""


class AlertDelivery:
    """The channels by name; `own` are the names of the channels of each urgency, `border` gives the border of each.

    `on_answer` is called with the name of a channel and its answer to each message. `logs_failures`: failures that
    channels name are logged; a bug of a channel always is.
    """

    def __init__(
        self,
        channels: Mapping[str, AlertChannel],
        own: Mapping[Urgency, Sequence[str]],
        border: Callable[[str], PluginBorder] = lambda _name: PluginBorder(),
    ) -> None:
        self._channels = channels
        self._borders = {name: border(name) for name in channels}
        self.channel_names = own
        self.all_names = tuple(dict.fromkeys(name for names in own.values() for name in names))
        self.on_answer: Callable[[str, ChannelAnswer], None] = lambda _name, _answer: None
        self.logs_failures = True

    async def send(self, alert: Alert, attempts: Attempts | None = None, *, paused: Collection[str] = ()) -> Delivery:
        """Deliver a message to every channel of its urgency, and to the others if none of these accepted it.

        Channels that are `paused` because they failed a moment ago get it later, if another one accepts it now. Raises
        `Undelivered` if no channel got it.
        """
        own = tuple(self.channel_names[alert.urgency])
        answers = await self.deliver(alert, [name for name in own if name not in paused] or own, attempts)
        if not _any_accepted(answers.values()):
            rest = [name for name in dict.fromkeys((*own, *self.all_names)) if name not in answers]
            answers |= await self.deliver(alert, rest, attempts)
        reached = tuple(name for name, answer in answers.items() if answer.reached)
        if not reached:
            raise Undelivered(
                f"No channel delivered the alert {alert.key}: {', '.join(answers)}.",
                "`tbot alerts test` shows why.",
                retry_after_s=min(answer.retry_after_s for answer in answers.values()),
            )
        wanted = own if _any_accepted(answers.values()) else tuple(answers)
        return Delivery(reached=reached, missing=tuple(name for name in wanted if name not in reached))

    async def deliver(
        self, alert: Alert, names: Sequence[str], attempts: Attempts | None = None
    ) -> dict[str, ChannelAnswer]:
        """Deliver a message by these channels, all at the same time; returns their answers."""
        alert = _redacted(alert)
        answers = await asyncio.gather(*(self._send_by(name, alert, attempts) for name in names))
        found = dict(zip(names, answers, strict=True))
        for name, answer in found.items():
            self.on_answer(name, answer)
        return found

    def acknowledges(self, name: str) -> bool:
        """Whether the channel's service knows acknowledgements."""
        return isinstance(self._channels.get(name), SupportsAcknowledgement)

    async def acknowledge(self, alert: Alert, name: str) -> ChannelAnswer:
        """Report to a channel's service that the incident was acknowledged."""
        channel: Any = self._channels[name]
        answer = await self._answer_of(name, alert, channel.acknowledge)
        self.on_answer(name, answer)
        return answer

    async def _send_by(self, name: str, alert: Alert, attempts: Attempts | None) -> ChannelAnswer:
        # A channel that sends once is given the message only if that is on record before.
        channel = self._channels[name]
        once = isinstance(channel, SendsOnce) and channel.sends_once
        try:
            if once and attempts is not None and not attempts.begin(name):
                return ChannelAnswer(fault=_GIVEN, unclear=True)
        except TbotError as fault:
            return ChannelAnswer(fault=f"Nothing was sent: {fault.message}")
        answer = await self._answer_of(name, alert, channel.send, once=once)
        if once and attempts is not None and not answer.reached:
            attempts.withdraw(name)
        return answer

    async def _answer_of(
        self, name: str, alert: Alert, call: Callable[[Alert], Coroutine[Any, Any, str | None]], *, once: bool = False
    ) -> ChannelAnswer:
        # The answer of a channel, whatever it raises.
        border = self._borders[name]
        if border.is_off():
            return ChannelAnswer(fault=_OFF)
        mark = partial(border.mark, "send")
        try:
            async with asyncio.timeout(SEND_S):
                with localcontext():
                    words: str | None = await steps_within(STEP_S, call(alert), mark)
                return ChannelAnswer(words=one_line(redact(words or "")), accepted=True)
        except BaseException as fault:  # noqa: BLE001  -- the border of an alert channel
            assert_failure(fault, awaited=True)
            kind, found = type(fault), _undelivered(fault)
            if issubclass(kind, PartlyDelivered):
                if self.logs_failures:
                    _log.error("alert.partly_delivered", channel=name, incident=alert.key, reason=str(found))
                return ChannelAnswer(fault=one_line(redact(str(found))), accepted=True)
            if issubclass(kind, TbotError) or kind is TimeoutError:
                if self.logs_failures:
                    _log.warning("alert.undelivered", channel=name, incident=alert.key, reason=str(found))
            else:
                _log.exception("alert.undelivered", channel=name, incident=alert.key)
            unclear = once and (not issubclass(kind, Undelivered) or found.unclear)
            text = one_line(redact(str(found)))
            return ChannelAnswer(fault=text, unclear=unclear, retry_after_s=found.retry_after_s or 0.0)


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


def _any_accepted(answers: Iterable[ChannelAnswer]) -> bool:
    return any(answer.accepted for answer in answers)


def _undelivered(fault: BaseException) -> Undelivered:
    # A channel's failure as the reason of a message that was not delivered.
    if issubclass(type(fault), Undelivered):
        return own_error(cast("Undelivered", fault))
    late = type(fault) is TimeoutError
    return Undelivered(f"It took longer than {SEND_S:g} s." if late else f"{type_name(fault)}: {exception_text(fault)}")


def _redacted(alert: Alert) -> Alert:
    return attrs.evolve(alert, title=redact(alert.title), text=redact(alert.text), command=redact(alert.command))
