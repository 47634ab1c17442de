"""Walks one session over complete bars, with the decision engine and matching of a replay, without waiting."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import RiskCheck
from tbot_core.model.reasons import Reason
from tbot_core.model.types import dollars_of
from tbot_core.trading.commands import CancelOrder, ReplaceOrder, SubmitOrder
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import MatchingEngine, last_close_ticks
from tbot_core.trading.portfolio import Position
from tbot_core.trading.positions.order_factory import OrderIdFactory
from tbot_core.trading.proposals import TradingRules
from tbot_core.trading.risk.account import simulated_account

if TYPE_CHECKING:
    from tbot_core.model.bars import Bars
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Leg, SignalId
    from tbot_core.trading.commands import Decision, TradingCommand
    from tbot_core.trading.proposals import Proposal


@attrs.frozen(kw_only=True, eq=False)
class BacktestTerms:
    """What every session of a backtest shares; `name` creates the client order ids."""

    rules: TradingRules
    costs: FillCosts
    name: OrderIdFactory
    checks: tuple[tuple[str, RiskCheck], ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class SessionResult:
    """A session's result: closed positions in the order of their closing, equity in atoms, denials by reason code."""

    positions: Sequence[Position]
    equity_atoms: int
    denials: Counter[str]


def walk_session(
    terms: BacktestTerms, session: Session, bars: Bars, proposals: Sequence[Proposal], equity_atoms: int
) -> SessionResult:
    """Trade one session; `proposals` are those of all its strategies, in any order."""
    decision_engine = DecisionEngine(terms.rules, session, equity_atoms, terms.name, terms.checks)
    decision_engine.with_figures = False
    decision_engine.update_account(simulated_account("", dollars_of(equity_atoms)))
    venue = MatchingEngine(terms.costs, session, bars.symbols)
    denials: Counter[str] = Counter()
    due: defaultdict[int, list[Proposal]] = defaultdict(list)
    for proposal in proposals:
        due[proposal.signal.minute].append(proposal)
    pending = sorted(due, reverse=True)
    minute = -1
    while True:
        minute += 1
        if decision_engine.position_manager.is_idle and venue.idle:
            while pending and pending[-1] < minute:
                pending.pop()
            if not pending:
                break
            minute = pending[-1]
        if minute >= session.minutes:
            break
        for decision in _step(decision_engine, venue, bars, minute, due.get(minute, ())):
            if decision.order is None:
                denials[decision.reason.name] += 1
    venue.close(partial(last_close_ticks, bars))
    _book(decision_engine, venue)
    closed = decision_engine.portfolio.closed
    if missed := sum(decision_engine.exposure.sent.values()) - len(closed):  # every filled entry is closed by now
        denials[Reason.ENTRY_NOT_FILLED.name] = missed
    return SessionResult(positions=closed, equity_atoms=decision_engine.portfolio.equity_atoms, denials=denials)


def _step(
    decision_engine: DecisionEngine, venue: MatchingEngine, bars: Bars, minute: int, proposals: Sequence[Proposal]
) -> list[Decision]:
    # One minute, in the same order as in live sessions.
    if not venue.idle:
        venue.match(bars, minute)
        _process_events(decision_engine, venue, minute)
    decision_engine.mark(bars, minute)
    actions, decisions = (
        decision_engine.position_manager.orders_after_minute(bars, minute),
        decision_engine.decide(proposals),
    )
    top_ups = decision_engine.top_up(decision_engine.position_manager.top_ups.proposals(bars, minute))
    if actions:
        _execute(venue, actions, minute)
        _process_events(decision_engine, venue, minute)
    entries = [decision.order for decision in (*decisions, *top_ups) if decision.order is not None]
    for order in entries:
        venue.accept(order, minute)
    if entries:
        _process_events(decision_engine, venue, minute)
    return decisions


def _process_events(decision_engine: DecisionEngine, venue: MatchingEngine, minute: int) -> None:
    # Book the venue's events and send the orders that follow, until there are none.
    _book(decision_engine, venue)
    while actions := decision_engine.position_manager.orders_due_now():
        _execute(venue, actions, minute)
        _book(decision_engine, venue)


def _book(decision_engine: DecisionEngine, venue: MatchingEngine) -> None:
    for event in venue.events():
        decision_engine.position_manager.on_order_event(event)


def _execute(venue: MatchingEngine, actions: Sequence[TradingCommand], minute: int) -> None:
    for action in actions:
        match action:
            case SubmitOrder(order=order):
                venue.accept(order, minute)
            case CancelOrder(client_order_id=cid):
                venue.cancel(cid)
            case ReplaceOrder(client_order_id=cid, stop_price=price):
                venue.replace(cid, price)


def plain_id(signal: SignalId, leg: Leg, attempt: int) -> str:
    """An order's id within a backtest, made faster than a client order id."""
    return f"{signal.symbol}/{signal.strategy}/{signal.minute}/{leg}/{attempt}"
