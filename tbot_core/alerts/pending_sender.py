"""Sends what single channels have yet to get: alerts that they missed, and what follows a message."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import attrs

from tbot_core.alerts import rate_limit
from tbot_core.alerts.delivery import AlertDelivery, ChannelAnswer, SendBackoff
from tbot_core.alerts.pending import FOLLOWED_UP, KEPT, MessagePart
from tbot_core.alerts.store import MOST_KEPT, AlertStore
from tbot_core.contracts import Urgency
from tbot_core.errors import AccessError
from tbot_core.system import log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.alerts.delivery import MessageWriter
    from tbot_core.alerts.pending import PendingDelivery
    from tbot_core.alerts.store import StoredAlert
    from tbot_core.contracts import Alert
    from tbot_core.model.clock import Clock

_log = log.logger(__name__)


@attrs.frozen
class StoredAttempts:
    """The attempts with one part of a message, in the store: see `tbot_core.alerts.delivery.Attempts`.

    `waits`: the part is recorded as one that channels have yet to get, and stays so after a clear failure.
    """

    store: AlertStore
    message: str
    part: MessagePart
    now: datetime
    waits: bool = False

    def begin(self, channel: str) -> bool:
        """Record that the channel is given it."""
        return self.store.pending.begin(self.message, self.part, channel, self.now)

    def withdraw(self, channel: str) -> None:
        """Record that it did not accept it."""
        if self.waits:
            self.store.pending.withdraw(self.message, self.part, channel)
        else:
            self.store.pending.settle(self.message, self.part, [channel])


class PendingSender:
    """Sends to one channel at a time, each with retry delays of its own; `quiet` is ALERT_QUIET_HOURS."""

    def __init__(
        self, store: AlertStore, delivery: AlertDelivery, writer: MessageWriter, clock: Clock, *, quiet: str
    ) -> None:
        self._store, self._delivery, self._writer, self._clock, self._quiet = store, delivery, writer, clock, quiet
        self._backoff = {name: SendBackoff() for name in delivery.all_names}

    @property
    def paused(self) -> frozenset[str]:
        """The channels that failed a moment ago."""
        now = self._clock.monotonic()
        return frozenset(name for name, backoff in self._backoff.items() if not backoff.is_due(now))

    def note(self, name: str, answer: ChannelAnswer) -> None:
        """Record a channel's answer; what cannot be stored is logged."""
        now, backoff = self._clock.monotonic(), self._backoff[name]
        if not answer.reached:
            backoff.record_failure(now, answer.retry_after_s)
        elif backoff.is_due(now):
            backoff.reset()
        try:
            self._store.pending.note(name, "" if answer.accepted else answer.fault, self._clock.now())
        except AccessError as fault:
            _log.error("alert.channel_state_lost", channel=name, reason=fault.message)

    def queue(self, part: MessagePart, urgency: Urgency) -> None:
        """Record which channels have yet to get what follows a message: those that delivered it.

        The end of an incident goes to the urgency's channels where the settings name none of these any more.
        """
        now = self._clock.now()
        for rows in self._store.followups(part, urgency, now):
            names = [name for name in rows[0].channels if name in self._backoff]
            if part is MessagePart.ACKNOWLEDGED:
                names = [name for name in names if self._delivery.acknowledges(name)]
            elif not names:
                names = list(self._delivery.channel_names[urgency])
            self._store.queue_followup(part, rows, names, now)

    async def send(self, name: str) -> None:
        """Send to a channel what it has yet to get, oldest first, until it fails."""
        if name in self.paused:
            return
        for one in self._store.pending.of(name):
            rows = self._store.rows(MOST_KEPT, one.message)
            asleep = rate_limit.in_quiet_hours(self._quiet, self._clock.now())
            if not rows or (one.part is MessagePart.ALERT and rows[0].urgency is Urgency.ROUTINE and asleep):
                continue
            if not await self._settled(one, rows):
                return

    async def _settled(self, one: PendingDelivery, rows: Sequence[StoredAlert]) -> bool:
        # Whether the channel no longer has to get it.
        now = self._clock.now()
        kept = FOLLOWED_UP if one.part is MessagePart.ACKNOWLEDGED else KEPT
        if now - one.since >= kept:
            _log.warning("alert.given_up", channel=one.channel, incident=one.message, part=one.part.value)
            self._store.pending.settle(one.message, one.part, [one.channel])
            return True
        alert = self._writer.compose(rows, over=one.part is MessagePart.RESOLVED)
        answer = await self._answer(one, rows, attrs.evolve(alert, key=one.message))
        if not answer.reached:
            return False
        if one.part is MessagePart.ALERT:
            self._store.pending.add_reached(one.message, one.channel)
        self._store.pending.settle(one.message, one.part, [one.channel])
        return True

    async def _answer(self, one: PendingDelivery, rows: Sequence[StoredAlert], alert: Alert) -> ChannelAnswer:
        if one.part is MessagePart.ACKNOWLEDGED:
            return await self._delivery.acknowledge(alert, one.channel)
        names, now = [one.channel], self._clock.now()
        if one.part is MessagePart.RESOLVED and now - one.since >= FOLLOWED_UP:
            # The service that opened the incident cannot be reached: the others report the end too.
            names += [name for name in self._delivery.all_names if name not in (one.channel, *rows[0].channels)]
        attempts = StoredAttempts(self._store, one.message, one.part, now, waits=True)
        answers = await self._delivery.deliver(alert, names, attempts)
        return next((answer for answer in answers.values() if answer.reached), answers[one.channel])
