"""Trials: backtests on the same bars with different settings or costs, session by session in either gear.

What several trials need is computed once. A session's trades and levels are made when they are read.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

import attrs
import numpy as np

from tbot_core.backtest.outcomes import REASONS
from tbot_core.backtest.session_walk import BacktestTerms, SessionResult, plain_id, walk_session
from tbot_core.backtest.vectorised import (
    Candidate,
    Candidates,
    VectorisedResult,
    VectorisedTerms,
    WalkNeeded,
    candidates_of,
    trade_vectorised,
)
from tbot_core.engine.assembly import SIMULATOR, Assembly
from tbot_core.journal.projections.vix import RecordedVix, with_recorded_vix
from tbot_core.marketdata.store.store import BarBlock
from tbot_core.model.calendar import Session
from tbot_core.model.day_facts import MarketView
from tbot_core.model.reasons import REASON_BY_CODE, most_frequent
from tbot_core.model.types import Side, Trade, atoms_of, dollars_of, price_of, quantity_of, stock
from tbot_core.reports.timeline import SessionTimeline
from tbot_core.reports.trade_levels import LevelRecorder, TradeKey, TradeLevels
from tbot_core.system.garbage import gc_paused
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES
from tbot_core.trading.proposals import (
    ActiveStrategy,
    JudgedSignals,
    ScanResult,
    TradingRules,
    judge_scan,
    screen,
    universe_cut,
)
from tbot_core.trading.verdicts import ALLOWED_CODE, Verdicts, denial_counts, passed_unknown

if TYPE_CHECKING:
    from tbot_core.model.bars import Flags

T = TypeVar("T")

_SIDES: Final = {int(side): side for side in Side}

_OF_TRADES: Final = ("part", "row", "side", "ended", "exit_minute", "reason")


@attrs.frozen(kw_only=True, eq=False)
class Trial:
    """One backtest: the strategies of each session, its rules and costs, and the equity in atoms that it begins with.

    `recorded_vix` replaces the VIX of sessions for which live trading recorded another.
    """

    entrants: Callable[[Session], tuple[ActiveStrategy, ...]]
    terms: BacktestTerms
    opening_atoms: int
    recorded_vix: RecordedVix


@attrs.define(eq=False)
class BeforeBell:
    """What was denied before the bell, by reason; by strategy, the reasons of sessions that denied every symbol.

    `unknown`: the signals that passed although a fact was unknown, by reason; `unsure`: the sessions with such symbols.
    """

    denials: Counter[str] = attrs.field(factory=Counter)
    without_candidates: dict[str, Counter[str]] = attrs.field(factory=dict)
    unknown: Counter[str] = attrs.field(factory=Counter)
    unsure: set[date] = attrs.field(factory=set)

    def add(self, screened: _Screened) -> None:
        """Count a strategy's screening of a block."""
        self.denials.update(screened.denials)
        self.unknown.update(screened.unknown)
        self.unsure.update(screened.unsure)
        if screened.without:
            self.without_candidates.setdefault(screened.strategy, Counter()).update(screened.without)


@attrs.frozen(kw_only=True, eq=False)
class _Screened:
    # A strategy's screening of sessions, and its signals; None where every symbol was denied. `denials`: how many
    # symbols each reason denied; `without`: what denied most in the sessions that denied all. `unknown` and `unsure`
    # are those of `BeforeBell`.
    strategy: str
    denials: Mapping[str, int]
    without: Sequence[str]
    judged: JudgedSignals | None
    unknown: Mapping[str, int] = attrs.field(factory=dict)
    unsure: Collection[date] = ()


class Lazy(Sequence[T], Generic[T]):
    """A sequence of `count` items that `make` returns when one is looked at, once."""

    def __init__(self, count: int, make: Callable[[], Sequence[T]]) -> None:
        self._count, self._make = count, make
        self._made: Sequence[T] | None = None

    def __len__(self) -> int:
        """The number of items; makes none."""
        return self._count

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...

    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """An item, or some."""
        return self._all()[index]

    def __iter__(self) -> Iterator[T]:
        """All items in their order."""
        return iter(self._all())

    def _all(self) -> Sequence[T]:
        if self._made is None:
            self._made = self._make()
        return self._made


@attrs.frozen(kw_only=True, eq=False)
class WalkedSession:
    """A session that was walked minute by minute, because of `cause`."""

    session: Session
    opening_atoms: int
    walked: SessionResult
    cause: str

    @property
    def equity_atoms(self) -> int:
        """The equity at its end."""
        return self.walked.equity_atoms

    @functools.cached_property
    def trades(self) -> Sequence[Trade]:
        """Its trades, in the order of their closing."""
        return Lazy(
            len(self.walked.positions), lambda: [position.to_trade(SIMULATOR) for position in self.walked.positions]
        )

    @property
    def profits(self) -> list[int]:
        """The profit of each closed position in atoms, in any order."""
        return [position.pnl_atoms for position in self.walked.positions]

    @property
    def denials(self) -> Counter[str]:
        """How many candidates each reason denied, by its name."""
        return self.walked.denials

    @property
    def levels(self) -> Mapping[TradeKey, TradeLevels]:
        """The levels of its allowed signals."""
        return self.walked.levels


@attrs.frozen(kw_only=True, eq=False)
class VectorisedSession:
    """A session that was decided by its candidates alone; `cause` is ""."""

    session: Session
    opening_atoms: int
    candidates: Candidates
    result: VectorisedResult
    cause: str = ""

    @property
    def equity_atoms(self) -> int:
        """The equity at its end."""
        return self.result.equity_atoms

    @functools.cached_property
    def trades(self) -> Sequence[Trade]:
        """Its trades, in the order of their closing."""
        return Lazy(len(self.result.fills), self._trades)

    @property
    def profits(self) -> list[int]:
        """The profit of each closed position in atoms, in any order."""
        return [profit for *_, profit in self.result.fills]

    @property
    def denials(self) -> Counter[str]:
        """How many candidates each reason denied, by its name."""
        if not self.result.denials:
            return Counter()
        counts = Counter(self.result.denials)
        return Counter({REASON_BY_CODE[code].name: count for code, count in counts.items()})

    @property
    def levels(self) -> Mapping[TradeKey, TradeLevels]:
        """The levels of its allowed signals."""
        recorder = LevelRecorder()
        for place in self.result.allowed:
            self._record(recorder, self.candidates.rows[place])
        return recorder.levels

    def _trades(self) -> list[Trade]:
        values, session, moment, end = self.candidates.values, self.session, self.session.moment, self.session.minutes
        parts, rows, sides, entries, exits, reasons = (values(name) for name in _OF_TRADES)
        names, symbols = [part.active.name for part in self.candidates.source.parts], self.candidates.source.symbols
        closing = self.candidates.closing
        fills = sorted([(closing[fill[0]], fill) for fill in self.result.fills])
        return [
            Trade(
                strategy=names[parts[place]],
                instrument=stock(symbols[rows[place]]),
                side=_SIDES[sides[place]],
                quantity=quantity_of(units),
                entry_time=moment(entries[place]),
                entry_price=price_of(paid),
                exit_time=session.close if exits[place] == end else moment(exits[place]),
                exit_price=price_of(got),
                fees=dollars_of(fee_atoms),
                pnl=dollars_of(pnl_atoms),
                exit_reason=REASONS[reasons[place]],
                broker=SIMULATOR,
            )
            for _, (place, units, paid, got, fee_atoms, pnl_atoms) in fills
        ]

    def _record(self, recorder: LevelRecorder, one: Candidate) -> None:
        # The planned levels of a signal; then those of its orders, which rest within the bar.
        source, number = self.candidates.source, one.number
        judged, stops = source.parts[one.part], source.stops[one.part]
        signal, sent = judged.signal(number), self.session.moment(one.minute + 1)
        planned = judged.signals.stop.item(number), judged.signals.target.item(number)
        recorder.decided(signal, sent, judged.signals.side.item(number), *planned)
        if one.target:
            recorder.target_placed(signal, price_of(one.target))
        if judged.signals.exits.trigger == "close":
            return
        recorder.stop_placed(signal, sent, price_of(one.stop))
        if stops is None or not one.filled:
            return
        for column, level in enumerate(stops[: one.exit_minute - one.ended + 1, number].tolist()):
            if column and level == level:  # noqa: PLR0124 - not NaN
                recorder.stop_placed(signal, self.session.moment(one.ended + column), price_of(int(level)))


TestedSession = VectorisedSession | WalkedSession


def trial_of(assembly: Assembly, partial_volume: frozenset[str] = frozenset()) -> Trial:
    """The trial of an assembly's settings; VOLUME_LIMIT does not apply to the symbols in `partial_volume`."""
    settings = assembly.settings
    costs = FillCosts.of(settings.simulation, settings.exits.target_fill).without_volume_limit(partial_volume)
    # MAX_CONSECUTIVE_LOSSES counts losses of one minute by client order id; nothing else depends on these ids.
    name = assembly.simulated_ids().client_order_id if settings.risk.max_consecutive_losses else plain_id
    rules = assembly.rules(SIMULATOR_CAPABILITIES)
    return Trial(
        entrants=assembly.entrants,
        terms=BacktestTerms(rules=rules, costs=costs, name=name, checks=assembly.checks),
        opening_atoms=atoms_of(settings.simulation.paper_cash),
        recorded_vix=assembly.recorded_vix,
    )


class MonthOfBars:
    """A month's blocks, with the scans and outcomes that trials have asked for."""

    def __init__(self, blocks: Sequence[BarBlock]) -> None:
        self._blocks = blocks
        self._made: dict[Hashable, Any] = {}

    def parts(self, trial: Trial) -> Iterator[tuple[BarBlock, tuple[ActiveStrategy, ...]]]:
        """The sessions in which a trial has the same strategies with the same windows, and these."""
        for number, block in enumerate(self._blocks):
            rows_by_entrants: dict[tuple[ActiveStrategy, ...], list[int]] = {}
            for index, session in enumerate(block.sessions):
                rows_by_entrants.setdefault(trial.entrants(session), []).append(index)
            for entrants, rows in rows_by_entrants.items():
                yield self._once((number, *rows), _part, block, rows), entrants

    def screened(self, trial: Trial, part: BarBlock, entrants: tuple[ActiveStrategy, ...]) -> list[_Screened]:
        """What a trial's strategies find in a part."""
        rules = trial.terms.rules
        key = (id(part), id(trial.recorded_vix), *map(id, rules.filters.values()), *_screening(rules))
        facts = (part.day, part.bars.symbols, part.sessions[0].minutes)
        cut = self._once(("cut", *map(id, entrants), *key), universe_cut, entrants, rules, *facts)
        return [self._once((id(entrant), *key), _screen, trial, part, entrant, cut) for entrant in entrants]

    def candidates(self, trial: Trial, part: BarBlock, judged: Sequence[JudgedSignals]) -> Candidates:
        """The candidates of a trial in a part."""
        rules, costs = trial.terms.rules, trial.terms.costs
        key: tuple[Hashable, ...]
        key = (id(part), *map(id, judged), rules.exits, rules.entries, rules.risk.price_band_pct, rules.rebalance)
        key = (*key, costs.filling)
        return self._once(key, candidates_of, judged, rules, costs, part.bars, len(part.sessions))

    def _once(self, key: Hashable, make: Callable[..., T], *needed: Any) -> T:
        # Keys have the identity of objects that live as long as the month does.
        if key not in self._made:
            self._made[key] = make(*needed)
        found: T = self._made[key]
        return found


class TrialRun:
    """A trial on its way through the months; `equity_atoms` is that after the last session."""

    def __init__(self, trial: Trial) -> None:
        self.trial, self.before_bell, self.equity_atoms = trial, BeforeBell(), trial.opening_atoms
        self._shared = VectorisedTerms.of(trial.terms)

    def trade(self, month: MonthOfBars) -> Iterator[TestedSession]:
        """Trade the sessions of a month in order of date."""
        ready = list[tuple[Session, BarBlock, Candidates, int]]()
        for part, entrants in month.parts(self.trial):
            screened = month.screened(self.trial, part, entrants)
            for one in screened:
                self.before_bell.add(one)
            candidates = month.candidates(self.trial, part, [one.judged for one in screened if one.judged is not None])
            ready += [(session, part, candidates, index) for index, session in enumerate(part.sessions)]
        for session, part, candidates, index in sorted(ready, key=lambda one: one[0].date):
            tested = self._session(session, part, candidates, index)
            self.equity_atoms = tested.equity_atoms
            yield tested

    def _session(self, session: Session, part: BarBlock, candidates: Candidates, index: int) -> TestedSession:
        equity = self.equity_atoms
        try:
            result = trade_vectorised(self._shared, candidates, index, part.bars, equity)
        except WalkNeeded as cause:
            bars, proposals = part.bars.session(index), candidates.proposals(index)
            walked = walk_session(self.trial.terms, session, bars, proposals, equity)
            return WalkedSession(session=session, opening_atoms=equity, walked=walked, cause=str(cause))
        return VectorisedSession(session=session, opening_atoms=equity, candidates=candidates, result=result)


def run_trials(trials: Sequence[TrialRun], blocks: Iterable[BarBlock]) -> Iterator[tuple[TrialRun, TestedSession]]:
    """Trade the sessions of blocks in each of the trials, month by month; a month of bars is in memory at a time."""
    for _, blocks_of_month in itertools.groupby(blocks, key=lambda block: block.month):
        month = MonthOfBars(list(blocks_of_month))
        for run in trials:
            with gc_paused():
                sessions = list(run.trade(month))
            for tested in sessions:
                yield run, tested


def timeline_of(tested: TestedSession) -> SessionTimeline:
    """A session for the report."""
    session = tested.session
    return SessionTimeline(
        date=session.date.isoformat(),
        open=session.open,
        close=session.close,
        opening=dollars_of(tested.opening_atoms),
        closing=dollars_of(tested.equity_atoms),
        closed=True,
        trades=tested.trades,
        primary=SIMULATOR,
    )


def _screening(rules: TradingRules) -> tuple[Hashable, ...]:
    # The rules that decide what is scanned, and how signals are checked, besides the filters.
    exits = rules.exits
    return (
        rules.missing_rejects,
        rules.blocklist,
        rules.watch_only,
        rules.universe_max,
        exits.stop_atr,
        exits.flatten_before_close,
    )


def _screen(trial: Trial, part: BarBlock, entrant: ActiveStrategy, cut: Flags | None) -> _Screened:
    rules, dates = trial.terms.rules, [session.date for session in part.sessions]
    day = with_recorded_vix(part.day, dates, entrant.name, trial.recorded_vix)
    verdicts = screen(entrant, rules, day, part.bars.symbols, part.sessions[0].minutes, cut=cut)
    denied = verdicts.reasons != ALLOWED_CODE
    denials, without = Counter[str](), list[str]()
    if denied.any():  # a symbol without a bar in a session was no candidate there
        denials.update(denial_counts(verdicts.reasons[denied & part.bars.traded]))
        without = [most_frequent(denial_counts(reasons)) for reasons in verdicts.reasons[denied.all(axis=-1)]]
    judged = None
    if not denied.all():
        scan = ScanResult(signals=entrant.strategy.scan(part.bars, day), screened=verdicts, dates=dates)
        judged = judge_scan(entrant, rules, scan, MarketView(bars=part.bars, day=day))
    screened = _Screened(strategy=entrant.name, denials=denials, without=without, judged=judged)
    return screened if rules.missing_rejects else _with_unknown(screened, verdicts, part)


def _with_unknown(screened: _Screened, verdicts: Verdicts, part: BarBlock) -> _Screened:
    # What FILTER_MISSING_DATA let pass, before the bell and at the signals.
    early = {name: flags & part.bars.traded for name, flags in passed_unknown(verdicts).items()}
    rows = [row for flags in early.values() for row in np.flatnonzero(flags.any(axis=-1)).tolist()]
    unsure = {part.sessions[row].date for row in rows}
    unknown = Counter[str]()
    if (judged := screened.judged) is not None:
        allowed = judged.verdicts.reasons == ALLOWED_CODE
        found = passed_unknown(judged.verdicts)
        for name, flags in early.items():
            found[name] = found.get(name, False) | (flags[judged.signals.cells] & allowed)
        for name, flags in found.items():
            unknown[name] += int(flags.sum())
            unsure.update(part.sessions[row].date for row in judged.sessions[flags].tolist())
    return attrs.evolve(screened, unknown=+unknown, unsure=unsure)


def _part(block: BarBlock, rows: list[int]) -> BarBlock:
    if len(rows) == len(block.sessions):
        return block
    return BarBlock(
        month=block.month,
        sessions=tuple(block.sessions[row] for row in rows),
        bars=block.bars.sessions(rows),
        day=block.day.sessions(rows),
    )
