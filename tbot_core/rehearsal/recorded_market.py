"""A recorded session as the market of a broker's venue: its bars, the sessions before it, and what fills.

What fills is decided by the matching of replay and backtest, minute by minute, and given to the venue just before the
minute ends: so its time lies in that minute. Then the venue quotes the close, and publishes the bar.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import Bar, BrokerEventKind
from tbot_core.errors import PluginError
from tbot_core.journal import records
from tbot_core.marketdata.store.daily_facts import LOOK_BACK, look_back_sessions
from tbot_core.model.bars import FIELDS, Bars, MinuteSlice, Tape
from tbot_core.model.calendar import Session
from tbot_core.model.types import Fill, Order, price_of, ticks_of
from tbot_core.rehearsal.prices import BAR_AFTER_S
from tbot_core.testing.venue import RecordedVenue
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import MatchingEngine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tbot_core.journal.store import NewEvent
    from tbot_core.marketdata.store.store import BarStore
    from tbot_core.model.clock import Clock
    from tbot_core.testing.venue import Recording, TradingVenue

_FILL_BEFORE: Final = dt.timedelta(seconds=0.5)
_QUOTE_AFTER: Final = dt.timedelta(seconds=BAR_AFTER_S / 2)
_BAR_AFTER: Final = dt.timedelta(seconds=BAR_AFTER_S)
_ENDED: Final = frozenset({BrokerEventKind.CANCELLED, BrokerEventKind.EXPIRED})


@attrs.frozen(kw_only=True)
class VenueTerms:
    """The cash of the account, the costs of its fills, and the distance of bid and ask from the last close."""

    costs: FillCosts
    cash: Decimal
    half_spread: Decimal = Decimal(0)


@attrs.frozen(kw_only=True, eq=False)
class RecordedMarket:
    """A session's bars, and those of the sessions before it; `fills` are those that the venue received."""

    session: Session
    bars: Bars
    past: tuple[Bar, ...]
    terms: VenueTerms
    fills: list[Fill] = attrs.field(factory=list)
    _orders: dict[str, Order] = attrs.field(factory=dict, init=False)

    @classmethod
    def read(
        cls, store: BarStore, session: Session, symbols: tuple[str, ...], terms: VenueTerms, daily_bars: int = 0
    ) -> RecordedMarket:
        """The session in a bar store, with the sessions from which its facts are computed, at least `daily_bars`.

        Raises DataError where the store has no bars of that day.
        """
        [block] = store.blocks(session.date, session.date, symbols)
        before = look_back_sessions(store.calendar, session.date, max(LOOK_BACK, daily_bars))
        first, last = before[0].date, before[-1].date
        past: list[Bar] = []
        for one in store.blocks(first, last, symbols) if store.sessions(first, last, symbols) else ():
            for index, day in enumerate(one.sessions):
                past += _bars_of_session(day, one.bars.session(index))
        return cls(session=session, bars=block.bars.session(0), past=tuple(past), terms=terms)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols, sorted."""
        return self.bars.symbols

    def on_events(self, entries: Sequence[NewEvent]) -> None:
        """Note the orders that the run writes to its journal: a venue does not know the leg of an order."""
        for entry in entries:
            if entry.kind == records.INTENDED and entry.cid is not None:
                self._orders[entry.cid] = records.order_of(entry.cid, entry.payload)

    def list_at(self, venue: TradingVenue) -> None:
        """Let the symbols be traded at a venue that has their past; raises PluginError for one that takes none."""
        recorded = _recorded(venue)
        closes = {bar.symbol: bar.close for bar in self.past}
        for symbol, opened in zip(self.symbols, self.bars.first_open.tolist(), strict=True):
            recorded.list_symbol(symbol, price_of(ticks_of(closes.get(symbol, opened))), 0, self.terms.cash)
        recorded.recorded.add_past(self.past)

    async def trade_at(self, venue: TradingVenue, session: Session, clock: Clock) -> None:
        """Trade the session at a venue to its close."""
        recording, matching = _recorded(venue).recorded, MatchingEngine(self.terms.costs, session, self.symbols)
        tape = Tape(self.symbols, session.minutes)
        for minute in _minutes(self.bars):
            closes = session.moment(minute.index + 1)
            await clock.sleep_until(closes - _FILL_BEFORE)
            tape.append(minute)
            self._match(recording, matching, tape.bars)
            await clock.sleep_until(closes + _QUOTE_AFTER)
            bars = list(_bars_of_minute(session, minute, self.symbols))
            for bar in bars:
                recording.quote(bar.symbol, price_of(ticks_of(bar.close)), self.terms.half_spread)
            await clock.sleep_until(closes + _BAR_AFTER)
            await venue.publish(bars)

    def _match(self, venue: Recording, matching: MatchingEngine, bars: Bars) -> None:
        # Fill the orders of the venue by the last of the minutes.
        minute = bars.minutes - 1
        working = {order.client_order_id: order for order in venue.working() if order.client_order_id in self._orders}
        resting = {order.order.client_order_id: order for order in matching.resting}
        for cid in resting.keys() - working.keys():
            matching.cancel(cid)
        for cid, one in working.items():
            if cid not in resting:
                matching.accept(
                    attrs.evolve(self._orders[cid], quantity=one.remaining, stop_price=one.stop_price), minute - 1
                )
            elif one.stop_price is not None and resting[cid].stop != ticks_of(float(one.stop_price)):
                matching.replace(cid, one.stop_price)
        matching.match(bars, minute)
        for event in matching.events():
            if event.fill is not None:
                self.fills.append(event.fill)
                venue.fill(event.client_order_id, event.fill.price, event.fill.quantity)
            elif event.kind in _ENDED and event.client_order_id in {order.client_order_id for order in venue.working()}:
                venue.expire(event.client_order_id)


def _recorded(venue: TradingVenue) -> RecordedVenue:
    if not isinstance(venue, RecordedVenue):
        raise PluginError(
            "The venue of the broker cannot trade a recorded session.",
            "docs/reference/testing-kit.md, section 'The venue of a broker', says what it needs.",
        )
    return venue


def _minutes(bars: Bars) -> Iterator[MinuteSlice]:
    for index in range(bars.minutes):
        yield MinuteSlice(index=index, **{name: bars.field(name)[index] for name in (*FIELDS, "vwap")})


def _bars_of_session(session: Session, bars: Bars) -> Iterator[Bar]:
    for minute in _minutes(bars):
        yield from _bars_of_minute(session, minute, bars.symbols)


def _bars_of_minute(session: Session, minute: MinuteSlice, symbols: tuple[str, ...]) -> Iterator[Bar]:
    # A vendor's bars have an average price: where the recording has none, the one that the core computes.
    start = session.moment(minute.index)
    for row in np.flatnonzero(~np.isnan(minute.close)):
        values = {name: float(getattr(minute, name)[row]) for name in (*FIELDS, "vwap")}
        if np.isnan(values["vwap"]):
            values["vwap"] = (values["high"] + values["low"] + values["close"]) / 3
        yield Bar(symbol=symbols[row], start=start, **values)
