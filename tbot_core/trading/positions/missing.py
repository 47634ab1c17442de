"""Missing orders: lost ones, and legs of a bracket that ended before its entry had filled.

It performs no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.types import Leg
from tbot_core.trading.positions import order_factory

if TYPE_CHECKING:
    from tbot_core.contracts import BrokerEvent
    from tbot_core.model.types import Order
    from tbot_core.trading.positions.cancel_queue import CancelQueue
    from tbot_core.trading.positions.state import ManagedPosition, ManagedState
    from tbot_core.trading.risk.exposure import ExposureBook

ENDINGS = frozenset({"expired", "cancelled", "rejected"})
"""The kinds of a broker's reports after which an order has ended."""

_WORKS = frozenset({"acknowledged", "replaced"})


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

    def end_early(self, client_order_id: str) -> None:
        """An order has ended before its position was opened."""
        self._early.add(client_order_id)

    def ended_early(self, client_order_id: str) -> bool:
        """Whether an order has ended before its position was opened."""
        return client_order_id in self._early

    def give_up(self, order: Order) -> None:
        """An order is lost; if it appears later, it is cancelled, except an entry and its protection."""
        self._lost.add(order.client_order_id)
        if self._may_protect(order):
            self._spared[order.client_order_id] = order
        elif order.leg is not Leg.ENTRY:
            self._unwanted.add([order.client_order_id])

    def part(self, held: ManagedPosition) -> None:
        """A position is being closed, or has its own stop: lost orders of its bracket are cancelled if they appear."""
        if held.leaving is not None or (held.own and Leg.STOP in held.resting):
            parted = [cid for cid, one in self._spared.items() if one.signal == held.position.signal]
            for cid in parted:
                del self._spared[cid]
            self._unwanted.press(parted)

    def hear(self, event: BrokerEvent, order: Order) -> None:
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
                self._unwanted.press([cid])
            self._early.discard(cid)
        elif held.exit is not None or leg in held.resting or (held.own and leg is Leg.TARGET):
            self._unwanted.press([cid])
        elif held.leaving is not None:  # an exit that has not left waits until it has ended
            held.resting[leg] = cid
            self._unwanted.press([cid])
        else:
            held.resting[leg] = cid
            self._unwanted.ended(cid)
            if leg is Leg.STOP:
                held.plan.on_close = not held.plan.rests

    def _may_protect(self, order: Order) -> bool:
        # Whether it was gone before the entry that it protects was filled, and that may still be.
        entering = any(one.signal == order.signal for one in self._standing.working.values())
        return entering and order.client_order_id in self._early
