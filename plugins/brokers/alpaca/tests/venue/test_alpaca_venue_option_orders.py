"""Orders of options: fills at the market maker's quote, positions, cash, and the vendor's refusals."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import warnings
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from tbot_broker_alpaca.venue import open_venue
from tbot_broker_alpaca.venue.options import Defect

from tbot_core.testing.venue import Cover, Held, ShownCover, ShownHeld

with warnings.catch_warnings():  # alpaca-py uses a deprecated part of websockets
    warnings.simplefilter("ignore")
    from alpaca.trading import enums, requests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PUT, CALL = "AAPL260116P00020000", "AAPL260116C00020000"
SPOILED, EMPTY, UNTRADABLE = "AAPL260116P00019500", "AAPL260116P00021000", "AAPL260116P00021500"
UNPROCESSABLE, FORBIDDEN = (422, 42210000), (403, 40310000)
UNCOVERED = "account not eligible to trade uncovered option contracts"


@pytest.fixture
def venue(opened: Callable[..., Any]) -> Any:
    """An account that may buy calls and puts, where the put of January at 20 is bid 0.46 and offered at 0.49."""
    found = opened(options_level=2, basic=False)
    found.market.options.penny_classes["AAPL"] = True
    quote = found.get("/v1beta1/options/quotes/latest", symbols=PUT).document["quotes"][PUT]
    assert (quote["bp"], quote["ap"], quote["bs"], quote["as"]) == (0.46, 0.49, 40, 45)
    return found


def order(**terms: Any) -> dict[str, Any]:
    """The body of an order; two puts at a limit of 0.49 by default."""
    body = {"symbol": PUT, "qty": "2", "side": "buy", "type": "limit", "time_in_force": "day", "limit_price": "0.49"}
    return {name: value for name, value in {**body, **terms}.items() if value is not None}


def sent(venue: Any, **terms: Any) -> dict[str, Any]:
    """The order that was accepted, as it is afterwards."""
    reply = venue.send("POST", "/v2/orders", order(**terms))
    assert reply.status == 200, reply
    found: dict[str, Any] = venue.get(f"/v2/orders/{reply.document['id']}").document
    return found


def refused(venue: Any, **terms: Any) -> tuple[tuple[int, int], str]:
    """The status, code and message with which an order is refused."""
    before = len(venue.account.orders)
    reply = venue.send("POST", "/v2/orders", order(**terms))
    assert len(venue.account.orders) == before
    return (reply.status, reply.document["code"]), reply.document["message"]


def test_the_account_says_what_may_be_spent_on_options(venue: Any) -> None:
    """The level is that of long calls and puts, and the amount has no leverage; stocks have options."""
    found = venue.get("/v2/account").document
    assert (found["options_approved_level"], found["options_trading_level"]) == (2, 2)
    assert (found["buying_power"], found["options_buying_power"]) == ("200000", "100000")
    assert venue.get("/v2/account/configurations").document["max_options_trading_level"] == 2
    assert venue.get("/v2/assets/AAPL").document["attributes"] == ["has_options"]


def test_the_amount_for_options_is_that_of_the_vendors_example(venue: Any) -> None:
    """With 122 086.50 USD and shares of 1259.61 both amounts are those of the account in the vendor's file."""
    venue.account.cash = Decimal("122086.5")
    venue.account.held["AAPL"] = Decimal(1), Decimal("1259.61")
    venue.market.listings["AAPL"].price = Decimal("1259.61")
    found = venue.get("/v2/account").document
    assert (found["equity"], found["buying_power"]) == ("123346.11", "245432.61")
    assert found["options_buying_power"] == "122716.305"


def test_an_order_at_the_ask_fills_and_counts_a_hundredfold(venue: Any) -> None:
    """Two puts at 0.49 cost 98 USD; at the middle of 0.475 they are worth 95 USD."""
    found = sent(venue)
    assert (found["status"], found["filled_qty"], found["filled_avg_price"]) == ("filled", "2", "0.49")
    assert (found["asset_class"], found["order_class"]) == ("us_option", "simple")
    assert found["position_intent"] == "buy_to_open"
    [position] = venue.get("/v2/positions").document
    expected = {"symbol": PUT, "qty": "2", "side": "long", "avg_entry_price": "0.49", "cost_basis": "98"}
    expected |= {"market_value": "95", "current_price": "0.475", "unrealized_pl": "-3", "asset_class": "us_option"}
    assert expected.items() <= position.items()
    assert position["asset_id"] == found["asset_id"] == venue.get(f"/v2/options/contracts/{PUT}").document["id"]
    account = venue.get("/v2/account").document
    assert (account["cash"], account["equity"], account["long_market_value"]) == ("99902", "99997", "95")
    assert (account["buying_power"], account["options_buying_power"]) == ("199804", "99902")
    [fill] = venue.get("/v2/account/activities/FILL").document
    assert (fill["symbol"], fill["qty"], fill["price"], fill["side"]) == (PUT, "2", "0.49", "buy")


def test_a_sale_at_the_bid_pays_a_hundredfold(venue: Any) -> None:
    """Two puts that cost 98 USD are sold for 92: the account has lost 6, and holds nothing."""
    sent(venue)
    found = sent(venue, side="sell", limit_price="0.40", position_intent="sell_to_close")
    assert (found["filled_avg_price"], found["position_intent"]) == ("0.46", "sell_to_close")
    assert venue.get("/v2/positions").document == []
    assert venue.get("/v2/account").document["equity"] == "99994"


def test_a_limit_rests_until_the_quote_reaches_it(venue: Any) -> None:
    """A put at 0.30 fills when the stock has risen, at the ask, which is not above the limit."""
    resting = sent(venue, limit_price="0.30")["id"]
    venue.trade("20.20")
    assert venue.get(f"/v2/orders/{resting}").document["status"] == "new"
    venue.trade("20.60")
    found = venue.get(f"/v2/orders/{resting}").document
    assert found["status"] == "filled"
    assert Decimal(found["filled_avg_price"]) <= Decimal("0.30")


@pytest.mark.parametrize(("side", "price"), [("buy", "0.49"), ("sell", "0.46")])
def test_a_market_order_fills_at_the_quote(venue: Any, side: str, price: str) -> None:
    """It buys at the ask and sells at the bid."""
    if side == "sell":
        sent(venue)
    assert sent(venue, type="market", limit_price=None, side=side)["filled_avg_price"] == price


def test_an_order_fills_in_parts(venue: Any) -> None:
    """No more than is offered at a time, and no more than the depth that a test sets."""
    large = venue.send("POST", "/v2/orders", order(qty="50")).document["id"]
    assert (venue.account.find(large).status, venue.account.find(large).filled) == ("partially_filled", 45)
    assert venue.get(f"/v2/orders/{large}").document["filled_qty"] == "50"
    venue.account.depth = Decimal(1)
    parts = venue.send("POST", "/v2/orders", order()).document["id"]
    assert venue.account.find(parts).status == "partially_filled"
    assert venue.get(f"/v2/orders/{parts}").document["status"] == "filled"
    [last, before, *_] = venue.get("/v2/account/activities/FILL").document
    assert (before["type"], before["qty"], before["leaves_qty"]) == ("partial_fill", "1", "1")
    assert (last["type"], last["qty"], last["cum_qty"]) == ("fill", "1", "2")


def test_the_stream_reports_the_order(venue: Any, stream: tuple[Any, list[Any]]) -> None:
    """Alpaca-py places a put and learns that it is new and filled, with the position that follows."""
    client, received = stream
    request = requests.LimitOrderRequest(
        symbol=PUT, qty=2, side=enums.OrderSide.BUY, time_in_force=enums.TimeInForce.DAY, limit_price=0.49
    )
    placed = venue.ask(lambda: venue.trading.submit_order(request))
    assert (placed.status, placed.asset_class) == (enums.OrderStatus.PENDING_NEW, enums.AssetClass.US_OPTION)

    async def drain() -> None:
        while len(received) < 3:
            await client._dispatch(json.loads(await asyncio.wait_for(client._ws.recv(), 5)))

    venue.run(drain())
    assert [update.event for update in received] == [
        *(enums.TradeEvent.PENDING_NEW, enums.TradeEvent.NEW, enums.TradeEvent.FILL)
    ]
    assert (received[-1].price, received[-1].qty, received[-1].position_qty) == (0.49, 2, 2)
    position = venue.ask(lambda: venue.trading.get_open_position(PUT))
    assert (position.asset_class, position.cost_basis) == (enums.AssetClass.US_OPTION, "98")


@pytest.mark.parametrize(
    ("terms", "kind", "words"),
    [
        ({"time_in_force": "gtc"}, UNPROCESSABLE, "order_time_in_force provided not supported for options trading"),
        ({"type": "stop", "limit_price": None, "stop_price": "0.40"}, UNPROCESSABLE, "invalid order type for options"),
        ({"type": "trailing_stop", "limit_price": None, "trail_price": "1"}, UNPROCESSABLE, "invalid order type"),
        ({"order_class": "bracket"}, UNPROCESSABLE, "complex orders not supported for options trading"),
        ({"stop_loss": {"stop_price": "0.30"}}, UNPROCESSABLE, "complex orders not supported for options trading"),
        ({"qty": None, "notional": "98"}, UNPROCESSABLE, "notional orders are not supported for options trading"),
        ({"extended_hours": True}, UNPROCESSABLE, "extended hours is not supported for options trading"),
        ({"qty": "1.5"}, UNPROCESSABLE, "qty must be integer for options trading"),
        ({"qty": "0"}, (422, 40010001), "qty must be > 0"),
        ({"limit_price": None}, (422, 40010001), "limit orders require a limit price"),
        ({"limit_price": "0.495"}, UNPROCESSABLE, "invalid limit_price 0.495. it must be a multiple of 0.01"),
        ({"limit_price": "3.01"}, UNPROCESSABLE, "invalid limit_price 3.01. it must be a multiple of 0.05"),
        ({"symbol": "AAPL260116P00020100"}, UNPROCESSABLE, 'contract "AAPL260116P00020100" not found'),
        ({"symbol": "NOPE260116P00020000"}, UNPROCESSABLE, 'contract "NOPE260116P00020000" not found'),
        ({"symbol": "AAPL260102P00020000"}, UNPROCESSABLE, 'contract "AAPL260102P00020000" is expired'),
        ({"symbol": UNTRADABLE}, UNPROCESSABLE, f'contract "{UNTRADABLE}" is not tradable'),
        (
            {"position_intent": "sell_to_close"},
            UNPROCESSABLE,
            "position intent mismatch, inferred: buy_to_open, specified: sell_to_close",
        ),
        (
            {"side": "sell", "position_intent": "sell_to_close"},
            UNPROCESSABLE,
            "position intent mismatch, inferred: sell_to_open, specified: sell_to_close",
        ),
        ({"side": "sell"}, FORBIDDEN, UNCOVERED),
        (
            {"qty": "3000"},
            FORBIDDEN,
            "insufficient options buying power (required: 147000, available: 100000)",
        ),
        (
            {"qty": "3000", "type": "market", "limit_price": None},
            FORBIDDEN,
            "insufficient options buying power (required: 147000, available: 100000)",
        ),
    ],
)
def test_orders_are_refused_in_the_vendors_words(venue: Any, terms: dict[str, Any], kind: Any, words: str) -> None:
    """Each by its table of errors; a price off the tick has plausible ones."""
    found, message = refused(venue, **terms)
    assert found == kind
    assert words in message


@pytest.mark.parametrize(
    ("level", "words"),
    [(0, "account not authorized to trade options"), (1, "account not eligible to trade long option contracts")],
)
def test_a_level_that_is_too_low_is_refused(venue: Any, level: int, words: str) -> None:
    """Without options nothing is accepted, and on the first level no purchase."""
    venue.account.options_level = level
    assert refused(venue) == (FORBIDDEN, words)


def test_a_price_outside_the_penny_program_is_in_nickels(venue: Any) -> None:
    """0.49 is refused there, and 0.50 is accepted."""
    venue.market.options.penny_classes["AAPL"] = False
    assert refused(venue) == (UNPROCESSABLE, "invalid limit_price 0.49. it must be a multiple of 0.05")
    assert sent(venue, limit_price="0.50")["limit_price"] == "0.5"


def test_market_orders_wait_for_the_market(venue: Any) -> None:
    """After the close a market order is refused, and one with a limit is accepted for the next session."""
    venue.clock.advance_to(dt.datetime(2026, 1, 5, 21, 30, tzinfo=dt.UTC))
    words = "options market orders are only allowed during market hours"
    assert refused(venue, type="market", limit_price=None) == (UNPROCESSABLE, words)
    assert sent(venue)["status"] == "accepted"


def test_no_more_is_sold_than_is_held(venue: Any) -> None:
    """Nothing is written: not beyond the position, and not while another order has promised it."""
    sent(venue)
    assert refused(venue, side="sell", qty="3") == (FORBIDDEN, UNCOVERED)
    resting = sent(venue, side="sell", limit_price="0.90")
    assert venue.get(f"/v2/positions/{PUT}").document["qty_available"] == "0"
    assert refused(venue, side="sell", qty="1") == (FORBIDDEN, UNCOVERED)
    assert venue.send("DELETE", f"/v2/orders/{resting['id']}").status == 204
    assert sent(venue, side="sell", limit_price="0.46")["status"] == "filled"


def test_opposite_orders_that_could_trade_are_refused(venue: Any) -> None:
    """As for stocks: a sale at the limit of a purchase that works is a potential wash trade."""
    sent(venue)
    sent(venue, limit_price="0.40")
    found, words = refused(venue, side="sell", limit_price="0.40")
    assert (found, words) == (FORBIDDEN, "potential wash trade detected. use complex orders")


def test_working_orders_take_buying_power_without_leverage(venue: Any) -> None:
    """A thousand puts at 0.40 take 40 000 USD of options, and twice that of shares."""
    resting = sent(venue, qty="1000", limit_price="0.40")
    account = venue.get("/v2/account").document
    assert (account["options_buying_power"], account["buying_power"]) == ("60000", "120000")
    path = f"/v2/orders/{resting['id']}"
    reply = venue.send("PATCH", path, {"qty": "2600"})
    words = "insufficient options buying power (required: 104000, available: 100000)"
    assert (reply.status, reply.document["message"]) == (403, words)
    assert venue.send("PATCH", path, {"qty": "2500"}).status == 200
    assert venue.get("/v2/account").document["options_buying_power"] == "0"


def test_a_replacement_walks_to_the_ask(venue: Any) -> None:
    """The new order fills there; a price off the tick and another time in force are refused."""
    path = f"/v2/orders/{sent(venue, limit_price='0.47')['id']}"
    for change in ({"limit_price": "3.01"}, {"time_in_force": "gtc"}):
        assert venue.send("PATCH", path, change).status == 422
    replaced = venue.send("PATCH", path, {"limit_price": "0.49"}).document
    found = venue.get(f"/v2/orders/{replaced['id']}").document
    assert (found["status"], found["asset_class"], found["filled_avg_price"]) == ("filled", "us_option", "0.49")


def test_a_position_is_closed_at_the_bid(venue: Any) -> None:
    """By its symbol, as shares are."""
    sent(venue)
    assert venue.send("DELETE", f"/v2/positions/{PUT}").status == 200
    assert venue.get("/v2/positions").document == []
    assert venue.get("/v2/account").document["cash"] == "99994"


@pytest.mark.parametrize("symbol", [SPOILED, EMPTY])
def test_without_a_sound_quote_nothing_fills(venue: Any, symbol: str) -> None:
    """A purchase of a crossed contract or one without a quote works until the close, and expires then."""
    resting = sent(venue, symbol=symbol, limit_price="5")["id"]
    assert venue.get(f"/v2/orders/{resting}").document["status"] == "new"
    venue.clock.advance_to(dt.datetime(2026, 1, 5, 21, 0, tzinfo=dt.UTC))
    assert venue.get(f"/v2/orders/{resting}").document["status"] == "expired"


def test_a_contract_may_be_gone_between_the_list_and_the_order(venue: Any) -> None:
    """It was listed; the order finds none."""
    listed = venue.get("/v2/options/contracts", expiration_date="2026-01-16", limit="1000").document
    assert PUT in [one["symbol"] for one in listed["option_contracts"]]
    venue.market.options.defects[PUT] = Defect.GONE
    assert refused(venue) == (UNPROCESSABLE, f'contract "{PUT}" not found')


def test_orders_are_listed_by_class_and_stock(venue: Any) -> None:
    """With the class of options a stock's symbol names the orders of its contracts."""
    option = sent(venue, limit_price="0.40")["id"]
    share = sent(venue, symbol="AAPL", limit_price="15")["id"]
    for query, expected in (
        ({"asset_class": "us_option"}, [option]),
        ({"asset_class": "us_option", "symbols": "AAPL"}, [option]),
        ({"asset_class": "us_option", "symbols": "KO"}, []),
        ({"asset_class": "us_equity"}, [share]),
        ({"symbols": "AAPL"}, [share]),
        ({"symbols": PUT}, [option]),
        ({"asset_class": "us_equity,us_option"}, [share, option]),
    ):
        assert [one["id"] for one in venue.get("/v2/orders", **query).document] == expected


def test_a_contract_of_ten_shares_counts_tenfold(venue: Any) -> None:
    """A hundred small puts at 0.49 cost 490 USD."""
    small = "AAPL7260116P00020000"
    sent(venue, symbol=small, qty="100")
    assert venue.get(f"/v2/positions/{small}").document["cost_basis"] == "490"
    assert venue.get("/v2/account").document["cash"] == "99510"


def test_a_long_option_needs_no_protection(venue: Any) -> None:
    """The judge of a day has no fact of a position without a stop: no more than the premium can be lost."""
    sent(venue)
    kinds = (Held, Cover, ShownHeld, ShownCover)
    assert [fact for fact in venue.vendor.record.facts if isinstance(fact, kinds)] == []
    [seen] = venue.vendor.record.orders
    assert (seen.symbol, seen.act, seen.filled) == (PUT, "entry", 2)


@pytest.mark.usefixtures("loopback")
def test_a_rehearsal_may_open_the_venue_with_options() -> None:
    """When the stock trades, what rests for its options fills, and the account holds them."""
    with open_venue(options_level=2, basic=False) as exchange:
        exchange.venue.market.options.penny_classes["AAA"] = True
        contract = "AAA260116P00020000"
        exchange.venue.account.submit(order(symbol=contract, limit_price="0.20"))
        exchange.trade_at(Decimal(20))
        assert exchange.holdings() == {}
        exchange.trade_at(Decimal(21))
        assert exchange.holdings() == {contract: 2}
        assert exchange.cash() < 100_000


def test_an_order_has_the_fields_of_the_vendors_example(venue: Any, shared: Path) -> None:
    """The example of an option order in the vendor's file."""
    file = shared / "payloads" / "alpaca" / "openapi-examples" / "trading-api.json"
    if not file.is_file():
        pytest.skip(f"no saved replies at {file}")
    rows = json.loads(file.read_text())
    [example] = [one["payload"] for one in rows if (one["path"], one["method"], one["name"]) == _EXAMPLE]
    found = sent(venue, limit_price="0.40")
    assert example.keys() <= found.keys()
    for name in ("asset_class", "order_class", "order_type", "extended_hours", "legs", "notional", "time_in_force"):
        assert found[name] == example[name]


_EXAMPLE = ("/v2/orders", "post", "Options")
