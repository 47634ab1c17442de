"""The feed at the test venue: the plan, its limits, halts, the VIX, and the one data connection."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from contextlib import aclosing, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_broker_alpaca import Config, tbot_broker
from tbot_broker_alpaca.venue import open_venue

from tbot_core.contracts import Bar, FeedCoverage, FeedRequest, HaltStatus, Heartbeat, Split
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
def client(venue: AlpacaExchange, feed: str = "iex", log: Any = None) -> Iterator[Any]:
    """Another client of the account, with this ALPACA_DATA_FEED and, where one is given, this log."""
    plugin = tbot_broker()
    given = context(venue.server, hosts=plugin.needs.hosts, secrets=venue.secrets, clock=venue.venue.market.clock)
    given = given if log is None else attrs.evolve(given, log=log)
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


def answered(venue: AlpacaExchange, path: str, replies: list[ServerReply]) -> list[ServerRequest]:
    """The requests for a path, which have these answers from now on, one after the other."""
    received: list[ServerRequest] = []

    def answer(request: ServerRequest) -> ServerReply | None:
        if request.path != path:
            return None
        received.append(request)
        return replies.pop(0)

    venue.venue.before = answer
    return received


DAYS = dt.date(2025, 12, 29), dt.date(2026, 1, 2)
ROW = {"symbol": "AAA", "ex_date": "2026-01-02", "process_date": "2026-01-02", "new_rate": 4, "old_rate": 1}
AAA = Split(symbol="AAA", date=DAYS[1], before=1, after=4)


def splits_answered(venue: AlpacaExchange, *replies: ServerReply) -> list[ServerRequest]:
    """The requests for corporate actions, which have these answers from now on, one after the other."""
    return answered(venue, "/v1/corporate-actions", [*replies])


def actions(*rows: Any, kind: str = "forward_splits", token: Any = None) -> ServerReply:
    """A page of corporate actions."""
    return ServerReply(document={"corporate_actions": {kind: [*rows]}, "next_page_token": token})


def splits_of(venue: AlpacaExchange, *symbols: str, session: Any = None) -> Any:
    """The splits of these symbols, else of AAA, in the last days of the year."""
    return venue.wait((session or session_of(venue, venue.broker)).splits(symbols or ("AAA",), *DAYS))


def test_splits_are_the_ones_of_the_venue(venue: AlpacaExchange) -> None:
    """Forward and reverse ones, by the days on which they may have been processed; a batch has 200 symbols."""
    reverse = Split(symbol="CCC", date=DAYS[0], before=50, after=1)
    venue.venue.market.splits += [reverse, attrs.evolve(reverse, date=DAYS[1] + dt.timedelta(days=1))]
    assert splits_of(venue, "AAA", "BBB", "CCC", "not-a-symbol") == [venue.split, reverse]
    asked = venue.server.requests[-1]
    assert asked.query == {
        "symbols": "AAA,BBB,CCC", "types": "forward_split,reverse_split", "limit": "1000",
        "start": "2025-12-15", "end": "2026-01-16",
    }  # fmt: skip
    before = len(venue.server.requests)
    splits_of(venue, *(f"Z{first}{second}" for first in "ABCDEFGHIJKLMNO" for second in "ABCDEFGHIJKLMNO"))
    assert [one.path for one in venue.server.requests[before:]].count("/v1/corporate-actions") == 2


def test_pages_of_splits_are_followed(venue: AlpacaExchange) -> None:
    """The token goes back unchanged; a page that comes again is no answer, and what is no token is none either."""
    other = {**ROW, "symbol": "BBB", "new_rate": 1, "old_rate": 8}
    requests = splits_answered(venue, actions(ROW, token="a/b="), actions(other, kind="reverse_splits"))
    found = splits_of(venue, "AAA", "BBB")
    assert found == [AAA, Split(symbol="BBB", date=DAYS[1], before=8, after=1)]
    assert [one.query.get("page_token") for one in requests] == [None, "a/b="]
    splits_answered(venue, *[actions(ROW, token="same")] * 3)
    with pytest.raises(Unavailable, match="read before"):
        splits_of(venue)
    for page in (actions(ROW, token=7), ServerReply(document={"corporate_actions": {}})):
        splits_answered(venue, page)
        with pytest.raises(Unavailable, match="page token cannot be read"):
            splits_of(venue)


UNREADABLE: dict[str, list[Any]] = {
    "new_rate": [None, 0, -4, "4", True, [], 10**400, 1e-7],
    "old_rate": [None, 0, -0.5, "1", 1e7],
    "ex_date": [None, "", "tomorrow", 20260102],
    "symbol": [None, 7],
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_split_that_cannot_be_read_is_no_answer(venue: AlpacaExchange, name: str) -> None:
    """Without it the bars before it would be compared with those after it; a field that is absent is as bad."""
    session, absent = session_of(venue, venue.broker), {field: value for field, value in ROW.items() if field != name}
    for row in (absent, *({**ROW, name: one} for one in UNREADABLE[name])):
        splits_answered(venue, actions(row))
        with pytest.raises(Unavailable, match="Alpaca's corporate actions cannot be read"):
            splits_of(venue, session=session)


@pytest.mark.parametrize(
    ("rates", "ratio"),
    [((3, 2), (2, 3)), ((1.5, 1), (2, 3)), ((1, 50), (50, 1)), ((1000, 1), (1, 1000)), ((1 / 3, 1), (3, 1))],
)
def test_rates_are_whole_numbers_of_shares(
    venue: AlpacaExchange, rates: tuple[float, float], ratio: tuple[int, int]
) -> None:
    """In their lowest terms."""
    splits_answered(venue, actions({**ROW, "new_rate": rates[0], "old_rate": rates[1]}))
    (found,) = splits_of(venue)
    assert (found.before, found.after) == ratio


def test_what_is_no_ratio_of_whole_numbers_is_left_out_with_a_warning(venue: AlpacaExchange) -> None:
    """As are two ratios of one day, and one share for one; a row that comes twice is one split."""
    lines: list[Any] = []
    with client(venue, log=SimpleNamespace(warning=lambda event, **fields: lines.append((event, fields)))) as broker:
        session = session_of(venue, broker)
        for rows in ([(1001, 1)], [(1, 1001)], [(1.00001, 1)], [(0.3333, 1)], [(1, 1)], [(4, 1), (5, 1)]):
            splits_answered(venue, actions(*({**ROW, "new_rate": new, "old_rate": old} for new, old in rows)))
            assert splits_of(venue, session=session) == []
            event, fields = lines.pop()
            assert (event, fields["reasons"][0][:17]) == ("splits.left_out", "AAA on 2026-01-02")
        splits_answered(venue, actions(ROW, {**ROW, "new_rate": 8, "old_rate": 2}))
        assert (splits_of(venue, session=session), lines) == ([AAA], [])


def test_splits_of_other_symbols_and_days_are_left_out(venue: AlpacaExchange) -> None:
    """A symbol that the split changes is the new one; the ex-date counts, not the day of the processing."""
    late = {**ROW, "process_date": "2026-01-09"}
    renamed = {**ROW, "symbol": "OLD", "new_symbol": "BBB", "new_rate": 1, "old_rate": 10}
    rows = ({**ROW, "symbol": "ZZZ"}, {**ROW, "ex_date": "2026-01-03"}, {**ROW, "ex_date": "2025-12-28"})
    splits_answered(venue, actions(late, renamed, *rows, {**ROW, "new_symbol": ""}))
    assert splits_of(venue, "AAA", "BBB", "OLD") == [AAA, Split(symbol="BBB", date=DAYS[1], before=10, after=1)]


def test_an_account_that_may_not_read_splits_has_none(venue: AlpacaExchange) -> None:
    """It is said once, and nothing more is requested; a refused key, and an error, are no such answer."""
    lines: list[str] = []
    with client(venue, log=SimpleNamespace(warning=lambda event, **_fields: lines.append(event))) as broker:
        session = session_of(venue, broker)
        for reply, kind in (
            (ServerReply(status=403, document={"message": "forbidden."}), LoginNeeded),
            (ServerReply(status=400, document={"message": "invalid symbol"}), Rejected),
        ):
            splits_answered(venue, reply)
            with pytest.raises(kind):
                splits_of(venue, session=session)
        requests = splits_answered(venue, ServerReply(status=403, document={"message": "not in your plan"}))
        assert (splits_of(venue, session=session), splits_of(venue, session=session)) == ([], [])
    assert (len(requests), lines) == (1, ["splits.not_permitted"])


@pytest.fixture
def payloads(shared: Path) -> Path:
    """Saved replies."""
    folder = shared / "payloads" / "alpaca"
    if not folder.is_dir():
        pytest.skip(f"no saved replies at {folder}")
    return folder


def bars_answered(venue: AlpacaExchange, replies: list[Any]) -> list[ServerRequest]:
    """The requests for bars, which are answered with these documents from now on, one after the other."""
    return answered(venue, "/v2/stocks/bars", [ServerReply(document=one) for one in replies])


def test_a16_saved_pages_become_splits(venue: AlpacaExchange, payloads: Path) -> None:
    """The vendor's own replies, among other corporate actions."""
    saved = json.loads((payloads / "alpaca-go-tests" / "marketdata__rest_test.json").read_text())
    saved += json.loads((payloads / "alpaca-py-tests" / "test_corporate_actions.json").read_text())
    pages = [one["payload"] for one in saved if "orporate" in one["test"]]
    splits_answered(
        venue,
        *(ServerReply(document={**one, "next_page_token": str(place)}) for place, one in enumerate(pages)),
        ServerReply(document={"corporate_actions": {}, "next_page_token": None}),
    )
    session, days = session_of(venue, venue.broker), (dt.date(2023, 1, 1), dt.date(2024, 12, 31))
    found = venue.wait(session.splits(("FBL", "MNTS", "NVDL", "SRE", "LVRO", "TPBAU"), *days))
    assert [(one.symbol, one.date.isoformat(), one.before, one.after) for one in found] == [
        ("FBL", "2024-03-13", 1, 5), ("MNTS", "2023-08-24", 50, 1), ("NVDL", "2024-03-13", 1, 6),
        ("SRE", "2023-08-22", 1, 2),
    ]  # fmt: skip


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
