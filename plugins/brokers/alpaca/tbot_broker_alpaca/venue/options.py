"""The venue's market of options: which contracts each listed stock has, and how each is quoted now.

The contracts are those of a day's price and of any price since: none disappears while the stock moves. Some are such as
no strategy should buy: they have a `Defect`, or another root than the stock's symbol, with other deliverables.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from tbot_broker_alpaca.venue.option_pricing import OptionModel
from tbot_broker_alpaca.venue.wire import id_of
from tbot_core.model.clock import exchange_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tbot_core.model.calendar import ExchangeCalendar, Session
    from tbot_core.model.clock import Clock

OPTION_SYMBOL: Final = re.compile(r"([A-Z]{1,6}\d?)(\d{6})([CP])(\d{8})")
"""The spelling of a contract's symbol: root, expiry, type and strike in thousandths."""

STANDARD: Final = 100
"""The multiplier of a standard contract, and the shares that it delivers."""

_WEEKLIES: Final = dt.timedelta(days=30)
_LONGEST: Final = dt.timedelta(days=60)
_EXPIRED: Final = dt.timedelta(days=7)
_MONTHLY: Final = range(15, 22)
"""The days of a month that its third Friday can be."""

_NEAREST: Final = dt.timedelta(days=7)
_STEPS: Final = ((25, "0.5"), (100, "1"), (200, "2.5"), (500, "5"))
_WIDEST_STEP: Final = Decimal(10)
_REACH: Final = Decimal("0.2")
_HALF_SPREAD: Final = 0.02
_DEAR: Final = 3
"""From this price on, in USD, the tick is the larger one of its class."""

_TICKS: Final = {True: (Decimal("0.01"), Decimal("0.05")), False: (Decimal("0.05"), Decimal("0.10"))}
"""The ticks of a class in the penny program, and of one that is not."""

_ADJUSTED_ROOT, _MINI_ROOT = "1", "7"
_ADJUSTED_SIZE: Final = 110
_MINI_SIZE: Final = 10
_YEAR_S: Final = 365 * 86_400.0
_BEFORE_CLOSE: Final = dt.timedelta(minutes=30)


class Defect(StrEnum):
    """Why a contract should not be bought; the symbols that have one are in `OptionMarket.defects`."""

    LOW_INTEREST = "a dozen contracts are open"
    CROSSED = "the bid is above the ask"
    EMPTY = "there is no quote"
    STALE = "the quote is that of the session before"
    UNTRADABLE = "it is listed, and no order for it is accepted"
    GONE = "it is neither listed nor quoted any more, and no order for it is accepted"


_LISTED_DEFECTS: Final = {
    1: Defect.LOW_INTEREST,
    -1: Defect.CROSSED,
    2: Defect.EMPTY,
    -2: Defect.STALE,
    3: Defect.UNTRADABLE,
}
"""By the distance from the strike at the money, in steps, of the first expiry at least a week ahead."""

_UNQUOTED: Final = frozenset({Defect.CROSSED, Defect.EMPTY, Defect.STALE, Defect.GONE})
"""The defects with which no market maker trades."""


@attrs.frozen(kw_only=True)
class OptionContract:
    """A contract; exercised it pays `strike` times `multiplier` for `size` shares. `ends_at`: when it expires."""

    root: str
    underlying: str
    call: bool
    strike: Decimal
    expires: dt.date
    ends_at: dt.datetime
    multiplier: int = STANDARD
    size: int = STANDARD

    @property
    def symbol(self) -> str:
        """Its symbol, as the clearing corporation spells it without spaces."""
        return f"{self.root}{self.expires:%y%m%d}{'C' if self.call else 'P'}{int(self.strike * 1000):08d}"

    @property
    def last_opening(self) -> dt.datetime:
        """From when on no order opens a position."""
        return self.ends_at - _BEFORE_CLOSE

    @property
    def asset_id(self) -> str:
        """The id of the contract."""
        return id_of(f"contract {self.symbol}")

    def intrinsic(self, price: Decimal) -> Decimal:
        """What exercising it is worth a share of the multiplier, where the stock is at `price`; 0 out of the money."""
        delivered = price * self.size / self.multiplier
        return max(delivered - self.strike if self.call else self.strike - delivered, Decimal(0))


@attrs.frozen(kw_only=True)
class OptionQuote:
    """The best bid and ask a share in USD, how many contracts are there, and since when."""

    bid: Decimal
    ask: Decimal
    bid_size: int
    ask_size: int
    at: dt.datetime


class _Stock(Protocol):
    # What prices depend on.
    @property
    def symbol(self) -> str: ...
    @property
    def price(self) -> Decimal: ...
    @property
    def previous_close(self) -> Decimal: ...
    @property
    def halted(self) -> bool: ...


class _StockMarket(Protocol):
    # The market of the underlying stocks.
    @property
    def clock(self) -> Clock: ...
    @property
    def calendar(self) -> ExchangeCalendar: ...
    @property
    def listings(self) -> Mapping[str, _Stock]: ...
    @property
    def session(self) -> Session: ...
    @property
    def is_open(self) -> bool: ...


@attrs.define(eq=False)
class _Chain:
    # The contracts of one stock: the grid of its strikes, and the lowest and highest price that they reach around.
    step: Decimal
    low: Decimal
    high: Decimal
    made_on: dt.date | None = None
    contracts: list[OptionContract] = attrs.field(factory=list)


class OptionMarket:
    """The options of the stocks of a market.

    `defects` are the contracts' by symbol, and `penny_classes` whether the options of a stock trade in pennies; a test
    may change both, and `model`.
    """

    def __init__(self, market: _StockMarket) -> None:
        self._market = market
        self.model = OptionModel()
        self.defects: dict[str, Defect] = {}
        self.penny_classes: dict[str, bool] = {}
        self._chains: dict[str, _Chain] = {}
        self._known: dict[str, OptionContract] = {}

    def chain(self, underlying: str) -> list[OptionContract]:
        """The contracts of a stock by symbol, those that have expired within a week among them; none is gone."""
        return [one for one in self._contracts(underlying) if self.defects.get(one.symbol) is not Defect.GONE]

    def find(self, name: str) -> OptionContract | None:
        """A contract by its symbol or id, whatever its defect; None for one that was never listed."""
        if (spelled := OPTION_SYMBOL.fullmatch(name)) is not None:
            letters = spelled[1].rstrip("0123456789")
            for underlying in [one for one in self._market.listings if _root_of(one) == letters]:
                self._contracts(underlying)
        found = self._known.get(name)
        return found if found is not None and found.underlying in self._market.listings else None

    def is_listed(self, contract: OptionContract) -> bool:
        """Whether it can be traded until it expires, or could be before."""
        return self.defects.get(contract.symbol) is not Defect.GONE

    def is_active(self, contract: OptionContract) -> bool:
        """Whether it has not expired."""
        return self._market.clock.now() < contract.ends_at

    def is_tradable(self, contract: OptionContract) -> bool:
        """Whether orders for it are accepted."""
        return self.is_active(contract) and self.defects.get(contract.symbol) not in {Defect.UNTRADABLE, Defect.GONE}

    def open_interest(self, contract: OptionContract) -> int:
        """How many contracts are open."""
        return 12 if self.defects.get(contract.symbol) is Defect.LOW_INTEREST else 100 + _drawn(contract.symbol, 20_000)

    def tick(self, contract: OptionContract, price: Decimal) -> Decimal:
        """The step of prices at a price."""
        self._contracts(contract.underlying)
        small, large = _TICKS[self.penny_classes[contract.underlying]]
        return large if price >= _DEAR else small

    def quote(self, contract: OptionContract, *, indicative: bool = False) -> OptionQuote | None:
        """The quote that the feed shows, None where there is none; an `indicative` one is a tick wider each way."""
        defect = self.defects.get(contract.symbol)
        if defect in {Defect.EMPTY, Defect.GONE} or not self.is_active(contract):
            return None
        found = self._fair(contract, stale=defect is Defect.STALE)
        if indicative:
            bid = max(found.bid - self.tick(contract, found.bid), Decimal(0))
            found = attrs.evolve(found, bid=bid, ask=found.ask + self.tick(contract, found.ask))
        return attrs.evolve(found, bid=found.ask, ask=found.bid) if defect is Defect.CROSSED else found

    def firm_quote(self, contract: OptionContract) -> OptionQuote | None:
        """The quote at which an order fills now; None where no market maker trades."""
        listing = self._market.listings[contract.underlying]
        closed = listing.halted or not self._market.is_open or not self.is_active(contract)
        return None if closed or self.defects.get(contract.symbol) in _UNQUOTED else self._fair(contract)

    def prices(self, contract: OptionContract) -> tuple[Decimal, Decimal]:
        """The middle of its quote and half the spread, whatever the defect; once it has expired its intrinsic value."""
        if not self.is_active(contract):
            return contract.intrinsic(self._market.listings[contract.underlying].price), Decimal(0)
        found = self._fair(contract)
        return (found.bid + found.ask) / 2, (found.ask - found.bid) / 2

    def close_price(self, contract: OptionContract) -> Decimal:
        """The middle of its quote at the last close."""
        found = self._fair(contract, stale=True)
        return (found.bid + found.ask) / 2

    def greeks(self, contract: OptionContract) -> dict[str, float]:
        """Its Greeks now."""
        listing = self._market.listings[contract.underlying]
        price, strike, years = self._terms(contract, listing.price, self._last_moment)
        return self.model.greeks(price, strike, years, call=contract.call)

    @property
    def _last_moment(self) -> dt.datetime:
        # Now, or the last close before it.
        market = self._market
        return market.clock.now() if market.is_open else market.calendar.previous(market.session.date).close

    def _fair(self, contract: OptionContract, *, stale: bool = False) -> OptionQuote:
        # The quote of a market maker, now or at the close of the session before.
        market, listing = self._market, self._market.listings[contract.underlying]
        at = market.calendar.previous(market.session.date).close if stale else self._last_moment
        price, strike, years = self._terms(contract, listing.previous_close if stale else listing.price, at)
        value = self.model.value(price, strike, years, call=contract.call)
        half = max(value * _HALF_SPREAD, float(self.tick(contract, Decimal(value))) / 2)
        bid = self._on_grid(contract, max(value - half, 0.0), ROUND_FLOOR)
        ask = self._on_grid(contract, value + half, ROUND_CEILING)
        size = 10 + _drawn(f"{contract.symbol} {at:%H%M}", 190)
        return OptionQuote(bid=bid, ask=ask, bid_size=size if bid else 0, ask_size=size + 5, at=at)

    def _on_grid(self, contract: OptionContract, value: float, rounding: str) -> Decimal:
        exact = Decimal(repr(round(value, 9)))
        tick = self.tick(contract, exact)
        return (exact / tick).to_integral_value(rounding) * tick

    def _terms(self, contract: OptionContract, price: Decimal, at: dt.datetime) -> tuple[float, float, float]:
        # The price of what it delivers, its strike, and the years until it expires.
        delivered = float(price) * contract.size / contract.multiplier
        return delivered, float(contract.strike), (contract.ends_at - at).total_seconds() / _YEAR_S

    def _contracts(self, underlying: str) -> list[OptionContract]:
        # All contracts of a stock by symbol; made anew on another day, or where its price has left the strikes.
        listing, today = self._market.listings[underlying], exchange_time(self._market.clock.now()).date()
        chain, is_new = self._chains.get(underlying), underlying not in self._chains
        if chain is None:
            chain = self._chains[underlying] = _Chain(_step_of(listing.price), listing.price, listing.price)
            self.penny_classes.setdefault(underlying, _drawn(f"class {underlying}", 2) == 0)
        if chain.made_on == today and chain.low <= listing.price <= chain.high:
            return chain.contracts
        chain.made_on = today
        chain.low, chain.high = min(chain.low, listing.price), max(chain.high, listing.price)
        expiries = [*self._expiries(today)]
        made = [one for day, ends_at in expiries for one in _series(listing, chain, day, ends_at)]
        if is_new:
            near = next((day, ends_at) for day, ends_at in expiries if day >= today + _NEAREST)
            self._spoil(listing, chain, *near)
        self._known.update({one.symbol: one for one in made} | {one.asset_id: one for one in made})
        first = today - _EXPIRED
        kept = {one.symbol: one for one in (*chain.contracts, *made) if one.expires >= first}
        chain.contracts = [kept[symbol] for symbol in sorted(kept)]
        return chain.contracts

    def _expiries(self, today: dt.date) -> Iterator[tuple[dt.date, dt.datetime]]:
        # The last sessions of weeks: of each within a month, then of those with a third Friday.
        weeks = {}
        for session in self._market.calendar.sessions(today - _EXPIRED, today + _LONGEST + _EXPIRED):
            weeks[session.date.isocalendar()[:2]] = session
        for (year, week), session in weeks.items():
            is_monthly = dt.date.fromisocalendar(year, week, 5).day in _MONTHLY
            if session.date <= today + (_LONGEST if is_monthly else _WEEKLIES):
                yield session.date, session.close

    def _spoil(self, listing: _Stock, chain: _Chain, day: dt.date, ends_at: dt.datetime) -> None:
        # Give the strikes beside the money their defects, and list an adjusted and a small contract at the money.
        money = _money(chain)
        for distance, defect in _LISTED_DEFECTS.items():
            for call in (True, False):
                strike = money + distance * chain.step
                spoiled = _contract(listing.symbol, strike, day, ends_at, call=call)
                self.defects.setdefault(spoiled.symbol, defect)
        for call in (True, False):
            standard = _contract(listing.symbol, money, day, ends_at, call=call)
            adjusted = attrs.evolve(standard, root=f"{standard.root}{_ADJUSTED_ROOT}", size=_ADJUSTED_SIZE)
            small = attrs.evolve(standard, root=f"{standard.root}{_MINI_ROOT}", size=_MINI_SIZE, multiplier=_MINI_SIZE)
            for one in (adjusted, small):
                self._known[one.symbol] = self._known[one.asset_id] = one
                chain.contracts.append(one)


def _money(chain: _Chain) -> Decimal:
    # The strike nearest the price at which a chain begins.
    return max((chain.low / chain.step).to_integral_value(), Decimal(1)) * chain.step


def _series(listing: _Stock, chain: _Chain, day: dt.date, ends_at: dt.datetime) -> Iterator[OptionContract]:
    # Calls and puts of one expiry, at each strike within reach of the prices that there were.
    lowest = max((chain.low * (1 - _REACH) / chain.step).to_integral_value(ROUND_CEILING), Decimal(1))
    highest = max((chain.high * (1 + _REACH) / chain.step).to_integral_value(ROUND_FLOOR), lowest)
    for number in range(int(lowest), int(highest) + 1):
        for call in (True, False):
            yield _contract(listing.symbol, number * chain.step, day, ends_at, call=call)


def _contract(
    underlying: str, strike: Decimal, expires: dt.date, ends_at: dt.datetime, *, call: bool
) -> OptionContract:
    return OptionContract(
        root=_root_of(underlying), underlying=underlying, call=call, strike=strike, expires=expires, ends_at=ends_at
    )


def _root_of(underlying: str) -> str:
    return underlying.replace(".", "")


def _step_of(price: Decimal) -> Decimal:
    return next((Decimal(step) for below, step in _STEPS if price < below), _WIDEST_STEP)


def _drawn(name: str, below: int) -> int:
    # A number from 0 on that belongs to a name, the same in each run.
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % below
