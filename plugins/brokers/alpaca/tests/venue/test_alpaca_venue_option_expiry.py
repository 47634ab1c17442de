"""On the day that they expire options are sold by the vendor, exercised or taken out of the account."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from tbot_broker_alpaca.venue.faults import Endpoint, ReadingFault
from tbot_broker_alpaca.venue.options import Defect

from tbot_core.testing.venue import Cover, Held

if TYPE_CHECKING:
    from collections.abc import Callable

PUT, CALL = "AAPL260109P00020000", "AAPL260109C00020000"
"""They expire on Friday 9 January 2026, at 16:00 in New York."""

LAST_HALF_HOUR = dt.datetime(2026, 1, 9, 20, 30, tzinfo=dt.UTC)
CLOSE = dt.datetime(2026, 1, 9, 21, 0, tzinfo=dt.UTC)


@pytest.fixture
def venue(opened: Callable[..., Any]) -> Any:
    """An account that may buy calls and puts."""
    return opened(options_level=2, basic=False)


def buy(venue: Any, symbol: str, quantity: int = 1) -> None:
    """Hold so many of a contract, or shares of a stock."""
    terms = {"symbol": symbol, "qty": str(quantity), "side": "buy", "type": "market", "time_in_force": "day"}
    assert venue.send("POST", "/v2/orders", terms).status == 200
    venue.trade(venue.market.listings["AAPL"].price)
    assert symbol in venue.account.held


def held(venue: Any) -> dict[str, str]:
    """The positions that the account shows."""
    return {one["symbol"]: one["qty"] for one in venue.get("/v2/positions").document}


def events(venue: Any) -> list[tuple[str, str, str, str]]:
    """The activities that are no fills, in their order: kind, symbol, quantity and amount."""
    query = {"category": "non_trade_activity", "direction": "asc"}
    rows = venue.get("/v2/account/activities", **query).document
    return [(one["activity_type"], one["symbol"], one["qty"], one["net_amount"]) for one in rows]


def test_half_an_hour_before_the_close_no_position_is_opened(venue: Any) -> None:
    """Until then a contract of the day is bought; afterwards it is only sold."""
    venue.clock.advance_to(LAST_HALF_HOUR - dt.timedelta(seconds=1))
    buy(venue, PUT)
    venue.clock.advance(1)
    terms = {"symbol": PUT, "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
    reply = venue.send("POST", "/v2/orders", terms)
    words = f'contract "{PUT}" expires soon, unable to open new positions'
    assert (reply.status, reply.document) == (422, {"code": 42210000, "message": words})
    assert venue.send("POST", "/v2/orders", {**terms, "side": "sell"}).status == 200


def test_a_put_in_the_money_without_shares_is_sold_by_the_vendor(venue: Any) -> None:
    """At 15:30 it cancels the order that works and sells at the bid, under an id that is not the client's."""
    buy(venue, PUT, 2)
    resting = {"symbol": PUT, "qty": "2", "side": "sell", "type": "limit", "time_in_force": "day", "limit_price": "9"}
    venue.clock.advance_to(LAST_HALF_HOUR - dt.timedelta(hours=1))
    venue.trade("19")
    mine = venue.send("POST", "/v2/orders", {**resting, "client_order_id": "mine"}).document["id"]
    assert held(venue) == {PUT: "2"}
    venue.clock.advance_to(LAST_HALF_HOUR)
    assert held(venue) == {}
    assert venue.get(f"/v2/orders/{mine}").document["status"] == "canceled"
    [sale, *_] = venue.get("/v2/orders", status="closed").document
    assert (sale["side"], sale["type"], sale["status"], sale["filled_qty"]) == ("sell", "market", "filled", "2")
    assert sale["client_order_id"] != "mine"
    assert Decimal("0.9") <= Decimal(sale["filled_avg_price"]) < 1
    assert events(venue) == []


def test_a_put_that_the_vendor_did_not_sell_leaves_a_short_position(venue: Any) -> None:
    """Exercised at the close for 20 USD a share: 2 contracts deliver 200 shares that the account does not have."""
    venue.account.liquidates_expiring = False
    buy(venue, PUT, 2)
    venue.clock.advance_to(LAST_HALF_HOUR)
    venue.trade("19.99")
    cash = venue.account.cash
    assert held(venue) == {PUT: "2"}
    venue.clock.advance_to(CLOSE)
    assert held(venue) == {"AAPL": "-200"}
    assert events(venue) == [("OPEXC", PUT, "-2", "0"), ("OPTRD", "AAPL", "-200", "4000")]
    assert venue.account.cash == cash + 4000
    position = venue.get("/v2/positions/AAPL").document
    assert (position["avg_entry_price"], position["side"]) == ("20", "short")
    seconds = venue.clock.monotonic()
    facts = [fact for fact in venue.vendor.record.facts if isinstance(fact, Held | Cover)]
    assert facts == [Held(at=seconds, symbol="AAPL", quantity=Decimal(-200))]
    [trade, exercise] = venue.get("/v2/account/activities", category="non_trade_activity").document
    assert (trade["price"], trade["description"], exercise["description"]) == ("20", "Option Trade", "Option Exercise")


def test_a_reading_that_lags_behind_shows_the_put_a_while(venue: Any) -> None:
    """Positions of ten seconds ago have the contract that has been exercised since, and later the shares."""
    venue.account.liquidates_expiring = False
    buy(venue, PUT)
    venue.clock.advance_to(CLOSE - dt.timedelta(minutes=1))
    venue.trade("19")
    venue.vendor.faults.add(ReadingFault(endpoints=frozenset({Endpoint.POSITIONS}), late_s=10.0))
    venue.clock.advance(60)
    assert held(venue) == {PUT: "1"}
    venue.clock.advance(10)
    assert held(venue) == {"AAPL": "-100"}


def test_a_put_without_a_quote_cannot_be_sold(venue: Any) -> None:
    """The vendor's sale is its best effort: without a market the put is exercised."""
    buy(venue, PUT)
    venue.market.options.defects[PUT] = Defect.EMPTY
    venue.clock.advance_to(LAST_HALF_HOUR)
    venue.trade("19")
    assert held(venue) == {PUT: "1"}
    venue.clock.advance_to(CLOSE)
    assert held(venue) == {"AAPL": "-100"}


def test_a_put_delivers_the_shares_that_are_held(venue: Any) -> None:
    """With enough shares the vendor does not sell it."""
    buy(venue, "AAPL", 150)
    buy(venue, PUT)
    venue.clock.advance_to(LAST_HALF_HOUR)
    venue.trade("19")
    assert held(venue) == {"AAPL": "150", PUT: "1"}
    venue.clock.advance_to(CLOSE)
    assert held(venue) == {"AAPL": "50"}
    assert events(venue) == [("OPEXC", PUT, "-1", "0"), ("OPTRD", "AAPL", "-100", "2000")]


def test_a_call_in_the_money_buys_shares(venue: Any) -> None:
    """With the buying power for them it is exercised: 100 shares for 2000 USD."""
    buy(venue, CALL)
    venue.clock.advance_to(LAST_HALF_HOUR)
    venue.trade("20.01")
    cash = venue.account.cash
    venue.clock.advance_to(CLOSE)
    assert held(venue) == {"AAPL": "100"}
    assert events(venue) == [("OPEXC", CALL, "-1", "0"), ("OPTRD", "AAPL", "100", "-2000")]
    assert venue.account.cash == cash - 2000


def test_a_call_that_cannot_be_paid_is_sold_by_the_vendor(venue: Any) -> None:
    """A hundred and fifty calls are for 300 000 USD of shares, which the account may not spend."""
    buy(venue, CALL, 150)
    venue.clock.advance_to(LAST_HALF_HOUR)
    venue.trade("21")
    for _ in range(10):
        venue.get("/v2/account")
    assert held(venue) == {}
    assert events(venue) == []


@pytest.mark.parametrize(("symbol", "price"), [(PUT, "20"), (PUT, "20.50"), (CALL, "20"), (CALL, "19.50")])
def test_what_is_not_in_the_money_expires(venue: Any, symbol: str, price: str) -> None:
    """At the money or out of it, nothing is sold, paid or delivered."""
    buy(venue, symbol, 2)
    venue.clock.advance_to(LAST_HALF_HOUR)
    venue.trade(price)
    cash = venue.account.cash
    venue.clock.advance_to(CLOSE)
    assert held(venue) == {}
    assert events(venue) == [("OPEXP", symbol, "-2", "0")]
    assert venue.account.cash == cash


def test_an_adjusted_put_delivers_its_own_number_of_shares(venue: Any) -> None:
    """A hundred strikes of 20 USD are paid for 110 shares: 18.18 USD each."""
    adjusted = "AAPL1260116P00020000"
    venue.account.liquidates_expiring = False
    buy(venue, adjusted)
    venue.clock.advance_to(dt.datetime(2026, 1, 16, 20, 59, tzinfo=dt.UTC))
    venue.trade("18")
    venue.clock.advance(60)
    assert held(venue) == {"AAPL": "-110"}
    assert events(venue)[1] == ("OPTRD", "AAPL", "-110", "2000")
    assert venue.get("/v2/positions/AAPL").document["avg_entry_price"] == "18.181818182"


def test_an_early_close_ends_contracts_early(venue: Any) -> None:
    """On the Friday after Thanksgiving the market closes at 13:00, and contracts of the day with it."""
    venue.clock.advance_to(dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC))
    symbol = "AAPL261127P00020000"
    buy(venue, symbol)
    venue.clock.advance_to(dt.datetime(2026, 11, 27, 17, 30, tzinfo=dt.UTC))
    venue.trade("19")
    assert held(venue) == {}
    buy(venue, "AAPL261204P00020000")
    venue.clock.advance_to(dt.datetime(2026, 11, 27, 18, 0, tzinfo=dt.UTC))
    assert venue.get(f"/v2/options/contracts/{symbol}").document["status"] == "inactive"
    assert held(venue) == {"AAPL261204P00020000": "1"}
