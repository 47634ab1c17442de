"""Orders at a simulated venue: their state, and the checks of new ones."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from decimal import Decimal
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import OrderStatus, OrderStatusReport
from tbot_core.model.types import Fill, Order, OrderType, price_of, quantity_of, ticks_of, units_of

if TYPE_CHECKING:
    from tbot_core.rehearsal.prices import PricePath
    from tbot_core.rehearsal.venue_profiles import VenueProfile

HELD: Final = "held"
OPEN: Final = OrderStatus.WORKING
_BAND: Final = Decimal("0.2")


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


def order_level(order: Order) -> int:
    """The price of a limit or stop order in ticks; 0 for a market order."""
    price = order.stop_price if order.type is OrderType.STOP else order.limit_price
    return 0 if price is None else ticks_of(float(price))
