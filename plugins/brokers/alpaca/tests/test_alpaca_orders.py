"""Orders at the test venue: replacements, look-ups, rejections, and what the stream of trade updates does."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from contextlib import aclosing, contextmanager, suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_broker_alpaca import Config, Credentials, tbot_broker
from tbot_broker_alpaca.venue import open_venue
from tbot_broker_alpaca.venue.wire import Refusal

from tbot_core.contracts import BrokerEvent, BrokerEventKind, Gap, OrderStatus
from tbot_core.errors import (
    AccountRefused,
    LoginNeeded,
    OutcomeUnknown,
    PluginError,
    Rejected,
    RejectionMeaning,
    Unavailable,
)
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.system.secret import Secret
from tbot_core.testing.scripted_server import (
    ScriptedServer,
    ServerFault,
    ServerReply,
    ServerRequest,
    SocketFault,
    context,
)
from tbot_core.testing.trades import order as order_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_broker_alpaca.venue import AlpacaExchange

    from tbot_core.model.types import Account, Order

DAWN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)


@pytest.fixture
def venue(loopback: None) -> Iterator[AlpacaExchange]:  # noqa: ARG001  -- a fixture wanted for its effect
    """A fresh account."""
    with open_venue() as exchange:
        yield exchange


def submit(venue: AlpacaExchange, order: Order) -> None:
    """Send an order with a permit."""
    venue.wait(venue.broker.submit(order, SendPermit(order, never_refuse)))


def held_stop(venue: AlpacaExchange, quantity: str = "10") -> Order:
    """A position, and the working stop that protects it."""
    submit(venue, order_of(name="kit-1", quantity=quantity))
    venue.trade_at(Decimal(20))
    stop = order_of(name="kit-stop", quantity=quantity, buy=False, stop="18")
    submit(venue, stop)
    return stop


def moved(stop: Order, price: str) -> Order:
    """The stop at another price."""
    return attrs.evolve(stop, stop_price=Decimal(price))


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


def report(venue: AlpacaExchange, name: str) -> Any:
    """One order as the snapshot lists it; the look-up says the same."""
    snapshot = venue.wait(venue.broker.snapshot(DAWN))
    (found,) = (one for one in snapshot.orders if one.client_order_id == name)
    assert venue.wait(venue.broker.find(name)) == found
    return found


def test_a03_replacements_are_one_order(venue: AlpacaExchange) -> None:
    """A stop that was moved twice is reported once, under its first id, with its latest order."""
    stop = held_stop(venue)
    for price in ("18.5", "18.75"):
        venue.wait(venue.broker.replace("kit-stop", moved(stop, price)))
        venue.venue.account.settle()
    found = report(venue, "kit-stop")
    assert (found.kind, found.quantity, found.filled) == (OrderStatus.WORKING, 10, 0)
    latest = venue.venue.account.orders[-1]
    assert (found.broker_order_id, latest.client_order_id) == (latest.id, "kit-stop~2")
    venue.trade_at(Decimal("18.70"))
    assert report(venue, "kit-stop").kind is OrderStatus.FILLED


def test_a03_the_old_order_may_fill_first(venue: AlpacaExchange) -> None:
    """The replacement is rejected then: the order is filled, once, and the rejection is no end of it."""
    stop = held_stop(venue)
    venue.venue.account.holds.add("replace")

    async def move_and_trade() -> None:
        await venue.broker.replace("kit-stop", moved(stop, "18.5"))
        venue.trade_at(Decimal("17.90"))

    events = [one for one in events_of(venue, move_and_trade) if one.client_order_id == "kit-stop"]
    assert [one.kind for one in events] == [BrokerEventKind.FILL, BrokerEventKind.CANCEL_REFUSED]
    found = report(venue, "kit-stop")
    assert (found.kind, found.quantity, found.filled) == (OrderStatus.FILLED, 10, 10)


def test_a03_a_replacement_is_reported_under_the_first_id(venue: AlpacaExchange) -> None:
    """The stream reports the replacement, later its cancel and its fill, of the order that tbot knows."""
    stop = held_stop(venue)
    events = events_of(venue, lambda: venue.broker.replace("kit-stop", moved(stop, "18.5")))
    assert [(one.kind, one.client_order_id) for one in events] == [(BrokerEventKind.REPLACED, "kit-stop")]
    events = events_of(venue, lambda: venue.broker.cancel("kit-stop"))
    assert [(one.kind, one.client_order_id) for one in events] == [(BrokerEventKind.CANCELLED, "kit-stop")]


def test_a_part_that_filled_forbids_a_replacement(venue: AlpacaExchange) -> None:
    """Whether the quantity of a replacement includes what was filled is not known, so nothing is sent."""
    stop = held_stop(venue)
    venue.trade_some(Decimal("17.9"), Decimal(4))
    assert report(venue, "kit-stop").filled == 4
    before = len(venue.server.requests)
    with pytest.raises(Rejected, match="filled in part"):
        venue.wait(venue.broker.replace("kit-stop", moved(stop, "18.5")))
    assert len(venue.server.requests) == before


def test_a_restarted_client_finds_the_latest_replacement(venue: AlpacaExchange) -> None:
    """It looks the chain up by the first id, cancels the order that works, and uses no id again."""
    stop = held_stop(venue)
    venue.wait(venue.broker.replace("kit-stop", moved(stop, "18.5")))
    venue.venue.account.settle()
    other = venue.another_client()
    venue.wait(other.replace("kit-stop", moved(stop, "18.6")))
    assert venue.venue.account.orders[-1].client_order_id == "kit-stop~2"
    venue.venue.account.settle()
    another = venue.another_client()
    venue.wait(another.cancel("kit-stop"))
    assert report(venue, "kit-stop").kind is OrderStatus.CANCELLED
    for one in (other, another):
        venue.wait(one.close())


def test_a_replacement_whose_reply_is_lost_is_found(venue: AlpacaExchange) -> None:
    """Nothing is sent again by itself, and the next cancel ends the order that works."""
    stop = held_stop(venue)
    venue.server.fail(ServerFault.LOST_REPLY, method="PATCH")
    with pytest.raises(OutcomeUnknown):
        venue.wait(venue.broker.replace("kit-stop", moved(stop, "18.5")))
    venue.venue.account.settle()
    venue.wait(venue.broker.cancel("kit-stop"))
    assert report(venue, "kit-stop").kind is OrderStatus.CANCELLED
    assert [one.method for one in venue.server.requests].count("PATCH") == 1


def test_a_replacement_by_hand_belongs_to_its_order(venue: AlpacaExchange) -> None:
    """An order that the owner replaced on the vendor's page keeps its place in the books, whatever its new id."""
    held_stop(venue)
    account = venue.venue.account
    account.replace(account.find_by_client_id("kit-stop"), {"stop_price": "18.25"})
    account.settle()
    assert report(venue, "kit-stop").broker_order_id == account.orders[-1].id


def test_a02_an_id_that_was_used_is_a_duplicate(venue: AlpacaExchange) -> None:
    """422 with the words that the id must be unique: tbot looks the order up, also one that was cancelled."""
    order = order_of(name="kit-1", limit="10.01", quantity="1")
    submit(venue, order)
    venue.wait(venue.broker.cancel("kit-1"))
    with pytest.raises(Rejected, match="must be unique") as caught:
        submit(venue, order)
    assert caught.value.meaning is RejectionMeaning.DUPLICATE_ID


def test_a04_shares_that_a_stop_holds_cannot_be_sold(venue: AlpacaExchange) -> None:
    """The rejection means insufficient quantity; once the stop is cancelled the exit is taken."""
    held_stop(venue)
    leaving = order_of(name="kit-exit", quantity="10", buy=False)
    with pytest.raises(Rejected, match="insufficient qty") as caught:
        submit(venue, leaving)
    assert caught.value.meaning is RejectionMeaning.INSUFFICIENT_QUANTITY
    venue.wait(venue.broker.cancel("kit-stop"))
    submit(venue, leaving)


@pytest.mark.parametrize(
    ("status", "code", "words", "meaning"),
    [
        (403, 40310000, "potential wash trade detected. use complex orders", RejectionMeaning.WASH_TRADE),
        (422, 42210000, "potential wash trade detected", RejectionMeaning.WASH_TRADE),
        (403, 40310000, "insufficient buying power", RejectionMeaning.INSUFFICIENT_BUYING_POWER),
        (403, 40310000, 'asset "AAA" cannot be sold short', RejectionMeaning.NOT_SHORTABLE),
        (403, 40310000, "account is not allowed to short", RejectionMeaning.NOT_SHORTABLE),
        (422, 42210000, "sub-penny increment does not fulfill minimum pricing criteria", RejectionMeaning.OFF_GRID),
        (422, 40010001, 'asset "AAA" is not tradable', RejectionMeaning.NOT_TRADABLE),
        (403, 40310000, "market is closed", RejectionMeaning.MARKET_CLOSED),
        (403, 40310100, "trade denied due to pattern day trading protection", RejectionMeaning.RESTRICTED),
        (403, 40310100, "trade denied", RejectionMeaning.RESTRICTED),
        (403, 40310000, "account is restricted to liquidation", RejectionMeaning.RESTRICTED),
        (403, 40310000, "new orders are rejected by user request", RejectionMeaning.RESTRICTED),
        (422, 40010001, "qty must be > 0", None),
        (403, 40310000, "forbidden.", RejectionMeaning.NOT_LOGGED_IN),
    ],
)
def test_a06_a07_a_rejection_means_what_its_words_say(
    venue: AlpacaExchange, status: int, code: int, words: str, meaning: RejectionMeaning | None
) -> None:
    """Status and code are not enough: one code stands for several causes."""
    venue.venue.account.refusals.append(Refusal(status, code, words))
    with pytest.raises(Rejected, match=words[:12].replace("(", ".")) as caught:
        submit(venue, order_of(name="kit-1", quantity="1"))
    assert caught.value.meaning is meaning


@pytest.mark.parametrize("status", [403, 422])
def test_a14_an_empty_error_body_is_a_rejection(venue: AlpacaExchange, status: int) -> None:
    """There are no words to quote, and the order is rejected."""
    venue.venue.account.refusals.append(Refusal(status, 0, ""))
    with pytest.raises(Rejected, match=f"{status} no words") as caught:
        submit(venue, order_of(name="kit-1", quantity="1"))
    assert caught.value.meaning is None


def test_a07_an_account_without_the_retired_fields_is_read(venue: AlpacaExchange) -> None:
    """The fields of the pattern day trading rule may be there or not."""
    assert venue.wait(venue.broker.account()).day_trades is None
    venue.venue.account.retired_fields = True
    assert venue.wait(venue.broker.account()).day_trades == 0


@pytest.mark.parametrize("terms", [{"limit": "10"}, {"stop": "30"}])
def test_a08_a_fraction_that_is_not_taken_is_not_sent(venue: AlpacaExchange, terms: dict[str, Any]) -> None:
    """A limit or a stop of a part of a share is rejected before anything leaves, and the permit stays."""
    permit = SendPermit(order := order_of(name="kit-1", quantity="1.5", **terms), never_refuse)
    with pytest.raises(Rejected, match="whole shares only") as caught:
        venue.wait(venue.broker.submit(order, permit))
    assert (caught.value.meaning, permit.redeemed, venue.server.requests) == (RejectionMeaning.OFF_GRID, False, [])


def test_a10_an_unknown_event_keeps_the_vendors_word(venue: AlpacaExchange) -> None:
    """It never counts as done: the core records it and looks the order up."""
    submit(venue, order_of(name="kit-1", limit="10.01", quantity="1"))
    account = venue.venue.account
    events = events_of(venue, lambda: account.report("reviewed", account.orders[-1]))
    assert [(one.kind, one.client_order_id) for one in events] == [("reviewed", "kit-1")]


def test_a10_events_that_come_twice_and_one_that_is_unknown_are_no_further_fills(venue: AlpacaExchange) -> None:
    """Each repetition is the same event, and the unknown one is the vendor's word, so that the order is looked up."""
    submit(venue, order_of(name="kit-1", quantity="10"))
    account = venue.venue.account

    def trade() -> None:
        venue.server.fail_sockets(SocketFault.TWICE, times=None)
        venue.trade_some(Decimal(20), Decimal(4))
        account.report("reviewed", account.orders[-1])
        venue.trade_at(Decimal(20))

    events = events_of(venue, trade)
    distinct = {one.event_id: one for one in events}
    assert len(events) == 2 * len(distinct)
    assert [one.kind for one in distinct.values()] == [BrokerEventKind.FILL, "reviewed", BrokerEventKind.FILL]
    assert sum(one.fill.quantity for one in distinct.values() if one.fill is not None) == 10


def test_an_execution_under_a_second_id_is_one_fill(venue: AlpacaExchange) -> None:
    """It has the terms of an earlier one, and with it the order would have filled more than its events say."""
    submit(venue, order_of(name="kit-1", quantity="10"))
    account = venue.venue.account

    def trade() -> None:
        for _ in range(2):
            venue.trade_some(Decimal(20), Decimal(4))
        account.report("partial_fill", account.orders[-1], price="20", qty="4")

    assert [one.fill.quantity for one in events_of(venue, trade) if one.fill is not None] == [4, 4]


@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_redirected_order_is_unknown_and_not_sent_on(venue: AlpacaExchange, status: int) -> None:
    """A redirect is no rejection, and is never followed."""
    moved_to = ServerReply(status=status, headers={"location": "/v2/orders"})
    venue.venue.before = lambda request: moved_to if request.method == "POST" else None
    with pytest.raises(OutcomeUnknown, match=str(status)):
        submit(venue, order_of(name="kit-1", quantity="10"))
    assert [one.method for one in venue.server.requests].count("POST") == 1


def test_a11_what_a_lost_stream_missed_is_in_the_next_reading(venue: AlpacaExchange) -> None:
    """A lost connection ends the events; the fill meanwhile is in the snapshot that the next gap asks for."""
    submit(venue, order_of(name="kit-1", quantity="10"))
    with pytest.raises(Unavailable):
        events_of(venue, venue.server.drop_sockets)
    venue.trade_at(Decimal(20))
    assert events_of(venue, lambda: None) == []
    found = report(venue, "kit-1")
    assert (found.kind, found.filled, found.average_price) == (OrderStatus.FILLED, 10, Decimal(20))


@pytest.mark.parametrize("repeats", [False, True])
def test_a12_each_page_is_read_once(venue: AlpacaExchange, *, repeats: bool) -> None:
    """Twelve hundred orders are three pages; a page that comes again is no reading, and ends."""
    submit(venue, order_of(name="kit-1", limit="10.01", quantity="1"))
    whole = venue.venue.account.orders[0].document()
    rows = [whole | {"id": f"order-{number}", "client_order_id": f"own-{number}"} for number in range(1200)]
    places = {str(row["id"]): place for place, row in enumerate(rows, start=1)}

    def answer(request: ServerRequest) -> ServerReply:
        if request.path != "/v2/orders":
            return venue.venue.answer(request)
        first = 0 if repeats else places.get(request.query.get("after_order_id", ""), 0)
        return ServerReply(document=rows[first:][:500] if request.query["status"] == "open" else [])

    with another_server(venue, answer) as broker:
        if repeats:
            with pytest.raises(Unavailable, match="read before"):
                venue.wait(broker.snapshot(DAWN))
        else:
            assert len(venue.wait(broker.snapshot(DAWN)).orders) == 1200


@contextmanager
def another_server(venue: AlpacaExchange, answer: Callable[[ServerRequest], ServerReply]) -> Iterator[Any]:
    """A client of a server that answers so."""
    server = ScriptedServer(answer)
    venue.wait(server.__aenter__())
    plugin = tbot_broker()
    given = context(server, hosts=plugin.needs.hosts, secrets=venue.secrets)
    try:
        yield plugin.create(Config(), given)
    finally:
        venue.wait(given.connect.close())
        venue.wait(server.__aexit__(None, None, None))


@pytest.mark.parametrize("binary", [True, False])
def test_a15_frames_are_text_or_binary(venue: AlpacaExchange, *, binary: bool) -> None:
    """The events are the same."""
    venue.venue.streams.binary = binary
    order = order_of(name="kit-1", quantity="10")

    async def trade() -> None:
        await venue.broker.submit(order, SendPermit(order, never_refuse))
        venue.trade_at(Decimal(20))

    fills = [one.fill for one in events_of(venue, trade) if one.kind is BrokerEventKind.FILL]
    assert [(one.quantity, one.price, one.fees) for one in fills if one is not None] == [
        (Decimal(10), Decimal(20), Decimal(0))
    ]


def test_a_message_that_is_cut_ends_the_connection(venue: AlpacaExchange) -> None:
    """What it said is not known, so that the account must be read."""
    submit(venue, order_of(name="kit-1", quantity="10"))

    def cut() -> None:
        venue.server.fail_sockets(SocketFault.CUT)
        venue.trade_at(Decimal(20))

    with pytest.raises(Unavailable, match="cannot be read"):
        events_of(venue, cut)


def test_g10_a_revoked_key_needs_a_login_everywhere(venue: AlpacaExchange) -> None:
    """Reading, sending and the stream raise LoginNeeded, without another attempt."""
    venue.revoke()
    with pytest.raises(LoginNeeded):
        venue.wait(venue.broker.account())
    with pytest.raises(LoginNeeded):
        submit(venue, order_of(name="kit-1"))
    with pytest.raises(LoginNeeded, match="did not accept the key"):
        events_of(venue, lambda: None)
    assert len(venue.server.requests) == 2


def test_maintenance_is_silence(venue: AlpacaExchange) -> None:
    """An answer of 503 without JSON is no reading and no rejection."""
    venue.venue.maintenance = True
    with pytest.raises(Unavailable):
        venue.wait(venue.broker.snapshot(DAWN))
    with pytest.raises(OutcomeUnknown):
        submit(venue, order_of(name="kit-1"))


@pytest.mark.parametrize("live", [True, False])
def test_g14_the_mode_follows_from_host_and_number(loopback: None, *, live: bool) -> None:  # noqa: ARG001  -- an effect
    """A paper account is on the paper host, and its number begins with PA; a live one is neither."""
    with open_venue(live=live) as venue:
        account = venue.wait(venue.broker.connect())
        assert (account.live, account.account_id.startswith("PA")) == (live, not live)
        assert account.evidence.startswith("live host" if live else "paper host")
        venue.venue.account.live = not live
        assert venue.wait(venue.broker.account()).live is None


def account_with(venue: AlpacaExchange, **fields: str) -> Account:
    """The account that a client with other fields in its section of the secrets logs in to."""
    held = Credentials(api_key=Secret("venue-key"), api_secret=Secret("venue-secret"), **fields)
    plugin = tbot_broker()
    given = context(venue.server, hosts=plugin.needs.hosts, secrets={"broker": held})
    broker: Any = plugin.create(Config(), given)
    try:
        found: Account = venue.wait(broker.connect())
        return found
    finally:
        venue.wait(broker.close())


def test_another_account_than_the_stated_one_is_refused(venue: AlpacaExchange) -> None:
    """The key must be that of the account in the secrets."""
    number = venue.wait(venue.broker.connect()).account_id
    assert account_with(venue, account_id=number).account_id == number
    with pytest.raises(AccountRefused, match=f"{number}, not of PA000"):
        account_with(venue, account_id="PA000")


def test_an_address_of_another_mode_is_refused(venue: AlpacaExchange) -> None:
    """The vendor's own addresses are accepted where they fit the mode, with their version or without."""
    for address in ("https://paper-api.alpaca.markets", "https://paper-api.alpaca.markets/v2/"):
        account_with(venue, base_url=address)
    with pytest.raises(PluginError, match=r"base_url is https://api\.alpaca\.markets, but mode=paper"):
        account_with(venue, base_url="https://api.alpaca.markets")


def test_payments_are_read_with_the_account(venue: AlpacaExchange) -> None:
    """Fees, dividends and splits come as activities: a dividend changes no holding, a split does."""
    held_stop(venue)
    pay = venue.venue.account.pay
    pay("FEE", Decimal("-0.02"))
    pay("DIV", Decimal("5.10"), symbol="AAA", quantity=Decimal(10))
    pay("SPLIT", Decimal(0), symbol="AAA", quantity=Decimal(10))
    pay("MA", Decimal(1))
    found = venue.wait(venue.broker.snapshot(DAWN)).activities
    assert [(one.kind, one.quantity, one.cash) for one in found] == [
        ("fee", 0, Decimal("-0.02")),
        ("dividend", 0, Decimal("5.1")),
        ("split", 10, 0),
        ("MA", 0, 1),
    ]


def test_a_long_account_is_read_page_by_page_from_the_venue(venue: AlpacaExchange) -> None:
    """Of 1,101 open and 601 closed orders of one second, and of 350 fees, each is read once, and none is missing."""
    submit(venue, order_of(name="kit-1", limit="10.01", quantity="1"))
    account = venue.venue.account
    (first,) = account.orders
    names = [("new", f"open-{number}") for number in range(1100)] + [
        ("canceled", f"shut-{number}") for number in range(601)
    ]
    more = [attrs.evolve(first, id=f"id-{name}", client_order_id=name, status=status) for status, name in names]
    account.orders[:] = [*more[:1000], first, *more[1000:]]
    for _ in range(350):
        account.pay("FEE", Decimal("-0.01"))
    found = venue.wait(venue.broker.snapshot(DAWN))
    assert Counter(one.client_order_id for one in found.orders) == Counter(["kit-1", *(name for _, name in names)])
    assert Counter(one.activity_id for one in found.activities) == Counter(one["id"] for one in account.activities)
    assert len(account.activities) == 350
    cursors = [one.query["after_order_id"] for one in venue.server.requests if "after_order_id" in one.query]
    assert cursors == ["id-open-499", "id-open-999", "id-shut-499"]


def test_hours_come_from_the_vendors_calendar(venue: AlpacaExchange) -> None:
    """A half day ends early, a holiday has no session, and an empty answer is no answer."""
    thanksgiving = dt.date(2026, 11, 26)
    assert venue.wait(venue.broker.hours(thanksgiving)) is None
    half = venue.wait(venue.broker.hours(dt.date(2026, 11, 27)))
    assert (half.minutes, half.early_close) == (210, True)
    venue.server.fail(ServerFault.STALE, path="/v2/calendar")
    assert venue.wait(venue.broker.hours(thanksgiving)) is None


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("form", ["days", "times"])
def test_hours_are_read_by_either_form_of_dates(venue: AlpacaExchange, status: int, form: str) -> None:
    """The specification has times, and Alpaca's own clients send days: where one form is refused the other is sent."""

    def refuses(request: ServerRequest) -> ServerReply | None:
        refused = request.path == "/v2/calendar" and ("T" in request.query["start"]) is (form == "days")
        return ServerReply(status=status, document={"code": 40010000, "message": "invalid start"}) if refused else None

    venue.venue.before = refuses
    assert venue.wait(venue.broker.hours(dt.date(2026, 1, 5))).minutes == 390
    venue.venue.before = lambda _request: ServerReply(status=status, document={"message": "invalid start"})
    with pytest.raises(Rejected, match="invalid start"):
        venue.wait(venue.broker.hours(dt.date(2026, 1, 5)))


def test_each_answer_shows_how_far_the_clock_is_ahead(venue: AlpacaExchange) -> None:
    """The header has whole seconds: the estimate is half a second from either end."""
    venue.wait(venue.broker.account())
    (ahead,) = venue.broker.clock_ahead_s
    assert -0.5 <= ahead < 0.6
