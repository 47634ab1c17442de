"""The optional abilities of a broker: what the core may ask of it where its capabilities declare it.

The core reads the declaration alone: `PRICES.of(broker)` is the broker as `SupportsPrices`, or None.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast, runtime_checkable

import attrs

from tbot_core.model.types import InstrumentKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from tbot_core.contracts.broker import BrokerEvent, OrderStatusReport
    from tbot_core.contracts.capabilities import BrokerCapabilities
    from tbot_core.contracts.feed import FeedSource, SupportsDailyVix, SupportsLiveVix, SupportsMarketCaps
    from tbot_core.contracts.network import Gap
    from tbot_core.contracts.options import SupportsOptionContracts, SupportsOptionQuotes
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Order

Methods = TypeVar("Methods")


@runtime_checkable
class SupportsReplace(Protocol):
    """A broker that replaces working orders (`replace` other than `CANCEL_AND_NEW`)."""

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Give a working order the terms of `order`, which has the same client order id.

        The outcome is reported as an event REPLACED or CANCEL_REFUSED of that id. What filled meanwhile counts.
        """


@runtime_checkable
class SupportsPolling(Protocol):
    """A broker whose order events are polled: one without `streams`."""

    async def poll(self) -> Sequence[BrokerEvent]:
        """Everything that happened since the last call, oldest first; does not wait.

        The plugin keeps to the venue's request limit by itself: it may return nothing while it has no request left, and
        report later what happened meanwhile.
        """


@runtime_checkable
class SupportsEventStream(Protocol):
    """A broker that pushes its order events (`streams`)."""

    def events(self) -> AsyncIterator[BrokerEvent | Gap]:
        """Connect, and yield each event as it arrives, in the order in which it happened.

        A `Gap` follows each connection: what happened before was not received, and the core reads the account at once.
        The iterator ends, or raises `BrokerError`, when the connection is lost: the core reads the account and opens
        another one, after pauses that grow to 30 s. There are never two at once.
        """


@runtime_checkable
class SupportsOrderLookup(Protocol):
    """A broker that can look up one order by our client order id (`query_by_cid`)."""

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """The order, None if the broker does not know it."""


@runtime_checkable
class SupportsOpenOrders(Protocol):
    """A broker that lists its open orders with one request (`lists_open`)."""

    async def open_orders(self) -> Sequence[OrderStatusReport]:
        """Every order that works at the account, with what has filled of it; ended ones may be left out.

        Requested every 2.5 s while entries work at a broker with a stream, so that a fill is known though the stream is
        silent. One that is not listed is looked up by `find`, else the account is read.
        """


_KINDS: Final[Mapping[str, InstrumentKind]] = {kind: kind for kind in InstrumentKind}


def _kind(text: str | None) -> InstrumentKind | None:
    return None if text is None else _KINDS.get(text)


@attrs.frozen(kw_only=True)
class InstrumentRules:
    """The current facts and trading rules of a symbol, as its broker reports them; None: not reported.

    `tick`: prices are multiples of it; None: the exchange's own grid. `quantity_step`: quantities are multiples of it;
    None: the broker's capabilities. `fractionable` false: whole shares only. `minimum_quantity` and `minimum_notional`:
    the smallest order, in shares and dollars. `shortable` and `easy_to_borrow`: both must be True for a short sale,
    unless the broker's capabilities allow every one. `kind`: a text that is no `InstrumentKind` counts as not reported.
    """

    symbol: str
    tick: Decimal | None = None
    quantity_step: Decimal | None = None
    tradable: bool | None = None
    fractionable: bool | None = None
    shortable: bool | None = None
    easy_to_borrow: bool | None = None
    minimum_quantity: Decimal | None = None
    minimum_notional: Decimal | None = None
    name: str = ""
    kind: InstrumentKind | None = attrs.field(default=None, converter=_kind)

    @property
    def may_be_shorted(self) -> bool | None:
        """Whether it may be sold short and is easy to borrow; None if either is not known and neither is denied."""
        reported = (self.shortable, self.easy_to_borrow)
        return False if False in reported else None if None in reported else True


@runtime_checkable
class SupportsInstruments(Protocol):
    """A broker that reports the facts of instruments (`instruments`)."""

    async def instruments(self, symbols: Sequence[str]) -> Sequence[InstrumentRules]:
        """The current facts of these instruments, at most 200; one that the broker does not know is not tradable.

        Requested for all symbols of a session before it trades, for one before each short sale, and after an order was
        rejected as off its grid.
        """


@attrs.frozen(kw_only=True)
class MaintenanceWindow:
    """An announced period without responses from the broker; `words` quotes it."""

    begins: datetime
    ends: datetime
    words: str = ""


@runtime_checkable
class SupportsMaintenanceNotices(Protocol):
    """A broker that announces its maintenance: polled every ten minutes."""

    async def maintenance(self) -> Sequence[MaintenanceWindow]:
        """All announced periods, times in UTC."""


@runtime_checkable
class SupportsTradingHours(Protocol):
    """A broker that reports the trading hours of its exchange; if they differ from ours, the shorter session wins."""

    async def hours(self, day: date) -> Session | None:
        """The session of an exchange day, None if there is none."""


@runtime_checkable
class SupportsServerTime(Protocol):
    """A broker whose responses carry its own time, as the HTTP header Date does."""

    @property
    def clock_ahead_s(self) -> Sequence[float]:
        """How far this machine's clock was ahead at each of the latest responses, in seconds, the newest last."""


@runtime_checkable
class SupportsPrices(Protocol):
    """A broker that reports prices: a second source beside the feed, polled every ten seconds."""

    async def prices(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """The mid price of the latest quote, else the last trade, in dollars; symbols without either are left out."""


@attrs.frozen
class Ability(Generic[Methods]):
    """An optional method of a broker, and the capability that declares it."""

    capability: str
    method: str

    def of(self, broker: object) -> Methods | None:
        """The broker as the protocol of the method; None if its capabilities do not declare it, or it has none."""
        declared = getattr(broker, "capabilities", None)
        return cast("Methods", broker) if getattr(declared, self.capability, False) else None


REPLACE: Final[Ability[SupportsReplace]] = Ability("replaces", "replace")
POLLING: Final[Ability[SupportsPolling]] = Ability("polls", "poll")
STREAM: Final[Ability[SupportsEventStream]] = Ability("streams", "events")
ORDER_LOOKUP: Final[Ability[SupportsOrderLookup]] = Ability("query_by_cid", "find")
OPEN_ORDERS: Final[Ability[SupportsOpenOrders]] = Ability("lists_open", "open_orders")
INSTRUMENTS: Final[Ability[SupportsInstruments]] = Ability("instruments", "instruments")
MAINTENANCE: Final[Ability[SupportsMaintenanceNotices]] = Ability("maintenance", "maintenance")
HOURS: Final[Ability[SupportsTradingHours]] = Ability("hours", "hours")
SERVER_TIME: Final[Ability[SupportsServerTime]] = Ability("server_time", "clock_ahead_s")
PRICES: Final[Ability[SupportsPrices]] = Ability("prices", "prices")
DAILY_VIX: Final[Ability[SupportsDailyVix]] = Ability("daily_vix", "vix_close")
LIVE_VIX: Final[Ability[SupportsLiveVix]] = Ability("live_vix", "vix_now")
MARKET_CAPS: Final[Ability[SupportsMarketCaps]] = Ability("market_caps", "market_caps")
OPTION_CONTRACTS: Final[Ability[SupportsOptionContracts]] = Ability("option_contracts", "option_contracts")
OPTION_QUOTES: Final[Ability[SupportsOptionQuotes]] = Ability("option_quotes", "option_quotes")
FEED: Final[Ability[FeedSource]] = Ability("feed", "feed")
ABILITIES: Final[tuple[Ability[Any], ...]] = (
    *(REPLACE, POLLING, STREAM, ORDER_LOOKUP, OPEN_ORDERS, INSTRUMENTS, MAINTENANCE, HOURS, SERVER_TIME, PRICES),
    *(DAILY_VIX, LIVE_VIX, MARKET_CAPS, OPTION_CONTRACTS, OPTION_QUOTES, FEED),
)
"""Every ability; a further one needs its field in `BrokerCapabilities`."""


def undeclared_differences(broker: object, declared: BrokerCapabilities) -> Iterator[str]:
    """How the methods of a broker differ from the capabilities that it declares, one phrase each."""
    for one in ABILITIES:
        claimed, present = getattr(declared, one.capability), _has(broker, one.method)
        if claimed and not present:
            yield f"it declares the capability {one.capability}, but has no method {one.method}"
        elif present and not claimed:
            yield f"it has a method {one.method}, but does not declare the capability {one.capability}"


def _has(broker: object, name: str) -> bool:
    # A property that fails is there: its failure is reported when it is used.
    try:
        return hasattr(broker, name)
    except Exception:  # noqa: BLE001  -- the border of a plugin
        return True
