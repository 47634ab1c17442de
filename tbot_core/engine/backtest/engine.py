"""The backtest engine: it scans the sessions of a month at once, then walks them in order of date."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import FeedLabel, FeedRequest
from tbot_core.engine.backtest.session_walk import BacktestTerms, SessionResult, plain_id, walk_session
from tbot_core.engine.bootstrap import SIMULATOR
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
from tbot_core.reports.trade_levels import TradeKey, TradeLevels
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES
from tbot_core.trading.proposals import (
    ActiveStrategy,
    Proposal,
    ScanResult,
    TradingRules,
    propose,
    screen,
    universe_cut,
)
from tbot_core.trading.verdicts import denial_counts

if TYPE_CHECKING:
    from tbot_core.engine.bootstrap import Assembly


@attrs.frozen(kw_only=True)
class BacktestRange:
    """The days to test, inclusive, and the symbols; without any: UNIVERSE, else all stored symbols."""

    first: date
    last: date
    symbols: tuple[str, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class _ScannedSession:
    # A session ready to be walked: its bars, and the proposals of its strategies.
    session: Session
    bars: Bars
    proposals: Sequence[Proposal]


@attrs.frozen(kw_only=True, eq=False)
class BacktestResult:
    """A backtest's summary, its sessions, and the levels of its signals; `label` is that of the bars."""

    summary: RunSummary
    chapters: Sequence[SessionTimeline]
    levels: Mapping[TradeKey, TradeLevels]
    label: FeedLabel


@attrs.define(eq=False)
class _BeforeBell:
    # What was denied before the bell: counts by reason; by strategy the reasons of sessions that denied every symbol.
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
    terms = _terms(assembly, costs)
    equity = atoms_of(settings.simulation.paper_cash)
    chapters, before_bell, denials = list[SessionTimeline](), _BeforeBell(), Counter[str]()
    levels = dict[TradeKey, TradeLevels]()
    blocks = store.blocks(over.first, over.last, chosen.symbols, typical_volume=typical)
    for found in _scanned_sessions(assembly, terms.rules, blocks, before_bell):
        if not chapters:
            started(chosen.label)
        walked = walk_session(terms, found.session, found.bars, found.proposals, equity)
        chapters.append(_chapter(found.session, equity, walked))
        equity = walked.equity_atoms
        denials += walked.denials
        levels.update(walked.levels)
        progress(found.session.date)
    summary = _summary(assembly, chosen, chapters, denials, before_bell)
    return BacktestResult(summary=summary, chapters=chapters, levels=levels, label=chosen.label)


def _summary(
    assembly: Assembly,
    chosen: SymbolSelection,
    chapters: Sequence[SessionTimeline],
    denials: Counter[str],
    before_bell: _BeforeBell,
) -> RunSummary:
    return RunSummary(
        mode="backtest",
        sessions=len(chapters),
        symbols=len(chosen.symbols),
        equity_start=chapters[0].opening,
        equity_end=chapters[-1].closing,
        trades=tuple(itertools.chain.from_iterable(chapter.trades for chapter in chapters)),
        strategies=tuple(assembly.settings.strategies),
        variables=frozenset(assembly.settings.values),
        without_candidates=before_bell.without_candidates,
        denials=denials + before_bell.denials,
        settings_hash=assembly.settings.fingerprint,
        data_hash=chosen.data_hash,
        notes=(*chosen.label.notes, *assembly.notes),
    )


def _chapter(session: Session, opening_atoms: int, walked: SessionResult) -> SessionTimeline:
    return SessionTimeline(
        date=session.date.isoformat(),
        open=session.open,
        close=session.close,
        opening=dollars_of(opening_atoms),
        closing=dollars_of(walked.equity_atoms),
        closed=True,
        trades=[position.to_trade(SIMULATOR) for position in walked.positions],
        primary=SIMULATOR,
    )


def _terms(assembly: Assembly, costs: FillCosts) -> BacktestTerms:
    # MAX_CONSECUTIVE_LOSSES counts losses of one minute by client order id; nothing else depends on these ids.
    counts = assembly.settings.risk.max_consecutive_losses
    name = assembly.simulated_ids().client_order_id if counts else plain_id
    return BacktestTerms(rules=assembly.rules(SIMULATOR_CAPABILITIES), costs=costs, name=name, checks=assembly.checks)


def _scanned_sessions(
    assembly: Assembly, rules: TradingRules, blocks: Iterator[BarBlock], before_bell: _BeforeBell
) -> Iterator[_ScannedSession]:
    # The sessions in order of date; a month of bars is in memory at a time.
    for _, month in itertools.groupby(blocks, key=lambda block: block.month):
        ready = [found for block in month for found in _scan(assembly, rules, block, before_bell)]
        yield from sorted(ready, key=lambda found: found.session.date)


def _scan(
    assembly: Assembly, rules: TradingRules, block: BarBlock, before_bell: _BeforeBell
) -> Iterator[_ScannedSession]:
    # Screen and scan a block; sessions with equal windows are scanned together.
    entrants_by_session = [assembly.entrants(session) for session in block.sessions]
    rows_by_entrants: dict[tuple[ActiveStrategy, ...], list[int]] = {}
    for index, entrants in enumerate(entrants_by_session):
        rows_by_entrants.setdefault(entrants, []).append(index)
    for entrants, rows in rows_by_entrants.items():
        part = _part(block, rows)
        proposals: list[list[Proposal]] = [[] for _ in rows]
        cut = universe_cut(entrants, rules, part.day, part.bars.symbols, part.sessions[0].minutes)
        for entrant in entrants:
            day = with_recorded_vix(part.day, [one.date for one in part.sessions], entrant.name, assembly.recorded_vix)
            with_vix = attrs.evolve(part, day=day)
            for session, found in zip(proposals, _proposals(entrant, rules, with_vix, cut, before_bell), strict=True):
                session.extend(found)
        for row, found in enumerate(proposals):
            yield _ScannedSession(session=part.sessions[row], bars=part.bars.session(row), proposals=found)


def _proposals(
    entrant: ActiveStrategy, rules: TradingRules, block: BarBlock, cut: Flags | None, before_bell: _BeforeBell
) -> list[list[Proposal]]:
    minutes = block.sessions[0].minutes
    screened = screen(entrant, rules, block.day, block.bars.symbols, minutes, cut=cut)
    denied = screened.reasons != Reason.ALLOWED
    if denied.any():  # a symbol without a bar in a session was no candidate there
        before_bell.denials.update(denial_counts(screened.reasons[denied & block.bars.traded]))
        most = [most_frequent(denial_counts(reasons)) for reasons in screened.reasons[denied.all(axis=-1)]]
        if most:
            before_bell.without_candidates.setdefault(entrant.name, Counter()).update(most)
    if denied.all():
        return [[] for _ in block.sessions]
    signals = entrant.strategy.scan(block.bars, block.day)
    scan = ScanResult(signals=signals, screened=screened, dates=tuple(session.date for session in block.sessions))
    return propose(entrant, rules, scan, MarketView(bars=block.bars, day=block.day))


def _part(block: BarBlock, rows: list[int]) -> BarBlock:
    if len(rows) == len(block.sessions):
        return block
    return BarBlock(
        month=block.month,
        sessions=tuple(block.sessions[row] for row in rows),
        bars=block.bars.sessions(rows),
        day=block.day.sessions(rows),
    )
