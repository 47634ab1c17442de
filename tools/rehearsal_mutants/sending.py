"""Mutants of how orders leave and of what their outcome is taken for; each function says what to plant, and where."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import BrokerEvent, BrokerEventKind
from tbot_core.engine import control
from tbot_core.engine.live import market_session
from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
from tbot_core.errors import BrokerError, OutcomeUnknown, Rejected, Unavailable
from tbot_core.execution import reconciler
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.requests import OrderRequests
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.journal import store
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.store import Journal
from tbot_core.model.types import Fill, Order, OrderState
from tbot_core.rehearsal.patching import Swaps, current_attribute
from tbot_core.trading import account_book, orders
from tbot_core.trading.order_lookup import OrderLookup
from tbot_core.trading.orders import ClientOrderIds, OrderEvent, OrderRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from tbot_core.execution.intents import MinuteCommands
    from tbot_core.trading.account_book import Ticket

_MINUTE_S: Final = 60.0
_NO_CANCEL: Final = frozenset({BrokerEventKind.CANCEL_REFUSED, BrokerEventKind.NOT_FOUND})


def second_barrier_left_out() -> Swaps:
    """Orders leave without having been marked as being sent."""

    def mark(self: Any, orders: Sequence[Order]) -> list[Order]:
        for part in (part for order in orders for part in (order, *order.protection)):
            ticket = self.tickets[part.client_order_id]
            ticket.record = ticket.record.in_state(OrderState.SENDING)
            self.mark_sent(part.client_order_id, self._clock.now())
        return [*orders]

    return ((ExecutionEngine, "_mark", mark),)


def sent_before_it_is_written() -> Swaps:
    """What a minute asks for is written down when all of it has been sent."""
    write_down, send = current_attribute(ExecutionEngine, "persist_intents"), current_attribute(ExecutionEngine, "send")

    def late(self: Any, minute: MinuteCommands) -> Any:
        kept = vars(self).setdefault("_kept", [])
        self._barrier = lambda *entries: kept.extend(entries)
        return write_down(self, minute)

    async def sent(self: Any, minute: MinuteCommands, allowed: Any) -> None:
        await send(self, minute, allowed)
        vars(self).pop("_barrier", None)
        if kept := vars(self).pop("_kept", []):
            self.recorder.write(*kept)

    return (ExecutionEngine, "persist_intents", late), (ExecutionEngine, "send", sent)


def appended_before_it_is_durable() -> Swaps:
    """An append returns at once, and is committed with the next one."""

    @contextmanager
    def lazily(connection: Any, *, ends: bool) -> Iterator[None]:  # noqa: ARG001
        if connection.in_transaction:
            connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        yield

    return ((store, "_transaction", lazily),)


def permit_never_looked_at() -> Swaps:
    """What was marked leaves, whatever has happened since."""
    return ((SendPermit, "redeem", lambda self: setattr(self, "redeemed", True)),)


def permit_asks_only_what_was_given_up() -> Swaps:
    """What was marked leaves unless it was given up while it waited, whatever has been set since."""

    def given_up(self: Any, order: Order) -> str:
        waits = self.tickets[order.client_order_id].state is OrderState.SENDING
        return "" if waits else "it was given up while it waited"

    return ((ExecutionEngine, "_denial_reason", given_up),)


def kill_seen_at_the_next_look() -> Swaps:
    """A kill counts when the folder is looked at the next time, not when an order is about to leave."""
    return ((control, "kill_file_exists", lambda _folder: False),)


def kill_never_seen() -> Swaps:
    """Nobody looks for the kill file."""
    look = control.read_folder
    return (
        (control, "kill_file_exists", lambda _folder: False),
        (control, "read_folder", lambda folder: attrs.evolve(look(folder), kill=False)),
    )


def exit_only_never_imposed() -> Swaps:
    """The causes at work are written down, and keep nobody from entering."""
    return (
        (market_session.LiveTradingSession, "denial_reason", lambda _self, order: never_refuse(order)),
        (BrokerSupervisor, "_impose", lambda _self, _state: None),
    )


def time_out_read_as_refused() -> Swaps:
    """An order without an answer is taken for rejected."""
    return _unanswered(lambda self, order, words: self._refused(order, Rejected(words)))


def time_out_read_as_never_sent() -> Swaps:
    """An order without an answer is dropped, as if it had never left."""

    def drop(self: Any, order: Order, words: str) -> None:
        for part in (order, *order.protection):
            self.drop(words, part.client_order_id)

    return _unanswered(drop)


def unavailable_read_as_never_sent() -> Swaps:
    """A broker that says that it was not reached is believed, though the permit was used."""

    async def submit(self: Any, order: Order) -> None:
        try:
            await self.venue.broker.submit(order, SendPermit(order, self.venue.denial_reason))
        except Rejected as refusal:
            self._refused(order, refusal)
        except (Unavailable, OutcomeUnknown) as silence:
            for part in (order, *order.protection):
                if isinstance(silence, Unavailable) or silence.message.startswith("429"):
                    self.drop(silence.message, part.client_order_id)
                else:
                    self.mark_unknown(silence.message, part.client_order_id)

    return ((ExecutionEngine, "_submit", submit),)


def sent_again_under_the_same_id() -> Swaps:
    """An order without an answer is sent again at once, whether or not the venue tells the two from each other."""

    async def again(self: Any, order: Order) -> None:
        await self.venue.broker.submit(order, SendPermit(order, self.venue.denial_reason))

    return _retried(again)


def sent_again_under_a_new_id() -> Swaps:
    """An order without an answer is sent again at once, under an id of its own."""

    async def again(self: Any, order: Order) -> None:
        cid = f"{order.client_order_id[:-1]}0"
        fresh = attrs.evolve(order, client_order_id=cid, protection=())
        self._barrier(self.recorder.entry(OrderIntended.of(fresh), cid))
        self._decision_engine.book.add_ticket(fresh)
        self._mark([fresh])
        await self.venue.broker.submit(fresh, SendPermit(fresh, self.venue.denial_reason))

    return _retried(again)


def silent_cancel_read_as_done() -> Swaps:
    """A cancel without an answer is taken for the order's end."""
    ask = current_attribute(OrderRequests, "_request")

    async def asked(self: Any, what: str, cid: str, request: Callable[[], Awaitable[None]]) -> None:
        async def watched() -> None:
            try:
                await request()
            except Rejected:
                raise
            except BrokerError:
                self._execution.apply_events(
                    [BrokerEvent(kind=BrokerEventKind.CANCELLED, event_id=f"silent-{cid}", client_order_id=cid)]
                )

        await ask(self, what, cid, watched)

    return ((OrderRequests, "_request", asked),)


def refused_cancel_read_as_done() -> Swaps:
    """A venue that cannot cancel an order is taken to say that there is none."""
    book = current_attribute(ExecutionEngine, "apply_events")

    def booked(self: Any, said: Sequence[BrokerEvent], **further: Any) -> None:
        book(
            self,
            [attrs.evolve(one, kind=BrokerEventKind.CANCELLED) if one.kind in _NO_CANCEL else one for one in said],
            **further,
        )

    return ((ExecutionEngine, "apply_events", booked),)


def not_found_read_as_rejected() -> Swaps:
    """An order that a source does not know is taken for rejected."""

    def missed(self: Any, ticket: Ticket, _lookup: object, _source: str, _requested: float) -> None:
        event = BrokerEvent(
            kind=BrokerEventKind.REJECTED, event_id=f"404-{ticket.cid}", client_order_id=ticket.cid, words="404"
        )
        self._execution.apply_events([event])

    return ((reconciler.Reconciler, "_on_not_found", missed),)


def one_source_is_evidence() -> Swaps:
    """An order that one source does not know is lost at once, without a second one and without waiting."""

    def missed(self: Any, ticket: Ticket, _lookup: object, _source: str, _requested: float) -> None:
        if ticket.state is OrderState.UNKNOWN:
            self._execution.mark_lost(ticket.cid)
        elif ticket.state is not OrderState.LOST:
            self._execution.mark_not_found(ticket.cid)

    return ((reconciler.Reconciler, "_on_not_found", missed),)


def one_list_counts_twice() -> Swaps:
    """How long an order is missed counts from the first source that did not know it, not from the last."""

    def missed_for(self: Any, requested: float) -> float:
        return requested - min(self.not_found_by.values(), default=requested)

    return ((OrderLookup, "missed_for", missed_for),)


def age_by_the_wall_clock() -> Swaps:
    """How long an order has been out is counted by a clock that jumps."""

    def age(self: Any, ticket: Ticket) -> float:
        placed = ticket.sent_at
        seconds: float = 0.0 if placed is None else (self._clock.now() - placed).total_seconds()
        return seconds

    return ((ExecutionEngine, "age", age),)


def doubt_never_looked_up() -> Swaps:
    """An order in doubt waits for the stream to speak of it."""

    async def tend(_self: Any) -> None:
        """Look nothing up."""

    return ((reconciler.Reconciler, "run_once", tend),)


def doubt_ended_by_the_clock() -> Swaps:
    """An order in doubt for a minute is taken for cancelled."""

    def notice(self: Any, _now: float) -> None:
        for cid, ticket in [*self._tickets.items()]:
            if ticket.state is OrderState.UNKNOWN and self._execution.age(ticket) > _MINUTE_S:
                event = BrokerEvent(kind=BrokerEventKind.CANCELLED, event_id=f"old-{cid}", client_order_id=cid)
                self._execution.apply_events([event])

    return ((reconciler.Reconciler, "_update_lookups", notice),)


def keys_written_as_they_are_quoted() -> Swaps:
    """What a broker says enters the journal word by word, a key that it quotes too."""
    return ((store, "redact", lambda text: text),)


def _forgetting(record: OrderRecord, fill: Fill) -> OrderRecord:
    known = {name: one for name, one in record.executions.items() if name != fill.execution_id}
    return attrs.evolve(record, executions=known)


def fills_known_by_their_event() -> Swaps:
    """A fill is the same one when its event is, not when its execution is."""
    return (
        (ExecutionEngine, "_event_key", lambda _self, event: event.event_id),
        *_advancing(_forgetting),
    )


def executions_thought_unique() -> Swaps:
    """An execution id counts once in the account, also at a venue that numbers each order's own."""

    def name(_self: Any, event: BrokerEvent) -> str:
        return event.event_id if event.fill is None else f"execution {event.fill.execution_id}"

    return ((ExecutionEngine, "_event_key", name),)


def events_taken_twice() -> Swaps:
    """What was written before is taken for new."""
    return ((Journal, "contains", lambda _self, _source: False),)


def late_fill_dropped() -> Swaps:
    """A fill of an order that has ended is not booked."""
    book = current_attribute(ExecutionEngine, "apply_events")

    def booked(self: Any, said: Sequence[BrokerEvent], **further: Any) -> None:
        late = [one for one in said if one.fill is not None and _over(self, one)]
        book(self, [one for one in said if one not in late], **further)

    return ((ExecutionEngine, "apply_events", booked),)


def fill_of_a_doubtful_order_dropped() -> Swaps:
    """A fill says nothing of an order that is in doubt."""
    book = current_attribute(ExecutionEngine, "apply_events")

    def booked(self: Any, said: Sequence[BrokerEvent], **further: Any) -> None:
        doubtful = {cid for cid, ticket in self.tickets.items() if ticket.state is OrderState.UNKNOWN}
        book(self, [one for one in said if one.fill is None or one.client_order_id not in doubtful], **further)

    return ((ExecutionEngine, "apply_events", booked),)


def attempt_left_out_of_the_id() -> Swaps:
    """Every attempt at a signal's leg bears the same id."""
    name = current_attribute(ClientOrderIds, "client_order_id")
    return ((ClientOrderIds, "client_order_id", lambda self, signal, leg, _attempt=1: name(self, signal, leg)),)


def refusal_of_a_working_order_believed() -> Swaps:
    """An order that works is taken for ended when a rejection of it is told."""
    arrows = {
        **orders.TRANSITIONS,
        **{
            (state, OrderEvent.CANCEL_REFUSED): orders.Transition(OrderState.CANCELLED)
            for state in (OrderState.NEW, OrderState.PARTIALLY_FILLED)
        },
    }
    return ((orders, "TRANSITIONS", arrows),)


def session_left_before_orders_are_settled() -> Swaps:
    """The session ends with its last minute, whatever is still in doubt."""

    async def at_once(_self: Any) -> None:
        """Wait for nothing."""

    return ((market_session.LiveTradingSession, "_settle", at_once),)


def _unanswered(act: Callable[[Any, Order, str], None]) -> Swaps:
    # What an order without an answer is taken for.

    async def submit(self: Any, order: Order) -> None:
        try:
            await self.venue.broker.submit(order, SendPermit(order, self.venue.denial_reason))
        except Rejected as refusal:
            self._refused(order, refusal)
        except BrokerError as silence:
            act(self, order, silence.message)

    return ((ExecutionEngine, "_submit", submit),)


def _retried(again: Callable[[Any, Order], Awaitable[None]]) -> Swaps:
    # What is done at once about an order without an answer.
    submit = current_attribute(ExecutionEngine, "_submit")

    async def twice(self: Any, order: Order) -> None:
        await submit(self, order)
        if self.tickets[order.client_order_id].state is OrderState.UNKNOWN:
            try:
                await again(self, order)
            except BrokerError as silence:
                self.mark_unknown(silence.message, order.client_order_id)

    return ((ExecutionEngine, "_submit", twice),)


def _advancing(change: Callable[[OrderRecord, Fill], OrderRecord]) -> Swaps:
    # The record as another one, whenever a fill is taken in.

    def step(
        record: OrderRecord, event: OrderEvent, fill: Fill | None = None
    ) -> tuple[OrderRecord, orders.TransitionEffect]:
        return orders.advance(record if fill is None else change(record, fill), event, fill)

    return ((account_book, "advance", step),)


def _over(run: Any, event: BrokerEvent) -> bool:
    ticket = run.tickets.get(event.client_order_id)
    return ticket is not None and ticket.terminal
