"""Walks one session over complete bars, with the decision engine and matching of a replay, without waiting."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.backtest.quiet_minutes import first_quiet_end, mark_at_end
from tbot_core.contracts import RiskCheck
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Leg, Order, SignalId, dollars_of
from tbot_core.reports.trade_levels import LevelRecorder, TradeKey, TradeLevels
from tbot_core.trading.commands import CancelOrder, Decision, ReplaceOrder, SubmitOrder, TradingCommand
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import MatchingEngine, last_close_ticks
from tbot_core.trading.orders import BROKER_EVENT_KINDS, OrderIdFactory
from tbot_core.trading.portfolio import Position
from tbot_core.trading.proposals import Proposal, TradingRules
from tbot_core.trading.risk.account import simulated_account

if TYPE_CHECKING:
    from tbot_core.model.bars import Bars
    from tbot_core.model.calendar import Session


WORTH_A_LOOK: Final = 4
"""So many minutes cost about as much as the question whether they can be skipped."""

LONGEST_PAUSE: Final = 31
"""The question is asked again after so many minutes at most."""


@attrs.frozen(kw_only=True, eq=False)
class BacktestTerms:
    """What every session of a backtest shares; `name` creates the client order ids.

    `every_minute`: minutes that change nothing are walked too; the result is the same.
    """

    rules: TradingRules
    costs: FillCosts
    name: OrderIdFactory
    checks: tuple[tuple[str, RiskCheck], ...] = ()
    every_minute: bool = False


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
        moment = self._session.moment(minute + 1)
        self.recorder.decided(proposal.signal, moment, proposal.side, proposal.stop, proposal.target)

    def accept(self, order: Order, minute: int) -> None:
        """Accept an order after a minute has closed."""
        self.engine.accept(order, minute)
        if order.protection or order.leg is Leg.STOP:  # others have no level to record
            self.recorder.submitted(order, self._session.moment(minute + 1))

    def replace(self, request: ReplaceOrder, minute: int) -> None:
        """Move a stop after a minute has closed."""
        self.engine.replace(request.client_order_id, request.stop_price)
        self.recorder.moved(request.client_order_id, self._session.moment(minute + 1), request.stop_price)


def walk_session(
    terms: BacktestTerms, session: Session, bars: Bars, proposals: Sequence[Proposal], equity_atoms: int
) -> SessionResult:
    """Trade one session; `proposals` are those of all its strategies, in any order."""
    walk = _Walk(terms, session, bars, equity_atoms)
    walk.go(proposals)
    closed = walk.decision_engine.portfolio.closed
    denials = Counter(decision.reason.name for decision in walk.decisions if decision.order is None)
    missed = sum(walk.decision_engine.exposure.sent.values()) - len(closed)  # every filled entry is closed by now
    if missed:
        denials[Reason.ENTRY_NOT_FILLED.name] = missed
    equity, levels = walk.decision_engine.portfolio.equity_atoms, walk.venue.recorder.levels
    return SessionResult(
        positions=closed, equity_atoms=equity, denials=denials, decisions=walk.decisions, levels=levels
    )


class _Walk:
    # One session while it is walked: minute by minute, except minutes that change nothing.
    def __init__(self, terms: BacktestTerms, session: Session, bars: Bars, equity_atoms: int) -> None:
        self.decision_engine = DecisionEngine(terms.rules, session, equity_atoms, terms.name, terms.checks)
        self.decision_engine.with_figures = False
        self.decision_engine.update_account(simulated_account("", dollars_of(equity_atoms)))
        self.venue = _Venue(MatchingEngine(terms.costs, session, bars.symbols), session)
        self.decisions: list[Decision] = []
        self._manager = self.decision_engine.position_manager
        self._policy = terms.rules.rebalance
        self._bars = bars
        self._minutes = session.minutes
        self._look_from, self._pause = session.minutes if terms.every_minute else 0, 0

    def go(self, proposals: Sequence[Proposal]) -> None:
        """Walk the session to its close."""
        due: defaultdict[int, list[Proposal]] = defaultdict(list)
        for proposal in proposals:
            due[proposal.signal.minute].append(proposal)
        pending = [self._minutes, *sorted(due, reverse=True)]
        minute = -1
        while (minute := self._next(minute + 1, pending)) < self._minutes:
            if not self._step(minute, due.get(minute, ())):
                minute = self._skip(range(minute + 1, pending[-1])) - 1
        self.venue.engine.close(partial(last_close_ticks, self._bars))
        self._book()

    def _next(self, minute: int, pending: list[int]) -> int:
        # The next minute to step, `minute` or a later one; removes the minutes before it from those with signals.
        while pending[-1] < minute:
            pending.pop()
        return pending[-1] if self._manager.is_idle and self.venue.engine.idle else minute

    def _skip(self, minutes: range) -> int:
        # Skip the first of these minutes, which have no signals, that change nothing; returns the next one to step.
        # Where looking ahead brought little it is done less often.
        if len(minutes) < WORTH_A_LOOK or minutes.start < self._look_from:
            return minutes.start
        end = first_quiet_end(self.decision_engine, self.venue.engine, self._policy, self._bars, minutes)
        mark_at_end(self.decision_engine, self._bars, range(minutes.start, end))
        self._pause = 0 if end - minutes.start >= WORTH_A_LOOK else min(2 * self._pause + 1, LONGEST_PAUSE)
        self._look_from = end + self._pause
        return end

    def _step(self, minute: int, proposals: Sequence[Proposal]) -> bool:
        # One minute, in the same order as in live sessions; returns whether anything may have happened.
        changed = False
        if not self.venue.engine.idle:
            self.venue.engine.match(self._bars, minute)
            changed = self._process_events(minute)
        self.decision_engine.mark(self._bars, minute)
        actions = self._manager.orders_after_minute(self._bars, minute)
        decisions = self.decision_engine.decide(proposals) if proposals else []
        top_ups = self.decision_engine.top_up(self._manager.top_ups.proposals(self._bars, minute))
        if actions:
            self._execute(actions, minute)
            self._process_events(minute)
        for decision in decisions:
            if decision.order is not None:
                self.venue.decided(decision.proposal, minute)
        entries = [decision.order for decision in (*decisions, *top_ups) if decision.order is not None]
        for order in entries:
            self.venue.accept(order, minute)
        if entries:
            self._process_events(minute)
        self.decisions += decisions
        return changed or bool(actions or proposals or entries) or not self._manager.is_still

    def _process_events(self, minute: int) -> bool:
        # Book the venue's events and send the orders that follow, until there are none; False without an event.
        if not self._book():
            return False
        while actions := self._manager.orders_due_now():
            self._execute(actions, minute)
            self._book()
        return True

    def _book(self) -> bool:
        events = self.venue.engine.events()
        for event in events:
            self._manager.book.tickets[event.client_order_id].on_answer(BROKER_EVENT_KINDS[event.kind])
            self._manager.on_order_event(event)
        return bool(events)

    def _execute(self, actions: Sequence[TradingCommand], minute: int) -> None:
        for action in actions:
            match action:
                case SubmitOrder(order=order):
                    self.venue.accept(order, minute)
                case CancelOrder(client_order_id=cid):
                    self.venue.engine.cancel(cid)
                case ReplaceOrder():
                    self.venue.replace(action, minute)


def plain_id(signal: SignalId, leg: Leg, attempt: int) -> str:
    """An order's id within a backtest, made faster than a client order id."""
    return f"{signal.symbol}/{signal.strategy}/{signal.minute}/{leg}/{attempt}"
