"""The paper broker's order status reports, updated from its events."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import OrderStatusReport

if TYPE_CHECKING:
    from datetime import datetime

    from tbot_core.contracts import BrokerEvent
    from tbot_core.model.types import Order

_ENDINGS: Final = frozenset({"rejected", "cancelled", "expired"})


class Reports:
    """The session's orders by client order id."""

    def __init__(self) -> None:
        self._reports: dict[str, OrderStatusReport] = {}

    def __contains__(self, client_order_id: str) -> bool:
        """Whether the order was submitted."""
        return client_order_id in self._reports

    def accept(self, order: Order, now: datetime) -> None:
        """Add a submitted order and its protection."""
        for part in (order, *order.protection):
            self._reports[part.client_order_id] = OrderStatusReport(
                client_order_id=part.client_order_id,
                broker_order_id=part.client_order_id,
                kind="acknowledged",
                symbol=part.symbol,
                buy=part.buy,
                quantity=part.quantity,
                time=now,
            )

    def apply(self, event: BrokerEvent, now: datetime) -> None:
        """Apply an event of an order."""
        report = self._reports.get(event.client_order_id)
        if report is None:
            return
        if event.fill is None:
            kind = event.kind if event.kind in _ENDINGS else report.kind
            changed = attrs.evolve(report, kind=kind, words=event.words, time=now)
        else:
            fills = (*report.fills, event.fill)
            filled = sum((fill.quantity for fill in fills), Decimal(0))
            paid = sum((fill.quantity * fill.price for fill in fills), Decimal(0))
            kind = "fill" if filled >= report.quantity else report.kind
            changed = attrs.evolve(report, fills=fills, filled=filled, average_price=paid / filled, kind=kind, time=now)
        self._reports[event.client_order_id] = changed

    def all(self) -> tuple[OrderStatusReport, ...]:
        """Every order of the session, in the order of submission."""
        return tuple(self._reports.values())
