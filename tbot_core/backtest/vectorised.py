"""The fast gear of a backtest: a session is decided by its signals alone, in integers, with the whole risk gate.

The signals of a block's sessions become candidates: each has its outcome, in the order of the decisions, so that
counts, amounts and quantities are left to decide. The gear is used where it proves that no minute between the signals
matters; else it says why, and the session is walked minute by minute.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import attrs
import numpy as np

from tbot_core.backtest.outcomes import LEGS, OUTCOMES, resolve
from tbot_core.backtest.session_walk import BacktestTerms
from tbot_core.model.bars import Array, Bars, Flags, Index
from tbot_core.model.reasons import Reason
from tbot_core.model.types import ATOMS_PER_CENT, UNITS_PER_SHARE, Leg, OrderType, Side, SignalId
from tbot_core.trading import price_grid
from tbot_core.trading.positions.rebalance_rules import Size, excess_units, missing_atoms, trim_step
from tbot_core.trading.proposals import JudgedSignals, Proposal, TradingRules
from tbot_core.trading.risk.account import buying_power
from tbot_core.trading.risk.exposure import DEVIATIONS
from tbot_core.trading.risk.limits import LimitFractions, Limits, first_over, symbol_denial
from tbot_core.trading.risk.sizing import Ratio, Sizer, short_margin, units_for
from tbot_core.trading.slippage import slipped_price
from tbot_core.trading.verdicts import ALLOWED_CODE

if TYPE_CHECKING:
    from tbot_core.trading.fill_costs import FillCosts

_SIGNALS: Final = ("minute", "side")

# What the size and the profit of a candidate follow from, in the order of `_ENTRANT`.
_Entrant: TypeAlias = tuple[int, int, int, int, int, int, bool, int, int, int, int, int, int]

# `place`: its number in the block; `low`: the worst of its exit and of its marks, seen from its side.
_ENTRANT: Final = (
    "place",
    "rank",
    "side",
    "worst_price",
    "power_price",
    "units",
    "filled",
    "price",
    "paid",
    "got",
    "low",
    "check_low",
    "check_high",
)

_LONG: Final = int(Side.LONG)

_VectorisedFill: TypeAlias = tuple[int, int, int, int, int, int]
"""A closed position: its candidate's place, units, prices in ticks after slippage, fees and profit in atoms."""

# An entry: its symbol's row; the minute until which it works, at its worst case and buying power; and that until which
# it is held, at its cost.
_Entry: TypeAlias = tuple[int, int, int, int, int, int]


class Candidate(NamedTuple):
    """A signal and what becomes of it if it is entered, in integers: ticks, units, minutes; see `Outcomes`.

    `part` and `number` say which signal of which strategy it is, `code` is the reason that denied it before the gate.
    `worst_price` and `power_price` are the prices of its worst case and its buying power; `beyond`: its limit is beyond
    PRICE_BAND_PCT.
    """

    part: int
    number: int
    code: int
    rank: int
    row: int
    minute: int
    side: int
    worst_price: int
    power_price: int
    price: int
    beyond: bool
    stop: int
    target: int
    ended: int
    filled: bool
    paid: int
    exit_minute: int
    got: int
    slips: bool
    leg: int
    reason: int
    units: int
    worst: int
    key: int
    check_low: int
    check_high: int


@attrs.frozen(kw_only=True, eq=False)
class _SignalSource:
    # The signals of a block's strategies, in the order of `part`; `stops` are those of their `Outcomes`.
    parts: Sequence[JudgedSignals]
    stops: Sequence[Array | None]
    symbols: tuple[str, ...]


class _Crowd(NamedTuple):
    # How many of a session's candidates may be entered: all, of one strategy at most, in one minute at most; `simple`:
    # no two have the same symbol, and no limit is beyond its band.
    all: int
    of_a_rank: int
    in_a_minute: int
    simple: bool


@attrs.frozen(kw_only=True, eq=False)
class Candidates:
    """The candidates of a block: sessions in order, each in the order of decisions.

    `columns`: the fields of `Candidate` as arrays in any order, `order`: that of the candidates in them; `bounds`: the
    place of the first candidate of each session, and their number. Lists are made of columns when they are asked for.
    """

    source: _SignalSource
    columns: Mapping[str, Any]
    order: Index
    bounds: Sequence[int]
    _lists: dict[str, list[Any]] = attrs.field(factory=dict)
    _rows_of: dict[frozenset[str], frozenset[int]] = attrs.field(factory=dict)

    def values(self, name: str) -> list[Any]:
        """A field of all candidates as a list."""
        if name not in self._lists:
            self._lists[name] = self.columns[name][self.order].tolist()
        return self._lists[name]

    @functools.cached_property
    def rows(self) -> Sequence[Candidate]:
        """All candidates."""
        columns = [self.values(name) for name in Candidate._fields]
        return [Candidate._make(one) for one in zip(*columns, strict=True)]

    def session(self, index: int) -> range:
        """The places of a session's candidates."""
        return range(self.bounds[index], self.bounds[index + 1])

    def rows_of(self, symbols: frozenset[str]) -> frozenset[int]:
        """The rows of those of the symbols that the block has."""
        if symbols not in self._rows_of:
            own = self.source.symbols
            self._rows_of[symbols] = frozenset(row for row, symbol in enumerate(own) if symbol in symbols)
        return self._rows_of[symbols]

    def signal(self, place: int) -> SignalId:
        """The identity of a candidate's signal."""
        part: int = self.values("part")[place]
        return self.source.parts[part].signal(self.values("number")[place])

    def proposals(self, index: int) -> list[Proposal]:
        """The proposals of a session."""
        parts, numbers = self.values("part"), self.values("number")
        return [self.source.parts[parts[place]].proposal(numbers[place]) for place in self.session(index)]

    @functools.cached_property
    def _open(self) -> Index:
        # The places of those that no check denied.
        return np.flatnonzero(self.columns["code"][self.order] == ALLOWED_CODE)

    @functools.cached_property
    def _open_bounds(self) -> list[int]:
        found: list[int] = np.searchsorted(self._open, self.bounds).tolist()
        return found

    def denied(self, index: int) -> list[int]:
        """The codes of those candidates of a session that a check denied."""
        first, last = self.bounds[index], self.bounds[index + 1]
        if self._open_bounds[index + 1] - self._open_bounds[index] == last - first:
            return []
        return [code for code in self.values("code")[first:last] if code]

    @functools.cached_property
    def _entrants(self) -> list[_Entrant]:
        rows, columns = self.order[self._open], self.columns
        found = [columns[name][rows].tolist() for name in _ENTRANT[1:]]
        return list(zip(self._open.tolist(), *found, strict=True))

    def entrants(self, index: int) -> Sequence[_Entrant]:
        """The candidates of a session that no check denied, in their order."""
        return self._entrants[self._open_bounds[index] : self._open_bounds[index + 1]]

    @functools.cached_property
    def closing(self) -> Sequence[int]:
        """A number for each candidate by which the closing fills of a session are in order.

        Exits of one minute fill by symbol, stops and targets in the order of their entries.
        """
        places = np.arange(len(self.order))
        key, leg, row = (self.columns[name][self.order] for name in ("key", "leg", "row"))
        within = np.where(leg == LEGS.index(Leg.EXIT), row, places)
        found: list[int] = (key * (int(within.max(initial=0)) + 1) + within).tolist()
        return found

    @functools.cached_property
    def crowds(self) -> Sequence[_Crowd]:
        """The crowd of each session."""
        rows, columns, count = self.order[self._open], self.columns, len(self.bounds) - 1
        session = np.repeat(np.arange(count), np.diff(self._open_bounds))
        most = {name: _most(session, columns[name][rows], count) for name in ("rank", "minute", "row")}
        beyond = np.bincount(session, columns["beyond"][rows], minlength=count)
        crowds = (np.diff(self._open_bounds), most["rank"], most["minute"], (most["row"] <= 1) & (beyond == 0))
        return [_Crowd._make(one) for one in zip(*(column.tolist() for column in crowds), strict=True)]


class _Day(NamedTuple):
    # A session's position in its block, and the block's bars.
    session: int
    bars: Bars


class WalkNeeded(Exception):
    """A minute between the session's signals may matter; the text is the cause."""


@attrs.frozen(kw_only=True, eq=False)
class VectorisedResult:
    """A session's closed positions in the order of their entries, its equity, and a code for each denial.

    `allowed` are the places of the candidates whose entries were sent, filled or not.
    """

    fills: Sequence[_VectorisedFill]
    allowed: Sequence[int]
    denials: Sequence[int]
    equity_atoms: int


@attrs.frozen(kw_only=True, eq=False)
class VectorisedTerms:
    """What the sessions of a run share; `never` is why each of them has to be walked, "" if none has."""

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
    def of(cls, terms: BacktestTerms) -> VectorisedTerms:
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


def candidates_of(
    parts: Sequence[JudgedSignals], rules: TradingRules, costs: FillCosts, bars: Bars, sessions: int
) -> Candidates:
    """Resolve and sort the signals of a block's strategies."""
    outcomes = [resolve(part, rules, costs, bars) for part in parts]
    joined = {name: _join([getattr(outcome, name) for outcome in outcomes]) for name in OUTCOMES}
    joined |= {name: _join([getattr(part.signals, name) for part in parts]) for name in _SIGNALS}
    code, last = _join([part.verdicts.reasons for part in parts]), bars.minutes - rules.exits.flatten_before_close - 1
    flattening = (code == ALLOWED_CODE) & (joined["minute"] >= last)
    joined |= {
        "part": np.repeat(np.arange(len(parts)), [len(part.signals) for part in parts]),
        "number": _join([np.arange(len(part.signals)) for part in parts]),
        "rank": np.repeat([part.active.rank for part in parts], [len(part.signals) for part in parts]),
        "row": _join([part.signals.cells[-1] for part in parts]),
        "code": np.where(flattening, Reason.FLATTENING, code),
        "worst_price": np.maximum(joined["limit"], joined["price"]),
        "beyond": _beyond(rules, joined["limit"], joined["price"]),
    }
    short = np.maximum(joined["worst_price"], short_margin(joined["price"]))
    side = joined["side"]
    joined["power_price"] = np.where(side > 0, joined["worst_price"], short)
    joined["low"] = side * np.minimum(side * joined["worst"], side * joined["got"])
    session, strength = _join([part.sessions for part in parts]), _join([part.signals.strength for part in parts])
    order = np.lexsort((joined["row"], joined["rank"], -strength, joined["minute"], session))
    return Candidates(
        source=_SignalSource(parts=parts, stops=[outcome.stops for outcome in outcomes], symbols=bars.symbols),
        columns=joined,
        order=order,
        bounds=np.searchsorted(session[order], np.arange(sessions + 1)).tolist(),
    )


def trade_vectorised(
    shared: VectorisedTerms, candidates: Candidates, index: int, bars: Bars, equity_atoms: int
) -> VectorisedResult:
    """Trade a session of a block; raises WalkNeeded where a minute between its signals may matter.

    `index` is the session's position in the block, `bars` are the block's.
    """
    if not candidates.session(index):
        return VectorisedResult(fills=(), allowed=(), denials=(), equity_atoms=equity_atoms)
    if shared.never:
        raise WalkNeeded(shared.never)
    session = _Session(shared, candidates, _Day(index, bars), equity_atoms)
    return session.result_of_all() or session.result_of_each()


def _most(session: Index, value: Index, sessions: int) -> Index:
    # How often the most frequent value comes in each session.
    width = int(value.max(initial=0)) + 1
    counted = np.bincount(session * width + value, minlength=sessions * width)
    found: Index = counted.reshape(sessions, width).max(axis=1)
    return found


def _beyond(rules: TradingRules, limit: Index, price: Index) -> Flags:
    # Whether each entry's limit is beyond PRICE_BAND_PCT; an order at the market has none.
    if rules.entries.entry_order_type == OrderType.MARKET:
        return np.zeros(len(price), dtype=np.bool_)
    found: Flags = price_grid.beyond_band(np.abs(limit - price), price, rules.risk.price_band_pct)
    return found


def _join(columns: Sequence[Any]) -> Any:
    if len(columns) == 1:
        return columns[0]
    return np.concatenate(columns) if columns else np.empty(0, dtype=np.int64)


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
        for entry in entries:
            row, starts, ends, most, power, cost = entry
            if ends <= minute:
                continue
            self._entries.append(entry)
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


class _Entered:
    # The positions of a session, and the bounds by which it proves that no limit of loss was reached in any minute.
    def __init__(self, shared: VectorisedTerms, candidates: Candidates, day: _Day) -> None:
        self.fills, self.profit, self.lost = list[_VectorisedFill](), 0, defaultdict[int, int](int)
        self._shared, self._candidates, self._day = shared, candidates, day
        self._session_bars: Bars | None = None
        self._deviations = self._losers = 0

    def fill(self, one: _Entrant, units: int) -> int:
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
            raise WalkNeeded("a rebalancing check that changes a position")

    def _slipped(self, place: int, prices: tuple[int, int], units: int, *, long: bool) -> tuple[int, int]:
        (paid, got), values = prices, self._candidates.values
        if self._shared.market:
            paid = self._slip(place, Leg.ENTRY, paid, units, buy=long)
        if values("slips")[place]:
            got = self._slip(place, LEGS[values("leg")[place]], got, units, buy=not long)
        return paid, got

    def _slip(self, place: int, leg: Leg, ticks: int, units: int, *, buy: bool) -> int:
        if self._session_bars is None:
            self._session_bars = self._day.bars.session(self._day.session)
        market = self._session_bars, self._candidates.values("row")[place]
        lost = self._shared.terms.costs.slippage.fraction(
            self._candidates.signal(place), leg, market, units / UNITS_PER_SHARE
        )
        return slipped_price(ticks, lost, buy=buy)

    def prove(self, limits: Limits) -> None:
        """Prove that no latch and no change of state came in any minute; by bounds, so it may doubt."""
        risk = self._shared.terms.rules.risk
        if max(self.lost.values(), default=0) >= limits.window_loss:
            raise WalkNeeded("a loss near WINDOW_LOSS_LIMIT")
        if sum(self.lost.values()) * (1 if risk.defense_mode_active else 2) >= limits.daily_loss:
            raise WalkNeeded("a loss near DAILY_LOSS_LIMIT")
        if self._deviations >= DEVIATIONS and not risk.defense_mode_active:
            raise WalkNeeded("fills beyond MAX_FILL_DEVIATION_PCT")
        if 0 < risk.max_consecutive_losses <= self._losers:
            raise WalkNeeded("MAX_CONSECUTIVE_LOSSES")


class _Session:
    # One session.
    def __init__(self, shared: VectorisedTerms, candidates: Candidates, day: _Day, equity_atoms: int) -> None:
        self._shared, self._candidates, self._day, self._equity = shared, candidates, day, equity_atoms
        self._limits = shared.limits.limits(equity_atoms)
        self._granted, self._fixed = buying_power(equity_atoms), shared.terms.rules.fixed_units
        self._budgets = () if self._fixed else self._limits.entry_budgets

    def result_of_all(self) -> VectorisedResult | None:
        """The result if no limit can bind, so that every candidate is entered; None if one might.

        The gate compares the largest figures that any entry can meet: those of the others together, and its own.
        """
        index, limits, steps = self._day.session, self._limits, self._shared.steps
        crowd, entrants = self._candidates.crowds[index], self._candidates.entrants(index)
        if not self._has_room(crowd, entrants):
            return None
        entered, sent = _Entered(self._shared, self._candidates, self._day), defaultdict[int, int](int)
        budgets, fixed, fill = self._budgets, self._fixed, entered.fill
        worsts, powers, costs, slipped = list[int](), list[int](), 0, 0
        for entrant in entrants:
            _, rank, side, worst_price, power_price, most, filled, _, _, _, _, _, _ = entrant
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
                cost = fill(entrant, units)
                costs += cost
                if cost > worst:  # slippage may pay more than the worst price
                    slipped += cost - worst
        largest = max(worsts, default=0), max(powers, default=0)
        allowed = limits.buying_power(costs, costs, self._granted)
        used = (0, 0, sum(worsts) + slipped - largest[0], sum(powers) - largest[1], allowed)
        if first_over(limits.amounts(largest, used)) is not None:
            return None
        return self._result(entered, [entrant[0] for entrant in entrants], [])

    def result_of_each(self) -> VectorisedResult:
        """The result of the gate's decision on each candidate in turn."""
        values, entered = self._candidates.values, _Entered(self._shared, self._candidates, self._day)
        minutes, rows, ended, exits = (values(name) for name in ("minute", "row", "ended", "exit_minute"))
        once = self._shared.terms.rules.entries.one_trade_per_symbol_per_day
        book, allowed, denials = _Book(self._limits, self._granted, once_a_day=once), list[int](), list[int]()
        for entrant in self._candidates.entrants(self._day.session):
            place, rank, side, worst_price, power_price, most, filled, *_ = entrant
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
                raise WalkNeeded("an order that fills in parts")
            cost = entered.fill(entrant, units) if filled else 0
            held = exits[place] if filled else ended[place]
            book.enter(rank, (row, ended[place], held, worst, power, cost), filled=filled)
            allowed.append(place)
        return self._result(entered, allowed, denials)

    def _has_room(self, crowd: _Crowd, entrants: Sequence[_Entrant]) -> bool:
        # Whether no count can bind, and nothing but size and amounts is left to check.
        if not crowd.simple:
            return False
        for _, used, most in self._limits.counts(crowd.of_a_rank - 1, crowd.all - 1, crowd.in_a_minute - 1):
            if used >= most:
                return False
        funds, rows = self._candidates.rows_of(self._shared.funds), self._candidates.values("row")
        return not funds or funds.isdisjoint([rows[entrant[0]] for entrant in entrants])

    def _denial(self, place: int, units: int, sent: int) -> Reason | None:
        # Why a candidate of this size is denied before its amounts are compared.
        if sent >= len(self._budgets) and not self._fixed:
            return Reason.NO_WEIGHT
        if not units:
            return Reason.QUANTITY_TOO_SMALL
        if self._candidates.values("beyond")[place]:
            return Reason.PRICE_BAND
        if self._candidates.values("row")[place] in self._candidates.rows_of(self._shared.funds):
            raise WalkNeeded("an index fund")
        return None

    def _result(self, entered: _Entered, allowed: Sequence[int], denials: list[int]) -> VectorisedResult:
        entered.prove(self._limits)
        denied = self._candidates.denied(self._day.session)
        missed = [Reason.ENTRY_NOT_FILLED] * (len(allowed) - len(entered.fills))
        equity = self._equity + entered.profit
        return VectorisedResult(
            fills=entered.fills, allowed=allowed, denials=[*denied, *denials, *missed], equity_atoms=equity
        )
