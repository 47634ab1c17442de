"""Positions, cash and profit of a session, as a projection of its fills. Exact integers inside.

cash + positions = equity holds by two independent ways of counting: what was paid, and what was gained.
"""

from __future__ import annotations

from datetime import date, datetime
from fractions import Fraction
from typing import TYPE_CHECKING

import attrs

from tbot_core.model.types import (
    ExitReason,
    Fill,
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
    from collections.abc import Iterable, Sequence
    from decimal import Decimal


@attrs.define(kw_only=True)
class Position:
    """What one signal's fills have made: open `units`, what was paid and received in atoms, the last mark in ticks.

    `added_atoms`: what top-ups have cost, which is in `entry_atoms` too.
    """

    signal: SignalId
    side: Side
    entry_time: datetime
    units: int = 0
    entry_units: int = 0
    entry_atoms: int = 0
    added_atoms: int = 0
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
    def target_atoms(self) -> int:
        """What it should be worth: what its entry cost, without what was added since."""
        return self.entry_atoms - self.added_atoms

    @property
    def value_atoms(self) -> int:
        """The open part at the last mark, negative for a short."""
        return self.side * self.units * self.mark

    @property
    def pnl_atoms(self) -> int:
        """Realised and unrealised profit at the last mark, after fees."""
        return self.side * (self.exit_atoms + self.units * self.mark - self.entry_atoms) - self.fee_atoms

    @property
    def bought_atoms(self) -> int:
        """What was paid for shares, with the fees of both sides."""
        return (self.entry_atoms if self.side is Side.LONG else self.exit_atoms) + self.fee_atoms

    @property
    def sold_atoms(self) -> int:
        """What was received for shares, before fees."""
        return self.exit_atoms if self.side is Side.LONG else self.entry_atoms

    def to_trade(self, broker: str = "") -> Trade:
        """The closed position, as a trade at that broker; raises ValueError while it is open."""
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
            broker=broker,
        )


@attrs.define(kw_only=True)
class Surplus:
    """A fill that no position accounts for, such as a late one: signed units, what they cost, and their last mark."""

    symbol: str
    units: int
    price: int
    fee_atoms: int
    mark: int

    @property
    def pnl_atoms(self) -> int:
        """Profit at the last mark, after fees."""
        return self.units * (self.mark - self.price) - self.fee_atoms


@attrs.frozen(kw_only=True)
class _Done:
    # A fill as it was applied.
    fill: Fill
    signal: SignalId | None
    leg: Leg
    reason: ExitReason | None

    @property
    def key(self) -> tuple[str, str]:
        """The execution that it was."""
        return self.fill.client_order_id, self.fill.execution_id

    @property
    def symbol(self) -> str:
        """What was traded."""
        return self.fill.symbol

    @property
    def counts(self) -> bool:
        """Whether it is not void."""
        return bool(self.fill.quantity)


@attrs.frozen
class _Split:
    # Every share of a symbol became so many.
    symbol: str
    ratio: Fraction
    counts: bool = True


@attrs.define(kw_only=True)
class Portfolio:
    """One account in one session: `cash_atoms` follows each fill, `positions` are those held, `closed` those done.

    `surplus` holds fills beyond what a signal held: the truth is booked, whoever drives the portfolio must act on it.
    `session` is its date, None where nothing is asked that hangs on it.
    """

    opening_atoms: int
    session: date | None = None
    cash_atoms: int = attrs.field(init=False)
    positions: dict[str, Position] = attrs.field(factory=dict)
    closed: list[Position] = attrs.field(factory=list)
    surplus: list[Surplus] = attrs.field(factory=list)
    _done: list[_Done | _Split] = attrs.field(factory=list, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.cash_atoms = self.opening_atoms

    @property
    def equity_atoms(self) -> int:
        """Cash and positions at their last marks."""
        held = sum(position.value_atoms for position in self.positions.values())
        return self.cash_atoms + held + sum(one.units * one.mark for one in self.surplus)

    @property
    def pnl_atoms(self) -> int:
        """The session's profit, realised and not, after fees: counted by trade, not from cash."""
        traded = sum(position.pnl_atoms for position in (*self.positions.values(), *self.closed))
        return traded + sum(one.pnl_atoms for one in self.surplus)

    @property
    def cost_atoms(self) -> int:
        """The sum of what the open positions cost, long and short alike: gross exposure."""
        held = sum(position.cost_atoms for position in self.positions.values())
        return held + sum(abs(one.units) * one.price for one in self.surplus)

    @property
    def paid_atoms(self) -> int:
        """What the session's purchases have cost so far, with all fees."""
        bought = sum(one.bought_atoms for one in (*self.positions.values(), *self.closed))
        return bought + sum(max(one.units, 0) * one.price + one.fee_atoms for one in self.surplus)

    @property
    def received_atoms(self) -> int:
        """What the session's sales have brought so far, before fees."""
        sold = sum(one.sold_atoms for one in (*self.positions.values(), *self.closed))
        return sold + sum(max(-one.units, 0) * one.price for one in self.surplus)

    @property
    def holdings(self) -> dict[str, int]:
        """Signed units by symbol, as the account must hold them: positions, and fills that no position accounts for."""
        held = {symbol: position.side * position.units for symbol, position in self.positions.items()}
        for one in self.surplus:
            held[one.symbol] = held.get(one.symbol, 0) + one.units
        return held

    @property
    def unassigned_units(self) -> dict[str, int]:
        """Signed units by symbol of what is held and no position accounts for."""
        units: dict[str, int] = {}
        for one in self.surplus:
            units[one.symbol] = units.get(one.symbol, 0) + one.units
        return {symbol: count for symbol, count in units.items() if count}

    def count_opened_today(self, positions: Iterable[Position]) -> int:
        """How many of these were opened in this session, and not left over from one before it."""
        return sum(self.session in {None, one.signal.session} for one in positions)

    def apply(self, fill: Fill, signal: SignalId | None, leg: Leg, reason: ExitReason | None = None) -> Position | None:
        """Book a fill of a signal's order; returns the position, closed when nothing of it is left.

        What a fill says beyond what the signal holds is booked as surplus, so that a position never crosses zero: it is
        closed. None: the signal holds nothing that it could close, or the symbol is another signal's: all is surplus.
        So is a fill without a signal: it is not of what was ordered.
        An entry that is told after what closed it takes its place before that, and may be closed at once.
        """
        done = _Done(fill=fill, signal=signal, leg=leg, reason=reason)
        self.cash_atoms -= _paid(fill)
        overtaken = self._overtaken(done, self._done)
        self._done.append(done)
        if overtaken is None:
            return self._place(done)
        self._place_again(fill.symbol)
        closed = (one for one in self.closed if one.signal == signal)
        return self.positions.get(fill.symbol) or next(closed, None)

    def apply_split(self, symbol: str, ratio: Fraction) -> None:
        """Every share of a symbol became so many: what is held cost the same in all."""
        self._done.append(_Split(symbol, ratio))
        self._divide(symbol, ratio)

    def correct_fill(self, fill: Fill, signal: SignalId | None) -> Fill | None:
        """An execution had these terms (quantity 0: it is void); returns what it was, None for one never applied.

        Positions, trades and surplus of its symbols are what they would have been had it been so from the beginning.
        Like one that is applied it belongs to a signal, or was not of what was ordered.
        """
        key = (fill.client_order_id, fill.execution_id)
        found = ((at, one) for at, one in enumerate(self._done) if isinstance(one, _Done) and one.key == key)
        at, done = next(found, (0, None))
        if done is None:
            return None
        was = done.fill
        self._done[at] = attrs.evolve(done, fill=fill, signal=signal)
        self.cash_atoms += _paid(was) - _paid(fill)
        for symbol in sorted({was.symbol, fill.symbol}):
            self._place_again(symbol)
        return was

    def _overtaken(self, step: _Done | _Split, before: Sequence[_Done | _Split]) -> int | None:
        # The place of the first fill that closed more of a signal than was held, where this is an entry of it.
        if isinstance(step, _Split) or step.leg is not Leg.ENTRY or step.fill.symbol in self.positions:
            return None
        if step.signal is None:
            return None
        if self.unassigned_units.get(step.fill.symbol, 0) * (1 if step.fill.buy else -1) >= 0:
            return None
        closing = (
            at
            for at, one in enumerate(before)
            if isinstance(one, _Done) and one.signal == step.signal and one.leg is not Leg.ENTRY
        )
        return next(closing, None)

    def _place_again(self, symbol: str) -> None:
        # Place all of a symbol's fills, in the order in which they were told, but for entries that came too late.
        held, placed = self.positions.get(symbol), list[_Done | _Split]()
        self._clear(symbol)
        for step in (one for one in self._done if one.symbol == symbol and one.counts):
            at = self._overtaken(step, placed)
            placed.insert(len(placed) if at is None else at, step)
            if at is not None:
                self._clear(symbol)
            for one in [step] if at is None else placed:
                self._place(one) if isinstance(one, _Done) else self._divide(symbol, one.ratio)
        self.closed.sort(key=lambda one: one.exit_time or one.entry_time)
        if held is not None and symbol in self.positions:
            self.positions[symbol].mark = held.mark

    def _clear(self, symbol: str) -> None:
        self.positions.pop(symbol, None)
        self.closed = [one for one in self.closed if one.signal.symbol != symbol]
        self.surplus = [one for one in self.surplus if one.symbol != symbol]

    def _place(self, done: _Done) -> Position | None:
        fill, signal, leg, reason = done.fill, done.signal, done.leg, done.reason
        units, ticks, fees = units_of(fill.quantity), ticks_of(float(fill.price)), atoms_of(fill.fees)
        signed = units if fill.buy else -units
        position = self.positions.get(fill.symbol)
        other = position is not None and position.signal != signal
        if signal is None or other or (leg is not Leg.ENTRY and (position is None or position.side * signed > 0)):
            self.surplus.append(Surplus(symbol=fill.symbol, units=signed, price=ticks, fee_atoms=fees, mark=ticks))
            return None
        added = reason is ExitReason.REBALANCE and position is not None  # one that came too late is an entry by itself
        if position is None:
            position = Position(signal=signal, side=Side.LONG if fill.buy else Side.SHORT, entry_time=fill.time)
            self.positions[fill.symbol] = position
        if leg is Leg.ENTRY:
            position.added_atoms += units * ticks if added else 0
            position.units += units
            position.entry_units += units
            position.entry_atoms += units * ticks
        else:
            closed = min(units, position.units)
            if units > closed:
                beyond = signed - closed if fill.buy else signed + closed
                self.surplus.append(Surplus(symbol=fill.symbol, units=beyond, price=ticks, fee_atoms=0, mark=ticks))
            self._reduce(position, closed, closed * ticks)
            position.exit_time = fill.time
            if reason is not ExitReason.REBALANCE or position.exit_reason is None:
                position.exit_reason = reason  # a trim whose fill comes last has not closed the position
        position.fee_atoms += fees
        position.mark = ticks
        return position

    def _divide(self, symbol: str, ratio: Fraction) -> None:
        position = self.positions.get(symbol)
        if position is not None:
            position.units = int(position.units * ratio)
            position.entry_units = int(position.entry_units * ratio)
            position.exit_units = position.entry_units - position.units
            position.mark = round(position.mark / ratio)
        for one in self.surplus:
            if one.symbol == symbol:
                one.units = int(one.units * ratio)
                one.price, one.mark = round(one.price / ratio), round(one.mark / ratio)

    def mark(self, symbol: str, ticks: int) -> None:
        """Value a position at a price."""
        self.positions[symbol].mark = ticks

    def _reduce(self, position: Position, units: int, atoms: int) -> None:
        position.units -= units
        position.exit_units += units
        position.exit_atoms += atoms
        if not position.units:
            del self.positions[position.signal.symbol]
            self.closed.append(position)


def _paid(fill: Fill) -> int:
    # What a fill takes out of cash, atoms; nothing for one that is void.
    units = units_of(fill.quantity)
    signed = units if fill.buy else -units
    return signed * ticks_of(float(fill.price)) + atoms_of(fill.fees) if units else 0


def _mean_price(atoms: int, units: int) -> Decimal:
    # Rounded half up to a tick.
    return price_of((2 * atoms + units) // (2 * units))
