"""What should work at the broker for a position, and whether an order belongs to that; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.model.types import ExitReason, Leg

if TYPE_CHECKING:
    from tbot_core.trading.account_book import ManagedPosition, Ticket


@attrs.frozen(kw_only=True)
class Desired:
    """What should work for a position.

    `bracket`: the stop and target that were sent with its entry. `stop`: the units of a stop of its own, 0 for none;
    None: one that rests stays as it is. `entries`: its entries may still fill. `trim`: a trim may. An exit may, as long
    as it closes no more than is left.
    """

    bracket: bool = False
    stop: int | None = 0
    entries: bool = True
    trim: bool = True

    def includes(self, ticket: Ticket, held: ManagedPosition) -> bool:
        """Whether a working or lost order of the position belongs to it; else it is to end."""
        order = ticket.order
        if ticket.outdated:
            return False
        if order.leg is Leg.ENTRY:
            return self.entries or ticket.is_lost
        if order.leg is Leg.EXIT:
            fits = ticket.open_units <= held.position.units and (self.trim or not order.trims)
            return fits or order.reason is ExitReason.EXCESS
        if ticket.works and held.working(order.leg) is not ticket:
            return False  # another has taken its place
        if ticket.in_bracket:
            return self.bracket
        return self.stop in {None, ticket.open_units}


CLOSING = Desired(entries=False, trim=False)
"""An exit waits until nothing else works for its position."""
