"""The account book: all that is known of the orders and positions of one account in one session.

Everything known of an order is in its ticket, whoever learned it: what was decided, what the broker reported, what was
requested of it, and what is in doubt.
"""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import OrderStatusReport
from tbot_core.model.reasons import Reason
from tbot_core.model.types import (
    UNITS_PER_SHARE,
    ExitReason,
    Fill,
    Leg,
    Order,
    OrderState,
    SignalId,
    ticks_of,
    units_of,
)
from tbot_core.trading.commands import CancelOrder, ReplaceOrder
from tbot_core.trading.exit_plan import ExitPlan
from tbot_core.trading.order_lookup import OrderLookup
from tbot_core.trading.orders import OrderIdFactory, OrderRecord
from tbot_core.trading.portfolio import Portfolio, Position

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.model.bars import Bars


@attrs.define(kw_only=True)
class ManagedPosition:
    """A managed position: its plan, its row in the bars if any, and the ids of its resting orders by leg.

    `exit_reason`: why it is being closed. `exit_pending`: its exit is due and not placed. `exit_order_id`: its working
    exit, placed after `exit_placed_minute`. `manages_own_stop`: its stop is a separate order, not part of a bracket.
    `stop_being_replaced`: a stop of the wrong size or level is being cancelled. `stop_triggered`: its stop has
    triggered or begun to fill. `trim_to_units`: the units to keep, set until the trim is placed; `trim_order_id`: its
    working trim. `top_up_denial`: the reason of the last denied top-up. `rejected_stop_price`: the level of a stop that
    was rejected while the instrument's rules were unknown. `had_stop`: the broker has confirmed a stop of it.
    `taken_stops`: the number of its stops that somebody else cancelled. `reading_after`: nothing is sent or cancelled
    for it before a reading of the account is applied that was requested at this second of a steady clock or later; None
    if it need not wait. `unshown_units`: what others closed of it by events, less what readings have shown of that.
    """

    plan: ExitPlan
    row: int | None
    position: Position
    resting: dict[Leg, str]
    exit_reason: ExitReason | None = None
    exit_pending: bool = False
    exit_order_id: str | None = None
    exit_placed_minute: int | None = None
    manages_own_stop: bool = False
    refused_stops: int = 0
    stop_being_replaced: bool = False
    stop_triggered: bool = False
    trim_to_units: int | None = None
    trim_order_id: str | None = None
    top_up_denial: Reason | None = None
    rejected_stop_price: Decimal | None = None
    had_stop: bool = False
    taken_stops: int = 0
    reading_after: float | None = None
    unshown_units: int = 0

    def bar_value(self, bars: Bars, field: str, minute: int) -> float:
        """A field of the symbol's bar in a minute; NaN without a bar."""
        return math.nan if self.row is None else bars.field(field).item(minute, self.row)

    @property
    def is_settled(self) -> bool:
        """Whether it needs no order as long as nothing happens to it: it is protected and not being changed."""
        return (
            self.exit_reason is None
            and not self.manages_own_stop
            and not self.stop_being_replaced
            and not self.exit_pending
            and self.trim_to_units is None
            and self.reading_after is None
            and self.position.units >= UNITS_PER_SHARE
        )

    @property
    def is_steady(self) -> bool:
        """Whether nothing is in progress for the position: no exit, no trim, no change of its stop."""
        leaves = (
            self.exit_reason is not None or self.exit_pending or self.exit_order_id is not None or self.stop_triggered
        )
        return not (
            leaves
            or self.stop_being_replaced
            or self.trim_to_units is not None
            or self.trim_order_id is not None
            or self.reading_after is not None
        )


def symbol_of(held: ManagedPosition) -> str:
    """The symbol of a managed position."""
    return held.position.signal.symbol


@attrs.define(kw_only=True)
class DepartedShares:
    """Shares that the account no longer shows, without an explanation: `fills` closed them in the books of `held`."""

    held: ManagedPosition
    fills: dict[str, Fill] = attrs.field(factory=dict)


@attrs.define
class StopLevel:
    """The level of a stop as the broker reported it, in `ticks`, and the replace requests since.

    `ticks` is None if unknown. `pending` are the levels of the unanswered requests, oldest first; `requested_minute` is
    the minute of the latest.
    """

    ticks: int | None
    pending: list[int] = attrs.field(factory=list)
    requested_minute: int | None = None

    def request(self, ticks: int) -> None:
        """Record a replace request; the same level twice is one request."""
        if ticks not in self.pending:
            self.pending.append(ticks)

    def on_moved(self) -> None:
        """Apply a confirmed replace: the level is the oldest requested one."""
        if self.pending:
            self.ticks = self.pending.pop(0)

    def on_refused(self) -> None:
        """Apply a rejected request: the level stays, and the replace is requested again with the next minute."""
        self.pending.clear()


@attrs.define(kw_only=True, eq=False)
class Ticket:
    """All that is known of one order.

    Decided: `plan`, `row` of its symbol in the bars, `reason` of the exit that its fills are, and `reference`, the
    price in ticks at which a top-up was decided; an entry uses its plan's.

    Reported: `record`, with its order, state and fills. `open_units`: what may still fill. `stop_level`: that of a
    stop. `missing_units`: what of the ordered quantity the broker did not take. `stop_rejected`: the broker rejected
    the stop, or took it for another order. `filled_wrongly`: a fill had another symbol or side than ordered.
    `works_for_more`: as a restart finds it, it works with other terms, or for more than ordered. `reused_at`: when its
    executions came under an id that was used before.

    Sent: recorded at `recorded_at` and sent at `sent_at`, by the journal's clock. `sent_second` counts on a steady
    clock, from the restart that found it. `has_left`: it no longer waits for its turn.

    Requested: `requested` has the seconds of its unanswered cancel and replace, `unanswered` the latest one before a
    restart. `cancel_withheld`: a cancel waits until the broker knows the order again; `unknown_to_broker`: it said that
    it does not.

    In doubt: `must_look_up`, an event left its state open; `lookup`, how it is being looked up; `was_queried`, it was
    looked up after its end for fills that no list has. `orphan`: what of it the broker works and the books do not, and
    `orphan_confirmed` by a second source. `is_lost`: given up, and not reported since. `ended_early`: it ended before
    its position was opened. `may_return`: it is lost, and if it appears it may still protect its entry.
    """

    record: OrderRecord
    plan: ExitPlan
    row: int | None
    reason: ExitReason | None
    open_units: int
    stop_level: StopLevel
    reference: int | None = None
    missing_units: int = 0
    stop_rejected: bool = False
    filled_wrongly: bool = False
    works_for_more: bool = False
    recorded_at: datetime | None = None
    sent_at: datetime | None = None
    sent_second: float | None = None
    has_left: bool = False
    requested: dict[str, float] = attrs.field(factory=dict)
    unanswered: CancelOrder | ReplaceOrder | None = None
    cancel_withheld: bool = False
    unknown_to_broker: bool = False
    must_look_up: bool = False
    lookup: OrderLookup | None = None
    was_queried: bool = False
    orphan: OrderStatusReport | None = None
    orphan_confirmed: bool = False
    reused_at: dict[Fill, float] = attrs.field(factory=dict)
    is_lost: bool = False
    ended_early: bool = False
    may_return: bool = False

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

    @property
    def is_open(self) -> bool:
        """Whether it has not ended by the books, or is open at the broker although they call it ended."""
        return self.orphan is not None or not self.record.terminal

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
        waits = self.record.state is OrderState.SENDING and not self.has_left
        return 0.0 if self.sent_second is None or waits else now - self.sent_second

    def on_answer(self, *, knows: bool) -> None:
        """Apply that the broker reported something about the order: it knows it, or it does not."""
        self.unknown_to_broker = not knows
        self.cancel_withheld |= not knows and "cancel" in self.requested

    def doubt(self, now: float) -> OrderLookup:
        """Its lookup; one begins now if there is none."""
        if self.lookup is None:
            self.lookup = OrderLookup(next_lookup_at=now, since=now)
        return self.lookup


@attrs.define(eq=False)
class AccountBook:
    """The orders, positions and cash of one account in one session.

    `tickets` are in the order in which they were decided. `held`: the managed positions by symbol. `departed`: shares
    that the account no longer shows, by symbol. `attempts`: the number of orders of each leg of a signal.
    `name` creates client order ids.
    """

    portfolio: Portfolio
    name: OrderIdFactory
    tickets: dict[str, Ticket] = attrs.field(factory=dict)
    held: dict[str, ManagedPosition] = attrs.field(factory=dict)
    departed: dict[str, DepartedShares] = attrs.field(factory=dict)
    attempts: Counter[tuple[SignalId, Leg]] = attrs.field(factory=Counter)

    def add_ticket(self, order: Order, plan: ExitPlan, row: int | None) -> Ticket:
        """Add a decided order."""
        level = StopLevel(None if order.stop_price is None else ticks_of(float(order.stop_price)))
        ticket = Ticket(
            record=OrderRecord(order=order),
            plan=plan,
            row=row,
            reason=order.reason,
            open_units=units_of(order.quantity),
            stop_level=level,
        )
        self.tickets[order.client_order_id] = ticket
        return ticket

    def records(self) -> dict[str, OrderRecord]:
        """What the broker has reported of each order, by client order id."""
        return {cid: ticket.record for cid, ticket in self.tickets.items()}

    def parts(self, order: Order) -> Iterator[Ticket]:
        """The tickets of an order and of its protection."""
        for part in (order, *order.protection):
            yield self.tickets[part.client_order_id]

    def latest_ticket(self, signal: SignalId) -> Ticket | None:
        """The latest order of a signal; None if there is none."""
        return next((ticket for ticket in reversed(self.tickets.values()) if ticket.order.signal == signal), None)

    def next_attempt(self, held: ManagedPosition, leg: Leg) -> int:
        """The number of the next order of a signal's leg; client order ids are never reused."""
        self.attempts[held.position.signal, leg] += 1
        return self.attempts[held.position.signal, leg]

    def oversized_exits(self, held: ManagedPosition, units: int) -> list[str]:
        """The exit and trim orders of a position for more units than are left."""
        return [cid for cid in (held.exit_order_id, held.trim_order_id) if cid and self.tickets[cid].open_units > units]

    def units_in_trim(self, held: ManagedPosition) -> int:
        """The units that a working trim may still close."""
        return 0 if held.trim_order_id is None else self.tickets[held.trim_order_id].open_units
