"""Acme's documents as values of tbot, and back: pure functions, so that each saved reply of the vendor is a test."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tbot_core.contracts import (
    BrokerEvent,
    BrokerEventKind,
    HttpResponse,
    OrderStatus,
    OrderStatusReport,
    PositionReport,
)
from tbot_core.errors import BrokerError, OutcomeUnknown, Rejected
from tbot_core.model.types import Account, Fill, Order

if TYPE_CHECKING:
    from collections.abc import Mapping

_STATUS: Final = {
    "open": OrderStatus.WORKING,
    "done": OrderStatus.FILLED,
    "cancelled": OrderStatus.CANCELLED,
    "expired": OrderStatus.EXPIRED,
    "rejected": OrderStatus.REJECTED,
}
_EVENTS: Final = {
    "accepted": BrokerEventKind.ACKNOWLEDGED,
    "trade": BrokerEventKind.FILL,
    "cancelled": BrokerEventKind.CANCELLED,
    "expired": BrokerEventKind.EXPIRED,
    "rejected": BrokerEventKind.REJECTED,
    "changed": BrokerEventKind.REPLACED,
}


def account(document: Mapping[str, Any]) -> Account:
    """The account."""
    return Account(
        account_id=document["id"],
        cash=Decimal(document["cash"]),
        equity=Decimal(document["equity"]),
        buying_power=Decimal(document["buying_power"]),
        margin=document["type"] == "margin",
        restricted=document.get("block") or "",
    )


def position(document: Mapping[str, Any]) -> PositionReport:
    """A position; Acme reports shares sold short as negative quantities."""
    return PositionReport(
        symbol=document["symbol"],
        quantity=Decimal(document["quantity"]),
        average_price=Decimal(document["average_price"]),
        price=Decimal(document["price"]),
    )


def order(document: Mapping[str, Any]) -> OrderStatusReport:
    """An order and its executions; an unknown status raises KeyError, which the core takes as no reading."""
    return OrderStatusReport(
        client_order_id=document["client_id"],
        broker_order_id=document["id"],
        kind=_STATUS[document["status"]],
        symbol=document["symbol"],
        buy=document["side"] == "buy",
        quantity=Decimal(document["quantity"]),
        filled=Decimal(document["filled"]),
        average_price=Decimal(document["average_price"]) if document["average_price"] else None,
        fills=tuple(fill(one, document) for one in document["trades"]),
        time=_time(document["changed_at"]),
    )


def fill(document: Mapping[str, Any], of: Mapping[str, Any]) -> Fill:
    """An execution of the order `of`."""
    return Fill(
        execution_id=document["id"],
        client_order_id=of["client_id"],
        symbol=of["symbol"],
        buy=of["side"] == "buy",
        quantity=Decimal(document["quantity"]),
        price=Decimal(document["price"]),
        fees=Decimal(document["fee"]),
        time=_time(document["at"]),
    )


def event(document: Mapping[str, Any]) -> BrokerEvent:
    """An event; a kind that is not known keeps Acme's own word, and the core looks the order up."""
    trade = document.get("trade")
    return BrokerEvent(
        kind=_EVENTS.get(document["kind"], document["kind"]),
        event_id=str(document["sequence"]),
        client_order_id=document["order"]["client_id"],
        fill=fill(trade, document["order"]) if trade else None,
        words=document.get("reason") or "",
    )


def request(order: Order) -> dict[str, object]:
    """The document that places or changes an order; prices and quantities are text, so no digit is lost."""
    prices = {"limit": order.limit_price, "stop": order.stop_price}
    return {
        "client_id": order.client_order_id,
        "symbol": order.symbol,
        "side": "buy" if order.buy else "sell",
        "type": order.type.value,
        "quantity": str(order.quantity),
        **{name: str(price) for name, price in prices.items() if price is not None},
    }


def rejection(response: HttpResponse) -> BrokerError:
    """What a 4xx means. A client id that was used before says that the order is there: it is looked up."""
    document = response.json()
    words = str(document.get("message", response.text))
    return OutcomeUnknown(words) if document.get("code") == "DUPLICATE_ID" else Rejected(words)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
