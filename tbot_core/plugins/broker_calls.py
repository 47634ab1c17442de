"""The methods of the broker protocol: one row for each, with all that guard, rate limit and circuit breaker must know.

A new method is a row here, its capability in `tbot_core.contracts`, and a method of `BrokerPort` that names the row.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from enum import StrEnum
from numbers import Real
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar, cast

import attrs

from tbot_core.contracts import (
    AccountSnapshot,
    BrokerCapabilities,
    BrokerEvent,
    Feed,
    Gap,
    IndexQuote,
    Instrument,
    MaintenanceWindow,
    OrderStatusReport,
    abilities,
)
from tbot_core.contracts.abilities import Ability
from tbot_core.model.calendar import Session
from tbot_core.model.types import Account
from tbot_core.plugins.answer_types import AnswerType, many, mapping, numbers, one
from tbot_core.plugins.network.request_limits import RequestPriority
from tbot_core.plugins.number_bounds import MONEY, OFFSET, PRICE

Answer = TypeVar("Answer")


class RequestKind(StrEnum):
    """The kinds of requests; each may fail alone: readings may succeed while orders fail."""

    STREAM = "stream"
    READING = "reading"
    TRADE = "trade"


@attrs.frozen(eq=False)
class BrokerCall(Generic[Answer]):
    """One method or property of the broker protocol.

    `answer`: what a plugin must return; None where it returns nothing. `ability` declares an optional method.
    `account_of`: the account in the answer, None where there is none. `priority`: that of the request; an order and a
    reading of the account may have another one. `subject`: what the rate limit calls the request, with its arguments;
    "" for one that it does not count. `monitored`: as what the circuit breaker counts it, None for one that may have
    another connection than the account. `sends`: it may have been sent when its plugin is interrupted.
    """

    method: str
    answer: AnswerType | None = attrs.field(default=None, kw_only=True)
    ability: Ability[Any] | None = attrs.field(default=None, kw_only=True)
    account_of: Callable[[Any], Account] | None = attrs.field(default=None, kw_only=True)
    priority: RequestPriority = attrs.field(default=RequestPriority.READING, kw_only=True)
    subject: str = attrs.field(default="", kw_only=True)
    monitored: RequestKind | None = attrs.field(default=None, kw_only=True)
    sends: bool = attrs.field(default=False, kw_only=True)

    def checked(self, answer: Any) -> Answer:
        """The answer of a plugin; raises as `AnswerType.checked`."""
        return cast("Answer", answer if self.answer is None else self.answer.checked(self.method, answer))


def _itself(account: Account) -> Account:
    return account


_PROTECTION: Final = RequestPriority.PROTECTION
_LOOKUP: Final = RequestPriority.LOOKUP
_READING: Final = RequestKind.READING
_TRADE: Final = RequestKind.TRADE
_STREAM: Final = RequestKind.STREAM

CAPABILITIES: Final[BrokerCall[BrokerCapabilities]] = BrokerCall("capabilities", answer=one(BrokerCapabilities))
CONNECT: Final[BrokerCall[Account]] = BrokerCall("connect", answer=one(Account), account_of=_itself, monitored=_READING)
ACCOUNT: Final[BrokerCall[Account]] = BrokerCall(
    "account", answer=one(Account), account_of=_itself, monitored=_READING, subject="the account"
)
SNAPSHOT: Final[BrokerCall[AccountSnapshot]] = BrokerCall(
    "snapshot",
    answer=one(AccountSnapshot),
    account_of=attrgetter("account"),
    monitored=_READING,
    subject="the account",
)
SUBMIT: Final[BrokerCall[None]] = BrokerCall(
    "submit", monitored=_TRADE, sends=True, priority=_PROTECTION, subject="the order {0.client_order_id}"
)
CANCEL: Final[BrokerCall[None]] = BrokerCall(
    "cancel", monitored=_TRADE, sends=True, priority=_PROTECTION, subject="a cancel"
)
REPLACE: Final[BrokerCall[None]] = BrokerCall(
    "replace", ability=abilities.REPLACE, monitored=_TRADE, sends=True, priority=_PROTECTION, subject="a change"
)
CLOSE: Final[BrokerCall[None]] = BrokerCall("close")
EVENTS: Final[BrokerCall[AsyncIterator[BrokerEvent | Gap]]] = BrokerCall(
    "events", answer=one(BrokerEvent, Gap), ability=abilities.STREAM, monitored=_STREAM
)
POLL: Final[BrokerCall[Sequence[BrokerEvent]]] = BrokerCall(
    "poll", answer=many(BrokerEvent), ability=abilities.POLLING, monitored=_STREAM
)
FIND: Final[BrokerCall[OrderStatusReport | None]] = BrokerCall(
    "find",
    answer=one(OrderStatusReport, None),
    ability=abilities.ORDER_LOOKUP,
    monitored=_READING,
    priority=_LOOKUP,
    subject="the order {0}",
)
OPEN_ORDERS: Final[BrokerCall[Sequence[OrderStatusReport]]] = BrokerCall(
    "open_orders",
    answer=many(OrderStatusReport),
    ability=abilities.OPEN_ORDERS,
    monitored=_READING,
    priority=_LOOKUP,
    subject="the open orders",
)
INSTRUMENTS: Final[BrokerCall[Sequence[Instrument]]] = BrokerCall(
    "instruments",
    answer=many(Instrument),
    ability=abilities.INSTRUMENTS,
    monitored=_READING,
    priority=_PROTECTION,
    subject="the rules of instruments",
)
MAINTENANCE: Final[BrokerCall[Sequence[MaintenanceWindow]]] = BrokerCall(
    "maintenance", answer=many(MaintenanceWindow), ability=abilities.MAINTENANCE, subject="the maintenance notices"
)
HOURS: Final[BrokerCall[Session | None]] = BrokerCall(
    "hours", answer=one(Session, None), ability=abilities.HOURS, subject="the trading hours"
)
PRICES: Final[BrokerCall[Mapping[str, float]]] = BrokerCall(
    "prices", answer=mapping(PRICE), ability=abilities.PRICES, subject="prices"
)
CLOCK_AHEAD_S: Final[BrokerCall[Sequence[float]]] = BrokerCall(
    "clock_ahead_s", answer=numbers(OFFSET), ability=abilities.SERVER_TIME
)
VIX_CLOSE: Final[BrokerCall[float | None]] = BrokerCall(
    "vix_close", answer=one(Real, None, expected="a number or None", bound=PRICE), ability=abilities.DAILY_VIX
)
VIX_NOW: Final[BrokerCall[IndexQuote | None]] = BrokerCall(
    "vix_now", answer=one(IndexQuote, None), ability=abilities.LIVE_VIX
)
MARKET_CAPS: Final[BrokerCall[Mapping[str, float]]] = BrokerCall(
    "market_caps", answer=mapping(MONEY), ability=abilities.MARKET_CAPS
)
FEED: Final[BrokerCall[Feed]] = BrokerCall("feed", answer=one(Feed), ability=abilities.FEED)

BROKER_CALLS: Final[tuple[BrokerCall[Any], ...]] = (
    *(CAPABILITIES, CONNECT, ACCOUNT, SNAPSHOT, SUBMIT, CANCEL, REPLACE, CLOSE, EVENTS, POLL, FIND, OPEN_ORDERS),
    *(INSTRUMENTS, MAINTENANCE, HOURS, PRICES, CLOCK_AHEAD_S, VIX_CLOSE, VIX_NOW, MARKET_CAPS, FEED),
)
"""Every method and property of the protocol."""
