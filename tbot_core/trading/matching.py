"""The matching engine of paper, replay and backtest.

Inside a minute exits fill first, then entries, then resting stops and targets. Market orders fill at the open. A limit
entry fills at the open if that is within the limit, else at the limit if the bar trades through it by a tick. Stops
fill at the worse of stop and open, targets at the better of target and open; when one bar touches both, the stop
fills. A fill is capped by volume; the rest of an entry expires after its first bar, exits keep filling.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import BrokerCapabilities, BrokerEvent, BrokerEventKind
from tbot_core.model.types import (
    ExitReason,
    Fill,
    Leg,
    Order,
    OrderType,
    price_of,
    quantity_of,
    ticks_of,
    units_of,
)
from tbot_core.trading.price_grid import PriceLevel, may_reach, traded_through, within_limit
from tbot_core.trading.slippage import slipped_price

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tbot_core.model.bars import Bars
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import SignalId
    from tbot_core.trading.fill_costs import FillCosts

SIMULATOR_CAPABILITIES: Final = BrokerCapabilities(
    simulated=True,
    brackets=True,
    replace="same_id",
    lists_closed=True,
    exec_ids_unique=True,
    shortable=True,
    feed=True,
    quantity_step=Decimal("0.000001"),
    fractional_types=frozenset(OrderType),
)
"""The capabilities of every simulated broker, so that sizing is the same in each."""

ENTRY_BARS = 3
"""An entry waits this many minutes for its symbol's first bar."""


@attrs.define(kw_only=True)
class RestingOrder:
    """An order at the venue, for the symbol of `row`; `live_from` is the first minute in which it can fill.

    `remaining` and `filled` are in units, `stop` and `limit` in ticks, 0 without one. A `triggered` stop fills as a
    market order.
    """

    order: Order
    row: int
    remaining: int
    live_from: int
    stop: int
    limit: int
    filled: int = 0
    triggered: bool = False

    @property
    def trigger(self) -> PriceLevel:
        """The price at which a stop triggers, or a target may fill."""
        up = self.order.buy is (self.order.leg is Leg.STOP)
        return PriceLevel("high" if up else "low", self.row, self.stop or self.limit, 1 if up else -1)


@attrs.frozen(kw_only=True)
class _Bar:
    # One symbol's bar in ticks.
    open: int
    high: int
    low: int
    volume: float


class MatchingEngine:
    """Matches the orders of one session against bars. Pure.

    `events` returns the broker events. Execution ids count up from 1 within the session.
    """

    def __init__(self, costs: FillCosts, session: Session, symbols: tuple[str, ...]) -> None:
        self._costs = costs
        self._session = session
        self._date = session.date.isoformat()
        self._rows = {symbol: row for row, symbol in enumerate(symbols)}
        self._resting: dict[str, RestingOrder] = {}
        self._accepted: set[str] = set()
        self._events: list[BrokerEvent] = []
        self._minute = -1
        self._count = 0

    @property
    def resting(self) -> tuple[RestingOrder, ...]:
        """The resting orders, in the order in which they came to rest."""
        return tuple(self._resting.values())

    @property
    def count(self) -> int:
        """The number of events; the next event and execution id is one higher."""
        return self._count

    def restore(self, resting: Iterable[RestingOrder], accepted: Iterable[str], count: int) -> None:
        """Continue the session with these orders, the ids of all accepted ones, and this number of events."""
        self._resting = {
            one.order.client_order_id: attrs.evolve(one, row=self._rows[one.order.symbol]) for one in resting
        }
        self._accepted, self._count = set(accepted), count

    @property
    def idle(self) -> bool:
        """Whether no order rests."""
        return not self._resting

    def events(self) -> list[BrokerEvent]:
        """The events since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    def accept(self, order: Order, minute: int) -> None:
        """Accept an order sent after `minute` has closed; a repeated client order id changes nothing."""
        if order.client_order_id in self._accepted:
            return
        self._accepted.add(order.client_order_id)
        if order.symbol not in self._rows:
            self._end(BrokerEventKind.REJECTED, order, words=f"{order.symbol} is not traded here")
            return
        delay = self._costs.entry_delay if order.leg is Leg.ENTRY else 0
        self._rest(order, units_of(order.quantity), minute + self._costs.lag + delay)
        self._emit(BrokerEventKind.ACKNOWLEDGED, order)

    def cancel(self, client_order_id: str) -> None:
        """Cancel an order; `cancel_refused` if it does not rest."""
        resting = self._resting.pop(client_order_id, None)
        if resting is None:
            self._count += 1
            self._events.append(
                BrokerEvent(
                    kind=BrokerEventKind.CANCEL_REFUSED,
                    event_id=self._event_id(),
                    client_order_id=client_order_id,
                    words="no such working order",
                )
            )
        else:
            self._end(BrokerEventKind.CANCELLED, resting.order)

    def replace(self, client_order_id: str, stop_price: Decimal) -> None:
        """Move a resting stop; `cancel_refused` if it has triggered or does not rest."""
        resting = self._resting.get(client_order_id)
        if resting is None or resting.triggered:
            if resting is None:
                self.cancel(client_order_id)
            else:
                self._emit(BrokerEventKind.CANCEL_REFUSED, resting.order, words="the stop has triggered")
            return
        resting.stop = ticks_of(float(stop_price))
        self._emit(BrokerEventKind.REPLACED, resting.order)

    def match(self, bars: Bars, minute: int) -> None:
        """Match every resting order against the bar of `minute`."""
        self._minute = minute
        for wanted in (Leg.EXIT, Leg.ENTRY):
            for resting in self._resting_legs(wanted):
                self._match_order(resting, bars)
        if not self._resting:
            return
        for resting in self._resting_legs(Leg.STOP):
            if resting.triggered or _may_fill(resting.trigger, bars, minute):
                self._match_stop(resting, bars)
        for resting in self._resting_legs(Leg.TARGET):
            if _may_fill(resting.trigger, bars, minute):
                self._match_target(resting, bars)

    def close(self, last_ticks: Callable[[str], int]) -> None:
        """End the session: fill open exits and stops at the symbol's last price in ticks, expire the rest."""
        self._minute = self._session.minutes - 1
        closed: set[SignalId] = set()
        for resting in (*self._resting_legs(Leg.EXIT), *self._resting_legs(Leg.STOP)):
            if resting.order.signal not in closed:
                closed.add(resting.order.signal)
                self._fill(resting, last_ticks(resting.order.symbol), resting.remaining, words=ExitReason.NO_MARKET)
        for resting in list(self._resting.values()):
            del self._resting[resting.order.client_order_id]
            self._end(BrokerEventKind.EXPIRED, resting.order)

    def _resting_legs(self, leg: Leg) -> list[RestingOrder]:
        return [resting for resting in self._resting.values() if resting.order.leg is leg]

    def _rest(self, order: Order, units: int, live_from: int) -> RestingOrder:
        resting = RestingOrder(
            order=order,
            row=self._rows[order.symbol],
            remaining=units,
            live_from=live_from,
            stop=0 if order.stop_price is None else ticks_of(float(order.stop_price)),
            limit=0 if order.limit_price is None else ticks_of(float(order.limit_price)),
        )
        self._resting[order.client_order_id] = resting
        return resting

    def _match_order(self, resting: RestingOrder, bars: Bars) -> None:
        # An entry or a market exit.
        if self._minute < resting.live_from:
            return
        entry = resting.order.leg is Leg.ENTRY
        bar = _bar(bars, resting.row, self._minute)
        if bar is not None:
            price = self._fill_price(resting, bar, bars)
            units = self._costs.capacity(resting.order.symbol, bar.volume, resting.remaining) if price else 0
            if units:
                self._fill(resting, price, units)
                if entry:
                    self._activate_protection(resting, units, bar)
        over = bar is not None or self._minute >= resting.live_from + ENTRY_BARS - 1
        if entry and over and resting.remaining:
            del self._resting[resting.order.client_order_id]
            self._end(BrokerEventKind.EXPIRED, resting.order, filled=resting.filled > 0)

    def _fill_price(self, resting: RestingOrder, bar: _Bar, bars: Bars) -> int:
        # The price in ticks at which an entry or market exit fills in this bar; 0: no fill.
        if resting.order.type is OrderType.MARKET:
            return self._slipped(resting, bar.open, bars)
        if _within(resting, bar.open):
            return bar.open
        return resting.limit if _traded_through(resting, bar) else 0

    def _activate_protection(self, entry: RestingOrder, units: int, bar: _Bar) -> None:
        # Let the protection of a filled entry rest from this bar on.
        #
        # A target counts in the entry bar only if the entry filled at its open: else the bar's extreme may come first.
        at_open = entry.order.type is OrderType.MARKET or _within(entry, bar.open)
        for order in entry.order.protection:
            late = order.leg is Leg.TARGET and not at_open
            resting = self._rest(order, units, self._minute + late)
            self._emit(BrokerEventKind.ACKNOWLEDGED, resting.order)

    def _match_stop(self, resting: RestingOrder, bars: Bars) -> None:
        # A stop fills at the worse of stop and open; once triggered it keeps filling at the open.
        bar = _bar(bars, resting.row, self._minute)
        if bar is None or self._minute < resting.live_from or resting.order.client_order_id not in self._resting:
            return
        buy = resting.order.buy
        if not resting.triggered and not (bar.high >= resting.stop if buy else bar.low <= resting.stop):
            return
        worse = max if buy else min
        price = bar.open if resting.triggered else worse(resting.stop, bar.open)
        units = self._costs.capacity(resting.order.symbol, bar.volume, resting.remaining)
        if not resting.triggered:
            resting.triggered = True
            self._drop_sibling(resting.order, Leg.TARGET)
            if not units:  # else its fill says so
                self._emit(BrokerEventKind.TRIGGERED, resting.order)
        if units:
            self._fill(resting, self._slipped(resting, price, bars), units)

    def _match_target(self, resting: RestingOrder, bars: Bars) -> None:
        bar = _bar(bars, resting.row, self._minute)
        if bar is None or self._minute < resting.live_from or resting.order.client_order_id not in self._resting:
            return
        buy, limit = resting.order.buy, resting.limit
        touched = bar.low <= limit if buy else bar.high >= limit
        if not (_traded_through(resting, bar) if self._costs.through else touched):
            return
        units = self._costs.capacity(resting.order.symbol, bar.volume, resting.remaining)
        if units:
            better = min if buy else max
            self._fill(resting, better(limit, bar.open), units)
            self._shrink_stop(resting.order, units)

    def _shrink_stop(self, target: Order, units: int) -> None:
        for stop in self._resting_legs(Leg.STOP):
            if stop.order.signal == target.signal:
                stop.remaining -= units
                if not stop.remaining:
                    del self._resting[stop.order.client_order_id]
                    self._emit(BrokerEventKind.CANCELLED, stop.order)

    def _drop_sibling(self, order: Order, leg: Leg) -> None:
        for other in self._resting_legs(leg):
            if other.order.signal == order.signal:
                del self._resting[other.order.client_order_id]
                self._emit(BrokerEventKind.CANCELLED, other.order)

    def _slipped(self, resting: RestingOrder, ticks: int, bars: Bars) -> int:
        order = resting.order
        lost = self._costs.slippage.fraction(order.signal, order.leg, (bars, resting.row), float(order.quantity))
        return slipped_price(ticks, lost, buy=order.buy)

    def _fill(self, resting: RestingOrder, ticks: int, units: int, words: str = "") -> None:
        order = resting.order
        resting.remaining -= units
        resting.filled += units
        fill = Fill(
            execution_id=f"{self._date}-{self._count + 1}",
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            buy=order.buy,
            quantity=quantity_of(units),
            price=price_of(ticks),
            fees=self._costs.fee(ticks, units, buy=order.buy),
            time=self._session.close if words else self._session.moment(self._minute),
        )
        self._emit(BrokerEventKind.FILL, order, fill=fill, words=words)
        if not resting.remaining:
            del self._resting[order.client_order_id]
            if resting.filled < units_of(order.quantity):  # protection of an entry that filled in part
                self._emit(BrokerEventKind.EXPIRED, order)

    def _end(self, kind: BrokerEventKind, order: Order, *, filled: bool = False, words: str = "") -> None:
        # End an order; the protection of an entry without a fill ends with it.
        self._emit(kind, order, words=words)
        for waiting in () if filled else order.protection:
            self._emit(kind, waiting, words=words)

    def _emit(self, kind: BrokerEventKind, order: Order, *, fill: Fill | None = None, words: str = "") -> None:
        self._count += 1
        self._events.append(
            BrokerEvent(
                kind=kind,
                event_id=self._event_id(),
                client_order_id=order.client_order_id,
                fill=fill,
                words=words,
            )
        )

    def _event_id(self) -> str:
        return f"{self._date}-{self._count}"


def _within(entry: RestingOrder, price: int) -> bool:
    # Whether a price is at the limit or better.
    return bool(within_limit(price, entry.limit, _side(entry)))


def _traded_through(resting: RestingOrder, bar: _Bar) -> bool:
    # Whether the bar traded beyond the limit by one tick of the grid on that side.
    return bool(traded_through(bar.low if resting.order.buy else bar.high, resting.limit, _side(resting)))


def _side(resting: RestingOrder) -> int:
    return 1 if resting.order.buy else -1


def _may_fill(trigger: PriceLevel, bars: Bars, minute: int) -> bool:
    # Whether the bar of a minute may reach a resting stop or target; most do not.
    field, row, ticks, side = trigger
    return bool(may_reach(ticks, bars.field(field).item(minute, row), side))


def _bar(bars: Bars, row: int, minute: int) -> _Bar | None:
    field, at = bars.field, (minute, row)
    opened, high, low = field("open").item(at), field("high").item(at), field("low").item(at)
    if math.isnan(opened + high + low + field("close").item(at)):
        return None
    return _Bar(open=ticks_of(opened), high=ticks_of(high), low=ticks_of(low), volume=field("volume").item(at))


def last_close_ticks(bars: Bars, symbol: str) -> int:
    """The close of a symbol's last bar, in ticks; raises IndexError without a bar."""
    column = bars.field("close")[:, bars.symbols.index(symbol)]
    return ticks_of(float(column[np.flatnonzero(~np.isnan(column))[-1]]))
