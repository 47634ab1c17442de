"""Alpaca's documents of account, orders and assets as values of tbot, and back: pure functions.

An order that replaces another has an id of its own. Its client order id is that of the first, with `~` and a number,
and the whole chain is one order of tbot.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from tbot_broker_alpaca.rejections import meaning_of
from tbot_core.contracts import (
    AccountActivity,
    AccountActivityKind,
    BrokerEvent,
    BrokerEventKind,
    InstrumentRules,
    OrderStatus,
    OrderStatusReport,
    PositionReport,
)
from tbot_core.errors import Unavailable
from tbot_core.model import json_document
from tbot_core.model.calendar import Session
from tbot_core.model.clock import exchange_moment
from tbot_core.model.option_symbols import is_occ_symbol, parse_occ_symbol
from tbot_core.model.types import Account, AccountRestriction, Fill, Order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tbot_core.contracts import HttpResponse

EQUITY: Final = "us_equity"
OPTION: Final = "us_option"
ORDERS_PER_PAGE: Final = 500
ACTIVITIES_PER_PAGE: Final = 100

_LEGS: Final = "mleg"
"""The class of an order of several legs, and of each of them."""

_CONTRACT: Final = 100
"""The shares that a standard option stands for."""

_OTHER_CONTRACTS: Final = (1, 10, 1000)
"""Those of a mini contract and of a jumbo one. An adjusted contract has the multiplier of a standard one."""

_LEAST_ABSURD: Final = Decimal(10) ** 15
_QUOTED: Final = 40
_ROUNDED: Final = Decimal("0.02")
"""By how much a quotient of two rounded amounts may differ from what it stands for, relatively."""

_NUMBERED: Final = re.compile(r"~[0-9]+$")
_ENDED: Final = {
    "filled": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELLED,
    "expired": OrderStatus.EXPIRED,
    "rejected": OrderStatus.REJECTED,
}
_WORKING: Final = frozenset(
    [
        "new",
        "partially_filled",
        "done_for_day",
        "pending_cancel",
        "pending_replace",
        "accepted",
        "pending_new",
        "accepted_for_bidding",
        "stopped",
        "suspended",
        "calculated",
        "held",
        "replaced",
    ]
)
_EVENTS: Final = {
    "new": BrokerEventKind.ACKNOWLEDGED,
    "fill": BrokerEventKind.FILL,
    "partial_fill": BrokerEventKind.FILL,
    "canceled": BrokerEventKind.CANCELLED,
    "expired": BrokerEventKind.EXPIRED,
    "rejected": BrokerEventKind.REJECTED,
    "replaced": BrokerEventKind.REPLACED,
    "order_replace_rejected": BrokerEventKind.CANCEL_REFUSED,
    "order_cancel_rejected": BrokerEventKind.CANCEL_REFUSED,
    "trade_bust": BrokerEventKind.BUSTED,
    "trade_correct": BrokerEventKind.CORRECTED,
}
# Steps on the way to another event; a status that is not named here is passed on, and the core looks the order up.
_STEPS: Final = frozenset(
    [
        "accepted",
        "pending_new",
        "pending_cancel",
        "pending_replace",
        "held",
        "stopped",
        "calculated",
        "done_for_day",
        "accepted_for_bidding",
    ]
)
_EXECUTED: Final = frozenset({"fill", "partial_fill", "trade_bust", "trade_correct"})
_ACTIVITIES: Final = {
    AccountActivityKind.DIVIDEND: (["DIV", "CGD", "DIVCGL", "DIVCGS", "DIVFT", "DIVNRA", "DIVROC", "DIVTW", "DIVTXEX"]),
    AccountActivityKind.FEE: ["FEE", "CFEE", "DIVFEE", "PTC", "PTR"],
    AccountActivityKind.INTEREST: ["INT", "INTNRA", "INTTW"],
    AccountActivityKind.TRANSFER: ["TRANS", "CSD", "CSW", "JNL", "JNLC", "JNLS", "ACATC", "ACATS", "FOPT"],
    AccountActivityKind.SPLIT: ["SPLIT"],
}
_KIND_OF_ACTIVITY: Final = {word: kind for kind, words in _ACTIVITIES.items() for word in words}
_HOLDING_UNCHANGED: Final = frozenset(
    {AccountActivityKind.DIVIDEND, AccountActivityKind.FEE, AccountActivityKind.INTEREST}
)


_FORM: Final = "If no other server answers in its place (HOST_ settings), update tbot-broker-alpaca."
_UNREADABLE: Final = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Raises Unavailable where a document lacks a field or has an invalid value: it is no reading."""
    try:
        yield
    except _UNREADABLE as fault:
        raise Unavailable(f"Alpaca's {what} cannot be read: {_words(fault)}.", _FORM) from fault


def _words(fault: Exception) -> str:
    # What is wrong, without the names of Python's classes where the words say it.
    return str(fault) if isinstance(fault, ValueError) else f"{type(fault).__name__}: {fault}"


def number(value: object) -> Decimal:
    """A number, which Alpaca writes as text or as a JSON number; raises ValueError for one that is absurd."""
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{str(value)[:_QUOTED]!r} is no number") from None
    if not found.is_finite() or abs(found) >= _LEAST_ABSURD:
        raise ValueError(f"{str(value)[:_QUOTED]!r} is no amount or quantity")
    return found


def optional_number(value: object) -> Decimal | None:
    """A number, None where it is absent."""
    return None if value is None or value == "" else number(value)


def moment(text: str) -> datetime:
    """A time with its offset, in UTC; a day alone is its midnight in New York."""
    if len(text) == len("2026-01-05"):
        return exchange_moment(date.fromisoformat(text), time())
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def account(document: Mapping[str, Any], host: str) -> Account:
    """The account; `host` is paper or live, and numbers of paper accounts begin with PA."""
    name = str(document["account_number"])
    is_paper = name.startswith("PA")
    live = {("paper", True): False, ("live", False): True}.get((host, is_paper))
    begins = "begins" if is_paper else "does not begin"
    status = str(document["status"])
    suspended = "trading is suspended by the user" if document.get("trade_suspended_by_user") else ""
    flags = {
        "trading_blocked": AccountRestriction.TRADING_BLOCKED,
        "account_blocked": AccountRestriction.ACCOUNT_BLOCKED,
        "transfers_blocked": AccountRestriction.TRANSFERS_BLOCKED,
    }
    return Account(
        account_id=name,
        equity=number(document["equity"]),
        cash=number(document["cash"]),
        buying_power=optional_number(document.get("buying_power")),
        currency=document.get("currency") or "USD",
        margin=number(document["multiplier"]) > 1 if document.get("multiplier") else None,
        day_trades=document.get("daytrade_count"),
        restricted=suspended if status == "ACTIVE" else f"the account has the status {status}",
        restrictions=frozenset(flag for field, flag in flags.items() if document.get(field)),
        shorting_allowed=document.get("shorting_enabled") is True,
        options_level=_options_level(document),
        live=live,
        evidence=f"{host} host, and the account number {begins} with PA, as those of paper accounts do",
    )


def _options_level(document: Mapping[str, Any]) -> int | None:
    # The lower one of what Alpaca says to be effective and what it approved; without the former it is not known.
    effective = optional_number(document.get("options_trading_level"))
    approved = optional_number(document.get("options_approved_level"))
    if effective is None:
        return None
    level = effective if approved is None else min(effective, approved)
    if level % 1 or level < 0:
        raise ValueError(f"{level} is no level of options")
    return int(level)


def position(document: Mapping[str, Any]) -> PositionReport:
    """A position; what was sold short has a side, and a quantity that may be negative already."""
    quantity = abs(number(document["qty"]))
    return PositionReport(
        multiplier=_multiplier(document, quantity),
        symbol=document["symbol"],
        quantity=-quantity if document["side"] == "short" else quantity,
        average_price=optional_number(document.get("avg_entry_price")),
        price=optional_number(document.get("current_price")),
    )


def _multiplier(document: Mapping[str, Any], quantity: Decimal) -> int:
    # A position has no field for it: of an adjusted or mini class it follows from what the position cost.
    symbol = str(document["symbol"])
    if not is_occ_symbol(symbol):
        return _CONTRACT if document.get("asset_class") == OPTION else 1
    cost, price = (optional_number(document.get(name)) for name in ("cost_basis", "avg_entry_price"))
    if not parse_occ_symbol(symbol).has_own_class or not (cost and price and quantity):
        return _CONTRACT
    found = abs(cost / (price * quantity))
    return next((other for other in _OTHER_CONTRACTS if abs(found - other) <= other * _ROUNDED), _CONTRACT)


def request(order: Order) -> dict[str, str]:
    """The document that places an order; prices and quantities are text, so no digit is lost.

    An option is bought to open a position and sold to close it, so that no sale writes one.
    """
    intent = {"position_intent": "buy_to_open" if order.buy else "sell_to_close"}
    return {
        "symbol": order.symbol,
        "side": "buy" if order.buy else "sell",
        "type": order.type.value,
        "qty": f"{order.quantity:f}",
        "time_in_force": order.time_in_force,
        "client_order_id": order.client_order_id,
        **_prices(order),
        **(intent if is_occ_symbol(order.symbol) else {}),
    }


def replacement(order: Order, client_order_id: str) -> dict[str, str]:
    """The document that replaces a working order; what it does not name stays, the quantity too."""
    return {"client_order_id": client_order_id, **_prices(order)}


def _prices(order: Order) -> dict[str, str]:
    prices = {"limit_price": order.limit_price, "stop_price": order.stop_price}
    return {name: f"{price:f}" for name, price in prices.items() if price is not None}


def first_id(client_order_id: str) -> str:
    """The client order id of the first order of a chain of replacements."""
    return _NUMBERED.sub("", client_order_id)


def orders(documents: Iterable[Mapping[str, Any]]) -> tuple[tuple[OrderStatusReport, ...], dict[str, str]]:
    """One report for each order of equities and options, and why an order cannot be read, by client order id.

    An order and those that replace it, one after the other, are one. Orders of crypto and of several legs are left out.
    """
    unreadable: dict[str, str] = {}
    by_id: dict[str, Mapping[str, Any]] = {}
    chains: dict[str, dict[int, Mapping[str, Any]]] = {}
    for one in documents:
        if _is_reported(one):
            with _noted(unreadable, first_id(str(one.get("client_order_id") or ""))):
                first_id(one["client_order_id"])
                by_id[one["id"]] = one
    for one in by_id.values():
        first, place = one, 0
        while first.get("replaces") in by_id and place < len(by_id):
            first, place = by_id[first["replaces"]], place + 1
        chains.setdefault(first_id(first["client_order_id"]), {})[place] = one
    reports: list[OrderStatusReport] = []
    for name, chain in chains.items():
        with _noted(unreadable, name):
            reports.append(_report(name, [chain[place] for place in sorted(chain)]))
    return tuple(report for report in reports if report.client_order_id not in unreadable), unreadable


def _is_reported(order: Mapping[str, Any]) -> bool:
    return order.get("asset_class", EQUITY) in {EQUITY, OPTION} and order.get("order_class") != _LEGS


@contextmanager
def _noted(unreadable: dict[str, str], client_order_id: str) -> Iterator[None]:
    # Notes why an order cannot be read.
    try:
        yield
    except _UNREADABLE as fault:
        unreadable[client_order_id] = f"{type(fault).__name__}: {fault}"


def _report(client_order_id: str, chain: list[Mapping[str, Any]]) -> OrderStatusReport:
    # A replacement that was rejected leaves the order before it as it was.
    accepted = [one for one in chain if one["status"] != "rejected"] or chain[:1]
    latest = accepted[-1]
    fills = [(number(one["filled_qty"]), optional_number(one.get("filled_avg_price"))) for one in accepted]
    filled = sum((quantity for quantity, _ in fills), Decimal(0))
    prices = [quantity * price for quantity, price in fills if quantity and price is not None]
    is_priced = filled and len(prices) == sum(1 for quantity, _ in fills if quantity)
    ordered = optional_number(latest.get("qty"))
    return OrderStatusReport(
        client_order_id=client_order_id,
        broker_order_id=latest["id"],
        kind=_status(latest["status"]),
        symbol=latest["symbol"],
        buy=latest["side"] == "buy",
        quantity=filled if ordered is None else filled - fills[-1][0] + ordered,
        filled=filled,
        average_price=sum(prices, Decimal(0)) / filled if is_priced else None,
        time=moment(latest.get("updated_at") or latest.get("submitted_at") or latest["created_at"]),
    )


def _status(word: str) -> OrderStatus:
    if word in _WORKING:
        return OrderStatus.WORKING
    if word not in _ENDED:
        raise ValueError(f"the status {word!r} is not known")
    return _ENDED[word]


def event(document: Mapping[str, Any], client_order_id: str) -> BrokerEvent | None:
    """A trade update of the order with this first client order id; None for a step on the way to another event.

    An event that is not known keeps Alpaca's word, and the core looks the order up.
    """
    word, order = document["event"], document["order"]
    replaces = order.get("replaces")
    if not _is_reported(order) or word in _STEPS or (word == "new" and replaces):
        return None
    kind = _EVENTS.get(word, word)
    if replaces and word == "rejected":  # the order before it stays as it was
        kind = BrokerEventKind.CANCEL_REFUSED
    execution = document.get("previous_execution_id") or document.get("execution_id")
    words = str(document.get("reason") or order.get("reject_reason") or "" if kind != BrokerEventKind.FILL else "")
    return BrokerEvent(
        kind=kind,
        event_id=f"{order['id']} {word} {document.get('execution_id') or document.get('timestamp', '')}",
        client_order_id=client_order_id,
        fill=_fill(document, client_order_id, str(execution)) if word in _EXECUTED else None,
        words=words,
        meaning=meaning_of(words) if kind == BrokerEventKind.REJECTED else None,
    )


def _fill(document: Mapping[str, Any], client_order_id: str, execution_id: str) -> Fill:
    order = document["order"]
    return Fill(
        execution_id=execution_id,
        client_order_id=client_order_id,
        symbol=order["symbol"],
        buy=order["side"] == "buy",
        quantity=abs(number(document["qty"])),
        price=number(document["price"]),
        fees=Decimal(0),  # fees are charged a day later, as activities
        time=moment(document["timestamp"]),
    )


def activity(document: Mapping[str, Any]) -> AccountActivity | None:
    """A change of the account without an order; None for a trade, and for one that was cancelled."""
    word = document["activity_type"]
    if word == "FILL" or document.get("status") == "canceled":
        return None
    kind = _KIND_OF_ACTIVITY.get(word, word)
    shares = Decimal(0) if kind in _HOLDING_UNCHANGED else optional_number(document.get("qty")) or Decimal(0)
    return AccountActivity(
        activity_id=document["id"],
        kind=kind,
        time=moment(document.get("created_at") or document["date"]),
        symbol=document.get("symbol") or "",
        quantity=shares,
        cash=optional_number(document.get("net_amount")) or Decimal(0),
        words=str(document.get("description") or word),
    )


def instrument(document: Mapping[str, Any]) -> InstrumentRules:
    """The facts of an asset; what is not reported about borrowing counts as not known, and is denied."""
    borrow, easy = document.get("borrow_status"), document.get("easy_to_borrow")
    return InstrumentRules(
        symbol=document["symbol"],
        tick=optional_number(document.get("price_increment")),
        quantity_step=optional_number(document.get("min_trade_increment")),
        tradable=document["tradable"] is True and document["status"] == "active",
        fractionable=document.get("fractionable") is True,
        shortable=document.get("shortable") is True,
        easy_to_borrow=borrow == "easy_to_borrow" if borrow else easy if isinstance(easy, bool) else None,
        minimum_quantity=optional_number(document.get("min_order_size")),
        name=document.get("name") or "",
    )


def session(document: Mapping[str, Any]) -> Session:
    """The session of a day of Alpaca's calendar, whose times are those of New York."""
    day = date.fromisoformat(document["date"])
    bells = (exchange_moment(day, time.fromisoformat(document[name])) for name in ("open", "close"))
    return Session(date=day, open=next(bells), close=next(bells))


def older_orders(page: HttpResponse) -> Mapping[str, str] | None:
    """The parameters of the next page of orders, None after the last."""
    return order_cursor(page.json())


def order_cursor(rows: list[Mapping[str, Any]]) -> Mapping[str, str] | None:
    """The parameters of the page after these orders, None where the page is not full."""
    return {"after_order_id": rows[-1]["id"]} if len(rows) >= ORDERS_PER_PAGE else None


def more_activities(page: HttpResponse) -> Mapping[str, str] | None:
    """The parameters of the next page of activities, None after the last."""
    rows = page.json()
    return {"page_token": rows[-1]["id"]} if len(rows) >= ACTIVITIES_PER_PAGE else None


def messages(frame: str | bytes) -> list[dict[str, Any]]:
    """The messages of a text or binary frame; raises Unavailable for one that is cut, since a message is lost then."""
    try:
        found = json_document.parse_json(frame)
    except json_document.InvalidJson as fault:
        raise Unavailable(f"Alpaca sent a frame that cannot be read: {fault}.") from fault
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]


def stamp(at: datetime) -> str:
    """A time as Alpaca's parameters have it."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
