"""Exits and stops that were recorded but never sent: each is replaced, but not at once.

It performs no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.types import Leg

if TYPE_CHECKING:
    from tbot_core.model.types import Order
    from tbot_core.trading.positions.state import ManagedState


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
    def waits(self) -> bool:
        """Whether something is sent as soon as the connection works."""
        return not all(self._barred.values())

    def drop(self, order: Order, *, barred: bool) -> None:
        """An order was never sent; if it was `barred`, an exit is decided again with the next minute."""
        held = self._files.held.get(order.symbol)
        if held is None:
            return
        if held.resting.get(Leg.STOP) == order.client_order_id:
            held.renewing = True
        elif held.exit == order.client_order_id and not barred:
            held.due = True
        else:
            return
        self._barred[order.symbol] = barred

    def free(self, *, barred: bool) -> None:
        """Release what waits; `barred`: also what was not kept back by the connection only."""
        kept = [] if barred else [symbol for symbol, forbidden in self._barred.items() if forbidden]
        self._barred = dict.fromkeys(kept, True)
