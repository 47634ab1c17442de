"""The books of the paper account: cash and positions, exact in atoms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts import PositionReport
from tbot_core.model.types import atoms_of, dollars_of, price_of, quantity_of, ticks_of, units_of

if TYPE_CHECKING:
    from decimal import Decimal

    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.types import Fill


class Book:
    """Cash and signed positions, valued at the last prices."""

    def __init__(self, cash: Decimal) -> None:
        """Start without positions; `cash` is in dollars."""
        self._cash = atoms_of(cash)
        self._units: dict[str, int] = {}
        self._last: dict[str, int] = {}

    @property
    def cash(self) -> Decimal:
        """Cash in dollars, with the proceeds of short sales."""
        return dollars_of(self._cash)

    @property
    def equity(self) -> Decimal:
        """Cash and positions at their last prices, in dollars."""
        return dollars_of(self._cash + sum(units * self._last[symbol] for symbol, units in self._units.items()))

    @property
    def gross(self) -> Decimal:
        """Gross value of all positions, in dollars."""
        return dollars_of(sum(abs(units) * self._last[symbol] for symbol, units in self._units.items()))

    @property
    def holdings(self) -> tuple[PositionReport, ...]:
        """The positions, by symbol; short ones are negative."""
        return tuple(
            PositionReport(symbol=symbol, quantity=side * quantity_of(abs(units)), price=price_of(self._last[symbol]))
            for symbol, units in sorted(self._units.items())
            for side in (1 if units > 0 else -1,)
        )

    def book(self, fill: Fill) -> None:
        """Book a fill; its price is the symbol's last price until a bar closes."""
        units, ticks = units_of(fill.quantity) * (1 if fill.buy else -1), ticks_of(float(fill.price))
        self._cash -= units * ticks + atoms_of(fill.fees)
        held = self._units.pop(fill.symbol, 0) + units
        self._last[fill.symbol] = ticks
        if held:
            self._units[fill.symbol] = held

    def mark(self, symbols: tuple[str, ...], minute: MinuteSlice) -> None:
        """Value the positions at the minute's closes; a symbol without a bar keeps its last price."""
        if not self._units:
            return
        for symbol, close in zip(symbols, minute.close.tolist(), strict=True):
            if symbol in self._units and close == close:  # noqa: PLR0124  NaN: no bar in this minute
                self._last[symbol] = ticks_of(close)
