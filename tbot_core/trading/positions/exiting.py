"""The exits of positions: created for the open quantity, and resent if they still work shortly before the close.

It performs no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.types import Leg
from tbot_core.trading.commands import CancelOrder, SubmitOrder, TradingCommand
from tbot_core.trading.positions import order_factory
from tbot_core.trading.risk.exposure import lot_of

if TYPE_CHECKING:
    from tbot_core.contracts import BrokerCapabilities
    from tbot_core.model.calendar import Session
    from tbot_core.trading.positions.state import ManagedPosition, ManagedState
    from tbot_core.trading.risk.exposure import ExposureBook

SENT_AGAIN = 3
"""Minutes before the close from which a working exit is resent, in each minute."""


class ExitSubmitter:
    """Creates the exits of one session's positions at a broker account."""

    def __init__(
        self, files: ManagedState, venue: BrokerCapabilities, standing: ExposureBook, session: Session
    ) -> None:
        self._files = files
        self._venue = venue
        self._standing = standing
        self._session = session

    def place(self, held: ManagedPosition, minute: int) -> SubmitOrder:
        """Close the rest of a position at the market, after a minute."""
        lot = lot_of(self._standing, held.position.signal.symbol)
        units = held.position.units // lot * lot or held.position.units
        attempt = self._files.attempt(held, Leg.EXIT)
        order = order_factory.exit_order(self._files.name, held.position, units, held.leaving, attempt)
        held.due, held.exit, held.since = False, order.client_order_id, minute
        self._files.know(order, held.plan, held.row)
        return SubmitOrder(order=order)

    def send_again(self, held: ManagedPosition, minute: int) -> list[TradingCommand]:
        """Cancel an exit that still works shortly before the close; it is resent once that is proven.

        A venue that is simulated here cannot have lost it.
        """
        early = held.since == minute or minute + 1 < self._session.minutes - SENT_AGAIN
        if held.exit is None or self._venue.simulated or early:
            return []
        held.due = True
        return [CancelOrder(client_order_id=held.exit, leaves=held.position.signal.symbol)]
