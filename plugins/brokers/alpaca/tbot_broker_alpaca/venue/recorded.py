"""The venue in a recorded session: it is given the past and the quotes, and told what fills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_broker_alpaca.venue.orders import MATCHED, VenueOrder
from tbot_core.testing.venue import WorkingOrder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from tbot_broker_alpaca.venue.server import AlpacaServer
    from tbot_core.contracts import Bar


class VenueRecording:
    """What a rehearsal moves in place of the venue's own matching: see `tbot_core.testing.venue.Recording`."""

    def __init__(self, server: AlpacaServer) -> None:
        self._server, self._market, self._account = server, server.market, server.account

    def add_past(self, bars: Sequence[Bar]) -> None:
        """Have these minutes of past sessions in the history, in place of any others of their symbols."""
        self._market.record(bars)

    def quote(self, symbol: str, price: Decimal, half_spread: Decimal) -> None:
        """Let the last price be this one, with this half spread, without a fill."""
        self._market.half_spread = half_spread
        self._market.listings[symbol].price = price
        self._server.publish_trade(symbol)

    def working(self) -> list[WorkingOrder]:
        """The orders that can fill."""
        self._account.settle()
        found = [(self._first(order), order) for order in self._account.orders if order.status in MATCHED]
        return [
            WorkingOrder(client_order_id=first.client_order_id, remaining=one.remaining, stop_price=one.stop)
            for first, one in found
        ]

    def fill(self, client_order_id: str, price: Decimal, quantity: Decimal) -> None:
        """Fill so much of an order that works."""
        self._account.fill(self._working(client_order_id), price, quantity)

    def expire(self, client_order_id: str) -> None:
        """End an order that works."""
        self._account.end(self._working(client_order_id), "expired")

    def _working(self, client_order_id: str) -> VenueOrder:
        orders = (order for order in self._account.orders if order.status in MATCHED)
        return next(order for order in orders if self._first(order).client_order_id == client_order_id)

    def _first(self, order: VenueOrder) -> VenueOrder:
        # The first order of the chain of replacements that an order is part of.
        return order if order.replaces is None else self._first(self._account.find(order.replaces))
