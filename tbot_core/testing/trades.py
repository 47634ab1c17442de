"""Signals, proposals, orders, rules and events of a journal for tests, with defaults."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import attrs

from tbot_core.contracts import BrokerCapabilities
from tbot_core.contracts.settings import EntrySettings, ExitSettings, RebalanceSettings, RiskSettings
from tbot_core.journal.store import Event
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules as Shape
from tbot_core.model.types import ExitReason, Fill, Leg, Order, OrderType, Side, SignalId
from tbot_core.trading.commands import CancelOrder, SubmitOrder, TradingCommand
from tbot_core.trading.proposals import Proposal, TradingRules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbot_core.trading.account_book import ManagedPosition

DAY = dt.date(2026, 1, 5)
NONE = float("nan")


def session(day: dt.date = DAY) -> Session:
    """The exchange's session of a day on which it trades."""
    found = ExchangeCalendar().session(day)
    if found is None:
        raise ValueError(f"the exchange is closed on {day}")
    return found


def resting_ids(held: ManagedPosition) -> dict[Leg, str]:
    """The ids of the working stop and target of a position, by leg."""
    return {one.order.leg: one.cid for one in reversed(held.protection)}


def identity(symbol: str = "AAA", minute: int = 25, strategy: str = "open", rule: str = "breakout") -> SignalId:
    """A signal of the test's day."""
    return SignalId(session=DAY, strategy=strategy, symbol=symbol, minute=minute, rule=rule)


def journal_event(seq: int, kind: str, payload: Mapping[str, Any], at: dt.datetime, cid: str | None = None) -> Event:
    """An event as a projection reads it, received and applied at one moment."""
    return Event(seq=seq, kind=kind, cid=cid, source=None, payload=payload, received=at, applied=at, hash=f"{seq}")


class ProposalOptions(TypedDict, total=False):
    """The optional fields of a proposal besides its signal."""

    side: Side
    row: int
    rank: int
    price: float
    strength: float
    stop: float
    target: float
    exits: Shape
    reason: Reason


def proposal(
    symbol: str = "AAA", minute: int = 25, strategy: str = "open", **options: Unpack[ProposalOptions]
) -> Proposal:
    """A long signal at 100.00 with a stop at 98.00 and no target, in row 0, by default."""
    side = options.get("side", Side.LONG)
    whole: ProposalOptions = {
        "side": side,
        "row": 0,
        "rank": 0,
        "price": 100.0,
        "strength": 0.01,
        "stop": 100.0 - 2 * side,
        "target": NONE,
        "exits": Shape(),
        "reason": Reason.ALLOWED,
        **options,
    }
    return Proposal(signal=identity(symbol, minute, strategy), **whole)


class OrderOptions(TypedDict, total=False):
    """The optional fields of an order besides its leg."""

    quantity: str
    limit: str
    stop: str
    buy: bool
    symbol: str
    protection: tuple[Order, ...]
    reason: ExitReason | None


def order(leg: Leg = Leg.ENTRY, name: str = "", **terms: Unpack[OrderOptions]) -> Order:
    """An order of 100 shares: a limit or stop order with a price, else a market order; entries buy, others sell."""
    limit, stop = terms.get("limit"), terms.get("stop")
    symbol = terms.get("symbol", "AAA")
    return Order(
        client_order_id=name or leg.value,
        signal=identity(symbol),
        leg=leg,
        buy=terms.get("buy", leg is Leg.ENTRY),
        quantity=Decimal(terms.get("quantity", "100")),
        type=OrderType.LIMIT if limit else OrderType.STOP if stop else OrderType.MARKET,
        limit_price=Decimal(limit) if limit else None,
        stop_price=Decimal(stop) if stop else None,
        protection=terms.get("protection", ()),
        reason=terms.get("reason"),
    )


def fill(of: Order, price: str, quantity: str | None = None, execution: str = "1", fees: str = "0.00") -> Fill:
    """A fill of an order, complete unless a quantity is given."""
    return Fill(
        execution_id=execution,
        client_order_id=of.client_order_id,
        symbol=of.symbol,
        buy=of.buy,
        quantity=of.quantity if quantity is None else Decimal(quantity),
        price=Decimal(price),
        fees=Decimal(fees),
        time=session().moment(30),
    )


def placed_and_cancelled(actions: Sequence[TradingCommand]) -> list[str]:
    """Placed orders with their quantity, and cancels, as text; moved stops are left out."""
    return [
        f"place {action.order.client_order_id} {action.order.quantity}"
        if isinstance(action, SubmitOrder)
        else f"cancel {action.client_order_id}"
        for action in actions
        if isinstance(action, (SubmitOrder, CancelOrder))
    ]


def rules(indices: Mapping[str, Mapping[str, Decimal]] | None = None, **settings: Any) -> TradingRules:
    """The rules of decisions with settings by their field names; text becomes the setting's Decimal.

    Fields of `TradingRules` are accepted too. Raises ValueError for an unknown name.
    """
    parts: dict[type[Any], dict[str, Any]] = {
        RiskSettings: {},
        EntrySettings: {},
        ExitSettings: {},
        RebalanceSettings: {},
        TradingRules: {},
    }
    for name, value in settings.items():
        owner = next((part for part in parts if name in attrs.fields_dict(part)), None)
        if owner is None:
            raise ValueError(f"{name} is not a setting of decisions")
        parts[owner][name] = Decimal(value) if isinstance(value, str) and value[:1].isdigit() else value
    return TradingRules(
        risk=RiskSettings(**parts[RiskSettings]),
        entries=EntrySettings(**parts[EntrySettings]),
        exits=ExitSettings(**parts[ExitSettings]),
        rebalance=RebalanceSettings(**parts[RebalanceSettings]),
        **{
            "venue": BrokerCapabilities(brackets=True, replace="same_id", shortable=True),
            "filters": {},
            "missing_rejects": True,
            "indices": indices or {},
            **parts[TradingRules],
        },
    )
