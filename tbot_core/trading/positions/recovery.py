"""Recovery of the position manager after a restart, and of positions carried from an earlier session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.types import ExitReason, Leg, Order, ticks_of
from tbot_core.trading import exit_plan
from tbot_core.trading.account_book import ManagedPosition, SignalPlan

if TYPE_CHECKING:
    from tbot_core.model.types import SignalId
    from tbot_core.trading.account_book import AccountBook
    from tbot_core.trading.commands import ReplaceOrder
    from tbot_core.trading.portfolio import CarriedPosition
    from tbot_core.trading.positions.anomalies import OverfillCorrector


class PositionRecovery:
    """Restores recorded positions, orders and requests; it issues no commands."""

    def __init__(self, book: AccountBook, overfills: OverfillCorrector) -> None:
        self._book = book
        self._portfolio = book.portfolio
        self._overfills = overfills

    def restore_position(self, carried: CarriedPosition, row: int | None) -> None:
        """Restore a position carried from an earlier session; it is closed at the next market open."""
        fill = carried.fill
        self._book.carry(fill, carried.signal, carried.instrument)
        position = self._portfolio.positions[carried.signal]
        plan = exit_plan.immediate_exit_plan(position.side, position.mark)
        planned = SignalPlan(plan=plan, row=row, attempts=dict(carried.attempts))
        held = ManagedPosition(
            plan=plan,
            row=row,
            position=position,
            tickets=planned.tickets,
            exit_reason=ExitReason.SESSION_END,
        )
        self._book.signals[carried.signal], self._book.held[carried.signal] = planned, held

    def attempts_by_leg(self, signal: SignalId) -> dict[Leg, int]:
        """The number of orders of each leg of a signal."""
        planned = self._book.signals.get(signal)
        return {} if planned is None else dict(planned.attempts)

    def restore_order(self, order: Order) -> None:
        """Restore an order of a position, recorded before a restart."""
        if self._overfills.is_excess_exit(order):
            self._book.signals[order.signal].next_attempt(order.leg)
            self._book.add_ticket(order)
            return
        held = self._book.held[order.signal]
        held.reading_after = None  # it was applied before this order was recorded
        if order.closes:
            held.exit_reason = order.reason
        elif not order.trims:
            # The exit that was pending when this stop was placed had been cancelled.
            held.exit_reason, held.plan.on_close = None, False
            held.stop_triggered, held.own_stop = False, True
        self._book.signals[order.signal].next_attempt(order.leg)
        self._book.add_ticket(order)
        if not held.plan.is_apart:  # a trailing stop continues from its latest stop order
            held.plan.stop = self._book.tickets[order.client_order_id].stop_level.ticks or held.plan.stop

    def restore_request(self, client_order_id: str, replace: ReplaceOrder | None = None) -> None:
        """Restore a request from before a restart: a replace, or a cancel."""
        ticket = self._book.tickets[client_order_id]
        held = self._book.held.get(ticket.order.signal)
        if replace is not None:
            plan = self._book.signals[ticket.order.signal].plan
            plan.stop = ticks_of(float(replace.stop_price))
            ticket.stop_level.request(plan.stop, replace.reason)
            return
        if not ticket.outdated:  # else it is asked again at once
            ticket.cancel_minute = -1
        if held is not None and held.exit_reason is None and held.stop is ticket:
            held.own_stop = True
