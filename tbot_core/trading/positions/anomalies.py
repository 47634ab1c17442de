"""Anomalies of a position's orders, and their correction; pure.

Overfills are reversed once a reading confirms them. Orders that are lost, that the broker took for something else, or
that were never sent, are replaced or dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts import BrokerEventKind
from tbot_core.model.types import ExitReason, Leg, Order, quantity_of, units_of
from tbot_core.trading.account_book import Unsent
from tbot_core.trading.commands import SubmitOrder, TradingCommand
from tbot_core.trading.positions import order_factory

if TYPE_CHECKING:
    from decimal import Decimal

    from tbot_core.model.types import Order
    from tbot_core.trading.account_book import AccountBook, ManagedPosition, Ticket
    from tbot_core.trading.orders import OrderIdFactory
    from tbot_core.trading.risk.exposure import ExposureBook


class OverfillCorrector:
    """Reverses overfills of one session; `confirmed` are the symbols whose overfill a reading has confirmed."""

    def __init__(self, book: AccountBook, exposure: ExposureBook, name: OrderIdFactory) -> None:
        self.confirmed: frozenset[str] = frozenset()
        self._book = book
        self._portfolio = book.portfolio
        self._name = name
        self._exposure = exposure

    @staticmethod
    def is_excess_exit(order: Order) -> bool:
        """Whether an order reverses an overfill."""
        return order.reason is ExitReason.EXCESS

    def unassigned_units(self, symbol: str) -> int:
        """The surplus of a symbol in signed units."""
        return self._portfolio.unassigned_units.get(symbol, 0)

    def report_excess(self, order: Order, since: int) -> None:
        """Report the surplus of an order's fill; `since` is the number of surplus entries before it."""
        for one in self._portfolio.surplus[since:]:
            # A reversal reduces the surplus; only its part beyond zero is a new surplus.
            if not self.is_excess_exit(order) or self.unassigned_units(one.symbol) * one.units > 0:
                self._exposure.record_surplus(one.symbol, quantity_of(abs(one.units)))

    def close_excess(self, symbol: str) -> list[TradingCommand]:
        """An order that reverses a symbol's whole overfill, unless one is working."""
        units, ticket = self._portfolio.holdings.get(symbol, 0), self._latest(symbol)
        if not units or ticket is None or self._is_closing(symbol) or self._portfolio.in_symbol(symbol):
            return []
        attempt = self._book.signals[ticket.order.signal].next_attempt(Leg.EXIT)
        order = order_factory.overfill_order(self._name, ticket.order, units, attempt)
        self._book.add_ticket(order)
        self.confirmed -= {symbol}  # the next overfill needs its own confirmation
        return [SubmitOrder(order=order)]

    def _is_closing(self, symbol: str) -> bool:
        orders = ((one.order, one.works) for one in self._book.tickets.values())
        return any(works and order.symbol == symbol and self.is_excess_exit(order) for order, works in orders)

    def _latest(self, symbol: str) -> Ticket | None:
        return next((one for one in reversed(self._book.tickets.values()) if one.order.symbol == symbol), None)


ENDINGS = frozenset({BrokerEventKind.EXPIRED, BrokerEventKind.CANCELLED, BrokerEventKind.REJECTED})
"""The kinds of broker events that end an order."""


class MismatchedOrders:
    """Replaces the protection of orders that the broker works or fills with other terms than the books have."""

    def __init__(self, book: AccountBook) -> None:
        self._book = book

    def on_orphan_cancel(self, client_order_id: str) -> None:
        """Apply that an orphan order is being cancelled: the broker works it for more than the books have.

        Its position gets a separate stop when it has ended. A stop that had ended in the books counts as resting until
        then, also while its position is being closed, so that no exit is sent beside it. A second mismatched stop of a
        position is not replaced: the stop is emulated. May be called repeatedly.
        """
        ticket = self._book.tickets[client_order_id]
        order, held = ticket.order, self._book.held.get(ticket.order.signal)
        if held is None:
            ticket.stop_rejected |= order.leg is Leg.STOP
        elif ticket in held.protection:
            self._replace(held, ticket)
        elif order.leg is Leg.STOP and held.stop is None:
            ticket.works = True
            held.plan.on_close = not held.plan.stop_rests
            self._replace(held, ticket)

    def on_taken(self, client_order_id: str, missing: Decimal) -> None:
        """Apply for how much the broker works an order; `missing` is the quantity that it did not take.

        A stop or exit of less than ordered is sent again, for all that is held. May be called repeatedly.
        """
        ticket = self._book.tickets[client_order_id]
        ticket.missing_units = units_of(missing)
        held = self._book.held.get(ticket.order.signal)
        if held is None or not missing:
            return
        if held.stop is ticket and not held.is_bracketed and not ticket.stop_rejected:
            self._replace(held, ticket)
        ticket.outdated |= held.exit is ticket

    def on_wrong_fill(self, ticket: Ticket) -> None:
        """Cancel an order that was filled with another symbol or side, and its protection.

        Its position, if still held, gets a separate stop.
        """
        order, held = ticket.order, self._book.held.get(ticket.order.signal)
        ticket.filled_wrongly = True
        for part in self._book.parts(order):
            part.outdated = True
        if held is None:
            return
        if ticket in held.protection:
            self._replace(held, ticket)
        held.own_stop |= bool(order.protection)

    def on_orphan_ended(self, client_order_id: str) -> None:
        """Apply that an orphan order no longer works, without a broker event of it."""
        ticket = self._book.tickets[client_order_id]
        held = self._book.held.get(ticket.order.signal)
        if held is not None and held.stop is ticket:
            ticket.works = False

    def _replace(self, held: ManagedPosition, ticket: Ticket) -> None:
        # A mismatched stop counts as a rejected one. The position is not closed at once, since the exit could be
        # mismatched as well: it is closed when the stop's level is reached.
        held.own_stop = ticket.outdated = True
        if ticket.order.leg is Leg.STOP and not ticket.stop_rejected:
            ticket.stop_rejected = True
            held.refused_stops += 1
        held.plan.on_close |= held.refused_stops > 1


class UnsentOrders:
    """The positions of a session whose exit or stop was not sent, and must be sent again once they are released.

    After a connection fault they may be released at once, otherwise with the next minute.
    """

    def __init__(self, book: AccountBook) -> None:
        self._book = book

    @property
    def has_waiting(self) -> bool:
        """Whether a position waits only for the connection."""
        return any(held.unsent is Unsent.CONNECTION for held in self._book.held.values())

    def on_dropped(self, ticket: Ticket, *, barred: bool) -> None:
        """Record an order that was never sent; if `barred`, an exit is decided again with the next minute."""
        held = self._book.held.get(ticket.order.signal)
        if held is None:
            return
        if held.stop is ticket:
            ticket.outdated = True
            held.unsent = Unsent.BARRED if barred else Unsent.CONNECTION
        elif held.exit is ticket:
            held.unsent = Unsent.BARRED_EXIT if barred else Unsent.CONNECTION

    def await_reading(self, after: float) -> None:
        """Let what waits for the connection wait for a reading `after` this second of a steady clock."""
        for held in self._book.held.values():
            if held.unsent is Unsent.CONNECTION:
                held.reading_after = after

    def release(self, *, barred: bool) -> None:
        """Release what waits for the connection; with `barred` all others too."""
        for held in self._book.held.values():
            if barred or held.unsent is Unsent.CONNECTION:
                held.unsent = None
