"""External positions and orders of an account: not tbot's, counted in exposure, never changed.

Each symbol counts at its worst case: all open orders of one side filled, none of the other. It is valued at the last
known price: the session's last close, else the broker's price. A symbol without a price does not count. Amounts are
integers of 1e-10 USD. Pure.
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
    """The largest long and the largest short external exposure of a symbol, in atoms."""

    long_atoms: int
    short_atoms: int

    @property
    def atoms(self) -> int:
        """The larger of the two."""
        return max(self.long_atoms, self.short_atoms)


@attrs.define(kw_only=True)
class ExternalPositions:
    """The external holdings and open orders of one account.

    `held`: signed shares by symbol, 0 when sold. `worst`: the worst case by symbol, of priced symbols only. `gross`:
    the sum of the worst cases.
    """

    held: dict[str, Decimal] = attrs.field(factory=dict)
    worst: dict[str, WorstCase] = attrs.field(factory=dict)
    gross: int = 0
    _orders: dict[str, tuple[str, Decimal]] = attrs.field(factory=dict)
    _disputed: dict[str, Decimal] = attrs.field(factory=dict)
    _closes: dict[str, Decimal] = attrs.field(factory=dict)
    _reported_prices: dict[str, Decimal] = attrs.field(factory=dict)
    _split: set[str] = attrs.field(factory=set)

    def __bool__(self) -> bool:
        """Whether external holdings or orders were found, or may exist."""
        return bool(self.held or self._orders or self._disputed)

    def price(self, symbol: str) -> Decimal | None:
        """The last known price; None if there is none."""
        return self._closes.get(symbol) or self._reported_prices.get(symbol)

    def set_holding(self, symbol: str, quantity: Decimal, price: Decimal | None = None) -> None:
        """Set a holding in signed shares, with its price if one is known."""
        self.held[symbol] = quantity
        self._set_reported_price(symbol, price)
        self._value()

    def set_open_order(self, order_id: str, symbol: str, shares: Decimal) -> None:
        """Set the open quantity of an external order in signed shares, negative for a sale; 0: it has ended."""
        self._orders[order_id] = (symbol, shares)
        self._value()

    def apply_reading(
        self, holdings: Iterable[PositionReport], orders: Iterable[OrderStatusReport], disputed: Mapping[str, Decimal]
    ) -> None:
        """Apply a reading of the account: its prices, else the average entry prices, and all external orders.

        `disputed`: signed shares by which a holding may change when unknown orders of tbot's are resolved; they are
        added to the worst case. The reading's splits must have been applied before.
        """
        for one in holdings:
            price = one.average_price if one.price is None else one.price
            self._set_reported_price(one.symbol, None if price is None else price * one.multiplier)
            if one.symbol in self._split and _is_price(one.price):
                self._closes.pop(one.symbol, None)  # the close may be from before or after the split
        self._split.clear()
        self._disputed = dict(disputed)
        self._orders = {
            one.broker_order_id: (one.symbol, open_shares(one.kind, one.quantity - one.filled, buy=one.buy))
            for one in orders
        }
        self._value()

    def mark(self, bars: Bars, minute: int) -> None:
        """Value all symbols at their last closes up to `minute`."""
        symbols = {*self.held, *self._disputed, *(symbol for symbol, _ in self._orders.values())}
        for row, symbol in enumerate(bars.symbols):
            if symbol in symbols:
                closes = bars.field("close")[minute::-1, row].tolist()
                last = next((close for close in closes if not math.isnan(close)), None)
                if last is not None:
                    self._closes[symbol] = price_of(ticks_of(last))
        self._value()

    def set_price_if_unknown(self, symbol: str, price: Decimal) -> None:
        """Set a symbol's price if none is known."""
        if self.price(symbol) is None:
            self._set_reported_price(symbol, price)
            self._value()

    def apply_split(self, symbol: str, ratio: Fraction) -> None:
        """Apply a split to a holding and its prices; the value stays until a reading reports a price."""
        if symbol in self.held:
            self._split.add(symbol)
            self.held[symbol] = self.held[symbol] * ratio.numerator / ratio.denominator
            for prices in (self._closes, self._reported_prices):
                if symbol in prices:
                    prices[symbol] = prices[symbol] * ratio.denominator / ratio.numerator
            self._value()

    def _set_reported_price(self, symbol: str, price: Decimal | None) -> None:
        if _is_price(price):
            self._reported_prices[symbol] = price

    def _value(self) -> None:
        # The worst case of each symbol, from the smallest and the largest quantity that it may reach.
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


def open_shares(kind: str, rest: Decimal, *, buy: bool) -> Decimal:
    """The open quantity of a reported order in signed shares, negative for a sale; 0 if it has ended."""
    if kind != OrderStatus.WORKING:
        return Decimal(0)
    return rest if buy else -rest


def _is_price(price: Decimal | None) -> TypeGuard[Decimal]:
    # 0 (an instrument that is not traded any more) is no price.
    return price is not None and price.is_finite() and price > 0


def _worth(shares: Decimal, price: Decimal) -> int:
    return atoms_of(max(shares, Decimal(0)) * price)
