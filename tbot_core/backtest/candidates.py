"""The signals of all strategies in a block's sessions, each with its outcome, in the order of their decisions."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import attrs
import numpy as np

from tbot_core.backtest.resolve import LEGS, OUTCOMES, resolve
from tbot_core.model.bars import Array, Bars, Flags, Index
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Leg, OrderType, SignalId
from tbot_core.trading import price_grid
from tbot_core.trading.proposals import JudgedSignals, Proposal, TradingRules
from tbot_core.trading.risk.sizing import short_margin
from tbot_core.trading.verdicts import ALLOWED_CODE

if TYPE_CHECKING:
    from tbot_core.trading.fill_costs import FillCosts


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


_SIGNALS: Final = ("minute", "side")

Entrant: TypeAlias = tuple[int, int, int, int, int, int, bool, int, int, int, int, int, int]
"""What the size and the profit of a candidate follow from, in the order of `ENTRANT`."""

ENTRANT: Final = (
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
"""`place`: its number in the block; `low`: the worst of its exit and of its marks, seen from its side."""


@attrs.frozen(kw_only=True, eq=False)
class SignalSource:
    """The signals of a block's strategies, in the order of `part`; `stops` are those of their `Outcomes`."""

    parts: Sequence[JudgedSignals]
    stops: Sequence[Array | None]
    symbols: tuple[str, ...]


class Crowd(NamedTuple):
    """How many of a session's candidates may be entered: all, of one strategy at most, in one minute at most.

    `simple`: no two have the same symbol, and no limit is beyond its band.
    """

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

    source: SignalSource
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
    def _entrants(self) -> list[Entrant]:
        rows, columns = self.order[self._open], self.columns
        found = [columns[name][rows].tolist() for name in ENTRANT[1:]]
        return list(zip(self._open.tolist(), *found, strict=True))

    def entrants(self, index: int) -> Sequence[Entrant]:
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
    def crowds(self) -> Sequence[Crowd]:
        """The crowd of each session."""
        rows, columns, count = self.order[self._open], self.columns, len(self.bounds) - 1
        session = np.repeat(np.arange(count), np.diff(self._open_bounds))
        most = {name: _most(session, columns[name][rows], count) for name in ("rank", "minute", "row")}
        beyond = np.bincount(session, columns["beyond"][rows], minlength=count)
        crowds = (np.diff(self._open_bounds), most["rank"], most["minute"], (most["row"] <= 1) & (beyond == 0))
        return [Crowd._make(one) for one in zip(*(column.tolist() for column in crowds), strict=True)]


def _most(session: Index, value: Index, sessions: int) -> Index:
    # How often the most frequent value comes in each session.
    width = int(value.max(initial=0)) + 1
    counted = np.bincount(session * width + value, minlength=sessions * width)
    found: Index = counted.reshape(sessions, width).max(axis=1)
    return found


def candidates_of(
    parts: Sequence[JudgedSignals], rules: TradingRules, costs: FillCosts, bars: Bars, sessions: int
) -> Candidates:
    """Resolve and sort the signals of a block's strategies."""
    outcomes = [resolve(one, rules, costs, bars) for one in parts]
    joined = {name: _join([getattr(one, name) for one in outcomes]) for name in OUTCOMES}
    joined |= {name: _join([getattr(one.signals, name) for one in parts]) for name in _SIGNALS}
    code, last = _join([one.verdicts.reasons for one in parts]), bars.minutes - rules.exits.flatten_before_close - 1
    flattening = (code == ALLOWED_CODE) & (joined["minute"] >= last)
    joined |= {
        "part": np.repeat(np.arange(len(parts)), [len(one.signals) for one in parts]),
        "number": _join([np.arange(len(one.signals)) for one in parts]),
        "rank": np.repeat([one.active.rank for one in parts], [len(one.signals) for one in parts]),
        "row": _join([one.signals.cells[-1] for one in parts]),
        "code": np.where(flattening, Reason.FLATTENING, code),
        "worst_price": np.maximum(joined["limit"], joined["price"]),
        "beyond": _beyond(rules, joined["limit"], joined["price"]),
    }
    short = np.maximum(joined["worst_price"], short_margin(joined["price"]))
    side = joined["side"]
    joined["power_price"] = np.where(side > 0, joined["worst_price"], short)
    joined["low"] = side * np.minimum(side * joined["worst"], side * joined["got"])
    session, strength = _join([one.sessions for one in parts]), _join([one.signals.strength for one in parts])
    order = np.lexsort((joined["row"], joined["rank"], -strength, joined["minute"], session))
    return Candidates(
        source=SignalSource(parts=parts, stops=[one.stops for one in outcomes], symbols=bars.symbols),
        columns=joined,
        order=order,
        bounds=np.searchsorted(session[order], np.arange(sessions + 1)).tolist(),
    )


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
