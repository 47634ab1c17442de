"""The backtest engine: it scans the sessions of a month at once, then walks them in order of date."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import FeedLabel, FeedRequest
from tbot_core.engine.backtest.candidates import Candidates, candidates_of
from tbot_core.engine.backtest.glide import GlideTerms, StepNeeded, glide
from tbot_core.engine.backtest.results import GlidedSession, Lazy, SteppedSession, TestedSession, timeline_of
from tbot_core.engine.backtest.session_walk import BacktestTerms, plain_id, walk_session
from tbot_core.engine.trade_charts import draw_stored_trades
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.projections.vix import with_recorded_vix
from tbot_core.marketdata.store.selection import SymbolSelection, select_symbols
from tbot_core.marketdata.store.store import BarBlock, BarStore
from tbot_core.model.bars import Bars, Flags
from tbot_core.model.calendar import Session
from tbot_core.model.day_facts import MarketView
from tbot_core.model.reasons import Reason, most_frequent
from tbot_core.model.types import atoms_of, dollars_of
from tbot_core.reports import html
from tbot_core.reports.summary import RunSummary
from tbot_core.reports.timeline import RunTimeline, SessionTimeline
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
from tbot_core.trading.verdicts import denial_counts

if TYPE_CHECKING:
    from tbot_core.engine.bootstrap import Assembly
    from tbot_core.reports.trade_levels import TradeKey, TradeLevels


@attrs.frozen(kw_only=True)
class BacktestRange:
    """The days to test, inclusive, and the symbols; without any: UNIVERSE, else all stored symbols."""

    first: date
    last: date
    symbols: tuple[str, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class BacktestResult:
    """A backtest's summary and its sessions; `label` is that of the bars."""

    summary: RunSummary
    sessions: Sequence[TestedSession]
    label: FeedLabel

    @property
    def chapters(self) -> list[SessionTimeline]:
        """The sessions for a report."""
        return [timeline_of(one) for one in self.sessions]

    @property
    def levels(self) -> Mapping[TradeKey, TradeLevels]:
        """The levels of all allowed signals."""
        return {key: levels for one in self.sessions for key, levels in one.levels.items()}


@attrs.define(eq=False)
class BeforeBell:
    """What was denied before the bell, by reason; by strategy, the reasons of sessions that denied every symbol."""

    denials: Counter[str] = attrs.field(factory=Counter)
    without_candidates: dict[str, Counter[str]] = attrs.field(factory=dict)


def run_backtest(
    assembly: Assembly,
    over: BacktestRange,
    progress: Callable[[date], None] = lambda _day: None,
    started: Callable[[FeedLabel], None] = lambda _label: None,
) -> RunSummary:
    """Trade the range and write the report; DataError without bars.

    `started` gets the label of the bars, `progress` each session's date.
    """
    found, settings = trade_range(assembly, over, progress, started), assembly.settings
    request = FeedRequest(
        kind="replay",
        first=over.first,
        last=over.last,
        symbols=over.symbols,
        bars=settings.instance.bars,
        calendar=assembly.calendar,
    )
    parts = (found.summary.mode, settings.fingerprint, found.label.data_hash, f"{over}")
    name = sha256("\n".join(parts).encode()).hexdigest()[:16]
    story = RunTimeline(
        run={"run_id": name, "source": found.label.name, "simulated": found.label.simulated},
        chapters=tuple(found.chapters),
        book=SessionBook(trades=list(found.summary.trades)),
    )
    charts = draw_stored_trades(assembly, request, found.summary.trades, found.levels)
    path = html.write_report(settings.instance.reports, name, found.summary, story, charts)
    return attrs.evolve(found.summary, report=str(path))


def trade_range(
    assembly: Assembly,
    over: BacktestRange,
    progress: Callable[[date], None] = lambda _day: None,
    started: Callable[[FeedLabel], None] = lambda _label: None,
) -> BacktestResult:
    """The same without a report."""
    settings, typical = assembly.settings, assembly.typical_volume
    store = BarStore(folder=settings.instance.bars, calendar=assembly.calendar)
    wanted = over.symbols or settings.trading.universe
    chosen = select_symbols(store, over.first, over.last, wanted, typical_volume=typical)
    costs = FillCosts.of(settings.simulation, settings.exits.target_fill).without_volume_limit(chosen.partial_volume)
    before_bell = BeforeBell()
    blocks = store.blocks(over.first, over.last, chosen.symbols, typical_volume=typical)
    tested = list[TestedSession]()
    for one in trade_blocks(assembly, costs, blocks, before_bell):
        if not tested:
            started(chosen.label)
        tested.append(one)
        progress(one.session.date)
    return BacktestResult(summary=_summary(assembly, chosen, tested, before_bell), sessions=tested, label=chosen.label)


def trade_blocks(
    assembly: Assembly, costs: FillCosts, blocks: Iterable[BarBlock], before_bell: BeforeBell
) -> Iterator[TestedSession]:
    """Trade the sessions of blocks in order of date, from PAPER_CASH; a month of bars is in memory at a time."""
    terms = _terms(assembly, costs)
    shared, equity = GlideTerms.of(terms), atoms_of(assembly.settings.simulation.paper_cash)
    for _, month in itertools.groupby(blocks, key=lambda block: block.month):
        ready = [found for block in month for found in _scanned(assembly, terms, block, before_bell)]
        for scanned, index in sorted(
            ((one, index) for one in ready for index in range(len(one.sessions))),
            key=lambda pair: pair[0].sessions[pair[1]].date,
        ):
            tested = _trade_session(terms, shared, (scanned, index), equity)
            equity = tested.equity_atoms
            yield tested


def _trade_session(terms: BacktestTerms, shared: GlideTerms, one: tuple[_Scanned, int], equity: int) -> TestedSession:
    scanned, index = one
    session, found = scanned.sessions[index], scanned.found
    try:
        glided = glide(shared, found, index, scanned.bars, equity)
    except StepNeeded as cause:
        walked = walk_session(terms, session, scanned.bars.session(index), found.proposals(index), equity)
        return SteppedSession(session=session, opening_atoms=equity, walked=walked, cause=str(cause))
    return GlidedSession(session=session, opening_atoms=equity, found=found, glided=glided)


def _summary(
    assembly: Assembly, chosen: SymbolSelection, tested: Sequence[TestedSession], before_bell: BeforeBell
) -> RunSummary:
    denials = before_bell.denials.copy()
    for one in tested:
        denials.update(one.denials)
    return RunSummary(
        mode="backtest",
        sessions=len(tested),
        symbols=len(chosen.symbols),
        equity_start=dollars_of(tested[0].opening_atoms),
        equity_end=dollars_of(tested[-1].equity_atoms),
        trades=Lazy(
            sum(len(one.trades) for one in tested),
            lambda: tuple(itertools.chain.from_iterable(one.trades for one in tested)),
        ),
        strategies=tuple(assembly.settings.strategies),
        variables=frozenset(assembly.settings.values),
        without_candidates=before_bell.without_candidates,
        denials=denials,
        settings_hash=assembly.settings.fingerprint,
        data_hash=chosen.data_hash,
        notes=(*chosen.label.notes, *assembly.notes),
    )


def _terms(assembly: Assembly, costs: FillCosts) -> BacktestTerms:
    # MAX_CONSECUTIVE_LOSSES counts losses of one minute by client order id; nothing else depends on these ids.
    counts = assembly.settings.risk.max_consecutive_losses
    name = assembly.simulated_ids().client_order_id if counts else plain_id
    return BacktestTerms(rules=assembly.rules(SIMULATOR_CAPABILITIES), costs=costs, name=name, checks=assembly.checks)


@attrs.frozen(kw_only=True, eq=False)
class _Scanned:
    # Sessions with equal windows, ready to be traded: their bars, and the candidates of their strategies.
    sessions: Sequence[Session]
    bars: Bars
    found: Candidates


def _scanned(assembly: Assembly, terms: BacktestTerms, block: BarBlock, before_bell: BeforeBell) -> Iterator[_Scanned]:
    # Screen and scan a block; sessions with equal windows are scanned together.
    rules = terms.rules
    rows_by_entrants: dict[tuple[ActiveStrategy, ...], list[int]] = {}
    for index, session in enumerate(block.sessions):
        rows_by_entrants.setdefault(assembly.entrants(session), []).append(index)
    for entrants, rows in rows_by_entrants.items():
        part = _part(block, rows)
        cut = universe_cut(entrants, rules, part.day, part.bars.symbols, part.sessions[0].minutes)
        judged = list[JudgedSignals]()
        for entrant in entrants:
            day = with_recorded_vix(part.day, [one.date for one in part.sessions], entrant.name, assembly.recorded_vix)
            judged += _judged(entrant, rules, attrs.evolve(part, day=day), cut, before_bell)
        found = candidates_of(judged, rules, terms.costs, part.bars, len(part.sessions))
        yield _Scanned(sessions=part.sessions, bars=part.bars, found=found)


def _judged(
    entrant: ActiveStrategy, rules: TradingRules, block: BarBlock, cut: Flags | None, before_bell: BeforeBell
) -> Iterator[JudgedSignals]:
    # The signals of a strategy; nothing where the screening denied every symbol of the block.
    minutes = block.sessions[0].minutes
    screened = screen(entrant, rules, block.day, block.bars.symbols, minutes, cut=cut)
    denied = screened.reasons != Reason.ALLOWED
    if denied.any():  # a symbol without a bar in a session was no candidate there
        before_bell.denials.update(denial_counts(screened.reasons[denied & block.bars.traded]))
        most = [most_frequent(denial_counts(reasons)) for reasons in screened.reasons[denied.all(axis=-1)]]
        if most:
            before_bell.without_candidates.setdefault(entrant.name, Counter()).update(most)
    if denied.all():
        return
    signals = entrant.strategy.scan(block.bars, block.day)
    scan = ScanResult(signals=signals, screened=screened, dates=tuple(session.date for session in block.sessions))
    yield judge_scan(entrant, rules, scan, MarketView(bars=block.bars, day=block.day))


def _part(block: BarBlock, rows: list[int]) -> BarBlock:
    if len(rows) == len(block.sessions):
        return block
    return BarBlock(
        month=block.month,
        sessions=tuple(block.sessions[row] for row in rows),
        bars=block.bars.sessions(rows),
        day=block.day.sessions(rows),
    )
