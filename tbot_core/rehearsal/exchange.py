"""A simulated exchange: handles requests and snapshots at a second of the world.

It does nothing by itself: `advance` runs everything that is due by then, in order.
"""

from __future__ import annotations

import heapq
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import AccountSnapshot, BrokerEventKind, OrderStatusReport, ReplaceMode
from tbot_core.model.types import Account, Leg, Order, dollars_of, units_of
from tbot_core.rehearsal.venue_matching import (
    ALIVE,
    OPEN,
    SimulatedVenueOrder,
    VenueMatchingEngine,
    order_level,
    order_objection,
    worst_cost,
)
from tbot_core.rehearsal.venue_profiles import ReadingLags

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable


_LEVERAGE: Final = 2
_CURRENT: Final = ReadingLags()


@attrs.frozen(kw_only=True)
class VenueResponse:
    """The answer to a request: `refusal` is the text of a rejection, else ""; `duplicate`: the id is in use."""

    refusal: str = ""
    duplicate: bool = False


class SimulatedExchange:
    """One account at one venue."""

    def __init__(self, matching: VenueMatchingEngine) -> None:
        self.matching = matching
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._acts = 0
        self.schedule(matching.closes, self._expire)

    def schedule(self, at: float, act: Callable[[], None]) -> None:
        """Schedule an act for a second of the world; a past one runs with the next `advance`."""
        self._acts += 1
        heapq.heappush(self._agenda, (at, self._acts, act))

    def advance(self, to: float) -> None:
        """Run everything that is due until second `to`."""
        while self._agenda and self._agenda[0][0] <= to:
            at, _, act = heapq.heappop(self._agenda)
            self.matching.trade(at)
            act()
        self.matching.trade(to)

    def submit(self, order: Order, *, ours: bool = True) -> VenueResponse:
        """Handle a submit; an invalid order is rejected at once, or accepted and then rejected."""
        matching = self.matching
        if order.client_order_id and self._in_use(order.client_order_id):
            return VenueResponse(duplicate=True)
        words = self._objection(order)
        if words and matching.character.refuses_at_once:
            cid = order.client_order_id
            matching.write(BrokerEventKind.REJECTED, ours=ours, client_order_id=cid, symbol=order.symbol, words=words)
            return VenueResponse(refusal=words)
        working = matching.accept(order, ours=ours)
        working.legs = [matching.accept(part, ours=ours, parent=working) for part in order.protection]
        if words:
            matching.report(BrokerEventKind.ACKNOWLEDGED, working)
            matching.end(working, BrokerEventKind.REJECTED, words)
        else:
            matching.rest(working)
        return VenueResponse()

    def cancel(self, client_order_id: str) -> VenueResponse:
        """Handle a cancel; its result is an event."""
        working = self.matching.find(client_order_id)
        if working is None:
            self.matching.report(BrokerEventKind.NOT_FOUND, client_order_id, words="40410000 order not found")
        elif working.kind in ALIVE:
            self.matching.end(working, BrokerEventKind.CANCELLED)
        else:
            self.matching.report(
                BrokerEventKind.CANCEL_REFUSED, working, words=f"42210011 the order is {working.kind} already"
            )
        return VenueResponse()

    def replace(self, client_order_id: str, order: Order, *, refused: bool = False) -> VenueResponse:
        """Handle a replace, which changes a working order in place; `refused`: the new terms are rejected."""
        working = self.matching.find(client_order_id)
        words = "42210013 the replacement was refused" if refused else self._objection(order, replaces=True)
        if working is None or working.kind not in ALIVE:
            words = "42210012 the order to replace is not open"
        elif not words:
            self._amend(working, order)
            return VenueResponse()
        self.matching.report(BrokerEventKind.CANCEL_REFUSED, client_order_id, words=words)
        return VenueResponse()

    def report(self, client_order_id: str, lag_s: float = 0.0) -> OrderStatusReport | None:
        """Look up an order by its client order id, as it was so many seconds ago."""
        working = self.matching.find(client_order_id)
        return None if working is None else self._report(working, lag_s)

    def account(self, lag_s: float = 0.0) -> Account:
        """Cash, equity at the last prices, and buying power; cash and holdings are those of so many seconds ago."""
        character, then = self.matching.character, self._moment(lag_s)
        equity, cash = self._equity(then), self.matching.books.cash_at(then)
        return Account(
            account_id=character.account_id,
            equity=dollars_of(equity),
            cash=dollars_of(cash),
            buying_power=max(dollars_of(self._power(equity)), Decimal(0)),
            margin=character.margin,
            live=character.live,
            evidence="the profile of the venue says so",
        )

    def snapshot(self, since: dt.datetime, lags: ReadingLags = _CURRENT) -> AccountSnapshot:
        """A snapshot of the account, each part as it was so many seconds ago."""
        matching, rules = self.matching, self.matching.character.rules
        reports = (self._report(working, lags.orders_s) for working in matching.orders)
        until = self._moment(lags.activities_s)
        fills = (fill for working in matching.orders for fill in working.fills if since <= fill.time <= until)
        return AccountSnapshot(
            account=self.account(lags.account_s),
            holdings=matching.books.holdings(self._moment(lags.positions_s)),
            orders=tuple(
                report
                for report in reports
                if report is not None and (report.kind is OPEN or (rules.lists_closed and report.time >= since))
            ),
            activities=matching.books.activities(since, until),
            fills=tuple(fills) if rules.lists_fills else (),
            barrier=str(matching.books.count(until)) if matching.character.numbers_moments else "",
        )

    def _moment(self, lag_s: float) -> dt.datetime:
        return self.matching.moment(self.matching.now - lag_s)

    def _report(self, working: SimulatedVenueOrder, lag_s: float) -> OrderStatusReport | None:
        return working.report_at(self.matching.now - lag_s) if lag_s else working.report(self.matching.start)

    def _amend(self, working: SimulatedVenueOrder, order: Order) -> None:
        working.order = attrs.evolve(order, client_order_id=working.cid)
        working.level, working.triggered = order_level(order), False
        if self.matching.character.rules.replace is ReplaceMode.NEW_ID:
            working.broker_order_id = f"{working.broker_order_id}+"
        if working.parent is None:
            working.units = max(units_of(order.quantity), working.filled)
        self.matching.write(BrokerEventKind.REPLACED, working, quantity=working.units)
        self.matching.report(BrokerEventKind.REPLACED, working)
        self.matching.meet(working)

    def _in_use(self, client_order_id: str) -> bool:
        window, working = self.matching.character.dedupe_window_s, self.matching.find(client_order_id)
        return window > 0 and working is not None and self.matching.now - working.accepted_at <= window

    def _objection(self, order: Order, *, replaces: bool = False) -> str:
        matching = self.matching
        path = matching.path(order.symbol)
        if not matching.in_session:
            return "42210001 the market is closed"
        words = order_objection(order, matching.character, path, matching.step)
        if words or path is None or replaces:
            return words
        held, units = matching.books.units.get(order.symbol, 0), units_of(order.quantity)
        after = held + (units if order.buy else -units)
        if after < 0 and not matching.character.margin:
            return "40310001 short sales are not allowed in a cash account"
        grown = max(abs(after) - abs(held), 0)
        equity = self._equity(self._moment(0.0))
        if grown and worst_cost(order, path, matching.step) * grown // units > self._power(equity):
            return "40310000 insufficient buying power"
        return ""

    def _equity(self, moment: dt.datetime) -> int:
        matching = self.matching
        return matching.books.cash_at(moment) + sum(
            units * matching.market.paths[symbol].prices[matching.step]
            for symbol, units in matching.books.units_at(moment).items()
        )

    def _power(self, equity: int) -> int:
        matching = self.matching
        reserved = 0
        for working in matching.open:
            path = matching.path(working.order.symbol)
            if path is not None and working.order.leg is Leg.ENTRY and working.units:
                reserved += worst_cost(working.order, path, matching.step) * working.remaining_units // working.units
        if not matching.character.margin:
            return matching.books.cash - reserved
        gross = sum(
            abs(units) * matching.market.paths[symbol].prices[matching.step]
            for symbol, units in matching.books.units.items()
        )
        return _LEVERAGE * equity - gross - reserved

    def _expire(self) -> None:
        for working in [*self.matching.open]:
            if working.order.time_in_force == "day":
                self.matching.end(working, BrokerEventKind.EXPIRED)
