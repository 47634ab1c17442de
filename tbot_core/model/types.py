"""The values used by every layer: sides, reasons, orders, fills, trades, and exact money.

In decisions a price is an integer number of ticks (1e-4 USD), a quantity an integer number of units (1e-6 share), and
money an integer number of atoms (1e-10 USD = tick x unit), so that sums are exact and independent of order. At the
edge they become `Decimal`.
"""

from __future__ import annotations

import functools
import re
from datetime import date, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.model.option_symbols import is_occ_symbol

if TYPE_CHECKING:
    from collections.abc import Iterable

TICKS_PER_DOLLAR: Final = 10_000
UNITS_PER_SHARE: Final = 1_000_000
CURRENCY: Final = "USD"
"""The currency of all amounts."""
ATOMS_PER_DOLLAR: Final = TICKS_PER_DOLLAR * UNITS_PER_SHARE
ATOMS_PER_CENT: Final = ATOMS_PER_DOLLAR // 100

_TICK: Final = Decimal("0.0001")
_CENT: Final = Decimal("0.01")

MOST_DAILY_BARS: Final = 400
"""The largest number of daily bars that a strategy may need."""

MOST_SPLIT_SHARES: Final = 1000
"""The largest value of `before` and `after` of a split."""

SYMBOL: Final = re.compile(r"[A-Z0-9]+([.-][A-Z0-9]+)*")
"""A ticker in tbot's spelling, such as BRK.B: capitals and digits, with dots and hyphens inside."""

_SYMBOL_LENGTH: Final = 16


def is_symbol(text: str) -> bool:
    """Whether the text is a ticker in tbot's spelling, of at most 16 characters; the symbol of an option is none."""
    return len(text) <= _SYMBOL_LENGTH and SYMBOL.fullmatch(text) is not None and not is_occ_symbol(text)


def ticks_of(price: float) -> int:
    """The nearest whole number of ticks to a price in dollars; raises ValueError for NaN or infinity."""
    return round(price * TICKS_PER_DOLLAR)


def price_of(ticks: int) -> Decimal:
    """A price in dollars with four decimals."""
    return Decimal(ticks) * _TICK


@functools.lru_cache(maxsize=4096)  # most orders of a run have one of few sizes
def units_of(quantity: Decimal) -> int:
    """A quantity in units, rounded towards zero."""
    return int(quantity * UNITS_PER_SHARE)


def quantity_of(units: int) -> Decimal:
    """A quantity in shares, without trailing zeros."""
    whole, part = divmod(units, UNITS_PER_SHARE)
    return Decimal(whole) if part == 0 else Decimal(units).scaleb(-6).normalize()


def atoms_of(dollars: Decimal) -> int:
    """Money in atoms, rounded towards zero."""
    return int(dollars * ATOMS_PER_DOLLAR)


def dollars_of(atoms: int) -> Decimal:
    """Money in dollars, exact, with at least two decimals."""
    cents, rest = divmod(atoms, ATOMS_PER_CENT)
    return Decimal(atoms).scaleb(-10).normalize() if rest else Decimal(cents) * _CENT


class Side(IntEnum):
    """The direction of a signal, position or trade; the value is the sign of its profit in the price."""

    LONG = 1
    SHORT = -1

    @property
    def word(self) -> str:
        """`long` or `short`."""
        return self.name.lower()


class Leg(StrEnum):
    """The role of an order in its trade; the value is part of the client order id."""

    ENTRY = "entry"
    STOP = "stop"
    TARGET = "target"
    EXIT = "exit"


class OrderType(StrEnum):
    """The type of an order."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"


class BrokerEventKind(StrEnum):
    """What a broker reports about an order.

    `ACKNOWLEDGED`: the order is working. `REJECTED`: the broker does not accept it. `FILL`: a quantity was executed.
    `CANCELLED` and `EXPIRED`: it has ended; what was filled before stays. `REPLACED`: it works with its new terms.
    `TRIGGERED`: the market has reached a stop's level, and it works as a market order; optional, a fill says as much.
    `CANCEL_REFUSED`: it was neither cancelled nor replaced, and is as it was. `NOT_FOUND`: the broker does not know it.
    `BUSTED`: the execution that `fill` names is void. `CORRECTED`: `fill` has the new terms of the execution with that
    id.
    """

    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    FILL = "fill"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REPLACED = "replaced"
    TRIGGERED = "triggered"
    CANCEL_REFUSED = "cancel_refused"
    NOT_FOUND = "not_found"
    BUSTED = "busted"
    CORRECTED = "corrected"


class OrderState(StrEnum):
    """The state of an order; transitions are in `tbot_core.trading.orders.TRANSITIONS`."""

    INTENDED = "intended"
    DROPPED = "dropped"
    SENDING = "sending"
    NEW = "new"
    PARTIALLY_FILLED = "partially filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    LOST = "lost"


class ExitReason(StrEnum):
    """Why a position was closed.

    REBALANCE: trimmed back to its share of equity. STOPPED: flattened, by a stop or kill that closes positions.
    """

    STOP = "STOP"
    TRAILING_STOP = "TRAILING_STOP"
    TARGET = "TARGET"
    TIME = "TIME"
    SESSION_END = "SESSION_END"
    DAILY_LOSS = "DAILY_LOSS"
    STOPPED = "STOPPED"
    NO_MARKET = "NO_MARKET"
    OUTSIDE = "OUTSIDE"
    UNPROTECTED = "UNPROTECTED"
    REBALANCE = "REBALANCE"
    EXCESS = "EXCESS"

    @property
    def word(self) -> str:
        """How a person reads it, such as `trailing stop`."""
        return "flattened" if self is ExitReason.STOPPED else self.value.lower().replace("_", " ")


class RiskState(IntEnum):
    """What the bot may do; a higher value permits less."""

    NORMAL = 0
    DEFENSE = 1
    EXIT_ONLY = 2
    HALTED = 3

    @property
    def word(self) -> str:
        """`normal`, `defense`, `exit-only` or `halted`."""
        return self.name.lower().replace("_", "-")


@attrs.frozen(kw_only=True, cache_hash=True)
class SignalId:
    """The identity of a signal across restarts: strategy, symbol, minute of the bar, rule."""

    session: date
    strategy: str
    symbol: str
    minute: int
    rule: str

    @property
    def text(self) -> str:
        """The canonical text, part of client order ids."""
        return f"{self.session.isoformat()}/{self.strategy}/{self.symbol}/{self.minute}/{self.rule}"


class InstrumentKind(StrEnum):
    """The kind of an instrument; limits of market capitalisation do not apply to a `FUND`."""

    STOCK = "stock"
    FUND = "fund"
    PUT = "put"


@attrs.frozen(kw_only=True)
class Instrument:
    """What the orders of a signal trade: the signal's own stock, or a fund or put in its place.

    `underlying` is the symbol of the signal, whose bars decide the exits. `multiplier`: the shares that a quantity of 1
    stands for, 100 for a standard put. `leverage`: how its value changes, as a multiple of the underlying's relative
    change; it is negative where it gains while the underlying falls.

    `symbol` is a ticker, or for a listed option its OCC symbol without padding, of 16 to 21 characters; `underlying` is
    a ticker.

    A `STOCK` is the signal's own symbol, whatever the broker calls it. Raises ValueError where the fields contradict
    each other.
    """

    symbol: str
    kind: InstrumentKind
    underlying: str
    multiplier: int = 1
    leverage: Decimal = Decimal(1)

    def __attrs_post_init__(self) -> None:
        if self.multiplier < 1 or (self.multiplier > 1 and self.kind is not InstrumentKind.PUT):
            raise ValueError(f"{self.symbol}: a {self.kind.value} has no multiplier of {self.multiplier}")
        if not self.leverage.is_finite() or not self.leverage:
            raise ValueError(f"{self.symbol}: no leverage is {self.leverage}")
        if self.kind is InstrumentKind.PUT and self.leverage > 0:
            raise ValueError(f"{self.symbol}: a put gains while {self.underlying} falls, at a leverage below 0")
        is_own = self.symbol == self.underlying
        if is_own is not (self.kind is InstrumentKind.STOCK) or (is_own and self.leverage != 1):
            raise ValueError(f"{self.symbol}: only the stock of a signal of {self.underlying} is traded as itself")

    @property
    def is_proxy(self) -> bool:
        """Whether it is traded in place of the signal's own stock."""
        return self.symbol != self.underlying

    @property
    def is_shared(self) -> bool:
        """Whether several signals may hold it at once: a fund in place of their own stocks."""
        return self.is_proxy and self.kind is InstrumentKind.FUND

    @property
    def recorded(self) -> Instrument | None:
        """What an event says of it: None for the signal's own stock."""
        return self if self.is_proxy else None

    def side(self, signal: Side) -> Side:
        """The side of a position in it that expresses a signal's side."""
        return signal if self.leverage > 0 else Side(-signal)

    def atoms(self, units: int, ticks: int) -> int:
        """The money in atoms of so many units at a price in ticks; signed as the units are."""
        return units * ticks * self.multiplier


@functools.lru_cache(maxsize=4096)
def stock(symbol: str) -> Instrument:
    """The instrument of a signal that trades its own symbol."""
    return Instrument(symbol=symbol, kind=InstrumentKind.STOCK, underlying=symbol)


def _own_stock(order: Order) -> Instrument:
    return stock(order.signal.symbol)


def _traded_symbol(order: Order) -> str:
    return order.instrument.symbol


@attrs.frozen(kw_only=True)
class Order:
    """An order as recorded before it is sent; prices are on the instrument's tick grid.

    `instrument` is what it trades, the signal's own stock by default, and `symbol` that of the instrument. `protection`
    of an entry holds its stop and target, which work from the fill on and are sized to it. `reason` is why its fill
    closes the position; an entry has none, except REBALANCE for a top-up.
    """

    client_order_id: str
    signal: SignalId
    leg: Leg
    instrument: Instrument = attrs.field(default=attrs.Factory(_own_stock, takes_self=True))
    buy: bool
    quantity: Decimal
    type: OrderType
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    protection: tuple[Order, ...] = ()
    reason: ExitReason | None = None
    time_in_force: str = "day"
    tag: str = ""
    # Not a property: it is read several times a minute for each order.
    symbol: str = attrs.field(init=False, eq=False, repr=False, default=attrs.Factory(_traded_symbol, takes_self=True))

    @property
    def trims(self) -> bool:
        """Whether it trims a position back to its share of equity."""
        return self.reason is ExitReason.REBALANCE and self.leg is not Leg.ENTRY

    @property
    def closes(self) -> bool:
        """Whether it closes the whole of a position, rather than a part of it or an overfill."""
        return self.leg is Leg.EXIT and self.reason is not ExitReason.REBALANCE and self.reason is not ExitReason.EXCESS

    @property
    def tops_up(self) -> bool:
        """Whether it adds to a position that is below its share of equity."""
        return self.reason is ExitReason.REBALANCE and self.leg is Leg.ENTRY

    def is_for(self, symbol: str, *, buy: bool) -> bool:
        """Whether it is an order to buy (or to sell) that symbol."""
        return (self.symbol, self.buy) == (symbol, buy)


@attrs.frozen(kw_only=True)
class Fill:
    """A quantity of an order filled at a price; `execution_id` is unique within broker and account."""

    execution_id: str
    client_order_id: str
    symbol: str
    buy: bool
    quantity: Decimal
    price: Decimal
    fees: Decimal
    time: datetime


class AccountRestriction(StrEnum):
    """What the broker does not allow the account.

    `TRADING_BLOCKED` and `ACCOUNT_BLOCKED` block entries, as `Account.restricted` does. `TRANSFERS_BLOCKED` is
    reported: it concerns no order.
    """

    TRADING_BLOCKED = "trading blocked"
    ACCOUNT_BLOCKED = "account blocked"
    TRANSFERS_BLOCKED = "transfers blocked"


def _restrictions(texts: Iterable[str]) -> frozenset[AccountRestriction]:
    return frozenset(map(AccountRestriction, texts))


@attrs.frozen(kw_only=True)
class Account:
    """The account as reported by the broker; None where it reports no value.

    `margin` false: a cash account. `settled_cash`: the settled part of the cash. `day_trades`: those of the last five
    sessions, including today's. `restricted`: the broker's text when it restricts the account, such as a margin call;
    entries are blocked while it is not empty. `restrictions`: the broker's flags; a text that is no
    `AccountRestriction` raises ValueError. `shorting_allowed` false: the account may not sell short. `options_level`:
    0, no options; 1, covered calls and puts secured by cash may be written; 2, calls and puts may be bought too; 3,
    spreads too.

    `live`: whether its money is real, and `evidence`: how that is known, such as "host api.example serves paper only".
    A flag of the plugin's own settings is no evidence. Without both, live trading is refused.
    """

    account_id: str
    equity: Decimal
    cash: Decimal
    buying_power: Decimal | None = None
    currency: str = CURRENCY
    margin: bool | None = None
    settled_cash: Decimal | None = None
    day_trades: int | None = None
    restricted: str = ""
    restrictions: frozenset[AccountRestriction] = attrs.field(default=frozenset(), converter=_restrictions)
    shorting_allowed: bool | None = None
    options_level: int | None = None
    live: bool | None = None
    evidence: str = ""

    @property
    def blocking_words(self) -> str:
        """Why the broker accepts no new position: its own words, else its flags; "" if it accepts them."""
        flags = self.restrictions - {AccountRestriction.TRANSFERS_BLOCKED}
        return self.restricted or ", ".join(sorted(flags))


@attrs.frozen(kw_only=True)
class Trade:
    """A position from its entry to its exit; prices are averages weighted by quantity.

    `instrument` is what was held: its `underlying` is the symbol of the signal. `side` is that of the position. An
    average between two ticks has more than four decimals, so that `pnl` follows from the prices to the cent.
    `broker` is the name of the broker that held it, "" if unknown.
    """

    strategy: str
    instrument: Instrument
    side: Side
    quantity: Decimal
    entry_time: datetime
    entry_price: Decimal
    exit_time: datetime
    exit_price: Decimal
    fees: Decimal
    pnl: Decimal
    exit_reason: ExitReason
    broker: str = ""

    @property
    def symbol(self) -> str:
        """The symbol that was held."""
        return self.instrument.symbol
