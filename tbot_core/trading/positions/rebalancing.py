"""Rebalancing: top-ups of positions below their target, trims of those above it; pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import TICKS_PER_DOLLAR, UNITS_PER_SHARE, Leg, ticks_of
from tbot_core.trading import exit_plan
from tbot_core.trading.account_book import symbol_of
from tbot_core.trading.commands import SubmitOrder, TradingCommand
from tbot_core.trading.positions import order_factory, rebalance_rules
from tbot_core.trading.proposals import Proposal
from tbot_core.trading.risk.exposure import lot_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.model.bars import Bars
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Order, SignalId
    from tbot_core.trading.account_book import AccountBook, ManagedPosition
    from tbot_core.trading.orders import OrderIdFactory
    from tbot_core.trading.positions.stops import ProtectiveStops
    from tbot_core.trading.proposals import TradingRules
    from tbot_core.trading.risk.exposure import ExposureBook


@attrs.frozen(kw_only=True)
class RebalanceGap:
    """The atoms by which a position is below its target; `whole`: it has whole shares and keeps them."""

    atoms: int
    whole: bool


class TopUps:
    """Finds the positions of a session that may be topped up, and records the orders that do so."""

    def __init__(self, book: AccountBook, rules: TradingRules, exposure: ExposureBook, session: Session) -> None:
        self._book = book
        self._rules = rules
        self._exposure = exposure
        self._session = session

    def proposals(self, bars: Bars, minute: int) -> list[Proposal]:
        """A proposal for each position below its target at a check, by symbol."""
        policy = self._rules.rebalance
        if not (policy.rebalance_top_up and rebalance_rules.checks_positions(policy, minute)):
            return []
        return [
            self._proposal(one, float(one.bar_value(bars, "close", minute)), minute)
            for one in self._below_target(bars, minute)
        ]

    def gap(self, signal: SignalId) -> RebalanceGap:
        """The current gap of a position."""
        position = self._book.held[signal].position
        whole = position.units % UNITS_PER_SHARE == 0
        return RebalanceGap(atoms=rebalance_rules.missing_atoms(self._rules.rebalance, position), whole=whole)

    def denial_reason(self, order: Order) -> str:
        """Why a top-up must not be sent any more; "" for valid ones and for other orders."""
        held = self._book.held.get(order.signal) if order.tops_up else None
        if not order.tops_up or (held is not None and held.is_steady):
            return ""
        return "the position that it adds to is closed, or changes"

    def already_denied(self, signal: SignalId, reason: Reason) -> bool:
        """Record a decision on a top-up; returns whether the previous one was the same denial."""
        held = self._book.held[signal]
        again = reason is held.top_up_denial
        held.top_up_denial = None if reason is Reason.ALLOWED else reason
        return again

    def next_attempt(self, signal: SignalId) -> int:
        """The number of the next top-up order of a position."""
        return self._book.signals[signal].attempts[Leg.ENTRY] + 1

    def add_order(self, order: Order, reference: int) -> None:
        """Add a recorded top-up order, even if its position has changed since."""
        self._book.signals[order.signal].next_attempt(Leg.ENTRY)
        self._book.add_ticket(order).reference = reference

    def _below_target(self, bars: Bars, minute: int) -> Iterator[ManagedPosition]:
        working = {one.signal for one in self._exposure.working.values()}
        for held in sorted(self._book.held.values(), key=symbol_of):
            seen = not math.isnan(held.bar_value(bars, "close", minute))
            if seen and held.is_steady and held.position.signal not in working:
                if rebalance_rules.missing_atoms(self._rules.rebalance, held.position):
                    yield held
                else:
                    held.top_up_denial = None

    def _proposal(self, held: ManagedPosition, close: float, minute: int) -> Proposal:
        plan, position = held.plan, held.position
        return Proposal(
            signal=position.signal,
            side=plan.side,
            row=held.row or 0,
            rank=0,
            price=close,
            strength=0.0,
            stop=plan.stop / TICKS_PER_DOLLAR,
            target=math.nan if plan.target is None else plan.target / TICKS_PER_DOLLAR,
            exits=ExitRules(),
            reason=self._top_up_denial(held, close, minute),
            confirmed_minute=minute,
            instrument=position.instrument,
            reference=position.mark / TICKS_PER_DOLLAR if position.instrument.is_proxy else None,
        )

    def _top_up_denial(self, held: ManagedPosition, close: float, minute: int) -> Reason:
        position, session = held.position, self._session
        last = session.minutes - self._rules.exits.flatten_before_close
        if self._rules.entries.trade_confirmation_required:
            return Reason.TOP_UP_UNCONFIRMED
        if rebalance_rules.is_losing(position):
            return Reason.TOP_UP_LOSING
        if exit_plan.near_exit(held.plan, ticks_of(close), session.minute(position.entry_time), minute, last):
            return Reason.TOP_UP_NEAR_EXIT
        return Reason.ALLOWED


class PositionTrimmer:
    """Trims the positions of a session."""

    def __init__(
        self,
        book: AccountBook,
        rules: TradingRules,
        exposure: ExposureBook,
        protection: ProtectiveStops,
        name: OrderIdFactory,
    ) -> None:
        self._name = name
        self._book = book
        self._rules = rules
        self._exposure = exposure
        self._protection = protection

    def check_sizes(self, bars: Bars, minute: int) -> None:
        """Start the trims of positions above their targets; they are sent when their working orders have ended."""
        for held in self._book.held.values():
            if held.is_steady and not math.isnan(held.bar_value(bars, "close", minute)):
                self._check_size(held)

    def _check_size(self, held: ManagedPosition) -> None:
        position, signal = held.position, held.position.signal
        if any(one.signal == signal for one in self._exposure.working.values()):
            return
        step = rebalance_rules.trim_step(position.units, self._rules.venue.quantity_step)
        step = max(step, lot_of(self._exposure, position.symbol))
        keep = position.units - rebalance_rules.excess_units(self._rules.rebalance, position, step)
        if keep < position.units and not order_factory.would_be_unprotected(
            self._rules, keep
        ):  # else the rest would be unprotected
            held.trim_to_units = keep

    def place_trim(self, held: ManagedPosition) -> list[TradingCommand]:
        """Once nothing rests: place a stop for the part to keep, and the order that sells the rest."""
        position = held.position
        if held.protection or held.trim_to_units is None:
            return []
        beyond, held.trim_to_units = position.units - held.trim_to_units, None
        if beyond <= 0:
            return self._stop_orders(held)
        stops = self._stop_orders(held, beyond)
        attempt = self._book.signals[position.signal].next_attempt(Leg.EXIT)
        order = order_factory.trim_order(self._name, position, beyond, attempt)
        self._book.add_ticket(order)
        return [*stops, SubmitOrder(order=order)]

    def _stop_orders(self, held: ManagedPosition, trimming: int = 0) -> list[TradingCommand]:
        return [] if held.plan.on_close else self._protection.protect(held, trimming=trimming)
