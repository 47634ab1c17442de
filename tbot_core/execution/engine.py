"""Executes decisions: journal first, then send, then journal the result.

Two barriers precede every send. T1 writes the minute's decisions and intents in one transaction; T2 marks the orders
as being sent, or drops those that may not be sent any more. Each order leaves with a permit that a kill revokes.
"""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from tbot_core.contracts import BrokerEvent, BrokerEventKind, OrderStatusReport
from tbot_core.errors import BrokerError, JournalError, Rejected, Unavailable
from tbot_core.execution import intents
from tbot_core.execution.account_updates import may_lag_broker, update_account
from tbot_core.execution.frozen_instruments import FrozenInstruments, with_unique_execution_id
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.send_permit import SendPermit
from tbot_core.execution.throttling import RateLimitedBroker, run_concurrently
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent
from tbot_core.model.types import OrderState
from tbot_core.system import log
from tbot_core.trading.commands import CancelOrder, ReplaceOrder, SubmitOrder, TradingCommand
from tbot_core.trading.orders import (
    AMENDS,
    BROKER_EVENT_KINDS,
    IN_DOUBT,
    SUPPOSED_PREFIX,
    OrderEvent,
    OrderRecord,
    TransitionEffect,
    advance,
    execution_update,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from tbot_core.execution.broker_account import BrokerAccount
    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.model.types import Order
    from tbot_core.trading.decision_engine import DecisionEngine

Said = TypeVar("Said")

_AT_ONCE: Final = 10
_COVER_S: Final = 2.0
_GLANCE_S: Final = 0.25
_log = log.logger(__name__)


class ExecutionEngine:
    """Sends a session's orders and books their outcomes."""

    def __init__(self, recorder: JournalRecorder, venue: BrokerAccount, desk: DecisionEngine) -> None:
        self.recorder = recorder
        self._journal = recorder.journal
        self._desk = desk
        self._clock = recorder.clock
        self._count, self._silent = 0, False
        # A venue that is simulated in this process has no limit to keep to.
        broker = venue.broker if venue.broker.rules.simulated else RateLimitedBroker(venue.broker, recorder.clock)
        self.venue = attrs.evolve(venue, broker=broker)
        self.frozen_instruments = FrozenInstruments(recorder, desk.exposure, venue.broker)
        self.orders: dict[str, OrderRecord] = {}
        self.sent_at: dict[str, datetime] = {}
        self._since: dict[str, float] = {}
        self.lookups: dict[str, None] = {}
        self.open_beyond_books: dict[str, OrderStatusReport] = {}
        self._asking: set[tuple[str, str]] = set()

    async def execute(self, minute: MinuteCommands) -> None:
        """Record the minute's commands, send what may be sent, and book the first responses."""
        if not minute.is_empty:
            await self.send(minute, self.persist_intents(minute))

    def persist_intents(self, minute: MinuteCommands) -> Sequence[Order]:
        """Record the minute (T1) and mark what is sent (T2), without yielding to the loop; returns the latter.

        Any later code finds each of its orders in `orders`, and no request is made for an order that is not on disk.
        """
        exits = [action.order for action in minute.actions if isinstance(action, SubmitOrder)]
        self._barrier(*intents.intent_events(self.recorder, minute))
        return self._mark([*exits, *minute.entry_orders])

    async def send(self, minute: MinuteCommands, allowed: Sequence[Order]) -> None:
        """Send the `allowed` orders of a recorded minute, and book the first responses.

        Exits are sent before entries, including those that a cancel of this minute releases.
        """
        entries = minute.entry_orders
        await self._act([one for one in minute.actions if not isinstance(one, SubmitOrder) or one.order in allowed])
        if minute.actions:
            await self.process_broker_events()
        for order in entries:
            if order in allowed:
                await self._submit(order)
        if entries:
            await self.process_broker_events()

    def _mark(self, orders: Sequence[Order]) -> list[Order]:
        # The second barrier: mark the orders that may be sent, drop the others; returns the first.
        if not orders:
            return []
        why = [(order, self.venue.denial_reason(order)) for order in orders]
        parts = [(part, words) for order, words in why for part in intents.order_parts(order)]
        for part, _ in parts:
            self.orders[part.client_order_id] = OrderRecord(order=part)
        now = self._clock.now()
        self._barrier(*(intents.sending_event(self.recorder, part, words) for part, words in parts))
        for part, words in parts:
            if words:
                self._drop(part, barred=True)
            else:
                self._advance(part.client_order_id, OrderEvent.SEND)
                self.mark_sent(part.client_order_id, now)
        return [order for order, words in why if not words]

    def mark_sent(self, client_order_id: str, placed: datetime) -> None:
        """The order is in flight since then; its age counts from now, whatever the wall clock does."""
        self.sent_at[client_order_id] = placed
        self._since[client_order_id] = self._clock.monotonic()

    def age(self, client_order_id: str) -> float:
        """Seconds since an order was sent, or since the restart that found it; 0 for one that was not."""
        since = self._since.get(client_order_id)
        return 0.0 if since is None else self._clock.monotonic() - since

    def _drop(self, part: Order, *, barred: bool = False) -> None:
        # An order that was written down and will never be sent frees what it reserved.
        self._advance(part.client_order_id, OrderEvent.DROP)
        self._desk.position_manager.on_dropped(part.client_order_id, barred=barred)

    def _barrier(self, *entries: NewEvent) -> None:
        # Write what must be on disk before anything of the minute leaves.
        self._write(entries, "No order of this minute was sent.")

    def _noted(self, *entries: NewEvent) -> None:
        # Write what became of orders that have left.
        self._write(entries, "Orders that were sent remain at the broker.")

    def _write(self, entries: Sequence[NewEvent], truth: str) -> None:
        try:
            self.recorder.write(*entries)
        except JournalError as fault:
            raise JournalError(fault.message, f"{truth} {fault.remedy}") from fault

    async def process_broker_events(self) -> None:
        """Process the broker's events since the last call, first on disk, then in the books; send what they release.

        An exit is released when the last working order of its position is proven to have ended.
        """
        self.apply_events(await self._read("poll", self.venue.broker.poll) or ())
        await self.execute(MinuteCommands(actions=self._desk.position_manager.orders_due_now()))

    async def read_account(self) -> None:
        """Read the account's current cash and buying power from the broker."""
        before, unheard = self._desk.portfolio.cash_atoms, may_lag_broker(self._desk, self.orders.values())
        account = await self._read("account", self.venue.broker.account)
        if account is not None:
            crossed = unheard or before != self._desk.portfolio.cash_atoms
            update_account(self._desk, self.recorder, account, crossed=crossed)

    async def _read(self, what: str, ask: Callable[[], Awaitable[Said]]) -> Said | None:
        # What the broker answers; None when it does not, and then nothing is entered any more.
        try:
            answer = await self._patiently(what, ask)
        except BrokerError as silence:
            self._see(silence.message)
            return None
        self._see("")
        return answer

    def _see(self, silence: str) -> None:
        if self.venue.on_read_result is not None:
            self.venue.on_read_result(silence)
        elif silence:
            self._desk.exposure.mark_account_unknown(self.venue.retry_policy.retries)

    async def _patiently(self, what: str, ask: Callable[[], Awaitable[Said]], cid: str | None = None) -> Said:
        # Ask something that may be asked twice, until it is answered or the patience of a cycle is at its end.
        #
        # Each failure is written down, the last one raised. A broker that was silent is then asked once at a time, and
        # no more is written of its silence until it answers.
        waits = iter(()) if self._silent else self.venue.retry_policy.delays()
        while True:
            try:
                answer = await ask()
            except Rejected:
                raise
            except BrokerError as silence:
                if not self._silent:
                    self._noted(self.recorder.entry(records.SILENCE, {"asked": what, "words": silence.message}, cid))
                wait = next(waits, None)
                if wait is None:
                    self._silent = True
                    raise
            else:
                self._silent = False
                return answer
            await self.venue.retry_policy.sleep(wait)

    def apply_events(self, said: Sequence[BrokerEvent], *, read: bool = False) -> None:
        """Take events in: first on disk, then into the books; one that was written before changes nothing.

        What was `read` of an order is true of it, whatever the ids of its executions have been used for before. What
        takes an execution back is understood when all that was said before it is on disk.
        """
        for _, part in groupby(said, lambda event: BROKER_EVENT_KINDS.get(event.kind) in AMENDS):
            resolve, orders = self.frozen_instruments.resolve_execution, self.orders
            self._book([resolve(event, orders.get(event.client_order_id)) for event in part], read=read)

    def _book(self, said: Sequence[BrokerEvent], *, read: bool) -> None:
        now, again = self._clock.now(), []
        fresh: dict[str, tuple[BrokerEvent, NewEvent]] = {}
        for event in map(self._with_its_own_id, said) if read else said:
            source = (self.venue.name, self.venue.account_id, self._name(event))
            if source[2] in fresh or self._journal.contains(source):
                again.append((event, source))
            elif not self._stale(event):
                payload = records.broker_payload(event)
                entry = NewEvent(kind=event.kind, payload=payload, time=now, cid=event.client_order_id, source=source)
                fresh[source[2]] = event, entry
        if fresh:
            self._noted(*(entry for _, entry in fresh.values()))
        for event, _ in fresh.values():
            self._take_in(event)
        for event, source in again:
            self._compare(event, source)

    def _with_its_own_id(self, event: BrokerEvent) -> BrokerEvent:
        return with_unique_execution_id(
            event, self._journal.find_event((self.venue.name, self.venue.account_id, self._name(event)))
        )

    def _compare(self, event: BrokerEvent, source: tuple[str, str, str]) -> None:
        # An event that was told before: where it says something else now, that is written too, and looked into.
        known, record = self._journal.find_event(source), self.orders.get(event.client_order_id)
        if known is not None and (other := self.frozen_instruments.reused_id_entry(event, known, record)) is not None:
            self._noted(other)
            self.lookups[event.client_order_id] = None

    def _stale(self, event: BrokerEvent) -> bool:
        # Whether a broker says once more that it does not know an order of which that is known.
        record = self.orders.get(event.client_order_id)
        known = record is not None and (record.terminal or record.state in IN_DOUBT)
        return known and event.kind == BrokerEventKind.NOT_FOUND

    def _name(self, event: BrokerEvent) -> str:
        # What makes an event the same one: a fill is its execution, whichever way it was told.
        if event.fill is None or event.kind != BrokerEventKind.FILL:
            return event.event_id
        execution = event.fill.execution_id
        unique = self.venue.broker.rules.exec_ids_unique or execution.startswith(SUPPOSED_PREFIX)
        return f"execution {execution}" if unique else f"execution {execution} of {event.client_order_id}"

    def _take_in(self, event: BrokerEvent) -> None:
        # An event that is on disk enters the order's record and the desk; a fill seen before does so once.
        cid, word = event.client_order_id, BROKER_EVENT_KINDS.get(event.kind)
        record = self.orders.get(cid)
        if record is not None and word is None:
            self.lookups[cid] = None
            self.frozen_instruments.on_broker_event(event, record)
        if record is None or word is None:
            _log.warning("broker.event_not_ours", kind=event.kind, id=cid, words=event.words)
            return
        effect = self._advance(cid, word, event)
        if effect is TransitionEffect.ALARM:
            _log.error("order.alarm", id=cid, kind=event.kind, state=self.orders[cid].state.value)
        found = None if event.fill is None else execution_update(record, self.orders[cid], event.fill)
        self.frozen_instruments.on_broker_event(event, self.orders[cid])
        self._desk.position_manager.on_event(event, found)

    def mark_not_found(self, client_order_id: str) -> None:
        """Sources agree that they do not know the order: its outcome is now unknown."""
        self._noted(self.recorder.entry(records.ABSENT, {}, client_order_id))
        self._advance(client_order_id, OrderEvent.NOT_FOUND)

    def drop(self, words: str, *client_order_ids: str) -> None:
        """Recorded orders that were never sent, and never will be."""
        parts = [self.orders[cid].order for cid in client_order_ids]
        self._noted(*(intents.sending_event(self.recorder, part, words) for part in parts))
        for part in parts:
            self._drop(part)

    def mark_unknown(self, words: str, *client_order_ids: str) -> None:
        """Orders that may have been sent, without a report since."""
        self._noted(*(self.recorder.entry(records.NO_ANSWER, {"words": words}, cid) for cid in client_order_ids))
        for cid in client_order_ids:
            self._advance(cid, OrderEvent.NO_ANSWER)

    def mark_lost(self, client_order_id: str) -> None:
        """The order was not found within its lookup window: it is lost, watched, and its exposure stays reserved."""
        self._noted(self.recorder.entry(records.LOST, {}, client_order_id))
        self._advance(client_order_id, OrderEvent.GIVE_UP)
        self._desk.position_manager.on_lost(client_order_id)
        _log.error("order.lost", id=client_order_id)

    async def _act(self, actions: Sequence[TradingCommand]) -> None:
        for cancels, group in groupby(actions, self._of_one_cover):
            if cancels is None:
                for action in group:
                    await self._act_one(action)
                continue
            cids = [action.client_order_id for action in group if isinstance(action, CancelOrder)]
            await self._cancel(cids)
            if cancels:
                await self._proven(cids)

    def _of_one_cover(self, action: TradingCommand) -> str | None:
        # The position that loses its cover by a cancel, "" for none: one after the other, each for a moment.
        if not isinstance(action, CancelOrder):
            return None
        return "" if self.venue.broker.rules.simulated else action.exit_symbol

    async def _proven(self, cids: Sequence[str]) -> None:
        # Listen until the orders are proven to have ended, and what waits for that has left; no longer than 2 s.
        until = self._clock.monotonic() + _COVER_S
        while True:
            await self.process_broker_events()
            if self._clock.monotonic() >= until or all(self.orders[cid].terminal for cid in cids):
                return
            await self._clock.sleep(_GLANCE_S)

    async def _act_one(self, action: TradingCommand) -> None:
        match action:
            case SubmitOrder(order=order):
                await self._submit(order)
            case ReplaceOrder(client_order_id=cid, stop_price=price):
                moved = attrs.evolve(self.orders[cid].order, stop_price=price)
                await self._ask("replace", cid, partial(self.venue.broker.replace, cid, moved))

    async def _cancel(self, cids: Sequence[str]) -> None:
        # Ask for cancels side by side: a hundred of them do not wait for each other's answers.
        turn = asyncio.Semaphore(_AT_ONCE)

        async def one(cid: str) -> None:
            async with turn:
                cancel = partial(self.venue.broker.cancel, cid)
                await self._ask("cancel", cid, partial(self._patiently, "cancel", cancel, cid))

        await run_concurrently([partial(one, cid) for cid in cids])

    async def _ask(self, what: str, cid: str, ask: Callable[[], Awaitable[None]]) -> None:
        # Ask something of an order that rests; what fails is written down and keeps no other request back.
        #
        # While the answer to the same request is awaited it is not asked a second time.
        if (what, cid) in self._asking:
            return
        self._asking.add((what, cid))
        try:
            await ask()
        except Rejected as refusal:
            self._count += 1
            event_id, kind = f"refused-{cid}-{self._count}", BrokerEventKind.CANCEL_REFUSED
            event = BrokerEvent(kind=kind, event_id=event_id, client_order_id=cid, words=refusal.message)
            self.apply_events([event])
        except BrokerError as silence:
            # What it is asked of goes on as it was; whoever wants it gone, or moved, asks again.
            _log.warning("request.unanswered", id=cid, reason=silence.message)
            if what == "replace":  # whether it still rests is read
                self.lookups[cid] = None
        finally:
            self._asking.discard((what, cid))

    async def _submit(self, order: Order) -> None:
        # Send an order; whatever the way of failing, its record says what is known and no more.
        permit = SendPermit(order, self.venue.denial_reason)
        try:
            await self.venue.broker.submit(order, permit)
        except Rejected as refusal:
            self._refused(order, refusal.message)
        except BrokerError as silence:
            if isinstance(silence, Unavailable) and not permit.redeemed:  # by both accounts nothing has left
                # One that waited so long for its turn that readings missed it is in doubt by then, and stays so.
                parts = [part.client_order_id for part in intents.order_parts(order)]
                waiting = [cid for cid in parts if self.orders[cid].state is OrderState.SENDING]
                if waiting:
                    self.drop(silence.message, *waiting)
                return
            self.mark_unknown(silence.message, *(part.client_order_id for part in intents.order_parts(order)))

    def _refused(self, order: Order, words: str) -> None:
        # A broker's refusal in its answer becomes an event like one that it would have streamed.
        parts = [part.client_order_id for part in intents.order_parts(order)]
        event = partial(BrokerEvent, kind=BrokerEventKind.REJECTED, words=words)
        self.apply_events([event(event_id=f"refused-{cid}", client_order_id=cid) for cid in parts])

    def _advance(self, cid: str, event: OrderEvent, said: BrokerEvent | None = None) -> TransitionEffect:
        fill = None if said is None else said.fill
        self.orders[cid], effect = advance(self.orders[cid], event, fill)
        if effect is TransitionEffect.QUERY:
            self.lookups[cid] = None
        return effect
