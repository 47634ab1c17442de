"""What an account holds and works that is not tbot's: counted in exposure, never touched.

Each symbol counts at its worst case: all of its open orders filled on one side, and none on the other. It is valued at
the last price known: the session's last close, else what the broker's reading says. What has no price counts for
nothing until one is known. All amounts are integers of 1e-10 USD. Pure: nothing here reads or waits.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, TypeGuard

import attrs

from tbot_core.contracts import OrderStatus
from tbot_core.model.types import atoms_of, price_of, ticks_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from fractions import Fraction

    from tbot_core.contracts import OrderStatusReport, PositionReport
    from tbot_core.model.bars import Bars


@attrs.frozen(kw_only=True)
class WorstCase:
    """What is foreign in a symbol, at its worst: what it may come to bought, and what sold short, in atoms."""

    long_atoms: int
    short_atoms: int

    @property
    def atoms(self) -> int:
        """The larger of the two: both can't be."""
        return max(self.long_atoms, self.short_atoms)


@attrs.define(kw_only=True)
class ExternalPositions:
    """The foreign holdings and open orders of one account.

    `held`: signed shares by symbol, 0 where nothing is left. `worst`: what counts, by symbol; empty where nothing does.
    `gross`: the worst case of all of it, long and short alike.
    """

    held: dict[str, Decimal] = attrs.field(factory=dict)
    worst: dict[str, WorstCase] = attrs.field(factory=dict)
    gross: int = 0
    _orders: dict[str, tuple[str, Decimal]] = attrs.field(factory=dict)
    _disputed: dict[str, Decimal] = attrs.field(factory=dict)
    _closes: dict[str, Decimal] = attrs.field(factory=dict)
    _told: dict[str, Decimal] = attrs.field(factory=dict)
    _split: set[str] = attrs.field(factory=set)

    def __bool__(self) -> bool:
        """Whether anything foreign was found, or may be."""
        return bool(self.held or self._orders or self._disputed)

    def price(self, symbol: str) -> Decimal | None:
        """The last price known; None where there is none."""
        return self._closes.get(symbol) or self._told.get(symbol)

    def set_holding(self, symbol: str, quantity: Decimal, price: Decimal | None = None) -> None:
        """So many shares are held, as a reading or a journal says, which may know a price of them."""
        self.held[symbol] = quantity
        self._tell(symbol, price)
        self._value()

    def set_open_order(self, order_id: str, symbol: str, shares: Decimal) -> None:
        """An order that is not tbot's may still buy so many shares, or sell them: negative; 0: it has ended."""
        self._orders[order_id] = (symbol, shares)
        self._value()

    def apply_reading(
        self, holdings: Iterable[PositionReport], orders: Iterable[OrderStatusReport], disputed: Mapping[str, Decimal]
    ) -> None:
        """A reading was believed: the prices that it says, else what was paid, and all orders that are not tbot's.

        `disputed`: the shares by which a holding may grow, or shrink: negative, once an order of ours in doubt is
        settled; they count besides. The splits that the reading tells of have been taken in before.
        """
        for one in holdings:
            self._tell(one.symbol, one.average_price if one.price is None else one.price)
            if one.symbol in self._split and _is_price(one.price):
                self._closes.pop(one.symbol, None)  # nobody knows on which side of the split it was made
        self._split.clear()
        self._disputed = dict(disputed)
        self._orders = {
            one.broker_order_id: (one.symbol, open_shares(one.kind, one.quantity - one.filled, buy=one.buy))
            for one in orders
        }
        self._value()

    def mark(self, bars: Bars, minute: int) -> None:
        """Value it at the session's closes, as far as they are known after a minute."""
        symbols = {*self.held, *self._disputed, *(symbol for symbol, _ in self._orders.values())}
        for row, symbol in enumerate(bars.symbols):
            if symbol in symbols:
                closes = bars.field("close")[minute::-1, row].tolist()
                last = next((close for close in closes if not math.isnan(close)), None)
                if last is not None:
                    self._closes[symbol] = price_of(ticks_of(last))
        self._value()

    def set_price_if_unknown(self, symbol: str, price: Decimal) -> None:
        """A symbol trades at that: its price where none is known yet."""
        if self.price(symbol) is None:
            self._tell(symbol, price)
            self._value()

    def apply_split(self, symbol: str, ratio: Fraction) -> None:
        """Every share of a symbol became so many; they are worth what they were, until a reading says a price."""
        if symbol in self.held:
            self._split.add(symbol)
            self.held[symbol] = self.held[symbol] * ratio.numerator / ratio.denominator
            for prices in (self._closes, self._told):
                if symbol in prices:
                    prices[symbol] = prices[symbol] * ratio.denominator / ratio.numerator
            self._value()

    def _tell(self, symbol: str, price: Decimal | None) -> None:
        if _is_price(price):
            self._told[symbol] = price

    def _value(self) -> None:
        # What each symbol comes to at worst: from the least to the most shares that it may come to.
        ends = {symbol: [quantity, quantity] for symbol, quantity in self.held.items() if quantity}
        for symbol, shares in (*self._orders.values(), *self._disputed.items()):
            if shares:
                ends.setdefault(symbol, [Decimal(0), Decimal(0)])[shares > 0] += shares
        priced = ((symbol, found, self.price(symbol)) for symbol, found in ends.items())
        self.worst = {
            symbol: WorstCase(long_atoms=_worth(most, price), short_atoms=_worth(-least, price))
            for symbol, (least, most), price in priced
            if price is not None
        }
        self.gross = sum(one.atoms for one in self.worst.values())


def open_shares(said: str, rest: Decimal, *, buy: bool) -> Decimal:
    """What an order of that status may still buy, or sell: negative; 0 once it has ended."""
    if said != OrderStatus.WORKING:
        return Decimal(0)
    return rest if buy else -rest


def _is_price(price: Decimal | None) -> TypeGuard[Decimal]:
    # What is no price of a share, such as 0 for one that is not traded any more, says nothing.
    return price is not None and price.is_finite() and price > 0


def _worth(shares: Decimal, price: Decimal) -> int:
    return atoms_of(max(shares, Decimal(0)) * price)
