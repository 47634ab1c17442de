"""Recovery of the position manager: from the session before a restart, and from an earlier session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.types import ExitReason, Leg, Order, ticks_of
from tbot_core.trading import exit_plan
from tbot_core.trading.positions.state import ManagedPosition

if TYPE_CHECKING:
    from decimal import Decimal

    from tbot_core.model.types import SignalId
    from tbot_core.trading.portfolio import Portfolio
    from tbot_core.trading.positions.anomalies import OverfillCorrector
    from tbot_core.trading.positions.state import CarriedPosition, ManagedState


class PositionRecovery:
    """Applies recorded positions, orders and requests; it requests nothing."""

    def __init__(self, files: ManagedState, portfolio: Portfolio, excess: OverfillCorrector) -> None:
        self._files = files
        self._portfolio = portfolio
        self._excess = excess

    def restore_position(self, carried: CarriedPosition, row: int | None) -> None:
        """A position that an earlier session could not close: it is held, and closed as soon as `reopened`."""
        fill = carried.fill
        self._files.attempts.update({(carried.signal, leg): count for leg, count in carried.attempts.items()})
        self._portfolio.apply(fill, carried.signal, Leg.ENTRY)
        position = self._portfolio.positions[fill.symbol]
        plan = exit_plan.immediate_exit_plan(position.side, position.mark)
        held = ManagedPosition(
            plan=plan, row=row, position=position, resting={}, exit_reason=ExitReason.SESSION_END, manages_own_stop=True
        )
        self._files.held[fill.symbol] = held

    def attempts_by_leg(self, signal: SignalId) -> dict[Leg, int]:
        """The number of orders of each leg of a signal: names are never reused."""
        return {leg: count for (one, leg), count in self._files.attempts.items() if one == signal}

    def restore_order(self, order: Order) -> None:
        """Apply a further order of a position, recorded before a restart."""
        if self._excess.is_excess_exit(order):
            known = next(one for one in reversed(self._files.tickets.values()) if one.order.signal == order.signal)
            self._files.attempts[order.signal, order.leg] += 1
            self._files.add_ticket(order, known.plan, known.row)
            self._excess.restore_exit(order)
            return
        held = self._files.held[order.symbol]
        if order.trims:
            held.manages_own_stop, held.trim_order_id = True, order.client_order_id
        elif order.leg is Leg.EXIT:
            held.exit_reason, held.exit_pending, held.exit_order_id = order.reason, False, order.client_order_id
        else:
            held.manages_own_stop = True
            # An exit that had been decided before its stop was placed again was given up.
            held.exit_reason, held.exit_pending, held.plan.on_close = None, False, False
            held.resting[order.leg] = order.client_order_id
        self._files.attempts[order.signal, order.leg] += 1
        self._files.add_ticket(order, held.plan, held.row)
        # A trail goes on from where its latest stop was placed.
        held.plan.stop = self._files.tickets[order.client_order_id].move.level or held.plan.stop

    def restore_request(self, client_order_id: str, stop_price: Decimal | None = None) -> None:
        """Apply a request for an order from before a restart: a replace, or without a price a cancel."""
        known = self._files.tickets[client_order_id]
        held = self._files.held.get(known.order.symbol)
        if stop_price is not None:
            known.plan.stop = ticks_of(float(stop_price))
            known.move.request(known.plan.stop)
        elif held is not None and held.exit_reason is None and held.resting.get(Leg.STOP) == client_order_id:
            held.manages_own_stop = held.stop_being_replaced = True
