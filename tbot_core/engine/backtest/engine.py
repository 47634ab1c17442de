"""The backtest engine: it scans the sessions of a month at once, then walks them in order of date."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING

import attrs

from tbot_core.engine.backtest.session_walk import BacktestTerms, plain_id, walk_session
from tbot_core.engine.bootstrap import SIMULATOR
from tbot_core.journal.projections.vix import with_recorded_vix
from tbot_core.marketdata.store.selection import select_symbols
from tbot_core.marketdata.store.store import BarBlock, BarStore
from tbot_core.model.bars import Bars, Flags, MarketView
from tbot_core.model.calendar import Session
from tbot_core.model.reasons import Reason, most_frequent
from tbot_core.model.types import Trade, atoms_of, dollars_of
from tbot_core.reports.summary import RunSummary
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES
from tbot_core.trading.proposals import (
    ActiveStrategy,
    Proposal,
    ScanResult,
    TradingRules,
    denial_counts,
    propose,
    screen,
    universe_cut,
)

if TYPE_CHECKING:
    from tbot_core.contracts import FeedLabel
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
    """Trade the range; DataError without bars. `started` gets the label of the bars, `progress` each session's date."""
    settings, typical = assembly.settings, assembly.typical_volume
    store = BarStore(folder=settings.instance.bars, calendar=assembly.calendar)
    wanted = over.symbols or settings.trading.universe
    chosen = select_symbols(store, over.first, over.last, wanted, typical_volume=typical)
    costs = FillCosts.of(settings.simulation, settings.exits.target_fill).without_volume_limit(chosen.partial_volume)
    terms = _terms(assembly, costs)
    opening = equity = atoms_of(settings.simulation.paper_cash)
    trades, before_bell, denials, sessions = list[Trade](), _BeforeBell(), Counter[str](), 0
    blocks = store.blocks(over.first, over.last, chosen.symbols, typical_volume=typical)
    for found in _scanned_sessions(assembly, terms.rules, blocks, before_bell):
        if not sessions:
            started(chosen.label)
        walked = walk_session(terms, found.session, found.bars, found.proposals, equity)
        equity = walked.equity_atoms
        trades += [position.to_trade(SIMULATOR) for position in walked.positions]
        denials += walked.denials
        sessions += 1
        progress(found.session.date)
    return RunSummary(
        mode="backtest",
        sessions=sessions,
        symbols=len(chosen.symbols),
        equity_start=dollars_of(opening),
        equity_end=dollars_of(equity),
        trades=tuple(trades),
        strategies=tuple(settings.strategies),
        variables=frozenset(settings.values),
        without_candidates=before_bell.without_candidates,
        denials=denials + before_bell.denials,
        settings_hash=settings.fingerprint,
        data_hash=chosen.data_hash,
        notes=(*chosen.label.notes, *assembly.notes),
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
