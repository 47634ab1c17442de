"""The matching engine of a simulated venue: orders and the checks of new ones, executions, brackets and events.

Only the venue's own faults are random; the same orders at the same seconds trade the same. Its facts hold cash and
holdings: money in atoms and quantities in units, so that sums are exact. The invariants compare a bot's journal with
them.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from itertools import takewhile
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

import attrs

from tbot_core.contracts import (
    AccountActivity,
    BrokerEvent,
    BrokerEventKind,
    OrderStatus,
    OrderStatusReport,
    PositionReport,
)
from tbot_core.model.types import (
    UNITS_PER_SHARE,
    Fill,
    Leg,
    Order,
    OrderType,
    atoms_of,
    dollars_of,
    price_of,
    quantity_of,
    ticks_of,
    units_of,
)
from tbot_core.rehearsal.prices import STEP_S, PricePath, SimulatedMarket

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.model.calendar import Session
    from tbot_core.rehearsal.faults import SeedFaults
    from tbot_core.rehearsal.venue_profiles import VenueProfile

HELD: Final = "held"

OPEN: Final = OrderStatus.WORKING

ALIVE: Final = (OPEN, HELD)

_BAND: Final = Decimal("0.2")

_NOW: Final = datetime.max.replace(tzinfo=UTC)


def order_level(order: Order) -> int:
    """The price of a limit or stop order in ticks; 0 for a market order."""
    price = order.stop_price if order.type is OrderType.STOP else order.limit_price
    return 0 if price is None else ticks_of(float(price))


@attrs.define(eq=False)
class SimulatedVenueOrder:
    """An order that a venue has accepted.

    `kind` is that of its report, or `held` for protection that waits for its entry's fill. `units` is its whole
    quantity, `level` its limit or stop in ticks, `legs` the protection of an entry, which cancel each other. `ours`:
    the bot sent it. Before second `fills_from` of the world others at its price come first. `past` are its states,
    each from a second of the world on.
    """

    order: Order
    broker_order_id: str
    units: int
    accepted_at: float
    fills_from: float = 0.0
    level: int = attrs.field(default=attrs.Factory(lambda self: order_level(self.order), takes_self=True))
    ours: bool = True
    kind: str = OPEN
    parent: SimulatedVenueOrder | None = None
    legs: list[SimulatedVenueOrder] = attrs.field(factory=list)
    fills: list[Fill] = attrs.field(factory=list)
    filled: int = 0
    triggered: bool = False
    changed: float = 0.0
    words: str = ""
    past: list[tuple[float, OrderStatusReport]] = attrs.field(factory=list)
    _reported: tuple[tuple[object, ...], OrderStatusReport] | None = None

    @property
    def cid(self) -> str:
        """The client order id; empty for an order that was placed without one."""
        return self.order.client_order_id

    @property
    def remaining_units(self) -> int:
        """The units that may still fill."""
        return max(self.units - self.filled, 0) if self.kind in {OPEN, HELD} else 0

    @property
    def family(self) -> list[SimulatedVenueOrder]:
        """The order, and what changes with it: the entry of its bracket and all legs."""
        entry = self.parent or self
        return [self, entry, *entry.legs]

    @property
    def siblings(self) -> list[SimulatedVenueOrder]:
        """The other legs of the same bracket."""
        return [] if self.parent is None else [leg for leg in self.parent.legs if leg is not self]

    def price(self, path: PricePath, step: int) -> int | None:
        """The price in ticks at which it fills in this step; None if it does not."""
        last, buy, order = path.prices[step], self.order.buy, self.order
        met = path.ask(step) if buy else path.bid(step)
        if order.type is OrderType.LIMIT:
            return met if (met <= self.level if buy else met >= self.level) else None
        if order.type is OrderType.STOP and not self.triggered:
            self.triggered = last >= self.level if buy else last <= self.level
            return met if self.triggered else None
        return met

    def report(self, start: dt.datetime) -> OrderStatusReport:
        """The venue's report of it; `start` is the time of the world's second 0."""
        # Cached: most orders of a day have ended, and are read many times.
        state = (self.kind, self.changed, self.units, tuple(map(id, self.fills)))
        if self._reported is None or self._reported[0] != state:
            self._reported = state, self._report(start)
        return self._reported[1]

    def keep(self, second: float, start: dt.datetime) -> None:
        """Keep its state at the end of a second of the world, for readings that are behind."""
        self.past.append((second, self.report(start)))

    def report_at(self, second: float) -> OrderStatusReport | None:
        """The report that was right at an earlier second; None if the order was not there yet."""
        at = bisect_right(self.past, second, key=itemgetter(0))
        return self.past[at - 1][1] if at else None

    def _report(self, start: dt.datetime) -> OrderStatusReport:
        filled = sum((fill.quantity for fill in self.fills), Decimal(0))
        paid = sum((fill.quantity * fill.price for fill in self.fills), Decimal(0))
        return OrderStatusReport(
            client_order_id=self.cid,
            broker_order_id=self.broker_order_id,
            kind=OPEN if self.kind == HELD else self.kind,
            symbol=self.order.symbol,
            buy=self.order.buy,
            quantity=quantity_of(self.units),
            time=start + dt.timedelta(seconds=self.changed),
            filled=filled,
            average_price=paid / filled if filled else None,
            fills=tuple(self.fills),
            words=self.words,
        )


@attrs.frozen(kw_only=True)
class VenueFact:
    """An event at a venue.

    `kind`: accepted, rejected, replaced, cancelled, expired, execution, busted, corrected, or an activity's kind.
    `ours`: it concerns an order of the bot. `units` and `atoms` are the changes of holding and cash; `quantity` is the
    ordered quantity in units.
    """

    at: datetime
    kind: str
    ours: bool = False
    client_order_id: str = ""
    broker_order_id: str = ""
    symbol: str = ""
    quantity: int = 0
    units: int = 0
    atoms: int = 0
    fill: Fill | None = None
    words: str = ""

    @property
    def line(self) -> str:
        """The fact as one line of a trace."""
        fill = "" if self.fill is None else f" {self.fill.execution_id}@{self.fill.price}"
        return (
            f"{self.at.isoformat()} {self.kind} {self.client_order_id or '-'} {self.broker_order_id or '-'} "
            f"{self.symbol or '-'} {self.quantity} {self.units} {self.atoms}{fill} {self.words}".rstrip()
        )


class _FactFields(TypedDict, total=False):
    # The fields of a fact besides its time and kind.
    ours: bool
    client_order_id: str
    broker_order_id: str
    symbol: str
    quantity: int
    units: int
    atoms: int
    fill: Fill | None
    words: str


class VenueMatchingEngine:
    """The orders and books of one account at a venue; seconds are those of the world, whose second 0 is `start`.

    `timed_events` has every event with its second, for delivery.
    """

    def __init__(
        self, market: SimulatedMarket, character: VenueProfile, session: Session, start: dt.datetime, faults: SeedFaults
    ) -> None:
        self.market = market
        self.character = character
        self.books = _VenueBooks(atoms_of(character.cash))
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

    def write(self, kind: str, working: SimulatedVenueOrder | None = None, **terms: Unpack[_FactFields]) -> None:
        """Add a fact."""
        known: _FactFields = {}
        if working is not None:
            known["ours"], known["client_order_id"] = working.ours, working.cid
            known["broker_order_id"], known["symbol"] = working.broker_order_id, working.order.symbol
            self._changed.update((order.broker_order_id, order) for order in working.family)
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


def order_objection(order: Order, character: VenueProfile, path: PricePath | None, step: int) -> str:
    """Why the venue rejects the order, with a code first; empty if it accepts it.

    `path` None: the symbol is not traded there. Buying power is not checked.
    """
    if path is None:
        return f"42210002 asset {order.symbol} is not tradable"
    if order.protection and not character.rules.brackets:
        return "42210007 complex orders are not supported"
    words = (_against_terms(part, character, path, step) for part in (order, *order.protection))
    return next(filter(None, words), "") or _against_price(order, character, path, step)


def worst_cost(order: Order, path: PricePath, step: int) -> int:
    """The largest cost of the order, in atoms."""
    price = path.ask(step) * 103 // 100 if order.limit_price is None else ticks_of(float(order.limit_price))
    return units_of(order.quantity) * price


class _VenueBooks:
    # Cash in atoms and holdings in units; only facts change them.
    def __init__(self, cash: int) -> None:
        """Begin without holdings; `cash` is in atoms."""
        self.first_cash = cash
        self.cash = cash
        self.units: dict[str, int] = {}
        self.facts: list[VenueFact] = []

    def write(self, fact: VenueFact) -> None:
        """Add a fact, and apply it to cash and holdings."""
        self.facts.append(fact)
        self.cash += fact.atoms
        if fact.units:
            held = self.units.pop(fact.symbol, 0) + fact.units
            if held:
                self.units[fact.symbol] = held

    def units_at(self, moment: datetime) -> dict[str, int]:
        """The holdings in units at a moment, by symbol."""
        units = Counter(self.units)
        for fact in self._since(moment):
            units[fact.symbol] -= fact.units
        return {symbol: count for symbol, count in sorted(units.items()) if count}

    def cash_at(self, moment: datetime) -> int:
        """The cash in atoms at a moment."""
        return self.cash - sum(fact.atoms for fact in self._since(moment))

    def count(self, moment: datetime) -> int:
        """The number of facts until a moment."""
        return bisect_right(self.facts, moment, key=attrgetter("at"))

    def _since(self, moment: datetime) -> Iterator[VenueFact]:
        # The facts after a moment, the latest first.
        return takewhile(lambda fact: fact.at > moment, reversed(self.facts))

    def holdings(self, moment: datetime = _NOW) -> tuple[PositionReport, ...]:
        """The holdings at a moment, by symbol; those of now without one."""
        return tuple(
            PositionReport(symbol=symbol, quantity=quantity_of(units))
            for symbol, units in self.units_at(moment).items()
        )

    def activities(self, since: datetime, until: datetime) -> tuple[AccountActivity, ...]:
        """The changes of cash or holdings without an order between two moments."""
        return tuple(
            AccountActivity(
                activity_id=f"a{number}",
                kind=fact.kind,
                time=fact.at,
                symbol=fact.symbol,
                quantity=quantity_of(fact.units),
                cash=dollars_of(fact.atoms),
                words=fact.words,
            )
            for number, fact in enumerate(self.facts)
            if since <= fact.at <= until and (fact.units or fact.atoms) and fact.fill is None
        )


def fill_effect(fill: Fill) -> tuple[int, int]:
    """The changes of holding (units) and cash (atoms) by an execution."""
    units = units_of(fill.quantity) * (1 if fill.buy else -1)
    return units, -units * ticks_of(float(fill.price)) - atoms_of(fill.fees)


def _against_terms(order: Order, character: VenueProfile, path: PricePath, step: int) -> str:
    rules, quantity = character.rules, order.quantity
    fraction = quantity % 1 != 0 and order.type not in rules.fractional_types
    if quantity <= 0 or quantity % rules.quantity_step or fraction:
        return f"42210003 quantity {quantity} is not a multiple of what may be traded"
    if (order.type is OrderType.MARKET) is bool(order_level(order)):
        return f"42210010 a {order.type.value} order with the prices of another type"
    for price in (order.limit_price, order.stop_price):
        if price is not None and (price <= 0 or ticks_of(float(price)) % path.grid(step)):
            return f"42210004 price {price} is not on the tick grid"
    return ""


def _against_price(order: Order, character: VenueProfile, path: PricePath, step: int) -> str:
    last, limit, stop = price_of(path.prices[step]), order.limit_price, order.stop_price
    beyond = limit is not None and (limit - last if order.buy else last - limit) > last * _BAND
    if beyond and not path.halted(step):
        return f"42210005 price {limit} lies beyond the band around {last}"
    if stop is not None and character.refuses_crossed_stops and (stop <= last if order.buy else stop >= last):
        return f"42210006 stop {stop} would trigger at once at {last}"
    return ""
