"""Order status reports of the paper broker, kept from its events."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import BrokerEventKind, OrderStatus, OrderStatusReport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from tbot_core.contracts import BrokerEvent
    from tbot_core.model.types import Order

_ENDINGS: Final[Mapping[str, OrderStatus]] = {
    BrokerEventKind.REJECTED: OrderStatus.REJECTED,
    BrokerEventKind.CANCELLED: OrderStatus.CANCELLED,
    BrokerEventKind.EXPIRED: OrderStatus.EXPIRED,
}


class Reports:
    """The session's orders by client order id."""

    def __init__(self) -> None:
        self._reports: dict[str, OrderStatusReport] = {}

    def __contains__(self, client_order_id: str) -> bool:
        """Whether the order was ever submitted."""
        return client_order_id in self._reports

    @property
    def ids(self) -> frozenset[str]:
        """The client order ids of the orders, and of their protective orders."""
        return frozenset(self._reports)

    def accept(self, order: Order, now: datetime) -> None:
        """Record a submitted order and its protective orders."""
        for part in (order, *order.protection):
            self._reports[part.client_order_id] = OrderStatusReport(
                client_order_id=part.client_order_id,
                broker_order_id=part.client_order_id,
                kind=OrderStatus.WORKING,
                symbol=part.symbol,
                buy=part.buy,
                quantity=part.quantity,
                time=now,
            )

    def apply(self, event: BrokerEvent, now: datetime) -> None:
        """Update the report of an event's order."""
        report = self._reports.get(event.client_order_id)
        if report is None:
            return
        if event.fill is None:
            kind = _ENDINGS.get(event.kind, report.kind)
            changed = attrs.evolve(report, kind=kind, words=event.words, time=now)
        else:
            fills = (*report.fills, event.fill)
            filled = sum((fill.quantity for fill in fills), Decimal(0))
            paid = sum((fill.quantity * fill.price for fill in fills), Decimal(0))
            kind = OrderStatus.FILLED if filled >= report.quantity else report.kind
            changed = attrs.evolve(report, fills=fills, filled=filled, average_price=paid / filled, kind=kind, time=now)
        self._reports[event.client_order_id] = changed

    def all(self) -> tuple[OrderStatusReport, ...]:
        """Every order of the session, in order of submission."""
        return tuple(self._reports.values())
