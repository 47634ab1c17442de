"""The output of a decision engine: decisions, and commands to submit, cancel or replace orders."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeAlias

import attrs

from tbot_core.model.reasons import Reason
from tbot_core.model.types import ExitReason, Order
from tbot_core.trading.proposals import Proposal
from tbot_core.trading.risk.figures import LimitFigures, SizingFigures


@attrs.frozen(kw_only=True)
class Decision:
    """The result for a proposal: an order, or the reason for the denial with the compared value and limit.

    `broker` is the broker of the entry if that is not the primary. `sizing` and `limits` are the figures of an entry
    that was sized, or compared with limits, for its reader.
    """

    proposal: Proposal
    reason: Reason
    order: Order | None = None
    value: object = None
    limit: object = None
    detail: str = ""
    broker: str = ""
    sizing: SizingFigures | None = None
    limits: tuple[LimitFigures, ...] = ()


@attrs.frozen(kw_only=True)
class SubmitOrder:
    """Send an order of a position."""

    order: Order


@attrs.frozen(kw_only=True)
class CancelOrder:
    """Cancel an order; `exit_symbol` is the symbol of the position whose exit waits for it."""

    client_order_id: str
    exit_symbol: str = attrs.field(default="", eq=False)


@attrs.frozen(kw_only=True)
class ReplaceOrder:
    """Move a resting stop; `reason` is the exit reason of its fills after the move."""

    client_order_id: str
    stop_price: Decimal
    reason: ExitReason


TradingCommand: TypeAlias = SubmitOrder | CancelOrder | ReplaceOrder
