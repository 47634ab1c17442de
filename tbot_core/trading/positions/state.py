"""The state of the managed positions and orders of a session."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from tbot_core.model.reasons import Reason
from tbot_core.model.types import UNITS_PER_SHARE, ExitReason, Fill, Leg, Order, SignalId, ticks_of, units_of
from tbot_core.trading.exit_plan import ExitPlan
from tbot_core.trading.portfolio import Position
from tbot_core.trading.positions.order_factory import OrderIdFactory

if TYPE_CHECKING:
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
class PendingReplace:
    """The level of a stop as the broker reported it, in ticks, and the replace requests since.

    `level` is None if unknown. `pending_levels` are the unanswered requests, oldest first; `requested_minute` is the
    minute of the latest.
    """

    level: int | None
    pending_levels: list[int] = attrs.field(factory=list)
    requested_minute: int | None = None

    def request(self, level: int) -> None:
        """Record a replace request; the same level twice is one request."""
        if level not in self.pending_levels:
            self.pending_levels.append(level)

    def on_moved(self) -> None:
        """Apply a confirmed replace: the level is the oldest requested one."""
        if self.pending_levels:
            self.level = self.pending_levels.pop(0)

    def on_refused(self) -> None:
        """Apply a rejected request: the level stays, and the replace is requested again with the next minute."""
        self.pending_levels.clear()


@attrs.define(kw_only=True)
class OrderTicket:
    """An order of the session with its exit plan.

    `reason` is the exit reason of its fills, `open_units` what may still fill, `missing_units` what of the ordered
    quantity the broker did not take. `reference`: the price in ticks at which a top-up was decided; an entry uses its
    plan's. `move`: the level of a stop. `stop_rejected`: the broker rejected the stop, or took it for another order.
    `filled_wrongly`: a fill had another symbol or side than ordered.
    """

    order: Order
    plan: ExitPlan
    row: int | None
    reason: ExitReason | None
    open_units: int
    move: PendingReplace
    missing_units: int = 0
    reference: int | None = None
    stop_rejected: bool = False
    filled_wrongly: bool = False


@attrs.define
class ManagedState:
    """All positions and orders of a session, shared in the position manager. `name` creates client order ids."""

    name: OrderIdFactory
    held: dict[str, ManagedPosition] = attrs.field(factory=dict)
    departed: dict[str, DepartedShares] = attrs.field(factory=dict)
    tickets: dict[str, OrderTicket] = attrs.field(factory=dict)
    attempts: Counter[tuple[SignalId, Leg]] = attrs.field(factory=Counter)

    def add_ticket(self, order: Order, plan: ExitPlan, row: int | None) -> None:
        """Add an order of the session."""
        units = units_of(order.quantity)
        move = PendingReplace(None if order.stop_price is None else ticks_of(float(order.stop_price)))
        known = OrderTicket(order=order, plan=plan, row=row, reason=order.reason, open_units=units, move=move)
        self.tickets[order.client_order_id] = known

    def latest_ticket(self, signal: SignalId) -> OrderTicket | None:
        """The latest order of a signal; None if there is none."""
        return next((one for one in reversed(self.tickets.values()) if one.order.signal == signal), None)

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
