"""Exits and stops that were written down and never left: another takes the place of each, but not at once.

It waits for nothing and sends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.types import Leg

if TYPE_CHECKING:
    from tbot_core.model.types import Order
    from tbot_core.trading.positions.state import ManagedState


class UnsentOrders:
    """The symbols of a session for which an exit or a stop is to be sent once more; nothing goes until they are freed.

    One that only the way to the broker kept back may go as soon as somebody frees it, any other with the next minute.
    """

    def __init__(self, files: ManagedState) -> None:
        self._files = files
        self._barred: dict[str, bool] = {}

    def __contains__(self, symbol: str) -> bool:
        """Whether the next order for it waits."""
        return symbol in self._barred

    @property
    def waits(self) -> bool:
        """Whether something is to be sent as soon as the way to the broker is open."""
        return not all(self._barred.values())

    def drop(self, order: Order, *, barred: bool) -> None:
        """An order never left; where it was `barred`, an exit is decided anew with the next minute."""
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
        """Let what waits go; `barred`: that too which was not kept back by the way alone."""
        kept = [] if barred else [symbol for symbol, forbidden in self._barred.items() if forbidden]
        self._barred = dict.fromkeys(kept, True)
