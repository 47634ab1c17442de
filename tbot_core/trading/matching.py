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
    ATOMS_PER_CENT,
    ATOMS_PER_DOLLAR,
    TICKS_PER_DOLLAR,
    UNITS_PER_SHARE,
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
from tbot_core.trading.slippage import Slippage, slipped_price

if TYPE_CHECKING:
    from tbot_core.contracts.settings import SimulationSettings
    from tbot_core.model.bars import Bars
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import SignalId

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


@attrs.frozen(kw_only=True)
class FillCosts:
    """Costs and volume cap of simulated fills.

    `lag`: minutes from the decision's bar to the first bar that can fill. `share_cap`: numerator and denominator of the
    part of a bar's volume that a fill may have; None: no cap. It does not apply to the symbols in `uncapped`, whose
    volumes are a part of the tape. Fees are in atoms per share and in bps of sales. `through`: a target fills only if
    the bar trades through it, not at a touch.
    """

    slippage: Slippage
    lag: int = 1
    share_cap: tuple[int, int] | None = None
    uncapped: frozenset[str] = frozenset()
    fee_atoms_per_share: int = 0
    fee_sell_bps: Decimal = Decimal(0)
    through: bool = True

    @classmethod
    def of(cls, simulation: SimulationSettings, target_fill: str) -> FillCosts:
        """The costs of the settings; `target_fill` is `through` or `touch`."""
        return cls(
            slippage=Slippage.of(simulation),
            lag=1 + int(simulation.simulated_latency_ms) // 60_000,
            share_cap=simulation.volume_limit.as_integer_ratio() if simulation.volume_limit else None,
            fee_atoms_per_share=int(simulation.fee_per_share * ATOMS_PER_DOLLAR),
            fee_sell_bps=simulation.fee_sell_bps,
            through=target_fill == "through",
        )

    def without_volume_limit(self, symbols: frozenset[str]) -> FillCosts:
        """The costs where VOLUME_LIMIT does not apply to these symbols."""
        return attrs.evolve(self, uncapped=symbols)

    def fee(self, ticks: int, units: int, *, buy: bool) -> Decimal:
        """The fees of a fill in dollars, rounded up to the cent."""
        atoms = Decimal(self.fee_atoms_per_share * units) / UNITS_PER_SHARE
        if not buy:
            atoms += self.fee_sell_bps * ticks * units / 10_000
        return Decimal(math.ceil(atoms / ATOMS_PER_CENT)).scaleb(-2)

    def capacity(self, symbol: str, volume: float, units: int) -> int:
        """How much of `units` a bar of `volume` shares fills: whole shares where the cap binds, 0 without volume."""
        if not volume > 0:
            return 0
        if self.share_cap is None or symbol in self.uncapped:
            return units
        part, whole = self.share_cap
        return min(units, int(volume) * part // whole * UNITS_PER_SHARE)


@attrs.define(kw_only=True)
class _Resting:
    # An order at the venue; `live_from` is the first minute in which it can fill.
    order: Order
    row: int
    remaining: int
    live_from: int
    stop: int
    limit: int
    filled: int = 0
    triggered: bool = False


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
        self._resting: dict[str, _Resting] = {}
        self._accepted: set[str] = set()
        self._events: list[BrokerEvent] = []
        self._minute = -1
        self._count = 0

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
        self._rest(order, units_of(order.quantity), minute + self._costs.lag)
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
        for resting in self._resting_legs(Leg.STOP):
            self._match_stop(resting, bars)
        for resting in self._resting_legs(Leg.TARGET):
            self._match_target(resting, bars)

    def close(self, bars: Bars) -> None:
        """End the session: fill open exits and stops at the last price, expire the rest."""
        self._minute = self._session.minutes - 1
        closed: set[SignalId] = set()
        for resting in (*self._resting_legs(Leg.EXIT), *self._resting_legs(Leg.STOP)):
            if resting.order.signal not in closed:
                closed.add(resting.order.signal)
                self._fill(resting, _last_close(bars, resting.row), resting.remaining, words=ExitReason.NO_MARKET)
        for resting in list(self._resting.values()):
            del self._resting[resting.order.client_order_id]
            self._end(BrokerEventKind.EXPIRED, resting.order)

    def _resting_legs(self, leg: Leg) -> list[_Resting]:
        return [resting for resting in self._resting.values() if resting.order.leg is leg]

    def _rest(self, order: Order, units: int, live_from: int) -> _Resting:
        resting = _Resting(
            order=order,
            row=self._rows[order.symbol],
            remaining=units,
            live_from=live_from,
            stop=ticks_of(float(order.stop_price or 0)),
            limit=ticks_of(float(order.limit_price or 0)),
        )
        self._resting[order.client_order_id] = resting
        return resting

    def _match_order(self, resting: _Resting, bars: Bars) -> None:
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

    def _fill_price(self, resting: _Resting, bar: _Bar, bars: Bars) -> int:
        # The price in ticks at which an entry or market exit fills in this bar; 0: no fill.
        if resting.order.type is OrderType.MARKET:
            return self._slipped(resting, bar.open, bars)
        if _within(resting, bar.open):
            return bar.open
        return resting.limit if _traded_through(resting, bar) else 0

    def _activate_protection(self, entry: _Resting, units: int, bar: _Bar) -> None:
        # Let the protection of a filled entry rest from this bar on.
        #
        # A target counts in the entry bar only if the entry filled at its open: else the bar's extreme may come first.
        at_open = entry.order.type is OrderType.MARKET or _within(entry, bar.open)
        for order in entry.order.protection:
            late = order.leg is Leg.TARGET and not at_open
            resting = self._rest(order, units, self._minute + late)
            self._emit(BrokerEventKind.ACKNOWLEDGED, resting.order)

    def _match_stop(self, resting: _Resting, bars: Bars) -> None:
        # A stop fills at the worse of stop and open; once triggered it keeps filling at the open.
        bar = _bar(bars, resting.row, self._minute)
        if bar is None or self._minute < resting.live_from or resting.order.client_order_id not in self._resting:
            return
        buy = resting.order.buy
        if not resting.triggered and not (bar.high >= resting.stop if buy else bar.low <= resting.stop):
            return
        worse = max if buy else min
        price = bar.open if resting.triggered else worse(resting.stop, bar.open)
        if not resting.triggered:
            resting.triggered = True
            self._drop_sibling(resting.order, Leg.TARGET)
        units = self._costs.capacity(resting.order.symbol, bar.volume, resting.remaining)
        if units:
            self._fill(resting, self._slipped(resting, price, bars), units)

    def _match_target(self, resting: _Resting, bars: Bars) -> None:
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

    def _slipped(self, resting: _Resting, ticks: int, bars: Bars) -> int:
        order = resting.order
        lost = self._costs.slippage.fraction(order.signal, order.leg, (bars, resting.row), float(order.quantity))
        return slipped_price(ticks, lost, buy=order.buy)

    def _fill(self, resting: _Resting, ticks: int, units: int, words: str = "") -> None:
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


def tick_of(ticks: int) -> int:
    """The price grid in ticks: 0.01 USD from 1 USD up, 0.0001 below (Rule 612 of Regulation NMS)."""
    return 100 if ticks >= TICKS_PER_DOLLAR else 1


def _within(entry: _Resting, price: int) -> bool:
    # Whether a price is at the limit or better.
    return price <= entry.limit if entry.order.buy else price >= entry.limit


def _traded_through(resting: _Resting, bar: _Bar) -> bool:
    # Whether the bar traded beyond the limit by one tick of the grid on that side.
    limit = resting.limit
    return bar.low <= limit - tick_of(limit - 1) if resting.order.buy else bar.high >= limit + tick_of(limit)


def _bar(bars: Bars, row: int, minute: int) -> _Bar | None:
    field, at = bars.field, (minute, row)
    opened, high, low = field("open").item(at), field("high").item(at), field("low").item(at)
    if math.isnan(opened + high + low + field("close").item(at)):
        return None
    return _Bar(open=ticks_of(opened), high=ticks_of(high), low=ticks_of(low), volume=field("volume").item(at))


def _last_close(bars: Bars, row: int) -> int:
    column = bars.field("close")[:, row]
    return ticks_of(float(column[np.flatnonzero(~np.isnan(column))[-1]]))
