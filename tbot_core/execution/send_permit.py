"""The right to send an order: issued with the second barrier, used once before the first byte, taken back by a kill."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from tbot_core.errors import Withdrawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.model.types import Order

SendRefusal: TypeAlias = "Callable[[Order], str]"
"""Says at the last moment why an order may not leave; "" while it may."""


class SendPermit:
    """A `contracts.Permit` for one order; `refusal` says at the last moment why it may not leave, "" while it may."""

    def __init__(self, order: Order, refusal: SendRefusal) -> None:
        self._order = order
        self._refusal = refusal
        self.redeemed = False

    def redeem(self) -> None:
        """Use the permit; raises Withdrawn when it was used before, or when the order may not be sent any more."""
        name = f"The order {self._order.client_order_id} ({self._order.symbol})"
        if self.redeemed:
            raise Withdrawn(f"{name} was sent already: a permit is valid for one order.")
        if words := self._refusal(self._order):
            raise Withdrawn(f"{name} was not sent: {words}.")
        self.redeemed = True


def never_refuse(order: Order) -> str:  # noqa: ARG001  a refusal looks at the order, this one never refuses
    """The refusal of somebody who lets everything pass."""
    return ""
