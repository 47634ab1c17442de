"""Brokers: the requests of the core to an account at a venue, and the reports that it receives."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import attrs

from tbot_core.errors import RejectionMeaning
from tbot_core.model.formatting import one_line
from tbot_core.model.types import Account, BrokerEventKind, Fill, Order

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.contracts.capabilities import BrokerCapabilities
    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.calendar import Session

_EVENT_KINDS: Final[Mapping[str, BrokerEventKind]] = {kind: kind for kind in BrokerEventKind}

LEAST_ABSURD: Final = Decimal(10) ** 12
"""No order has a quantity or a price as large as this."""


def _event_kind(text: str) -> BrokerEventKind | str:
    return _EVENT_KINDS.get(text, text)


@attrs.frozen(kw_only=True)
class BrokerEvent:
    """A report of a broker about an order.

    `kind` is a `BrokerEventKind`. Any other text is a status of the broker that the plugin does not know: it is
    recorded, the order is looked up, and its instrument is frozen. `event_id` is unique within broker and account, so
    that an event is booked only once. `words` quotes the broker; `meaning` says what a rejection means.
    """

    kind: BrokerEventKind | str = attrs.field(converter=_event_kind)
    event_id: str
    client_order_id: str
    fill: Fill | None = None
    words: str = attrs.field(default="", converter=one_line)
    meaning: RejectionMeaning | None = attrs.field(default=None, converter=attrs.converters.optional(RejectionMeaning))


class OrderStatus(StrEnum):
    """The status of an order at the broker; the value is that of the event that would have reported it.

    `WORKING`: it may still fill, also where a part of it is filled. `REJECTED`, `CANCELLED` and `EXPIRED`: it has
    ended, perhaps after a partial fill. `FILLED`: it has ended with all that the broker accepted filled.
    """

    WORKING = "acknowledged"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FILLED = "fill"


def _plausible(_report: object, field: attrs.Attribute[Decimal], value: Decimal) -> None:
    if not value.is_finite() or not 0 <= value < LEAST_ABSURD:
        raise ValueError(f"{field.name} {value} is not that of an order")


@attrs.frozen(kw_only=True)
class OrderStatusReport:
    """The current state of an order at the broker.

    `kind` is its status; a text that is no `OrderStatus` raises ValueError, and so does a quantity or a price that is
    negative, not finite or not below `LEAST_ABSURD`. `filled` is cumulative; `average_price` is None where it is not
    known, also of an order that has filled; `fills` holds the executions that the broker still lists; `time` is the
    time of the last change. `client_order_id` is empty for an order that was placed without one.
    """

    client_order_id: str
    broker_order_id: str
    kind: OrderStatus = attrs.field(converter=OrderStatus)
    symbol: str
    buy: bool
    quantity: Decimal = attrs.field(validator=_plausible)
    time: datetime
    filled: Decimal = attrs.field(default=Decimal(0), validator=_plausible)
    average_price: Decimal | None = attrs.field(default=None, validator=attrs.validators.optional(_plausible))
    fills: tuple[Fill, ...] = ()
    words: str = attrs.field(default="", converter=one_line)


@attrs.frozen(kw_only=True)
class PositionReport:
    """A position in an account; shares and contracts sold short are negative.

    `average_price` is the average entry price, `price` the last price that the broker knows, both per share; external
    positions are valued at it. `multiplier`: the shares that a quantity of 1 stands for, 100 for a standard option.
    """

    symbol: str
    quantity: Decimal
    average_price: Decimal | None = None
    price: Decimal | None = None
    multiplier: int = 1


class AccountActivityKind(StrEnum):
    """What changed an account without an order.

    `DIVIDEND`: a payment on shares that are held. `FEE`: a charge of the broker or the exchange. `INTEREST`: paid or
    received on cash. `TRANSFER`: cash or shares that the owner moved in or out. `SPLIT`: each share became more or
    fewer shares.
    """

    DIVIDEND = "dividend"
    FEE = "fee"
    INTEREST = "interest"
    TRANSFER = "transfer"
    SPLIT = "split"


def _activity_kind(text: str) -> AccountActivityKind | str:
    return _ACTIVITY_KINDS.get(text, text)


@attrs.frozen(kw_only=True)
class AccountActivity:
    """A change of an account's cash or shares without an order, as the broker lists it.

    `kind` is an `AccountActivityKind`, or the broker's own word, which is booked as an adjustment. `quantity` and
    `cash` are the changes; negative values were taken from the account.
    """

    activity_id: str
    kind: AccountActivityKind | str = attrs.field(converter=_activity_kind)
    time: datetime
    symbol: str = ""
    quantity: Decimal = Decimal(0)
    cash: Decimal = Decimal(0)
    words: str = attrs.field(default="", converter=one_line)


@attrs.frozen(kw_only=True)
class AccountSnapshot:
    """A consistent reading of an account: cash, positions, and its open and recently closed orders.

    `fills` and `activities` are those since the requested time, empty also if the broker lists none; `fills` holds the
    executions of the account, including those of orders that are no longer listed. `barrier` names the moment at which
    all parts are valid, if the venue has such a number; otherwise it is empty, and two readings must agree before one
    is accepted.

    A list that is behind, and an empty one, are reported as they are. `unreadable`: the orders that are listed and
    whose documents cannot be read (a field is absent or absurd, a status is not known), by client order id, which is
    empty where it cannot be read either, with the reason. They are not in `orders`. Such an order may work or have
    ended; it is not absent. A position or an account that cannot be read raises `Unavailable`.
    """

    account: Account
    holdings: tuple[PositionReport, ...] = ()
    orders: tuple[OrderStatusReport, ...] = ()
    activities: tuple[AccountActivity, ...] = ()
    fills: tuple[Fill, ...] = ()
    unreadable: Mapping[str, str] = attrs.field(factory=dict)
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
    def capabilities(self) -> BrokerCapabilities:
        """The capabilities of the broker."""

    async def connect(self) -> Account:
        """Log in and return the account."""

    async def account(self) -> Account:
        """The current cash, equity and buying power."""

    async def submit(self, order: Order, permit: Permit) -> None:
        """Submit an order; its outcome is reported by events. The permit is redeemed before anything is sent."""

    async def cancel(self, client_order_id: str) -> None:
        """Request a cancel; its outcome is reported by an event."""

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """The whole account, with the orders that were closed since the given time."""

    async def close(self) -> None:
        """Log out; working orders stay."""


@runtime_checkable
class SimulatedVenue(Protocol):
    """A broker without a market of its own: it fills orders from the bars that the core passes to it.

    A client order id that is submitted again changes nothing, and a minute that is observed again fills nothing: after
    a restart the core repeats both. An entry ends after the first bar that could fill it.
    """

    def keep_books(self, path: Path, cash: Decimal | None) -> None:
        """Keep the account in this file from now on, and continue the account that it holds.

        Called once, before `connect`, for trading in real time; a simulation keeps nothing. `cash`, in dollars: that of
        a new account; None: the broker's own choice. Each later call is one transaction. Events of an open session are
        reported again. Raises BrokerError for a file that cannot be used.
        """

    def open_session(
        self, session: Session, symbols: tuple[str, ...], cash: Decimal, partial_volume: frozenset[str] = frozenset()
    ) -> None:
        """Start a session without working orders; an open session of that day in kept books goes on.

        `cash` is the cash of the account by the journal; kept books have their own. VOLUME_LIMIT does not apply to the
        symbols in `partial_volume`, whose volumes are a part of the tape.
        """

    def observe(self, minute: MinuteSlice) -> None:
        """Match working orders against a closed minute, before any decision on it; all minutes come in order."""

    def close_session(self) -> None:
        """End the session, unless it has ended: open positions are closed at their last price."""


_ACTIVITY_KINDS: Final[Mapping[str, AccountActivityKind]] = {kind: kind for kind in AccountActivityKind}
