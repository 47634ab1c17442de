"""The position manager: books fills of a session, protects its positions and closes them.

It performs no I/O. The caller journals its commands before it carries them out.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import BrokerEventKind, RejectionMeaning
from tbot_core.model.types import (
    ExitReason,
    Leg,
    Order,
    OrderState,
    RiskState,
    Side,
    price_of,
    quantity_of,
    ticks_of,
    units_of,
)
from tbot_core.trading.account_book import AccountBook, DepartedShares, ManagedPosition, SignalPlan, Ticket, symbol_of
from tbot_core.trading.commands import CancelOrder, TradingCommand
from tbot_core.trading.positions import rebalance_rules
from tbot_core.trading.positions.anomalies import (
    ENDINGS,
    MismatchedOrders,
    OverfillCorrector,
    UnsentOrders,
)
from tbot_core.trading.positions.desired import CLOSING, Desired
from tbot_core.trading.positions.exits import ExitEvaluator, ExitSubmitter
from tbot_core.trading.positions.rebalancing import PositionTrimmer, TopUps
from tbot_core.trading.positions.recovery import PositionRecovery
from tbot_core.trading.positions.stops import ProtectiveStops
from tbot_core.trading.risk.exposure import count_traded
from tbot_core.trading.risk.holds import Hold

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from decimal import Decimal
    from fractions import Fraction

    from tbot_core.contracts import BrokerEvent
    from tbot_core.model.bars import Bars
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Fill, SignalId
    from tbot_core.trading.exit_plan import ExitPlan
    from tbot_core.trading.orders import ExecutionUpdate, OrderIdFactory
    from tbot_core.trading.portfolio import Position
    from tbot_core.trading.proposals import TradingRules
    from tbot_core.trading.risk.exposure import ExposureBook

_ANSWERS = frozenset({BrokerEventKind.ACKNOWLEDGED, BrokerEventKind.REJECTED})

_WORKS = frozenset({BrokerEventKind.ACKNOWLEDGED, BrokerEventKind.REPLACED, BrokerEventKind.TRIGGERED})

_BRACKET, _UNBRACKETED = Desired(bracket=True), Desired()


class PositionManager:
    """Manages the positions and orders of one session; `name` creates client order ids."""

    def __init__(self, rules: TradingRules, session: Session, exposure: ExposureBook, name: OrderIdFactory) -> None:
        self.session = session
        self._rules = rules
        self._exposure = exposure
        self._portfolio = exposure.portfolio
        self.book = AccountBook(exposure.portfolio)
        self._held, self._tickets = self.book.held, self.book.tickets
        self.protection = ProtectiveStops(self.book, rules.venue, exposure, name)
        self.mismatched_orders = MismatchedOrders(self.book)
        self.exits = ExitEvaluator(rules, exposure, self.protection, self.flatten_from)
        self._exit_submitter = ExitSubmitter(self.book, rules.venue, exposure, session, name)
        self.unsent_orders = UnsentOrders(self.book)
        self._trimmer = PositionTrimmer(self.book, rules, exposure, self.protection, name)
        self.top_ups = TopUps(self.book, rules, exposure, session)
        self.overfills = OverfillCorrector(self.book, exposure, name)
        self.recovery = PositionRecovery(self.book, self.overfills)
        self._minute, self.is_still, self._is_open = -1, False, False

    @property
    def is_idle(self) -> bool:
        """Whether there are neither positions nor working entries: a minute without signals has no effect."""
        return not self._held and not self._exposure.working

    @property
    def held(self) -> Mapping[SignalId, ManagedPosition]:
        """The managed positions, by their signals, read-only."""
        return MappingProxyType(self._held)

    @property
    def orders_to_cancel(self) -> tuple[str, ...]:
        """The ids of the orders that are to end."""
        return tuple(ticket.cid for ticket in self._ending())

    @property
    def awaited_cancels(self) -> list[str]:
        """The ids of the orders whose end a position waits for, before its next stop or its exit can be sent."""
        awaited = list[str]()
        for ticket in self._ending():
            held = self._held.get(ticket.order.signal)
            if held is None or held.reading_after is not None or self.exits.exits_blocked(symbol_of(held)):
                continue
            if held.exit_reason is not None or held.stop is ticket:
                awaited.append(ticket.cid)
        return awaited

    @property
    def flatten_from(self) -> int:
        """The minute from which every position is closed."""
        return self.session.minutes - self._rules.exits.flatten_before_close

    def on_event(
        self, event: BrokerEvent, found: ExecutionUpdate | None, *, ended: bool = True, at: float = 0.0
    ) -> None:
        """Apply a broker event; `found`: the new part of the execution that it reports; the rest as on_order_event."""
        if found is not None and found.is_correction:
            self.on_fill_corrected(found.fill)
        elif found is not None or event.fill is None:
            self.on_order_event(event if found is None else attrs.evolve(event, fill=found.fill), ended=ended, at=at)

    def on_order_event(self, event: BrokerEvent, *, ended: bool = True, at: float = 0.0) -> None:
        """Apply a broker event of an order; events of external orders are ignored.

        `ended`: whether it has ended in the books. The rejection of an accepted order ends it only after a lookup.
        `at`: the second of a steady clock, 0 for an event from before a restart.
        """
        ticket = self._tickets.get(event.client_order_id)
        if ticket is None:
            return
        order = ticket.order
        self._find_lost(event, ticket)
        if event.fill is not None:
            self._apply_fill(event.fill, ticket, event.words)
            return
        if event.kind in _ANSWERS and order.leg in {Leg.ENTRY, Leg.EXIT}:
            self._exposure.count_answer(self._rules.risk, rejected=event.kind == BrokerEventKind.REJECTED)
        if event.kind in ENDINGS and not ended:
            return
        if order.leg is Leg.STOP:
            self.protection.on_stop_event(event, ticket, at)
        if event.kind in ENDINGS:
            closing = self._held.get(order.signal)
            is_exit = closing is not None and closing.exit is ticket
            was_unwanted = ticket.outdated or ticket.cancel_asked
            if closing is not None and self._is_stop_taken(closing, ticket):
                self.protection.on_stop_taken(closing, ticket, at)
            self._on_order_ended(ticket)
            if closing is not None and is_exit and not was_unwanted:  # else another takes its place
                self._on_exit_ended(closing, event, at)

    def _is_stop_taken(self, held: ManagedPosition, ticket: Ticket) -> bool:
        # Whether the position's stop has ended, and tbot neither cancels it nor closes the position.
        asked = held.exit_reason is not None or held.is_stop_ending or self._rules.venue.simulated
        return held.stop is ticket and not asked

    def _on_exit_ended(self, held: ManagedPosition, event: BrokerEvent, at: float) -> None:
        # After a rejected exit the stop is placed again at once, and the exit is decided again with the next minute;
        # for too large a quantity the account is read first. A position whose stops are rejected too is closed with
        # the next minute. An exit that somebody else cancelled is sent again after a reading.
        if event.kind != BrokerEventKind.REJECTED:
            if event.kind == BrokerEventKind.CANCELLED and not self._rules.venue.simulated:
                held.reading_after = at + self._rules.venue.list_lag_s
            return
        if event.meaning is RejectionMeaning.INSUFFICIENT_QUANTITY:
            held.reading_after = at
        self._put_stop_back(held)

    def _put_stop_back(self, held: ManagedPosition) -> None:
        # In place of an exit, which is decided again with the next minute.
        if held.plan.is_expired or held.refused_stops > 1:
            return
        held.exit_reason = None
        held.own_stop = True

    def on_market_open(self) -> list[TradingCommand]:
        """Trading resumes: submit the exits that were waiting."""
        self._is_open = True
        return self.orders_due_now()

    def on_foreign_fill(self, fill: Fill, at: float) -> None:
        """Apply that somebody else may have closed shares of a position: nothing is sent for it before a reading.

        Of a fund's lots the earliest ones are meant.

        `at`: the second of a steady clock. Lists may be behind: only one that shows the change, or was asked for as
        much later as they may lag, is such a reading.
        """
        units, lots = units_of(fill.quantity), self.book.held_in(fill.symbol)
        for held in lots:
            if fill.buy is not (held.position.side is Side.SHORT):
                continue
            rest = max(held.position.units - held.unshown_units, 0)
            part = units if held is lots[-1] else min(units, rest)
            units -= part
            held.unshown_units += part
            if held.unshown_units > 0:
                held.reading_after = max(at + self._rules.venue.list_lag_s, held.reading_after or at)

    def on_external_change(self, fill: Fill, *, unexplained: bool = False) -> None:
        """Book shares of a position that were closed externally, in whole or in part, as a fill; of a fund's earliest.

        Orders for more than the rest are replaced at once: the stop at its new size; the target is emulated. If nothing
        explains the change (`unexplained`) and no shares are left, the orders stay. The same execution with another
        quantity takes shares back, with their plan and orders.
        """
        for departed in self.book.departed_from(fill.symbol):
            if fill.execution_id in departed.fills:
                self._take_back(departed, fill)
                return
        held = self._held[self.book.close_outside(fill).signal]
        if unexplained:
            self._departed(held).fills[fill.execution_id] = fill
        else:
            self._on_change_shown(held, fill)
        if held.position.units:
            self._on_size_changed(held)
        elif unexplained:
            del self._held[held.position.signal]
            self._exposure.count_closed(fill, held.position.pnl_atoms)
        else:
            for ticket in held.protection:  # the venue ends no bracket by itself
                ticket.outdated = True
            self._on_closed(held.position, fill)

    def _departed(self, held: ManagedPosition) -> DepartedShares:
        # The shares of a position that have departed. Those of an earlier position in its symbol are forgotten: what
        # comes back later belongs to this one, or to one of a fund's.
        known = self.book.departed.get(held.position.signal)
        if known is not None and known.held is held:
            return known
        if not held.position.instrument.is_shared:
            for earlier in self.book.departed_from(symbol_of(held)):
                del self.book.departed[earlier.held.position.signal]
        self.book.departed[held.position.signal] = DepartedShares(held=held)
        return self.book.departed[held.position.signal]

    @staticmethod
    def _on_change_shown(held: ManagedPosition, fill: Fill) -> None:
        # A reading has what events had told, or tells it before them: it need not be waited for any longer.
        waits = held.unshown_units > 0
        held.unshown_units -= units_of(fill.quantity)
        if waits and held.unshown_units <= 0:
            held.reading_after = None

    def returned_fills(self, symbol: str, change: Decimal) -> list[Fill]:
        """What closed shares that had departed, without those that an account's `change` of holding shows again.

        Empty where the change is something else.
        """
        gone = self.book.departed_from(symbol)
        lots = [departed.held for departed in gone]
        kept = [held for held in self.book.held_in(symbol) if held not in lots]
        if not gone or any(not held.position.instrument.is_shared for held in kept):
            return []
        fills = [fill for departed in gone for fill in departed.fills.values()]
        back, found = -change if fills[-1].buy else change, []
        if not 0 < back <= sum(one.quantity for one in fills):
            return []
        for fill in reversed(fills):
            part = min(back, fill.quantity)
            back -= part
            found += [attrs.evolve(fill, quantity=fill.quantity - part)] if part else []
        return found

    def _take_back(self, departed: DepartedShares, fill: Fill) -> None:
        # Shares that had departed are there again: their position goes on with its plan and its orders.
        held, signal = departed.held, departed.held.position.signal
        self._portfolio.correct_fill(fill, held.position.signal)
        departed.fills[fill.execution_id] = fill
        if not fill.quantity:
            del departed.fills[fill.execution_id]
        if not departed.fills:
            del self.book.departed[signal]
        if signal not in self._portfolio.positions:  # its stop has filled meanwhile
            self.book.signals[signal].closed = True
            self._held.pop(signal, None)
            return
        held.position = self._portfolio.positions[signal]
        self._held[signal] = held
        self._on_size_changed(held)

    def apply_split(self, symbol: str, ratio: Fraction) -> None:
        """Apply a split: the levels are divided, and the working orders are cancelled and placed again.

        The levels are those of the symbol's signals, whatever they trade; the orders are those that trade the symbol.
        """
        self._portfolio.apply_split(symbol, ratio)
        for held in self._held.values():
            self.protection.apply_split(held, symbol, ratio)
        for held in self.book.held_in(symbol):
            for ticket in (*held.protection, held.exit):
                if ticket is not None:
                    ticket.outdated = True

    def on_fill_corrected(self, fill: Fill) -> None:
        """Apply a corrected execution, void if the quantity is 0; a position that it had closed is protected again.

        A position that it had opened is reduced or removed, and orders for more are cancelled. Latches stay.
        """
        ticket, before = self._tickets[fill.client_order_id], self._portfolio.unassigned_units
        order = ticket.order
        ordered = order.is_for(fill.symbol, buy=fill.buy)
        was = self.book.correct_fill(ticket, fill)
        if was is None:
            return
        if ticket.open_units > 0 and fill.quantity and not ordered:
            self.mismatched_orders.on_wrong_fill(ticket)
        for symbol in sorted({was.symbol, fill.symbol}):
            beyond = self.overfills.unassigned_units(symbol)
            if abs(beyond) > abs(before.get(symbol, 0)):
                self._exposure.record_surplus(symbol, quantity_of(abs(beyond)))
            managed = [held.position for held in self.book.held_in(symbol)]
            for signal in dict.fromkeys(one.signal for one in (*managed, *self._portfolio.in_symbol(symbol))):
                self._update_corrected(signal, ticket)

    def _update_corrected(self, signal: SignalId, ticket: Ticket) -> None:
        # Update a signal's managed position after a corrected execution.
        position, held = self._portfolio.positions.get(signal), self._held.get(signal)
        if held is not None and position is None:
            # Its working orders must not open a position.
            self.book.signals[signal].closed = True
            for working in held.protection:
                working.outdated = True
            del self._held[signal]
        if position is None:
            return
        if held is None:
            ours = self.book.signals.get(signal) or self.book.signals[ticket.order.signal]
            ours.closed = False
            self._held[signal] = ManagedPosition(
                plan=ours.plan, row=ours.row, position=position, tickets=ours.tickets, own_stop=True
            )
            return
        before, held.position = held.position.units, position
        if before != position.units:
            self._on_size_changed(held)

    def _on_size_changed(self, held: ManagedPosition) -> None:
        # A bracket has the wrong size now: a separate stop replaces it, and the target is emulated.
        held.own_stop = True

    def on_dropped(self, client_order_id: str, *, barred: bool = False) -> None:
        """Apply that a recorded order will never be sent; `barred`: for a reason other than the broker's connection.

        Its replacement is returned after `unsent_orders` is released, at the latest with the next minute.
        """
        ticket = self._tickets[client_order_id]
        self.unsent_orders.on_dropped(ticket, barred=barred)
        self._on_order_ended(ticket)

    def on_lost(self, client_order_id: str, *, reading_after: float | None = None) -> None:
        """Apply that an order is lost: an entry stays reserved, an exit or a stop is placed again at once.

        `reading_after`: the broker refused it, and nothing is placed before a reading of this second of a steady clock
        or later has shown the holding; in place of an exit that is the stop. If the order appears later, it is
        cancelled each minute until it has ended. It stays only if it protects an entry that may still fill, or a
        position without another protection.
        """
        ticket = self._tickets[client_order_id]
        held = self._held.get(ticket.order.signal)
        if held is not None and held.stop is ticket:
            held.own_stop = True
        elif held is not None and held.exit is ticket and reading_after is not None:
            self._put_stop_back(held)
        if held is not None and reading_after is not None and self.is_current(ticket.order):
            held.reading_after = reading_after
        if ticket.order.leg is not Leg.ENTRY:
            ticket.outdated |= not ticket.in_bracket or (held is not None and held.stop is ticket)
            self._on_order_ended(ticket)
        ticket.is_lost = True

    def _find_lost(self, event: BrokerEvent, ticket: Ticket) -> None:
        # A lost order works, or has ended. One of a bracket protects its entry further if it came in time.
        works = event.fill is not None or event.kind in _WORKS
        if not ticket.is_lost or not (works or event.kind in ENDINGS):
            return
        ticket.is_lost = False
        if not works or ticket.order.leg is Leg.ENTRY:
            return
        ticket.works, ticket.cancel_minute, order = True, None, ticket.order
        held, stands = (
            self._held.get(order.signal),
            any(entry.signal == order.signal for entry in self._exposure.working.values()),
        )
        ticket.outdated |= held is None and not stands
        if held is not None and held.stop is ticket and not ticket.outdated:
            held.plan.on_close = not held.plan.stop_rests

    def close_at_stop(self, held: ManagedPosition) -> list[TradingCommand]:
        """Close a position whose emulated stop was reached: cancel what works for it, or send its exit."""
        held.exit_reason = held.plan.stop_reason
        return self.orders_due_now()

    def is_current(self, order: Order) -> bool:
        """Whether a position, or a surplus, waits for what becomes of this order: its stop, its target or its exit."""
        held = self._held.get(order.signal)
        if held is None:
            return self.overfills.is_excess_exit(order)
        ticket = self._tickets[order.client_order_id]
        return ticket in held.protection or ticket is held.exit or ticket is held.trim

    def units_to_close(self, held: ManagedPosition) -> int:
        """The units of a position that its stop, its exit and its trim must close together; 0 without a stop."""
        covered = self.protection.units_to_cover(held)
        return covered + held.units_in_trim if covered else 0

    def may_send_again(self, order: Order) -> bool:
        """Whether a stop or exit without a known outcome still fits its position: it is for no more than is held."""
        held = self._held.get(order.signal)
        fits = held is not None and units_of(order.quantity) <= held.position.units
        return fits and order.leg is not Leg.TARGET and self.is_current(order)

    @property
    def reading_due(self) -> float:
        """The second of a steady clock from which a reading of the account is awaited; infinity without one."""
        awaited = (one.reading_after for one in self._held.values())
        return min((one for one in awaited if one is not None), default=math.inf)

    def on_reading(self, requested: float, unclear: Collection[str]) -> None:
        """Apply a booked reading that was `requested` at a second; the symbols that it leaves `unclear` wait on."""
        for held in self._held.values():
            is_read = held.reading_after is not None and held.reading_after <= requested
            if is_read and symbol_of(held) not in unclear:
                held.reading_after = None

    def mark(self, bars: Bars, minute: int) -> None:
        """Value positions at the minute's closes, else at the last known."""
        closes = bars.field("close")
        for signal, held in self._held.items():
            row = held.price_row(bars)
            if row is not None and not math.isnan(close := closes.item(minute, row)):
                self._portfolio.positions[signal].mark = ticks_of(close)

    def orders_after_minute(self, bars: Bars, minute: int) -> list[TradingCommand]:
        """The commands for positions and working entries after a minute: due exits, trailing stops, cancels.

        An exit is sent only when no other order works for its position. Such orders are cancelled each minute until the
        broker reports their end; call `orders_due_now` after booking events. `is_still`: nothing came of the minute.
        """
        self._minute, self._is_open = minute, True
        self.unsent_orders.release(barred=True)
        actions, active = self._cancels(repeated=True), self.exits.active(self._held.values(), bars, minute)
        exits_only = self._exposure.current_state >= RiskState.EXIT_ONLY
        barred = self.exits.flattening or self._exposure.daily_loss or exits_only
        entries = self._exposure.working if barred or minute + 1 >= self.flatten_from else ()
        checked = not barred and rebalance_rules.checks_positions(self._rules.rebalance, minute)
        self.is_still = not (actions or active or entries or checked or self.overfills.confirmed)
        if self.is_still:
            return []
        for ticket in [self._tickets[cid] for cid in entries]:
            if not ticket.is_lost:
                ticket.cancel_minute = minute
                actions.append(CancelOrder(client_order_id=ticket.cid))
        for held in sorted(active, key=symbol_of):
            if held.reading_after is None and not self.exits.exits_blocked(symbol_of(held)):
                actions += self._orders_for_position(held, bars, minute)
        if checked:
            self._trimmer.check_sizes(bars, minute)
        for symbol in sorted(() if self.exits.must_wait(ExitReason.EXCESS) else self.overfills.confirmed):
            if not self.exits.exits_blocked(symbol) and not self._has_working_order(symbol):
                actions += self.overfills.close_excess(symbol)
        return [*dict.fromkeys(actions), *self.orders_due_now()]

    def orders_due_now(self) -> list[TradingCommand]:
        """The commands that booked events require at once: stops for fills, and unblocked exits; each once."""
        changing = [held for held in self._held.values() if not held.is_settled]
        for held in changing:
            self.exits.cancel_blocked_exit(held)
            if self.exits.is_unprotected_fraction(held) and not self._working_entries(held):
                self.exits.close_unprotected(held)
        actions = self._cancels()
        for held in sorted(changing, key=symbol_of):
            if held.awaits_release or held.reading_after is not None:
                continue
            if held.exit_due and self._may_place_exit(held):
                actions.append(self._exit_submitter.place_exit(held, self._minute))
            elif held.trim_to_units is not None and held.exit_reason is None:
                actions += self._trimmer.place_trim(held)
            elif self._may_place_stop(held) and not (self._working_entries(held) and not self._rules.venue.both_sides):
                actions += self.protection.protect(held)
        return actions

    def _cancels(self, *, repeated: bool = False) -> list[TradingCommand]:
        # Cancel what is to end and was not asked to; `repeated`: a minute begins, and all are asked again, since a
        # request may get lost. The venue ends the rest of a bracket by itself, so it gets until then. A lost order that
        # another has replaced waits, too.
        cancels = list[TradingCommand]()
        for ticket in self._ending():
            ends_itself = ticket.in_bracket and self._signal_plan(ticket).closed and not ticket.outdated
            waits = ends_itself or (ticket.is_lost and ticket.outdated)
            if repeated or (ticket.cancel_minute is None and not waits):
                ticket.cancel_minute = self._minute
                held = self._held.get(ticket.order.signal)
                closing = "" if held is None or held.exit_reason is None else symbol_of(held)
                cancels.append(CancelOrder(client_order_id=ticket.cid, exit_symbol=closing))
        return cancels

    def _ending(self) -> list[Ticket]:
        # The orders that are to end, the stops last, since they protect meanwhile.
        working = [ticket for ticket in self._tickets.values() if ticket.works or ticket.is_lost]
        desired = {signal: self._desired(held) for signal, held in self._held.items()} if working else {}
        ending = [ticket for ticket in working if not self._belongs(ticket, desired)]
        return sorted(ending, key=_is_stop)

    def _belongs(self, ticket: Ticket, desired: Mapping[SignalId, Desired]) -> bool:
        # Whether an order belongs to what should work for its position, or for one that its entry may still open.
        signal, planned = ticket.order.signal, self._signal_plan(ticket)
        if (held := self._held.get(signal)) is not None:
            return desired[signal].includes(ticket, held)
        stays = not planned.closed or ticket.order.reason is ExitReason.EXCESS
        return not ticket.outdated and (stays or (ticket.order.leg is Leg.ENTRY and ticket.is_lost))

    def _signal_plan(self, ticket: Ticket) -> SignalPlan:
        return self.book.signals[ticket.order.signal]

    def _desired(self, held: ManagedPosition) -> Desired:
        # What should work for a position. What waits leaves its orders as they are.
        if held.is_settled:
            return _UNBRACKETED if held.own_stop else _BRACKET
        if self._is_closing(held):
            return CLOSING
        waits = held.awaits_release or held.reading_after is not None
        if held.trim_to_units is not None and held.exit_reason is None and not waits:
            return Desired()
        if waits or not self._may_place_stop(held):
            return Desired(bracket=not held.own_stop or self._stop_fits_in_dispute(held), stop=None)
        if held.stop_triggered:
            return Desired(bracket=not held.own_stop, stop=None)
        units = self.protection.units_to_cover(held)
        first = held.stop is None and self.protection.may_place(held, units)
        return Desired(bracket=not held.own_stop, stop=units, entries=self._rules.venue.both_sides or not first)

    def _is_closing(self, held: ManagedPosition) -> bool:
        # Whether the way is to be cleared for its exit.
        waits = self.exits.exits_blocked(symbol_of(held)) or self.exits.must_wait(held.exit_reason)
        waits |= held.reading_after is not None or (held.plan.is_expired and not self._is_open)
        return held.exit_reason is not None and not waits

    def add_entry(self, order: Order, plan: ExitPlan, row: int | None) -> None:
        """Add a recorded entry with its protection; `row` is its symbol's row in the bars, None without bars."""
        self.book.signals[order.signal] = SignalPlan(plan=plan, row=row)
        for one in (order, *order.protection):
            self.book.add_ticket(one).in_bracket = one is not order
            self.book.signals[order.signal].attempts[one.leg] = 1

    def _on_order_ended(self, ticket: Ticket) -> None:
        # A stop that ended without a cancel of ours is emulated.
        held = self._held.get(ticket.order.signal)
        if ticket.order.leg is Leg.ENTRY:
            self._exposure.working.pop(ticket.cid, None)
        elif held is not None and held.stop is ticket:  # not an older attempt
            held.plan.on_close |= held.exit_reason is None and not held.is_stop_ending
        ticket.works = False

    def _apply_fill(self, fill: Fill, ticket: Ticket, words: str) -> None:
        order, surplus = ticket.order, len(self._portfolio.surplus)
        position = self.book.book_fill(ticket, fill, words)
        self.overfills.report_excess(order, surplus)
        if ticket.signal_of(fill) is None:
            self.mismatched_orders.on_wrong_fill(ticket)
        if position is not None:
            if order.leg is Leg.ENTRY:
                self._on_entry_fill(fill, ticket, position)
            elif not position.units:
                self._on_closed(position, fill)
            else:
                held = self._held[order.signal]
                if held.stop is ticket:  # not an older one that is reported late
                    self.protection.on_triggered(held)
        if ticket.open_units <= 0:
            self._on_order_ended(ticket)

    def _on_closed(self, position: Position, fill: Fill) -> None:
        # Working orders of a closed position must not open another.
        del self._held[position.signal]
        self.book.signals[position.signal].closed = True
        self._exposure.count_closed(fill, position.pnl_atoms)

    def _on_entry_fill(self, fill: Fill, ticket: Ticket, position: Position) -> None:
        order = ticket.order
        count_traded(self._exposure, order.signal.symbol)
        planned = self.book.signals[order.signal]
        reference = price_of(planned.plan.price if ticket.reference is None else ticket.reference)
        self._exposure.count_fill(self._rules.risk, fill.price, reference, position.side)
        held = self._held.get(order.signal)
        if held is None and position.units:  # no units if the entry is reported after its exit
            held = self._open_position(fill, ticket, position)
        elif held is not None and order.tops_up:
            self._on_topped_up(held)
        if held is not None and ticket.open_units < 0 and held.is_bracketed:
            # Overfilled: the bracket's size is not known, so a separate stop replaces it.
            held.own_stop = True

    def _open_position(self, fill: Fill, ticket: Ticket, position: Position) -> ManagedPosition:
        order, planned = ticket.order, self.book.signals[ticket.order.signal]
        planned.plan.on_entry_fill(self.session.minute(fill.time))
        protection = [self._tickets[one.client_order_id] for one in order.protection]
        held = ManagedPosition(plan=planned.plan, row=planned.row, position=position, tickets=planned.tickets)
        held.own_stop, planned.closed = ticket.filled_wrongly, False
        self._held[order.signal] = held
        for one in protection:
            if not (one.works or one.is_lost):  # its end was reported before the entry's fill
                self._on_protection_ended_early(held, one)
        return held

    def _on_protection_ended_early(self, held: ManagedPosition, ticket: Ticket) -> None:
        # It counts as resting until now, so that its position is protected as after an end that follows the fill.
        ticket.works = True
        if ticket.stop_rejected:
            self.protection.on_stop_rejected(ticket)
        elif ticket.order.leg is Leg.STOP and not self._rules.venue.simulated:
            held.own_stop = True
        self._on_order_ended(ticket)

    def _on_topped_up(self, held: ManagedPosition) -> None:
        # One stop for the whole is placed when the resting orders have ended. If the stop has begun to fill, it is
        # closed.
        if held.stop_triggered or held.exit_reason is not None:
            held.exit_reason = held.exit_reason or held.plan.stop_reason
            return
        held.trim_to_units, held.top_up_denial, held.own_stop = held.position.units, None, True

    def _orders_for_position(self, held: ManagedPosition, bars: Bars, minute: int) -> list[TradingCommand]:
        if held.exit is not None:
            return [] if self.exits.must_wait(held.exit_reason) else self._exit_submitter.resend_exit(held, minute)
        reason = self.exits.exit_reason(held, bars, minute)
        if reason is None:
            if held.plan.trailing and not held.stop_triggered:
                for closed in self._minutes_to_trail(held, minute):
                    held.plan.trail(held.bar_value(bars, "high", closed), held.bar_value(bars, "low", closed))
            return self.protection.move_lagging(held, minute)
        held.exit_reason = reason
        return []

    def _minutes_to_trail(self, held: ManagedPosition, minute: int) -> range:
        # The closed minutes by which its stop trails now: after a restart all since the entry, where no order at the
        # broker has told its level.
        is_first = held.plan.is_apart and not held.plan.has_trailed
        return range(self.session.minute(held.position.entry_time) if is_first else minute, minute + 1)

    def _may_place_exit(self, held: ManagedPosition) -> bool:
        # Whether a due exit can be sent: nothing else works for its position, and it need not wait. An entry in doubt
        # can only add to the position; its stop has been cancelled, so that the exit must not wait for it.
        waits = self.exits.exits_blocked(symbol_of(held)) or self.exits.must_wait(held.exit_reason)
        waits |= held.plan.is_expired and not self._is_open
        blocks = any(not _is_unknown_entry(one) for one in self._blocking_orders(held))
        return not (waits or blocks)

    def _may_place_stop(self, held: ManagedPosition) -> bool:
        # Whether a stop of its own is due. While readings contradict the books, only a position's first one is.
        due = not held.is_bracketed and held.exit_reason is None and not held.plan.on_close
        return due and not self._is_disputed(held)

    def _is_disputed(self, held: ManagedPosition) -> bool:
        return held.had_stop and self._exposure.holds.has(symbol_of(held), Hold.DISPUTED)

    def _stop_fits_in_dispute(self, held: ManagedPosition) -> bool:
        # Whether its working stop, which another is to replace, stays: none may be placed, and it closes no more than
        # is held.
        fits = held.stop is not None and held.stop.open_units <= held.position.units
        return fits and self._is_disputed(held)

    def _has_working_order(self, symbol: str) -> bool:
        # Whether an entry or an order to cancel of the symbol may still fill.
        entries = any(one.instrument.symbol == symbol for one in self._exposure.working.values())
        return entries or any(ticket.order.symbol == symbol for ticket in self._ending())

    def _blocking_orders(self, held: ManagedPosition) -> list[Ticket]:
        # The working orders of a position except its exit: its entries, its trim, then its protection, the stop last.
        trimming = [] if held.trim is None else [held.trim]
        return [*self._working_entries(held), *trimming, *held.protection]

    @staticmethod
    def _working_entries(held: ManagedPosition) -> list[Ticket]:
        # The entry and top-up orders of a position that may still fill.
        return [one for one in held.tickets if one.works and one.order.leg is Leg.ENTRY and not one.is_lost]


def _is_stop(ticket: Ticket) -> bool:
    return ticket.order.leg is Leg.STOP


def _is_unknown_entry(ticket: Ticket) -> bool:
    # Whether it is a working entry without a known outcome.
    return ticket.state is OrderState.UNKNOWN and ticket.order.leg is Leg.ENTRY
