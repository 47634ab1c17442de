"""Walks one session over complete bars, with the decision engine and matching of a replay, without waiting."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import RiskCheck
from tbot_core.model.reasons import Reason
from tbot_core.model.types import dollars_of
from tbot_core.reports.trade_levels import LevelRecorder, TradeKey, TradeLevels
from tbot_core.trading.commands import CancelOrder, Decision, ReplaceOrder, SubmitOrder
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
    from tbot_core.model.types import Leg, Order, SignalId
    from tbot_core.trading.commands import TradingCommand
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
    """A session's result: closed positions in the order of their closing, equity in atoms, denials by reason code.

    `decisions` are those on its proposals, in their order; `levels` the stops and targets of its signals.
    """

    positions: Sequence[Position]
    equity_atoms: int
    denials: Counter[str]
    decisions: Sequence[Decision]
    levels: Mapping[TradeKey, TradeLevels]


class _Venue:
    # The session's matching engine, and a record of the levels that it was given.
    def __init__(self, engine: MatchingEngine, session: Session) -> None:
        self.engine = engine
        self.recorder = LevelRecorder()
        self._session = session

    def decided(self, proposal: Proposal, minute: int) -> None:
        """An allowed proposal, before its order is accepted."""
        self.recorder.decided(proposal.signal, self._session.moment(minute + 1), proposal.stop, proposal.target)

    def accept(self, order: Order, minute: int) -> None:
        """Accept an order after a minute has closed."""
        self.engine.accept(order, minute)
        self.recorder.submitted(order, self._session.moment(minute + 1))

    def replace(self, request: ReplaceOrder, minute: int) -> None:
        """Move a stop after a minute has closed."""
        self.engine.replace(request.client_order_id, request.stop_price)
        self.recorder.moved(request.client_order_id, self._session.moment(minute + 1), request.stop_price)


def walk_session(
    terms: BacktestTerms, session: Session, bars: Bars, proposals: Sequence[Proposal], equity_atoms: int
) -> SessionResult:
    """Trade one session; `proposals` are those of all its strategies, in any order."""
    decision_engine = DecisionEngine(terms.rules, session, equity_atoms, terms.name, terms.checks)
    decision_engine.with_figures = False
    decision_engine.update_account(simulated_account("", dollars_of(equity_atoms)))
    venue = _Venue(MatchingEngine(terms.costs, session, bars.symbols), session)
    decisions: list[Decision] = []
    due: defaultdict[int, list[Proposal]] = defaultdict(list)
    for proposal in proposals:
        due[proposal.signal.minute].append(proposal)
    pending = sorted(due, reverse=True)
    minute = -1
    while True:
        minute += 1
        if decision_engine.position_manager.is_idle and venue.engine.idle:
            while pending and pending[-1] < minute:
                pending.pop()
            if not pending:
                break
            minute = pending[-1]
        if minute >= session.minutes:
            break
        decisions += _step(decision_engine, venue, bars, minute, due.get(minute, ()))
    venue.engine.close(partial(last_close_ticks, bars))
    _book(decision_engine, venue)
    closed = decision_engine.portfolio.closed
    denials = Counter(decision.reason.name for decision in decisions if decision.order is None)
    if missed := sum(decision_engine.exposure.sent.values()) - len(closed):  # every filled entry is closed by now
        denials[Reason.ENTRY_NOT_FILLED.name] = missed
    equity, levels = decision_engine.portfolio.equity_atoms, venue.recorder.levels
    return SessionResult(positions=closed, equity_atoms=equity, denials=denials, decisions=decisions, levels=levels)


def _step(
    decision_engine: DecisionEngine, venue: _Venue, bars: Bars, minute: int, proposals: Sequence[Proposal]
) -> list[Decision]:
    # One minute, in the same order as in live sessions.
    if not venue.engine.idle:
        venue.engine.match(bars, minute)
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
    for decision in decisions:
        if decision.order is not None:
            venue.decided(decision.proposal, minute)
    entries = [decision.order for decision in (*decisions, *top_ups) if decision.order is not None]
    for order in entries:
        venue.accept(order, minute)
    if entries:
        _process_events(decision_engine, venue, minute)
    return decisions


def _process_events(decision_engine: DecisionEngine, venue: _Venue, minute: int) -> None:
    # Book the venue's events and send the orders that follow, until there are none.
    _book(decision_engine, venue)
    while actions := decision_engine.position_manager.orders_due_now():
        _execute(venue, actions, minute)
        _book(decision_engine, venue)


def _book(decision_engine: DecisionEngine, venue: _Venue) -> None:
    for event in venue.engine.events():
        decision_engine.position_manager.on_order_event(event)


def _execute(venue: _Venue, actions: Sequence[TradingCommand], minute: int) -> None:
    for action in actions:
        match action:
            case SubmitOrder(order=order):
                venue.accept(order, minute)
            case CancelOrder(client_order_id=cid):
                venue.engine.cancel(cid)
            case ReplaceOrder():
                venue.replace(action, minute)


def plain_id(signal: SignalId, leg: Leg, attempt: int) -> str:
    """An order's id within a backtest, made faster than a client order id."""
    return f"{signal.symbol}/{signal.strategy}/{signal.minute}/{leg}/{attempt}"
