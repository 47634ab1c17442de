"""Entries and exits in one line, as on screens and in alerts: [OPEN] BUY 12 AAPL @ 173.85 stop 170.37."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.journal import records
from tbot_core.journal.events.orders import SignalDecided
from tbot_core.model.formatting import format_money, format_price, format_quantity
from tbot_core.model.types import TICKS_PER_DOLLAR, Leg, Side, price_of
from tbot_core.trading.price_grid import round_to_grid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.model.types import Order, SignalId, Trade
    from tbot_core.trading.orders import OrderRecord


class PlannedStops:
    """The stop levels that the session's decisions planned, as their orders will be rounded."""

    def __init__(self) -> None:
        self._planned: dict[SignalId, Decimal] = {}

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        if event.kind == records.SESSION_OPENED:
            self._planned.clear()
        if event.kind == records.DECISION:
            decided = event.facts(SignalDecided)
            if decided.stop is not None:
                # Towards the price, as its order is rounded.
                stop = round_to_grid(decided.stop * TICKS_PER_DOLLAR, up=decided.side == Side.LONG.word)
                self._planned[decided.signal] = price_of(stop)

    def of(self, entry: Order, orders: Iterable[OrderRecord]) -> Decimal | None:
        """The level of an entry's stop: of its order among `orders`, else as planned; None if neither is known."""
        mine = (record.order for record in orders if record.order.signal == entry.signal)
        return next((order.stop_price for order in mine if order.leg is Leg.STOP), self._planned.get(entry.signal))


def entry_text(order: Order, quantity: Decimal, price: Decimal | None, stop: Decimal | None) -> str:
    """What an entry bought or sold short; a price or level that is not known is left out."""
    action = f"{'TOP-UP ' if order.tops_up else ''}{'BUY' if order.buy else 'SELL SHORT'}"
    level = "" if stop is None else f" stop {format_price(stop)}"
    at = "" if price is None else f" @ {format_price(price)}"
    return f"[{order.signal.strategy.upper()}] {action} {format_quantity(quantity)} {order.symbol}{at}{level}"


def exit_text(trade: Trade) -> str:
    """How a trade ended."""
    how_much = f"{format_quantity(trade.quantity)} @ {format_price(trade.exit_price)}"
    what = f"[{trade.strategy.upper()}] EXIT {trade.symbol} {trade.exit_reason.word}"
    return f"{what} {format_money(trade.pnl, signed=True)} ({how_much})"


def unprotected_text(seconds: Mapping[str, float]) -> str:
    """The seconds without an order at the broker that closes a position, as the end of a sentence; "" under one."""
    bare, emulated = seconds.get("bare", 0.0), seconds.get("emulated", 0.0)
    if bare + emulated < 1:
        return ""
    return f", {bare + emulated:.0f} s without a stop at the broker, {emulated:.0f} s of them emulated"
