"""Acme Securities as a server: an account, orders and a market that trades at one price at a time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs

from tbot_core.testing.scripted_server import ServerReply, ServerRequest

AT = "2026-01-05T15:00:00+00:00"
PAGE = 2


@attrs.define
class AcmeVenue:
    """What the server knows: a document for each order, the events, the shares held and the cash."""

    price: Decimal = Decimal(20)
    cash: Decimal = Decimal(10_000)
    held: dict[str, Decimal] = attrs.field(factory=dict)
    orders: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    events: list[dict[str, Any]] = attrs.field(factory=list)
    key: str = "acme-key"

    def answer(self, request: ServerRequest) -> ServerReply:
        """The answer to a request."""
        if request.headers.get("x-acme-key") != self.key:
            return ServerReply(status=401, document={"message": "unknown key"})
        found = getattr(self, f"_{request.method.lower()}_{request.path.split('/')[1]}")(request)
        return found if isinstance(found, ServerReply) else ServerReply(document=found)

    def trade_at(self, price: Decimal) -> None:
        """Let the symbol trade at this price only."""
        self.price = price
        for order in self.orders.values():
            if order["status"] == "open" and self._matches(order):
                self._fill(order)

    def _matches(self, order: dict[str, Any]) -> bool:
        buy = order["side"] == "buy"
        if order.get("limit"):
            return self.price <= Decimal(order["limit"]) if buy else self.price >= Decimal(order["limit"])
        if order.get("stop"):
            return self.price >= Decimal(order["stop"]) if buy else self.price <= Decimal(order["stop"])
        return True

    def _fill(self, order: dict[str, Any]) -> None:
        quantity = Decimal(order["quantity"]) * (1 if order["side"] == "buy" else -1)
        self.held[order["symbol"]] = self.held.get(order["symbol"], Decimal()) + quantity
        self.cash -= quantity * self.price
        trade = {
            "id": f"T{len(self.events)}",
            "quantity": order["quantity"],
            "price": str(self.price),
            "fee": "0",
            "at": AT,
        }
        order |= {"status": "done", "filled": order["quantity"], "average_price": str(self.price), "trades": [trade]}
        self._tell("trade", order, trade=trade)

    def _tell(self, kind: str, order: dict[str, Any], **more: Any) -> None:
        self.events.append({"sequence": len(self.events) + 1, "kind": kind, "order": dict(order), **more})

    def _get_account(self, _request: ServerRequest) -> object:
        equity = self.cash + sum(quantity * self.price for quantity in self.held.values())
        money = {"cash": str(self.cash), "equity": str(equity), "buying_power": str(self.cash)}
        return {"id": "A-1", "type": "margin", **money}

    def _get_positions(self, _request: ServerRequest) -> object:
        return [
            {"symbol": symbol, "quantity": str(quantity), "average_price": "20", "price": str(self.price)}
            for symbol, quantity in self.held.items()
            if quantity
        ]

    def _get_events(self, request: ServerRequest) -> object:
        return self.events[int(request.query["after"]) :]

    def _get_orders(self, request: ServerRequest) -> object:
        client_id = request.path.removeprefix("/orders").strip("/")
        if client_id:
            unknown = ServerReply(status=404, document={"message": "no such order"})
            return self.orders.get(client_id, unknown)
        first = int(request.query.get("page", "0"))
        rest = list(self.orders.values())[first:]
        return {"orders": rest[:PAGE], "next": str(first + PAGE) if len(rest) > PAGE else None}

    def _post_orders(self, request: ServerRequest) -> object:
        document = request.document
        if document["client_id"] in self.orders:
            return ServerReply(status=422, document={"code": "DUPLICATE_ID", "message": "the id was used before"})
        if Decimal(document["quantity"]) % 1:
            return ServerReply(status=422, document={"code": "FRACTION", "message": "whole shares only"})
        order = {
            "id": f"O{len(self.orders)}", "status": "open", "filled": "0", "average_price": None, "trades": [],
            "changed_at": AT, **document,
        }  # fmt: skip
        self.orders[document["client_id"]] = order
        self._tell("accepted", order)
        return order

    def _put_orders(self, request: ServerRequest) -> object:
        order = self.orders[request.path.split("/")[2]]
        order |= request.document
        self._tell("changed", order)
        return order

    def _delete_orders(self, request: ServerRequest) -> object:
        order = self.orders.get(request.path.split("/")[2])
        if order is None or order["status"] != "open":
            return ServerReply(status=404, document={"message": "no such working order"})
        order["status"] = "cancelled"
        self._tell("cancelled", order)
        return ServerReply(status=204)
