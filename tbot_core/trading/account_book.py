"""The account book: all that is known of the orders and positions of one account in one session.

Everything known of an order is in its ticket: what was decided, what the broker reported, what was requested of it, and
what is unknown.
"""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Literal

import attrs

from tbot_core.model.reasons import Reason
from tbot_core.model.types import (
    UNITS_PER_SHARE,
    ExitReason,
    Fill,
    Instrument,
    Leg,
    Order,
    OrderState,
    SignalId,
    price_of,
    ticks_of,
    units_of,
)
from tbot_core.trading.exit_plan import ExitPlan, closing_reason
from tbot_core.trading.order_lookup import OrderLookup
from tbot_core.trading.orders import (
    ExecutionUpdate,
    OrderEvent,
    OrderRecord,
    TransitionEffect,
    advance,
    execution_update,
)
from tbot_core.trading.portfolio import Portfolio, Position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.contracts import OrderStatusReport  # noqa: TC004  `tbot status` loads no broker's contract
    from tbot_core.model.bars import Bars


_PROTECTION: Final = frozenset({Leg.STOP, Leg.TARGET})


def _working_ids(tickets: list[Ticket]) -> list[str]:
    return [one.cid for one in tickets if one.works]


class Unsent(Enum):
    """What an order that was not sent waits for, before its position gets another.

    With `BARRED_EXIT` only exits wait: a stop is placed where the exit is given up.
    """

    CONNECTION = auto()
    BARRED = auto()
    BARRED_EXIT = auto()


@attrs.define(kw_only=True)
class ManagedPosition:
    """A managed position: its plan, its row in the bars if any, and the tickets of its signal's orders.

    Plan and row are those of its signal, whose bars decide. The orders trade the position's instrument.

    `exit_reason`: why it is being closed; the latest exit was placed after `exit_placed_minute`. `stop_triggered`: its
    stop has triggered or begun to fill. `trim_to_units`: the units to keep, set until the trim is placed.
    `top_up_denial`: the reason of the last denied top-up. `rejected_stop_price`: the level of a stop that was rejected
    while the instrument's rules were unknown. `had_stop`: the broker has confirmed a stop of it. `taken_stops`: the
    number of its stops that somebody else cancelled. `reading_after`: nothing is sent or cancelled for it before a
    reading of the account is applied that was requested at this second of a steady clock or later; None if it need not
    wait. `unshown_units`: what others closed of it by events, less what readings have shown of that. `unsent`: what it
    waits for after an order of it was not sent. `own_stop`: the orders of its entry's bracket, if any, are to end, and
    a stop of its own protects it.
    """

    plan: ExitPlan
    row: int | None
    position: Position
    tickets: list[Ticket] = attrs.field(eq=_working_ids)
    exit_reason: ExitReason | None = None
    exit_placed_minute: int | None = None
    refused_stops: int = 0
    stop_triggered: bool = False
    trim_to_units: int | None = None
    top_up_denial: Reason | None = None
    rejected_stop_price: Decimal | None = None
    had_stop: bool = False
    taken_stops: int = 0
    reading_after: float | None = None
    unshown_units: int = 0
    unsent: Unsent | None = attrs.field(default=None, eq=False)
    own_stop: bool = False

    def bar_value(self, bars: Bars, field: str, minute: int) -> float:
        """A field of the signal's bar in a minute; NaN without a bar."""
        return math.nan if self.row is None else bars.field(field).item(minute, self.row)

    def price_row(self, bars: Bars) -> int | None:
        """The row of what is held in the bars, by which it is valued; None if they do not have it."""
        if not self.position.instrument.is_proxy:
            return self.row
        return bars.symbols.index(self.position.symbol) if self.position.symbol in bars.symbols else None

    def working(self, leg: Leg) -> Ticket | None:
        """Its latest order of a leg that works."""
        for ticket in reversed(self.tickets):
            if ticket.works and ticket.order.leg is leg:
                return ticket
        return None

    @property
    def stop(self) -> Ticket | None:
        """Its working stop."""
        return self.working(Leg.STOP)

    @property
    def target(self) -> Ticket | None:
        """Its working target."""
        return self.working(Leg.TARGET)

    @property
    def exit(self) -> Ticket | None:
        """The working order that closes the whole of it."""
        return next((one for one in reversed(self.tickets) if one.works and one.order.closes), None)

    @property
    def trim(self) -> Ticket | None:
        """Its working trim."""
        return next((one for one in reversed(self.tickets) if one.works and one.order.trims), None)

    @property
    def protection(self) -> list[Ticket]:
        """Its working stop and target, the latest first."""
        return [one for one in reversed(self.tickets) if one.works and one.order.leg in _PROTECTION]

    @property
    def is_bracketed(self) -> bool:
        """Whether the stop of its entry's bracket protects it, and is to stay; else it needs a stop of its own."""
        stop = self.stop
        return stop is not None and stop.in_bracket and not (self.own_stop or stop.outdated)

    @property
    def is_stop_ending(self) -> bool:
        """Whether its stop is to end, because another takes its place, or a cancel of it was requested."""
        stop = self.stop
        return stop is not None and (stop.outdated or stop.cancel_asked or (stop.in_bracket and self.own_stop))

    @property
    def awaits_release(self) -> bool:
        """Whether an order of it was not sent, and the next one waits."""
        return self.unsent is not None and (self.unsent is not Unsent.BARRED_EXIT or self.exit_reason is not None)

    @property
    def exit_due(self) -> bool:
        """Whether it is to be closed, and no exit works."""
        return self.exit_reason is not None and self.exit is None

    @property
    def is_settled(self) -> bool:
        """Whether it needs no order as long as nothing happens to it: it is protected and not being changed."""
        return (
            self.exit_reason is None
            and (self.is_bracketed or (self.plan.on_close and self.stop is None))
            and self.trim_to_units is None
            and self.reading_after is None
            and self.position.units >= UNITS_PER_SHARE
        )

    @property
    def units_in_trim(self) -> int:
        """The units that a working trim may still close."""
        trim = self.trim
        return 0 if trim is None else trim.open_units

    @property
    def is_steady(self) -> bool:
        """Whether nothing is in progress for the position: no exit, no trim, no change of its stop."""
        leaves = self.exit_reason is not None or self.exit is not None or self.stop_triggered
        return not (
            leaves
            or self.is_stop_ending
            or self.trim_to_units is not None
            or self.trim is not None
            or self.reading_after is not None
        )


def symbol_of(held: ManagedPosition) -> str:
    """The symbol that a managed position holds."""
    return held.position.symbol


@attrs.define(kw_only=True)
class DepartedShares:
    """Shares that the account no longer shows, without an explanation: `fills` closed them in the books of `held`."""

    held: ManagedPosition
    fills: dict[str, Fill] = attrs.field(factory=dict)


@attrs.define(kw_only=True)
class SignalPlan:
    """How a signal is traded: its exit plan, and the row of the signal's symbol in the bars if any.

    `tickets` are those of its orders, `attempts` the number of its orders of each leg, of earlier sessions too.
    `closed`: its position was closed, so that none of its orders may fill any more.
    """

    plan: ExitPlan
    row: int | None
    closed: bool = False
    attempts: dict[Leg, int] = attrs.field(factory=dict)
    tickets: list[Ticket] = attrs.field(factory=list)

    def next_attempt(self, leg: Leg) -> int:
        """The number of the next order of a leg; client order ids are never reused."""
        self.attempts[leg] = self.attempts.get(leg, 0) + 1
        return self.attempts[leg]


@attrs.define
class StopLevel:
    """The level of a stop as the broker reported it, in `ticks`, and the replace requests since.

    `ticks` is None if unknown. `pending` are the unanswered requests, oldest first: the level, and the exit reason of
    a fill there. `requested_minute` is the minute of the latest.
    """

    ticks: int | None
    pending: list[tuple[int, ExitReason]] = attrs.field(factory=list)
    requested_minute: int | None = None

    @property
    def price(self) -> Decimal | None:
        """The level in dollars; None if unknown."""
        return None if self.ticks is None else price_of(self.ticks)

    def request(self, ticks: int, reason: ExitReason) -> None:
        """Record a replace request; the same one twice is one request."""
        if (ticks, reason) not in self.pending:
            self.pending.append((ticks, reason))


@attrs.define(kw_only=True, eq=False)
class Ticket:
    """All that is known of one order.

    Decided: `reason` of the exit that its fills are, and `reference`, the price in ticks at which a top-up was decided;
    an entry uses its plan's. `in_bracket`: it protects an entry that was sent together with it.

    Reported: `record`, with its order, state and fills. `open_units`: what may still fill. `stop_level`: that of a
    stop. `missing_units`: what of the ordered quantity the broker did not take. `stop_rejected`: the broker rejected
    the stop, or took it for another order. `filled_wrongly`: a fill had another symbol or side than ordered.
    `works_for_more`: as a restart finds it, it works with other terms, or for more than ordered. `reused_at`: when its
    executions came under an id that was used before.

    Sent: on record since `recorded_at`, sent at `sent_at`, by the journal's clock. `sent_second` counts on a steady
    clock, from the restart that found it. `left_queue`: it no longer waits for the rate limit.

    `outdated`: it does not fit its position any more, or another takes its place: it is to end.

    Requested: `cancel_minute`, the minute in which a cancel was last decided, -1 for one from before a restart.
    `requested` has the seconds of its unanswered cancel and replace, `unanswered` the latest one before a restart.
    `is_cancelling`: as a reader of the journal finds it, a cancel was requested and not refused. `cancels`: how often
    it was cancelled for its age or for a position that waits, `next_cancel_at` the earliest second of the next time.
    `cancel_withheld`: a cancel waits until the broker knows the order again; `unknown_to_broker`: it said that it does
    not.

    Unknown: `must_look_up`, an event left its state open; `lookup`, how it is being looked up; `was_queried`, it was
    looked up after its end for fills that no list has. `orphan`: what of it the broker works and the books do not, and
    `orphan_confirmed` by a second source. `is_lost`: given up, and not reported since. `works`: its end, or its loss,
    was not applied to its position yet.
    """

    record: OrderRecord
    reason: ExitReason | None
    open_units: int
    stop_level: StopLevel
    reference: int | None = None
    in_bracket: bool = False
    missing_units: int = 0
    stop_rejected: bool = False
    filled_wrongly: bool = False
    works_for_more: bool = False
    recorded_at: datetime | None = None
    sent_at: datetime | None = None
    sent_second: float | None = None
    left_queue: bool = False
    requested: dict[str, float] = attrs.field(factory=dict)
    outdated: bool = False
    cancel_minute: int | None = None
    unanswered: Literal["", "cancel", "replace"] = ""
    cancels: int = 0
    next_cancel_at: float | None = None
    is_cancelling: bool = False
    cancel_withheld: bool = False
    unknown_to_broker: bool = False
    must_look_up: bool = False
    lookup: OrderLookup | None = None
    was_queried: bool = False
    orphan: OrderStatusReport | None = None
    orphan_confirmed: bool = False
    reused_at: dict[Fill, float] = attrs.field(factory=dict)
    is_lost: bool = False
    works: bool = True

    @property
    def cancel_asked(self) -> bool:
        """Whether a cancel of it was decided."""
        return self.cancel_minute is not None

    @property
    def order(self) -> Order:
        """The order as it was decided."""
        return self.record.order

    @property
    def cid(self) -> str:
        """Its client order id."""
        return self.record.order.client_order_id

    @property
    def state(self) -> OrderState:
        """Its state."""
        return self.record.state

    @property
    def terminal(self) -> bool:
        """Whether it has ended; only a late fill can still arrive."""
        return self.record.terminal

    def signal_of(self, fill: Fill) -> SignalId | None:
        """The signal that a fill belongs to; None if it is not what was ordered."""
        return self.order.signal if self.order.is_for(fill.symbol, buy=fill.buy) else None

    @property
    def is_open(self) -> bool:
        """Whether it is on record and has not ended, or is open at the broker although the books call it ended."""
        return self.orphan is not None or not (self.record.terminal or self.recorded_at is None)

    @property
    def closing_units(self) -> int:
        """The units that a working stop or exit may still close: of what the broker has taken of it."""
        return max(units_of(self.record.open_quantity) - self.missing_units, 0)

    @property
    def is_found(self) -> bool:
        """Whether the broker knows it by now, and its cancel was withheld."""
        return self.cancel_withheld and not self.unknown_to_broker

    def age(self, now: float) -> float:
        """Seconds since it was sent, or since the restart that found it; 0 before, and while it waits for its turn."""
        waits = self.record.state is OrderState.SENDING and not self.left_queue
        return 0.0 if self.sent_second is None or waits else now - self.sent_second

    def on_answer(self, event: OrderEvent) -> None:
        """Apply what an event says of the requests for this order.

        A simulated venue needs no more: it reports each execution once, and knows every order.
        """
        level = self.stop_level
        if event is OrderEvent.REPLACE and level.pending:
            level.ticks, self.reason = level.pending.pop(0)
        elif event is OrderEvent.CANCEL_REFUSED:
            level.pending.clear()
            self.is_cancelling = False

    def on_report(self, *, is_known: bool) -> None:
        """Apply a report of the broker: it knows the order, or it does not."""
        self.unknown_to_broker = not is_known
        self.cancel_withheld |= not is_known and "cancel" in self.requested


@attrs.frozen
class OrderUpdate:
    """What an event changed of an order: what its reader must do, and the fill to book, None for none."""

    effect: TransitionEffect
    execution: ExecutionUpdate | None


@attrs.define(eq=False)
class AccountBook:
    """The orders, positions and cash of one account in one session.

    Events and fills change tickets and portfolio by its methods alone: live, after a restart, in a replay, and where a
    journal is only read. There no plans are known, and no positions are managed.

    `tickets` are in the order in which they were decided, `signals` have the plans of the signals that were entered.
    `held`: the managed positions, and `departed`: shares that the account no longer shows, both by their signals.
    """

    portfolio: Portfolio
    tickets: dict[str, Ticket] = attrs.field(factory=dict)
    signals: dict[SignalId, SignalPlan] = attrs.field(factory=dict)
    held: dict[SignalId, ManagedPosition] = attrs.field(factory=dict)
    departed: dict[SignalId, DepartedShares] = attrs.field(factory=dict)

    def add_ticket(self, order: Order) -> Ticket:
        """Add a decided order."""
        level = StopLevel(None if order.stop_price is None else ticks_of(float(order.stop_price)))
        ticket = Ticket(
            record=OrderRecord(order=order),
            reason=order.reason,
            open_units=units_of(order.quantity),
            stop_level=level,
        )
        self.tickets[order.client_order_id] = ticket
        if planned := self.signals.get(order.signal):
            planned.tickets.append(ticket)
        return ticket

    def apply(self, client_order_id: str, event: OrderEvent, fill: Fill | None = None) -> OrderUpdate:
        """Apply an event of an order to its ticket; a fill is booked by `book_fill` or `correct_fill`.

        A confirmed replace is that of the oldest request, since the broker does not say which.
        """
        ticket = self.tickets[client_order_id]
        before = ticket.record
        ticket.record, effect = advance(before, event, fill)
        ticket.must_look_up |= effect is TransitionEffect.QUERY
        ticket.on_answer(event)
        return OrderUpdate(effect, None if fill is None else execution_update(before, ticket.record, fill))

    def book_fill(self, ticket: Ticket, fill: Fill, words: str = "") -> Position | None:
        """Book a fill of an order in the portfolio; returns its position as of `Portfolio.apply`.

        `words`: those of the broker's event, which may say why it closed.
        """
        ticket.open_units -= units_of(fill.quantity)
        order = ticket.order
        reason = closing_reason(ticket.reason, words)
        return self.portfolio.apply(fill, ticket.signal_of(fill), order.leg, reason, ordered=order.instrument)

    def carry(self, fill: Fill, signal: SignalId, instrument: Instrument | None = None) -> None:
        """Book a position from an earlier session as an entry; `instrument`: None for the signal's own stock."""
        self.portfolio.apply(fill, signal, Leg.ENTRY, ordered=instrument)

    def held_in(self, symbol: str) -> list[ManagedPosition]:
        """The managed positions in a symbol, the earliest first: one, or the lots of a fund."""
        return [held for held in self.held.values() if held.position.symbol == symbol]

    def departed_from(self, symbol: str) -> list[DepartedShares]:
        """The shares of a symbol that have departed, by their positions."""
        return [departed for departed in self.departed.values() if departed.held.position.symbol == symbol]

    def close_outside(self, fill: Fill) -> Position:
        """Book shares that were closed outside of tbot, of the earliest position in their symbol; returns it."""
        position = self.portfolio.in_symbol(fill.symbol)[0]
        self.portfolio.apply(fill, position.signal, Leg.EXIT, ExitReason.OUTSIDE, ordered=position.instrument)
        return position

    def correct_fill(self, ticket: Ticket, fill: Fill) -> Fill | None:
        """Book a corrected execution, void if its quantity is 0; returns the old fill, None if it was never booked."""
        was = self.portfolio.correct_fill(fill, ticket.signal_of(fill))
        if was is not None and ticket.open_units > 0:
            ticket.open_units += units_of(was.quantity) - units_of(fill.quantity)
        return was

    def records(self) -> dict[str, OrderRecord]:
        """What the broker has reported of each order, by client order id."""
        return {cid: ticket.record for cid, ticket in self.tickets.items()}

    def parts(self, order: Order) -> Iterator[Ticket]:
        """The tickets of an order and of its protection."""
        for part in (order, *order.protection):
            yield self.tickets[part.client_order_id]
