"""Send permits: each allows one order to be sent once, and is checked just before the first byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from tbot_core.errors import Withdrawn
from tbot_core.system import forks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.model.types import Order

SendRefusal: TypeAlias = "Callable[[Order], str]"
"""Returns why an order must not be sent now; "" if it may."""


class SendPermit:
    """A `contracts.Permit` for one order; `refusal` is checked when it is redeemed, then `on_sent` is called."""

    def __init__(self, order: Order, refusal: SendRefusal, on_sent: Callable[[Order], None] | None = None) -> None:
        self._order = order
        self._refusal = refusal
        self._on_sent = on_sent
        self.redeemed = False

    def redeem(self) -> None:
        """Use the permit; raises Withdrawn if it was used before, or if the order must not be sent any more."""
        forks.end_if_forked()
        name = f"The order {self._order.client_order_id} ({self._order.symbol})"
        if self.redeemed:
            raise Withdrawn(f"{name} was sent already: a permit is valid for one order.")
        if words := self._refusal(self._order):
            raise Withdrawn(f"{name} was not sent: {words}.")
        self.redeemed = True
        if self._on_sent is not None:
            self._on_sent(self._order)


def never_refuse(order: Order) -> str:  # noqa: ARG001  the signature of SendRefusal
    """A `SendRefusal` that allows every order."""
    return ""
