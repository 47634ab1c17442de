"""Brokers: what the core asks of an account at a venue, and what it is told."""

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
    """Something a broker says of an order.

    `kind`: acknowledged, rejected, fill, cancelled, expired, replaced, cancel_refused, not_found; busted where the
    execution that `fill` names is void, corrected where `fill` has the new terms of the execution of that id.
    `event_id` is unique within broker and account, so that the same event is booked once. `words` quotes the broker.
    """

    kind: str
    event_id: str
    client_order_id: str
    fill: Fill | None = None
    words: str = ""


@attrs.frozen(kw_only=True)
class OrderStatusReport:
    """What a broker knows of an order now, its own word for the outcome included.

    `kind` is that of the event that would have told it: acknowledged while it rests, else rejected, cancelled, expired
    or fill. `filled` is cumulative; `fills` holds the executions that the broker still names; `time` is when this
    became so. `client_order_id` is empty for an order that was placed without one.
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
    """What an account holds of a symbol; shares sold short are negative.

    `average_price` is what was paid, `price` the last one that the broker knows: what is not tbot's counts at it.
    """

    symbol: str
    quantity: Decimal
    average_price: Decimal | None = None
    price: Decimal | None = None


@attrs.frozen(kw_only=True)
class AccountActivity:
    """What moved an account's money or shares without an order, as the broker lists it.

    `kind`: dividend, fee, interest, transfer, split, or the broker's own word. `quantity` and `cash` are what was
    added, negative where it was taken.
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
    """All of an account that was read in one go: money, holdings, and its open and recently closed orders.

    `fills` and `activities` are those since the moment that was asked for, empty also where the broker lists none;
    `fills` holds the account's executions, those of orders that are listed no more included. `barrier` names
    the moment for which all parts hold, where the venue has such a number; else it is empty, and two readings have to
    agree before one is believed.
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
        """Use it, just before the first byte leaves. Raises `Withdrawn` when the order may not be sent any more."""


@runtime_checkable
class Broker(Protocol):
    """An account at a venue.

    Every call may raise `BrokerError`; a submit that may have arrived raises `OutcomeUnknown`. A reading that is not
    whole raises `Unavailable`: what is not known is never shown as empty.
    """

    @property
    def rules(self) -> BrokerCapabilities:
        """What the venue can do."""

    async def connect(self) -> Account:
        """Log in and say whose account it is."""

    async def account(self) -> Account:
        """Cash, equity and buying power now."""

    async def submit(self, order: Order, permit: Permit) -> None:
        """Hand an order over; what becomes of it comes as events. Nothing leaves before the permit is redeemed."""

    async def cancel(self, client_order_id: str) -> None:
        """Ask for a cancel; its outcome comes as an event."""

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Change a resting order into `order`, which bears the same id where `amend_atomic` holds, else its own."""

    async def poll(self) -> Sequence[BrokerEvent]:
        """Everything that happened since the last call, oldest first; does not wait.

        `BrokerCapabilities.streams` says how often it is called. Without a stream a plugin keeps to the venue's request
        limit by itself: it may return nothing while it has no request left, and report later what happened meanwhile.
        """

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """Everything at the account, with the orders that were closed since."""

    async def close(self) -> None:
        """Log out; resting orders stay."""


@runtime_checkable
class SupportsOrderLookup(Protocol):
    """A broker that can be asked for one order by our id for it, as `query_by_cid` says."""

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """The order, None where the broker does not know it."""


class RejectionMeaning(StrEnum):
    """What a broker means by refusing an order, as far as it matters what is done next."""

    NOT_TRADABLE = "the instrument is not traded any more, under this name at least"
    OFF_GRID = "a price or a quantity is not a multiple of what may be traded now"


@runtime_checkable
class SupportsRejectionMeaning(Protocol):
    """A broker that can say what its own words of refusal mean."""

    def meaning(self, words: str) -> RejectionMeaning | None:
        """What a refusal in these words means; None for all that only needs to be told."""


@attrs.frozen(kw_only=True)
class Instrument:
    """What may be traded of an instrument now, as its broker says.

    `tick`: prices are multiples of it, None: of the exchange's own grid. `quantity_step`: quantities are multiples of
    it, None: of what the venue's rules say. `tradable` and `shortable`: None where that is not said.
    """

    symbol: str
    tick: Decimal | None = None
    quantity_step: Decimal | None = None
    tradable: bool | None = None
    shortable: bool | None = None


@runtime_checkable
class SupportsInstrumentInfo(Protocol):
    """A broker that can be asked what may be traded of an instrument: done when it refuses an order as off its grid."""

    async def instrument(self, symbol: str) -> Instrument:
        """The rules of an instrument now."""


@attrs.frozen(kw_only=True)
class MaintenanceWindow:
    """A time in which a broker has said that it will not answer; `words` quotes it."""

    begins: datetime
    ends: datetime
    words: str = ""


@runtime_checkable
class SupportsMaintenanceNotices(Protocol):
    """A broker that says when it will be under maintenance: asked every ten minutes."""

    async def maintenance(self) -> Sequence[MaintenanceWindow]:
        """All that is announced, times in UTC."""


@runtime_checkable
class SupportsTradingHours(Protocol):
    """A broker that says when its exchange trades; where it differs from ours, the shorter session wins."""

    async def hours(self, day: date) -> Session | None:
        """The session of an exchange day, None where there is none."""


@runtime_checkable
class SupportsServerTime(Protocol):
    """A broker whose answers carry its own time, as HTTP's header Date does."""

    @property
    def ahead_s(self) -> Sequence[float]:
        """How far this machine's clock was ahead at each of the latest answers, seconds, the newest last."""


@runtime_checkable
class SupportsPrices(Protocol):
    """A broker that says what symbols trade at: a second opinion on the feed, asked for every ten seconds."""

    async def prices(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """The middle of the latest quote, else the last trade, in dollars; symbols that have neither are left out."""


@runtime_checkable
class SimulatedVenue(Protocol):
    """A broker without a market of its own: it fills from the bars that it is shown."""

    def open_session(self, session: Session, symbols: tuple[str, ...], cash: Decimal) -> None:
        """A new session's bell: nothing rests any more; `cash` is what the journal knows of the account."""

    def observe(self, minute: MinuteSlice) -> None:
        """A minute has closed: match what rests, before anyone decides on it."""

    def close_session(self) -> None:
        """The session is over: what is still open is closed at its last price."""
