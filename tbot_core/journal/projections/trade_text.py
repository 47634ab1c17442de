"""Entries and exits in one line, as on screens and in alerts: [OPEN] BUY 12 AAPL @ 173.85 stop 170.37."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from tbot_core.journal import records
from tbot_core.model.formatting import format_money, format_price, format_quantity
from tbot_core.model.types import Leg

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.model.types import Order, SignalId, Trade
    from tbot_core.trading.orders import OrderRecord


class PlannedStops:
    """The stop levels that the session's decisions planned, in cents."""

    def __init__(self) -> None:
        self._planned: dict[SignalId, Decimal] = {}

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        if event.kind == records.SESSION_OPENED:
            self._planned.clear()
        if event.kind == records.DECISION and event.payload.get("stop") is not None:
            level = Decimal(f"{event.payload['stop']:.2f}")
            self._planned[records.signal_of(event.payload["signal"])] = level

    def of(self, entry: Order, orders: Iterable[OrderRecord]) -> Decimal | None:
        """The level of an entry's stop: of its order among `orders`, else as planned; None if neither is known."""
        mine = (record.order for record in orders if record.order.signal == entry.signal)
        return next((one.stop_price for one in mine if one.leg is Leg.STOP), self._planned.get(entry.signal))


def entry_text(order: Order, quantity: Decimal, price: Decimal | None, stop: Decimal | None) -> str:
    """What an entry bought or sold short; a price or level that is not known is left out."""
    action = f"{'TOP-UP ' if order.tops_up else ''}{'BUY' if order.buy else 'SELL SHORT'}"
    level = "" if stop is None else f" stop {format_price(stop)}"
    at = "" if price is None else f" @ {format_price(price)}"
    return f"[{order.signal.strategy.upper()}] {action} {format_quantity(quantity)} {order.symbol}{at}{level}"


def exit_text(trade: Trade) -> str:
    """How a trade ended."""
    why = trade.exit_reason.value.lower().replace("_", " ")
    what = f"[{trade.strategy.upper()}] EXIT {trade.symbol} {why} {format_money(trade.pnl, signed=True)}"
    return f"{what} ({format_quantity(trade.quantity)} @ {format_price(trade.exit_price)})"
