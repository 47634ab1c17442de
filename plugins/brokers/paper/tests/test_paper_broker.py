"""The paper broker: fills booked once and to the cent, and feeds that fit the request."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import attrs
import numpy as np
import pytest
from tbot_broker_paper import Config, tbot_broker
from tbot_broker_paper.broker import DEMO_FIRST_DAY, PaperBroker
from tbot_broker_paper.companies import SYMBOLS

from tbot_core.contracts import Broker, BrokerEvent, Context, FeedRequest, FeedSession, FeedSource, SimulatedVenue
from tbot_core.contracts.abilities import FEED
from tbot_core.contracts.setting import declarations
from tbot_core.contracts.settings import ExitSettings, SimulationSettings
from tbot_core.errors import DataError, Unavailable
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.bars import MinuteSlice, Tape
from tbot_core.model.calendar import ClosedDay, ExchangeCalendar, Session
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Leg, Order, OrderType, SignalId
from tbot_core.system import log

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tbot_core.contracts import Feed

CALENDAR = ExchangeCalendar()
NOON = dt.datetime(2026, 1, 7, 17, 0, tzinfo=dt.UTC)
PLAIN = Config(enable_slippage_model=False, paper_cash=Decimal("10000.00"))


class Terms(TypedDict, total=False):
    """What a test may say of an order."""

    limit_price: Decimal | None
    stop_price: Decimal | None
    protection: tuple[Order, ...]
    type: OrderType
    leg: Leg


def _order(cid: str, quantity: str, *, buy: bool = True, symbol: str = "A", **terms: Unpack[Terms]) -> Order:
    signal = SignalId(session=DEMO_FIRST_DAY, strategy="open", symbol=symbol, minute=0, rule="breakout")
    order = Order(
        client_order_id=cid,
        signal=signal,
        leg=Leg.ENTRY,
        buy=buy,
        quantity=Decimal(quantity),
        type=OrderType.MARKET,
    )
    return attrs.evolve(order, **terms)


def _submit(broker: PaperBroker, order: Order) -> Coroutine[Any, Any, None]:
    return broker.submit(order, SendPermit(order, never_refuse))


def _session(day: dt.date = DEMO_FIRST_DAY) -> Session:
    session = CALENDAR.session(day)
    assert session is not None
    return session


def _minute(index: int, *prices: float, volume: float = 100_000) -> MinuteSlice:
    price = np.array(prices)
    nothing = np.full(len(prices), np.nan)
    return MinuteSlice(
        index=index,
        open=price,
        high=price + 0.02,
        low=price - 0.02,
        close=price,
        volume=np.where(np.isnan(price), np.nan, volume),
        vwap=nothing,
    )


def _broker(config: Config = PLAIN) -> PaperBroker:
    return PaperBroker(config, ManualClock(NOON))


def _opened(config: Config = PLAIN) -> PaperBroker:
    broker = _broker(config)
    broker.open_session(_session(), ("A", "B"), config.paper_cash)
    return broker


def _kinds(events: list[BrokerEvent]) -> list[tuple[str, str]]:
    return [(event.kind, event.client_order_id) for event in events]


def _polled(broker: PaperBroker) -> list[BrokerEvent]:
    return list(asyncio.run(broker.poll()))


def test_the_offer_names_a_broker_that_serves_bars() -> None:
    """The hook's plugin creates an object that is broker, simulated venue and feed source."""
    plugin = tbot_broker()
    context = Context(clock=ManualClock(NOON), log=log.logger("test"), data_dir=Path())
    broker = plugin.create(plugin.config(), context)
    assert plugin.name == "paper"
    assert FEED.of(broker) is not None
    assert isinstance(broker, Broker)
    assert isinstance(broker, SimulatedVenue)
    assert isinstance(broker, FeedSource)


def test_settings_are_the_core_s() -> None:
    """Every variable has the name, kind and default that the core declares for it."""
    core = {**declarations(SimulationSettings), **declarations(ExitSettings)}
    mine = declarations(Config)
    assert {"paper_cash", "seed", "volume_limit", "target_fill"} <= set(mine)
    assert all(mine[name] == core[name] for name in mine)


def test_the_account_is_exact_to_the_cent() -> None:
    """Cash falls by price x quantity and fees, equity follows the last price, buying power both."""
    broker = _opened(attrs.evolve(PLAIN, fee_per_share=Decimal("0.01")))

    async def day() -> None:
        assert (await broker.connect()).equity == Decimal("10000.00")
        broker.observe(_minute(0, 20.0, 30.0))
        await _submit(broker, _order("a", "100"))
        await _submit(broker, _order("b", "50.5", symbol="B", buy=False))
        broker.observe(_minute(1, 20.13, 30.0))
        bought, sold = Decimal("2013.00") + 1, Decimal("1515.00") - Decimal("0.55")
        after = await broker.account()
        assert after.cash == 10_000 - bought + sold
        assert after.equity == after.cash + 100 * Decimal("20.13") - Decimal("50.5") * 30
        broker.observe(_minute(2, math.nan, 31.0))
        marked = await broker.account()
        assert marked.cash == after.cash
        assert marked.equity == after.equity - Decimal("50.5")
        assert marked.buying_power == 2 * marked.equity - 100 * Decimal("20.13") - Decimal("50.5") * 31
        held = (await broker.snapshot(NOON)).holdings
        assert {one.symbol: one.price for one in held} == {"A": Decimal("20.13"), "B": Decimal(31)}

    asyncio.run(day())


def test_cash_and_positions_are_equity_at_every_event() -> None:
    """Bought and sold again, what is left is the start less losses and fees, and no position."""
    broker = _opened()

    async def day() -> None:
        broker.observe(_minute(0, 50.0, 30.0))
        await _submit(broker, _order("in", "10.123456"))
        broker.observe(_minute(1, 50.0, 30.0))
        await _submit(broker, _order("out", "10.123456", buy=False, leg=Leg.EXIT))
        broker.observe(_minute(2, 49.0, 30.0))
        account = await broker.account()
        fees = sum(event.fill.fees for event in await broker.poll() if event.fill)
        assert account.equity == account.cash == 10_000 - Decimal("10.123456") - fees
        assert account.buying_power == 2 * account.equity

    asyncio.run(day())


def test_an_event_is_reported_once() -> None:
    """Each poll returns what came since the last, every event has its own id, fills carry theirs."""
    broker = _opened()
    stop = _order("s", "10", buy=False, leg=Leg.STOP, type=OrderType.STOP, stop_price=Decimal("19.50"))
    broker.observe(_minute(0, 20.0, 30.0))
    asyncio.run(_submit(broker, _order("a", "10", protection=(stop,))))
    asyncio.run(_submit(broker, _order("x", "10", symbol="C")))
    broker.observe(_minute(1, 20.0, 30.0))
    first = _polled(broker)
    assert _kinds(first) == [("acknowledged", "a"), ("rejected", "x"), ("fill", "a"), ("acknowledged", "s")]
    assert _polled(broker) == []
    broker.observe(_minute(2, 19.0, 30.0))
    second = _polled(broker)
    assert ("fill", "s") in _kinds(second)
    events = [*first, *second]
    assert len({event.event_id for event in events}) == len(events)
    assert len({event.fill.execution_id for event in events if event.fill}) == 2


def test_the_same_id_is_the_same_order() -> None:
    """A second submit of an id buys nothing, not even after the first was filled, nor does one of its protection."""
    broker = _opened()
    stop = _order("s", "10", buy=False, leg=Leg.STOP, type=OrderType.STOP, stop_price=Decimal("19.50"))
    entry = _order("a", "10", protection=(stop,))
    broker.observe(_minute(0, 20.0, 30.0))
    for index in (1, 2):
        asyncio.run(_submit(broker, entry))
        asyncio.run(_submit(broker, stop))
        broker.observe(_minute(index, 20.0, 30.0))
    assert [kind for kind, _ in _kinds(_polled(broker))].count("fill") == 1


def test_cancels_and_moves_are_answered() -> None:
    """A resting stop moves and is cancelled; a second cancel is refused, in words."""
    broker = _opened()
    stop = _order("s", "10", buy=False, leg=Leg.STOP, type=OrderType.STOP, stop_price=Decimal("19.50"))
    broker.observe(_minute(0, 20.0, 30.0))
    asyncio.run(_submit(broker, _order("a", "10", protection=(stop,))))
    broker.observe(_minute(1, 20.0, 30.0))
    _polled(broker)
    asyncio.run(broker.replace("s", attrs.evolve(stop, stop_price=Decimal("19.80"))))
    asyncio.run(broker.cancel("s"))
    asyncio.run(broker.cancel("s"))
    events = _polled(broker)
    assert _kinds(events) == [("replaced", "s"), ("cancelled", "s"), ("cancel_refused", "s")]
    assert events[-1].words


def test_the_session_s_end_leaves_nothing_open() -> None:
    """A held position is closed at its last price through its stop; the next one begins flat."""
    broker = _opened()
    stop = _order("s", "10", buy=False, leg=Leg.STOP, type=OrderType.STOP, stop_price=Decimal("15.00"))
    broker.observe(_minute(0, 20.0, 30.0))
    asyncio.run(_submit(broker, _order("a", "10", protection=(stop,))))
    broker.observe(_minute(1, 20.0, 30.0))
    broker.observe(_minute(2, 21.0, 30.0))
    broker.close_session()
    account = asyncio.run(broker.account())
    assert account.equity == account.cash == Decimal("10010.00") - Decimal("0.01")
    assert _polled(broker)[-1].words == "NO_MARKET"
    broker.open_session(_session(dt.date(2026, 3, 3)), ("A", "B"), Decimal(5000))
    broker.observe(_minute(0, 20.0, 30.0))
    after = asyncio.run(broker.account())
    assert after.equity == after.cash == 5000
    asyncio.run(broker.close())


def test_orders_need_an_open_session() -> None:
    """Before the bell and after the close nothing is sent, and the error says so."""
    broker = _broker()
    with pytest.raises(Unavailable, match="no open session"):
        asyncio.run(_submit(broker, _order("a", "1")))
    with pytest.raises(Unavailable):
        asyncio.run(broker.cancel("a"))
    with pytest.raises(Unavailable):
        asyncio.run(broker.replace("a", _order("a", "1", stop_price=Decimal(1))))


def test_rules_are_what_the_broker_does() -> None:
    """Simulated, with brackets and fractions of a share; it cannot be asked for an order."""
    rules = _broker().capabilities
    assert rules.simulated
    assert rules.brackets
    assert rules.quantity_step == Decimal("0.000001")
    assert rules.fractional_types == {"market", "limit", "stop"}
    assert not rules.query_by_cid


def _shown(feed: Feed) -> list[FeedSession]:
    async def walk() -> list[FeedSession]:
        return [session async for session in feed.sessions() if isinstance(session, FeedSession)]

    return asyncio.run(walk())


def _minutes(session: FeedSession) -> list[MinuteSlice]:
    async def walk() -> list[MinuteSlice]:
        return [minute async for minute in session.minutes()]

    return asyncio.run(walk())


@pytest.mark.slow
def test_a_demo_is_a_row_of_simulated_sessions() -> None:
    """It begins on its fixed day, says that it is simulated, and shows every minute in order."""
    feed = _broker().feed(FeedRequest(kind="demo", sessions=3))
    sessions = _shown(feed)
    days = [session.session.date for session in sessions]
    assert days == [dt.date(2026, 3, 2), dt.date(2026, 3, 3), dt.date(2026, 3, 4)]
    assert feed.label.simulated
    assert not feed.label.quotes
    assert "simulated" in feed.label.name
    assert sessions[0].symbols == SYMBOLS
    minutes = _minutes(sessions[0])
    assert [minute.index for minute in minutes] == list(range(390))
    tape = Tape(SYMBOLS, 390)
    for minute in minutes:
        tape.append(minute)
    assert tape.closed == 390


def test_the_hash_stands_for_what_is_served() -> None:
    """The same request has the same hash; seed, first day, length and symbols each change it."""
    requests: list[FeedRequest] = [
        FeedRequest(kind="demo"),
        FeedRequest(kind="demo", seed=1),
        FeedRequest(kind="demo", sessions=2),
        FeedRequest(kind="demo", first=dt.date(2026, 1, 6)),
        FeedRequest(kind="demo", symbols=SYMBOLS[:3]),
    ]
    hashes = [_broker().feed(request).label.data_hash for request in requests]
    assert len(set(hashes)) == len(hashes)
    assert hashes[0] == _broker().feed(requests[0]).label.data_hash


@pytest.mark.slow
def test_chosen_symbols_trade_as_they_do_among_all() -> None:
    """A choice of symbols shows the very bars and facts that the whole market has for them."""
    (whole,) = _shown(_broker().feed(FeedRequest(kind="demo")))
    (some,) = _shown(_broker().feed(FeedRequest(kind="demo", symbols=(SYMBOLS[7], SYMBOLS[2]))))
    assert some.symbols == (SYMBOLS[2], SYMBOLS[7])
    for all_of_it, part in zip(_minutes(whole), _minutes(some), strict=True):
        assert np.array_equal(all_of_it.close[[2, 7]], part.close, equal_nan=True)
    assert (whole.day.previous_close[[2, 7]] == some.day.previous_close).all()
    assert (whole.day.vix == some.day.vix).all()
    assert some.day.typical_volume is not None
    assert some.day.typical_volume.shape == (2, 390)


def test_real_symbols_are_not_simulated() -> None:
    """A symbol that the simulated market does not list is named, with those that are."""
    with pytest.raises(DataError, match=r"does not list AAPL.*AMBLO"):
        _broker().feed(FeedRequest(kind="demo", symbols=("AAPL", SYMBOLS[0])))


@pytest.mark.slow
def test_a_half_day_is_half_a_day() -> None:
    """On the day after Thanksgiving the feed shows 210 minutes, and the owner's closures hold."""
    (session,) = _shown(_broker().feed(FeedRequest(kind="demo", first=dt.date(2026, 11, 27))))
    assert len(_minutes(session)) == 210
    closed = ExchangeCalendar(overrides={DEMO_FIRST_DAY: ClosedDay(reason="storm")})
    (after,) = _shown(_broker().feed(FeedRequest(kind="demo", calendar=closed)))
    assert after.session.date == dt.date(2026, 3, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (dt.datetime(2026, 1, 7, 13, 0, tzinfo=dt.UTC), dt.date(2026, 1, 7)),
        (NOON, dt.date(2026, 1, 7)),
        (dt.datetime(2026, 1, 7, 21, 0, tzinfo=dt.UTC), dt.date(2026, 1, 8)),
        (dt.datetime(2026, 1, 10, 15, 0, tzinfo=dt.UTC), dt.date(2026, 1, 12)),
    ],
)
def test_a_live_feed_serves_today(now: dt.datetime, expected: dt.date) -> None:
    """Before and during the session it is today's, after the close and on a weekend the next one's."""
    broker = PaperBroker(PLAIN, ManualClock(now))
    (session,) = _shown(broker.feed(FeedRequest(kind="live")))
    assert session.session.date == expected


@pytest.mark.parametrize(
    "spoil",
    [
        lambda request: attrs.evolve(request, first=None),
        lambda request: attrs.evolve(request, last=None),
        lambda request: attrs.evolve(request, bars=None),
    ],
)
def test_a_replay_needs_a_range_and_a_store(spoil: Callable[[FeedRequest], FeedRequest]) -> None:
    """A replay request without first day, last day or folder is a mistake of its caller."""
    whole = FeedRequest(kind="replay", first=DEMO_FIRST_DAY, last=DEMO_FIRST_DAY, bars=Path("bars"))
    with pytest.raises(ValueError, match="first and last day"):
        _broker().feed(spoil(whole))
