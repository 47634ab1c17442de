"""Orders that a broker accepted with other terms, or works for a larger quantity, and what they were to protect.

It performs no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.types import Leg

if TYPE_CHECKING:
    from tbot_core.trading.positions.cancel_queue import CancelQueue
    from tbot_core.trading.positions.state import ManagedPosition, ManagedState, OrderTicket
    from tbot_core.trading.positions.stops import ProtectiveStops


class MismatchedOrders:
    """Renews the protection that such orders of a session were to give."""

    def __init__(self, files: ManagedState, protection: ProtectiveStops, unwanted: CancelQueue) -> None:
        self._files = files
        self._protection = protection
        self._unwanted = unwanted

    def take_back(self, client_order_id: str) -> None:
        """A broker works an order for more than the books know of it, and it is taken back.

        What it covers gets a stop of its own as soon as it has ended; a stop that was told to be over covers as well,
        where no other rests, also while its position is being closed: nothing is to leave beside it. A second stop of
        a position is followed by none: it acts on closes. To be called as often as its end is asked for.
        """
        known = self._files.known[client_order_id]
        order, held = known.order, self._files.held.get(known.order.symbol)
        if held is None:
            known.refused |= order.leg is Leg.STOP
        elif client_order_id in held.resting.values():
            self._replace(held, known)
        elif order.leg is Leg.STOP and order.signal == held.position.signal and Leg.STOP not in held.resting:
            held.resting[Leg.STOP] = client_order_id
            held.plan.on_close = not held.plan.rests
            self._replace(held, known)

    def amiss(self, known: OrderTicket) -> None:
        """An order was filled with other terms than ordered: its rest is cancelled, with its protection.

        What it was to protect and is still held gets a stop of its own.
        """
        order, held = known.order, self._files.held.get(known.order.symbol)
        known.amiss = True
        self._unwanted.press([order.client_order_id, *(one.client_order_id for one in order.protection)])
        if held is None or held.position.signal != order.signal:
            return
        if order.client_order_id in held.resting.values():
            self._replace(held, known)
            self._protection.clear(held)
        elif order.protection:
            held.own = True
            self._protection.clear(held)

    def gone(self, client_order_id: str) -> None:
        """The cancelled part of an order that had ended in the books is no longer working, without an order report."""
        held = self._files.held.get(self._files.known[client_order_id].order.symbol)
        self._unwanted.ended(client_order_id)
        if held is not None and held.resting.get(Leg.STOP) == client_order_id:
            del held.resting[Leg.STOP]
            held.renewing = False

    def _replace(self, held: ManagedPosition, known: OrderTicket) -> None:
        # A broker that does not take stops for what they are counts like one that refuses them.
        #
        # An exit at once could be mistaken as well: the position is not sold before its level is reached.
        self._protection.take_over(held)
        if known.order.leg is Leg.STOP and not known.refused:
            known.refused = True
            held.refused_stops += 1
        held.plan.on_close |= held.refused_stops > 1
