"""Follows the journal, stores notices, and sends them, without blocking trading.

Single channels get what they have yet to get: alerts that they missed, and what follows a message.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.alerts import rate_limit
from tbot_core.alerts.delivery import AlertDelivery, ChannelAnswer, SendBackoff
from tbot_core.alerts.rules import AlertRules, RoutineEvents
from tbot_core.alerts.store import (
    ENDED,
    FOLLOWED_UP,
    KEPT,
    MOST_KEPT,
    PROCESS,
    STATUS_COMMAND,
    AlertStore,
    Delivery,
    MessagePart,
    Notice,
    alerts_file,
    open_store,
)
from tbot_core.contracts import Urgency
from tbot_core.engine import journal_guard
from tbot_core.errors import AccessError, TbotError, Undelivered
from tbot_core.journal import records
from tbot_core.journal.store import Journal, read_journal
from tbot_core.system import filesystem, log
from tbot_core.system.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from typing import Any

    from tbot_core.alerts.delivery import MessageWriter
    from tbot_core.alerts.store import PendingDelivery, StoredAlert
    from tbot_core.contracts import Alert
    from tbot_core.instance import Instance
    from tbot_core.journal.store import Event
    from tbot_core.model.clock import Clock

EVERY_S: Final = 1.0
EVENTS_AT_ONCE: Final = 500
"""The number of events that are read at once, so that a long journal does not block the loop."""

FINISH_S: Final = 10.0
# How long after a session the heads of the hash chains are sent: what leaves the machine last proves the files.
_HEADS_AFTER_S: Final = 300.0

_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class AlertOptions:
    """Which events are reported, and when routine alerts are held back (ALERT_QUIET_HOURS)."""

    wanted: RoutineEvents = attrs.field(factory=RoutineEvents)
    quiet: str = ""


class AlertDispatcher:
    """The alerts of an instance's run; times are read from `clock`, sleeps use the event loop."""

    def __init__(
        self, instance: Instance, delivery: AlertDelivery, writer: MessageWriter, clock: Clock, options: AlertOptions
    ) -> None:
        self._instance = instance
        self._delivery = delivery
        self._writer = writer
        self._clock = clock
        self._options = options
        filesystem.make_folder(alerts_file(instance).parent)
        self._store = open_store(alerts_file(instance))
        self._journal: Journal | None = None
        self._rules: AlertRules | None = None
        self._open_incidents: frozenset[str] = frozenset()
        self._backoff = {urgency: SendBackoff() for urgency in Urgency}
        self._question_backoff = SendBackoff()
        self._pending = _PendingSender(self._store, delivery, writer, clock, quiet=options.quiet)
        self._partly_reported: set[str] = set()
        delivery.on_answer = self._note_answer
        self._heads_due: float | None = None
        self._heads_stored = False
        self._broken = False

    def begin(self) -> None:
        """Start a run: close incidents of the previous process; skip the old events of a journal never read before.

        A journal that ends before the place up to which one was read is an older one: its next event is read.
        """
        journal, place = self._opened(), self._store.journal_position
        end = 0 if journal is None else journal.head[0]
        with self._store.transaction(end if place is None else min(place, end)):
            for key in (PROCESS, ENDED):
                self._store.clear_incident(key, self._clock.now())

    async def run(self) -> None:
        """Read and send until cancelled; a slow message does not block the others."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(self._poll))
            group.create_task(self._every(self.send_questions))
            group.create_task(self._every(self._queue_acknowledgements))
            group.create_task(self._every(self.note_chain_heads))
            for name in self._delivery.all_names:
                group.create_task(self._every(partial(self._pending.send, name)))
            for urgency in Urgency:
                group.create_task(self._every(partial(self.send, urgency)))

    async def finish(self) -> None:
        """Read and send a last time, and close; unsent messages are sent by the next run."""
        try:
            async with asyncio.timeout(FINISH_S):
                self.poll_journal()
                await self.note_chain_heads(end=True)
                await self.send_questions()
                for urgency in Urgency:
                    await self.send(urgency)
                await self.send_pending()
        except Exception:  # noqa: BLE001  -- the border of alerts: how the run ended stays what it is
            _log.exception("alerts.unfinished")
        finally:
            self._store.close()
            if self._journal is not None:
                self._journal.close()

    def poll_journal(self) -> None:
        """Read the journal's new events: store their notices, and open and close incidents."""
        journal = self._opened()
        if journal is None:
            return
        try:
            self._apply_events(journal)
        except TbotError:
            self._rules = None  # it may have applied events that were not stored
            raise

    async def send(self, urgency: Urgency) -> None:
        """Send the waiting alerts that are due, and record which incidents have ended."""
        now, backoff = self._clock.now(), self._backoff[urgency]
        asleep = urgency is Urgency.ROUTINE and rate_limit.in_quiet_hours(self._options.quiet, now)
        if asleep or not backoff.is_due(self._clock.monotonic()):
            return
        limit = rate_limit.LIMITS[urgency]
        try:
            waiting = self._store.unsent(urgency)
            sent = self._store.messages(urgency, now - limit.span) if waiting else []
            for rows in rate_limit.due_messages(waiting, sent, limit, now):
                await self._send_stored(rows, now)
        except Undelivered as fault:
            backoff.record_failure(self._clock.monotonic(), fault.retry_after_s or 0.0)
        else:
            backoff.reset()
            self._pending.queue(MessagePart.RESOLVED, urgency)

    async def send_pending(self) -> None:
        """Send to each channel what it has yet to get, also ends and acknowledgements of incidents."""
        await self._queue_acknowledgements()
        await asyncio.gather(*(self._pending.send(name) for name in self._delivery.all_names))

    async def send_questions(self) -> None:
        """Send what a person must answer, one message each: nothing that holds routine alerts holds it."""
        now, backoff = self._clock.now(), self._question_backoff
        if not backoff.is_due(self._clock.monotonic()):
            return
        try:
            for row in self._store.unsent(None):
                await self._send_stored([row], now)
        except Undelivered as fault:
            backoff.record_failure(self._clock.monotonic(), fault.retry_after_s or 0.0)
        else:
            backoff.reset()

    async def note_chain_heads(self, *, end: bool = False) -> None:
        """Store the heads of the hash chains as a routine alert, once after each session; at the run's end at once."""
        if self._heads_due is None or (not end and self._clock.monotonic() < self._heads_due):
            return
        self._heads_due, self._heads_stored = None, True
        heads = journal_guard.read_chain_heads(self._instance)
        if heads:
            named = ", ".join(f"{name} {head}" for name, head in heads.items())
            options = " ".join(f"--{name}-head {head}" for name, head in heads.items())
            self.notify(f"Heads of the hash chains: {named}", f"tbot audit verify {options}")

    def notify(self, what: str, command: str) -> None:
        """Store a routine alert that is in no journal; if it cannot be stored it is logged."""
        notice = Notice(key="notice", urgency=Urgency.ROUTINE, what=redact(what), command=command)
        try:
            with self._store.transaction():
                self._store.add_notices([notice], self._clock.now())
        except AccessError as fault:
            _log.error("alert.lost", what=what, reason=fault.message)

    async def send_now(self, what: str, command: str) -> None:
        """Send a message at once without storing it."""
        await self._send_unstored(what, command)

    async def report_end(self, what: str) -> None:
        """Report why the run ended: send it at once, and store it as an incident of this process.

        If no channel accepts it, the next run sends it; it is sent even if it cannot be stored.
        """
        words = (
            redact(what).encode(errors="replace").decode()
        )  # SQLite rejects lone surrogates, which a path may contain
        delivered, now = await self._send_unstored(words, STATUS_COMMAND), self._clock.now()
        notice = Notice(key=ENDED, urgency=Urgency.CRITICAL, what=words)
        try:
            with self._store.transaction():
                self._store.open_incident(notice, now, worded=True)
            if delivered is not None:
                waiting = self._store.unsent(Urgency.CRITICAL)
                rows = [row for row in waiting if (row.key, row.what) == (ENDED, words)]
                self._store.mark_sent(rows, *delivered, now)
        except AccessError as fault:
            _log.error("alert.lost", what=words, reason=fault.message)

    async def _send_unstored(self, what: str, command: str) -> tuple[str, Delivery] | None:
        # Send at once; returns the message's key and where it went, None if no channel accepted it.
        alert = self._writer.compose_urgent(what, command, self._clock.now())
        try:
            return alert.key, await self._delivery.send(alert)
        except Undelivered as fault:
            _log.error("alert.lost", what=what, reason=fault.message)
            return None

    async def _send_stored(self, rows: Sequence[StoredAlert], now: datetime) -> None:
        # Send alerts as one message, and record where it went.
        urgency, kept = rows[0].urgency, 0
        if len(rows) > 1:
            kept = self._store.pending.kept(urgency)
        alert = self._writer.compose(rows, kept=kept)
        attempts = _StoredAttempts(self._store, alert.key, MessagePart.ALERT, now)
        delivery = await self._delivery.send(alert, attempts, paused=self._pending.paused)
        self._store.mark_sent(rows, alert.key, delivery, now)
        if kept:
            self._store.pending.count_kept(urgency, now)

    async def _queue_acknowledgements(self) -> None:
        # What `tbot alerts ack` acknowledged.
        for urgency in Urgency:
            self._pending.queue(MessagePart.ACKNOWLEDGED, urgency)

    def _note_answer(self, name: str, answer: ChannelAnswer) -> None:
        # A partial delivery is reported once a run: the message that says so would be refused for the same recipients.
        self._pending.note(name, answer)
        if answer.accepted and answer.fault and name not in self._partly_reported:
            self._partly_reported.add(name)
            self.notify(f"The channel {name} does not reach everybody: {answer.fault}", f"tbot alerts test {name}")

    async def _poll(self) -> None:
        self.poll_journal()

    async def _every(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await act()
            except TbotError as fault:
                await self._report_failure(fault)
            await asyncio.sleep(EVERY_S)

    async def _report_failure(self, fault: TbotError) -> None:
        # Alerts cannot be stored, or the journal cannot be read: report it once, since it would recur every second.
        if not self._broken:
            self._broken = True
            _log.error("alerts.failed", reason=fault.message)
            await self.send_now(f"Alerts are not reliable: {fault.message}", "tbot check")

    def _opened(self) -> Journal | None:
        # The journal, opened for reading; None until there is one.
        if self._journal is None and filesystem.exists(self._instance.journal):
            self._journal = read_journal(self._instance.journal)
        return self._journal

    def _apply_events(self, journal: Journal) -> None:
        place = self._store.journal_position or 0
        if self._rules is None:
            rules = AlertRules(self._options.wanted, self._instance.control_dir)
            self._rules = _rules_up_to(journal, place, rules)
            self._open_incidents = frozenset(self._store.open_incidents() - {PROCESS, ENDED})
        rules, known = self._rules, self._open_incidents
        events = list(islice(journal.events(place), EVENTS_AT_ONCE))
        changes: list[Callable[[], None]] = []
        for event in events:
            self._plan_heads(event.kind)
            if notices := rules.apply(event):
                changes.append(partial(self._store.add_notices, notices, event.applied))
            known = self._compare(known, rules.open_incidents(event.applied), event.applied, changes)
        if len(events) < EVENTS_AT_ONCE:
            now = self._clock.now()
            known = self._compare(known, rules.open_incidents(now), now, changes)
        if events or changes:
            with self._store.transaction(events[-1].seq if events else place):
                for change in changes:
                    change()
        self._open_incidents = known

    def _plan_heads(self, kind: str) -> None:
        # The heads follow the last event of a session, or a stop.
        if kind == records.SESSION_OPENED:
            self._heads_stored = False
        elif kind in {records.SESSION_CLOSED, records.STOPPED} and not self._heads_stored:
            self._heads_due = self._clock.monotonic() + _HEADS_AFTER_S

    def _compare(
        self, before: frozenset[str], found: dict[str, Notice], when: datetime, changes: list[Callable[[], None]]
    ) -> frozenset[str]:
        # Return the incidents that are open now, and append the changes.
        changes += [partial(self._store.open_incident, found[key], when) for key in found if key not in before]
        changes += [partial(self._store.clear_incident, key, when) for key in sorted(before - found.keys())]
        return frozenset(found)


@attrs.frozen
class _StoredAttempts:
    # The attempts with one part of a message, in the store: see `tbot_core.alerts.delivery.Attempts`.
    # `waits`: the part is recorded as one that channels have yet to get, and stays so after a clear failure.

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


class _PendingSender:
    # Sends to one channel at a time, each with retry delays of its own; `quiet` is ALERT_QUIET_HOURS.

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
        attempts = _StoredAttempts(self._store, one.message, one.part, now, waits=True)
        answers = await self._delivery.deliver(alert, names, attempts)
        return next((answer for answer in answers.values() if answer.reached), answers[one.channel])


def _rules_up_to(journal: Journal, place: int, rules: AlertRules) -> AlertRules:
    # The rules, applied to the last session up to a place in the journal, and to the state causes before it.
    openings = (event.seq for event in journal.events(kind=records.SESSION_OPENED))
    opened = max((seq for seq in openings if seq <= place), default=1)
    for event in _before(journal, opened, place):
        rules.apply(event)
    return rules


def _before(journal: Journal, opened: int, place: int) -> Iterator[Event]:
    yield from (event for event in journal.events(kind=records.STATE) if event.seq < opened)
    for event in journal.events(opened - 1):
        if event.seq > place:
            return
        yield event
