"""The paper account's books: cash and positions in exact atoms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts import PositionReport
from tbot_core.model.types import atoms_of, dollars_of, price_of, quantity_of, ticks_of, units_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.types import Fill


class Book:
    """Cash and signed positions after each fill, valued at the last seen prices."""

    def __init__(self, cash: Decimal, positions: Mapping[str, tuple[int, int]] | None = None) -> None:
        """Start with this cash, dollars, and positions: signed units and the last price in ticks, by symbol."""
        self._cash = atoms_of(cash)
        self._units = {symbol: units for symbol, (units, _) in (positions or {}).items()}
        self._last = {symbol: ticks for symbol, (_, ticks) in (positions or {}).items()}

    @property
    def cash(self) -> Decimal:
        """Dollars, including the proceeds of short sales."""
        return dollars_of(self._cash)

    @property
    def equity(self) -> Decimal:
        """Cash and positions at their last prices, dollars."""
        return dollars_of(self._cash + sum(units * self._last[symbol] for symbol, units in self._units.items()))

    @property
    def gross(self) -> Decimal:
        """The absolute value of all positions, dollars."""
        return dollars_of(sum(abs(units) * self._last[symbol] for symbol, units in self._units.items()))

    @property
    def positions(self) -> dict[str, tuple[int, int]]:
        """Signed units and the last price in ticks, by symbol."""
        return {symbol: (units, self._last[symbol]) for symbol, units in self._units.items()}

    def last_ticks(self, symbol: str) -> int:
        """The last price of a held symbol in ticks; raises KeyError for another one."""
        return self._last[symbol]

    @property
    def holdings(self) -> tuple[PositionReport, ...]:
        """Positions by symbol; short ones are negative."""
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
