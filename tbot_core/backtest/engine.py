"""Backtests: a range of stored sessions is traded, and its results are put together."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.backtest.reliability import reliability_of, unknown_facts
from tbot_core.backtest.results import Lazy, TestedSession, timeline_of
from tbot_core.backtest.trials import Trial, TrialRun, run_trials, trial_of
from tbot_core.engine.missing_facts import missing_fact_notes
from tbot_core.engine.run_notes import trial_notes
from tbot_core.engine.trade_charts import StoredBars, draw_stored_trades
from tbot_core.journal.projections.book import SessionBook
from tbot_core.marketdata.store.selection import SymbolSelection, select_symbols
from tbot_core.marketdata.store.store import BarBlock, BarStore
from tbot_core.model.types import dollars_of
from tbot_core.reports import html
from tbot_core.reports.reliability import Variant
from tbot_core.reports.summary import RunSummary
from tbot_core.reports.timeline import RunTimeline, SessionTimeline

if TYPE_CHECKING:
    from tbot_core.contracts import FeedLabel
    from tbot_core.engine.assembly import Assembly
    from tbot_core.reports.trade_levels import TradeKey, TradeLevels


VARIANTS: Final = ("at twice the slippage", "with entries one bar later")
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
        return [timeline_of(one) for one in self.sessions]

    @property
    def levels(self) -> Mapping[TradeKey, TradeLevels]:
        """The levels of all allowed signals."""
        return {key: levels for one in self.sessions for key, levels in one.levels.items()}


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
    found, settings = trade_range(assembly, over, progress, started), assembly.settings
    label, symbols = found.stored.chosen.label, found.stored.chosen.symbols
    parts = (found.summary.mode, settings.fingerprint, label.data_hash, f"{over}")
    name = sha256("\n".join(parts).encode()).hexdigest()[:16]
    story = RunTimeline(
        run={"run_id": name, "source": label.name},
        chapters=tuple(found.chapters),
        gaps=found.stored.chosen.gaps,
        book=SessionBook(trades=list(found.summary.trades)),
    )
    read = StoredBars(store=found.stored.store, symbols=symbols)
    charts = draw_stored_trades(assembly, read, found.summary.trades, found.levels)
    return html.with_report(settings.instance.reports, name, found.summary, story, charts)


@attrs.frozen(kw_only=True, eq=False)
class StoredRange:
    """The bars of a range: their store, which symbols are served, and their blocks, to be read once."""

    store: BarStore
    chosen: SymbolSelection
    blocks: Iterator[BarBlock]


def read_range(assembly: Assembly, over: BacktestRange) -> StoredRange:
    """Find the bars of a range; DataError without any."""
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
    found = read_range(assembly, over)
    chosen, trial = found.chosen, trial_of(assembly, found.chosen.partial_volume)
    run, others = TrialRun(trial), [TrialRun(one) for one in _variants(trial)]
    sessions: dict[TrialRun, list[TestedSession]] = {one: [] for one in (run, *others)}
    label = _label(assembly, over, found)
    blocks = _explained(assembly, found.blocks, lambda: started(label))
    for trading, tested in run_trials(list(sessions), blocks):
        sessions[trading].append(tested)
        if trading is run:
            progress(tested.session.date)
    variants = [_variant(*one, sessions[one[1]]) for one in zip(VARIANTS, others, strict=True)]
    known = reliability_of(assembly, (found.store, chosen), sessions[run], variants, named=bool(over.symbols))
    unknown = unknown_facts(run.before_bell, sessions[run])
    summary = attrs.evolve(
        _summary(assembly, chosen, run, sessions[run]),
        notes=(*label.notes, *assembly.notes),
        reliability=attrs.evolve(known, unknown=unknown),
    )
    return BacktestResult(summary=summary, sessions=sessions[run], stored=found)


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
            sum(len(one.trades) for one in tested),
            lambda: tuple(itertools.chain.from_iterable(one.trades for one in tested)),
        ),
        strategies=tuple(assembly.settings.strategies),
        variables=frozenset(assembly.settings.values),
        without_candidates=run.before_bell.without_candidates,
        denials=denials,
        settings_hash=assembly.settings.fingerprint,
        data_hash=chosen.data_hash,
        simulated=chosen.simulated,
        walked=Counter(one.cause for one in tested if one.cause),
    )


def _label(assembly: Assembly, over: BacktestRange, found: StoredRange) -> FeedLabel:
    # The label of the bars, with what filters and strategies lack, and what `--set` changed.
    label, symbols = found.chosen.label, found.chosen.symbols
    missing = missing_fact_notes(assembly, found.store, (over.first, over.last), symbols)
    return attrs.evolve(label, notes=(*label.notes, *missing, *trial_notes(assembly.settings)))


def _variant(words: str, run: TrialRun, tested: Sequence[TestedSession]) -> Variant:
    pnl = dollars_of(run.equity_atoms - run.trial.opening_atoms)
    trades = sum(len(one.trades) for one in tested)
    return Variant(words=words, trades=trades, pnl=pnl, costs_only=words == VARIANTS[0])


def _variants(trial: Trial) -> list[Trial]:
    # The trials that show how much a result hangs on cheap and prompt fills, in the order of `VARIANTS`.
    costs = trial.terms.costs
    changed = (costs.at_twice_the_slippage(), attrs.evolve(costs, entry_delay=1))
    return [attrs.evolve(trial, terms=attrs.evolve(trial.terms, costs=one)) for one in changed]
