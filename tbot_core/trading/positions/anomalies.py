"""Overfills: quantities beyond the position, as when both legs of a bracket fill; bought back or sold.

A reading must have proven that the account holds them, and that they were not reversed externally.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.types import ExitReason, Leg, Order, quantity_of
from tbot_core.trading.commands import SubmitOrder, TradingCommand
from tbot_core.trading.positions import order_factory

if TYPE_CHECKING:
    from tbot_core.trading.portfolio import Portfolio
    from tbot_core.trading.positions.state import ManagedState, OrderTicket
    from tbot_core.trading.risk.exposure import ExposureBook


class OverfillCorrector:
    """Reverses the overfills of one session's orders; `proven` are the symbols that a reading has confirmed."""

    def __init__(self, files: ManagedState, portfolio: Portfolio, standing: ExposureBook) -> None:
        self.proven: frozenset[str] = frozenset()
        self._files = files
        self._portfolio = portfolio
        self._standing = standing
        self._closing: dict[str, str] = {}

    @staticmethod
    def takes_back(order: Order) -> bool:
        """Whether an order is such a reversal."""
        return order.reason is ExitReason.EXCESS

    def beyond(self, symbol: str) -> int:
        """The quantity that no position accounts for, in signed units."""
        return self._portfolio.beyond.get(symbol, 0)

    def tell(self, order: Order, since: int) -> None:
        """Report the overfill of an order's fill; `since`: the previous surplus."""
        for one in self._portfolio.surplus[since:]:
            # What takes back too much leaves less of it, or nothing; what goes beyond that is too much itself.
            if not self.takes_back(order) or self.beyond(one.symbol) * one.units > 0:
                self._standing.find_surplus(one.symbol, quantity_of(abs(one.units)))

    def close(self, symbol: str) -> list[TradingCommand]:
        """One order for the whole overfill of a symbol, unless one is working already."""
        units, known = self._portfolio.holdings.get(symbol, 0), self._latest(symbol)
        if not units or known is None or symbol in self._closing or symbol in self._portfolio.positions:
            return []
        signal, leg = known.order.signal, Leg.EXIT
        self._files.attempts[signal, leg] += 1
        order = order_factory.overfill_order(self._files.name, signal, units, self._files.attempts[signal, leg])
        self._files.know(order, known.plan, known.row)
        self.recall(order)
        self.proven -= {symbol}  # another one needs another proof
        return [SubmitOrder(order=order)]

    def recall(self, order: Order) -> None:
        """Such an order is working."""
        self._closing[order.symbol] = order.client_order_id

    def ended(self, order: Order) -> None:
        """Such an order has ended."""
        if self._closing.get(order.symbol) == order.client_order_id:
            del self._closing[order.symbol]

    def _latest(self, symbol: str) -> OrderTicket | None:
        return next((one for one in reversed(self._files.known.values()) if one.order.symbol == symbol), None)
