"""The fast gear of a backtest: a session's decisions in integers, only at its signals, with the whole risk gate.

What a candidate becomes is resolved before, so that counts, amounts and quantities are left. The gear is used where it
proves that no minute between the signals matters; else it says why, and the session is walked minute by minute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import attrs

from tbot_core.engine.backtest.candidates import Candidate, Candidates
from tbot_core.engine.backtest.resolve import LEGS
from tbot_core.engine.backtest.session_walk import BacktestTerms
from tbot_core.model.reasons import Reason
from tbot_core.model.types import ATOMS_PER_CENT, UNITS_PER_SHARE, Leg, OrderType, Side
from tbot_core.trading.risk.account import buying_power
from tbot_core.trading.risk.exposure import DEVIATIONS
from tbot_core.trading.risk.limits import Limits, first_over, symbol_denial
from tbot_core.trading.risk.sizing import Sizer, units_for
from tbot_core.trading.slippage import slipped_price

if TYPE_CHECKING:
    from tbot_core.model.bars import Bars

_LONG: Final = int(Side.LONG)


class StepNeeded(Exception):
    """A minute between the session's signals may matter; the text is the cause."""


class GlideFill(NamedTuple):
    """A closed position: its candidate and place, units, prices in ticks after slippage, fees and profit in atoms."""

    one: Candidate
    place: int
    units: int
    paid: int
    got: int
    fee_atoms: int
    pnl_atoms: int


@attrs.frozen(kw_only=True, eq=False)
class GlideResult:
    """A session's closed positions in the order of their closing, its equity, and a code for each denial.

    `allowed` are the candidates whose entries were sent, filled or not.
    """

    fills: Sequence[GlideFill]
    allowed: Sequence[Candidate]
    denials: Sequence[int]
    equity_atoms: int


# An entry: its symbol's row; the minute until which it works, at its worst case and buying power; and that until which
# it is held, at its cost.
_Entry: TypeAlias = tuple[int, int, int, int, int, int]


class _Book:
    # What the risk gate compares, at a minute: counts, exposure, and the buying power of positions and entries.
    def __init__(self, limits: Limits, granted: int, *, once_a_day: bool) -> None:
        self.limits, self.sent = limits, dict[int, int]()
        self._granted, self._once = granted, once_a_day
        self._entries: list[_Entry] = []
        self._busy, self._entered = set[int](), dict[int, int]()
        self._minute = self._rate = -1
        self._gross = self._working = self._cost = 0

    def advance(self, minute: int) -> None:
        """Apply the fills and ends of entries up to a minute."""
        if minute == self._minute:
            return
        self._minute, self._rate, entries = minute, 0, self._entries
        self._entries, self._busy = list[_Entry](), set[int]()
        self._cost = worst = self._working = 0
        for one in entries:
            row, starts, ends, most, power, cost = one
            if ends <= minute:
                continue
            self._entries.append(one)
            self._busy.add(row)
            if starts <= minute:
                self._cost += cost
            else:
                worst += most
                self._working += power
        self._gross = self._cost + worst

    def denial(self, row: int, rank: int) -> Reason | None:
        """Why no entry may be sized."""
        traded = self._once and self._entered.get(row, self._minute + 1) <= self._minute
        if (reason := symbol_denial(busy=row in self._busy, traded=traded)) is not None:
            return reason
        for code, used, most in self.limits.counts(self.sent.get(rank, 0), len(self._entries), self._rate):
            if used >= most:
                return code
        return None

    def denial_of(self, worst: int, power: int) -> Reason | None:
        """Why an entry of this worst case and buying power is denied."""
        limits, cost = self.limits, self._cost
        allowed = limits.buying_power(cost, cost, self._granted)
        over = first_over(limits.amounts((worst, power), (0, 0, self._gross, self._working, allowed)))
        return None if over is None else over[0]

    def enter(self, rank: int, entry: _Entry, *, filled: bool) -> None:
        """Record an entry."""
        row, starts, _, worst, power, _ = entry
        self.sent[rank] = self.sent.get(rank, 0) + 1
        self._rate += 1
        self._entries.append(entry)
        self._busy.add(row)
        self._gross += worst
        self._working += power
        if filled:
            self._entered[row] = min(starts, self._entered.get(row, starts))


@attrs.frozen(kw_only=True, eq=False)
class GlideTerms:
    """What the sessions of a run share; `never` is why none of them can be glided, "" if they may be."""

    terms: BacktestTerms
    market: bool
    steps: Mapping[int, int]
    slips: bool
    funds: frozenset[str]
    never: str

    @classmethod
    def of(cls, terms: BacktestTerms) -> GlideTerms:
        """Of a backtest."""
        rules = terms.rules
        kind = OrderType(rules.entries.entry_order_type)
        sizer = Sizer(entries=rules.entries, rules=rules.venue, price_band=rules.risk.price_band_pct)
        causes = {"a plugin's risk check": terms.checks, "DISABLE_ALL_TRADES": rules.risk.disable_all_trades}
        return cls(
            terms=terms,
            market=kind is OrderType.MARKET,
            steps={int(side): sizer.step(kind, side) for side in Side},
            slips=terms.costs.slippage.kind != "none",
            funds=frozenset(symbol for members in rules.indices.values() for symbol in members),
            never=next((cause for cause, present in causes.items() if present), ""),
        )


def glide(shared: GlideTerms, found: Candidates, index: int, bars: Bars, equity_atoms: int) -> GlideResult:
    """Trade a session of a block; raises StepNeeded where a minute between its signals may matter.

    `index` is the session's position in the block, `bars` are the block's.
    """
    if not found.session(index):
        return GlideResult(fills=(), allowed=(), denials=(), equity_atoms=equity_atoms)
    if shared.never:
        raise StepNeeded(shared.never)
    return _Glide(shared, found, (index, bars), equity_atoms).result()


class _Glide:
    # One session.
    def __init__(self, shared: GlideTerms, found: Candidates, market: tuple[int, Bars], equity_atoms: int) -> None:
        rules, self._found, (self._index, self._bars) = shared.terms.rules, found, market
        self._shared, self._rules, self._costs, self._equity = shared, rules, shared.terms.costs, equity_atoms
        self._limits = Limits.of(rules.risk, equity_atoms, defense=rules.risk.defense_mode_active)
        granted = buying_power(equity_atoms)
        self._book = _Book(self._limits, granted, once_a_day=rules.entries.one_trade_per_symbol_per_day)
        self._fills, self._allowed = list[GlideFill](), list[Candidate]()
        self._session_bars: Bars | None = None

    def result(self) -> GlideResult:
        """Decide the candidates in their order."""
        book, denials = self._book, list[int]()
        last = self._bars.minutes - self._rules.exits.flatten_before_close - 1
        for one in self._found.session(self._index):
            reason: int | None = one.code
            if not reason and one.minute >= last:
                reason = Reason.FLATTENING
            if not reason:
                book.advance(one.minute)
                reason = book.denial(one.row, one.rank) or self._size(one)
            if reason:
                denials.append(reason)
        self._prove()
        denials += [Reason.ENTRY_NOT_FILLED] * (len(self._allowed) - len(self._fills))
        fills = sorted(self._fills, key=_order_of_closing)
        equity = self._equity + sum([one.pnl_atoms for one in fills])
        return GlideResult(fills=fills, allowed=self._allowed, denials=denials, equity_atoms=equity)

    def _size(self, one: Candidate) -> Reason | None:
        # The reason that denies a candidate from its size on; else its entry is recorded.
        limits, shared, fixed = self._limits, self._shared, self._rules.fixed_units
        budgets, sent = limits.entry_budgets, self._book.sent.get(one.rank, 0)
        if sent >= len(budgets) and not fixed:
            return Reason.NO_WEIGHT
        budget = budgets[sent] if sent < len(budgets) else 0
        units = units_for(budget, one.worst_price, shared.steps[one.side], fixed)
        if not units:
            return Reason.QUANTITY_TOO_SMALL
        if not shared.market and limits.beyond_band(abs(one.limit - one.price), one.price):
            return Reason.PRICE_BAND
        if self._found.source.symbols[one.row] in shared.funds:
            raise StepNeeded("an index fund")
        worst, power = units * one.worst_price, units * one.power_price
        reason = self._book.denial_of(worst, power)
        if reason is None:
            self._enter(one, units, worst, power)
        return reason

    def _enter(self, one: Candidate, units: int, worst: int, power: int) -> None:
        self._allowed.append(one)
        if not one.filled:
            self._book.enter(one.rank, (one.row, one.ended, one.ended, worst, power, 0), filled=False)
            return
        if units > one.units:
            raise StepNeeded("an order that fills in parts")
        paid, got, long = one.paid, one.got, one.side == _LONG
        if self._shared.slips:
            paid = self._slipped(one, Leg.ENTRY, paid, units, buy=long) if self._shared.market else paid
            got = self._slipped(one, LEGS[one.leg], got, units, buy=not long) if one.slips else got
        fee_cents = self._costs.fee_cents
        fees = (fee_cents(paid, units, buy=long) + fee_cents(got, units, buy=not long)) * ATOMS_PER_CENT
        cost = units * paid
        self._book.enter(one.rank, (one.row, one.ended, one.exit_minute, worst, power, cost), filled=True)
        profit = one.side * (units * got - cost) - fees
        self._fills.append(GlideFill(one, len(self._allowed), units, paid, got, fees, profit))

    def _slipped(self, one: Candidate, leg: Leg, ticks: int, units: int, *, buy: bool) -> int:
        if self._session_bars is None:
            self._session_bars = self._bars.session(self._index)
        signal = self._found.source.signal(one)
        market = self._session_bars, one.row
        lost = self._costs.slippage.fraction(signal, leg, market, units / UNITS_PER_SHARE)
        return slipped_price(ticks, lost, buy=buy)

    def _prove(self) -> None:
        # That no latch, no change of state and no check of positions came in any minute; by bounds, so it may doubt.
        limits, risk = self._limits, self._rules.risk
        lost, deviations, losers = dict[int, int](), 0, 0
        part, whole = risk.max_fill_deviation_pct.as_integer_ratio()
        for one, _, units, paid, got, fees, pnl in self._fills:
            if one.checked:
                raise StepNeeded("a rebalancing check of an open position")
            fall = max(0, one.side * (paid - one.worst), one.side * (paid - got))
            lost[one.rank] = lost.get(one.rank, 0) + units * fall + fees
            deviations += one.side * (paid - one.price) * whole > one.price * part
            losers += pnl < 0
        if any(lost.get(rank, 0) >= limits.window_loss for rank in self._book.sent):
            raise StepNeeded("a loss near WINDOW_LOSS_LIMIT")
        if sum(lost.values()) * (1 if risk.defense_mode_active else 2) >= limits.daily_loss:
            raise StepNeeded("a loss near DAILY_LOSS_LIMIT")
        if deviations >= DEVIATIONS and not risk.defense_mode_active:
            raise StepNeeded("fills beyond MAX_FILL_DEVIATION_PCT")
        if 0 < risk.max_consecutive_losses <= losers:
            raise StepNeeded("MAX_CONSECUTIVE_LOSSES")


def _order_of_closing(fill: GlideFill) -> tuple[int, int]:
    # Exits of one minute fill by symbol, stops and targets in the order of their entries.
    return fill.one.key, fill.one.row if LEGS[fill.one.leg] is Leg.EXIT else fill.place
