"""Brokers: the requests of the core to an account at a venue, and the reports that it receives."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import attrs

from tbot_core.model.types import Account, Fill

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Order


@attrs.frozen(kw_only=True)
class DayTradeRule:
    """A limit on day trades: `most` of them in five sessions, up to and including the day `until`.

    It applies to accounts of the kind `account` (margin or cash) that are worth less than `equity_below` dollars.
    """

    until: date
    account: str
    equity_below: Decimal
    most: int


@attrs.frozen(kw_only=True)
class BrokerCapabilities:
    """What a broker can do; the core never guesses it.

    `simulated`: the core shows it every closed minute before deciding on it. `brackets`: an entry's stop and target
    rest there from its fill on. `amend_atomic`: a resting order is changed in place and keeps its id. `query_by_cid`,
    `lists_closed`, `lists_fills`: an order that is over can be asked for, is listed, or its executions are; one of the
    three a broker must know, else nobody ever hears of a fill that its stream has lost. `lookup_window_s`: how long
    after it was sent an order may still turn up. `requests_per_minute`: 0 where the broker names no limit.
    `quantity_step`: the smallest quantity in shares, for types in `fractional_types`; where stops are none of them, the
    bot acts on closes for the fraction of a position. `streams`: what happens to its orders comes by itself, so that
    `poll` asks the venue nothing, and is called every quarter of a second; else at least every SLEEP_TIME. In both
    cases it is called after all that is sent, and four times a second, for two seconds, while an exit waits for its
    stop's end. `day_trade_rules`: the limits on day trades that it still applies; each that is in force counts.
    """

    simulated: bool = False
    streams: bool = False
    brackets: bool = False
    amend_atomic: bool = False
    query_by_cid: bool = False
    lists_closed: bool = False
    lists_fills: bool = False
    exec_ids_unique: bool = False
    lookup_window_s: float = 600.0
    requests_per_minute: int = 0
    quantity_step: Decimal = Decimal(1)
    fractional_types: frozenset[str] = frozenset()
    cid_length: int = 48
    day_trade_rules: tuple[DayTradeRule, ...] = ()


@attrs.frozen(kw_only=True)
class BrokerEvent:
    """A report of a broker about an order.

    `kind`: acknowledged, rejected, fill, cancelled, expired, replaced, cancel_refused, not_found; busted when the
    execution that `fill` names is void, corrected when `fill` has the new terms of the execution with that id.
    `event_id` is unique within broker and account, so that an event is booked only once. `words` quotes the broker.
    """

    kind: str
    event_id: str
    client_order_id: str
    fill: Fill | None = None
    words: str = ""


@attrs.frozen(kw_only=True)
class OrderStatusReport:
    """The current state of an order at the broker.

    `kind` is that of the event that would have reported it: acknowledged while it is working, else rejected, cancelled,
    expired or fill. `filled` is cumulative; `fills` holds the executions that the broker still lists; `time` is the
    time of the last change. `client_order_id` is empty for an order that was placed without one.
    """

    client_order_id: str
    broker_order_id: str
    kind: str
    symbol: str
    buy: bool
    quantity: Decimal
    time: datetime
    filled: Decimal = Decimal(0)
    average_price: Decimal | None = None
    fills: tuple[Fill, ...] = ()
    words: str = ""


@attrs.frozen(kw_only=True)
class PositionReport:
    """A position in an account; shares sold short are negative.

    `average_price` is the average entry price, `price` the last price that the broker knows; external positions are
    valued at it.
    """

    symbol: str
    quantity: Decimal
    average_price: Decimal | None = None
    price: Decimal | None = None


@attrs.frozen(kw_only=True)
class AccountActivity:
    """A change of an account's cash or shares without an order, as the broker lists it.

    `kind`: dividend, fee, interest, transfer, split, or the broker's own word. `quantity` and `cash` are the changes;
    negative values were taken from the account.
    """

    activity_id: str
    kind: str
    time: datetime
    symbol: str = ""
    quantity: Decimal = Decimal(0)
    cash: Decimal = Decimal(0)
    words: str = ""


@attrs.frozen(kw_only=True)
class AccountSnapshot:
    """A consistent reading of an account: cash, positions, and its open and recently closed orders.

    `fills` and `activities` are those since the requested time, empty also if the broker lists none; `fills` holds the
    executions of the account, including those of orders that are no longer listed. `barrier` names the moment at which
    all parts are valid, if the venue has such a number; otherwise it is empty, and two readings must agree before one
    is accepted.
    """

    account: Account
    holdings: tuple[PositionReport, ...] = ()
    orders: tuple[OrderStatusReport, ...] = ()
    activities: tuple[AccountActivity, ...] = ()
    fills: tuple[Fill, ...] = ()
    barrier: str = ""


class Permit(Protocol):
    """The right to send one order, once."""

    def redeem(self) -> None:
        """Use the permit, just before the first byte is sent. Raises `Withdrawn` if the order may no longer be sent."""


@runtime_checkable
class Broker(Protocol):
    """An account at a venue.

    Every call may raise `BrokerError`; a submit that may have arrived raises `OutcomeUnknown`. An incomplete reading
    raises `Unavailable`: unknown data is never reported as empty.
    """

    @property
    def rules(self) -> BrokerCapabilities:
        """The capabilities of the broker."""

    async def connect(self) -> Account:
        """Log in and return the account."""

    async def account(self) -> Account:
        """The current cash, equity and buying power."""

    async def submit(self, order: Order, permit: Permit) -> None:
        """Submit an order; its outcome is reported by events. The permit is redeemed before anything is sent."""

    async def cancel(self, client_order_id: str) -> None:
        """Request a cancel; its outcome is reported by an event."""

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Replace a working order by `order`, which has the same id with `amend_atomic`, else a new one."""

    async def poll(self) -> Sequence[BrokerEvent]:
        """Everything that happened since the last call, oldest first; does not wait.

        `BrokerCapabilities.streams` says how often it is called. Without a stream a plugin keeps to the venue's request
        limit by itself: it may return nothing while it has no request left, and report later what happened meanwhile.
        """

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """The whole account, with the orders that were closed since the given time."""

    async def close(self) -> None:
        """Log out; working orders stay."""


@runtime_checkable
class SupportsOrderLookup(Protocol):
    """A broker that can look up one order by our client order id (`query_by_cid`)."""

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """The order, None if the broker does not know it."""


class RejectionMeaning(StrEnum):
    """The meaning of a rejection, if it decides what happens next."""

    NOT_TRADABLE = "the instrument is no longer traded, at least under this name"
    OFF_GRID = "a price or a quantity is off the instrument's current grid"


@runtime_checkable
class SupportsRejectionMeaning(Protocol):
    """A broker that can classify its own rejection texts."""

    def meaning(self, words: str) -> RejectionMeaning | None:
        """The meaning of a rejection text; None if it only has to be reported."""


@attrs.frozen(kw_only=True)
class Instrument:
    """The current trading rules of an instrument, as its broker reports them.

    `tick`: prices are multiples of it; None: the exchange's own grid. `quantity_step`: quantities are multiples of it;
    None: the broker's capabilities. `tradable` and `shortable`: None if not reported.
    """

    symbol: str
    tick: Decimal | None = None
    quantity_step: Decimal | None = None
    tradable: bool | None = None
    shortable: bool | None = None


@runtime_checkable
class SupportsInstrumentInfo(Protocol):
    """A broker that reports instrument rules: requested when it rejects an order as off its grid."""

    async def instrument(self, symbol: str) -> Instrument:
        """The current rules of an instrument."""


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
    def ahead_s(self) -> Sequence[float]:
        """How far this machine's clock was ahead at each of the latest responses, in seconds, the newest last."""


@runtime_checkable
class SupportsPrices(Protocol):
    """A broker that reports prices: a second source beside the feed, polled every ten seconds."""

    async def prices(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """The mid price of the latest quote, else the last trade, in dollars; symbols without either are left out."""


@runtime_checkable
class SimulatedVenue(Protocol):
    """A broker without a market of its own: it fills orders from the bars that the core passes to it."""

    def open_session(self, session: Session, symbols: tuple[str, ...], cash: Decimal) -> None:
        """Start a session without working orders; `cash` is the cash of the account by the journal."""

    def observe(self, minute: MinuteSlice) -> None:
        """Match working orders against a closed minute, before any decision on it."""

    def close_session(self) -> None:
        """End the session: open positions are closed at their last price."""
