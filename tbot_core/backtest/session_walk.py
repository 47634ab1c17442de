"""Walks one session over complete bars, with the decision engine and matching of a replay, without waiting.

Minutes to come that change nothing are skipped. Every question about them is a bound: it may say that something happens
in a minute in which the rule that it stands for does nothing, never the other way round. A minute that is not skipped
is stepped as in a live session.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import RiskCheck
from tbot_core.model.reasons import Reason
from tbot_core.model.types import TICKS_PER_DOLLAR, Leg, Order, SignalId, dollars_of, ticks_of
from tbot_core.reports.trade_levels import LevelRecorder, TradeKey, TradeLevels
from tbot_core.trading.commands import CancelOrder, Decision, ReplaceOrder, SubmitOrder, TradingCommand
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import MatchingEngine, last_close_ticks
from tbot_core.trading.orders import BROKER_EVENT_KINDS, OrderIdFactory
from tbot_core.trading.portfolio import Position
from tbot_core.trading.positions import rebalance_rules
from tbot_core.trading.price_grid import PriceLevel, may_reach
from tbot_core.trading.proposals import Proposal, TradingRules
from tbot_core.trading.risk.account import simulated_account
from tbot_core.trading.risk.exposure import session_pnl

if TYPE_CHECKING:
    from tbot_core.contracts.settings import RebalanceSettings
    from tbot_core.model.bars import Array, Bars, Flags
    from tbot_core.model.calendar import Session

_FEWEST: Final = 4  # so many minutes cost about as much as the question whether they can be skipped
_LONGEST_PAUSE: Final = 31  # after so many minutes at most the question is asked again
_ROUNDING: Final = 1e-12  # of the added amounts: sums of doubles are off by far less


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


def plain_id(signal: SignalId, leg: Leg, attempt: int) -> str:
    """An order's id within a backtest, made faster than a client order id."""
    return f"{signal.symbol}/{signal.strategy}/{signal.minute}/{leg}/{attempt}"


def first_quiet_end(
    decision_engine: DecisionEngine, venue: MatchingEngine, policy: RebalanceSettings, bars: Bars, minutes: range
) -> int:
    """The first of these minutes that may change more than marks; their end if none does.

    The session has one broker, nothing external and no signal in these minutes, and nothing is due in it now.
    """
    manager, levels = decision_engine.position_manager, _levels(decision_engine, venue)
    if levels is None or manager.exits.active(manager.held.values(), bars, minutes.start):
        return minutes.start
    times = [held.plan.time_exit_minute for held in manager.held.values()]
    ends = (manager.flatten_from, *(one for one in times if one is not None))
    stop = max(minutes.start, min(rebalance_rules.next_check(policy, minutes), min(ends) - 1))
    stop = first_reached(levels, bars, range(minutes.start, stop))
    return _first_loss(decision_engine, bars, range(minutes.start, stop))


def mark_at_end(decision_engine: DecisionEngine, bars: Bars, minutes: range) -> None:
    """Value positions as if each of these minutes had been marked: at their last closes."""
    for held in decision_engine.position_manager.held.values():
        row = held.price_row(bars)
        if row is None:
            continue
        for minute in reversed(minutes):
            close = bars.field("close").item(minute, row)
            if not math.isnan(close):
                decision_engine.portfolio.mark(held.position.symbol, ticks_of(close))
                break


def first_reached(levels: Iterable[PriceLevel], bars: Bars, minutes: range) -> int:
    """The first of these minutes whose bars may reach one of the levels; their end if none does."""
    found = minutes.stop
    for field, group in groupby(sorted(levels), key=_field):
        rows, ticks, sides = zip(*[(one.row, one.ticks, one.side) for one in group], strict=True)
        prices = bars.field(field)[minutes.start : found].take(rows, axis=1)
        found = _first(may_reach(np.array(ticks), prices, np.array(sides)).any(axis=1), minutes.start)
    return found


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
        self._ask_from, self._pause = session.minutes if terms.every_minute else 0, 0

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
        # Where the question brought little it is asked less often.
        if len(minutes) < _FEWEST or minutes.start < self._ask_from:
            return minutes.start
        end = first_quiet_end(self.decision_engine, self.venue.engine, self._policy, self._bars, minutes)
        mark_at_end(self.decision_engine, self._bars, range(minutes.start, end))
        self._pause = 0 if end - minutes.start >= _FEWEST else min(2 * self._pause + 1, _LONGEST_PAUSE)
        self._ask_from = end + self._pause
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


def _field(level: PriceLevel) -> str:
    return level.field


def _first(flags: Flags, start: int) -> int:
    # The minute of the first flag, counted from `start`; that after the last one if none is set.
    at = int(flags.argmax()) if len(flags) else 0
    return start + (at if len(flags) and flags[at] else len(flags))


def _levels(decision_engine: DecisionEngine, venue: MatchingEngine) -> list[PriceLevel] | None:
    # The levels at which a price changes something; None if the next minute may do so at any price, or if a stop
    # trails: it follows every few minutes, so that the question costs more than it saves.
    manager, exposure = decision_engine.position_manager, decision_engine.exposure
    if exposure.working or exposure.daily_loss or manager.orders_to_cancel or manager.overfills.confirmed:
        return None
    if any(order.triggered or order.order.leg in {Leg.ENTRY, Leg.EXIT} for order in venue.resting):
        return None
    if not all(manager.exits.is_calm(held) and not held.plan.trailing for held in manager.held.values()):
        return None
    planned = [held.plan.stop_level(held.row) for held in manager.held.values() if held.row is not None]
    return [*planned, *(order.trigger for order in venue.resting)]


def _first_loss(decision_engine: DecisionEngine, bars: Bars, minutes: range) -> int:
    # The first of these minutes at whose marks a loss limit may have an effect; their end if there is none.
    exposure, held = decision_engine.exposure, decision_engine.position_manager.held
    rows = {signal: row for signal, one in held.items() if (row := one.price_row(bars)) is not None}
    positions = [one for signal, one in exposure.portfolio.positions.items() if signal in rows]
    if not (positions and minutes):
        return minutes.stop
    (level, window_level), windows = decision_engine.loss_levels, session_pnl(exposure)
    closes = bars.field("close")[minutes.start : minutes.stop].take([rows[one.signal] for one in positions], axis=1)
    moved = _without_gaps(np.rint(closes * TICKS_PER_DOLLAR) - [position.mark for position in positions])
    amounts = np.array([float(position.side * position.instrument.atoms(position.units, 1)) for position in positions])
    judged = [] if level is None else [(float(level - sum(windows.values())), amounts)]
    for strategy in exposure.sent.keys() - exposure.window_loss:
        own = np.array([position.signal.strategy == strategy for position in positions])
        judged.append((float(window_level - windows.get(strategy, 0)), own * amounts))
    most = float(np.abs(moved).max()) * float(np.abs(amounts).sum())
    lost = np.zeros(len(minutes), dtype=np.bool_)
    for change, part in judged:
        lost |= (moved * part).sum(axis=1) <= change + 1 + _ROUNDING * (most + abs(change))
    return _first(lost, minutes.start)


def _without_gaps(moved: Array) -> Array:
    # A minute without a bar has the mark of the one before; before the first bar nothing has moved.
    gaps = np.isnan(moved)
    if not gaps.any():
        return moved
    known = np.maximum.accumulate(np.where(gaps, -1, np.arange(len(moved))[:, None]), axis=0)
    filled: Array = np.where(known < 0, 0.0, np.take_along_axis(moved, np.maximum(known, 0), axis=0))
    return filled
