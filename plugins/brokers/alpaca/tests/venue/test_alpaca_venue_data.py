"""Market data of the venue: past bars and latest values over HTTP, and the stream with one connection."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]  # it has no types
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tbot_core.contracts import Bar, Split

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LOGIN = {"action": "auth", "key": "a-key", "secret": "a-secret"}
MINUTE = dt.timedelta(minutes=1)


def bars(venue: Any, path: str = "/v2/stocks/bars", **query: str) -> Any:
    """The answer to a request for bars of AAPL and KO in the feed of one venue."""
    wanted = {"symbols": "AAPL,KO"} if path == "/v2/stocks/bars" else {}
    return venue.get(path, **{**wanted, "timeframe": "1Min", "feed": "iex", **query})


def minute(venue: Any, symbol: str = "AAPL", close: float = 21.0) -> Bar:
    """The minute that ends now."""
    return Bar(symbol=symbol, start=venue.clock.now() - MINUTE, open=20.0, high=22.0, low=19.5, close=close, volume=500)


def test_past_minutes_come_page_by_page(venue: Any) -> None:
    """Symbols one after the other, no minute twice, and the token of the last page is null."""
    day = "2026-01-02"
    found: list[tuple[str, str]] = []
    token, pages = None, 0
    while token is not None or not pages:
        more: dict[str, str] = {"page_token": token} if token else {}
        answer = bars(venue, start=f"{day}T20:50:00Z", end=f"{day}T20:59:00Z", limit="3", **more).document
        found += [(symbol, row["t"]) for symbol, rows in answer["bars"].items() for row in rows]
        token, pages = answer["next_page_token"], pages + 1
    assert pages == 7
    assert found == [(symbol, f"{day}T20:{50 + number}:00Z") for symbol in ("AAPL", "KO") for number in range(10)]
    wanted = {"start": f"{day}T20:50:00Z", "end": f"{day}T20:59:00Z"}
    token = bars(venue, **wanted, limit="3").document["next_page_token"]
    assert bars(venue, **wanted, page_token=token).status == 200
    for other in ({"start": f"{day}T20:49:00Z"}, {"feed": "sip"}, {"symbols": "AAPL"}, {"adjustment": "split"}):
        assert bars(venue, **{**wanted, **other}, page_token=token).status == 400
    for wrong in ("", "not a token", "bm90IGEgdG9rZW4="):
        assert bars(venue, **wanted, page_token=wrong).status == 400


def test_a12_a_token_can_be_repeated(venue: Any) -> None:
    """A12: as a broken vendor does, a page can name itself as the next one."""
    wanted = {"start": "2026-01-02", "end": "2026-01-02", "limit": "5"}
    token = bars(venue, **wanted).document["next_page_token"]
    venue.market.repeats_tokens = True
    assert bars(venue, **wanted, page_token=token).document["next_page_token"] == token


def test_days_have_both_bounds_and_today(venue: Any) -> None:
    """A day is stamped with midnight in New York; that of today grows with its minutes."""
    wanted = {"timeframe": "1Day", "start": "2025-12-31", "end": "2026-01-05"}
    days = [row["t"] for row in bars(venue, **wanted).document["bars"]["AAPL"]]
    assert days == ["2025-12-31T05:00:00Z", "2026-01-02T05:00:00Z"]
    venue.vendor.streams.publish(venue.market.close_minutes([minute(venue), minute(venue, close=20.5)]))
    [*_, today] = bars(venue, path="/v2/stocks/AAPL/bars", **wanted).document["bars"]
    assert [today[name] for name in "tohlcv"] == ["2026-01-05T05:00:00Z", 20.0, 22.0, 19.5, 20.5, 1000]
    newest = bars(venue, **wanted, sort="desc").document["bars"]["AAPL"][0]
    assert newest["t"] == "2026-01-05T05:00:00Z"


def test_the_last_close_is_that_of_the_listing(venue: Any) -> None:
    """Past prices move, and end at the close from which today's prices go on."""
    rows = bars(venue, timeframe="1Day", start="2025-12-01", end="2026-01-02").document["bars"]["AAPL"]
    assert rows[-1]["c"] == 20.0
    assert len({row["c"] for row in rows}) > 5
    assert all(row["l"] <= min(row["o"], row["c"]) and max(row["o"], row["c"]) <= row["h"] for row in rows)


def test_prices_before_a_split_are_adjusted_on_request(venue: Any) -> None:
    """Raw ones are as they were traded."""
    venue.market.splits.append(Split(symbol="KO", date=dt.date(2026, 1, 2), before=1, after=4))
    wanted = {"timeframe": "1Day", "start": "2025-12-31", "end": "2025-12-31"}
    raw, adjusted = (bars(venue, **wanted, adjustment=name).document["bars"]["KO"][0]["c"] for name in ("raw", "split"))
    assert raw == pytest.approx(4 * adjusted)


def splits(venue: Any, **query: str) -> Any:
    """The answer to a request for splits of January."""
    return venue.get("/v1/corporate-actions", **{"start": "2026-01-01", "end": "2026-01-31", **query})


def test_splits_are_listed_by_the_day_on_which_they_are_processed(venue: Any) -> None:
    """Forward and reverse ones apart, in pages; a token is that of one query, and a broken vendor can repeat it."""
    for symbol, day, after in (("KO", 2, 4), ("AAPL", 2, 3), ("KO", 5, 1), ("AAPL", 30, 9)):
        venue.market.splits.append(Split(symbol=symbol, date=dt.date(2026, 1, day), before=2, after=after))

    def found(**query: str) -> list[tuple[str, str, int]]:
        actions = splits(venue, **query).document["corporate_actions"]
        return [(one["symbol"], one["ex_date"][-2:], one["new_rate"]) for rows in actions.values() for one in rows]

    forward = [("AAPL", "02", 3), ("KO", "02", 4), ("AAPL", "30", 9)]
    assert found() == [*forward, ("KO", "05", 1)]
    assert found(types="reverse_split,unit_split") == [("KO", "05", 1)]
    assert found(types="cash_dividend") == []
    assert found(types="forward_split", sort="desc") == forward[::-1]
    assert found(symbols="KO,ZZZ", end="2026-01-04") == [("KO", "02", 4)]
    assert venue.get("/v1/corporate-actions").document["corporate_actions"].keys() == {"reverse_splits"}
    first = splits(venue, limit="3").document
    last = splits(venue, limit="3", page_token=first["next_page_token"]).document
    assert (len(first["corporate_actions"]["forward_splits"]), last["next_page_token"]) == (2, None)
    assert last["corporate_actions"]["forward_splits"][0]["ex_date"] == "2026-01-30"
    assert splits(venue, limit="3", symbols="KO", page_token=first["next_page_token"]).status == 400
    venue.market.repeats_tokens = True
    again = splits(venue, limit="3", page_token=first["next_page_token"]).document
    assert again["next_page_token"] == first["next_page_token"]
    assert (splits(venue, types="split").status, splits(venue, limit="1001").status) == (400, 422)


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"timeframe": "2Hour"}, 400, "invalid timeframe: 2Hour"),
        ({"start": "yesterday"}, 400, "invalid time: yesterday"),
        ({"limit": "0"}, 422, "limit must be between 1 and 10000: 0"),
        (
            {"feed": "sip", "start": "2026-01-05T14:55:00Z", "end": "2026-01-05T14:59:00Z"},
            403,
            "subscription does not permit querying recent SIP data",
        ),
    ],
)
def test_a_request_for_bars_is_refused(venue: Any, query: dict[str, str], status: int, words: str) -> None:
    """Wrong parameters, and consolidated data of the last 15 minutes on the basic plan."""
    reply = bars(venue, **query)
    assert (reply.status, reply.document["message"]) == (status, words)


def test_a_symbol_of_another_spelling_is_refused_and_an_unknown_one_left_out(venue: Any) -> None:
    """One wrong spelling refuses all others with it."""
    assert bars(venue, path="/v2/stocks/KIT-X/bars").status == 400
    assert venue.get("/v2/stocks/quotes/latest", symbols="KO,KIT-X").status == 400
    assert [*venue.get("/v2/stocks/quotes/latest", symbols="KO,ZZZZZ").document["quotes"]] == ["KO"]
    assert venue.get("/v2/stocks/ZZZZZ/quotes/latest").status == 404


def test_the_paid_plan_has_recent_consolidated_data(opened: Callable[..., Any]) -> None:
    """And the default end is now."""
    venue = opened(basic=False)
    venue.market.close_minutes([minute(venue)])
    reply = bars(venue, feed="sip", start="2026-01-05T14:30:00Z", end="2026-01-05T15:00:00Z")
    assert len(reply.document["bars"]["AAPL"]) == 1
    assert bars(venue, feed="sip").document["bars"]["AAPL"][0]["c"] == 21.0


def test_the_latest_values_follow_the_market(venue: Any) -> None:
    """Quotes, trades, minutes and snapshots, of several symbols and of one."""
    venue.trade("20.5")
    assert venue.get("/v2/stocks/quotes/latest", symbols="AAPL").document["quotes"]["AAPL"]["bp"] == 20.5
    assert venue.get("/v2/stocks/AAPL/trades/latest").document["trade"]["p"] == 20.5
    assert venue.get("/v2/stocks/bars/latest", symbols="AAPL").document == {"bars": {}}
    before = venue.get("/v2/stocks/snapshots", symbols="AAPL").document["AAPL"]
    assert before["dailyBar"] == before["prevDailyBar"]
    venue.market.close_minutes([minute(venue)])
    after = venue.get("/v2/stocks/AAPL/snapshot").document
    assert (after["minuteBar"]["c"], after["dailyBar"]["c"], after["symbol"]) == (21.0, 21.0, "AAPL")


def test_index_values_are_those_of_the_plan(venue: Any) -> None:
    """The VIX is offered, or refused."""
    assert venue.get("/v1beta1/indices/latest/values", symbols="VIX").status == 403
    venue.market.vix = venue.market.listings["KO"].price
    assert venue.get("/v1beta1/indices/latest/values", symbols="VIX").document["values"]["VIX"]["v"] == 20.0
    assert venue.get("/v1beta1/indices/values", symbols="SPX").document["values"] == {}
    assert venue.get("/v1beta1/indices/other").status == 404


async def opened_stream(venue: Any, script: Callable[[Any], Awaitable[Any]], path: str = "/v2/iex") -> Any:
    """What a script does with a connection of market data that was greeted."""
    async with connect(f"{venue.stream_url}{path}") as socket:
        assert json.loads(await socket.recv()) == [{"T": "success", "msg": "connected"}]
        return await script(socket)


async def asked(socket: Any, **message: Any) -> Any:
    """The answer to a message."""
    await socket.send(json.dumps(message))
    return json.loads(await asyncio.wait_for(socket.recv(), 5))


async def error(socket: Any, **message: Any) -> tuple[int, str]:
    """The code and the words of the error that answers a message."""
    [found] = await asked(socket, **message)
    assert found["T"] == "error"
    return found["code"], found["msg"]


def test_the_stream_has_what_was_subscribed(venue: Any) -> None:
    """Bars, quotes, trades and statuses of the symbols of each channel, or of all with an asterisk."""

    async def script(socket: Any) -> list[Any]:
        assert (await asked(socket, **LOGIN))[0]["msg"] == "authenticated"
        [shown] = await asked(socket, action="subscribe", bars=["*"], quotes=["AAPL"], statuses=["KO"], trades=["KO"])
        assert (shown["bars"], shown["quotes"], shown["lulds"]) == (["*"], ["AAPL"], [])
        venue.vendor.streams.publish(venue.market.close_minutes([minute(venue), minute(venue, "KO")]))
        for symbol in ("AAPL", "KO"):
            listing = venue.market.listings[symbol]
            trade = {"T": "t", "S": symbol, **venue.market.trade(listing)}
            quote = {"T": "q", "S": symbol, **venue.market.quote(listing)}
            venue.vendor.streams.publish([trade, quote])
            venue.vendor.halt(symbol)
        venue.vendor.halt("KO", halted=False)
        frames = [json.loads(await asyncio.wait_for(socket.recv(), 5)) for _ in range(5)]
        [left] = await asked(socket, action="unsubscribe", bars=["*"])
        assert left["bars"] == []
        return frames

    minutes, *rest = venue.run(opened_stream(venue, script))
    assert [(one["T"], one["S"], one["c"]) for one in minutes] == [("b", "AAPL", 21.0), ("b", "KO", 21.0)]
    assert [(one["T"], one["S"], one.get("sc")) for frame in rest for one in frame] == [
        *(("q", "AAPL", None), ("t", "KO", None), ("s", "KO", "H"), ("s", "KO", "T"))
    ]


def test_messages_out_of_order_are_refused(venue: Any) -> None:
    """The vendor's codes: before and after the login, for a message that is none, and for too many symbols."""

    async def logged_in(socket: Any) -> list[tuple[int, str]]:
        await asked(socket, **LOGIN)
        many = [f"Z{number}" for number in range(31)]
        found = [await error(socket, **LOGIN), await error(socket, action="dance")]
        found.append(await error(socket, action="subscribe", bars=many))
        await socket.send("no JSON")
        assert json.loads(await socket.recv())[0]["code"] == 400
        return found

    assert venue.run(opened_stream(venue, logged_in)) == [
        *((403, "already authenticated"), (400, "invalid syntax"), (405, "symbol limit exceeded"))
    ]
    early = venue.run(opened_stream(venue, lambda socket: error(socket, action="subscribe", bars=["KO"])))
    assert early == (401, "not authenticated")
    wrong = venue.run(opened_stream(venue, lambda socket: error(socket, action="auth", key="", secret="x")))
    assert wrong == (402, "auth failed")
    plan = venue.run(opened_stream(venue, lambda socket: error(socket, **LOGIN), "/v2/sip"))
    assert plan == (409, "insufficient subscription")


def test_a_message_that_is_no_msgpack_is_refused(venue: Any) -> None:
    """A client that asked for msgpack and sends something else gets an error in msgpack."""

    async def script() -> Any:
        address, headers = f"{venue.stream_url}/v2/iex", {"Content-Type": "application/msgpack"}
        async with connect(address, additional_headers=headers) as socket:
            await socket.recv()
            await socket.send(json.dumps(LOGIN))
            return msgpack.unpackb(await socket.recv())

    assert venue.run(script()) == [{"T": "error", "code": 401, "msg": "not authenticated"}]


def test_a13_a_second_connection_is_refused(venue: Any) -> None:
    """A13: while the first one answers; one that has gone makes room."""

    async def script(socket: Any) -> tuple[int, str]:
        await asked(socket, **LOGIN)
        found = await opened_stream(venue, lambda second: error(second, **LOGIN))
        await venue.vendor.server.drop_sockets()
        assert await opened_stream(venue, lambda third: asked(third, **LOGIN)) == [
            {"T": "success", "msg": "authenticated"}
        ]
        return found  # type: ignore[no-any-return]  # what the script of the second connection returns

    assert venue.run(opened_stream(venue, script)) == (406, "connection limit exceeded")


def test_a_connection_that_answers_no_more_makes_room(venue: Any) -> None:
    """As a vendor notices in time that the other end has gone."""

    async def script(socket: Any) -> Any:
        await asked(socket, **LOGIN)
        venue.vendor.server.sockets[0].transport.pause_reading()
        return await opened_stream(venue, lambda second: asked(second, **LOGIN))

    assert venue.run(opened_stream(venue, script)) == [{"T": "success", "msg": "authenticated"}]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("login", [LOGIN, {"action": "authenticate", "data": {"key_id": "a", "secret_key": "b"}}])
def test_trade_updates_need_a_login(venue: Any, login: dict[str, Any], *, binary: bool) -> None:
    """A15: frames are binary or text; nothing is listened to before the login, nor after the key was revoked."""
    venue.vendor.streams.binary = binary

    async def listening() -> Any:
        async with connect(f"{venue.stream_url}/stream") as socket:
            await socket.send(json.dumps(login))
            frame = await socket.recv()
            assert isinstance(frame, bytes) is binary
            listen = await asked(socket, action="listen", data={"streams": ["trade_updates", "other"]})
            return json.loads(frame), listen

    logged_in, listen = venue.run(listening())
    assert logged_in["data"] == {"status": "authorized", "action": "authenticate"}
    assert listen == {"stream": "listening", "data": {"streams": ["trade_updates"]}}
    venue.vendor.streams.revoked = True

    async def refused(**message: Any) -> Any:
        async with connect(f"{venue.stream_url}/stream") as socket:
            found = await asked(socket, **message)
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            return found["data"]

    assert venue.run(refused(**login))["status"] == "unauthorized"
    assert "error" in venue.run(refused(action="listen", data={"streams": ["trade_updates"]}))


def test_no_stream_is_served_elsewhere_or_during_maintenance(venue: Any) -> None:
    """The connection is closed with a reason."""

    async def closed(path: str) -> str:
        async with connect(f"{venue.stream_url}{path}") as socket:
            with pytest.raises(ConnectionClosed) as caught:
                await socket.recv()
        return str(caught.value)

    assert "not found" in venue.run(closed("/v1/other"))
    venue.vendor.maintenance = True
    assert "service restart" in venue.run(closed("/stream"))
