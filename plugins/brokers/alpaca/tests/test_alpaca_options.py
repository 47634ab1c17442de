"""Chains and quotes of options over HTTP at the test venue: what is listed, by which feed, and what goes wrong."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from tbot_broker_alpaca.venue import open_venue
from tbot_broker_alpaca.venue.exchange import MORNING
from tbot_broker_alpaca.venue.option_faults import OPTION_FAULTS

from tbot_core.errors import LoginNeeded, Rejected, Unavailable
from tbot_core.model.clock import ManualClock
from tbot_core.model.option_symbols import OptionPriceSteps, OptionRight, occ_symbol
from tbot_core.testing.scripted_server import ServerReply, ServerRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_broker_alpaca.venue import AlpacaExchange

    from tbot_core.contracts import OptionListing, OptionQuoteReport

TODAY, NEXT_WEEK = dt.date(2026, 1, 5), dt.date(2026, 1, 16)
PUT = "AAA260116P00020000"
QUOTES = "/v1beta1/options/quotes/latest"


@pytest.fixture
def clock() -> ManualClock:
    """The time of plugin and venue."""
    return ManualClock(MORNING)


@pytest.fixture
def venue(loopback: None, clock: ManualClock) -> Iterator[AlpacaExchange]:  # noqa: ARG001  -- a fixture wanted for its effect
    """An account that may buy calls and puts, with the feed of the option exchanges; AAA trades at 20 USD."""
    with open_venue(clock=clock, options_level=2, basic=False) as exchange:
        yield exchange


@pytest.fixture
def basic(loopback: None, clock: ManualClock) -> Iterator[AlpacaExchange]:  # noqa: ARG001  -- a fixture wanted for its effect
    """The same account on the basic plan."""
    with open_venue(clock=clock, options_level=2) as exchange:
        yield exchange


def chain(
    venue: AlpacaExchange,
    right: OptionRight = OptionRight.PUT,
    first: dt.date = TODAY,
    last: dt.date = NEXT_WEEK,
    underlying: str = "AAA",
) -> list[OptionListing]:
    """The contracts of these days."""
    return [*venue.wait(venue.broker.option_contracts(underlying, right, first, last))]


def quotes(venue: AlpacaExchange, *symbols: str) -> dict[str, OptionQuoteReport]:
    """The quotes of these contracts by symbol."""
    return {one.symbol: one for one in venue.wait(venue.broker.option_quotes(symbols))}


def listed(venue: AlpacaExchange) -> list[dict[str, Any]]:
    """The vendor's own answer to the latest request for contracts."""
    reply: Any = venue.venue.answer(asked(venue, "/v2/options/contracts")[-1])
    rows: list[dict[str, Any]] = reply.document["option_contracts"]
    return rows


def asked(venue: AlpacaExchange, path: str) -> list[ServerRequest]:
    """The requests for a path that have arrived."""
    return [one for one in venue.server.requests if one.path == path]


def test_a_chain_has_the_contracts_of_its_right_and_days(venue: AlpacaExchange) -> None:
    """By expiry, strike and symbol, from the first day to the last; those of the last are in, and calls are not."""
    found = chain(venue)
    assert found == sorted(found, key=lambda one: (one.contract.expiry, one.contract.strike, one.symbol))
    assert {one.contract.expiry for one in found} == {dt.date(2026, 1, 9), NEXT_WEEK}
    assert {(one.contract.right, one.contract.underlying) for one in found} == {(OptionRight.PUT, "AAA")}
    assert len(found) == 2 * 17 + 2
    calls = chain(venue, OptionRight.CALL, first=NEXT_WEEK)
    assert {one.contract.right for one in calls} == {OptionRight.CALL}
    assert len(calls) == 17 + 2


def test_a_chain_shows_its_defects(venue: AlpacaExchange) -> None:
    """The adjusted and the small class are not standard; one strike is not tradable, another has little interest."""
    found = {one.symbol: one for one in chain(venue, first=NEXT_WEEK)}
    assert {symbol for symbol, one in found.items() if not one.is_standard} == {
        "AAA1260116P00020000",
        "AAA7260116P00020000",
    }
    assert {symbol for symbol, one in found.items() if not one.tradable} == {"AAA260116P00021500"}
    assert {one.symbol: one.multiplier for one in found.values() if one.multiplier != 100} == {
        "AAA7260116P00020000": 10
    }
    scarce = found["AAA260116P00020500"]
    assert (scarce.open_interest, scarce.open_interest_date) == (12, dt.date(2026, 1, 2))


def test_a_contract_expires_at_the_close_of_its_last_session(venue: AlpacaExchange, clock: ManualClock) -> None:
    """At 16:00 in New York, on the day after Thanksgiving at 13:00."""
    assert {one.contract.expires for one in chain(venue, first=NEXT_WEEK)} == {
        dt.datetime(2026, 1, 16, 21, tzinfo=dt.UTC)
    }
    clock.advance_to(dt.datetime(2026, 11, 23, 15, tzinfo=dt.UTC))
    black_friday = dt.date(2026, 11, 27)
    assert {one.contract.expires for one in chain(venue, first=black_friday, last=black_friday)} == {
        dt.datetime(2026, 11, 27, 18, tzinfo=dt.UTC)
    }


@pytest.mark.parametrize(("pennies", "steps"), [(True, OptionPriceSteps.PENNY), (False, OptionPriceSteps.STANDARD)])
def test_price_steps_are_those_of_the_class(venue: AlpacaExchange, pennies: bool, steps: OptionPriceSteps) -> None:
    """A class of the penny program has its steps, any other one the widest."""
    venue.venue.market.options.penny_classes["AAA"] = pennies
    assert {one.price_steps for one in chain(venue)} == {steps}


def test_a_class_of_shares_keeps_its_dot(venue: AlpacaExchange) -> None:
    """BRK.B is asked for as Alpaca spells the stock, and its standard contracts have the root BRKB."""
    venue.venue.market.list_symbol("BRK.B", Decimal(20), 1_000_000)
    found = {one.symbol: one for one in chain(venue, underlying="BRK.B", first=NEXT_WEEK)}
    assert found["BRKB260116P00020000"].is_standard
    assert found["BRKB260116P00020000"].contract.underlying == "BRK.B"
    assert not found["BRKB1260116P00020000"].is_standard


def test_a_long_chain_is_read_page_by_page(venue: AlpacaExchange) -> None:
    """Each contract is there once, whatever the length of a page."""
    whole = chain(venue)
    rows = listed(venue)

    def page(request: ServerRequest) -> ServerReply | None:
        if request.path != "/v2/options/contracts":
            return None
        start = int(request.query.get("page_token", "0"))
        end = start + 5
        token = {"next_page_token": str(end)} if end < len(rows) else {}
        return ServerReply(document={"option_contracts": rows[start:end], **token})

    venue.venue.before = page
    before = len(venue.server.requests)
    assert chain(venue) == whole
    assert len(venue.server.requests) - before == -(-len(rows) // 5)


def test_a_chain_whose_page_leads_to_itself_is_no_chain(venue: AlpacaExchange) -> None:
    """A part is never taken for the whole, and no page is requested for ever."""
    first = ServerReply(document={"option_contracts": [], "next_page_token": "again"})
    venue.venue.before = lambda request: first if "options" in request.path else None
    with pytest.raises(Unavailable, match="read before"):
        chain(venue)
    assert len(asked(venue, "/v2/options/contracts")) == 2


@pytest.mark.parametrize(
    "document",
    [
        {"next_page_token": None},
        {"option_contracts": [{"symbol": "AAA"}]},
        {"option_contracts": [], "next_page_token": 7},
        {"option_contracts": None},
    ],
)
def test_a_chain_of_which_a_part_cannot_be_read_is_unavailable(venue: AlpacaExchange, document: Any) -> None:
    """It is never shown as shorter than it is."""
    venue.venue.before = lambda _: ServerReply(document=document)
    with pytest.raises(Unavailable, match="cannot be read"):
        chain(venue)


def test_contracts_that_were_not_asked_for_are_left_out(venue: AlpacaExchange) -> None:
    """Where the vendor overlooks a part of the query, the answer is still that of the right and the days."""
    chain(venue, last=NEXT_WEEK + dt.timedelta(days=30))
    rows = listed(venue)
    venue.venue.before = lambda _: ServerReply(document={"option_contracts": rows})
    assert {one.contract.expiry for one in chain(venue)} == {dt.date(2026, 1, 9), NEXT_WEEK}
    assert chain(venue, OptionRight.CALL) == []


def test_quotes_are_those_of_the_exchanges(venue: AlpacaExchange) -> None:
    """With a subscription they come from opra and are as they were made; what has none is left out."""
    found = quotes(venue, PUT, "AAA260116P00021000", "AAA260116P00099000", "AAA", "not a symbol")
    assert [*found] == [PUT]
    one = found[PUT]
    assert (one.feed, one.is_modified, one.time) == ("opra", False, MORNING)
    assert one.bid is not None
    assert one.ask is not None
    assert one.bid < one.ask
    assert (one.bid_size, one.ask_size) == (one.bid_size, one.bid_size + 5)


def test_crossed_and_old_quotes_are_reported_as_they_are(venue: AlpacaExchange) -> None:
    """The core judges them."""
    found = quotes(venue, "AAA260116P00019500", "AAA260116P00019000")
    crossed, old = found["AAA260116P00019500"], found["AAA260116P00019000"]
    assert (crossed.bid or 0) > (crossed.ask or 0)
    assert old.time == dt.datetime(2026, 1, 2, 21, tzinfo=dt.UTC)


def test_a_side_without_a_quote_is_none(venue: AlpacaExchange) -> None:
    """A price of 0 is no bid."""
    assert quotes(venue, "AAA260109P00016000")["AAA260109P00016000"].bid is None


def test_many_quotes_take_a_request_for_each_hundred(venue: AlpacaExchange) -> None:
    """The answer has the order of the symbols, and each symbol once."""
    wanted = [occ_symbol("AAA", NEXT_WEEK, OptionRight.PUT, 84 - number / 2) for number in range(150)]
    found = [one.symbol for one in venue.wait(venue.broker.option_quotes([*wanted, *wanted]))]
    assert found == [symbol for symbol in wanted if symbol in found]
    assert len(found) == 16
    assert [len(one.query["symbols"].split(",")) for one in asked(venue, QUOTES)] == [100, 50]
    assert venue.wait(venue.broker.option_quotes(["AAA"])) == []
    assert len(asked(venue, QUOTES)) == 2


def test_without_a_subscription_quotes_are_modified(basic: AlpacaExchange, clock: ManualClock) -> None:
    """The feed of the exchanges is refused once a day, and asked for again on the next."""
    for _ in range(3):
        one = quotes(basic, PUT)[PUT]
        assert (one.feed, one.is_modified) == ("indicative", True)
    assert [request.query["feed"] for request in asked(basic, QUOTES)] == ["opra", *["indicative"] * 3]
    clock.advance(86_400)
    basic.venue.market.live_sip = True
    assert not quotes(basic, PUT)[PUT].is_modified


def test_a_feed_that_is_refused_altogether_is_an_error(venue: AlpacaExchange) -> None:
    """Neither feed: the words are the vendor's."""
    refusal = ServerReply(status=403, document={"message": "subscription does not permit querying options"})
    venue.venue.before = lambda request: refusal if request.path == QUOTES else None
    with pytest.raises(Rejected, match="does not permit"):
        quotes(venue, PUT)
    assert len(asked(venue, QUOTES)) == 2


def test_a_key_that_is_refused_is_no_plan(venue: AlpacaExchange) -> None:
    """A 403 that means the key asks for a login, and no other feed is tried."""
    venue.venue.before = lambda _: ServerReply(status=403, document={"message": "forbidden."})
    with pytest.raises(LoginNeeded):
        quotes(venue, PUT)
    assert len(asked(venue, QUOTES)) == 1


@pytest.mark.parametrize(
    "row",
    [
        {"t": "2026-01-05T15:00:00Z", "bp": 1.0, "ap": 1.1, "bs": 1},
        {"t": "2026-01-05T15:00:00Z", "bp": -1.0, "ap": 1.1, "bs": 1, "as": 1},
        {"t": "2026-01-05T15:00:00Z", "bp": 1.0, "ap": 1.1, "bs": 1.5, "as": 1},
        {"t": "now", "bp": 1.0, "ap": 1.1, "bs": 1, "as": 1},
        7,
    ],
)
def test_a_quote_that_cannot_be_read_is_unavailable(venue: AlpacaExchange, row: Any) -> None:
    """A field that is absent or absurd is never read as a price."""
    venue.venue.before = lambda _: ServerReply(document={"quotes": {PUT: row}})
    with pytest.raises(Unavailable, match="option quotes cannot be read"):
        quotes(venue, PUT)


def test_a_chain_under_a_rate_limit_is_unavailable(venue: AlpacaExchange) -> None:
    """It is not empty, and the next reading has it."""
    whole = chain(venue)
    OPTION_FAULTS["option contracts: 429 once"](venue.venue)
    with pytest.raises(Unavailable, match="429"):
        chain(venue)
    assert chain(venue) == whole


def test_open_interest_that_is_not_reported_is_unknown(venue: AlpacaExchange) -> None:
    """It is not 0, and has no date."""
    whole = chain(venue)
    OPTION_FAULTS["option contracts: without open interest"](venue.venue)
    found = chain(venue)
    assert [one.symbol for one in found] == [one.symbol for one in whole]
    assert {(one.open_interest, one.open_interest_date) for one in found} == {(None, None)}


def test_a_chain_is_gone_once_it_was_listed(venue: AlpacaExchange) -> None:
    """The next list has none of it, and there are no quotes."""
    OPTION_FAULTS["option contracts: gone once they are listed"](venue.venue)
    assert PUT in {one.symbol for one in chain(venue)}
    assert (chain(venue), quotes(venue, PUT)) == ([], {})


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("quotes: ten minutes old, for 60 s", "old"),
        ("quotes: crossed, for 60 s", "crossed"),
        ("quotes: without a bid, for 60 s", "no bid"),
        ("quotes: missing, for 60 s", "none"),
    ],
)
def test_quotes_are_reported_as_the_vendor_has_them(venue: AlpacaExchange, fault: str, expected: str) -> None:
    """Old, crossed, of one side or of none: nothing is added to them."""
    OPTION_FAULTS[fault](venue.venue)
    found = quotes(venue, PUT)
    if expected == "none":
        assert found == {}
        return
    one = found[PUT]
    kinds = {
        "old": one.time == MORNING - dt.timedelta(minutes=10),
        "no bid": one.bid is None,
        "crossed": (one.bid or 0) > (one.ask or 0),
    }
    assert [name for name, holds in kinds.items() if holds] == ([expected] if expected in kinds else [])


def test_quotes_under_a_rate_limit_are_unavailable(venue: AlpacaExchange) -> None:
    """The limit is an error, and never an empty answer or a reason for another feed."""
    OPTION_FAULTS["option data: 429 once"](venue.venue)
    with pytest.raises(Unavailable, match="429"):
        quotes(venue, PUT)
    assert not quotes(venue, PUT)[PUT].is_modified
    assert {one.query["feed"] for one in asked(venue, QUOTES)} == {"opra"}


def test_the_account_has_its_level(venue: AlpacaExchange) -> None:
    """Calls and puts may be bought from level 2 on."""
    assert venue.wait(venue.broker.account()).options_level == 2
