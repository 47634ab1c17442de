"""The levels of each trade as they were ordered: its stop with every move, and its target.

A backtest records its decisions and orders as it makes them, a report of a run reads them from the journal.
"""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, TypeAlias

import attrs

from tbot_core.journal import records
from tbot_core.journal.events.orders import OrderIntended, ReplaceRequested, SignalDecided
from tbot_core.model.clock import exchange_time
from tbot_core.model.reasons import Reason
from tbot_core.model.types import TICKS_PER_DOLLAR, Instrument, Leg, Side, dollars_of, price_of, quantity_of
from tbot_core.trading.price_grid import round_to_grid

if TYPE_CHECKING:
    from tbot_core.journal.projection import JournalEvent
    from tbot_core.model.types import Order, SignalId
    from tbot_core.trading.portfolio import Position

TradeKey: TypeAlias = tuple[date, str, str]
"""What identifies a trade: the date of its entry, strategy and symbol of its signal, which triggers once a window."""


class DrawnTrade(Protocol):
    """What levels and charts need of a trade; one that is still open has no exit."""

    @property
    def strategy(self) -> str:
        """The strategy of its signal."""

    @property
    def instrument(self) -> Instrument:
        """What is traded, with the symbol of the signal as its underlying."""

    @property
    def symbol(self) -> str:
        """The symbol that is traded."""

    @property
    def side(self) -> Side:
        """Long or short."""

    @property
    def entry_time(self) -> datetime:
        """The first fill of the entry."""

    @property
    def entry_price(self) -> Decimal:
        """The average price of the entry, in dollars."""

    @property
    def exit_time(self) -> datetime | None:
        """The last fill of the exit."""

    @property
    def exit_price(self) -> Decimal | None:
        """The average price of the exit, in dollars."""

    @property
    def pnl(self) -> Decimal:
        """Profit after fees, in dollars; of an open one at its mark."""


@attrs.frozen(kw_only=True)
class OpenTrade:
    """A trade that is still open: a position with its entry, and its profit at the last mark, in dollars.

    `until`: of a simulation, whose bars are all known, the minute that it has come to is the last one that is shown.
    """

    strategy: str
    instrument: Instrument
    side: Side
    quantity: Decimal
    entry_time: datetime
    entry_price: Decimal
    pnl: Decimal
    exit_time: None = None
    exit_price: None = None
    until: datetime | None = None

    @property
    def symbol(self) -> str:
        """The symbol that is held."""
        return self.instrument.symbol

    @classmethod
    def of(cls, position: Position, until: datetime | None = None) -> OpenTrade:
        """An open position as a trade."""
        return cls(
            strategy=position.signal.strategy,
            instrument=position.instrument,
            side=position.side,
            quantity=quantity_of(position.units),
            entry_time=position.entry_time,
            entry_price=position.entry_price,
            pnl=dollars_of(position.pnl_atoms),
            until=until,
        )


@attrs.frozen(kw_only=True)
class TradeLevels:
    """The minute of the signal's bar, its rule, the stop levels with the time of each, and the target."""

    minute: int
    rule: str
    stops: tuple[tuple[datetime, Decimal], ...] = ()
    target: Decimal | None = None


def key_of(trade: DrawnTrade) -> TradeKey:
    """The key of a trade's levels."""
    return exchange_time(trade.entry_time).date(), trade.strategy, trade.instrument.underlying


def trade_id(key: TradeKey) -> str:
    """The id of a trade in its run: session, strategy and symbol."""
    session, strategy, symbol = key
    return f"{session}.{strategy}.{symbol}"


class LevelRecorder:
    """Collects the levels of allowed signals, a projection of the journal too; `levels` has those of every signal."""

    def __init__(self) -> None:
        self.levels: dict[TradeKey, TradeLevels] = {}
        self._stops: dict[str, SignalId] = {}

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event of a journal."""
        cid = event.cid or ""
        match event.kind:
            case records.DECISION:
                decided = event.facts(SignalDecided)
                if decided.reason == Reason.ALLOWED.name:
                    side = Side[decided.side.upper()]
                    self.decided(decided.signal, event.applied, side, decided.stop, decided.target)
            case records.INTENDED:
                self.submitted(event.facts(OrderIntended).order(cid), event.applied)
            case records.REPLACE_REQUESTED:
                self.moved(cid, event.applied, event.facts(ReplaceRequested).stop_price)

    def decided(self, signal: SignalId, moment: datetime, side: int, stop: float | None, target: float | None) -> None:
        """An allowed signal, with the planned levels of its strategy, None or NaN without; orders may state others.

        `side` is 1 for long, -1 for short: a level is on the tick grid, as in the exit plan.
        """
        planned, wanted = planned_level(stop, side), planned_level(target, side)
        stops = () if planned is None else ((moment, planned),)
        self.levels[_key(signal)] = TradeLevels(minute=signal.minute, rule=signal.rule, stops=stops, target=wanted)

    def submitted(self, order: Order, moment: datetime) -> None:
        """An order of a position; that of an entry brings its protective orders."""
        for one in (order, *order.protection):
            if _key(one.signal) not in self.levels or one.instrument.is_proxy:  # its levels are prices of the proxy
                continue
            if one.leg is Leg.STOP and one.stop_price is not None:
                self._stops[one.client_order_id] = one.signal
                self.stop_placed(one.signal, moment, one.stop_price)
            elif one.leg is Leg.TARGET and one.limit_price is not None:
                self.target_placed(one.signal, one.limit_price)

    def moved(self, client_order_id: str, moment: datetime, level: Decimal) -> None:
        """A resting stop that is to be moved."""
        if client_order_id in self._stops:
            self.stop_placed(self._stops[client_order_id], moment, level)

    def target_placed(self, signal: SignalId, level: Decimal) -> None:
        """The target order of a signal that was decided."""
        self.levels[_key(signal)] = attrs.evolve(self.levels[_key(signal)], target=level)

    def stop_placed(self, signal: SignalId, moment: datetime, level: Decimal) -> None:
        """The stop order of a signal that was decided, at this level from a moment on.

        The last level of one moment counts: the order's in place of the planned one, where a broker's grid is another.
        """
        key = _key(signal)
        known = self.levels[key]
        before = known.stops[:-1] if known.stops and known.stops[-1][0] == moment else known.stops
        if not before or before[-1][1] != level:
            self.levels[key] = attrs.evolve(known, stops=(*before, (moment, level)))


def planned_level(price: float | None, side: int) -> Decimal | None:
    """A strategy's stop or target on the tick grid, as in the exit plan; None without one. `side`: 1 long, -1 short."""
    if price is None or not math.isfinite(price):
        return None
    return price_of(round_to_grid(price * TICKS_PER_DOLLAR, up=side > 0))


def _key(signal: SignalId) -> TradeKey:
    return signal.session, signal.strategy, signal.symbol
