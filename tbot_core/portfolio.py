"""Positions, cash and profit of a session, as a projection of its fills. Exact integers inside.

cash + positions = equity holds by two independent ways of counting: what was paid, and what was gained.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import attrs

from tbot_core.model import (
    ExitReason,
    Leg,
    Side,
    SignalId,
    Trade,
    atoms_of,
    dollars_of,
    price_of,
    quantity_of,
    ticks_of,
    units_of,
)

if TYPE_CHECKING:
    from decimal import Decimal

    from tbot_core.model import Fill


@attrs.define(kw_only=True)
class Position:
    """What one signal's fills have made: open `units`, what was paid and received in atoms, the last mark in ticks."""

    signal: SignalId
    side: Side
    entry_time: datetime
    units: int = 0
    entry_units: int = 0
    entry_atoms: int = 0
    exit_units: int = 0
    exit_atoms: int = 0
    fee_atoms: int = 0
    mark: int = 0
    exit_time: datetime | None = None
    exit_reason: ExitReason | None = None

    @property
    def cost_atoms(self) -> int:
        """What the open part cost at entry: its exposure."""
        return self.entry_atoms * self.units // self.entry_units

    @property
    def value_atoms(self) -> int:
        """The open part at the last mark, negative for a short."""
        return self.side * self.units * self.mark

    @property
    def pnl_atoms(self) -> int:
        """Realised and unrealised profit at the last mark, after fees."""
        return self.side * (self.exit_atoms + self.units * self.mark - self.entry_atoms) - self.fee_atoms

    def trade(self) -> Trade:
        """The closed position; raises ValueError while it is open."""
        if self.units or self.exit_time is None or self.exit_reason is None:
            raise ValueError(f"{self.signal.text} is still open")
        return Trade(
            strategy=self.signal.strategy,
            symbol=self.signal.symbol,
            side=self.side,
            quantity=quantity_of(self.entry_units),
            entry_time=self.entry_time,
            entry_price=_mean_price(self.entry_atoms, self.entry_units),
            exit_time=self.exit_time,
            exit_price=_mean_price(self.exit_atoms, self.exit_units),
            fees=dollars_of(self.fee_atoms),
            pnl=dollars_of(self.pnl_atoms),
            exit_reason=self.exit_reason,
        )


@attrs.define(kw_only=True)
class Portfolio:
    """One account in one session: `cash_atoms` follows each fill, `positions` are those held, `closed` those done."""

    opening_atoms: int
    cash_atoms: int = attrs.field(init=False)
    positions: dict[str, Position] = attrs.field(factory=dict)
    closed: list[Position] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.cash_atoms = self.opening_atoms

    @property
    def equity_atoms(self) -> int:
        """Cash and positions at their last marks."""
        return self.cash_atoms + sum(position.value_atoms for position in self.positions.values())

    @property
    def pnl_atoms(self) -> int:
        """The session's profit, realised and not, after fees: counted by trade, not from cash."""
        return sum(position.pnl_atoms for position in (*self.positions.values(), *self.closed))

    @property
    def cost_atoms(self) -> int:
        """The sum of what the open positions cost, long and short alike: gross exposure."""
        return sum(position.cost_atoms for position in self.positions.values())

    def apply(self, fill: Fill, signal: SignalId, leg: Leg, reason: ExitReason | None = None) -> Position:
        """Book a fill of a signal's order; returns the position, closed when nothing of it is left.

        An exit beyond what is held raises ValueError: flattening never crosses zero.
        """
        units, ticks, fees = units_of(fill.quantity), ticks_of(float(fill.price)), atoms_of(fill.fees)
        if leg is Leg.ENTRY:
            position = self.positions.get(fill.symbol)
            if position is None:
                side = Side.LONG if fill.buy else Side.SHORT
                position = Position(signal=signal, side=side, entry_time=fill.time)
                self.positions[fill.symbol] = position
            position.units += units
            position.entry_units += units
            position.entry_atoms += units * ticks
        else:
            position = self._reduce(fill, units, ticks, reason)
        self.cash_atoms -= (1 if fill.buy else -1) * units * ticks + fees
        position.fee_atoms += fees
        position.mark = ticks
        return position

    def mark(self, symbol: str, ticks: int) -> None:
        """Value a position at a price."""
        self.positions[symbol].mark = ticks

    def _reduce(self, fill: Fill, units: int, ticks: int, reason: ExitReason | None) -> Position:
        position = self.positions.get(fill.symbol)
        if position is None or units > position.units:
            held = quantity_of(position.units) if position else 0
            raise ValueError(f"{fill.symbol}: an exit of {fill.quantity} where {held} are held")
        position.units -= units
        position.exit_units += units
        position.exit_atoms += units * ticks
        position.exit_time = fill.time
        position.exit_reason = reason
        if not position.units:
            del self.positions[fill.symbol]
            self.closed.append(position)
        return position


def _mean_price(atoms: int, units: int) -> Decimal:
    """Rounded half up to a tick."""
    return price_of((2 * atoms + units) // (2 * units))
