"""The fast gear of a backtest: a session's decisions in integers, only at its signals, with the whole risk gate.

What a candidate becomes is resolved before, so that counts, amounts and quantities are left. The gear is used where it
proves that no minute between the signals matters; else it says why, and the session is walked minute by minute.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from tbot_core.backtest.resolve import LEGS
from tbot_core.backtest.session_walk import BacktestTerms
from tbot_core.model.reasons import Reason
from tbot_core.model.types import ATOMS_PER_CENT, UNITS_PER_SHARE, Leg, OrderType, Side
from tbot_core.trading.positions.rebalance_rules import Size, excess_units, missing_atoms, trim_step
from tbot_core.trading.risk.account import buying_power
from tbot_core.trading.risk.exposure import DEVIATIONS
from tbot_core.trading.risk.limits import LimitFractions, Limits, first_over, symbol_denial
from tbot_core.trading.risk.sizing import Ratio, Sizer, units_for
from tbot_core.trading.slippage import slipped_price

if TYPE_CHECKING:
    from tbot_core.backtest.candidates import Candidates, Crowd, Entrant
    from tbot_core.model.bars import Bars

_LONG: Final = int(Side.LONG)


class StepNeeded(Exception):
    """A minute between the session's signals may matter; the text is the cause."""


GlideFill: TypeAlias = tuple[int, int, int, int, int, int]
"""A closed position: its candidate's place, units, prices in ticks after slippage, fees and profit in atoms."""


@attrs.frozen(kw_only=True, eq=False)
class GlideResult:
    """A session's closed positions in the order of their entries, its equity, and a code for each denial.

    `allowed` are the places of the candidates whose entries were sent, filled or not.
    """

    fills: Sequence[GlideFill]
    allowed: Sequence[int]
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
    charged: bool
    funds: frozenset[str]
    limits: LimitFractions
    deviation: Ratio
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
            charged=terms.costs.has_fees,
            funds=frozenset(symbol for members in rules.indices.values() for symbol in members),
            limits=rules.limits[rules.risk.defense_mode_active],
            deviation=rules.risk.max_fill_deviation_pct.as_integer_ratio(),
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
    session = _Glide(shared, found, (index, bars), equity_atoms)
    return session.result_of_all() or session.result_of_each()


class _Entered:
    # The positions of a session, and the bounds by which it proves that no limit of loss was reached in any minute.
    def __init__(self, shared: GlideTerms, found: Candidates, market: tuple[int, Bars]) -> None:
        self.fills, self.profit, self.lost = list[GlideFill](), 0, defaultdict[int, int](int)
        self._shared, self._found, self._market = shared, found, market
        self._session_bars: Bars | None = None
        self._deviations = self._losers = 0

    def fill(self, one: Entrant, units: int) -> int:
        """Record an entry that fills, and its end; returns the position's cost."""
        place, rank, side, _, _, _, _, price, paid, got, low, check_low, check_high = one
        shared, fees, long = self._shared, 0, side == _LONG
        if shared.slips:
            paid, got = self._slipped(place, (paid, got), units, long=long)
            low = side * min(side * low, side * got)
        if shared.charged:
            fee_cents = shared.terms.costs.fee_cents
            fees = (fee_cents(paid, units, buy=long) + fee_cents(got, units, buy=not long)) * ATOMS_PER_CENT
        cost = units * paid
        if check_high:
            self._check(Size(units, check_low, cost), Size(units, check_high, cost))
        profit = side * (units * got - cost) - fees
        lost, (part, whole) = units * side * (paid - low), shared.deviation
        self.lost[rank] += lost + fees if lost > 0 else fees
        self._deviations += side * (paid - price) * whole > price * part
        self._losers += profit < 0
        self.profit += profit
        self.fills.append((place, units, paid, got, fees, profit))
        return cost

    def _check(self, lowest: Size, highest: Size) -> None:
        # What is trimmed grows with the mark, what is missing falls: no mark between changes the position either.
        rules = self._shared.terms.rules
        policy, step = rules.rebalance, trim_step(highest.units, rules.venue.quantity_step)
        if excess_units(policy, highest, step) or (policy.rebalance_top_up and missing_atoms(policy, lowest)):
            raise StepNeeded("a rebalancing check that changes a position")

    def _slipped(self, place: int, prices: tuple[int, int], units: int, *, long: bool) -> tuple[int, int]:
        (paid, got), values = prices, self._found.values
        if self._shared.market:
            paid = self._slip(place, Leg.ENTRY, paid, units, buy=long)
        if values("slips")[place]:
            got = self._slip(place, LEGS[values("leg")[place]], got, units, buy=not long)
        return paid, got

    def _slip(self, place: int, leg: Leg, ticks: int, units: int, *, buy: bool) -> int:
        if self._session_bars is None:
            index, bars = self._market
            self._session_bars = bars.session(index)
        market = self._session_bars, self._found.values("row")[place]
        lost = self._shared.terms.costs.slippage.fraction(
            self._found.signal(place), leg, market, units / UNITS_PER_SHARE
        )
        return slipped_price(ticks, lost, buy=buy)

    def prove(self, limits: Limits) -> None:
        """Prove that no latch and no change of state came in any minute; by bounds, so it may doubt."""
        risk = self._shared.terms.rules.risk
        if max(self.lost.values(), default=0) >= limits.window_loss:
            raise StepNeeded("a loss near WINDOW_LOSS_LIMIT")
        if sum(self.lost.values()) * (1 if risk.defense_mode_active else 2) >= limits.daily_loss:
            raise StepNeeded("a loss near DAILY_LOSS_LIMIT")
        if self._deviations >= DEVIATIONS and not risk.defense_mode_active:
            raise StepNeeded("fills beyond MAX_FILL_DEVIATION_PCT")
        if 0 < risk.max_consecutive_losses <= self._losers:
            raise StepNeeded("MAX_CONSECUTIVE_LOSSES")


class _Glide:
    # One session.
    def __init__(self, shared: GlideTerms, found: Candidates, market: tuple[int, Bars], equity_atoms: int) -> None:
        self._shared, self._found, self._market, self._equity = shared, found, market, equity_atoms
        self._limits = shared.limits.limits(equity_atoms)
        self._granted, self._fixed = buying_power(equity_atoms), shared.terms.rules.fixed_units
        self._budgets = () if self._fixed else self._limits.entry_budgets

    def result_of_all(self) -> GlideResult | None:
        """The result if no limit can bind, so that every candidate is entered; None if one might.

        The gate compares the largest figures that any entry can meet: those of the others together, and its own.
        """
        index, limits, steps = self._market[0], self._limits, self._shared.steps
        crowd, entrants = self._found.crowds[index], self._found.entrants(index)
        if not self._has_room(crowd, entrants):
            return None
        entered, sent = _Entered(self._shared, self._found, self._market), defaultdict[int, int](int)
        budgets, fixed, fill = self._budgets, self._fixed, entered.fill
        worsts, powers, costs, slipped = list[int](), list[int](), 0, 0
        for one in entrants:
            _, rank, side, worst_price, power_price, most, filled, _, _, _, _, _, _ = one
            number = sent[rank]
            sent[rank] = number + 1
            budget = budgets[number] if number < len(budgets) else 0
            units = units_for(budget, worst_price, steps[side], fixed)
            if not units or (filled and units > most):
                return None
            worst = units * worst_price
            worsts.append(worst)
            powers.append(units * power_price)
            if filled:
                cost = fill(one, units)
                costs += cost
                if cost > worst:  # slippage may pay more than the worst price
                    slipped += cost - worst
        largest = max(worsts, default=0), max(powers, default=0)
        allowed = limits.buying_power(costs, costs, self._granted)
        used = (0, 0, sum(worsts) + slipped - largest[0], sum(powers) - largest[1], allowed)
        if first_over(limits.amounts(largest, used)) is not None:
            return None
        return self._result(entered, [one[0] for one in entrants], [])

    def result_of_each(self) -> GlideResult:
        """The result of the gate's decision on each candidate in turn."""
        values, entered = self._found.values, _Entered(self._shared, self._found, self._market)
        minutes, rows, ended, exits = (values(name) for name in ("minute", "row", "ended", "exit_minute"))
        once = self._shared.terms.rules.entries.one_trade_per_symbol_per_day
        book, allowed, denials = _Book(self._limits, self._granted, once_a_day=once), list[int](), list[int]()
        for one in self._found.entrants(self._market[0]):
            place, rank, side, worst_price, power_price, most, filled, *_ = one
            row = rows[place]
            book.advance(minutes[place])
            number = book.sent.get(rank, 0)
            budget = self._budgets[number] if number < len(self._budgets) else 0
            units = units_for(budget, worst_price, self._shared.steps[side], self._fixed)
            worst, power = units * worst_price, units * power_price
            reason = book.denial(row, rank) or self._denial(place, units, number)
            if reason := reason or book.denial_of(worst, power):
                denials.append(reason)
                continue
            if filled and units > most:
                raise StepNeeded("an order that fills in parts")
            cost = entered.fill(one, units) if filled else 0
            held = exits[place] if filled else ended[place]
            book.enter(rank, (row, ended[place], held, worst, power, cost), filled=filled)
            allowed.append(place)
        return self._result(entered, allowed, denials)

    def _has_room(self, crowd: Crowd, entrants: Sequence[Entrant]) -> bool:
        # Whether no count can bind, and nothing but size and amounts is left to check.
        if not crowd.simple:
            return False
        for _, used, most in self._limits.counts(crowd.of_a_rank - 1, crowd.all - 1, crowd.in_a_minute - 1):
            if used >= most:
                return False
        funds, rows = self._found.rows_of(self._shared.funds), self._found.values("row")
        return not funds or funds.isdisjoint([rows[one[0]] for one in entrants])

    def _denial(self, place: int, units: int, sent: int) -> Reason | None:
        # Why a candidate of this size is denied before its amounts are compared.
        if sent >= len(self._budgets) and not self._fixed:
            return Reason.NO_WEIGHT
        if not units:
            return Reason.QUANTITY_TOO_SMALL
        if self._found.values("beyond")[place]:
            return Reason.PRICE_BAND
        if self._found.values("row")[place] in self._found.rows_of(self._shared.funds):
            raise StepNeeded("an index fund")
        return None

    def _result(self, entered: _Entered, allowed: Sequence[int], denials: list[int]) -> GlideResult:
        entered.prove(self._limits)
        denied = self._found.denied(self._market[0])
        missed = [Reason.ENTRY_NOT_FILLED] * (len(allowed) - len(entered.fills))
        equity = self._equity + entered.profit
        return GlideResult(
            fills=entered.fills, allowed=allowed, denials=[*denied, *denials, *missed], equity_atoms=equity
        )
