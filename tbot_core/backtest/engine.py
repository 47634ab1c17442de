"""A range of stored sessions is traded: a backtest with its variants and report, or a sweep over many sets of settings.

The bars of a range are read once. A backtest says how reliable its result is: its variants and costs, its symbols, and
which facts of them were known.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.backtest.trials import (
    BeforeBell,
    Lazy,
    TestedSession,
    Trial,
    TrialRun,
    run_trials,
    timeline_of,
    trial_of,
)
from tbot_core.contracts import FeedLabel, SupportsRefresh
from tbot_core.engine.assembly import Assembly, ChangedAssemblies, trial_notes
from tbot_core.engine.missing_facts import missing_fact_notes
from tbot_core.engine.trade_charts import StoredBars, draw_stored_trades
from tbot_core.journal.projections.book import SessionBook
from tbot_core.marketdata.store.recorded_facts import MARKET_CAP, RecordedFacts
from tbot_core.marketdata.store.selection import SymbolSelection, select_symbols
from tbot_core.marketdata.store.store import BarBlock, BarStore
from tbot_core.model.types import ATOMS_PER_CENT, dollars_of
from tbot_core.reports import html
from tbot_core.reports.figures import TradingDay
from tbot_core.reports.reliability import MOST_DAYS, FactUse, Reliability, UnknownFacts, Variant
from tbot_core.reports.summary import RunSummary
from tbot_core.reports.timeline import RunTimeline, SessionTimeline
from tbot_core.trading.slippage import Slippage

if TYPE_CHECKING:
    from tbot_core.reports.trade_levels import TradeKey, TradeLevels

_VARIANTS: Final = ("at twice the slippage", "with entries one bar later")
"""The trials that every backtest adds to its own."""


@attrs.frozen(kw_only=True)
class BacktestRange:
    """The days to test, inclusive, and the symbols; without any: UNIVERSE, else all stored symbols."""

    first: date
    last: date
    symbols: tuple[str, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class BacktestResult:
    """A backtest's summary, its sessions, and the bars that it read."""

    summary: RunSummary
    sessions: Sequence[TestedSession]
    stored: StoredRange

    @property
    def chapters(self) -> list[SessionTimeline]:
        """The sessions for a report."""
        return [timeline_of(session) for session in self.sessions]

    @property
    def levels(self) -> Mapping[TradeKey, TradeLevels]:
        """The levels of all allowed signals."""
        return {key: levels for session in self.sessions for key, levels in session.levels.items()}


@attrs.frozen(kw_only=True, eq=False)
class StoredRange:
    """The bars of a range: their store, which symbols are served, and their blocks, to be read once."""

    store: BarStore
    chosen: SymbolSelection
    blocks: Iterator[BarBlock]


@attrs.define(kw_only=True, eq=False)
class SweepResult:
    """The result of one set: its settings by variable, and figures of each session in order; money in dollars.

    `equity` is that at the end of each session, `trades` their number of closed positions, `won` of those that
    are shown with a profit. `denials` counts by reason code. `walked`: sessions that were walked minute by minute.
    """

    changes: Mapping[str, str]
    settings_hash: str
    equity_start: Decimal
    dates: list[date] = attrs.field(factory=list)
    equity: list[Decimal] = attrs.field(factory=list)
    trades: list[int] = attrs.field(factory=list)
    won: list[int] = attrs.field(factory=list)
    denials: Counter[str] = attrs.field(factory=Counter)
    walked: int = 0

    @property
    def pnl(self) -> Decimal:
        """Profit after fees."""
        return self.equity[-1] - self.equity_start if self.equity else Decimal(0)

    def add(self, tested: TestedSession) -> None:
        """Add a session."""
        self.dates.append(tested.session.date)
        self.equity.append(dollars_of(tested.equity_atoms))
        profits = tested.profits
        self.trades.append(len(profits))
        self.won.append(sum([2 * profit > ATOMS_PER_CENT for profit in profits]))
        if denials := tested.denials:
            self.denials.update(denials)
        self.walked += bool(tested.cause)


@attrs.frozen(eq=False)
class _Set:
    place: int
    changes: Mapping[str, str]
    assembly: Assembly


def run_backtest(
    assembly: Assembly,
    over: BacktestRange,
    progress: Callable[[date], None] = lambda _day: None,
    started: Callable[[FeedLabel], None] = lambda _label: None,
) -> RunSummary:
    """Trade the range and write the report; DataError without bars.

    The summary has `unwritten` where the report could not be written. `started` gets the label of the bars, `progress`
    each session's date.
    """
    result, settings = trade_range(assembly, over, progress, started), assembly.settings
    label, symbols = result.stored.chosen.label, result.stored.chosen.symbols
    parts = (result.summary.mode, settings.fingerprint, label.data_hash, f"{over}")
    name = sha256("\n".join(parts).encode()).hexdigest()[:16]
    story = RunTimeline(
        run={"run_id": name, "source": label.name},
        chapters=tuple(result.chapters),
        gaps=result.stored.chosen.gaps,
        book=SessionBook(trades=list(result.summary.trades)),
    )
    read = StoredBars(store=result.stored.store, symbols=symbols)
    charts = draw_stored_trades(assembly, read, result.summary.trades, result.levels)
    return html.with_report(settings.instance.reports, name, result.summary, story, charts)


def _read_range(assembly: Assembly, over: BacktestRange) -> StoredRange:
    # Find the bars of a range; DataError without any.
    settings, extra = assembly.settings, assembly.extra_facts
    store = BarStore(folder=settings.instance.bars, calendar=assembly.calendar)
    wanted = over.symbols or settings.trading.universe
    chosen = select_symbols(store, over.first, over.last, wanted, extra=extra)
    blocks = store.blocks(over.first, over.last, chosen.symbols, extra=extra)
    return StoredRange(store=store, chosen=chosen, blocks=blocks)


def trade_range(
    assembly: Assembly,
    over: BacktestRange,
    progress: Callable[[date], None] = lambda _day: None,
    started: Callable[[FeedLabel], None] = lambda _label: None,
) -> BacktestResult:
    """The same without a report."""
    stored_range = _read_range(assembly, over)
    chosen, trial = stored_range.chosen, trial_of(assembly, stored_range.chosen.partial_volume)
    run, others = TrialRun(trial), [TrialRun(variant) for variant in _variants(trial)]
    sessions: dict[TrialRun, list[TestedSession]] = {one: [] for one in (run, *others)}
    label = _label(assembly, over, stored_range)
    blocks = _explained(assembly, stored_range.blocks, lambda: started(label))
    for trading, tested in run_trials(list(sessions), blocks):
        sessions[trading].append(tested)
        if trading is run:
            progress(tested.session.date)
    variants = [_variant(*one, sessions[one[1]]) for one in zip(_VARIANTS, others, strict=True)]
    known = _reliability_of(assembly, stored_range, sessions[run], variants, named=bool(over.symbols))
    unknown = _unknown_facts(run.before_bell, sessions[run])
    summary = attrs.evolve(
        _summary(assembly, chosen, run, sessions[run]),
        notes=(*label.notes, *assembly.notes),
        reliability=attrs.evolve(known, unknown=unknown),
    )
    return BacktestResult(summary=summary, sessions=sessions[run], stored=stored_range)


def sweep(assembly: Assembly, over: BacktestRange, grid: Sequence[Mapping[str, str]]) -> list[SweepResult]:
    """Trade a range with each set of changed settings; DataError without bars.

    Raises SettingsError for a set that is invalid, and PluginError for one that needs another plugin than the
    assembly's. Sets that trade the same symbols on the same days read their bars once.
    """
    alike = dict[Hashable, list[_Set]]()
    for one in _sets(assembly, grid):
        settings = one.assembly.settings.trading
        key = id(one.assembly.calendar), over.symbols or settings.universe, one.assembly.extra_facts
        alike.setdefault(key, []).append(one)
    results = dict[int, SweepResult]()
    for sets in alike.values():
        stored_range = _read_range(sets[0].assembly, over)
        results |= _swept(sets, stored_range.blocks, stored_range.chosen.partial_volume)
    return [results[place] for place in range(len(grid))]


def sweep_blocks(
    assembly: Assembly, grid: Sequence[Mapping[str, str]], blocks: Iterable[BarBlock]
) -> list[SweepResult]:
    """The same on blocks, whose days and symbols are those of every set."""
    return list(_swept(_sets(assembly, grid), blocks, frozenset()).values())


def _explained(assembly: Assembly, blocks: Iterable[BarBlock], started: Callable[[], None]) -> Iterator[BarBlock]:
    # Blocks whose strategies were asked for their triggers in one session: invalid ones end a backtest as a replay.
    # `started` is called with the first one: a backtest whose bars cannot be read has only its error.
    for number, block in enumerate(blocks):
        bars, day = block.bars.session(0), block.day.session(0)
        for active in assembly.entrants(block.sessions[0]):
            active.triggers(bars, day)
        if not number:
            started()
        yield block


def _summary(assembly: Assembly, chosen: SymbolSelection, run: TrialRun, tested: Sequence[TestedSession]) -> RunSummary:
    denials = run.before_bell.denials.copy()
    for one in tested:
        denials.update(one.denials)
    return RunSummary(
        mode="backtest",
        sessions=len(tested),
        symbols=len(chosen.symbols),
        equity_start=dollars_of(tested[0].opening_atoms),
        equity_end=dollars_of(run.equity_atoms),
        trades=Lazy(
            sum(len(session.trades) for session in tested),
            lambda: tuple(itertools.chain.from_iterable(session.trades for session in tested)),
        ),
        strategies=tuple(assembly.settings.strategies),
        variables=frozenset(assembly.settings.values),
        without_candidates=run.before_bell.without_candidates,
        denials=denials,
        settings_hash=assembly.settings.fingerprint,
        data_hash=chosen.data_hash,
        simulated=chosen.simulated,
        walked=Counter(session.cause for session in tested if session.cause),
    )


def _label(assembly: Assembly, over: BacktestRange, found: StoredRange) -> FeedLabel:
    # The label of the bars, with what filters and strategies lack, and what `--set` changed.
    label, symbols = found.chosen.label, found.chosen.symbols
    missing = missing_fact_notes(assembly, found.store, (over.first, over.last), symbols)
    return attrs.evolve(label, notes=(*label.notes, *missing, *trial_notes(assembly.settings)))


def _variant(words: str, run: TrialRun, tested: Sequence[TestedSession]) -> Variant:
    pnl = dollars_of(run.equity_atoms - run.trial.opening_atoms)
    trades = sum(len(session.trades) for session in tested)
    return Variant(words=words, trades=trades, pnl=pnl, costs_only=words == _VARIANTS[0])


def _variants(trial: Trial) -> list[Trial]:
    # The trials that show how much a result hangs on cheap and prompt fills, in the order of `_VARIANTS`.
    costs = trial.terms.costs
    changed = (costs.at_twice_the_slippage(), attrs.evolve(costs, entry_delay=1))
    return [attrs.evolve(trial, terms=attrs.evolve(trial.terms, costs=one)) for one in changed]


def _reliability_of(
    assembly: Assembly,
    found: StoredRange,
    tested: Sequence[TestedSession],
    variants: Sequence[Variant],
    *,
    named: bool,
) -> Reliability:
    # What readers of a backtest have to know; `named`: the caller chose the symbols.
    store, selected, settings = found.store, found.chosen, assembly.settings
    return Reliability(
        variants=variants,
        slippage=Slippage.of(settings.simulation),
        days=[
            TradingDay(
                open=session.session.open,
                close=session.session.close,
                opening=dollars_of(session.opening_atoms),
                closing=dollars_of(session.equity_atoms),
            )
            for session in tested
        ],
        chosen="--symbols" if named else "UNIVERSE" if settings.trading.universe else "stored",
        symbols=len(selected.symbols),
        facts={name: _fact_use(name, store.recorded_facts, selected.symbols, tested) for name in _facts(assembly)},
        kinds=selected.kinds,
        notes=(*selected.notes_on_kinds, *selected.notes_on_gaps),
    )


def _unknown_facts(before: BeforeBell, tested: Sequence[TestedSession]) -> UnknownFacts | None:
    # What passed the checks of these sessions without a known fact; None if nothing did.
    if not before.unknown:
        return None
    known = (session.session.date for session in tested if session.session.date not in before.unsure)
    return UnknownFacts(signals=before.unknown, first_known=min(known, default=None))


def _fact_use(name: str, recorded: RecordedFacts, symbols: tuple[str, ...], tested: Sequence[TestedSession]) -> FactUse:
    days = [session.session.date for session in tested]
    ages = recorded.ages(name, days, symbols)
    known = ages[~np.isnan(ages)]
    counts = np.bincount(np.searchsorted(MOST_DAYS, known), minlength=len(MOST_DAYS) + 1).tolist()
    return FactUse(first_days=recorded.first_days(name, symbols, days[-1]), ages=(*counts, ages.size - known.size))


def _facts(assembly: Assembly) -> set[str]:
    # The facts about symbols that filters compare: what they fetch, and capitalisations if a strategy limits them.
    found = {name for one in assembly.filters.values() if isinstance(one, SupportsRefresh) for name in one.facts}
    frames = (assembly.settings.frames[name] for name in assembly.settings.strategies)
    if assembly.filters and any(one.min_market_cap or one.max_market_cap for one in frames):
        found.add(MARKET_CAP)
    return found


def _sets(assembly: Assembly, grid: Sequence[Mapping[str, str]]) -> list[_Set]:
    assemblies = ChangedAssemblies(assembly)
    return [_Set(place, changes, assemblies.of(changes)) for place, changes in enumerate(grid)]


def _swept(sets: Sequence[_Set], blocks: Iterable[BarBlock], partial_volume: frozenset[str]) -> dict[int, SweepResult]:
    # The results by place; `partial_volume`: symbols whose volumes are a part of the tape.
    results, runs = dict[int, SweepResult](), dict[TrialRun, SweepResult]()
    for one in sets:
        run = TrialRun(trial_of(one.assembly, partial_volume))
        runs[run] = results[one.place] = SweepResult(
            changes=one.changes,
            settings_hash=one.assembly.settings.fingerprint,
            equity_start=dollars_of(run.equity_atoms),
        )
    for run, tested in run_trials(list(runs), blocks):
        runs[run].add(tested)
    for run, result in runs.items():
        result.denials.update(run.before_bell.denials)
    return results
