"""The desk of one session: a state machine that says what to do after each closed minute.

It waits for nothing and sends nothing. Whoever drives it, live or in a backtest, keeps to one order: broker events are
booked, then the minute is marked, then positions are managed, then signals are decided. What it returns is written down
before it is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.model.reasons import Reason
from tbot_core.model.types import Order, RiskState, price_of, ticks_of
from tbot_core.trading import exit_plan
from tbot_core.trading.commands import Decision
from tbot_core.trading.portfolio import Portfolio
from tbot_core.trading.positions import order_factory
from tbot_core.trading.positions.manager import PositionManager
from tbot_core.trading.risk.account import day_trade_limit
from tbot_core.trading.risk.exposure import (
    ExposureBook,
    ReservedEntry,
    RiskChange,
    count_topped_up,
    grid_of,
    lot_of,
    share_exposure,
)
from tbot_core.trading.risk.gate import (
    Denial,
    Limits,
    RiskEngine,
    count_losses,
    loss_limit_breached,
    plugin_denial,
    review_loss_limits,
)
from tbot_core.trading.risk.sizing import SizedEntry, Sizer, fraction_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import RiskCheck
    from tbot_core.model.bars import Bars
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Account, SignalId
    from tbot_core.trading.proposals import Proposal, TradingRules


class DecisionEngine:
    """The decisions of one session. `name` creates client order ids; `checks` are plugins' risk checks.

    `custody` manages the resulting positions and orders. While it is `stopping`, entries are blocked.
    """

    def __init__(
        self,
        rules: TradingRules,
        session: Session,
        opening_atoms: int,
        name: order_factory.OrderIdFactory,
        checks: Sequence[tuple[str, RiskCheck]] = (),
    ) -> None:
        self.exposure = ExposureBook(portfolio=Portfolio(opening_atoms=opening_atoms, session=session.date))
        if rules.risk.defense_mode_active:
            self.exposure.state = RiskState.DEFENSE
        self._rules = rules
        self._name = name
        self._checks = checks
        self._gate = RiskEngine(
            risk=rules.risk, once_a_day=rules.entries.one_trade_per_symbol_per_day, indices=rules.indices
        )
        self._sizer = Sizer(
            entries=rules.entries,
            rules=rules.venue,
            price_band=rules.risk.price_band_pct,
            fixed_units=rules.fixed_units,
        )
        self.position_manager = PositionManager(rules, session, self.exposure, name)
        self._limits = {defense: Limits.of(rules.risk, opening_atoms, defense=defense) for defense in (False, True)}

    def share_limits_with(self, primary: DecisionEngine) -> None:
        """Enter in place of another engine: its exposure counts here too, and no limit is wider than its own."""
        share_exposure(self.exposure, primary.exposure)
        atoms = min(self.portfolio.opening_atoms, primary.portfolio.opening_atoms)
        self._limits = {one: Limits.of(self._rules.risk, atoms, defense=one) for one in self._limits}

    def update_account(self, account: Account, *, crossed: bool = False) -> None:
        """The broker has said what the account is and allows: its rules count from now on.

        `crossed`: it may have said so before or after what is in the books, as in `AccountRules.read`.
        """
        self.exposure.funds.update(account, self.portfolio, crossed=crossed)
        rules, on = self._rules.venue.day_trade_rules, self.position_manager.session.date
        allowed = day_trade_limit(rules, on, self.exposure.funds, self.portfolio.opening_atoms)
        self._limits = {defense: attrs.evolve(limits, day_trades=allowed) for defense, limits in self._limits.items()}

    @property
    def portfolio(self) -> Portfolio:
        """Cash, positions and closed trades."""
        return self.exposure.portfolio

    @property
    def limits(self) -> Limits:
        """The limits of the current risk state."""
        return self._limits[self.exposure.current_state >= RiskState.DEFENSE]

    def restore_entry(self, order: Order, proposal: Proposal) -> None:
        """Apply an entry that was recorded before a restart, with its proposal."""
        planned = self._sizer.plan_of(order, ticks_of(proposal.sizing_price), proposal.side)
        if order.tops_up:
            self._add(order, proposal, planned)
        else:
            self._write_down(order, proposal, planned, self._plan(proposal))

    def mark(self, bars: Bars, minute: int, *, judged: bool = True) -> list[RiskChange]:
        """Value positions at the minute's closes, else at the last known, and compare losses with their limits.

        If other code compares them, between minutes too, they are not `judged` here.
        """
        self.position_manager.mark(bars, minute)
        if self.exposure.external:
            self.exposure.external.mark(bars, minute)
        if judged:
            return self.check_losses()
        told, self.exposure.pending_changes = self.exposure.pending_changes, []
        return told

    @property
    def loss_limit_breached(self) -> bool:
        """Whether the marks exceed a loss limit that is not latched yet."""
        return loss_limit_breached(self.exposure, self._limits[False])

    def check_losses(self, *, priced: bool = True) -> list[RiskChange]:
        """Compare losses at the marks with their limits; unless `priced` only the run of them, which needs no mark."""
        return (review_loss_limits if priced else count_losses)(self.exposure, self._limits[False])

    def decide(self, proposals: Sequence[Proposal]) -> list[Decision]:
        """Decide a minute's signals in order; each allowed one counts for those after it."""
        return [self._decide_one(proposal) for proposal in sorted(proposals, key=lambda one: one.sort_key)]

    def top_up(self, proposals: Sequence[Proposal]) -> list[Decision]:
        """Decide the top-ups of positions below their share of equity; a reported denial is not repeated."""
        decided = [self._top_up_one(one) for one in proposals]
        topping = self.position_manager.top_ups
        return [one for one in decided if not topping.already_denied(one.proposal.signal.symbol, one.reason)]

    def preview(self, proposal: Proposal) -> Decision:
        """A preview of the decisions; nothing is counted."""
        return self._weighed(proposal)[0]

    def _decide_one(self, proposal: Proposal) -> Decision:
        decision, made = self._weighed(proposal)
        if decision.order is not None and made is not None:
            self._write_down(decision.order, proposal, *made)
        return decision

    def _weighed(self, proposal: Proposal) -> tuple[Decision, tuple[SizedEntry, exit_plan.ExitPlan] | None]:
        # The decision as it would be now, and for an allowed one its size and the plan of its exits.
        if proposal.reason is not Reason.ALLOWED:
            return Decision(proposal=proposal, reason=proposal.reason), None
        signal, limits = proposal.signal, self.limits
        if proposal.confirmed_minute is not None:
            signal = attrs.evolve(signal, minute=proposal.confirmed_minute)
        refusal = self._before_sizing(signal)
        if refusal is not None:
            return _denied(proposal, refusal), None
        for one in self.exposure.all_brokers:
            if one.external:  # what it trades at is a price of what others hold of it, too
                one.external.set_price_if_unknown(signal.symbol, price_of(ticks_of(proposal.price)))
        sizer = self._sizer_of(signal.symbol)
        planned = sizer.plan(ticks_of(proposal.sizing_price), proposal.side, self._budget(signal.strategy))
        planned = attrs.evolve(planned, last=ticks_of(proposal.price))
        refusal = self._gate.after_sizing(self.exposure, limits, signal, proposal.side, planned)
        if refusal is not None:
            return _denied(proposal, refusal), None
        if order_factory.would_be_unprotected(self._rules, planned.units):
            return Decision(proposal=proposal, reason=Reason.FRACTION_UNPROTECTED), None
        plan = self._plan(proposal)
        order = order_factory.entry_order(self._name, proposal.signal, planned, plan, venue=self._rules.venue)
        refusal = plugin_denial(self._checks, order)
        if refusal is not None:
            return _denied(proposal, refusal), None
        return Decision(proposal=proposal, reason=Reason.ALLOWED, order=order), (planned, plan)

    def _top_up_one(self, proposal: Proposal) -> Decision:
        if proposal.reason is not Reason.ALLOWED:
            return Decision(proposal=proposal, reason=proposal.reason)
        symbol, limits, topping = proposal.signal.symbol, self.limits, self.position_manager.top_ups
        signal = attrs.evolve(proposal.signal, minute=proposal.minute)
        refusal = self._gate.before_top_up(self.exposure, limits, signal)
        if refusal is not None:
            return _denied(proposal, refusal)
        gap, position = topping.gap(symbol), self.portfolio.positions[symbol]
        budget = min(gap.atoms, limits.per_trade - position.cost_atoms)
        sizer = self._sizer_of(symbol)
        planned = sizer.addition(ticks_of(proposal.sizing_price), proposal.side, budget, whole=gap.whole)
        planned = attrs.evolve(planned, last=ticks_of(proposal.price))
        refusal = self._gate.after_sizing(self.exposure, limits, signal, proposal.side, planned)
        if refusal is not None:
            return _denied(proposal, refusal)
        order = order_factory.top_up_order(self._name, position, planned, topping.next_attempt(symbol))
        refusal = plugin_denial(self._checks, order)
        if refusal is not None:
            return _denied(proposal, refusal)
        self._add(order, proposal, planned)
        return Decision(proposal=proposal, reason=Reason.ALLOWED, order=order)

    def _before_sizing(self, signal: SignalId) -> Denial | None:
        if self.position_manager.exits.flattening:
            return Denial(reason=Reason.EXIT_ONLY)
        if signal.minute + 1 >= self.position_manager.flatten_from:
            return Denial(reason=Reason.FLATTENING)
        limits = self.limits
        refusal = self._gate.before_sizing(self.exposure, limits, signal)
        if refusal is None and not self._rules.fixed_units:
            spent = self.exposure.sent.get(signal.strategy, 0) >= len(limits.weights)
            return Denial(reason=Reason.NO_WEIGHT) if spent else None
        return refusal

    def _budget(self, strategy: str) -> int:
        weights, sent = self.limits.weights, self.exposure.sent.get(strategy, 0)
        weighted = fraction_of(self.limits.budget, weights[sent]) if sent < len(weights) else 0
        return min(weighted, self.limits.per_trade)

    def _plan(self, proposal: Proposal) -> exit_plan.ExitPlan:
        levels = (proposal.price, proposal.stop, proposal.target)
        plan = exit_plan.make_exit_plan(proposal.side, levels, proposal.exits, self._rules.exits)
        if grid := grid_of(self.exposure, proposal.signal.symbol):
            plan.set_tick_grid(grid)
        return plan

    def _sizer_of(self, symbol: str) -> Sizer:
        grid, lot = grid_of(self.exposure, symbol), lot_of(self.exposure, symbol)
        return attrs.evolve(self._sizer, grid=grid, lot=lot) if grid or lot > 1 else self._sizer

    def _write_down(self, order: Order, proposal: Proposal, planned: SizedEntry, plan: exit_plan.ExitPlan) -> None:
        self.exposure.count_sent(proposal.signal.strategy, proposal.minute)
        self._reserve(order, proposal, planned)
        self.position_manager.add_entry(order, plan, proposal.row)

    def _add(self, order: Order, proposal: Proposal, planned: SizedEntry) -> None:
        count_topped_up(self.exposure, proposal.minute)
        self._reserve(order, proposal, planned)
        self.position_manager.top_ups.add_order(order, planned.reference)

    def _reserve(self, order: Order, proposal: Proposal, planned: SizedEntry) -> None:
        self.exposure.working[order.client_order_id] = ReservedEntry(
            signal=proposal.signal,
            side=proposal.side,
            worst_atoms=planned.worst_atoms,
            power_atoms=planned.power_atoms(proposal.side),
            is_top_up=order.tops_up,
        )


def _denied(proposal: Proposal, refusal: Denial) -> Decision:
    return Decision(
        proposal=proposal, reason=refusal.reason, value=refusal.value, limit=refusal.limit, detail=refusal.detail
    )
