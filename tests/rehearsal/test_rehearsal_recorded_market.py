"""A recorded session moves a venue: its past, what fills by the matching of the core, its quotes and its bars."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import Bar
from tbot_core.errors import DataError, PluginError
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.store import NewEvent
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Leg, Order, OrderType, SignalId
from tbot_core.rehearsal.recorded_market import RecordedMarket, VenueTerms
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars
from tbot_core.testing.venue import WorkingOrder
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.slippage import Slippage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


DAYS = exchange_sessions("2018-03-19", "2018-03-20")
PLAIN = FillCosts(slippage=Slippage(kind="none", mean=0, deviation=0, seed=0))
TERMS = VenueTerms(costs=PLAIN, cash=Decimal(25_000), half_spread=Decimal("0.01"))


@attrs.define
class FakeVenue:
    """A venue that remembers what it receives; `orders` can fill, and `received` has each fill, end, quote and bar."""

    clock: ManualClock
    before: Callable[[FakeVenue, int], None] = lambda _venue, _minute: None
    orders: dict[str, WorkingOrder] = attrs.field(factory=dict)
    listed: dict[str, tuple[Decimal, Decimal]] = attrs.field(factory=dict)
    past: list[Bar] = attrs.field(factory=list)
    received: list[tuple[dt.datetime, Any]] = attrs.field(factory=list)
    broker = symbol = server = secrets = None

    def trade_at(self, price: Decimal) -> None:
        """Not used."""

    wait = trade = trade_at

    @property
    def recorded(self) -> FakeVenue:
        """What moves it."""
        return self

    def list_symbol(self, symbol: str, previous_close: Decimal, average_volume: int, cash: Decimal) -> None:
        """List a symbol."""
        assert average_volume == 0
        self.listed[symbol] = previous_close, cash

    def add_past(self, bars: Sequence[Bar]) -> None:
        """The past."""
        self.past += bars

    def quote(self, symbol: str, price: Decimal, half_spread: Decimal) -> None:
        """A quote."""
        self._note(("quote", symbol, price, half_spread))

    def working(self) -> list[WorkingOrder]:
        """The orders that can fill."""
        return list(self.orders.values())

    def fill(self, client_order_id: str, price: Decimal, quantity: Decimal) -> None:
        """A fill."""
        self._note((client_order_id, price, quantity))
        left = self.orders[client_order_id].remaining - quantity
        self.orders[client_order_id] = attrs.evolve(self.orders[client_order_id], remaining=left)
        if not left:
            del self.orders[client_order_id]

    def expire(self, client_order_id: str) -> None:
        """An end."""
        self._note((client_order_id, "expired"))
        del self.orders[client_order_id]

    async def publish(self, bars: Sequence[Bar]) -> None:
        """A minute; the orders of the next one arrive after it."""
        self._note(("bars", *(bar.close for bar in bars)))
        self.before(self, DAYS[1].minute(self.clock.now()))

    def of(self, name: str) -> list[Any]:
        """What was reported of an order, with the second of the session."""
        return [((at - DAYS[1].open).total_seconds(), *more) for at, (one, *more) in self.received if one == name]

    def _note(self, what: Any) -> None:
        self.received.append((self.clock.now(), what))


def order(leg: Leg, price: str | None, quantity: int = 10) -> Order:
    """An order of a long position."""
    signal = SignalId(session=DAYS[1].date, strategy="open", symbol="AAA", minute=0, rule="up")
    kinds = {Leg.ENTRY: OrderType.LIMIT, Leg.STOP: OrderType.STOP, Leg.EXIT: OrderType.MARKET}
    return Order(
        client_order_id=leg.value,
        signal=signal,
        leg=leg,
        buy=leg is Leg.ENTRY,
        quantity=Decimal(quantity),
        type=kinds[leg],
        limit_price=Decimal(price) if price and leg is Leg.ENTRY else None,
        stop_price=Decimal(price) if price and leg is Leg.STOP else None,
    )


@pytest.fixture
def market(tmp_path: Path) -> RecordedMarket:
    """Six minutes of AAA, which opens at 100 each day and rises a cent a minute, with one session before."""
    bench = StoreFixture(folder=tmp_path)
    bench.put(rising_bars("AAA", DAYS, minutes=6))
    return RecordedMarket.read(bench.store, DAYS[1], ("AAA",), TERMS)


def traded(market: RecordedMarket, *scripts: tuple[int, str, Order | None]) -> FakeVenue:
    """The venue after the session: orders that arrive after a minute, are moved, or are cancelled (None)."""
    clock = ManualClock(DAYS[1].open)

    def arrive(venue: FakeVenue, minute: int) -> None:
        for at, name, one in scripts:
            if at == minute and one is None:
                venue.orders.pop(name, None)
            elif at == minute and one is not None:
                payload = codec.write(OrderIntended.of(one))
                market.on_events([NewEvent(kind=records.INTENDED, payload=payload, time=clock.now(), cid=name)])
                working = WorkingOrder(client_order_id=name, remaining=one.quantity, stop_price=one.stop_price)
                venue.orders[name] = working

    venue = FakeVenue(clock, arrive)
    given: Any = venue
    market.list_at(given)
    asyncio.run(market.trade_at(given, DAYS[1], clock))
    return venue


def test_a_venue_has_the_past_the_quotes_and_the_bars(market: RecordedMarket) -> None:
    """The quote is that of the last close, before the bar; an average price that the recording lacks is computed."""
    venue = traded(market)
    assert venue.listed == {"AAA": (Decimal("100.06"), Decimal(25_000))}
    assert len(venue.past) == 6
    first = venue.past[0]
    assert first.vwap == (first.high + first.low + first.close) / 3
    assert venue.of("quote")[:2] == [
        (60.25, "AAA", Decimal("100.01"), Decimal("0.01")),
        (120.25, "AAA", Decimal("100.02"), Decimal("0.01")),
    ]
    assert venue.of("bars")[:2] == [(60.5, 100.01), (120.5, 100.02)]


def test_an_order_fills_at_the_next_open_before_its_minute_ends(market: RecordedMarket) -> None:
    """So the fill has the minute that it has in a replay."""
    venue = traded(market, (1, "entry", order(Leg.ENTRY, "100.20")), (2, "exit", order(Leg.EXIT, None)))
    assert venue.of("entry") == [(119.5, Decimal("100.01"), Decimal(10))]
    assert venue.of("exit") == [(179.5, Decimal("100.02"), Decimal(10))]
    assert [(fill.client_order_id, fill.price) for fill in market.fills] == [
        ("entry", Decimal("100.01")),
        ("exit", Decimal("100.02")),
    ]


def test_an_entry_that_its_bar_does_not_fill_is_ended(market: RecordedMarket) -> None:
    """As in a replay: after the symbol's first bar."""
    assert traded(market, (1, "entry", order(Leg.ENTRY, "90"))).of("entry") == [(119.5, "expired")]


def test_volume_limits_a_fill_and_ends_the_rest(tmp_path: Path) -> None:
    """VOLUME_LIMIT applies at the venue as in the replay."""
    bench = StoreFixture(folder=tmp_path)
    bench.put(rising_bars("AAA", DAYS, minutes=6))
    terms = attrs.evolve(TERMS, costs=attrs.evolve(PLAIN, share_cap=(1, 10)))
    market = RecordedMarket.read(bench.store, DAYS[1], ("AAA",), terms)
    venue = traded(market, (1, "entry", order(Leg.ENTRY, "100.20", 50)))
    assert venue.of("entry") == [(119.5, Decimal("100.01"), Decimal(10)), (119.5, "expired")]


def test_a_stop_is_where_it_was_moved_to_and_ends_with_its_cancel(market: RecordedMarket) -> None:
    """A stop out of reach fills after it was moved, and one that was cancelled never does."""
    moved = traded(market, (1, "stop", order(Leg.STOP, "90")), (3, "stop", order(Leg.STOP, "100.50")))
    assert moved.of("stop") == [(239.5, Decimal("100.03"), Decimal(10))]
    assert traded(market, (1, "stop", order(Leg.STOP, "90")), (2, "stop", None)).of("stop") == []


def test_a_day_without_bars_and_a_venue_without_a_past_are_refused(market: RecordedMarket, tmp_path: Path) -> None:
    """Each with what is missing."""
    with pytest.raises(DataError, match="No bars of AAA are stored"):
        RecordedMarket.read(StoreFixture(folder=tmp_path / "none").store, DAYS[1], ("AAA",), TERMS)
    other: Any = object()
    with pytest.raises(PluginError, match="cannot trade a recorded session"):
        market.list_at(other)
