"""The decision engine of one session: a state machine that decides after each closed minute.

It performs no I/O. The caller, live or in a backtest, keeps this order: book broker events, mark the minute, manage
positions, decide signals. It journals the results before it carries them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.model.reasons import CONFIRMED, Reason
from tbot_core.model.types import Order, RiskState, dollars_of, price_of, quantity_of, ticks_of
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
from tbot_core.trading.risk.figures import SizingFigures, limit_figures
from tbot_core.trading.risk.gate import (
    Denial,
    RiskEngine,
    count_losses,
    loss_level,
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
    from tbot_core.model.types import Account, Side, SignalId
    from tbot_core.trading.account_book import AccountBook
    from tbot_core.trading.orders import OrderIdFactory
    from tbot_core.trading.proposals import Proposal, TradingRules
    from tbot_core.trading.risk.limits import Limits


class DecisionEngine:
    """Makes the decisions of one session. `name` creates client order ids; `checks` are plugins' risk checks.

    `position_manager` manages the resulting positions and orders; while it flattens, entries are denied.
    `with_figures`: decisions have the figures of sizing and limits; a backtest, which records none, goes without.
    """

    def __init__(
        self,
        rules: TradingRules,
        session: Session,
        opening_atoms: int,
        name: OrderIdFactory,
        checks: Sequence[tuple[str, RiskCheck]] = (),
    ) -> None:
        self.exposure = ExposureBook(portfolio=Portfolio(opening_atoms=opening_atoms, session=session.date))
        if rules.risk.defense_mode_active:
            self.exposure.state = RiskState.DEFENSE
        self._rules = rules
        self.with_figures = True
        self._name = name
        self._checks = checks
        self._gate = RiskEngine(
            risk=rules.risk,
            once_a_day=rules.entries.one_trade_per_symbol_per_day,
            shortable=rules.venue.shortable,
            indices=rules.indices,
        )
        self._sizer = Sizer(
            entries=rules.entries,
            rules=rules.venue,
            price_band=rules.risk.price_band_pct,
            fixed_units=rules.fixed_units,
        )
        self.position_manager = PositionManager(rules, session, self.exposure, name)
        self._limits = self._limits_of(opening_atoms)

    def share_limits_with(self, primary: DecisionEngine) -> None:
        """Share exposure with another broker's engine; limits use the smaller of both opening equities."""
        share_exposure(self.exposure, primary.exposure)
        atoms = min(self.portfolio.opening_atoms, primary.portfolio.opening_atoms)
        self._limits = self._limits_of(atoms)

    def _limits_of(self, atoms: int) -> dict[bool, Limits]:
        # The limits without and with defense.
        normal, defense = self._rules.limits
        return {False: normal.limits(atoms), True: defense.limits(atoms)}

    def update_account(self, account: Account, *, crossed: bool = False) -> None:
        """Apply the account that the broker reported, and its rules.

        `crossed`: the report may be older or newer than the books, see `AccountRules.update`.
        """
        self.exposure.funds.update(account, self.portfolio, crossed=crossed)
        rules, on = self._rules.venue.day_trade_rules, self.position_manager.session.date
        allowed = day_trade_limit(rules, on, self.exposure.funds, self.portfolio.opening_atoms)
        for defense, limits in self._limits.items():
            if limits.day_trades != allowed:
                self._limits[defense] = attrs.evolve(limits, day_trades=allowed)

    @property
    def portfolio(self) -> Portfolio:
        """The session's portfolio."""
        return self.exposure.portfolio

    @property
    def book(self) -> AccountBook:
        """The orders and positions of the session."""
        return self.position_manager.book

    @property
    def limits(self) -> Limits:
        """The limits of the current risk state: reduced in defense; more severe states allow no entry."""
        return self._limits[self.exposure.current_state is RiskState.DEFENSE]

    def short_denial(self, symbol: str) -> Reason | None:
        """Why a symbol cannot be sold short now; None if it can."""
        return self._gate.short_denial(self.exposure, symbol)

    def restore_entry(self, order: Order, proposal: Proposal) -> None:
        """Apply an entry that was recorded before a restart, with its proposal."""
        sized = self._sizer.plan_of(order, ticks_of(proposal.sizing_price), proposal.position_side)
        sized = _with_market(sized, proposal)
        if order.tops_up:
            self._record_top_up(order, proposal, sized)
        else:
            self._record_entry(order, proposal, sized, self._plan(proposal))

    def mark(self, bars: Bars, minute: int, *, judged: bool = True) -> list[RiskChange]:
        """Value positions at the minute's closes, else at the last known, and check the loss limits.

        Unless `judged`, other code checks the loss limits, between minutes too.
        """
        self.position_manager.mark(bars, minute)
        if self.exposure.external:
            self.exposure.external.mark(bars, minute)
        if judged:
            return self.check_losses()
        changes, self.exposure.pending_changes = self.exposure.pending_changes, []
        return changes

    @property
    def loss_limit_breached(self) -> bool:
        """Whether the marks exceed a loss limit that is not latched yet."""
        return loss_limit_breached(self.exposure, self._limits[False])

    @property
    def loss_levels(self) -> tuple[int | None, int]:
        """The profits in atoms at which a loss limit has its next effect: the session's (None: none), a window's."""
        limits = self._limits[False]
        return loss_level(self.exposure, limits), -limits.window_loss

    def check_losses(self, *, priced: bool = True) -> list[RiskChange]:
        """Check the loss limits at the marks; unless `priced`, only consecutive losses, which need no mark."""
        return (review_loss_limits if priced else count_losses)(self.exposure, self._limits[False])

    def decide(self, proposals: Sequence[Proposal]) -> list[Decision]:
        """Decide a minute's proposals by `sort_key`; each allowed one counts in the decisions after it."""
        return [self._decide_one(proposal) for proposal in sorted(proposals, key=lambda one: one.sort_key)]

    def top_up(self, proposals: Sequence[Proposal]) -> list[Decision]:
        """Decide the top-ups of positions below their share of equity; a reported denial is not repeated."""
        decided = [self._top_up_one(one) for one in proposals]
        top_ups = self.position_manager.top_ups
        return [one for one in decided if not top_ups.already_denied(one.proposal.signal, one.reason)]

    def preview(self, proposal: Proposal, ahead: Sequence[ReservedEntry] = ()) -> Decision:
        """The decision on a proposal as of now, as if the entries `ahead` were sent; nothing is recorded or counted."""
        with self.exposure.assuming(ahead):
            return self._evaluate(proposal)[0]

    def _decide_one(self, proposal: Proposal) -> Decision:
        decision, sized = self._evaluate(proposal)
        if decision.order is not None and sized is not None:
            self._record_entry(decision.order, proposal, *sized)
        return decision

    def _evaluate(self, proposal: Proposal) -> tuple[Decision, tuple[SizedEntry, exit_plan.ExitPlan] | None]:
        # The decision as of now; for an allowed one also its size and exit plan.
        if proposal.reason is not Reason.ALLOWED:
            return Decision(proposal=proposal, reason=proposal.reason), None
        signal = proposal.signal
        if proposal.confirmed_minute is not None:
            signal = attrs.evolve(signal, minute=proposal.confirmed_minute)
        limits = self.limits
        denial = self._before_sizing(limits, proposal, signal)
        if denial is not None:
            return self._explained(_denied(proposal, denial), signal), None
        for one in self.exposure.all_brokers:
            if one.external:  # the signal's price also values external holdings
                one.external.set_price_if_unknown(signal.symbol, price_of(ticks_of(proposal.price)))
        instrument, side, budget = proposal.instrument, proposal.position_side, self._budget(limits, signal.strategy)
        sized = self._sizer_of(instrument.symbol).plan(instrument, ticks_of(proposal.sizing_price), side, budget)
        if capped := 0 < proposal.most_units < sized.units:
            sized = attrs.evolve(sized, units=proposal.most_units)
        sized = _with_market(sized, proposal)
        decision, plan = self._judge_sized(limits, proposal, sized)
        return self._explained(decision, signal, sized, capped=capped), None if plan is None else (sized, plan)

    def _judge_sized(
        self, limits: Limits, proposal: Proposal, sized: SizedEntry
    ) -> tuple[Decision, exit_plan.ExitPlan | None]:
        # The decision on a sized entry; for an allowed one also its exit plan.
        denial = self._gate.after_sizing(self.exposure, limits, proposal.position_side, sized)
        if denial is not None:
            return _denied(proposal, denial), None
        if order_factory.would_be_unprotected(self._rules, sized.units):
            return Decision(proposal=proposal, reason=Reason.FRACTION_UNPROTECTED), None
        plan = self._plan(proposal)
        order = order_factory.entry_order(self._name, proposal.signal, sized, plan, venue=self._rules.venue)
        denial = plugin_denial(self._checks, order)
        if denial is not None:
            return _denied(proposal, denial), None
        return Decision(proposal=proposal, reason=Reason.ALLOWED, order=order), plan

    def _explained(
        self, decision: Decision, signal: SignalId, sized: SizedEntry | None = None, *, capped: bool = False
    ) -> Decision:
        # The decision with the figures that it was made from.
        if not self.with_figures:
            return decision
        side, book = decision.proposal.position_side, (self.exposure, self.limits)
        sizing = None if sized is None else self._sizing_figures(signal, side, sized)
        if sizing is not None and capped:
            sizing = attrs.evolve(sizing, bound=CONFIRMED)
        return attrs.evolve(decision, sizing=sizing, limits=limit_figures(self._gate, book, signal, side, sized))

    def _sizing_figures(self, signal: SignalId, side: Side, sized: SizedEntry) -> SizingFigures:
        limits, sent = self.limits, self.exposure.sent.get(signal.strategy, 0)
        weight = limits.weights[sent] if sent < len(limits.weights) and not self._rules.fixed_units else None
        share = 0 if weight is None else fraction_of(limits.budget, weight)
        defense = self.exposure.current_state is RiskState.DEFENSE
        cap, capped_by = limits.entry_cap
        return SizingFigures(
            equity=dollars_of(limits.equity),
            allocation="DEFENSE_MODE_TOTAL_ALLOCATION" if defense else "TOTAL_ALLOCATION",
            window=dollars_of(limits.budget),
            weight=weight,
            share=dollars_of(share),
            cap=dollars_of(cap),
            capped_by=capped_by,
            bound="FIXED_QUANTITY" if self._rules.fixed_units else "WEIGHTS" if share <= cap else capped_by,
            type=sized.type,
            reference=price_of(sized.reference),
            price=price_of(sized.price),
            step=quantity_of(self._sizer_of(sized.instrument.symbol).step(sized.type, side, sized.instrument.kind)),
            quantity=quantity_of(sized.units),
        )

    def _top_up_one(self, proposal: Proposal) -> Decision:
        if proposal.reason is not Reason.ALLOWED:
            return Decision(proposal=proposal, reason=proposal.reason)
        symbol, limits, top_ups = proposal.instrument.symbol, self.limits, self.position_manager.top_ups
        signal = attrs.evolve(proposal.signal, minute=proposal.minute)
        denial = self._gate.before_top_up(self.exposure, limits, signal, proposal.instrument)
        if denial is not None:
            return _denied(proposal, denial)
        gap, position = top_ups.gap(proposal.signal), self.portfolio.positions[proposal.signal]
        budget = min(gap.atoms, limits.per_trade - position.cost_atoms, limits.entry_cap[0])
        sizer = self._sizer_of(symbol)
        sized = sizer.addition(position, ticks_of(proposal.sizing_price), budget, whole=gap.whole)
        sized = _with_market(sized, proposal)
        denial = self._gate.after_sizing(self.exposure, limits, proposal.position_side, sized)
        if denial is not None:
            return _denied(proposal, denial)
        order = order_factory.top_up_order(self._name, position, sized, top_ups.next_attempt(proposal.signal))
        denial = plugin_denial(self._checks, order)
        if denial is not None:
            return _denied(proposal, denial)
        self._record_top_up(order, proposal, sized)
        return Decision(proposal=proposal, reason=Reason.ALLOWED, order=order)

    def _before_sizing(self, limits: Limits, proposal: Proposal, signal: SignalId) -> Denial | None:
        if self.position_manager.exits.flattening:
            return Denial(reason=Reason.EXIT_ONLY)
        if signal.minute + 1 >= self.position_manager.flatten_from:
            return Denial(reason=Reason.FLATTENING)
        if not proposal.is_priced:
            return Denial(reason=Reason.NO_QUOTE)
        denial = self._gate.before_sizing(self.exposure, limits, signal, proposal.instrument)
        if denial is None and not self._rules.fixed_units:
            spent = self.exposure.sent.get(signal.strategy, 0) >= len(limits.weights)
            return Denial(reason=Reason.NO_WEIGHT) if spent else None
        return denial

    def _budget(self, limits: Limits, strategy: str) -> int:
        budgets, sent = limits.entry_budgets, self.exposure.sent.get(strategy, 0)
        return budgets[sent] if sent < len(budgets) else 0

    def _plan(self, proposal: Proposal) -> exit_plan.ExitPlan:
        levels = (proposal.price, proposal.stop, proposal.target)
        plan = exit_plan.make_exit_plan(proposal.side, levels, proposal.exits, self._rules.exits)
        if (instrument := proposal.instrument).is_proxy:
            plan.trade_apart(self._disaster_stop(plan, proposal) if instrument.is_shared else None)
        if grid := grid_of(self.exposure, proposal.signal.symbol):
            plan.set_tick_grid(grid)
        return plan

    def _disaster_stop(self, plan: exit_plan.ExitPlan, proposal: Proposal) -> int:
        grid, leverage = grid_of(self.exposure, proposal.instrument.symbol), proposal.instrument.leverage
        return exit_plan.disaster_level(plan, leverage, ticks_of(proposal.sizing_price), grid)

    def _sizer_of(self, symbol: str) -> Sizer:
        grid, lot = grid_of(self.exposure, symbol), lot_of(self.exposure, symbol)
        return attrs.evolve(self._sizer, grid=grid, lot=lot) if grid or lot > 1 else self._sizer

    def _record_entry(self, order: Order, proposal: Proposal, sized: SizedEntry, plan: exit_plan.ExitPlan) -> None:
        self.exposure.count_sent(proposal.signal.strategy, proposal.minute)
        self._reserve(order, proposal, sized)
        self.position_manager.add_entry(order, plan, proposal.row)
        if order.instrument.is_proxy:  # the price of its plan is one of the signal's stock
            self.book.tickets[order.client_order_id].reference = sized.reference

    def _record_top_up(self, order: Order, proposal: Proposal, sized: SizedEntry) -> None:
        count_topped_up(self.exposure, proposal.minute)
        self._reserve(order, proposal, sized)
        self.position_manager.top_ups.add_order(order, sized.reference)

    def _reserve(self, order: Order, proposal: Proposal, sized: SizedEntry) -> None:
        self.exposure.working[order.client_order_id] = ReservedEntry(
            signal=proposal.signal,
            instrument=order.instrument,
            side=proposal.position_side,
            worst_atoms=sized.worst_atoms,
            power_atoms=sized.power_atoms(proposal.position_side),
            is_top_up=order.tops_up,
        )


def _with_market(sized: SizedEntry, proposal: Proposal) -> SizedEntry:
    # The entry with the price of the last trade, and the ask of the quote that it is priced by.
    quote = None if proposal.reference is None else proposal.quote
    ask = None if quote is None else ticks_of(quote.ask)
    return SizedEntry(
        instrument=sized.instrument,
        type=sized.type,
        price=sized.price,
        units=sized.units,
        reference=sized.reference,
        last=None if sized.instrument.is_proxy else ticks_of(proposal.price),
        ask=ask,
    )


def _denied(proposal: Proposal, denial: Denial) -> Decision:
    return Decision(
        proposal=proposal, reason=denial.reason, value=denial.value, limit=denial.limit, detail=denial.detail
    )
