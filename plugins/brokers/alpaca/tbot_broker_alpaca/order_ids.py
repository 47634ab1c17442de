"""Which of Alpaca's orders belong to one order of tbot, and which executions that it reports are one."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tbot_broker_alpaca import parse
from tbot_core.contracts import BrokerEventKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.contracts import BrokerEvent

_PASSED: Final = frozenset({"replaced", "rejected"})


class OrderIds:
    """The status of each of Alpaca's orders, by the client order id of the first of its chain."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._status: dict[str, dict[str, str]] = {}
        self._filled: set[str] = set()
        self._replaced: dict[str, int] = {}

    def note(self, order: Mapping[str, Any]) -> str:
        """Remember an order's document; returns the client order id of the first order of its chain."""
        first = self._first.get(order.get("replaces") or "") or parse.first_id(str(order["client_order_id"]))
        chain = self._status.setdefault(first, {})
        number = str(order["client_order_id"]).removeprefix(f"{first}~")
        if number.isdecimal():
            self._replaced[first] = max(self._replaced.get(first, 0), int(number))
        self._first[order["id"]] = first
        chain[order["id"]] = str(order["status"])
        if successor := order.get("replaced_by"):
            self._first[successor] = first
            if order["status"] == "replaced":
                chain.setdefault(successor, "accepted")
        if parse.optional_number(order.get("filled_qty")):
            self._filled.add(first)
        return first

    def latest(self, client_order_id: str) -> str | None:
        """Alpaca's id of the latest order of the chain that was neither replaced nor rejected; None if unknown."""
        chain = self._status.get(client_order_id, {})
        return next((one for one in reversed(chain) if chain[one] not in _PASSED), None)

    def has_filled(self, client_order_id: str) -> bool:
        """Whether a part of it is known to have been filled."""
        return client_order_id in self._filled

    def forget(self, client_order_id: str) -> None:
        """Forget the chain: it is looked up before it is used again."""
        self._status.pop(client_order_id, None)

    def next_name(self, client_order_id: str) -> str:
        """A client order id for the next replacement, which no order of the chain that is known has."""
        number = self._replaced[client_order_id] = self._replaced.get(client_order_id, 0) + 1
        return f"{client_order_id}~{number}"


class Executions:
    """The executions that were reported of each of Alpaca's orders, to notice one that comes under a second id."""

    def __init__(self) -> None:
        self._known: defaultdict[str, dict[str, tuple[Decimal, Decimal]]] = defaultdict(dict)
        self._filled: defaultdict[str, Decimal] = defaultdict(Decimal)

    def repeats(self, event: BrokerEvent, order: Mapping[str, Any]) -> bool:
        """Note the execution of an event; whether it is an earlier one under another id.

        It is where quantity and price are those of an earlier one, and another one would be more than the order has
        filled by any report. Reports may come in any order.
        """
        fill, known = event.fill, self._known[order["id"]]
        filled = max(self._filled[order["id"]], parse.optional_number(order.get("filled_qty")) or Decimal(0))
        self._filled[order["id"]] = filled
        if fill is None:
            return False
        if event.kind is BrokerEventKind.BUSTED:
            known.pop(fill.execution_id, None)
            return False
        terms, before = (fill.quantity, fill.price), sum(quantity for quantity, _ in known.values())
        is_another = event.kind is BrokerEventKind.FILL and fill.execution_id not in known
        if is_another and terms in known.values() and before + fill.quantity > filled:
            return True
        known[fill.execution_id] = terms
        return False
