"""Orders that nobody found in all their time, and protection that ended before its entry was known to have filled.

It waits for nothing and sends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.custody import drafts
from tbot_core.model import Leg

if TYPE_CHECKING:
    from tbot_core.contracts import BrokerEvent
    from tbot_core.custody.held import Files
    from tbot_core.custody.unwanted import Unwanted
    from tbot_core.model import Order
    from tbot_core.standing import Standing

ENDINGS = frozenset({"expired", "cancelled", "rejected"})
"""The kinds of a broker's words after which an order is over."""

_WORKS = frozenset({"acknowledged", "replaced"})


class Missing:
    """The orders of a session that were given up as lost, by their ids; `early` are those that ended too early."""

    def __init__(self, files: Files, standing: Standing, unwanted: Unwanted) -> None:
        self.early: set[str] = set()
        self._files = files
        self._standing = standing
        self._unwanted = unwanted
        self._lost: set[str] = set()

    def __contains__(self, client_order_id: str) -> bool:
        """Whether an order was given up as lost, and nobody has heard of it since."""
        return client_order_id in self._lost

    def give_up(self, order: Order) -> None:
        """An order is lost; should it turn up after all, it is one too many, but for an entry and what protects one."""
        self._lost.add(order.client_order_id)
        if order.leg is not Leg.ENTRY and not self._may_protect(order):
            self._unwanted.add([order.client_order_id])

    def hear(self, event: BrokerEvent, order: Order) -> None:
        """Take in what a broker said of an order: one that was lost works after all, or has ended."""
        if order.client_order_id not in self._lost:
            return
        if event.kind in ENDINGS:
            self._lost.discard(order.client_order_id)
        elif event.fill is not None or event.kind in _WORKS:
            self._lost.discard(order.client_order_id)
            if order.leg in drafts.REASONS:
                self._turned_up(order)

    def _turned_up(self, order: Order) -> None:
        # A bracket is there as a whole: what protects its entry goes on doing so, where nothing else was placed.
        cid, leg, held = order.client_order_id, order.leg, self._files.held.get(order.symbol)
        if held is None or held.position.signal != order.signal:
            if not self._may_protect(order):
                self._unwanted.press([cid])
            self.early.discard(cid)
        elif not (held.own or held.leaving is not None or leg in held.resting):
            held.resting[leg] = cid
            self._unwanted.ended(cid)
            if leg is Leg.STOP:
                held.plan.on_close = not held.plan.rests

    def _may_protect(self, order: Order) -> bool:
        # Whether it was gone before the entry that it protects was filled, and that may still be.
        entering = any(one.signal == order.signal for one in self._standing.working.values())
        return entering and order.client_order_id in self.early
