"""What a desk asks for: decisions with the orders they allow, and what is to be done with orders that stand."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeAlias

import attrs

from tbot_core.model.reasons import Reason
from tbot_core.model.types import ExitReason, Order
from tbot_core.trading.proposals import Proposal


@attrs.frozen(kw_only=True)
class Decision:
    """A proposal's end: an order written down, or the reason against it with what was compared.

    `broker`: who was to enter it, where that is not the primary.
    """

    proposal: Proposal
    reason: Reason
    order: Order | None = None
    value: object = None
    limit: object = None
    detail: str = ""
    broker: str = ""


@attrs.frozen(kw_only=True)
class SubmitOrder:
    """Send an order that closes a position."""

    order: Order


@attrs.frozen(kw_only=True)
class CancelOrder:
    """Ask for a cancel of an order; `leaves` is the symbol of the position whose exit waits for it."""

    client_order_id: str
    exit_symbol: str = attrs.field(default="", eq=False)


@attrs.frozen(kw_only=True)
class ReplaceOrder:
    """Move a resting stop; `reason` is what its fill closes the position for once it has moved."""

    client_order_id: str
    stop_price: Decimal
    reason: ExitReason


TradingCommand: TypeAlias = SubmitOrder | CancelOrder | ReplaceOrder
