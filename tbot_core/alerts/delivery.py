"""Messages: their text, and their delivery to all channels of the urgency at once, to the others if these fail.

Each call of a channel is limited in time.
"""

from __future__ import annotations

import asyncio
from decimal import localcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import attrs

from tbot_core.alerts.rules import MISSING, cause_of
from tbot_core.alerts.store import STATUS_COMMAND, Delivery
from tbot_core.contracts import Alert, SendsOnce, SupportsAcknowledgement, Urgency
from tbot_core.errors import PartlyDelivered, TbotError, Undelivered
from tbot_core.model.clock import both_times
from tbot_core.model.formatting import one_line, plural
from tbot_core.plugins.call_guard import PluginBorder
from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure, exception_text, own_error, type_name
from tbot_core.system.redaction import redact
from tbot_core.system.timeouts import steps_within
from tbot_core.trading.risk.states import KINDS, QUIET, CauseEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
    from datetime import datetime

    from tbot_core.alerts.store import StoredAlert
    from tbot_core.contracts import AlertChannel

SEND_S: Final = 10.0
"""The time limit of a channel for one message."""

STEP_S: Final = 2.0
"""The longest time that a channel may block the event loop of trading."""

_BACKOFF_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_OFF: Final = "It is disabled for the rest of the session: a call of it did not return."
_GIVEN: Final = "It was given to the channel before, and may have arrived: it is not sent by this channel again."
_log = log.logger(__name__)
_MOST_LISTED: Final = 10
_ALERT_LOG_COMMAND: Final = "tbot alerts log"
_LASTING: Final = frozenset({CauseEnd.QUIET, CauseEnd.SESSION})
"""Their state goes on when the incident is over."""


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
        *,
        logs_failures: bool = True,
    ) -> None:
        self._channels = channels
        self._borders = {name: border(name) for name in channels}
        self.channel_names = own
        self.all_names = tuple(dict.fromkeys(name for names in own.values() for name in names))
        self.on_answer: Callable[[str, ChannelAnswer], None] = lambda _name, _answer: None
        self._logs_failures = logs_failures

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
            kind, failure = type(fault), _undelivered(fault)
            if issubclass(kind, PartlyDelivered):
                if self._logs_failures:
                    _log.error("alert.partly_delivered", channel=name, incident=alert.key, reason=str(failure))
                return ChannelAnswer(fault=one_line(redact(str(failure))), accepted=True)
            if issubclass(kind, TbotError) or kind is TimeoutError:
                if self._logs_failures:
                    _log.warning("alert.undelivered", channel=name, incident=alert.key, reason=str(failure))
            else:
                _log.exception("alert.undelivered", channel=name, incident=alert.key)
            unclear = once and (not issubclass(kind, Undelivered) or failure.unclear)
            text = one_line(redact(str(failure)))
            return ChannelAnswer(fault=text, unclear=unclear, retry_after_s=failure.retry_after_s or 0.0)


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


@attrs.frozen(kw_only=True)
class MessageWriter:
    """The sender: the bot with its mode and identity."""

    mode: str
    identity: str

    def compose(self, rows: Sequence[StoredAlert], *, over: bool = False, kept: int = 0) -> Alert:
        """Compose one message for one or several alerts; `over`: they have ended.

        `kept`: how many more there were, which are only in the log of alerts.
        """
        if over:
            rows = [attrs.evolve(row, what=_over(row)) for row in rows]
        first = rows[0]
        what, command = (first.what, first.command) if len(rows) == 1 else (_merged(rows, kept), _ALERT_LOG_COMMAND)
        moment = first.opened if len(rows) == 1 else rows[-1].opened
        if over:
            what, moment = f"Resolved: {what}", max((row.cleared for row in rows if row.cleared), default=moment)
        listed = [f"- {one_line(row.what)}" for row in rows[:_MOST_LISTED]] if len(rows) > 1 else []
        if more := len(rows) + kept - len(rows[:_MOST_LISTED]):
            listed.append(f"- and {more:,} more")
        key = f"{first.id}-{first.opened:%Y%m%dT%H%M%S}"  # the number alone begins anew with a new file of alerts
        return self._alert(key, first.urgency, (what, command), moment, listed, over=over)

    def compose_urgent(self, what: str, command: str, now: datetime) -> Alert:
        """Compose a critical message that is not stored."""
        return self._alert(f"{now:%Y%m%dT%H%M%S}", Urgency.CRITICAL, (what, command), now)

    def compose_test(self, urgency: Urgency, now: datetime) -> Alert:
        """Compose a test message."""
        words = f"This is a test of {urgency.value} alerts.", STATUS_COMMAND
        return self._alert(f"test-{now:%Y%m%dT%H%M%S}", urgency, words, now)

    def _alert(  # noqa: PLR0913  the parts of a message
        self,
        key: str,
        urgency: Urgency,
        words: tuple[str, str],
        moment: datetime,
        listed: Sequence[str] = (),
        *,
        over: bool = False,
    ) -> Alert:
        title = one_line(f"[{' '.join(part for part in (self.mode.upper(), self.identity) if part)}] {words[0]}")
        lines = [title, f"{moment:%Y-%m-%d} {both_times(moment)}", *listed, f"Next: {words[1]}"]
        return Alert(
            key=f"{self.identity or 'tbot'}-{key}",
            urgency=urgency,
            title=title,
            text="\n".join(lines),
            time=moment,
            resolved=over,
            mode=self.mode,
            identity=self.identity,
            command=words[1],
        )


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


def _over(row: StoredAlert) -> str:
    # The text of an incident that has ended: without what no longer holds, and how long its state goes on.
    what, cause = row.what.replace(MISSING, ""), cause_of(row.key)
    if cause is None or row.cleared is None or KINDS[cause].end not in _LASTING:
        return what
    until = "the end of the session"
    if KINDS[cause].end is CauseEnd.QUIET:
        until = both_times((row.cleared + QUIET).replace(microsecond=0))
    return f"{what.removesuffix('.')}; {KINDS[cause].state.word} until {until}."


def _merged(rows: Sequence[StoredAlert], kept: int) -> str:
    return f"{plural(len(rows) + kept, f'{rows[0].urgency.value} alert')}, the first: {rows[0].what.rstrip('.')}"
