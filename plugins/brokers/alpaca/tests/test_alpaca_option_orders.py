"""Orders of options at the test venue, over HTTP and its stream: the purchase of puts, the position, and its sale."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import aclosing, suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_broker_alpaca.rejections import meaning_of
from tbot_broker_alpaca.venue import open_venue
from tbot_broker_alpaca.venue.exchange import MORNING
from tbot_broker_alpaca.venue.faults import EventFault, RequestFault
from tbot_broker_alpaca.venue.option_faults import OPTION_FAULTS
from tbot_broker_alpaca.venue.wire import Refusal

from tbot_core.contracts import BrokerEvent, BrokerEventKind, Gap, OrderStatus
from tbot_core.errors import OutcomeUnknown, Rejected, RejectionMeaning
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Instrument, InstrumentKind, Leg, OrderType
from tbot_core.testing.scripted_server import ServerReply
from tbot_core.testing.trades import order as order_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_broker_alpaca.venue import AlpacaExchange

    from tbot_core.contracts import AccountSnapshot
    from tbot_core.model.types import Order

TWO, NOTHING = Decimal(2), Decimal(0)
DAWN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
PUT = "AAA260116P00020000"


@pytest.fixture
def clock() -> ManualClock:
    """The time of plugin and venue."""
    return ManualClock(MORNING)


@pytest.fixture
def venue(loopback: None, clock: ManualClock) -> Iterator[AlpacaExchange]:  # noqa: ARG001  -- a fixture wanted for its effect
    """An account that may buy puts; that of January at 20 is bid and offered in cents."""
    with open_venue(clock=clock, options_level=2, basic=False) as exchange:
        exchange.venue.market.options.penny_classes["AAA"] = True
        yield exchange


def put(name: str = "kit-1", *, buy: bool = True, symbol: str = PUT, **terms: Any) -> Order:
    """An order for two puts, at a limit of 0.60 to buy or 0.30 to sell by default, at which it fills."""
    terms = {"quantity": "2", "limit": "0.60" if buy else "0.30", **terms}
    leg = Leg.ENTRY if buy else Leg.EXIT
    instrument = Instrument(
        symbol=symbol, kind=InstrumentKind.PUT, underlying="AAA", multiplier=100, leverage=Decimal(-4)
    )
    return attrs.evolve(order_of(leg, name, **terms), instrument=instrument)


def submit(venue: AlpacaExchange, order: Order) -> None:
    """Send an order with a permit."""
    venue.wait(venue.broker.submit(order, SendPermit(order, never_refuse)))


def refused(venue: AlpacaExchange, order: Order) -> Rejected:
    """The rejection of an order."""
    with pytest.raises(Rejected) as found:
        submit(venue, order)
    return found.value


def snapshot(venue: AlpacaExchange) -> AccountSnapshot:
    """The whole account."""
    found: AccountSnapshot = venue.wait(venue.broker.snapshot(DAWN))
    return found


def events_of(venue: AlpacaExchange, act: Callable[[], Any]) -> list[BrokerEvent]:
    """The events that the stream reports after something is done."""
    events: list[BrokerEvent] = []

    async def listen() -> None:
        async with aclosing(venue.broker.events()) as stream:
            assert isinstance(await anext(stream), Gap)
            if asyncio.iscoroutine(done := act()):
                await done
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    while True:
                        events.append(await anext(stream))

    venue.wait(listen())
    return events


def sending(venue: AlpacaExchange, order: Order) -> Callable[[], Any]:
    """What sends an order while the stream is open."""
    return lambda: venue.broker.submit(order, SendPermit(order, never_refuse))


def posted(venue: AlpacaExchange) -> dict[str, Any]:
    """The document of the latest order request."""
    found: dict[str, Any] = [one for one in venue.server.requests if one.method == "POST"][-1].document
    return found


def test_a_put_is_bought_held_and_sold(venue: AlpacaExchange) -> None:
    """Each fill is an event in contracts and USD per share; the position counts a hundredfold and is gone after."""
    bought = events_of(venue, sending(venue, put()))
    assert [one.kind for one in bought] == [BrokerEventKind.ACKNOWLEDGED, BrokerEventKind.FILL]
    fill = bought[-1].fill
    assert fill is not None
    assert (fill.client_order_id, fill.symbol, fill.buy, fill.quantity) == ("kit-1", PUT, True, TWO)
    assert fill.price == Decimal("0.49")
    found = snapshot(venue)
    (holding,) = found.holdings
    assert (holding.symbol, holding.quantity, holding.multiplier) == (PUT, TWO, 100)
    assert holding.average_price == fill.price
    assert found.account.cash == 100_000 - 2 * 100 * fill.price
    sold = events_of(venue, sending(venue, put("kit-2", buy=False)))
    assert sold[-1].fill is not None
    assert (sold[-1].fill.buy, sold[-1].fill.quantity) == (False, TWO)
    after = snapshot(venue)
    assert (after.holdings, after.unreadable) == ((), {})
    assert {one.client_order_id: (one.kind, one.filled) for one in after.orders} == {
        "kit-1": (OrderStatus.FILLED, TWO),
        "kit-2": (OrderStatus.FILLED, TWO),
    }
    assert after.account.cash == 100_000 + 200 * (sold[-1].fill.price - fill.price)


def test_an_order_says_that_it_opens_or_closes(venue: AlpacaExchange) -> None:
    """A purchase opens and a sale closes, so that no sale writes an option; nothing else is sent but limit and day."""
    submit(venue, put())
    assert posted(venue) == {
        "symbol": PUT,
        "side": "buy",
        "type": "limit",
        "qty": "2",
        "time_in_force": "day",
        "client_order_id": "kit-1",
        "limit_price": "0.60",
        "position_intent": "buy_to_open",
    }
    submit(venue, put("kit-2", buy=False))
    assert posted(venue)["position_intent"] == "sell_to_close"
    submit(venue, order_of(name="kit-3", quantity="1"))
    assert "position_intent" not in posted(venue)


def test_an_order_that_works_is_listed_moved_and_cancelled(venue: AlpacaExchange) -> None:
    """A limit below the quote works; at its new price it is the same order, and a cancel ends it."""
    submit(venue, put(limit="0.40"))
    venue.wait(venue.broker.replace("kit-1", put(limit="0.41")))
    venue.venue.account.settle()
    (report,) = venue.wait(venue.broker.open_orders())
    assert (report.client_order_id, report.symbol, report.quantity) == ("kit-1", PUT, 2)
    assert venue.wait(venue.broker.find("kit-1")) == report
    assert [one for one in snapshot(venue).orders if one.kind is OrderStatus.WORKING] == [report]
    asked = [one.query for one in venue.server.requests if one.query.get("asset_class")]
    assert {query["asset_class"] for query in asked} == {"us_option"}
    kinds = [one.kind for one in events_of(venue, lambda: venue.broker.cancel("kit-1"))]
    assert kinds == [BrokerEventKind.CANCELLED]
    ended = venue.wait(venue.broker.find("kit-1"))
    assert ended is not None
    assert (ended.kind, ended.filled) == (OrderStatus.CANCELLED, 0)


def test_a_moved_limit_fills_at_the_ask(venue: AlpacaExchange) -> None:
    """The fill is one of the first order's id."""
    submit(venue, put(limit="0.40"))
    found = events_of(venue, lambda: venue.broker.replace("kit-1", put(limit="0.55")))
    fills = [one.fill for one in found if one.fill is not None]
    assert [(one.client_order_id, one.quantity, one.price) for one in fills] == [("kit-1", TWO, Decimal("0.49"))]


def test_an_order_fills_in_parts(venue: AlpacaExchange) -> None:
    """Each part is an event, and the order has filled when they are whole."""
    venue.venue.account.depth = Decimal(1)

    async def act() -> None:
        await sending(venue, put())()
        venue.venue.account.settle()

    fills = [one.fill for one in events_of(venue, act) if one.fill is not None]
    assert [one.quantity for one in fills] == [1, 1]
    assert len({one.execution_id for one in fills}) == 2


@pytest.mark.parametrize(
    ("order", "meaning"),
    [
        (put(limit=None), None),
        (put(limit=None, stop="0.40"), None),
        (attrs.evolve(put(), type=OrderType.STOP, stop_price=Decimal("0.40")), None),
        (attrs.evolve(put(), time_in_force="gtc"), None),
        (put(quantity="1.5"), RejectionMeaning.OFF_GRID),
        (put(limit="0.495"), RejectionMeaning.OFF_GRID),
    ],
)
def test_only_limits_of_the_day_for_whole_contracts_are_sent(
    venue: AlpacaExchange, order: Order, meaning: RejectionMeaning | None
) -> None:
    """Market and stop orders, another time in force, fractions and parts of a cent do not leave."""
    before = len(venue.server.requests)
    assert refused(venue, order).meaning is meaning
    with pytest.raises(Rejected):
        venue.wait(venue.broker.replace("kit-1", order))
    assert len(venue.server.requests) == before


@pytest.mark.parametrize(
    ("order", "meaning", "words"),
    [
        (put(buy=False), RejectionMeaning.INSUFFICIENT_QUANTITY, "position intent mismatch"),
        (put(quantity="3000"), RejectionMeaning.INSUFFICIENT_BUYING_POWER, "options buying power"),
        (put(symbol="AAA260116P00020100"), RejectionMeaning.NOT_TRADABLE, "not found"),
        (put(symbol="AAA260102P00020000"), RejectionMeaning.NOT_TRADABLE, "is expired"),
        (put(symbol="AAA260116P00021500"), RejectionMeaning.NOT_TRADABLE, "is not tradable"),
        (put(limit="3.01"), RejectionMeaning.OFF_GRID, "must be a multiple"),
    ],
)
def test_a_rejection_has_its_meaning(
    venue: AlpacaExchange, order: Order, meaning: RejectionMeaning, words: str
) -> None:
    """In the vendor's words; the core acts by the meaning."""
    found = refused(venue, order)
    assert found.meaning is meaning
    assert words in found.message


def test_no_more_is_sold_than_is_held(venue: AlpacaExchange) -> None:
    """An uncovered sale is one of too large a quantity, as is one of contracts that another order has promised."""
    submit(venue, put())
    found = refused(venue, put("kit-2", buy=False, quantity="3"))
    assert (found.meaning, "uncovered" in found.message) == (RejectionMeaning.INSUFFICIENT_QUANTITY, True)
    submit(venue, put("kit-3", buy=False, limit="0.90"))
    assert refused(venue, put("kit-4", buy=False)).meaning is RejectionMeaning.INSUFFICIENT_QUANTITY


@pytest.mark.parametrize("level", [0, 1])
def test_a_level_that_is_too_low_restricts_the_account(venue: AlpacaExchange, level: int) -> None:
    """No purchase is accepted, and the account says so before."""
    venue.venue.account.options_level = level
    assert venue.wait(venue.broker.account()).options_level == level
    assert refused(venue, put()).meaning is RejectionMeaning.RESTRICTED


def test_a_closed_market_is_named() -> None:
    """By the vendor's words about an order that needs an open market."""
    words = "options market orders are only allowed during market hours"
    assert meaning_of(words) is RejectionMeaning.MARKET_CLOSED


def test_an_expiring_contract_is_not_bought_and_can_be_sold(venue: AlpacaExchange, clock: ManualClock) -> None:
    """In its last half hour a purchase is refused without a meaning that would freeze what is held."""
    symbol = "AAA260109P00020000"
    submit(venue, put(symbol=symbol))
    clock.advance_to(dt.datetime(2026, 1, 9, 20, 31, tzinfo=dt.UTC))
    found = refused(venue, put("kit-2", symbol=symbol))
    assert (found.meaning, "expires soon" in found.message) == (None, True)
    submit(venue, put("kit-3", buy=False, symbol=symbol, limit="0.01"))
    assert snapshot(venue).holdings == ()


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        ("entry: too little buying power", RejectionMeaning.INSUFFICIENT_BUYING_POWER),
        ("entry: the contract expires soon", None),
    ],
)
def test_a_purchase_that_is_refused_is_not_booked(
    venue: AlpacaExchange, fault: str, meaning: RejectionMeaning | None
) -> None:
    """The next one is accepted."""
    OPTION_FAULTS[fault](venue.venue)
    assert refused(venue, put()).meaning is meaning
    assert venue.venue.account.orders == []
    submit(venue, put("kit-2"))
    assert venue.holdings() == {PUT: 2}


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (RequestFault(booked=False, reply=ServerReply(status=503)), None),
        (RequestFault(reply=ServerReply(status=504)), OrderStatus.FILLED),
        (RequestFault(is_cut=True), OrderStatus.FILLED),
    ],
)
def test_an_outcome_that_is_not_known_is_looked_up(
    venue: AlpacaExchange, fault: RequestFault, found: OrderStatus | None
) -> None:
    """It is booked or not, whatever the answer; the look-up knows."""
    venue.venue.faults.add(fault)
    with pytest.raises(OutcomeUnknown):
        submit(venue, put())
    report = venue.wait(venue.broker.find("kit-1"))
    assert (report and report.kind) == found


def test_a_sale_that_is_sent_again_is_refused_as_one_that_was_booked(venue: AlpacaExchange) -> None:
    """The first one has sold the contracts: the meaning is one that the core looks up."""
    submit(venue, put())
    submit(venue, put("kit-2", buy=False))
    again = refused(venue, put("kit-2", buy=False))
    assert again.meaning in {RejectionMeaning.INSUFFICIENT_QUANTITY, RejectionMeaning.DUPLICATE_ID}
    assert len(venue.venue.account.orders) == 2


def test_an_update_that_comes_twice_is_one_event(venue: AlpacaExchange) -> None:
    """Both have the same id, by which the core books them once."""
    venue.venue.faults.add(EventFault(names=frozenset({"fill"}), copies=2))
    fills = [one for one in events_of(venue, sending(venue, put())) if one.kind is BrokerEventKind.FILL]
    assert len({one.event_id for one in fills}) == 1


def test_what_an_option_leaves_in_the_account_is_reported(venue: AlpacaExchange, clock: ManualClock) -> None:
    """An option out of the money expires with an activity that takes it away; one in the money is exercised."""
    venue.venue.account.liquidates_expiring = False
    out, into = "AAA260109P00019000", "AAA260109P00021000"
    submit(venue, put(symbol=out))
    submit(venue, put("kit-2", symbol=into, limit="1.50"))
    clock.advance_to(dt.datetime(2026, 1, 9, 22, tzinfo=dt.UTC))
    venue.wait(venue.broker.account())  # the vendor settles
    found = snapshot(venue)
    assert [(one.symbol, one.quantity, one.multiplier) for one in found.holdings] == [("AAA", Decimal(-200), 1)]
    moved = {(one.kind, one.symbol): (one.quantity, one.cash) for one in found.activities}
    assert moved == {
        ("OPEXP", out): (-TWO, NOTHING),
        ("OPEXC", into): (-TWO, NOTHING),
        ("OPTRD", "AAA"): (Decimal(-200), Decimal(4200)),
    }


def test_the_facts_of_a_contract_are_read_from_the_contract(venue: AlpacaExchange) -> None:
    """One that the vendor does not know is not tradable, beside shares of the list."""
    found = venue.wait(venue.broker.instruments([PUT]))
    assert [(one.symbol, one.tradable, one.fractionable) for one in found] == [(PUT, True, False)]
    symbols = ["AAA", PUT, "AAA260116P00021500", "AAA260116P00099000", "CCC"]
    many = venue.wait(venue.broker.instruments(symbols))
    assert [(one.symbol, one.tradable) for one in many] == [
        ("AAA", True),
        (PUT, True),
        ("AAA260116P00021500", False),
        ("AAA260116P00099000", False),
        ("CCC", False),
    ]


def test_prices_of_shares_are_read_beside_an_option(venue: AlpacaExchange) -> None:
    """An option has no snapshot of a stock, and its symbol spoils no request."""
    assert [*venue.wait(venue.broker.prices(["AAA", PUT]))] == ["AAA"]


def test_a_mini_contract_counts_for_its_shares(venue: AlpacaExchange) -> None:
    """Its multiplier follows from what it cost, since a position does not name it."""
    submit(venue, put(symbol="AAA7260116P00020000"))
    submit(venue, put("kit-2", symbol="AAA1260116P00020000", limit="2.00"))
    found = {one.symbol: one.multiplier for one in snapshot(venue).holdings}
    assert found == {"AAA7260116P00020000": 10, "AAA1260116P00020000": 100}


def test_a_planned_refusal_keeps_its_words(venue: AlpacaExchange) -> None:
    """Words that are not known have no meaning, and are reported."""
    venue.venue.account.refusals.append(Refusal(422, 42210000, "qty must be integer for options trading"))
    assert refused(venue, put()).meaning is RejectionMeaning.OFF_GRID
    venue.venue.account.refusals.append(Refusal(422, 42210000, "another rule of options"))
    found = refused(venue, put())
    assert (found.meaning, "another rule" in found.message) == (None, True)
