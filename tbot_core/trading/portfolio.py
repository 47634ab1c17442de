"""Positions, cash and profit of a session, computed from its fills in exact integers.

Equity is counted in two independent ways: cash plus positions, and opening equity plus profit.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from operator import attrgetter
from typing import TYPE_CHECKING

import attrs

from tbot_core.model.types import (
    UNITS_PER_SHARE,
    ExitReason,
    Fill,
    Instrument,
    Leg,
    Side,
    SignalId,
    Trade,
    atoms_of,
    dollars_of,
    price_of,
    quantity_of,
    stock,
    ticks_of,
    units_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def _own_stock(position: Position) -> Instrument:
    return stock(position.signal.symbol)


@attrs.define(kw_only=True)
class Position:
    """The position of one signal: open `units`, entry and exit amounts in atoms, the last mark in ticks.

    `instrument` is what is held, at `side`: the signal's own stock by default. `mark` is a price of the instrument.
    `added_atoms` is the cost of top-ups; `entry_atoms` includes it.
    """

    signal: SignalId
    instrument: Instrument = attrs.field(default=attrs.Factory(_own_stock, takes_self=True))
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
    def symbol(self) -> str:
        """The symbol that is held."""
        return self.instrument.symbol

    @property
    def cost_atoms(self) -> int:
        """The entry cost of the open part: its exposure."""
        return self.entry_atoms * self.units // self.entry_units

    @property
    def entry_price(self) -> Decimal:
        """The average entry price, in dollars."""
        return _mean_price(self.entry_atoms, self.instrument.atoms(self.entry_units, 1))

    @property
    def target_atoms(self) -> int:
        """The target value: the entry cost without top-ups."""
        return self.entry_atoms - self.added_atoms

    @property
    def value_atoms(self) -> int:
        """The value of the open part at the last mark, negative for a short."""
        return self.side * self.instrument.atoms(self.units, self.mark)

    @property
    def unit_atoms(self) -> int:
        """The value of one unit at the last mark."""
        return self.instrument.atoms(1, self.mark)

    @property
    def pnl_atoms(self) -> int:
        """Realised and unrealised profit at the last mark, after fees."""
        held = self.units * self.mark * self.instrument.multiplier
        return self.side * (self.exit_atoms + held - self.entry_atoms) - self.fee_atoms

    @property
    def bought_atoms(self) -> int:
        """The amount paid for shares, with the fees of both sides."""
        return (self.entry_atoms if self.side is Side.LONG else self.exit_atoms) + self.fee_atoms

    @property
    def sold_atoms(self) -> int:
        """The amount received for shares, before fees."""
        return self.exit_atoms if self.side is Side.LONG else self.entry_atoms

    def to_trade(self, broker: str = "") -> Trade:
        """The closed position as a trade at `broker`; raises ValueError while it is open."""
        if self.units or self.exit_time is None or self.exit_reason is None:
            raise ValueError(f"{self.signal.text} is still open")
        return Trade(
            strategy=self.signal.strategy,
            instrument=self.instrument,
            side=self.side,
            quantity=quantity_of(self.entry_units),
            entry_time=self.entry_time,
            entry_price=self.entry_price,
            exit_time=self.exit_time,
            exit_price=_mean_price(self.exit_atoms, self.instrument.atoms(self.exit_units, 1)),
            fees=dollars_of(self.fee_atoms),
            pnl=dollars_of(self.pnl_atoms),
            exit_reason=self.exit_reason,
            broker=broker,
        )


@attrs.frozen(kw_only=True)
class CarriedPosition:
    """A position that a session could not close, carried into the next.

    `attempts` are the numbers of its previous orders by leg. `instrument` is what is held, None for the signal's own
    stock.
    """

    fill: Fill
    signal: SignalId
    attempts: Mapping[Leg, int]
    account: str
    broker: str = ""
    instrument: Instrument | None = None


@attrs.define(kw_only=True)
class Surplus:
    """A fill that belongs to no position, such as a late one: signed units, their price and last mark in ticks."""

    instrument: Instrument
    units: int
    price: int
    fee_atoms: int
    mark: int

    @property
    def symbol(self) -> str:
        """The symbol that was bought or sold."""
        return self.instrument.symbol

    @property
    def cost_atoms(self) -> int:
        """What its units cost, negative for sold ones."""
        return self.instrument.atoms(self.units, self.price)

    @property
    def value_atoms(self) -> int:
        """The value at the last mark, negative for sold units."""
        return self.instrument.atoms(self.units, self.mark)

    @property
    def pnl_atoms(self) -> int:
        """Profit at the last mark, after fees."""
        return self.value_atoms - self.cost_atoms - self.fee_atoms


@attrs.frozen(kw_only=True)
class _BookedFill:
    # A fill as it was booked; `ordered` is what its order trades, of which the fill may be something else.
    fill: Fill
    ordered: Instrument
    signal: SignalId | None
    leg: Leg
    reason: ExitReason | None

    @property
    def key(self) -> tuple[str, str]:
        """The key of the execution."""
        return self.fill.client_order_id, self.fill.execution_id

    @property
    def symbol(self) -> str:
        """The symbol."""
        return self.fill.symbol

    @property
    def instrument(self) -> Instrument:
        """What was filled."""
        return _filled(self.fill, self.ordered)

    @property
    def counts(self) -> bool:
        """Whether the execution is valid, not void."""
        return bool(self.fill.quantity)


@attrs.frozen
class _BookedSplit:
    # Each share of a symbol became `ratio` shares.
    symbol: str
    ratio: Fraction
    counts: bool = True


@attrs.define(kw_only=True)
class Portfolio:
    """One account in one session: its cash, open `positions` by their signals, and `closed` positions.

    A symbol is held by one signal, a fund by each signal that it stands for: its positions are the lots of the account.
    `surplus` holds fills beyond a signal's position: they are booked, and the caller must handle them.
    `session` is the session's date; None counts every position as opened today.
    """

    opening_atoms: int
    session: date | None = None
    cash_atoms: int = attrs.field(init=False)
    positions: dict[SignalId, Position] = attrs.field(factory=dict)
    closed: list[Position] = attrs.field(factory=list)
    surplus: list[Surplus] = attrs.field(factory=list)
    _booked: list[_BookedFill | _BookedSplit] = attrs.field(factory=list, eq=False, repr=False)
    _closed_pnl: dict[str, int] | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _cost: int | None = attrs.field(default=None, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.cash_atoms = self.opening_atoms

    @property
    def equity_atoms(self) -> int:
        """Cash and positions at the last marks."""
        held = sum(position.value_atoms for position in self.positions.values())
        return self.cash_atoms + held + sum(one.value_atoms for one in self.surplus)

    @property
    def pnl_atoms(self) -> int:
        """The session's realised and unrealised profit after fees, summed over positions, not from cash."""
        return sum(self.pnl_by_strategy.values())

    @property
    def pnl_by_strategy(self) -> dict[str, int]:
        """The same by strategy, that of surplus under ""; a strategy without a position is absent."""
        if self._closed_pnl is None:
            self._closed_pnl = _add_pnl({}, self.closed)
        found = _add_pnl(self._closed_pnl.copy(), self.positions.values())
        return found | {"": sum(one.pnl_atoms for one in self.surplus)} if self.surplus else found

    @property
    def cost_atoms(self) -> int:
        """The cost of all open positions, long and short alike: gross exposure."""
        if self._cost is None:
            surplus = sum(abs(one.cost_atoms) for one in self.surplus)
            self._cost = surplus + sum(position.cost_atoms for position in self.positions.values())
        return self._cost

    @property
    def paid_atoms(self) -> int:
        """The cost of the session's purchases, with all fees."""
        bought = sum(one.bought_atoms for one in (*self.positions.values(), *self.closed))
        return bought + sum(max(one.cost_atoms, 0) + one.fee_atoms for one in self.surplus)

    @property
    def received_atoms(self) -> int:
        """The proceeds of the session's sales, before fees."""
        sold = sum(one.sold_atoms for one in (*self.positions.values(), *self.closed))
        return sold + sum(max(-one.cost_atoms, 0) for one in self.surplus)

    @property
    def holdings(self) -> dict[str, int]:
        """Signed units by symbol that the account must hold: positions and surplus."""
        held: dict[str, int] = {}
        for position in self.positions.values():
            held[position.symbol] = held.get(position.symbol, 0) + position.side * position.units
        for one in self.surplus:
            held[one.symbol] = held.get(one.symbol, 0) + one.units
        return held

    @property
    def symbols(self) -> list[str]:
        """The symbols of the open positions, each once, sorted."""
        return sorted({position.symbol for position in self.positions.values()})

    @property
    def by_symbol(self) -> list[Position]:
        """The open positions in the order of their symbols, lots of a fund the earliest first."""
        return sorted(self.positions.values(), key=attrgetter("symbol"))

    def in_symbol(self, symbol: str) -> list[Position]:
        """The open positions in a symbol, the earliest first: one, or the lots of a fund."""
        return [position for position in self.positions.values() if position.symbol == symbol]

    @property
    def unassigned_units(self) -> dict[str, int]:
        """Signed units of surplus by symbol."""
        units: dict[str, int] = {}
        for one in self.surplus:
            units[one.symbol] = units.get(one.symbol, 0) + one.units
        return {symbol: count for symbol, count in units.items() if count}

    def count_opened_today(self, positions: Iterable[Position]) -> int:
        """How many of these positions were opened in this session, not carried from an earlier one."""
        return sum(self.session in {None, one.signal.session} for one in positions)

    def apply(
        self,
        fill: Fill,
        signal: SignalId | None,
        leg: Leg,
        reason: ExitReason | None = None,
        *,
        ordered: Instrument | None = None,
    ) -> Position | None:
        """Book a fill of a signal's order; returns its position, which may be closed by it.

        `ordered` is what the order trades; None for the stock that was filled.

        The part of a fill beyond the signal's position is booked as surplus, so that a position never crosses zero.
        None: the whole fill is surplus, because the signal has no position to close, another signal holds the symbol
        (but for lots of a fund), or the fill has no signal (it is not what was ordered).
        An entry fill that arrives after the fills that closed it is booked before them.
        """
        ordered = stock(fill.symbol) if ordered is None else ordered
        booked = _BookedFill(fill=fill, ordered=ordered, signal=signal, leg=leg, reason=reason)
        self._forget_sums()
        self.cash_atoms -= _cash_spent(fill, ordered)
        place = self._earlier_place(booked, self._booked)
        self._booked.append(booked)
        if place is None:
            return self._book(booked)
        self._rebook(fill.symbol)
        open_now = None if signal is None else self.positions.get(signal)
        return open_now or next((one for one in self.closed if one.signal == signal), None)

    def apply_split(self, symbol: str, ratio: Fraction) -> None:
        """Book a split: each share becomes `ratio` shares, the total cost stays."""
        self._forget_sums()
        self._booked.append(_BookedSplit(symbol, ratio))
        self._split_units(symbol, ratio)

    def correct_fill(self, fill: Fill, signal: SignalId | None) -> Fill | None:
        """Correct a booked execution (quantity 0: it is void); returns the old fill, None if it was never booked.

        Positions, trades and surplus of its symbols are recomputed as if it had always had these terms. `signal` is
        None if the fill is not what was ordered.
        """
        key = (fill.client_order_id, fill.execution_id)
        found = ((at, one) for at, one in enumerate(self._booked) if isinstance(one, _BookedFill) and one.key == key)
        at, booked = next(found, (0, None))
        if booked is None:
            return None
        was = booked.fill
        self._booked[at] = attrs.evolve(booked, fill=fill, signal=signal)
        self._forget_sums()
        self.cash_atoms += _cash_spent(was, booked.ordered) - _cash_spent(fill, booked.ordered)
        for symbol in sorted({was.symbol, fill.symbol}):
            self._rebook(symbol)
        return was

    def _forget_sums(self) -> None:
        # The profit of closed positions and the cost of open ones change only when something is booked.
        self._closed_pnl = self._cost = None

    def _earlier_place(
        self, step: _BookedFill | _BookedSplit, before: Sequence[_BookedFill | _BookedSplit]
    ) -> int | None:
        # The index of the first closing fill of the signal, if `step` is an entry that arrived after its closing fills.
        if isinstance(step, _BookedSplit) or step.leg is not Leg.ENTRY or step.signal is None:
            return None
        if step.signal in self.positions or self._is_taken(step):
            return None
        if self.unassigned_units.get(step.fill.symbol, 0) * (1 if step.fill.buy else -1) >= 0:
            return None
        closing = (
            at
            for at, one in enumerate(before)
            if isinstance(one, _BookedFill) and one.signal == step.signal and one.leg is not Leg.ENTRY
        )
        return next(closing, None)

    def _rebook(self, symbol: str) -> None:
        # Book all of a symbol's fills again in the order of arrival, except entries that arrived too late.
        marks, placed = self._marks_in(symbol), list[_BookedFill | _BookedSplit]()
        self._clear(symbol)
        for step in (one for one in self._booked if one.symbol == symbol and one.counts):
            at = self._earlier_place(step, placed)
            placed.insert(len(placed) if at is None else at, step)
            if at is not None:
                self._clear(symbol)
            for one in [step] if at is None else placed:
                self._book(one) if isinstance(one, _BookedFill) else self._split_units(symbol, one.ratio)
        self.closed.sort(key=lambda one: one.exit_time or one.entry_time)
        for position in self.in_symbol(symbol):
            position.mark = marks.get(position.signal, position.mark)

    def _marks_in(self, symbol: str) -> dict[SignalId, int]:
        return {position.signal: position.mark for position in self.in_symbol(symbol)}

    def _clear(self, symbol: str) -> None:
        for position in self.in_symbol(symbol):
            del self.positions[position.signal]
        self.closed = [one for one in self.closed if one.symbol != symbol]
        self.surplus = [one for one in self.surplus if one.symbol != symbol]

    def _book(self, booked: _BookedFill) -> Position | None:
        fill, signal, leg, reason = booked.fill, booked.signal, booked.leg, booked.reason
        units, ticks, fees = units_of(fill.quantity), ticks_of(float(fill.price)), atoms_of(fill.fees)
        instrument = booked.instrument
        signed = units if fill.buy else -units
        position = None if signal is None else self.positions.get(signal)
        barred = self._is_taken(booked) if leg is Leg.ENTRY else (position is None or position.side * signed > 0)
        if signal is None or barred:
            self.surplus.append(Surplus(instrument=instrument, units=signed, price=ticks, fee_atoms=fees, mark=ticks))
            return None
        added = reason is ExitReason.REBALANCE and position is not None  # without a position it is an entry
        if position is None:
            side = Side.LONG if fill.buy else Side.SHORT
            position = Position(signal=signal, instrument=instrument, side=side, entry_time=fill.time)
            self.positions[signal] = position
        if leg is Leg.ENTRY:
            position.added_atoms += instrument.atoms(units, ticks) if added else 0
            position.units += units
            position.entry_units += units
            position.entry_atoms += instrument.atoms(units, ticks)
        else:
            closed = min(units, position.units)
            if units > closed:
                beyond = signed - closed if fill.buy else signed + closed
                self.surplus.append(Surplus(instrument=instrument, units=beyond, price=ticks, fee_atoms=0, mark=ticks))
            self._reduce(position, closed, instrument.atoms(closed, ticks))
            position.exit_time = fill.time
            if reason is not ExitReason.REBALANCE or position.exit_reason is None:
                position.exit_reason = reason  # a trim is not the reason even if its fill comes last
        position.fee_atoms += fees
        position.mark = ticks
        return position

    def _is_taken(self, booked: _BookedFill) -> bool:
        # Whether another signal holds the symbol, so that an entry cannot open a position; lots of a fund are beside
        # each other.
        return any(
            position.signal != booked.signal and not (position.instrument.is_shared and booked.instrument.is_shared)
            for position in self.in_symbol(booked.symbol)
        )

    def _split_units(self, symbol: str, ratio: Fraction) -> None:
        for position in self.in_symbol(symbol):
            position.units = int(position.units * ratio)
            position.entry_units = int(position.entry_units * ratio)
            position.exit_units = position.entry_units - position.units
            position.mark = round(position.mark / ratio)
        for one in self.surplus:
            if one.symbol == symbol:
                one.units = int(one.units * ratio)
                one.price, one.mark = round(one.price / ratio), round(one.mark / ratio)

    def mark(self, symbol: str, ticks: int) -> None:
        """Set the last mark of the positions in a symbol, in ticks."""
        for position in self.in_symbol(symbol):
            position.mark = ticks

    def _reduce(self, position: Position, units: int, atoms: int) -> None:
        position.units -= units
        position.exit_units += units
        position.exit_atoms += atoms
        if not position.units:
            del self.positions[position.signal]
            self.closed.append(position)


def _add_pnl(found: dict[str, int], positions: Iterable[Position]) -> dict[str, int]:
    for position in positions:
        strategy = position.signal.strategy
        found[strategy] = found.get(strategy, 0) + position.pnl_atoms
    return found


def _filled(fill: Fill, ordered: Instrument) -> Instrument:
    # What a fill is of: another symbol than the ordered one is taken for a stock.
    return ordered if fill.symbol == ordered.symbol else stock(fill.symbol)


def _cash_spent(fill: Fill, ordered: Instrument) -> int:
    # The cash that a fill costs, in atoms, negative for a sale; 0 if it is void.
    units = units_of(fill.quantity)
    signed = units if fill.buy else -units
    worth = _filled(fill, ordered).atoms(signed, ticks_of(float(fill.price)))
    return worth + atoms_of(fill.fees) if units else 0


def _mean_price(atoms: int, units: int) -> Decimal:
    # Four decimals where the average is a whole tick, else up to ten, rounded half up: with these, quantity x
    # (exit - entry) is the profit before fees to the cent, for up to 40 million shares.
    ticks, rest = divmod(atoms, units)
    if not rest:
        return price_of(ticks)
    found = Decimal((2 * atoms * UNITS_PER_SHARE + units) // (2 * units)).scaleb(-10)
    tick = found.quantize(Decimal("0.0001"))
    return tick if found == tick else found.normalize()
