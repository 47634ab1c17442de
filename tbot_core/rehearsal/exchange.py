"""A simulated exchange: handles requests and snapshots at a second of the world.

It does nothing by itself: `advance` runs everything that is due by then, in order.
"""

from __future__ import annotations

import heapq
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import AccountSnapshot
from tbot_core.model.types import Account, Leg, dollars_of, quantity_of, units_of
from tbot_core.rehearsal.venue_matching import ALIVE, VenueMatchingEngine
from tbot_core.rehearsal.venue_orders import order_level, order_objection, worst_cost

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

    from tbot_core.contracts import OrderStatusReport
    from tbot_core.model.types import Order
    from tbot_core.rehearsal.venue_orders import SimulatedVenueOrder

_LEVERAGE: Final = 2


@attrs.frozen(kw_only=True)
class VenueResponse:
    """The answer to a request: `refusal` is the text of a rejection, else ""; `duplicate`: the id is in use."""

    refusal: str = ""
    duplicate: bool = False


class SimulatedExchange:
    """One account at one venue."""

    def __init__(self, floor: VenueMatchingEngine) -> None:
        self.floor = floor
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._acts = 0
        self.schedule(floor.closes, self._expire)

    def schedule(self, at: float, act: Callable[[], None]) -> None:
        """Schedule an act for a second of the world; a past one runs with the next `advance`."""
        self._acts += 1
        heapq.heappush(self._agenda, (at, self._acts, act))

    def advance(self, to: float) -> None:
        """Run everything that is due until second `to`."""
        while self._agenda and self._agenda[0][0] <= to:
            at, _, act = heapq.heappop(self._agenda)
            self.floor.trade(at)
            act()
        self.floor.trade(to)

    def submit(self, order: Order, *, ours: bool = True) -> VenueResponse:
        """Handle a submit; an invalid order is rejected at once, or accepted and then rejected."""
        floor = self.floor
        if order.client_order_id and self._in_use(order.client_order_id):
            return VenueResponse(duplicate=True)
        words = self._objection(order)
        if words and floor.character.refuses_at_once:
            cid = order.client_order_id
            floor.write("rejected", ours=ours, client_order_id=cid, symbol=order.symbol, words=words)
            return VenueResponse(refusal=words)
        working = floor.accept(order, ours=ours)
        working.legs = [floor.accept(part, ours=ours, parent=working) for part in order.protection]
        if words:
            floor.report("acknowledged", working)
            floor.end(working, "rejected", words)
        else:
            floor.rest(working)
        return VenueResponse()

    def cancel(self, client_order_id: str) -> VenueResponse:
        """Handle a cancel; its result is an event."""
        working = self.floor.find(client_order_id)
        if working is None:
            self.floor.report("not_found", client_order_id, words="40410000 order not found")
        elif working.kind in ALIVE:
            self.floor.end(working, "cancelled")
        else:
            self.floor.report("cancel_refused", working, words=f"42210011 the order is {working.kind} already")
        return VenueResponse()

    def replace(self, client_order_id: str, order: Order, *, refused: bool = False) -> VenueResponse:
        """Handle a replace: in place if the venue supports it, else a cancel and a new order for the rest.

        `refused`: the new order is rejected.
        """
        working = self.floor.find(client_order_id)
        words = "42210013 the replacement was refused" if refused else self._objection(order, replaces=True)
        atomic = self.floor.character.rules.amend_atomic
        if working is None or working.kind not in ALIVE:
            words = "42210012 the order to replace is not open"
        elif not atomic:
            self._in_two_steps(working, order, words)
            return VenueResponse()
        elif not words:
            self._amend(working, order)
            return VenueResponse()
        self.floor.report("cancel_refused", client_order_id, words=words)
        if not atomic:
            self.floor.report("rejected", order.client_order_id, words=words)
        return VenueResponse()

    def report(self, client_order_id: str) -> OrderStatusReport | None:
        """Look up an order by its client order id; a new one is not found during the index lag."""
        working = self.floor.find(client_order_id)
        if working is None or self.floor.now - working.taken < self.floor.character.index_lag_s:
            return None
        return working.report(self.floor.start)

    def account(self) -> Account:
        """Cash, equity at the last prices, and buying power."""
        character, equity = self.floor.character, self._equity()
        return Account(
            account_id=character.account_id,
            equity=dollars_of(equity),
            cash=dollars_of(self.floor.books.cash),
            buying_power=max(dollars_of(self._power(equity)), Decimal(0)),
            margin=character.margin,
        )

    def snapshot(self, since: dt.datetime) -> AccountSnapshot:
        """A snapshot of the account."""
        floor = self.floor
        lists_closed, since_s = floor.character.rules.lists_closed, (since - floor.start).total_seconds()
        reports = [
            working.report(floor.start)
            for working in floor.orders
            if working.kind in ALIVE or (lists_closed and working.changed >= since_s)
        ]
        return AccountSnapshot(
            account=self.account(),
            holdings=floor.books.holdings(),
            orders=tuple(reports),
            activities=floor.books.activities(since),
            fills=tuple(fill for working in floor.orders for fill in working.fills if fill.time >= since)
            if floor.character.rules.lists_fills
            else (),
            barrier=str(len(floor.books.facts)) if floor.character.numbers_moments else "",
        )

    def _amend(self, working: SimulatedVenueOrder, order: Order) -> None:
        working.order = attrs.evolve(order, client_order_id=working.cid)
        working.level, working.triggered = order_level(order), False
        if working.parent is None:
            working.units = max(units_of(order.quantity), working.filled)
        self.floor.write("replaced", working, quantity=working.units)
        self.floor.report("replaced", working)
        self.floor.meet(working)

    def _in_two_steps(self, working: SimulatedVenueOrder, order: Order, words: str) -> None:
        rest, parent = working.remaining_units, working.parent
        self.floor.end(working, "cancelled", "replaced")
        if words:
            self.floor.report("rejected", order.client_order_id, words=words)
            return
        fresh = self.floor.accept(attrs.evolve(order, quantity=min(order.quantity, quantity_of(rest))), parent=parent)
        if parent is not None:
            parent.legs.append(fresh)
        self.floor.rest(fresh)

    def _in_use(self, client_order_id: str) -> bool:
        window, working = self.floor.character.dedupe_window_s, self.floor.find(client_order_id)
        return window > 0 and working is not None and self.floor.now - working.taken <= window

    def _objection(self, order: Order, *, replaces: bool = False) -> str:
        floor = self.floor
        path = floor.path(order.symbol)
        if not floor.in_session:
            return "42210001 the market is closed"
        words = order_objection(order, floor.character, path, floor.step)
        if words or path is None or replaces:
            return words
        held, units = floor.books.units.get(order.symbol, 0), units_of(order.quantity)
        after = held + (units if order.buy else -units)
        if after < 0 and not floor.character.margin:
            return "40310001 short sales are not allowed in a cash account"
        grown = max(abs(after) - abs(held), 0)
        if grown and worst_cost(order, path, floor.step) * grown // units > self._power(self._equity()):
            return "40310000 insufficient buying power"
        return ""

    def _equity(self) -> int:
        floor = self.floor
        return floor.books.cash + sum(
            units * floor.market.paths[symbol].prices[floor.step] for symbol, units in floor.books.units.items()
        )

    def _power(self, equity: int) -> int:
        floor = self.floor
        reserved = 0
        for working in floor.open:
            path = floor.path(working.order.symbol)
            if path is not None and working.order.leg is Leg.ENTRY and working.units:
                reserved += worst_cost(working.order, path, floor.step) * working.remaining_units // working.units
        if not floor.character.margin:
            return floor.books.cash - reserved
        gross = sum(
            abs(units) * floor.market.paths[symbol].prices[floor.step] for symbol, units in floor.books.units.items()
        )
        return _LEVERAGE * equity - gross - reserved

    def _expire(self) -> None:
        for working in [*self.floor.open]:
            if working.order.time_in_force == "day":
                self.floor.end(working, "expired")
