"""The positions of a session and their orders: booked from the broker's reports, protected, closed.

It performs no I/O. Its requests are recorded before they are carried out.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.model.types import ExitReason, Leg, Order, RiskState, price_of, quantity_of, ticks_of, units_of
from tbot_core.trading import exit_plan
from tbot_core.trading.commands import CancelOrder, TradingCommand
from tbot_core.trading.positions import order_factory, rebalance_rules
from tbot_core.trading.positions.anomalies import (
    ENDINGS,
    MismatchedOrders,
    MissingOrders,
    OverfillCorrector,
    UnsentOrders,
)
from tbot_core.trading.positions.cancel_queue import CancelQueue
from tbot_core.trading.positions.exits import ExitEvaluator, ExitSubmitter
from tbot_core.trading.positions.rebalancing import PositionTrimmer, TopUps
from tbot_core.trading.positions.recovery import PositionRecovery
from tbot_core.trading.positions.state import ManagedPosition, ManagedState, OrderTicket
from tbot_core.trading.positions.stops import ProtectiveStops
from tbot_core.trading.risk.exposure import count_traded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

    from tbot_core.contracts import BrokerEvent
    from tbot_core.model.bars import Bars
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Fill
    from tbot_core.trading.orders import ExecutionUpdate
    from tbot_core.trading.portfolio import Position
    from tbot_core.trading.positions.order_factory import OrderIdFactory
    from tbot_core.trading.proposals import TradingRules
    from tbot_core.trading.risk.exposure import ExposureBook

_ANSWERS = frozenset({BrokerEventKind.ACKNOWLEDGED, BrokerEventKind.REJECTED})


class PositionManager:
    """The positions and orders of one session. `name` makes client order ids; `leaving` decides what is closed."""

    def __init__(self, rules: TradingRules, session: Session, standing: ExposureBook, name: OrderIdFactory) -> None:
        self.session = session
        self._rules = rules
        self._standing = standing
        self._portfolio = standing.portfolio
        self._files = ManagedState(name)
        self._held, self._known = self._files.held, self._files.tickets
        self._unwanted = CancelQueue()
        self.protection = self._protection = ProtectiveStops(self._files, rules.venue, standing, self._unwanted)
        self.mismatched_orders = self._mistaken = MismatchedOrders(self._files, self._protection, self._unwanted)
        self.exits = self._leaving = ExitEvaluator(rules, standing, self._protection, self.flatten_from)
        self._exiting = ExitSubmitter(self._files, rules.venue, standing, session)
        self.unsent_orders = UnsentOrders(self._files)
        self._missing = MissingOrders(self._files, standing, self._unwanted)
        self._trimming = PositionTrimmer(self._files, rules, standing, self._protection)
        self.top_ups = TopUps(self._files, rules, standing, session)
        self.overfills = OverfillCorrector(self._files, self._portfolio, standing)
        self.recovery = PositionRecovery(self._files, self._portfolio, self.overfills)
        self._minute = -1

    @property
    def is_idle(self) -> bool:
        """Whether there are neither positions nor working orders: without a signal the next minute has no effect."""
        return not self._held and not self._standing.working

    @property
    def held(self) -> Mapping[str, ManagedPosition]:
        """The managed positions, by symbol, read-only."""
        return MappingProxyType(self._held)

    @property
    def orders_to_cancel(self) -> tuple[str, ...]:
        """The ids of orders to cancel, because their position is gone."""
        return tuple(self._unwanted)

    @property
    def flatten_from(self) -> int:
        """The minute from which every position is closed."""
        return self.session.minutes - self._rules.exits.flatten_before_close

    def on_event(self, event: BrokerEvent, found: ExecutionUpdate | None) -> None:
        """Apply a broker's report of an order, and the new part of it if it reports an execution."""
        if found is not None and found.is_correction:
            self.on_fill_corrected(found.fill)
        elif found is not None or event.fill is None:
            self.on_order_event(event if found is None else attrs.evolve(event, fill=found.fill))

    def on_order_event(self, event: BrokerEvent) -> None:
        """Apply a broker's report of an order; a report of an external order changes nothing here."""
        known = self._known.get(event.client_order_id)
        if known is None:
            return
        order = known.order
        self._missing.on_event(event, order)
        if event.fill is not None:
            self._fill(event.fill, known, exit_plan.closing_reason(known.reason, event.words))
            return
        if order.leg is Leg.STOP:
            self._protection.on_stop_event(event.kind, known)
        if event.kind in _ANSWERS and order.leg in {Leg.ENTRY, Leg.EXIT}:
            self._standing.count_answer(self._rules.risk, rejected=event.kind == BrokerEventKind.REJECTED)
        if event.kind in ENDINGS:
            self._ended(order)

    def on_market_open(self) -> list[TradingCommand]:
        """The exchange trades again: close what could not be closed before."""
        for symbol, held in self._held.items():
            waiting = held.exit_reason is not None and held.exit_order_id is None
            held.exit_pending |= waiting and not self._leaving.exits_blocked(symbol)
        return self.orders_due_now()

    def on_external_change(self, fill: Fill) -> None:
        """Shares of ours were closed externally, wholly or in part: booked like a fill, from the account.

        Orders that work for more than the rest would sell too much, so this does not wait for the next minute: the stop
        is renewed at its new size, the target is simulated.
        """
        held = self._held[fill.symbol]
        self._portfolio.apply(fill, held.position.signal, Leg.EXIT, ExitReason.OUTSIDE)
        if not held.position.units:
            self._unwanted.cancel_now(self._in_the_way(held))
            self._closed(held.position)
            return
        self._of_another_size(held)

    def apply_split(self, symbol: str, ratio: Fraction) -> None:
        """A split of the symbol: levels follow, and its working orders are cancelled and placed again."""
        self._portfolio.apply_split(symbol, ratio)
        held = self._held.get(symbol)
        if held is None:
            return
        self._protection.apply_split(held, ratio)
        self._unwanted.cancel_now(held.resting.values())

    def on_fill_corrected(self, fill: Fill) -> None:
        """An execution was corrected, or is void (quantity 0): what it closed is held and protected again.

        What it had opened is reduced or gone, and orders that work for more are cancelled. Latches stay.
        """
        known, before = self._known[fill.client_order_id], self._portfolio.unassigned_units
        order = known.order
        ordered = order.is_for(fill.symbol, buy=fill.buy)
        was = self._portfolio.correct_fill(fill, order.signal if ordered else None)
        if was is None:
            return
        if known.open_units > 0:
            known.open_units += units_of(was.quantity) - units_of(fill.quantity)
        if known.open_units > 0 and fill.quantity and not ordered:
            self._mistaken.on_wrong_fill(known)
        for symbol in sorted({was.symbol, fill.symbol}):
            beyond = self.overfills.unassigned_units(symbol)
            if abs(beyond) > abs(before.get(symbol, 0)):
                self._standing.record_surplus(symbol, quantity_of(abs(beyond)))
            self._placed_again(symbol, known)

    def _placed_again(self, symbol: str, known: OrderTicket) -> None:
        # What is held of a symbol after an order's execution had other terms.
        position, held = self._portfolio.positions.get(symbol), self._held.get(symbol)
        if held is not None and (position is None or held.position.signal != position.signal):
            # What works for it must not open anything.
            self._unwanted.cancel_now((*self._in_the_way(held), *filter(None, (held.exit_order_id,))))
            del self._held[symbol]
            held = None
        if position is None:
            return
        if held is None:
            ours = self._files.latest_ticket(position.signal) or known
            found = ManagedPosition(plan=ours.plan, row=ours.row, position=position, resting={}, manages_own_stop=True)
            self._held[symbol] = found
        else:
            self._resized(held, position)

    def _resized(self, held: ManagedPosition, position: Position) -> None:
        before, held.position = held.position.units, position
        if before != position.units:
            self._of_another_size(held)

    def _of_another_size(self, held: ManagedPosition) -> None:
        # A bracket does not fit any more what is held: a stop of its own takes over, and the bot acts on the target.
        held.manages_own_stop = True
        targets = [cid for leg, cid in held.resting.items() if leg is Leg.TARGET]
        self._unwanted.cancel_now([*targets, *self._too_large(held, held.position.units)])

    def _too_large(self, held: ManagedPosition, units: int) -> list[str]:
        # What closes a position at the market, and works for more than the units that are left of it.
        return [cid for cid in (held.exit_order_id, held.trim_order_id) if cid and self._known[cid].open_units > units]

    def on_dropped(self, client_order_id: str, *, barred: bool = False) -> None:
        """A recorded order that will never be sent; `barred`: not only because of the connection to the broker.

        Its replacement is returned once `unsent` is freed, at the latest with the next minute.
        """
        order = self._known[client_order_id].order
        self.unsent_orders.on_dropped(order, barred=barred)
        self._ended(order)

    def on_lost(self, client_order_id: str) -> None:
        """An order was not found in all its time: an entry stays reserved, exits are made anew, stops act on closes.

        Should it turn up after all, it is one too many: it is taken back each minute until it has ended. Only what
        protects an entry that may still fill, or whose position nothing else was placed for, goes on doing so.
        """
        order = self._known[client_order_id].order
        if order.leg is not Leg.ENTRY:
            self._ended(order)
        self._missing.mark_lost(order)

    def mark(self, bars: Bars, minute: int) -> None:
        """Value positions at the minute's closes, else at the last known."""
        for symbol, held in self._held.items():
            close = held.bar_value(bars, "close", minute)
            if not math.isnan(close):
                self._portfolio.mark(symbol, ticks_of(close))

    def orders_after_minute(self, bars: Bars, minute: int) -> list[TradingCommand]:
        """The orders that positions and working entries need after a minute: due exits, trailing stops.

        An exit is sent only when no other order works for its position. Such orders are cancelled here, each minute
        again until the broker reports that they have ended; call `released` whenever events were booked.
        """
        self._minute = minute
        self.unsent_orders.release(barred=True)
        renewed = (held.resting.get(Leg.STOP) for held in self._held.values() if held.stop_being_replaced)
        actions = [*self._unwanted.cancels_for_minute(), *(CancelOrder(client_order_id=one) for one in renewed if one)]
        exits_only = self._standing.current_state >= RiskState.EXIT_ONLY
        barred = self._leaving.flattening or self._standing.daily_loss or exits_only
        if barred or minute + 1 >= self.flatten_from:
            actions += [CancelOrder(client_order_id=one) for one in self._standing.working if one not in self._missing]
        for symbol in sorted(self._held):
            held = self._held[symbol]
            if self._leaving.exits_blocked(symbol):
                continue
            actions += self._manage_one(held, bars, minute)
        if not barred and rebalance_rules.checks_positions(self._rules.rebalance, minute):
            for held in self._held.values():
                if held.is_steady and not math.isnan(held.bar_value(bars, "close", minute)):
                    self._trimming.check_size(held)
        for symbol in sorted(self._held):
            actions += self._trimming.cancel_protection(self._held[symbol])
        for symbol in sorted(() if self._leaving.must_wait(ExitReason.EXCESS) else self.overfills.confirmed):
            if not self._leaving.exits_blocked(symbol) and not self._works(symbol):
                actions += self.overfills.close_excess(symbol)
        return [*dict.fromkeys(actions), *self.orders_due_now()]

    def orders_due_now(self) -> list[TradingCommand]:
        """The orders that booked events require at once: stops for fills, and exits that nothing blocks any more.

        Each is returned once.
        """
        for held in self._held.values():
            self._leaving.cancel_blocked_exit(held)
            if self._leaving.is_unprotected_fraction(held) and not self._entering(held):
                self._leaving.close_unprotected(held)
            self._missing.on_position_closing(held)
        actions = self._unwanted.cancels_due_now()
        for symbol in sorted(self._held):
            held = self._held[symbol]
            if symbol in self.unsent_orders:
                continue
            waits = self._leaving.exits_blocked(symbol) or self._leaving.must_wait(held.exit_reason)
            if held.exit_pending and held.exit_order_id is None and not (waits or self._in_the_way(held)):
                actions.append(self._exiting.place_exit(held, self._minute))
            elif held.trim_to_units is not None and held.exit_reason is None:
                actions += self._trimming.place_trim(held)
            elif held.manages_own_stop and held.exit_reason is None and not held.plan.on_close:
                actions += self._protection.protect(held)
        return actions

    def add_entry(self, order: Order, plan: exit_plan.ExitPlan, row: int | None) -> None:
        """An entry was recorded with its protection; `row` is its symbol's, None without bars."""
        for one in (order, *order.protection):
            self._files.add_ticket(one, plan, row)
            self._files.attempts[one.signal, one.leg] = 1

    def _ended(self, order: Order) -> None:
        # An exit that ended goes out again with the next minute; a stop that ended unasked acts on closes from now.
        held = self._held.get(order.symbol)
        self._unwanted.on_ended(order.client_order_id)
        self.overfills.on_exit_ended(order)
        if order.leg is Leg.ENTRY:
            self._standing.working.pop(order.client_order_id, None)
        elif held is None or held.position.signal != order.signal:
            self._missing.mark_ended_early(order.client_order_id)
        elif order.client_order_id == held.exit_order_id:
            held.exit_order_id = None
        elif order.client_order_id == held.trim_order_id:
            held.trim_order_id = None
        elif held.resting.get(order.leg) == order.client_order_id:  # an older attempt says nothing of the newer one
            del held.resting[order.leg]
            if order.leg is Leg.STOP:
                held.plan.on_close |= held.exit_reason is None and not held.stop_being_replaced
                held.stop_being_replaced = False

    def _fill(self, fill: Fill, known: OrderTicket, reason: ExitReason | None) -> None:
        order = known.order
        known.open_units -= units_of(fill.quantity)
        surplus = len(self._portfolio.surplus)
        ordered = order.is_for(fill.symbol, buy=fill.buy)
        position = self._portfolio.apply(fill, order.signal if ordered else None, order.leg, reason)
        self.overfills.report_excess(order, surplus)
        if not ordered:
            self._mistaken.on_wrong_fill(known)
        if position is not None:
            if order.leg is Leg.ENTRY:
                self._entered(fill, known, position)
            elif not position.units:
                self._closed(position)
            else:
                held = self._held[order.symbol]
                held.stop_triggered |= order.leg is Leg.STOP
                self._unwanted.cancel_now(self._too_large(held, position.units))
        if known.open_units <= 0:
            self._ended(order)

    def _closed(self, position: Position) -> None:
        # What still works for a closed position must not open another; a bracket takes the rest away by itself.
        held = self._held.pop(position.signal.symbol)
        cancel = self._unwanted.cancel_now if held.manages_own_stop else self._unwanted.cancel_next_minute
        cancel(self._in_the_way(held))
        self._unwanted.cancel_now(self._too_large(held, position.units))
        self._standing.count_closed(position.pnl_atoms)

    def _entered(self, fill: Fill, known: OrderTicket, position: Position) -> None:
        order = known.order
        count_traded(self._standing, order.symbol)
        reference = price_of(known.plan.price if known.reference is None else known.reference)
        self._standing.count_fill(self._rules.risk, fill.price, reference, position.side)
        held = self._held.get(order.symbol)
        if held is None and position.units:  # one that is told after what closed it holds nothing
            held = self._begun(fill, known, position)
        elif held is not None and order.tops_up:
            self._grown(held)
        if held is not None and known.open_units < 0 and not held.manages_own_stop:
            # It filled for more than was ordered: its bracket may rest for either, a stop of its own takes over.
            held.manages_own_stop = True
            self._protection.cancel_all(held)

    def _begun(self, fill: Fill, known: OrderTicket, position: Position) -> ManagedPosition:
        order = known.order
        known.plan.on_entry_fill(self.session.minute(fill.time))
        resting = {one.leg: one.client_order_id for one in order.protection}
        held = ManagedPosition(plan=known.plan, row=known.row, position=position, resting=resting)
        bracketed = order_factory.uses_bracket(self._rules.venue, units_of(order.quantity)) and not known.filled_wrongly
        held.manages_own_stop = order.tops_up or not bracketed
        held.stop_being_replaced = known.filled_wrongly and Leg.STOP in resting
        self._held[order.symbol] = held
        for one in order.protection:
            if self._missing.has_ended_early(one.client_order_id):  # its end was told before what it protects
                if self._known[one.client_order_id].stop_rejected:
                    self._protection.on_stop_rejected(one)
                self._ended(one)
        return held

    def _grown(self, held: ManagedPosition) -> None:
        # Once what rests has ended, one stop for all of it is placed. If its stop has begun to fill, it is closed.
        if held.stop_triggered or held.exit_reason is not None:
            held.exit_reason = held.exit_reason or held.plan.stop_reason
            return
        held.trim_to_units, held.top_up_denial = held.position.units, None
        self._protection.cancel_all(held)

    def _manage_one(self, held: ManagedPosition, bars: Bars, minute: int) -> list[TradingCommand]:
        if held.exit_order_id is not None:
            return [] if self._leaving.must_wait(held.exit_reason) else self._exiting.resend_exit(held, minute)
        reason = self._leaving.exit_reason(held, bars, minute)
        if reason is None:
            high, low = (held.bar_value(bars, name, minute) for name in ("high", "low"))
            return self._protection.trail(held, high, low, minute)
        held.exit_reason, held.exit_pending = reason, True
        symbol = held.position.signal.symbol
        return [CancelOrder(client_order_id=one, exit_symbol=symbol) for one in self._in_the_way(held)]

    def _works(self, symbol: str) -> bool:
        # Whether an order of the symbol that opens something, or is taken back, may still fill.
        entries = any(one.signal.symbol == symbol for one in self._standing.working.values())
        return entries or any(self._known[cid].order.symbol == symbol for cid in self._unwanted)

    def _in_the_way(self, held: ManagedPosition) -> list[str]:
        # What works for a position besides an exit: the rest of its entry, then its protection, the stop last.
        trimming = [] if held.trim_order_id is None else [held.trim_order_id]
        return [*self._entering(held), *trimming, *reversed(held.resting.values())]

    def _entering(self, held: ManagedPosition) -> list[str]:
        # What may still fill of a position's entry, or adds to it.
        signal, working = held.position.signal, self._standing.working.items()
        return [name for name, one in working if one.signal == signal and name not in self._missing]
