"""The methods of the broker protocol: one row for each, with all that guard, rate limit and circuit breaker must know.

A new method is a row here, its capability in `tbot_core.contracts`, and a method of `BrokerPort` that names the row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    InstrumentRules,
    MaintenanceWindow,
    OptionListing,
    OptionQuoteReport,
    OrderStatusReport,
    abilities,
)
from tbot_core.contracts.abilities import Ability
from tbot_core.model.calendar import Session
from tbot_core.model.types import Account
from tbot_core.plugins.network.request_limits import RequestPriority
from tbot_core.plugins.number_bounds import MONEY, OFFSET, PRICE, AnswerType, many, mapping, numbers, one

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
    `priority`: that of the request; an order and a reading of the account may have another one. `monitored`: as what
    the circuit breaker counts it, None for one that may have another connection than the account. `subject`: what the
    rate limit calls the request, with its arguments; "" for one that it does not count. `account_of`: the account in
    the answer, None where there is none. `sends`: it may have been sent when its plugin is interrupted.
    """

    method: str
    answer: AnswerType | None = None
    ability: Ability[Any] | None = None
    priority: RequestPriority = RequestPriority.READING
    monitored: RequestKind | None = None
    subject: str = ""
    account_of: Callable[[Any], Account] | None = None
    sends: bool = False

    def checked(self, answer: Any) -> Answer:
        """The answer of a plugin; raises as `AnswerType.checked`."""
        return cast("Answer", answer if self.answer is None else self.answer.checked(self.method, answer))


def _itself(account: Account) -> Account:
    return account


_PROTECT, _LOOKUP, _READ = RequestPriority.PROTECTION, RequestPriority.LOOKUP, RequestPriority.READING
_STREAM, _READING, _TRADE = RequestKind.STREAM, RequestKind.READING, RequestKind.TRADE
_VIX: Final = one(Real, None, expected="a number or None", bound=PRICE)

CAPABILITIES: Final = BrokerCall[BrokerCapabilities]("capabilities", one(BrokerCapabilities))
CONNECT: Final = BrokerCall[Account]("connect", one(Account), None, _READ, _READING, "", _itself)
ACCOUNT: Final = BrokerCall[Account]("account", one(Account), None, _READ, _READING, "the account", _itself)
SNAPSHOT: Final = BrokerCall[AccountSnapshot](
    "snapshot", one(AccountSnapshot), None, _READ, _READING, "the account", attrgetter("account")
)
SUBMIT: Final = BrokerCall[None]("submit", None, None, _PROTECT, _TRADE, "the order {0.client_order_id}", sends=True)
CANCEL: Final = BrokerCall[None]("cancel", None, None, _PROTECT, _TRADE, "a cancel", sends=True)
REPLACE: Final = BrokerCall[None]("replace", None, abilities.REPLACE, _PROTECT, _TRADE, "a change", sends=True)
CLOSE: Final = BrokerCall[None]("close")
_EVENTS: Final = BrokerCall[BrokerEvent | Gap]("events", one(BrokerEvent, Gap), abilities.STREAM, _READ, _STREAM)
POLL: Final = BrokerCall[Sequence[BrokerEvent]]("poll", many(BrokerEvent), abilities.POLLING, _READ, _STREAM)
FIND: Final = BrokerCall[OrderStatusReport | None](
    "find", one(OrderStatusReport, None), abilities.ORDER_LOOKUP, _LOOKUP, _READING, "the order {0}"
)
OPEN_ORDERS: Final = BrokerCall[Sequence[OrderStatusReport]](
    "open_orders", many(OrderStatusReport), abilities.OPEN_ORDERS, _LOOKUP, _READING, "the open orders"
)
INSTRUMENTS: Final = BrokerCall[Sequence[InstrumentRules]](
    "instruments", many(InstrumentRules), abilities.INSTRUMENTS, _PROTECT, _READING, "the rules of instruments"
)
MAINTENANCE: Final = BrokerCall[Sequence[MaintenanceWindow]](
    "maintenance", many(MaintenanceWindow), abilities.MAINTENANCE, _READ, None, "the maintenance notices"
)
HOURS: Final = BrokerCall[Session | None](
    "hours", one(Session, None), abilities.HOURS, _READ, None, "the trading hours"
)
PRICES: Final = BrokerCall[Mapping[str, float]]("prices", mapping(PRICE), abilities.PRICES, _READ, None, "prices")
CLOCK_AHEAD_S: Final = BrokerCall[Sequence[float]]("clock_ahead_s", numbers(OFFSET), abilities.SERVER_TIME)
VIX_CLOSE: Final = BrokerCall[float | None]("vix_close", _VIX, abilities.DAILY_VIX)
VIX_NOW: Final = BrokerCall[IndexQuote | None]("vix_now", one(IndexQuote, None), abilities.LIVE_VIX)
MARKET_CAPS: Final = BrokerCall[Mapping[str, float]]("market_caps", mapping(MONEY), abilities.MARKET_CAPS)
OPTION_CONTRACTS: Final = BrokerCall[Sequence[OptionListing]](
    "option_contracts", many(OptionListing), abilities.OPTION_CONTRACTS, _READ, None, "option contracts"
)
OPTION_QUOTES: Final = BrokerCall[Sequence[OptionQuoteReport]](
    "option_quotes", many(OptionQuoteReport), abilities.OPTION_QUOTES, _LOOKUP, None, "option quotes"
)
_FEED: Final = BrokerCall[Feed]("feed", one(Feed), abilities.FEED)

BROKER_CALLS: Final[tuple[BrokerCall[Any], ...]] = (
    *(CAPABILITIES, CONNECT, ACCOUNT, SNAPSHOT, SUBMIT, CANCEL, REPLACE, CLOSE, _EVENTS, POLL, FIND, OPEN_ORDERS),
    *(INSTRUMENTS, MAINTENANCE, HOURS, PRICES, CLOCK_AHEAD_S, VIX_CLOSE, VIX_NOW, MARKET_CAPS),
    *(OPTION_CONTRACTS, OPTION_QUOTES, _FEED),
)
"""Every method and property of the protocol."""
