"""The feed at the test venue: the plan, its limits, halts, the VIX, and the one data connection."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from contextlib import aclosing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tbot_broker_alpaca import Config, tbot_broker
from tbot_broker_alpaca.venue import open_venue

from tbot_core.contracts import Bar, FeedCoverage, FeedRequest, HaltStatus, Heartbeat
from tbot_core.errors import FeedRefused, LoginNeeded, Rejected, Unavailable
from tbot_core.testing.scripted_server import ServerFault, ServerReply, ServerRequest, context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tbot_broker_alpaca.venue import AlpacaExchange


@pytest.fixture
def venue(loopback: None) -> Iterator[AlpacaExchange]:  # noqa: ARG001  -- a fixture wanted for its effect
    """An account on the basic plan."""
    with open_venue() as exchange:
        yield exchange


@contextmanager
def client(venue: AlpacaExchange, feed: str = "iex") -> Iterator[Any]:
    """Another client of the account, with this ALPACA_DATA_FEED."""
    plugin = tbot_broker()
    given = context(venue.server, hosts=plugin.needs.hosts, secrets=venue.secrets, clock=venue.venue.market.clock)
    try:
        yield plugin.create(Config(data_feed=feed), given)
    finally:
        venue.wait(given.connect.close())


def session_of(venue: AlpacaExchange, broker: Any) -> Any:
    """The session of its feed."""

    async def first() -> Any:
        return await anext(broker.feed(FeedRequest(kind="live")).sessions())

    return venue.wait(first())


def messages_until(
    venue: AlpacaExchange, session: Any, act: Callable[[], object], symbols: tuple[str, ...] = ("AAA",)
) -> list[Any]:
    """The messages after something is done, to the first that is no heartbeat."""
    found: list[Any] = []

    async def listen() -> None:
        async with asyncio.timeout(5), aclosing(session.messages(symbols)) as messages:
            assert await anext(messages) == Heartbeat()
            act()
            while not found or isinstance(found[-1], Heartbeat):
                found.append(await anext(messages))

    venue.wait(listen())
    return found


def test_the_basic_plan_has_one_venue_and_thirty_symbols(venue: AlpacaExchange) -> None:
    """IEX is the default; the plan is probed once, and asked for no symbol too many."""
    session = session_of(venue, venue.broker)
    assert session_of(venue, venue.broker).quality == session.quality
    assert (session.quality.coverage, session.quality.subscriptions) == (FeedCoverage.SINGLE_VENUE, 30)
    assert [one.query.get("symbols") for one in venue.server.requests].count("SPY") == 1
    many = tuple(f"{first}{second}" for first in "ABCDEF" for second in "ABCDEF")
    with pytest.raises(Rejected, match="405 symbol limit exceeded"):
        messages_until(venue, session, lambda: None, many)


def test_consolidated_data_need_the_plan(venue: AlpacaExchange) -> None:
    """ALPACA_DATA_FEED=sip on the basic plan is an error with the vendor's words; an answer that fails is no answer."""
    with client(venue, "sip") as broker, pytest.raises(FeedRefused, match="Set ALPACA_DATA_FEED=iex") as caught:
        session_of(venue, broker)
    assert "403 subscription does not permit querying recent SIP data" in str(caught.value)
    with client(venue, "sip") as broker:
        venue.server.fail(ServerFault.SERVER_ERROR, path="/v2/stocks")
        with pytest.raises(Unavailable):
            session_of(venue, broker)
        venue.server.fail(ServerFault.LOGIN, path="/v2/stocks")
        with pytest.raises(LoginNeeded):
            session_of(venue, broker)


def test_the_paid_plan_has_all_venues_and_any_number(loopback: None) -> None:  # noqa: ARG001  -- an effect
    """SIP is consolidated, and with IEX too the number of symbols has no limit."""
    with open_venue(basic=False) as venue:
        with client(venue, "sip") as broker:
            session = session_of(venue, broker)
            assert (session.quality.coverage, session.quality.subscriptions) == (FeedCoverage.CONSOLIDATED, 0)
            found = messages_until(venue, session, lambda: venue.trade_on_feed("AAA"))
            assert found[-1].symbol == "AAA"
        assert session_of(venue, venue.broker).quality.subscriptions == 0


def test_the_basic_plan_is_asked_for_no_recent_consolidated_data(venue: AlpacaExchange) -> None:
    """The daily bars are those of all venues, and the last quarter of an hour is left out of the request."""
    session = session_of(venue, venue.broker)
    today = session.session.date
    venue.wait(session.daily(("AAA",), today - dt.timedelta(days=5), today))
    asked = venue.server.requests[-1].query
    assert (asked["feed"], asked["adjustment"]) == ("sip", "raw")
    end = dt.datetime.fromisoformat(asked["end"])
    assert venue.venue.market.clock.now() - end >= dt.timedelta(minutes=15)
    assert venue.wait(session.daily(("AAA",), today + dt.timedelta(days=1), today + dt.timedelta(days=1))) == []


def test_halts_and_their_end_are_reported(venue: AlpacaExchange) -> None:
    """The trading status of a symbol halts it, and lets it trade again."""
    session = session_of(venue, venue.broker)
    for halted in (True, False):
        found = messages_until(venue, session, partial(venue.halt, "AAA", halted=halted))
        assert isinstance(found[-1], HaltStatus)
        assert (found[-1].symbol, found[-1].halted) == ("AAA", halted)


def test_a13_a_second_data_connection_is_refused_with_the_reason(venue: AlpacaExchange) -> None:
    """Another program with the same key holds the one connection: the error says what to do."""
    session = session_of(venue, venue.broker)

    async def both() -> None:
        async with aclosing(session.messages(("AAA",))) as first:
            await anext(first)
            async with aclosing(session.messages(("AAA",))) as second:
                await anext(second)

    with pytest.raises(Unavailable, match=r"406 connection limit exceeded.*stop it"):
        venue.wait(both())


def test_g10_a_revoked_key_is_refused_by_the_stream(venue: AlpacaExchange) -> None:
    """It is no lost connection."""
    session = session_of(venue, venue.broker)
    venue.revoke()
    with pytest.raises(LoginNeeded, match="402 auth failed"):
        messages_until(venue, session, lambda: None)


@pytest.mark.parametrize(("code", "words"), [(400, "invalid syntax"), (404, "auth timeout")])
def test_another_connection_follows_an_error_of_the_stream(venue: AlpacaExchange, code: int, words: str) -> None:
    """A message that was cut, and a login that came too late, are no refused key."""
    session, error = session_of(venue, venue.broker), {"T": "error", "code": code, "msg": words}
    with pytest.raises(Unavailable, match=f"{code} {words}"):
        messages_until(venue, session, lambda: asyncio.ensure_future(venue.server.tell([error])))


def test_a_bar_that_is_updated_changes_nothing(venue: AlpacaExchange) -> None:
    """The bar of a minute is the one that came first: decisions were made by it."""
    session = session_of(venue, venue.broker)
    row = {"S": "AAA", "o": 20, "h": 21, "l": 19, "c": 20, "v": 100, "t": "2026-01-05T15:00:00Z"}
    sent = [{"T": "b", **row}, {"T": "u", **row, "h": 30}, {"T": "b", **row, "t": "2026-01-05T15:01:00Z"}]
    found = messages_until(venue, session, lambda: asyncio.ensure_future(venue.server.tell(sent[:1])))
    found += messages_until(venue, session, lambda: asyncio.ensure_future(venue.server.tell(sent[1:])))
    assert [(one.start.minute, one.high) for one in found if isinstance(one, Bar)] == [(0, 21), (1, 21)]


def test_the_vix_is_offered_where_the_account_has_index_values(venue: AlpacaExchange) -> None:
    """A plan without them has no VIX, and is asked once; that is no failure, but a refused key is."""
    day = dt.date(2026, 1, 2)
    venue.server.fail(ServerFault.LOGIN, path="/v1beta1")
    with pytest.raises(LoginNeeded):
        venue.wait(venue.broker.vix_close(day))
    venue.server.fail(ServerFault.SERVER_ERROR, path="/v1beta1")
    with pytest.raises(Unavailable):
        venue.wait(venue.broker.vix_now())
    before = len(venue.server.requests)
    close, now = venue.wait(venue.broker.vix_close(day)), venue.wait(venue.broker.vix_now())
    assert (close, now) == (None, None)
    assert len(venue.server.requests) == before + 1


def test_prices_are_those_of_the_symbols_that_have_one(venue: AlpacaExchange) -> None:
    """One request for all, and a spelling that the vendor refuses is left out."""
    found = venue.wait(venue.broker.prices(["AAA", "BBB", "not-a-symbol", "ZZZZ"]))
    assert set(found) == {"AAA", "BBB"}
    assert found["AAA"] == pytest.approx(20.0, rel=0.01)


def test_instruments_are_read_alone_or_in_bulk(venue: AlpacaExchange) -> None:
    """One symbol is read as it is now, many from the list of all assets, which is read once a minute."""
    venue.wait(venue.broker.instruments(["AAA"]))
    assert venue.server.requests[-1].path == "/v2/assets/AAA"
    assert venue.wait(venue.broker.instruments(["ZZZZ"]))[0].tradable is False
    many = ["AAA", "BBB", "YYYY", "ZZZZ"]
    for _ in range(2):
        found = venue.wait(venue.broker.instruments(many))
        assert [(one.symbol, one.tradable) for one in found] == list(zip(many, (True, True, False, False), strict=True))
    assert [one.path for one in venue.server.requests].count("/v2/assets") == 1


@pytest.fixture
def payloads(shared: Path) -> Path:
    """Saved replies."""
    folder = shared / "payloads" / "alpaca"
    if not folder.is_dir():
        pytest.skip(f"no saved replies at {folder}")
    return folder


def bars_answered(venue: AlpacaExchange, replies: list[Any]) -> list[ServerRequest]:
    """The requests for bars, which are answered with these documents from now on, one after the other."""
    received: list[ServerRequest] = []

    def answer(request: ServerRequest) -> ServerReply | None:
        if request.path != "/v2/stocks/bars":
            return None
        received.append(request)
        return ServerReply(document=replies.pop(0))

    venue.venue.before = answer
    return received


def test_a16_saved_pages_become_daily_bars(venue: AlpacaExchange, payloads: Path) -> None:
    """The vendor's own replies: a page with a token, the next one, and an empty one; the token goes back unchanged."""
    saved = json.loads((payloads / "alpaca-go-tests" / "marketdata__rest_test.json").read_text())
    first, second = (one["payload"] for one in saved if one["test"] == "TestGetBars_Asof")
    session = session_of(venue, venue.broker)
    requests = bars_answered(venue, [first, second, {"bars": None, "next_page_token": None}])
    found = venue.wait(session.daily(("META",), dt.date(2022, 6, 8), dt.date(2022, 6, 13)))
    assert [(bar.date.isoformat(), bar.close, bar.volume) for bar in found] == [
        ("2022-06-08", 196.64, 22211813.0),
        ("2022-06-09", 184.0, 23458984.0),
        ("2022-06-10", 175.57, 27398594.0),
        ("2022-06-13", 164.26, 31514255.0),
    ]
    assert [one.query.get("page_token") for one in requests] == [
        None,
        first["next_page_token"],
        second["next_page_token"],
    ]


def test_a12_a_page_of_bars_that_comes_again_is_no_answer(venue: AlpacaExchange) -> None:
    """A part of the bars is never taken for all of them, and the second request is the last."""
    session = session_of(venue, venue.broker)
    requests = bars_answered(venue, [{"bars": {}, "next_page_token": "same"}] * 3)
    with pytest.raises(Unavailable, match="read before"):
        venue.wait(session.daily(("AAA",), dt.date(2025, 12, 1), dt.date(2025, 12, 2)))
    assert len(requests) == 2
