"""The matching engine of a simulated venue: working orders, executions, brackets and events.

Only the venue's own faults are random; the same orders at the same seconds trade the same.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final, Unpack

from tbot_core.contracts import BrokerEvent, BrokerEventKind, OrderStatus
from tbot_core.model.types import (
    UNITS_PER_SHARE,
    Fill,
    Leg,
    OrderType,
    atoms_of,
    dollars_of,
    price_of,
    quantity_of,
    units_of,
)
from tbot_core.rehearsal.prices import STEP_S
from tbot_core.rehearsal.venue_facts import FactFields, VenueBooks, VenueFact, fill_effect
from tbot_core.rehearsal.venue_orders import HELD, OPEN, SimulatedVenueOrder

if TYPE_CHECKING:
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Order
    from tbot_core.rehearsal.faults import SeedFaults
    from tbot_core.rehearsal.prices import PricePath, SimulatedMarket
    from tbot_core.rehearsal.venue_profiles import VenueProfile

ALIVE: Final = (OPEN, HELD)


class VenueMatchingEngine:
    """The orders and books of one account at a venue; seconds are those of the world, whose second 0 is `start`.

    `timed_events` has every event with its second, for delivery.
    """

    def __init__(
        self, market: SimulatedMarket, character: VenueProfile, session: Session, start: dt.datetime, faults: SeedFaults
    ) -> None:
        self.market = market
        self.character = character
        self.books = VenueBooks(atoms_of(character.cash))
        self.timed_events: list[tuple[float, BrokerEvent]] = []
        self.orders: list[SimulatedVenueOrder] = []
        self.open: list[SimulatedVenueOrder] = []
        self.now = 0.0
        self.start = start
        self.opens = (session.open - start).total_seconds()
        self.closes = (session.close - start).total_seconds()
        self._faults = faults
        self._changed: dict[str, SimulatedVenueOrder] = {}
        self._traded = -1
        self._executions = 0
        self._limit_entries = 0

    @property
    def step(self) -> int:
        """The current step; the first one before the open, the last one after the close."""
        return self._step(self.now)

    @property
    def in_session(self) -> bool:
        """Whether the session is open."""
        return self.opens <= self.now < self.closes

    def path(self, symbol: str) -> PricePath | None:
        """The price path of a symbol; None if it is not traded."""
        path = self.market.paths.get(symbol)
        return path if path is not None and path.listed(self.step) else None

    def find(self, client_order_id: str) -> SimulatedVenueOrder | None:
        """The latest order of a client order id."""
        return next((working for working in reversed(self.orders) if working.cid == client_order_id), None)

    def moment(self, seconds: float) -> dt.datetime:
        """The time of a second of the world."""
        return self.start + dt.timedelta(seconds=seconds)

    def trade(self, to: float) -> None:
        """Advance the market to second `to`, and fill orders."""
        last = self._step(to) if to >= self.opens else -1
        while self._traded < last:
            self._traded = self._traded + 1 if self.open else last
            self._pass_to(self.opens + self._traded * STEP_S)
            for working in [*self.open]:
                self.meet(working)
        self._pass_to(to)

    def accept(
        self, order: Order, *, ours: bool = True, parent: SimulatedVenueOrder | None = None
    ) -> SimulatedVenueOrder:
        """Accept an order; protection is held until its entry fills."""
        working = SimulatedVenueOrder(
            order=order,
            broker_order_id=f"b{len(self.orders) + 1}",
            units=units_of(order.quantity),
            accepted_at=self.now,
            changed=self.now,
            ours=ours,
            parent=parent,
            kind=OPEN if parent is None else HELD,
        )
        if order.leg is Leg.ENTRY and order.type is OrderType.LIMIT:
            working.fills_from = self.now + self.character.queue_s * (self._limit_entries % 2 == 0)
            self._limit_entries += 1
        self.orders.append(working)
        self.write("accepted", working, quantity=working.units)
        return working

    def rest(self, working: SimulatedVenueOrder) -> None:
        """Let an order work, and match it at once."""
        working.kind = OPEN
        self.open.append(working)
        self.report(BrokerEventKind.ACKNOWLEDGED, working)
        self.meet(working)

    def meet(self, working: SimulatedVenueOrder) -> None:
        """Match an order in the current step."""
        path, step = self.path(working.order.symbol), self.step
        if path is None or not self.in_session or working.kind != OPEN or path.halted(step):
            return
        if self.now < working.fills_from:
            return
        ticks, uncovered = working.price(path, step), not (working.ours or working.order.buy or self.character.margin)
        if ticks is not None and uncovered and self.books.units.get(working.order.symbol, 0) < working.remaining_units:
            # A cash account cannot sell short, also not by an order that was covered when it was sent.
            self.end(working, BrokerEventKind.CANCELLED, "less is held than the order would sell")
        elif ticks is not None and (units := min(working.remaining_units, path.depth[step])):
            self.execute(working, units, ticks)

    def execute(self, working: SimulatedVenueOrder, units: int, ticks: int) -> None:
        """Fill units of an order at a price in ticks: book and report the fill, and adjust its bracket."""
        order = working.order
        fill = Fill(
            execution_id=self._execution_id(working),
            client_order_id=working.cid,
            symbol=order.symbol,
            buy=order.buy,
            quantity=quantity_of(units),
            price=price_of(ticks),
            fees=dollars_of(units * self.character.fee_ticks),
            time=self.moment(self.now),
        )
        working.fills.append(fill)
        working.filled += units
        working.changed = self.now
        gained, paid = fill_effect(fill)
        self.write("execution", working, units=gained, atoms=paid, fill=fill)
        self.report(BrokerEventKind.FILL, working, fill=fill)
        if working.filled >= working.units:
            working.kind = OrderStatus.FILLED
            self._leave(working)
        self._cover(working)
        self._reduce(working, units)
        if working.ours and working.filled == working.units and self._faults.strikes("F28", self.now):
            self.execute(working, max(units // 2 // UNITS_PER_SHARE, 1) * UNITS_PER_SHARE, ticks)

    def end(self, working: SimulatedVenueOrder, kind: str, words: str = "") -> None:
        """End an order; the protection of an entry without fills ends with it."""
        if working.kind not in ALIVE:
            return
        working.kind, working.words, working.changed = kind, words, self.now
        self.write(kind, working, words=words)
        self.report(kind, working, words=words)
        self._leave(working)
        if not working.filled:
            for leg in working.legs:
                self.end(leg, kind, words)

    def write(self, kind: str, working: SimulatedVenueOrder | None = None, **terms: Unpack[FactFields]) -> None:
        """Add a fact."""
        known: FactFields = {}
        if working is not None:
            known["ours"], known["client_order_id"] = working.ours, working.cid
            known["broker_order_id"], known["symbol"] = working.broker_order_id, working.order.symbol
            self._changed.update((one.broker_order_id, one) for one in working.family)
        known.update(terms)
        self.books.write(VenueFact(at=self.moment(self.now), kind=kind, **known))

    def report(
        self, kind: str, working: SimulatedVenueOrder | str, *, fill: Fill | None = None, words: str = ""
    ) -> None:
        """Report an event of an order, or of an unknown client order id."""
        cid = working if isinstance(working, str) else working.cid
        event_id = f"{self.character.account_id}-e{len(self.timed_events) + 1}"
        event = BrokerEvent(kind=kind, event_id=event_id, client_order_id=cid, fill=fill, words=words)
        self.timed_events.append((self.now, event))

    def report_correction(self, kind: str, working: SimulatedVenueOrder, was: Fill, fill: Fill) -> None:
        """Bust an execution (`busted`), or give it the terms of `fill` (`corrected`)."""
        units, atoms = fill_effect(was)
        new_units, new_atoms = (0, 0) if kind == BrokerEventKind.BUSTED else fill_effect(fill)
        at = working.fills.index(was)
        working.fills[at : at + 1] = [] if kind == BrokerEventKind.BUSTED else [fill]
        working.filled += abs(new_units) - abs(units)
        working.changed = self.now
        self.write(kind, working, units=new_units - units, atoms=new_atoms - atoms, fill=fill)
        self.report(kind, working, fill=fill)

    def _pass_to(self, second: float) -> None:
        # Let time pass; the orders that changed until now keep their state for readings that are behind.
        if second > self.now:
            for working in self._changed.values():
                working.keep(self.now, self.start)
            self._changed.clear()
            self.now = second

    def _cover(self, entry: SimulatedVenueOrder) -> None:
        # Protection rests from the entry's first fill on, for the filled quantity.
        for leg in entry.legs:
            if leg.kind in ALIVE:
                leg.units = entry.filled
            if leg.kind != HELD:
                continue
            if leg.order.type is OrderType.STOP and self._faults.strikes("F37", self.now):
                self.end(leg, BrokerEventKind.REJECTED, "42210009 the stop was refused by the market")
                continue
            leg.kind = OPEN
            self.open.append(leg)
            self.report(BrokerEventKind.ACKNOWLEDGED, leg)

    def _reduce(self, leg: SimulatedVenueOrder, units: int) -> None:
        # A fill of one leg reduces the other, and cancels the rest of the entry.
        if leg.parent is None:
            return
        self.end(leg.parent, BrokerEventKind.CANCELLED, "its protection was filled")
        for other in leg.siblings:
            if other.kind != OPEN:
                continue
            path = self.path(other.order.symbol)
            if path is not None and leg.kind == OrderStatus.FILLED and self._faults.strikes("F38", self.now):
                self.execute(other, other.remaining_units, path.prices[self.step])
                continue
            other.units = max(other.units - units, other.filled)
            if not other.remaining_units:
                self.end(other, BrokerEventKind.CANCELLED, "the other leg was filled")

    def _leave(self, working: SimulatedVenueOrder) -> None:
        self.open = [other for other in self.open if other is not working]

    def _execution_id(self, working: SimulatedVenueOrder) -> str:
        if working.fills and self._faults.strikes("F30", self.now):
            return working.fills[-1].execution_id
        if not self.character.rules.exec_ids_unique:
            return str(len(working.fills) + 1)
        self._executions += 1
        return f"{self.character.account_id}-{self._executions}"

    def _step(self, seconds: float) -> int:
        steps = int((self.closes - self.opens) // STEP_S)
        return min(max(int((seconds - self.opens) // STEP_S), 0), steps - 1)
