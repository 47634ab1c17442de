"""The positions of a session and their orders: booked from the broker's reports, protected, closed.

It performs no I/O. Its requests are recorded before they are carried out.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

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
    from tbot_core.trading.proposals import TradingRules
    from tbot_core.trading.risk.exposure import ExposureBook

_ANSWERS = frozenset({"acknowledged", "rejected"})


class PositionManager:
    """The positions and orders of one session. `name` makes client order ids; `leaving` decides what is closed."""

    def __init__(
        self, rules: TradingRules, session: Session, standing: ExposureBook, name: order_factory.OrderIdFactory
    ) -> None:
        self.session = session
        self._rules = rules
        self._standing = standing
        self._portfolio = standing.portfolio
        self._files = ManagedState(name)
        self._held, self._known = self._files.held, self._files.known
        self._unwanted = CancelQueue()
        self.protection = self._protection = ProtectiveStops(self._files, rules.venue, standing, self._unwanted)
        self.mistaken = self._mistaken = MismatchedOrders(self._files, self._protection, self._unwanted)
        self.leaving = self._leaving = ExitEvaluator(rules, standing, self._protection, self.flatten_from)
        self._exiting = ExitSubmitter(self._files, rules.venue, standing, session)
        self.unsent = UnsentOrders(self._files)
        self._missing = MissingOrders(self._files, standing, self._unwanted)
        self._trimming = PositionTrimmer(self._files, rules, standing, self._protection)
        self.topping = TopUps(self._files, rules, standing, session)
        self.excess = OverfillCorrector(self._files, self._portfolio, standing)
        self.recollection = PositionRecovery(self._files, self._portfolio, self.excess)
        self._minute = -1

    @property
    def idle(self) -> bool:
        """Whether there are neither positions nor working orders: without a signal the next minute has no effect."""
        return not self._held and not self._standing.working

    @property
    def held(self) -> Mapping[str, ManagedPosition]:
        """The managed positions, by symbol, read-only."""
        return MappingProxyType(self._held)

    @property
    def unwanted(self) -> tuple[str, ...]:
        """The ids of orders to cancel, because their position is gone."""
        return tuple(self._unwanted)

    @property
    def flatten_from(self) -> int:
        """The minute from which every position is closed."""
        return self.session.minutes - self._rules.exits.flatten_before_close

    def take(self, event: BrokerEvent, found: ExecutionUpdate | None) -> None:
        """Apply a broker's report of an order, and the new part of it if it reports an execution."""
        if found is not None and found.amends:
            self.amended(found.fill)
        elif found is not None or event.fill is None:
            self.booked(event if found is None else attrs.evolve(event, fill=found.fill))

    def booked(self, event: BrokerEvent) -> None:
        """Apply a broker's report of an order; a report of an external order changes nothing here."""
        known = self._known.get(event.client_order_id)
        if known is None:
            return
        order = known.order
        self._missing.hear(event, order)
        if event.fill is not None:
            self._fill(event.fill, known, exit_plan.closing_reason(known.reason, event.words))
            return
        if order.leg is Leg.STOP:
            self._protection.heard(event.kind, known)
        if event.kind in _ANSWERS and order.leg in {Leg.ENTRY, Leg.EXIT}:
            self._standing.count_answer(self._rules.risk, rejected=event.kind == "rejected")
        if event.kind == "rejected" and order.leg is Leg.STOP:
            self._protection.refused(order)
        if event.kind in ENDINGS:
            self._ended(order)

    def reopened(self) -> list[TradingCommand]:
        """The exchange trades again: close what could not be closed before."""
        for symbol, held in self._held.items():
            held.due |= held.leaving is not None and held.exit is None and not self._leaving.untouched(symbol)
        return self.released()

    def adjusted(self, fill: Fill) -> None:
        """Shares of ours were closed externally, wholly or in part: booked like a fill, from the account.

        Orders that work for more than the rest would sell too much, so this does not wait for the next minute: the stop
        is renewed at its new size, the target is simulated.
        """
        held = self._held[fill.symbol]
        self._portfolio.apply(fill, held.position.signal, Leg.EXIT, ExitReason.OUTSIDE)
        if not held.position.units:
            self._unwanted.press(self._in_the_way(held))
            self._closed(held.position)
            return
        self._of_another_size(held)

    def split(self, symbol: str, ratio: Fraction) -> None:
        """A split of the symbol: levels follow, and its working orders are cancelled and placed again."""
        self._portfolio.split(symbol, ratio)
        held = self._held.get(symbol)
        if held is None:
            return
        self._protection.split(held, ratio)
        self._unwanted.press(held.resting.values())

    def amended(self, fill: Fill) -> None:
        """An execution was corrected, or is void (quantity 0): what it closed is held and protected again.

        What it had opened is reduced or gone, and orders that work for more are cancelled. Latches stay.
        """
        known, before = self._known[fill.client_order_id], self._portfolio.beyond
        order = known.order
        ordered = order.asks_for(fill.symbol, buy=fill.buy)
        was = self._portfolio.amend(fill, order.signal if ordered else None)
        if was is None:
            return
        if known.open > 0:
            known.open += units_of(was.quantity) - units_of(fill.quantity)
        if known.open > 0 and fill.quantity and not ordered:
            self._mistaken.amiss(known)
        for symbol in sorted({was.symbol, fill.symbol}):
            beyond = self.excess.beyond(symbol)
            if abs(beyond) > abs(before.get(symbol, 0)):
                self._standing.find_surplus(symbol, quantity_of(abs(beyond)))
            self._placed_again(symbol, known)

    def _placed_again(self, symbol: str, known: OrderTicket) -> None:
        # What is held of a symbol after an order's execution had other terms.
        position, held = self._portfolio.positions.get(symbol), self._held.get(symbol)
        if held is not None and (position is None or held.position.signal != position.signal):
            # What works for it must not open anything.
            self._unwanted.press((*self._in_the_way(held), *filter(None, (held.exit,))))
            del self._held[symbol]
            held = None
        if position is None:
            return
        if held is None:
            ours = self._files.latest(position.signal) or known
            self._held[symbol] = ManagedPosition(plan=ours.plan, row=ours.row, position=position, resting={}, own=True)
        else:
            self._resized(held, position)

    def _resized(self, held: ManagedPosition, position: Position) -> None:
        before, held.position = held.position.units, position
        if before != position.units:
            self._of_another_size(held)

    def _of_another_size(self, held: ManagedPosition) -> None:
        # A bracket does not fit any more what is held: a stop of its own takes over, and the bot acts on the target.
        held.own = True
        targets = [cid for leg, cid in held.resting.items() if leg is Leg.TARGET]
        self._unwanted.press([*targets, *self._too_large(held, held.position.units)])

    def _too_large(self, held: ManagedPosition, units: int) -> list[str]:
        # What closes a position at the market, and works for more than the units that are left of it.
        return [cid for cid in (held.exit, held.trim) if cid and self._known[cid].open > units]

    def dropped(self, client_order_id: str, *, barred: bool = False) -> None:
        """A recorded order that will never be sent; `barred`: not only because of the connection to the broker.

        Its replacement is returned once `unsent` is freed, at the latest with the next minute.
        """
        order = self._known[client_order_id].order
        self.unsent.drop(order, barred=barred)
        self._ended(order)

    def lost(self, client_order_id: str) -> None:
        """An order was not found in all its time: an entry stays reserved, exits are made anew, stops act on closes.

        Should it turn up after all, it is one too many: it is taken back each minute until it has ended. Only what
        protects an entry that may still fill, or whose position nothing else was placed for, goes on doing so.
        """
        order = self._known[client_order_id].order
        if order.leg is not Leg.ENTRY:
            self._ended(order)
        self._missing.give_up(order)

    def mark(self, bars: Bars, minute: int) -> None:
        """Value positions at the minute's closes, else at the last known."""
        for symbol, held in self._held.items():
            close = held.seen(bars, "close", minute)
            if not math.isnan(close):
                self._portfolio.mark(symbol, ticks_of(close))

    def manage(self, bars: Bars, minute: int) -> list[TradingCommand]:
        """The orders that positions and working entries need after a minute: due exits, trailing stops.

        An exit is sent only when no other order works for its position. Such orders are cancelled here, each minute
        again until the broker reports that they have ended; call `released` whenever events were booked.
        """
        self._minute = minute
        self.unsent.free(barred=True)
        renewed = (held.resting.get(Leg.STOP) for held in self._held.values() if held.renewing)
        actions = [*self._unwanted.minute(), *(CancelOrder(client_order_id=one) for one in renewed if one)]
        barred = self._leaving.stopping or self._standing.daily_loss or self._standing.present >= RiskState.EXIT_ONLY
        if barred or minute + 1 >= self.flatten_from:
            actions += [CancelOrder(client_order_id=one) for one in self._standing.working if one not in self._missing]
        for symbol in sorted(self._held):
            held = self._held[symbol]
            if self._leaving.untouched(symbol):
                continue
            actions += self._manage_one(held, bars, minute)
        if not barred and rebalance_rules.checks_positions(self._rules.rebalance, minute):
            for held in self._held.values():
                if held.steady and not math.isnan(held.seen(bars, "close", minute)):
                    self._trimming.weigh(held)
        for symbol in sorted(self._held):
            actions += self._trimming.bare(self._held[symbol])
        for symbol in sorted(() if self._leaving.waits(ExitReason.EXCESS) else self.excess.proven):
            if not self._leaving.untouched(symbol) and not self._works(symbol):
                actions += self.excess.close(symbol)
        return [*dict.fromkeys(actions), *self.released()]

    def released(self) -> list[TradingCommand]:
        """The orders that booked events require at once: stops for fills, and exits that nothing blocks any more.

        Each is returned once.
        """
        for held in self._held.values():
            self._leaving.stay(held)
            if self._leaving.bare(held) and not self._entering(held):
                self._leaving.forsake(held)
            self._missing.part(held)
        actions = self._unwanted.pressing()
        for symbol in sorted(self._held):
            held = self._held[symbol]
            if symbol in self.unsent:
                continue
            waits = self._leaving.untouched(symbol) or self._leaving.waits(held.leaving)
            if held.due and held.exit is None and not (waits or self._in_the_way(held)):
                actions.append(self._exiting.place(held, self._minute))
            elif held.keep is not None and held.leaving is None:
                actions += self._trimming.trim(held)
            elif held.own and held.leaving is None and not held.plan.on_close:
                actions += self._protection.protect(held)
        return actions

    def expect(self, order: Order, plan: exit_plan.ExitPlan, row: int | None) -> None:
        """An entry was recorded with its protection; `row` is its symbol's, None without bars."""
        for one in (order, *order.protection):
            self._files.know(one, plan, row)
            self._files.attempts[one.signal, one.leg] = 1

    def _ended(self, order: Order) -> None:
        # An exit that ended goes out again with the next minute; a stop that ended unasked acts on closes from now.
        held = self._held.get(order.symbol)
        self._unwanted.ended(order.client_order_id)
        self.excess.ended(order)
        if order.leg is Leg.ENTRY:
            self._standing.working.pop(order.client_order_id, None)
        elif held is None or held.position.signal != order.signal:
            self._missing.end_early(order.client_order_id)
        elif order.client_order_id == held.exit:
            held.exit = None
        elif order.client_order_id == held.trim:
            held.trim = None
        elif held.resting.get(order.leg) == order.client_order_id:  # an older attempt says nothing of the newer one
            del held.resting[order.leg]
            if order.leg is Leg.STOP:
                held.plan.on_close |= held.leaving is None and not held.renewing
                held.renewing = False

    def _fill(self, fill: Fill, known: OrderTicket, reason: ExitReason | None) -> None:
        order = known.order
        known.open -= units_of(fill.quantity)
        surplus = len(self._portfolio.surplus)
        ordered = order.asks_for(fill.symbol, buy=fill.buy)
        position = self._portfolio.apply(fill, order.signal if ordered else None, order.leg, reason)
        self.excess.tell(order, surplus)
        if not ordered:
            self._mistaken.amiss(known)
        if position is not None:
            if order.leg is Leg.ENTRY:
                self._entered(fill, known, position)
            elif not position.units:
                self._closed(position)
            else:
                held = self._held[order.symbol]
                held.stop_triggered |= order.leg is Leg.STOP
                self._unwanted.press(self._too_large(held, position.units))
        if known.open <= 0:
            self._ended(order)

    def _closed(self, position: Position) -> None:
        # Nothing is left of a position: what still works for it must not open another, an exit least of all.
        #
        # A bracket takes the rest of it away by itself.
        held = self._held.pop(position.signal.symbol)
        (self._unwanted.press if held.own else self._unwanted.add)(self._in_the_way(held))
        self._unwanted.press(self._too_large(held, position.units))
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
        if held is not None and known.open < 0 and not held.own:
            # It filled for more than was ordered: its bracket may rest for either, a stop of its own takes over.
            held.own = True
            self._protection.clear(held)

    def _begun(self, fill: Fill, known: OrderTicket, position: Position) -> ManagedPosition:
        order = known.order
        known.plan.filled(self.session.minute(fill.time))
        resting = {one.leg: one.client_order_id for one in order.protection}
        held = ManagedPosition(plan=known.plan, row=known.row, position=position, resting=resting)
        bracketed = order_factory.uses_bracket(self._rules.venue, units_of(order.quantity)) and not known.amiss
        held.own, held.renewing = order.tops_up or not bracketed, known.amiss and Leg.STOP in resting
        self._held[order.symbol] = held
        for one in order.protection:
            if self._missing.ended_early(one.client_order_id):  # its end was told before what it protects
                if self._known[one.client_order_id].refused:
                    self._protection.refused(one)
                self._ended(one)
        return held

    def _grown(self, held: ManagedPosition) -> None:
        # A position was added to: once what rests for it has ended, a stop for all of it is placed.
        #
        # One whose stop has begun to fill is closed, whatever was added.
        if held.stop_triggered or held.leaving is not None:
            held.leaving = held.leaving or held.plan.stop_reason
            return
        held.keep, held.denied = held.position.units, None
        self._protection.clear(held)

    def _manage_one(self, held: ManagedPosition, bars: Bars, minute: int) -> list[TradingCommand]:
        if held.exit is not None:
            return [] if self._leaving.waits(held.leaving) else self._exiting.send_again(held, minute)
        reason = self._leaving.reason(held, bars, minute)
        if reason is None:
            high, low = (held.seen(bars, name, minute) for name in ("high", "low"))
            return self._protection.follow(held, high, low, minute)
        held.leaving, held.due = reason, True
        return [CancelOrder(client_order_id=one, leaves=held.position.signal.symbol) for one in self._in_the_way(held)]

    def _works(self, symbol: str) -> bool:
        # Whether an order of the symbol that opens something, or is taken back, may still fill.
        entries = any(one.signal.symbol == symbol for one in self._standing.working.values())
        return entries or any(self._known[cid].order.symbol == symbol for cid in self._unwanted)

    def _in_the_way(self, held: ManagedPosition) -> list[str]:
        # What works for a position besides an exit: the rest of its entry, then its protection, the stop last.
        trimming = [] if held.trim is None else [held.trim]
        return [*self._entering(held), *trimming, *reversed(held.resting.values())]

    def _entering(self, held: ManagedPosition) -> list[str]:
        # What may still fill of a position's entry, or adds to it.
        signal, working = held.position.signal, self._standing.working.items()
        return [name for name, one in working if one.signal == signal and name not in self._missing]
