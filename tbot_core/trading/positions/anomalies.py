"""What goes wrong with orders of positions, and the answer to it; pure.

Overfills are bought back or sold once a reading proves them. Orders that are missing when they are due, that the broker
takes for something else, or that were written down and never left, are replaced or given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts import BrokerEventKind
from tbot_core.model.types import ExitReason, Leg, Order, quantity_of
from tbot_core.trading.commands import SubmitOrder, TradingCommand
from tbot_core.trading.positions import order_factory

if TYPE_CHECKING:
    from tbot_core.contracts import BrokerEvent
    from tbot_core.model.types import Order
    from tbot_core.trading.portfolio import Portfolio
    from tbot_core.trading.positions.cancel_queue import CancelQueue
    from tbot_core.trading.positions.state import ManagedPosition, ManagedState, OrderTicket
    from tbot_core.trading.positions.stops import ProtectiveStops
    from tbot_core.trading.risk.exposure import ExposureBook


class OverfillCorrector:
    """Reverses the overfills of one session's orders; `proven` are the symbols that a reading has confirmed."""

    def __init__(self, files: ManagedState, portfolio: Portfolio, standing: ExposureBook) -> None:
        self.confirmed: frozenset[str] = frozenset()
        self._files = files
        self._portfolio = portfolio
        self._standing = standing
        self._closing: dict[str, str] = {}

    @staticmethod
    def is_excess_exit(order: Order) -> bool:
        """Whether an order is such a reversal."""
        return order.reason is ExitReason.EXCESS

    def unassigned_units(self, symbol: str) -> int:
        """The quantity that no position accounts for, in signed units."""
        return self._portfolio.unassigned_units.get(symbol, 0)

    def report_excess(self, order: Order, since: int) -> None:
        """Report the overfill of an order's fill; `since`: the previous surplus."""
        for one in self._portfolio.surplus[since:]:
            # What takes back too much leaves less of it, or nothing; what goes beyond that is too much itself.
            if not self.is_excess_exit(order) or self.unassigned_units(one.symbol) * one.units > 0:
                self._standing.record_surplus(one.symbol, quantity_of(abs(one.units)))

    def close_excess(self, symbol: str) -> list[TradingCommand]:
        """One order for the whole overfill of a symbol, unless one is working already."""
        units, known = self._portfolio.holdings.get(symbol, 0), self._latest(symbol)
        if not units or known is None or symbol in self._closing or symbol in self._portfolio.positions:
            return []
        signal, leg = known.order.signal, Leg.EXIT
        self._files.attempts[signal, leg] += 1
        order = order_factory.overfill_order(self._files.name, signal, units, self._files.attempts[signal, leg])
        self._files.add_ticket(order, known.plan, known.row)
        self.restore_exit(order)
        self.confirmed -= {symbol}  # another one needs another proof
        return [SubmitOrder(order=order)]

    def restore_exit(self, order: Order) -> None:
        """Such an order is working."""
        self._closing[order.symbol] = order.client_order_id

    def on_exit_ended(self, order: Order) -> None:
        """Such an order has ended."""
        if self._closing.get(order.symbol) == order.client_order_id:
            del self._closing[order.symbol]

    def _latest(self, symbol: str) -> OrderTicket | None:
        return next((one for one in reversed(self._files.tickets.values()) if one.order.symbol == symbol), None)


ENDINGS = frozenset({BrokerEventKind.EXPIRED, BrokerEventKind.CANCELLED, BrokerEventKind.REJECTED})
"""The kinds of a broker's reports after which an order has ended."""


_WORKS = frozenset({BrokerEventKind.ACKNOWLEDGED, BrokerEventKind.REPLACED})


class MissingOrders:
    """The orders of a session that are lost, or that ended before what they protect was held."""

    def __init__(self, files: ManagedState, standing: ExposureBook, unwanted: CancelQueue) -> None:
        self._files = files
        self._standing = standing
        self._unwanted = unwanted
        self._early: set[str] = set()
        self._lost: set[str] = set()
        self._spared: dict[str, Order] = {}

    def __contains__(self, client_order_id: str) -> bool:
        """Whether an order is lost, without a report since."""
        return client_order_id in self._lost

    def mark_ended_early(self, client_order_id: str) -> None:
        """An order has ended before its position was opened."""
        self._early.add(client_order_id)

    def has_ended_early(self, client_order_id: str) -> bool:
        """Whether an order has ended before its position was opened."""
        return client_order_id in self._early

    def mark_lost(self, order: Order) -> None:
        """An order is lost; if it appears later, it is cancelled, except an entry and its protection."""
        self._lost.add(order.client_order_id)
        if self._may_protect(order):
            self._spared[order.client_order_id] = order
        elif order.leg is not Leg.ENTRY:
            self._unwanted.cancel_next_minute([order.client_order_id])

    def on_position_closing(self, held: ManagedPosition) -> None:
        """A position is being closed, or has its own stop: lost orders of its bracket are cancelled if they appear."""
        if held.exit_reason is not None or (held.manages_own_stop and Leg.STOP in held.resting):
            parted = [cid for cid, one in self._spared.items() if one.signal == held.position.signal]
            for cid in parted:
                del self._spared[cid]
            self._unwanted.cancel_now(parted)

    def on_event(self, event: BrokerEvent, order: Order) -> None:
        """Apply a broker's report of an order: a lost one is working after all, or has ended."""
        cid, works = order.client_order_id, event.fill is not None or event.kind in _WORKS
        if cid in self._lost and (works or event.kind in ENDINGS):
            self._lost.discard(cid)
            self._spared.pop(cid, None)
            if works and order.leg in order_factory.REASONS:
                self._turned_up(order)

    def _turned_up(self, order: Order) -> None:
        # A bracket is there as a whole: what protects its entry goes on doing so, where nothing else was placed.
        cid, leg, held = order.client_order_id, order.leg, self._files.held.get(order.symbol)
        if held is None or held.position.signal != order.signal:
            if not self._may_protect(order):
                self._unwanted.cancel_now([cid])
            self._early.discard(cid)
        elif held.exit_order_id is not None or leg in held.resting or (held.manages_own_stop and leg is Leg.TARGET):
            self._unwanted.cancel_now([cid])
        elif held.exit_reason is not None:  # an exit that has not left waits until it has ended
            held.resting[leg] = cid
            self._unwanted.cancel_now([cid])
        else:
            held.resting[leg] = cid
            self._unwanted.on_ended(cid)
            if leg is Leg.STOP:
                held.plan.on_close = not held.plan.stop_rests

    def _may_protect(self, order: Order) -> bool:
        # Whether it was gone before the entry that it protects was filled, and that may still be.
        entering = any(one.signal == order.signal for one in self._standing.working.values())
        return entering and order.client_order_id in self._early


class MismatchedOrders:
    """Renews the protection that such orders of a session were to give."""

    def __init__(self, files: ManagedState, protection: ProtectiveStops, unwanted: CancelQueue) -> None:
        self._files = files
        self._protection = protection
        self._unwanted = unwanted

    def on_orphan_cancel(self, client_order_id: str) -> None:
        """A broker works an order for more than the books know of it, and it is taken back.

        What it covers gets a stop of its own as soon as it has ended; a stop that was told to be over covers as well,
        where no other rests, also while its position is being closed: nothing is to leave beside it. A second stop of
        a position is followed by none: it acts on closes. To be called as often as its end is asked for.
        """
        known = self._files.tickets[client_order_id]
        order, held = known.order, self._files.held.get(known.order.symbol)
        if held is None:
            known.stop_rejected |= order.leg is Leg.STOP
        elif client_order_id in held.resting.values():
            self._replace(held, known)
        elif order.leg is Leg.STOP and order.signal == held.position.signal and Leg.STOP not in held.resting:
            held.resting[Leg.STOP] = client_order_id
            held.plan.on_close = not held.plan.stop_rests
            self._replace(held, known)

    def on_wrong_fill(self, known: OrderTicket) -> None:
        """An order was filled with other terms than ordered: its rest is cancelled, with its protection.

        What it was to protect and is still held gets a stop of its own.
        """
        order, held = known.order, self._files.held.get(known.order.symbol)
        known.filled_wrongly = True
        self._unwanted.cancel_now([order.client_order_id, *(one.client_order_id for one in order.protection)])
        if held is None or held.position.signal != order.signal:
            return
        if order.client_order_id in held.resting.values():
            self._replace(held, known)
            self._protection.cancel_all(held)
        elif order.protection:
            held.manages_own_stop = True
            self._protection.cancel_all(held)

    def on_orphan_ended(self, client_order_id: str) -> None:
        """The cancelled part of an order that had ended in the books is no longer working, without an order report."""
        held = self._files.held.get(self._files.tickets[client_order_id].order.symbol)
        self._unwanted.on_ended(client_order_id)
        if held is not None and held.resting.get(Leg.STOP) == client_order_id:
            del held.resting[Leg.STOP]
            held.stop_being_replaced = False

    def _replace(self, held: ManagedPosition, known: OrderTicket) -> None:
        # A broker that does not take stops for what they are counts like one that refuses them.
        #
        # An exit at once could be mistaken as well: the position is not sold before its level is reached.
        self._protection.replace_bracket(held)
        if known.order.leg is Leg.STOP and not known.stop_rejected:
            known.stop_rejected = True
            held.refused_stops += 1
        held.plan.on_close |= held.refused_stops > 1


class UnsentOrders:
    """The symbols of a session whose exit or stop must be sent again; nothing is sent until they are freed.

    One that only the connection kept back may be sent as soon as it is freed, any other with the next minute.
    """

    def __init__(self, files: ManagedState) -> None:
        self._files = files
        self._barred: dict[str, bool] = {}

    def __contains__(self, symbol: str) -> bool:
        """Whether the symbol waits for its next order."""
        return symbol in self._barred

    @property
    def has_waiting(self) -> bool:
        """Whether something is sent as soon as the connection works."""
        return not all(self._barred.values())

    def on_dropped(self, order: Order, *, barred: bool) -> None:
        """An order was never sent; if it was `barred`, an exit is decided again with the next minute."""
        held = self._files.held.get(order.symbol)
        if held is None:
            return
        if held.resting.get(Leg.STOP) == order.client_order_id:
            held.stop_being_replaced = True
        elif held.exit_order_id == order.client_order_id and not barred:
            held.exit_pending = True
        else:
            return
        self._barred[order.symbol] = barred

    def release(self, *, barred: bool) -> None:
        """Release what waits; `barred`: also what was not kept back by the connection only."""
        kept = [] if barred else [symbol for symbol, forbidden in self._barred.items() if forbidden]
        self._barred = dict.fromkeys(kept, True)
