"""Executes decisions: journal first, then send, then journal the result.

Two commits precede every send. T1 writes the minute's decisions and intents in one transaction; T2 marks the orders as
being sent, or drops those that must not be sent any more. Each order is sent with a permit that a kill revokes.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import BrokerEvent, BrokerEventKind, RejectionMeaning
from tbot_core.errors import BrokerError, JournalError, Rejected, Unavailable
from tbot_core.execution import instrument_rules, intents
from tbot_core.execution.broker_account import BrokerAccount, may_lag_broker, update_account
from tbot_core.execution.contradictions import Contradictions
from tbot_core.execution.frozen_instruments import FrozenInstruments, with_unique_execution_id
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.rejections import UNPROCESSED, WAS_BOOKED, RejectionActions
from tbot_core.execution.requests import BrokerRequests, OpenRequests, OrderRequests, run_concurrently
from tbot_core.execution.send_permit import SendPermit
from tbot_core.journal import codec
from tbot_core.journal.events.orders import OrderAbsent, OrderLost, OrderReported, OrderSentAgain, OrderUnanswered
from tbot_core.journal.store import JournalRecorder, NewEvent
from tbot_core.model.types import Leg, Order, OrderState
from tbot_core.system import log
from tbot_core.trading.commands import CancelOrder, ReplaceOrder, SubmitOrder, TradingCommand
from tbot_core.trading.order_lookup import IN_FLIGHT_S
from tbot_core.trading.orders import (
    AMENDS,
    BROKER_EVENT_KINDS,
    IN_DOUBT,
    SUPPOSED_PREFIX,
    OrderEvent,
    TransitionEffect,
)
from tbot_core.trading.risk.exposure import block_entries
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from datetime import datetime

    from tbot_core.trading.account_book import Ticket
    from tbot_core.trading.decision_engine import DecisionEngine

_CANCEL_WAIT_S: Final = 2.0
_POLL_S: Final = 0.25
_log = log.logger(__name__)


class ExecutionEngine:
    """Sends a session's orders and books their outcomes; `symbols` are those of the session."""

    def __init__(
        self,
        recorder: JournalRecorder,
        venue: BrokerAccount,
        decision_engine: DecisionEngine,
        symbols: tuple[str, ...] = (),
    ) -> None:
        self.recorder = recorder
        self._journal = recorder.journal
        self._decision_engine = decision_engine
        self._clock = recorder.clock
        self.frozen_instruments = FrozenInstruments(recorder, decision_engine.exposure)
        self.contradictions = Contradictions(venue.broker.capabilities.list_lag_s)
        self.rejections = RejectionActions(recorder, decision_engine, self.frozen_instruments)
        port = venue.broker.for_session(recorder.clock, venue.circuit, self.rejections.request_reading)
        self.venue, self.stream = attrs.evolve(venue, broker=port), port.stream
        self._requests = BrokerRequests(recorder, lambda: self.venue, decision_engine.exposure)
        self.order_requests = OrderRequests(self, self._requests)
        self.open_requests = OpenRequests()
        self.symbols = symbols
        self._books = decision_engine.book
        self.tickets = self._books.tickets

    async def execute(self, minute: MinuteCommands) -> None:
        """Record the minute's commands, send what may be sent, and book the first responses."""
        if not minute.is_empty:
            await self.send(minute, self.persist_intents(minute))

    def persist_intents(self, minute: MinuteCommands, recorded: Sequence[Order] = ()) -> Sequence[Order]:
        """Record the minute (T1) and mark the orders to send (T2), without yielding to the loop; returns these orders.

        No request is made for an order that is not on disk. `recorded` are orders that a restart found recorded and not
        sent; they are only marked.
        """
        exits = [action.order for action in minute.actions if isinstance(action, SubmitOrder)]
        self._barrier(*intents.intent_events(self.recorder, minute))
        return self._mark([*exits, *minute.entry_orders, *recorded])

    async def send(self, minute: MinuteCommands, allowed: Sequence[Order]) -> None:
        """Send the `allowed` orders of a recorded minute, and book the first responses.

        Exits are sent before entries, including those that a cancel of this minute releases.
        """
        entries = minute.entry_orders
        await self._run_commands(
            [one for one in minute.actions if not isinstance(one, SubmitOrder) or one.order in allowed]
        )
        if minute.actions:
            await self.process_broker_events()
        for order in entries:
            if order in allowed:
                await self._submit(order)
        if entries:
            await self.process_broker_events()

    def _mark(self, orders: Sequence[Order]) -> list[Order]:
        # T2: mark the orders that may be sent, drop the others; returns the marked ones.
        if not orders:
            return []
        why = [(order, self.venue.denial_reason(order)) for order in orders]
        parts = [(part, words) for order, words in why for part in intents.order_parts(order)]
        now = self._clock.now()
        for part, _ in parts:
            self.tickets[part.client_order_id].recorded_at = now
        self._barrier(*(intents.sending_event(self.recorder, part, words) for part, words in parts))
        for part, words in parts:
            if words:
                self._drop(part, barred=True)
            else:
                self._books.apply(part.client_order_id, OrderEvent.SEND)
                self.mark_sent(part.client_order_id, now)
        return [order for order, words in why if not words]

    def mark_sent(self, client_order_id: str, placed: datetime) -> None:
        """Record that an order is in flight since `placed`; its age counts on a steady clock from now."""
        ticket = self.tickets[client_order_id]
        ticket.sent_at, ticket.sent_second = placed, self._clock.monotonic()

    def age(self, ticket: Ticket) -> float:
        """Seconds since an order was sent, or since the restart that found it; 0 before, and while it waits."""
        return ticket.age(self._clock.monotonic())

    def _drop(self, part: Order, *, barred: bool = False) -> None:
        # A recorded order that will never be sent releases its reservation.
        self._books.apply(part.client_order_id, OrderEvent.DROP)
        self._decision_engine.position_manager.on_dropped(part.client_order_id, barred=barred)

    def _barrier(self, *entries: NewEvent) -> None:
        # Write what must be on disk before an order of the minute is sent.
        self._write(entries, "No order of this minute was sent.")

    def _record(self, *entries: NewEvent) -> None:
        # Write events of orders that were sent.
        self._write(entries, "Orders that were sent remain at the broker.")

    def _write(self, entries: Sequence[NewEvent], consequence: str) -> None:
        try:
            self.recorder.write(*entries)
        except JournalError as fault:
            raise JournalError(fault.message, f"{consequence} {fault.remedy}") from fault

    async def process_broker_events(self) -> None:
        """Journal and apply the broker's events since the last call, then execute the commands due now.

        An exit is due when the last working order of its position has been reported as ended, a cancel that was
        withheld when its order is known.
        """
        self.open_requests.raise_fault()
        self.apply_events(await self._requests.read("poll", self.venue.broker.poll) or ())
        if self.order_requests.has_found:
            await self._in_time(self.order_requests.cancel_found())
        await self.execute(MinuteCommands(actions=self._decision_engine.position_manager.orders_due_now()))

    async def read_account(self) -> None:
        """Read the account's current cash and buying power from the broker."""
        before = self._decision_engine.portfolio.cash_atoms
        lagging = may_lag_broker(self._decision_engine)
        account = await self._requests.read("account", self.venue.broker.account)
        if account is not None:
            crossed = lagging or before != self._decision_engine.portfolio.cash_atoms
            update_account(self._decision_engine, self.recorder, account, crossed=crossed)

    def apply_events(self, events: Sequence[BrokerEvent], *, read: bool = False) -> None:
        """Journal events, then apply them; one that was journaled before changes nothing.

        `read`: the events are from a reading, whose executions belong to their order even if their ids were used
        before. A bust or a correction is resolved when all events before it are journaled.
        """
        known = [event for event in events if not self._is_duplicate_id(event)]
        for _, part in groupby(known, lambda event: BROKER_EVENT_KINDS.get(event.kind) in AMENDS):
            resolve = self.frozen_instruments.resolve_execution
            self._book([resolve(event, self.tickets.get(event.client_order_id)) for event in part], read=read)

    def _is_duplicate_id(self, event: BrokerEvent) -> bool:
        # The venue has an order of this id, whichever request placed it: it is looked up, and nothing ends.
        if event.kind != BrokerEventKind.REJECTED or event.meaning is not RejectionMeaning.DUPLICATE_ID:
            return False
        ticket = self.tickets.get(event.client_order_id)
        _log.error("order.duplicate_id", id=event.client_order_id, words=event.words)
        if ticket is not None and not ticket.terminal:
            self.mark_unknown(event.words, event.client_order_id)
        return True

    def _book(self, events: Sequence[BrokerEvent], *, read: bool) -> None:
        now, repeated = self._clock.now(), []
        fresh: dict[str, tuple[BrokerEvent, NewEvent]] = {}
        for event in map(self._with_unique_id, events) if read else events:
            source = (self.venue.name, self.venue.account_id, self._event_key(event))
            if source[2] in fresh or self._journal.contains(source):
                repeated.append((event, source))
            elif not self._stale(event):
                payload = codec.write(OrderReported.of(event))
                entry = NewEvent(kind=event.kind, payload=payload, time=now, cid=event.client_order_id, source=source)
                fresh[source[2]] = event, entry
        if fresh:
            self._record(*(entry for _, entry in fresh.values()))
        for event, _ in fresh.values():
            if read:
                self._note_missed(event)
            self._apply_event(event)
        for event, source in repeated:
            self._check_repeated(event, source)

    def _note_missed(self, event: BrokerEvent) -> None:
        # A reading has what the stream should have delivered: the end of the silence of an order, or a fill.
        cid, ticket = event.client_order_id, self.tickets.get(event.client_order_id)
        if self.stream is None or ticket is None:
            return
        silent = ticket.state is OrderState.SENDING and self.age(ticket) > IN_FLIGHT_S
        at = ticket.sent_at if silent else None if event.fill is None else event.fill.time
        if at is not None and self.stream.missed(at):
            words = (
                f"its stream was connected and silent, {event.kind} of order {cid} came by a reading; the stream is"
                " opened again, and orders are looked up"
            )
            block_entries(self._decision_engine.exposure, StateCause.EVENTS_MISSED, words)

    def _with_unique_id(self, event: BrokerEvent) -> BrokerEvent:
        known = self._journal.find_event((self.venue.name, self.venue.account_id, self._event_key(event)))
        ticket = self.tickets.get(event.client_order_id)
        if known is not None and event.kind == BrokerEventKind.ACKNOWLEDGED and ticket and ticket.state in IN_DOUBT:
            # It has been missed again since it was found: the same report ends another doubt.
            return attrs.evolve(event, event_id=f"{event.event_id}, after event {self._journal.head[0]}")
        return with_unique_execution_id(event, known)

    def _check_repeated(self, event: BrokerEvent, source: tuple[str, str, str]) -> None:
        # A repeated event with other terms is journaled too, and its order is looked up.
        known, ticket = self._journal.find_event(source), self.tickets.get(event.client_order_id)
        if known is None or ticket is None:
            return
        if (other := self.frozen_instruments.reused_id_entry(event, known, ticket)) is not None:
            self._record(other)
            ticket.must_look_up = True

    def _stale(self, event: BrokerEvent) -> bool:
        # Whether a not_found event repeats what is known.
        ticket = self.tickets.get(event.client_order_id)
        if ticket is None or event.kind != BrokerEventKind.NOT_FOUND:
            return False
        if stale := ticket.terminal or ticket.state in IN_DOUBT:
            ticket.on_report(is_known=False)
        return stale

    def _event_key(self, event: BrokerEvent) -> str:
        # The key of an event: for a fill its execution, whichever channel reported it.
        if event.fill is None or event.kind != BrokerEventKind.FILL:
            return event.event_id
        execution = event.fill.execution_id
        unique = self.venue.broker.capabilities.exec_ids_unique or execution.startswith(SUPPOSED_PREFIX)
        return f"execution {execution}" if unique else f"execution {execution} of {event.client_order_id}"

    def _apply_event(self, event: BrokerEvent) -> None:
        # Apply a journaled event to the order's record and the positions; each execution counts once.
        cid, order_event = event.client_order_id, BROKER_EVENT_KINDS.get(event.kind)
        ticket, now = self.tickets.get(cid), self._clock.monotonic()
        if ticket is not None and order_event is None:
            ticket.must_look_up = True
        if ticket is None and order_event is OrderEvent.FILL and event.fill is not None:
            self.contradictions.add_execution(event.fill, now)
            self._decision_engine.position_manager.on_foreign_fill(event.fill, now)
        if ticket is None or order_event is None:
            _log.warning("broker.event_not_ours", kind=event.kind, id=cid, words=event.words)
            return
        ticket.on_report(is_known=event.kind != BrokerEventKind.NOT_FOUND)
        self.contradictions.confirm(ticket.order.symbol, now)
        update = self._books.apply(cid, order_event, event.fill)
        if update.effect is TransitionEffect.ALARM:
            _log.error("order.alarm", id=cid, kind=event.kind, state=ticket.state.value)
        self.frozen_instruments.on_broker_event(event, ticket.record)
        self.rejections.apply(event, ticket.order)
        self._decision_engine.position_manager.on_event(event, update.execution, ended=ticket.terminal, at=now)

    def mark_not_found(self, client_order_id: str) -> None:
        """Record that the broker's sources do not know an order: its outcome is unknown."""
        self._record(self.recorder.entry(OrderAbsent(), client_order_id))
        self._books.apply(client_order_id, OrderEvent.NOT_FOUND)

    def drop(self, words: str, *client_order_ids: str) -> None:
        """Drop recorded orders that were never sent."""
        parts = [self.tickets[cid].order for cid in client_order_ids]
        self._record(*(intents.sending_event(self.recorder, part, words) for part in parts))
        for part in parts:
            self._drop(part)

    def mark_unknown(self, words: str, *client_order_ids: str) -> None:
        """Mark orders as unknown: they may have been sent, and nothing was reported since."""
        self._record(*(self.recorder.entry(OrderUnanswered(words=words), cid) for cid in client_order_ids))
        for cid in client_order_ids:
            self._books.apply(cid, OrderEvent.NO_ANSWER)

    def mark_lost(self, client_order_id: str, *, reading_after: float | None = None) -> None:
        """Mark an order as lost: not found within its lookup window; its exposure stays reserved.

        `reading_after`: as of `PositionManager.on_lost`.
        """
        self._record(self.recorder.entry(OrderLost(), client_order_id))
        self._books.apply(client_order_id, OrderEvent.GIVE_UP)
        self._decision_engine.position_manager.on_lost(client_order_id, reading_after=reading_after)
        _log.error("order.lost", id=client_order_id)

    async def _run_commands(self, actions: Sequence[TradingCommand]) -> None:
        for cancels, group in groupby(actions, self._cancel_group):
            if cancels is None:
                await self._run_together([*group])
                continue
            cids = [action.client_order_id for action in group if isinstance(action, CancelOrder)]
            await self._in_time(self.order_requests.cancel(cids))
            if cancels:
                await self._wait_for_cancels(cids)

    async def _run_together(self, actions: Sequence[TradingCommand]) -> None:
        # The commands of a symbol one after the other, those of several symbols at once: a stop does not wait for the
        # answer to another one.
        if self.venue.broker.capabilities.simulated:
            await self._run_in_order(actions)
            return
        symbols: dict[str, list[TradingCommand]] = {}
        for action in actions:
            order = action.order if isinstance(action, SubmitOrder) else self.tickets[action.client_order_id].order
            symbols.setdefault(order.symbol, []).append(action)
        await run_concurrently([partial(self._run_in_order, actions) for actions in symbols.values()])

    async def _run_in_order(self, actions: Sequence[TradingCommand]) -> None:
        for action in actions:
            match action:
                case SubmitOrder(order=order):
                    await self._in_time(self._submit(order))
                case ReplaceOrder(client_order_id=cid, stop_price=price):
                    await self._in_time(self.order_requests.replace(cid, price))

    async def _in_time(self, request: Coroutine[Any, Any, None]) -> None:
        # Wait for a request, but not for long; a simulated broker answers at once.
        await (request if self.venue.broker.capabilities.simulated else self.open_requests.wait_for(request))

    def _cancel_group(self, action: TradingCommand) -> str | None:
        # The position that a cancel leaves unprotected, "" for none: positions are handled one after the other.
        if not isinstance(action, CancelOrder):
            return None
        return "" if self.venue.broker.capabilities.simulated else action.exit_symbol

    async def _wait_for_cancels(self, cids: Sequence[str]) -> None:
        # Poll until the orders are reported as ended and the waiting exits are sent, for at most 2 s.
        until = self._clock.monotonic() + _CANCEL_WAIT_S
        while True:
            await self.process_broker_events()
            if self._clock.monotonic() >= until or all(self.tickets[cid].terminal for cid in cids):
                return
            await self._clock.sleep(_POLL_S)

    async def _submit(self, order: Order) -> None:
        # Send an order; after a failure its record says only what is known.
        parts = [part.client_order_id for part in intents.order_parts(order)]
        if order.leg is Leg.ENTRY and not order.buy:
            exposure = self._decision_engine.exposure
            if words := await instrument_rules.short_sale_objection(self.venue.broker, exposure, order.symbol):
                self._drop_waiting(words, parts)
                return
        permit = SendPermit(order, self._denial_reason, self._on_sent)
        try:
            await self.venue.broker.submit(order, permit)
        except BrokerError as fault:
            meaning = fault.meaning if isinstance(fault, Rejected) else None
            unprocessed = meaning in UNPROCESSED
            if meaning is RejectionMeaning.INSUFFICIENT_QUANTITY and order.leg is not Leg.ENTRY:
                self.mark_unknown(fault.message, *parts)
                self.rejections.request_reading()
                if not self.venue.broker.capabilities.unique_client_order_id:
                    self._on_refused_as_booked(order.client_order_id)
            elif isinstance(fault, Rejected) and not unprocessed:
                self._refused(order, fault)
            elif (unprocessed and order.leg is Leg.ENTRY) or (isinstance(fault, Unavailable) and not permit.redeemed):
                # It was certainly not processed, or not sent. A stop or exit may have been processed all the same.
                self._drop_waiting(fault.message, parts)
            else:
                self.mark_unknown(fault.message, *parts)
        else:
            self._on_accepted(*parts)

    def _denial_reason(self, order: Order) -> str:
        # Why an order must not be sent now: also where it waited, and was given up meanwhile.
        given_up = self.tickets[order.client_order_id].state is not OrderState.SENDING
        return "it was given up while it waited" if given_up else self.venue.denial_reason(order)

    def _on_sent(self, order: Order) -> None:
        # The order is sent now: its age counts from here.
        for part in intents.order_parts(order):
            ticket = self.tickets[part.client_order_id]
            ticket.left_queue, ticket.sent_second = True, self._clock.monotonic()

    def _on_accepted(self, *client_order_ids: str) -> None:
        # Sent orders were answered. That is not journaled: a restart looks them up anyhow.
        if self.venue.broker.capabilities.confirms_submit:
            for cid in client_order_ids:
                self.tickets[cid].record = attrs.evolve(self.tickets[cid].record, confirmed=True)

    async def send_again(self, order: Order) -> None:
        """Send a stop or exit without a known outcome again under its id.

        Only for a broker that refuses an id that it has seen. A refusal for a reason that does not mean that the first
        one was booked is booked itself.
        """
        cid = order.client_order_id
        self._record(self.recorder.entry(OrderSentAgain(), cid))
        try:
            await self.venue.broker.submit(order, SendPermit(order, self.venue.denial_reason))
        except BrokerError as fault:
            if isinstance(fault, Rejected) and fault.meaning in WAS_BOOKED:
                if fault.meaning is RejectionMeaning.INSUFFICIENT_QUANTITY:
                    self.rejections.request_reading()
                self._on_refused_as_booked(cid)
            elif isinstance(fault, Rejected) and fault.meaning not in UNPROCESSED:
                self._refused(order, fault)
            else:
                _log.warning("order.not_sent_again", id=cid, reason=fault.message)
        else:
            self._on_accepted(cid)

    def _on_refused_as_booked(self, cid: str) -> None:
        # The order itself may be what has the id or the shares: it is looked up, and not sent again.
        ticket = self.tickets[cid]
        if ticket.state is OrderState.UNKNOWN:
            ticket.record = attrs.evolve(ticket.record, refused_at=self._clock.monotonic())

    def _drop_waiting(self, words: str, cids: Sequence[str]) -> None:
        # Drop what was not sent or not processed. An order that a reading marked as unknown meanwhile stays unknown.
        waiting = [cid for cid in cids if self.tickets[cid].state is OrderState.SENDING]
        if waiting:
            self.drop(words, *waiting)

    def _refused(self, order: Order, refusal: Rejected) -> None:
        # A rejection in the broker's answer becomes an event as from its stream.
        parts = [part.client_order_id for part in intents.order_parts(order)]
        event = partial(BrokerEvent, kind=BrokerEventKind.REJECTED, words=refusal.message, meaning=refusal.meaning)
        self.apply_events([event(event_id=f"refused-{cid}", client_order_id=cid) for cid in parts])
