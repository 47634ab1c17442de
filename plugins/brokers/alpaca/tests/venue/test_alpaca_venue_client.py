"""Alpaca-py's own client trades at the venue, and its models read every answer."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import warnings
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from alpaca.trading import enums, requests

from tbot_core.contracts import Bar

if TYPE_CHECKING:
    from collections.abc import Callable

BUY, SELL = enums.OrderSide.BUY, enums.OrderSide.SELL
DAY = enums.TimeInForce.DAY
BLACK_FRIDAY = dt.date(2026, 11, 27)


def market(quantity: float = 10, side: Any = BUY, **more: Any) -> Any:
    """A market order."""
    return requests.MarketOrderRequest(symbol="AAPL", qty=quantity, side=side, time_in_force=DAY, **more)


def limit(price: float, quantity: float = 10, side: Any = BUY, **more: Any) -> Any:
    """An order with a limit."""
    terms = {"symbol": "AAPL", "qty": quantity, "side": side, "time_in_force": DAY, "limit_price": price}
    return requests.LimitOrderRequest(**terms, **more)


def stop(price: float, quantity: float = 10, side: Any = SELL) -> Any:
    """A stop order."""
    return requests.StopOrderRequest(symbol="AAPL", qty=quantity, side=side, time_in_force=DAY, stop_price=price)


async def drain(stream: Any, received: list[Any], count: int) -> list[Any]:
    """Let the stream receive until it has so many updates."""
    client, before = stream, len(received)
    while len(received) < before + count:
        message = json.loads(await asyncio.wait_for(client._ws.recv(), 5))
        await client._dispatch(message)
    return received[before:]


def test_the_account_and_the_exchange_are_read(venue: Any) -> None:
    """Account, settings, assets, clock and calendar have the fields of alpaca-py's models."""
    client = venue.trading
    account = venue.ask(client.get_account)
    assert (account.account_number, account.cash, account.multiplier) == ("PA3VENUE0001", "100000", "2")
    assert venue.ask(client.get_account_configurations).no_shorting is False
    assert [asset.symbol for asset in venue.ask(client.get_all_assets)] == ["AAPL", "KO"]
    assert venue.ask(lambda: client.get_asset("KO")).shortable is True
    clock = venue.ask(client.get_clock)
    assert clock.is_open
    assert clock.timestamp == venue.clock.now()
    [day] = venue.ask(lambda: client.get_calendar(requests.GetCalendarRequest(start=BLACK_FRIDAY, end=BLACK_FRIDAY)))
    assert (day.open.hour, day.close.hour) == (9, 13)


def test_an_order_is_placed_replaced_cancelled_and_listed(venue: Any) -> None:
    """A replacement is another order, which names the one before."""
    client = venue.trading
    placed = venue.ask(lambda: client.submit_order(limit(19, client_order_id="mine")))
    assert placed.status == enums.OrderStatus.PENDING_NEW
    replaced = venue.ask(
        lambda: client.replace_order_by_id(placed.id, requests.ReplaceOrderRequest(limit_price=18, qty=5))
    )
    assert replaced.replaces == placed.id
    old = venue.ask(lambda: client.get_order_by_client_id("mine"))
    assert (old.status, old.replaced_by) == (enums.OrderStatus.REPLACED, replaced.id)
    venue.ask(lambda: client.cancel_order_by_id(replaced.id))
    assert venue.ask(client.get_orders) == []
    done = requests.GetOrdersRequest(status=enums.QueryOrderStatus.CLOSED)
    assert [one.status.value for one in venue.ask(lambda: client.get_orders(done))] == ["canceled", "replaced"]
    assert venue.ask(lambda: client.get_order_by_id(replaced.id)).qty == "5"


def test_the_stream_reports_each_step_of_an_order(venue: Any, stream: tuple[Any, list[Any]]) -> None:
    """A15: binary frames; a fill has the quantity of its own, and its order the sum."""
    source, received = stream
    venue.ask(lambda: venue.trading.submit_order(market()))
    venue.trade(20, Decimal(3))
    venue.trade(22)
    updates = venue.run(drain(source, received, 4))
    assert [one.event for one in updates] == ["pending_new", "new", "partial_fill", "fill"]
    assert [(one.qty, one.price, one.position_qty) for one in updates[2:]] == [(3, 20, 3), (7, 22, 10)]
    assert [one.order.filled_qty for one in updates[2:]] == ["3", "10"]
    assert updates[3].order.filled_avg_price == "21.4"
    assert len({one.execution_id for one in updates}) == 4


def test_the_stream_reports_replacement_cancel_and_expiry(venue: Any, stream: tuple[Any, list[Any]]) -> None:
    """A3: the replaced order is reported before the new one works; a day order ends with the session."""
    source, received = stream
    client = venue.trading
    first = venue.ask(lambda: client.submit_order(limit(19)))
    second = venue.ask(lambda: client.replace_order_by_id(first.id, requests.ReplaceOrderRequest(limit_price=18)))
    venue.ask(lambda: client.cancel_order_by_id(second.id))
    venue.ask(lambda: client.submit_order(limit(17)))
    venue.clock.advance(7 * 3600)
    venue.ask(client.get_account)
    events = [(one.event, one.order.limit_price) for one in venue.run(drain(source, received, 9))]
    assert events == [
        *(("pending_new", "19"), ("new", "19"), ("replaced", "19"), ("pending_new", "18"), ("new", "18")),
        *(("canceled", "18"), ("pending_new", "17"), ("new", "17"), ("expired", "17")),
    ]


def test_an_unknown_event_passes(venue: Any, stream: tuple[Any, list[Any]]) -> None:
    """A10: the venue can send an event that no client knows."""
    source, received = stream
    venue.ask(lambda: venue.trading.submit_order(limit(19)))
    venue.account.report("order_reviewed", venue.account.orders[0])
    assert [one.event for one in venue.run(drain(source, received, 3))][-1] == "order_reviewed"


def test_positions_are_read_and_closed(venue: Any) -> None:
    """A4: shares that a stop holds are not available until it is cancelled."""
    client = venue.trading
    venue.ask(lambda: client.submit_order(market()))
    venue.trade(20)
    venue.trade(21)
    [position] = venue.ask(client.get_all_positions)
    assert (position.qty, position.avg_entry_price, position.unrealized_pl) == ("10", "20", "10")
    protection = venue.ask(lambda: client.submit_order(stop(15)))
    assert venue.ask(lambda: client.get_open_position("AAPL")).qty_available == "0"
    status, code, words = venue.refusal(lambda: client.close_position("AAPL"))
    assert (status, code) == (403, 40310000)
    assert words == "insufficient qty available for order (requested: 10, available: 0)"
    venue.ask(lambda: client.cancel_order_by_id(protection.id))
    assert venue.ask(lambda: client.close_position("AAPL")).side == SELL
    venue.trade(22)
    assert venue.ask(client.get_all_positions) == []
    assert venue.ask(client.get_account).cash == "100020"


def test_what_a_bulk_request_does_not_manage_is_a_row_of_its_own(venue: Any) -> None:
    """A5: the answer is 207, and one row has another status."""
    client = venue.trading
    orders = [venue.ask(lambda price=price: client.submit_order(limit(price))) for price in (18, 19)]
    venue.vendor.row_fails = str(orders[0].id)
    assert sorted(one.status for one in venue.ask(client.cancel_orders)) == [200, 500]
    venue.vendor.row_fails = ""
    venue.ask(client.cancel_orders)
    venue.ask(lambda: client.submit_order(market()))
    venue.trade(20)
    venue.vendor.row_fails = "AAPL"
    [row] = venue.ask(lambda: client.close_all_positions(cancel_orders=True))
    assert row.status == 500
    venue.vendor.row_fails = ""
    [row] = venue.ask(lambda: client.close_all_positions(cancel_orders=True))
    assert row.body.symbol == "AAPL"


@pytest.mark.parametrize("kind", ["market", "limit", "stop", "stop_limit", "bracket", "oto"])
def test_every_kind_of_order_that_the_core_can_ask_for_is_accepted(venue: Any, kind: str) -> None:
    """A1: market, limit, stop and bracket orders; the core cannot ask for trailing or notional ones."""
    orders: dict[str, Any] = {
        "market": market(),
        "limit": limit(19),
        "stop": stop(21, side=BUY),
        "stop_limit": requests.StopLimitOrderRequest(
            symbol="AAPL", qty=1, side=BUY, time_in_force=DAY, stop_price=21, limit_price=22
        ),
        "bracket": market(
            order_class=enums.OrderClass.BRACKET,
            take_profit=requests.TakeProfitRequest(limit_price=25),
            stop_loss=requests.StopLossRequest(stop_price=15),
        ),
        "oto": market(order_class=enums.OrderClass.OTO, stop_loss=requests.StopLossRequest(stop_price=15)),
    }
    placed = venue.ask(lambda: venue.trading.submit_order(orders[kind]))
    assert placed.type.value == ("market" if kind in {"bracket", "oto"} else kind)
    venue.trade(22)
    if kind in {"bracket", "oto"}:
        found = venue.ask(lambda: venue.trading.get_order_by_id(placed.id, requests.GetOrderByIdRequest(nested=True)))
        assert {leg.status.value for leg in found.legs} == {"new"}
        venue.trade(14)
        assert venue.account.held == {}


def test_requests_of_alpaca_py_satisfy_the_relaxed_file(venue: Any, judge: Any) -> None:
    """A1: a client of others sends numbers where the vendor's file wants text, and the venue takes both."""
    for order in (market(), limit(19.5), market(1.5)):
        venue.ask(lambda order=order: venue.trading.submit_order(order))
    sent = [one for one in venue.vendor.server.requests if one.method == "POST"]
    assert [fault for one in sent for fault in judge.request_faults(one, relaxed=True)] == []
    assert all(judge.request_faults(one, relaxed=False) for one in sent)


def test_data_is_read(venue: Any) -> None:
    """Bars, quotes, trades and snapshots have the fields of alpaca-py's models."""
    from alpaca.data import requests as asked
    from alpaca.data.timeframe import TimeFrame

    client = venue.data
    wanted = asked.StockBarsRequest(symbol_or_symbols=["AAPL", "KO"], timeframe=TimeFrame.Day, start=venue.clock.now())
    wanted.start, wanted.end = _days_ago(venue, 10), venue.clock.now()
    bars = venue.ask(lambda: client.get_stock_bars(wanted))
    assert len(bars.data["AAPL"]) >= 5
    for name, request in (
        ("get_stock_latest_quote", asked.StockLatestQuoteRequest),
        ("get_stock_latest_trade", asked.StockLatestTradeRequest),
        ("get_stock_snapshot", asked.StockSnapshotRequest),
    ):
        call: Callable[..., Any] = getattr(client, name)
        assert venue.ask(lambda call=call, request=request: call(request(symbol_or_symbols="KO")))["KO"] is not None


def test_a15_market_data_is_streamed_as_msgpack(venue: Any) -> None:
    """Alpaca-py's stream, which asks for msgpack, gets bars, quotes, trades and statuses as its models."""
    received: dict[str, Any] = {}

    async def receive(message: Any) -> None:
        received[type(message).__name__] = message

    async def stream() -> None:
        await client._start_ws()
        await client._send_subscribe_msg()
        consuming = asyncio.create_task(client._consume())
        listing, streams = venue.market.listings["AAPL"], venue.vendor.streams
        start = venue.clock.now() - dt.timedelta(minutes=1)
        bar = Bar(symbol="AAPL", start=start, open=20.0, high=22.0, low=19.5, close=21.0, volume=500)
        minute = venue.market.close_minutes([bar])
        while len(received) < 4:  # the venue sends only what it knows to be subscribed
            streams.publish([*minute, {"T": "t", "S": "AAPL", **venue.market.trade(listing)}])
            streams.publish([{"T": "q", "S": "AAPL", **venue.market.quote(listing)}])
            venue.vendor.halt("AAPL")
            await asyncio.sleep(0.01)
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
        await client.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from alpaca.data.live.stock import StockDataStream

        client = StockDataStream("a-key", "a-secret", url_override=f"{venue.stream_url}/v2/iex")
        for subscribe in ("bars", "quotes", "trades", "trading_statuses"):
            getattr(client, f"subscribe_{subscribe}")(receive, "AAPL")
        venue.run(asyncio.wait_for(stream(), 10))
    assert received.keys() == {"Bar", "Quote", "Trade", "TradingStatus"}
    assert (received["Bar"].close, received["Bar"].timestamp) == (21, venue.clock.now() - dt.timedelta(minutes=1))
    assert (received["Quote"].bid_price, received["Trade"].price) == (20, 20)
    assert received["TradingStatus"].status_code == "H"


def _days_ago(venue: Any, days: int) -> Any:
    return venue.clock.now() - dt.timedelta(days=days)
