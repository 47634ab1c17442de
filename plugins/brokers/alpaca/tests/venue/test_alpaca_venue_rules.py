"""What the venue refuses has the vendor's status, code and words."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from tbot_broker_alpaca.venue.wire import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.testing.scripted_server import ServerReply


INVALID, UNPROCESSABLE, FORBIDDEN = (422, 40010001), (422, 42210000), (403, 40310000)


def order(**terms: Any) -> dict[str, Any]:
    """The body of an order; a market order of ten shares by default."""
    body = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day", **terms}
    return {name: value for name, value in body.items() if value is not None}


def sent(venue: Any, **terms: Any) -> dict[str, Any]:
    """The document of an order that is accepted."""
    reply = venue.send("POST", "/v2/orders", order(**terms))
    assert reply.status == 200, reply
    found: dict[str, Any] = reply.document
    return found


def refused(reply: ServerReply) -> tuple[tuple[int, int], str]:
    """The status and code, and the message of an answer."""
    document: Any = reply.document
    return (reply.status, document["code"]), document["message"]


@pytest.mark.parametrize(
    ("terms", "kind", "words"),
    [
        ({"symbol": "NOPE"}, UNPROCESSABLE, 'asset "NOPE" not found'),
        ({"qty": "0"}, INVALID, "qty must be > 0"),
        ({"qty": None}, INVALID, "qty must be > 0"),
        ({"qty": "ten"}, INVALID, "invalid qty: ten"),
        ({"qty": "NaN"}, INVALID, "invalid qty: NaN"),
        ({"side": "hold"}, INVALID, "invalid side: hold"),
        ({"type": "limit"}, INVALID, "limit orders require a limit price"),
        ({"type": "stop_limit", "stop_price": "21"}, INVALID, "stop limit orders require a limit price"),
        ({"limit_price": "19"}, UNPROCESSABLE, "market orders require no limit price"),
        ({"type": "limit", "limit_price": "-1"}, INVALID, "limit_price must be > 0"),
        ({"type": "limit", "limit_price": "19.001"}, UNPROCESSABLE, "sub-penny increment"),
        ({"type": "stop", "stop_price": "20"}, UNPROCESSABLE, "stop price must be greater than current price"),
        ({"qty": "0.5", "time_in_force": "gtc"}, UNPROCESSABLE, "fractional orders must be DAY orders"),
        (
            {"qty": "0.5", "type": "limit", "limit_price": "19"},
            UNPROCESSABLE,
            "fractional orders must be market orders",
        ),
        (
            {"qty": "0.5", "order_class": "oto", "stop_loss": {"stop_price": "15"}},
            UNPROCESSABLE,
            "fractional orders must be simple orders",
        ),
        ({"qty": "0.1234567891"}, INVALID, "qty can have up to 9 decimal places"),
        ({"qty": "0.5", "side": "sell"}, UNPROCESSABLE, "fractional orders cannot be sold short"),
        ({"extended_hours": True}, UNPROCESSABLE, "extended hours order must be DAY or GTC limit orders"),
        ({"qty": "20000"}, FORBIDDEN, "insufficient buying power"),
        ({"qty": "20000", "side": "sell"}, FORBIDDEN, "insufficient buying power"),
        ({"client_order_id": "x" * 129}, INVALID, "client_order_id must be no more than 128 characters"),
        ({"order_class": "bracket", "stop_loss": {"stop_price": "15"}}, UNPROCESSABLE, "bracket orders require"),
        ({"order_class": "oto"}, UNPROCESSABLE, "oto orders require one leg"),
        ({"order_class": "oco"}, UNPROCESSABLE, "the test venue has no orders of class oco"),
        ({"type": "trailing_stop"}, INVALID, "the test venue has no orders of type trailing_stop"),
        ({"time_in_force": "opg"}, INVALID, "the test venue has no orders with time_in_force opg"),
        ({"notional": "100", "qty": "1"}, INVALID, "the test venue has no orders by notional"),
    ],
)
def test_terms_are_refused_with_the_vendors_code(venue: Any, terms: dict[str, Any], kind: Any, words: str) -> None:
    """A8, G11: nothing is accepted, and nothing is reported on the stream."""
    found, message = refused(venue.send("POST", "/v2/orders", order(**terms)))
    assert found == kind
    assert words in message
    assert venue.account.orders == []


def test_an_id_makes_one_order(venue: Any) -> None:
    """A2: a client order id that was used before is refused."""
    sent(venue, client_order_id="mine")
    again = refused(venue.send("POST", "/v2/orders", order(client_order_id="mine")))
    assert again == (INVALID, "client_order_id must be unique")
    assert len(venue.account.orders) == 1


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({}, {"side": "sell"}, "opposite side market/stop order exists"),
        ({"type": "stop", "stop_price": "25"}, {"side": "sell", "type": "limit", "limit_price": "30"}, "market/stop"),
        ({"type": "limit", "limit_price": "19"}, {"side": "sell", "type": "stop", "stop_price": "15"}, "limit order"),
        ({"type": "limit", "limit_price": "19"}, {"side": "sell", "type": "limit", "limit_price": "19"}, "limit order"),
        ({"type": "limit", "limit_price": "19"}, {"side": "sell", "type": "limit", "limit_price": "20"}, ""),
    ],
)
def test_orders_that_could_trade_with_each_other_are_refused(
    venue: Any, first: dict[str, Any], second: dict[str, Any], words: str
) -> None:
    """A6: only limits that do not cross may work on both sides."""
    sent(venue, **first)
    reply = venue.send("POST", "/v2/orders", order(**second))
    if not words:
        assert reply.status == 200
        return
    assert refused(reply) == (FORBIDDEN, "potential wash trade detected. use complex orders")
    assert words in reply.document["reject_reason"]
    assert reply.document["existing_order_id"] == venue.account.orders[0].id


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(422, 42210000, "potential wash trade detected"),
        Refusal(403, 40310100, "trade denied due to pattern day trading protection"),
        Refusal(403, 0, ""),
    ],
)
def test_any_answer_can_be_given_to_the_next_order(venue: Any, refusal: Refusal) -> None:
    """A6, A7, A14: another status for a wash trade, day trading, and an empty body."""
    venue.account.refusals.append(refusal)
    reply = venue.send("POST", "/v2/orders", order())
    assert (reply.status, reply.document) == (refusal.status, refusal.document or None)
    sent(venue)


def test_an_account_may_have_the_retired_fields_or_not(venue: Any) -> None:
    """A7: those of day trading are no longer sent."""
    assert "daytrade_count" not in venue.get("/v2/account").document
    venue.account.retired_fields = True
    assert venue.get("/v2/account").document["daytrade_count"] == 0


def test_shares_are_promised_once(venue: Any) -> None:
    """A4: a stop holds them; a further sale is refused, and no sale turns to the other side."""
    sent(venue)
    venue.trade(20)
    assert refused(venue.send("POST", "/v2/orders", order(side="sell", qty="11")))[0] == FORBIDDEN
    protection = sent(venue, side="sell", type="stop", stop_price="15", qty="4")
    reply = venue.send("POST", "/v2/orders", order(side="sell", qty="7"))
    assert refused(reply)[0] == FORBIDDEN
    body = reply.document
    assert (body["available"], body["held_for_orders"], body["existing_qty"]) == ("6", "4", "10")
    assert body["related_orders"] == [protection["id"]]
    assert venue.send("PATCH", f"/v2/orders/{protection['id']}", {"stop_price": "16"}).status == 200


def test_a_short_sale_needs_an_account_and_shares_to_borrow(venue: Any) -> None:
    """Borrow status, day orders for shares that are hard to borrow, and the account's own settings."""
    listing = venue.market.listings["AAPL"]
    listing.easy_to_borrow = False
    assert refused(venue.send("POST", "/v2/orders", order(side="sell", time_in_force="gtc")))[0] == UNPROCESSABLE
    sent(venue, side="sell")
    assert venue.get("/v2/assets/AAPL").document["borrow_status"] == "hard_to_borrow"
    venue.account.cancel(venue.account.orders[0])
    listing.shortable = False
    words = 'asset "AAPL" cannot be sold short'
    assert refused(venue.send("POST", "/v2/orders", order(side="sell"))) == (UNPROCESSABLE, words)
    venue.account.shorting_enabled = False
    assert refused(venue.send("POST", "/v2/orders", order(side="sell")))[0] == FORBIDDEN
    listing.tradable = False
    assert refused(venue.send("POST", "/v2/orders", order())) == (UNPROCESSABLE, "asset AAPL is not active")
    listing.tradable, listing.fractionable = True, False
    assert refused(venue.send("POST", "/v2/orders", order(qty="0.5")))[0] == FORBIDDEN


def test_a_short_position_is_covered(venue: Any) -> None:
    """Its quantity and value are negative, the purchase ends it, and cash is exact."""
    sent(venue, side="sell")
    venue.trade(20)
    [position] = venue.get("/v2/positions").document
    assert (position["qty"], position["side"], position["market_value"]) == ("-10", "short", "-200")
    assert venue.get("/v2/account").document["short_market_value"] == "-200"
    sent(venue)
    venue.trade(18)
    assert (venue.account.held, venue.account.cash) == ({}, Decimal(100_020))


def test_working_orders_take_buying_power(venue: Any) -> None:
    """An order that opens counts at its limit until it ends; a cash account spends its cash only."""
    assert venue.get("/v2/account").document["buying_power"] == "200000"
    resting = sent(venue, type="limit", limit_price="10", qty="15000")
    assert venue.get("/v2/account").document["buying_power"] == "50000"
    assert venue.send("PATCH", f"/v2/orders/{resting['id']}", {"qty": "19000"}).status == 200
    assert venue.get("/v2/account").document["buying_power"] == "10000"
    venue.account.multiplier = 1
    assert refused(venue.send("POST", "/v2/orders", order()))[0] == FORBIDDEN


@pytest.mark.parametrize("steps", ["cancel", "replace"])
def test_an_order_that_waits_for_the_exchange_is_neither_cancelled_nor_replaced(venue: Any, steps: str) -> None:
    """A3, G5: meanwhile it fills, and the fill counts; what was to replace it is rejected."""
    resting = sent(venue, type="limit", limit_price="19")["id"]
    venue.account.holds = {steps}
    if steps == "cancel":
        assert venue.send("DELETE", f"/v2/orders/{resting}").status == 204
    else:
        assert venue.send("PATCH", f"/v2/orders/{resting}", {"limit_price": "18"}).document["replaces"] == resting
    again = refused(venue.send("DELETE", f"/v2/orders/{resting}"))
    assert again[0] == UNPROCESSABLE
    assert refused(venue.send("PATCH", f"/v2/orders/{resting}", {"limit_price": "17"}))[0] == UNPROCESSABLE
    venue.trade(19, Decimal(4))
    venue.trade(19)
    venue.account.release()
    assert venue.get(f"/v2/orders/{resting}").document["status"] == "filled"
    assert [one.status for one in venue.account.orders[1:]] == (["rejected"] if steps == "replace" else [])
    assert venue.account.held["AAPL"][0] == 10


def test_held_steps_are_done_when_they_are_released(venue: Any) -> None:
    """A cancel, a replacement, and an order that is still to work."""
    first, second = (sent(venue, type="limit", limit_price=price)["id"] for price in ("19", "18"))
    venue.account.holds = {"new", "cancel", "replace"}
    third = sent(venue, type="limit", limit_price="17")["id"]
    words = refused(venue.send("PATCH", f"/v2/orders/{third}", {"limit_price": "16"}))[1]
    assert words == "cannot replace order in pending_new status"
    venue.send("DELETE", f"/v2/orders/{first}")
    venue.send("PATCH", f"/v2/orders/{second}", {"limit_price": "17.5"})
    assert [one.status for one in venue.account.open_orders] == [
        *("pending_cancel", "pending_replace", "pending_new", "pending_new")
    ]
    venue.account.release()
    assert [one.status for one in venue.account.orders] == ["canceled", "replaced", "new", "new"]
    ended = refused(venue.send("DELETE", f"/v2/orders/{first}"))
    assert ended == (UNPROCESSABLE, 'order is already in "canceled" state')


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({}, UNPROCESSABLE, "order parameters are not changed"),
        ({"limit_price": "19"}, UNPROCESSABLE, "order parameters are not changed"),
        ({"qty": "1.5"}, UNPROCESSABLE, "fractional orders cannot be replaced"),
        ({"client_order_id": "mine", "qty": "5"}, INVALID, "client_order_id must be unique"),
        ({"limit_price": "21.001"}, UNPROCESSABLE, "sub-penny"),
    ],
)
def test_a_replacement_is_refused(venue: Any, change: dict[str, str], kind: Any, words: str) -> None:
    """A replacement that changes nothing, or is no order by itself, leaves the old one as it was."""
    resting = sent(venue, type="limit", limit_price="19", client_order_id="mine")["id"]
    found, message = refused(venue.send("PATCH", f"/v2/orders/{resting}", change))
    assert (found, words in message) == (kind, True)
    assert [one.status for one in venue.account.orders] == ["new"]


def test_an_order_before_the_open_waits(opened: Callable[..., Any]) -> None:
    """It is accepted, cannot be replaced, works from the open on, and a day order ends at the close."""
    venue = opened()
    venue.clock._now -= dt.timedelta(hours=1)
    early = sent(venue, type="limit", limit_price="19")
    assert early["status"] == "accepted"
    words = refused(venue.send("PATCH", f"/v2/orders/{early['id']}", {"limit_price": "18"}))[1]
    assert words == "cannot replace order in accepted status"
    kept = sent(venue, type="limit", limit_price="18", time_in_force="gtc")
    venue.clock.advance(3600)
    assert venue.get(f"/v2/orders/{early['id']}").document["status"] == "new"
    venue.clock.advance(7 * 3600)
    assert venue.get(f"/v2/orders/{early['id']}").document["status"] == "expired"
    assert venue.get(f"/v2/orders/{kept['id']}").document["status"] == "new"


def test_a_halted_symbol_does_not_trade(venue: Any) -> None:
    """Orders are accepted, and fill after the halt."""
    venue.market.listings["AAPL"].halted = True
    sent(venue)
    venue.trade(20)
    assert venue.account.held == {}
    venue.market.listings["AAPL"].halted = False
    venue.trade(20)
    assert venue.account.held["AAPL"][0] == 10


def test_a_thin_market_fills_orders_in_parts(venue: Any) -> None:
    """G3: each trade fills a part, and the position has their average price."""
    venue.account.depth = Decimal(4)
    placed = sent(venue)
    for price in ("20", "21", "22"):
        venue.trade(price)
    assert venue.account.held["AAPL"] == (Decimal(10), Decimal("20.8"))
    found = venue.get(f"/v2/orders/{placed['id']}").document
    assert (found["status"], found["filled_avg_price"]) == ("filled", "20.8")
    assert [one["qty"] for one in venue.get("/v2/account/activities", direction="asc").document] == ["4", "4", "2"]


def test_stops_and_limits_fill_at_the_quote(venue: Any) -> None:
    """With a spread a purchase pays the ask, and a sale gets the bid."""
    venue.market.half_spread = Decimal("0.05")
    sent(venue)
    sent(venue, type="limit", limit_price="20.02", qty="1")
    venue.trade(20)
    assert venue.account.held["AAPL"] == (Decimal(10), Decimal("20.05"))
    venue.account.cancel(venue.account.orders[1])
    sent(venue, side="sell", type="stop_limit", stop_price="19", limit_price="18.9")
    venue.trade("18.9")
    assert venue.account.held["AAPL"][0] == 10
    venue.trade("19.5")
    assert venue.account.cash == Decimal(100_000) - Decimal("200.5") + Decimal("194.5")


@pytest.mark.parametrize("headers", [{}, {"APCA-API-KEY-ID": "a"}, {"APCA-API-SECRET-KEY": "a"}])
def test_both_keys_are_needed(venue: Any, headers: dict[str, str]) -> None:
    """G10: without them, and after the key was revoked, the answer is 401."""
    assert refused(venue.get("/v2/account", headers=headers))[0] == (401, 40110000)
    venue.vendor.revoke()
    assert venue.get("/v2/account").status == 401


def test_the_rate_limit_is_counted_by_host_and_minute(opened: Callable[..., Any]) -> None:
    """G9: headers say what is left, and until when; then the answer is 429."""
    venue = opened(limit=2)
    headers = venue.get("/v2/account").headers
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("2", "1")
    assert int(headers["x-ratelimit-reset"]) == int(venue.clock.now().timestamp()) + 60
    venue.get("/v2/account")
    assert refused(venue.get("/v2/account"))[0] == (429, 42910000)
    assert venue.get("/v2/stocks/quotes/latest", symbols="KO").status == 200
    venue.clock.advance(60)
    assert venue.get("/v2/account").status == 200
    assert venue.vendor.summary() == [
        "0 requests; 0 orders: none",
        "refused requests: 1 429 too many requests.",
        "refused on streams: none",
        "trading: at most 3 of 2 requests in one minute, 1 in the median; most: 3 GET account",
        "data: at most 1 of 2 requests in one minute, 1 in the median; most: 1 GET stocks/quotes/latest",
    ]


def test_during_maintenance_nothing_is_answered(venue: Any) -> None:
    """The status is 503, and the body is no JSON."""
    venue.vendor.maintenance = True
    reply = venue.vendor.answer(venue.request("GET", "/v2/account"))
    assert (reply.status, reply.content[:1]) == (503, b"<")


def test_unknown_paths_and_orders_are_not_found(venue: Any) -> None:
    """G2: 404 says that an order is not there."""
    for path in ("/v2/nothing", "/v2/stocks/nothing", "/v2/assets/NOPE", "/v2/positions/AAPL", "/v2/positions/A/B"):
        assert refused(venue.get(path))[0] == (404, 40410000), path
    assert refused(venue.get("/v2/orders:by_client_order_id", client_order_id="x"))[0] == (404, 40410000)
    assert refused(venue.send("DELETE", "/v2/orders/x"))[0] == (404, 40410000)
    assert refused(venue.send("PUT", "/v2/orders/x"))[0] == (404, 40410000)
    assert refused(venue.send("POST", "/v2/account"))[0] == (404, 40410000)


def test_orders_are_listed_page_by_page(venue: Any) -> None:
    """Bounds are times of submission or ids; the newest comes first by default."""
    ids = []
    for number in range(5):
        venue.clock.advance(1)
        ids.append(sent(venue, type="limit", limit_price=f"{10 + number}")["id"])

    def listed(**query: str) -> list[int]:
        return [ids.index(one["id"]) for one in venue.get("/v2/orders", **query).document]

    times = [one["submitted_at"] for one in venue.get("/v2/orders", direction="asc").document]
    assert listed() == [4, 3, 2, 1, 0]
    assert listed(limit="2", direction="asc") == [0, 1]
    assert listed(limit="2", direction="asc", after=times[1]) == [2, 3]
    assert listed(until=times[2]) == [1, 0]
    assert listed(after_order_id=ids[2], direction="asc") == [3, 4]
    assert listed(before_order_id=ids[2]) == [1, 0]
    assert listed(symbols="KO") == listed(status="closed") == []
    for both in ({"before_order_id": ids[3]}, {"after": times[0]}, {"until": times[3]}):
        assert refused(venue.get("/v2/orders", after_order_id=ids[1], **both))[0] == INVALID
    assert refused(venue.get("/v2/orders", after_order_id="nobody's"))[0] == (404, 40410000)
    assert refused(venue.get("/v2/orders", direction="up"))[0] == INVALID
    assert refused(venue.get("/v2/orders", limit="501"))[0] == INVALID
    assert refused(venue.get("/v2/orders", after="yesterday"))[0] == (400, 40010000)


def test_activities_are_listed_page_by_page(venue: Any) -> None:
    """Fills, fees and splits; a page begins after the activity that the token names."""
    sent(venue)
    venue.trade(20, Decimal(4))
    venue.trade(20)
    venue.clock.advance(60)
    venue.account.pay("FEE", Decimal("-0.02"))
    venue.account.pay("SPLIT", Decimal(0), symbol="AAPL", quantity=Decimal(10))
    kinds = [one["activity_type"] for one in venue.get("/v2/account/activities").document]
    assert kinds == ["SPLIT", "FEE", "FILL", "FILL"]
    fills = venue.get("/v2/account/activities/FILL", direction="asc", page_size="1").document
    assert [one["leaves_qty"] for one in fills] == ["6"]
    more = venue.get("/v2/account/activities", activity_types="FILL", direction="asc", page_token=fills[0]["id"])
    assert [(one["type"], one["cum_qty"]) for one in more.document] == [("fill", "10")]
    late = venue.get("/v2/account/activities", category="non_trade_activity", after=fills[0]["transaction_time"])
    assert len(late.document) == 2
    for token in ("", "7", late.document[0]["id"]):
        wrong = venue.get("/v2/account/activities", activity_types="FILL", direction="asc", page_token=token)
        assert refused(wrong)[0] == INVALID
    assert refused(venue.get("/v2/account/activities", direction="up"))[0] == INVALID
    assert venue.account.held["AAPL"] == (Decimal(20), Decimal(10))
    assert venue.account.cash == Decimal("99799.98")
