"""A feed of Alpaca's bars keeps the contract of feeds, at a server that answers as the vendor's saved replies do."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import (
    Bar,
    Context,
    DailyBar,
    FeedLabel,
    FeedQuality,
    FeedRequest,
    HaltStatus,
    Heartbeat,
    Host,
    HttpResponse,
    Quote,
)
from tbot_core.errors import LoginNeeded, Rejected, Unavailable
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.clock import ManualClock, exchange_time
from tbot_core.rehearsal.virtual_loop import VirtualLoop
from tbot_core.system.secret import Secret
from tbot_core.testing import feed as kit
from tbot_core.testing.contract import run_cases
from tbot_core.testing.feed import FeedContract
from tbot_core.testing.scripted_server import ScriptedServer, ServerReply, ServerRequest, context
from tbot_core.testing.venue import Split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

    from tbot_core.contracts import Feed, FeedMessage

HOSTS = {
    "trading": Host("https://paper-api.example.com", requests_per_minute=200),
    "data": Host("https://data.example.com", requests_per_minute=200),
    "stream": Host("wss://stream.example.com"),
}
MONDAY = dt.datetime(2019, 12, 9, 14, 0, tzinfo=dt.UTC)
"""Half an hour before the open."""
SYMBOLS = ("AAPL", "BRK.B")


# The plugin: what an author writes.


@attrs.frozen(kw_only=True)
class AlpacaKey:
    """The credentials."""

    key_id: Secret
    secret_key: Secret


_SPELLING = re.compile(r"[A-Z]{1,5}(\.[A-Z]{1,2})?")
_QUIET_S = 4.0


def fields(row: dict[str, Any]) -> dict[str, float]:
    """The numbers of a bar."""
    names = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
    return {name: float(row[short]) for name, short in names.items()}


def minute_bar(symbol: str, row: dict[str, Any]) -> Bar:
    """A bar of one minute."""
    return Bar(symbol=symbol, start=dt.datetime.fromisoformat(row["t"]), vwap=float(row["vw"]), **fields(row))


def daily_bar(symbol: str, row: dict[str, Any]) -> DailyBar:
    """A bar of one day, which is stamped with midnight in New York."""
    return DailyBar(symbol=symbol, date=exchange_time(dt.datetime.fromisoformat(row["t"])).date(), **fields(row))


def messages_of(frame: str | bytes) -> Iterator[FeedMessage]:
    """The messages of one frame of the stream."""
    for one in json.loads(frame):
        match one["T"]:
            case "b":
                yield minute_bar(one["S"], one)
            case "q" if one["bp"] and one["ap"]:  # 0: this side has no quote
                moment = dt.datetime.fromisoformat(one["t"])
                yield Quote(symbol=one["S"], bid=float(one["bp"]), ask=float(one["ap"]), time=moment)
            case "s":
                yield HaltStatus(symbol=one["S"], halted=one["sc"] == "H", words=one["sm"])
            case _:
                yield Heartbeat()


def following(page: HttpResponse) -> dict[str, str] | None:
    """The next page."""
    token = page.json()["next_page_token"]
    return {"page_token": token} if token else None


class AlpacaSession:
    """The running session."""

    quality = FeedQuality(coverage="consolidated", quotes=True, halts=True, initial_halts=False)
    adjustment = "raw"
    symbols_per_request = 200

    def __init__(self, plugin: AlpacaBroker, session: Session, symbols: tuple[str, ...]) -> None:
        self._plugin, self.session, self.symbols = plugin, session, symbols

    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        """Daily bars."""
        wanted = {"timeframe": "1Day", "start": first.isoformat(), "end": last.isoformat()}
        return [daily_bar(symbol, row) async for symbol, row in self._bars(symbols, wanted)]

    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        """Minute bars; the vendor's end is included."""
        latest = last - dt.timedelta(minutes=1)
        wanted = {"timeframe": "1Min", "start": first.isoformat(), "end": latest.isoformat()}
        return [minute_bar(symbol, row) async for symbol, row in self._bars(symbols, wanted)]

    async def _bars(self, symbols: Sequence[str], wanted: dict[str, str]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        known = sorted(filter(_SPELLING.fullmatch, symbols))  # another spelling is refused with all others
        fixed = {"limit": "10000", "adjustment": self.adjustment, "feed": "sip", **wanted}
        for start in range(0, len(known), self.symbols_per_request):
            few = ",".join(known[start : start + self.symbols_per_request])
            async for page in self._plugin.data.pages(
                "/v2/stocks/bars", {"symbols": few, **fixed}, following=following
            ):
                for symbol, rows in (page.json()["bars"] or {}).items():
                    for row in rows:
                        yield symbol, row

    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """The stream; the vendor sends no heartbeats, and the core's pings notice a dead connection."""
        key, names = self._plugin.key, list(symbols)
        login = {"action": "auth", "key": key.key_id.reveal(), "secret": key.secret_key.reveal()}
        async with self._plugin.connect_to.websocket("stream", "/v2/sip") as connection:
            for request in (login, {"action": "subscribe", "bars": names, "quotes": names, "statuses": names}):
                await connection.receive()
                await connection.send(json.dumps(request))
            while json.loads(await connection.receive())[0]["T"] != "subscription":
                pass
            yield Heartbeat()
            while True:
                found: list[FeedMessage] = [Heartbeat()]
                with suppress(TimeoutError):
                    async with asyncio.timeout(_QUIET_S):
                        found = list(messages_of(await connection.receive()))
                for one in found:
                    yield one


class AlpacaBroker:
    """The part of the broker that supplies bars; it is its own feed."""

    label = FeedLabel(name="Alpaca", simulated=False, quotes=True)
    make_session = AlpacaSession

    def __init__(self, given: Context) -> None:
        self.connect_to, self._clock, self.key = given.connect, given.clock, given.secrets["broker"]
        headers = {"APCA-API-KEY-ID": self.key.key_id, "APCA-API-SECRET-KEY": self.key.secret_key}
        self.data = given.connect.http("data", headers=headers)
        self._trading = given.connect.http("trading", headers=headers)

    def feed(self, request: FeedRequest) -> Feed:
        """The feed of a request."""
        self._request = request
        return self

    async def sessions(self) -> AsyncIterator[AlpacaSession]:
        """Today's session, or the next one."""
        session = ExchangeCalendar().current(self._clock.now())
        assets = (await self._trading.get("/v2/assets", {"status": "active", "asset_class": "us_equity"})).json()
        known = {one["symbol"] for one in assets if one["tradable"]}
        yield self.make_session(self, session, tuple(sorted(known & set(self._request.symbols or known))))


# The vendor: what its OpenAPI file says, with rows as in the saved replies.


class AlpacaServer:
    """Bars of three sessions before today, of two symbols; AAPL was split four for one after the first of them."""

    page_size = 700

    def __init__(self, rows: dict[str, Any], asset: dict[str, Any]) -> None:
        self.server = ScriptedServer(self.answer, self.stream)
        self.replies: list[ServerReply] = []
        self._asset = asset
        calendar, self.sessions = ExchangeCalendar(), list[Session]()
        while len(self.sessions) < 3:
            self.sessions.insert(0, calendar.previous(self.sessions[0].date if self.sessions else MONDAY.date()))
        self._minutes, self._days = dict[str, list[Any]](), dict[str, list[Any]]()
        for symbol, price in (("AAPL", 280.0), ("BRK.B", 220.25)):
            for session in self.sessions:
                before = symbol == "AAPL" and session is self.sessions[0]
                self._add(symbol, session, rows, price * (4 if before else 1))

    def _add(self, symbol: str, session: Session, template: dict[str, Any], price: float) -> None:
        # Minutes before the open too, and none in each tenth minute.
        minutes = [one for one in range(-30, session.minutes) if one % 10]
        rows = [
            template | {"t": f"{session.moment(one):%Y-%m-%dT%H:%M:%SZ}", "v": 1000 + one}
            | {"o": price, "h": price + 0.5, "l": price - 0.5, "c": price + one / 1000, "vw": price}
            for one in minutes
        ]  # fmt: skip
        self._minutes.setdefault(symbol, []).extend(rows)
        midnight = f"{session.date}T05:00:00Z"
        whole = {"t": midnight, "o": price, "h": price + 0.5, "l": price - 0.5, "c": price + 0.389, "v": 2_000_000}
        self._days.setdefault(symbol, []).append(template | whole)

    def answer(self, request: ServerRequest) -> ServerReply:
        """The answer to a request: one that a test has prepared, or that of the market."""
        if request.headers.get("apca-api-secret-key") != "a-secret":
            return ServerReply(status=401, document={"message": "forbidden."})
        if request.path == "/v2/assets":
            names = (*SYMBOLS, "OLD")
            return ServerReply(document=[self._asset | {"symbol": one, "tradable": one != "OLD"} for one in names])
        return self.replies.pop(0) if self.replies else self._bars(request.query)

    def _bars(self, query: Any) -> ServerReply:
        symbols = query["symbols"].split(",")
        if wrong := [one for one in symbols if not _SPELLING.fullmatch(one)]:
            return ServerReply(status=400, document={"message": f"invalid symbol: {wrong[0]}"})
        rows = self._days if query["timeframe"] == "1Day" else self._minutes
        first, last = (query[name].replace("+00:00", "Z") for name in ("start", "end"))
        found = [
            (symbol, row if query["adjustment"] == "raw" else self._adjusted(symbol, row))
            for symbol in sorted(symbols)
            for row in rows.get(symbol, ())
            if first <= row["t"] and (row["t"] <= last or row["t"].startswith(last))
        ]
        page, token = dict[str, list[Any]](), query.get("page_token")
        start = int(base64.b64decode(token).rpartition(b"|")[2]) if token else 0
        end = start + min(int(query["limit"]), self.page_size)
        for symbol, row in found[start:end]:
            page.setdefault(symbol, []).append(row)
        more = base64.b64encode(f"{found[end - 1][0]}|M|{end}".encode()).decode() if len(found) > end else None
        return ServerReply(document={"bars": page, "next_page_token": more})

    def _adjusted(self, symbol: str, row: dict[str, Any]) -> dict[str, Any]:
        if symbol != "AAPL" or row["t"] > f"{self.sessions[1].date}":
            return row
        return row | {name: row[name] / 4 for name in ("o", "h", "l", "c", "vw")} | {"v": row["v"] * 4}

    async def stream(self, connection: Any) -> None:
        """The stream: greeting, login, subscription; then only what a test lets happen."""
        await self.server.tell([{"T": "success", "msg": "connected"}], to=connection)
        assert json.loads(await connection.recv())["secret"] == "a-secret"
        await self.server.tell([{"T": "success", "msg": "authenticated"}], to=connection)
        wanted = json.loads(await connection.recv())
        await self.server.tell([{"T": "subscription", "bars": wanted["bars"]}], to=connection)
        await connection.wait_closed()


class Venue:
    """The plugin at the server."""

    feed_symbols = SYMBOLS

    def __init__(self, runner: asyncio.Runner, vendor: AlpacaServer, retries: int = 0) -> None:
        self._runner, self.vendor, self.clock = runner, vendor, ManualClock(MONDAY)
        self._tasks = list[asyncio.Task[None]]()
        key = AlpacaKey(key_id=Secret("an-id"), secret_key=Secret("a-secret"))
        self.context = context(
            vendor.server, hosts=HOSTS, secrets={"broker": key}, clock=self.clock, retries=retries, timeout_s=2.0
        )
        self.broker = AlpacaBroker(self.context)

    @property
    def split(self) -> Split:
        """Four shares for one."""
        return Split(symbol="AAPL", day=self.vendor.sessions[1].date, ratio=4.0)

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The result of a call."""
        return self._runner.run(call)

    def trade_on_feed(self, symbol: str) -> None:
        """A quote of which one side is empty, and a whole one."""
        quote = {"T": "q", "S": symbol, "bp": 279.9, "ap": 280.1, "t": "2019-12-09T14:00:01.409127283Z"}
        self._soon(self.vendor.server.tell([quote | {"ap": 0}, quote]))

    def halt_on_feed(self, symbol: str) -> None:
        """A trading status."""
        self._soon(self.vendor.server.tell([{"T": "s", "S": symbol, "sc": "H", "sm": "Trading Halt"}]))

    def lose_feed(self) -> None:
        """The vendor's machine goes away."""
        self._soon(self.vendor.server.drop_sockets())

    def session(self) -> AlpacaSession:
        """The feed's session."""

        async def first() -> AlpacaSession:
            return await anext(self.broker.sessions())

        self.broker.feed(FeedRequest(kind="live"))
        found: AlpacaSession = self.wait(first())
        return found

    def _soon(self, call: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(call))


@pytest.fixture(scope="module")
def payloads(shared: Path) -> Path:
    """The vendor's saved replies."""
    folder = shared / "payloads" / "alpaca"
    if not folder.is_dir():
        pytest.skip(f"no saved replies at {folder}")
    return folder


@pytest.fixture
def opened(payloads: Path, loopback: None) -> Callable[..., Any]:  # noqa: ARG001  -- a fixture wanted for its effect
    """Opens a venue in virtual time."""
    bars = saved(payloads / "alpaca-py-tests" / "test_historical_stock_data.json", "test_get_bars")
    (assets,) = saved(payloads / "alpaca-py-tests" / "test_asset_routes.json", "test_get_all_assets")

    @contextmanager
    def open_venue(**options: Any) -> Iterator[Venue]:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            vendor = AlpacaServer(bars[0]["bars"]["AAPL"][0], assets[0])
            runner.run(vendor.server.__aenter__())
            venue = Venue(runner, vendor, **options)
            try:
                yield venue
            finally:
                runner.run(venue.context.connect.close())
                runner.run(vendor.server.__aexit__(None, None, None))

    return open_venue


def saved(file: Path, test: str) -> list[Any]:
    """The saved replies of one of the vendor's tests."""
    return [one["payload"] for one in json.loads(file.read_text()) if one["test"] == test]


class TestContract(FeedContract):
    """The feed keeps the contract."""

    @pytest.fixture
    def venue(self, opened: Callable[..., Any]) -> Iterator[Venue]:
        """A new server."""
        with opened() as venue:
            yield venue


@pytest.mark.parametrize(
    ("number", "wrong"), [("f12", {"adjustment": "split"}), ("f13", {"symbols_per_request": 10_000})]
)
def test_a_wrong_request_fails_its_case(opened: Callable[..., Any], number: str, wrong: dict[str, Any]) -> None:
    """Adjusted prices are noticed though days and minutes agree, and so is an address that is too long."""

    @contextmanager
    def venue() -> Iterator[Venue]:
        with opened() as one:
            one.broker.make_session = type("Wrong", (AlpacaSession,), wrong)
            yield one

    cases = [case for case in kit.CASES if case.__name__[:3] in {"f06", "f07", "f12", "f13"}]
    assert [one.number for one in run_cases(cases, venue) if one.outcome == "failed"] == [number]


def test_saved_pages_become_daily_bars(opened: Callable[..., Any], payloads: Path) -> None:
    """The vendor's own replies: a page with a token, the next one, and an empty one; the token goes back unchanged."""
    first, second = saved(payloads / "alpaca-go-tests" / "marketdata__rest_test.json", "TestGetBars_Asof")
    (empty,) = saved(
        payloads / "alpaca-py-tests" / "test_historical_stock_data.json", "test_get_bars_single_empty_response"
    )
    with opened() as venue:
        session = venue.session()
        venue.vendor.replies = [ServerReply(document=one) for one in (first, second, empty | {"bars": None})]
        bars = venue.wait(session.daily(("META",), dt.date(2022, 6, 8), dt.date(2022, 6, 13)))
        tokens = [one.query.get("page_token") for one in venue.vendor.server.requests[-3:]]
    assert [(bar.date.isoformat(), bar.close, bar.volume) for bar in bars] == [
        ("2022-06-08", 196.64, 22211813.0),
        ("2022-06-09", 184.0, 23458984.0),
        ("2022-06-10", 175.57, 27398594.0),
        ("2022-06-13", 164.26, 31514255.0),
    ]
    assert tokens == [None, first["next_page_token"], second["next_page_token"]]


def test_every_saved_reply_with_bars_is_read(opened: Callable[..., Any], payloads: Path) -> None:
    """Whole numbers, numbers with a fraction, fields that are missing, and several symbols: each row is a sound bar."""
    read = 0
    with opened() as venue:
        session = venue.session()
        for file in (
            payloads / "alpaca-py-tests" / "test_historical_stock_data.json",
            payloads / "alpaca-go-tests" / "marketdata__rest_test.json",
        ):
            for one in json.loads(file.read_text()):
                rows = one["payload"].get("bars")
                if not rows or not all(isinstance(own, list) and "/" not in name for name, own in rows.items()):
                    continue
                venue.vendor.replies = [ServerReply(document=one["payload"] | {"next_page_token": None})]
                bars = venue.wait(session.history(tuple(rows), MONDAY, MONDAY))
                assert len(bars) == sum(map(len, rows.values()))
                assert all(0 < bar.low <= bar.close <= bar.high and bar.start.tzinfo for bar in bars)
                read += 1
    assert read >= 6


def test_a_token_that_comes_again_is_no_answer(opened: Callable[..., Any], payloads: Path) -> None:
    """A part of the bars is never taken for all of them."""
    page = saved(payloads / "alpaca-py-tests" / "test_historical_stock_data.json", "test_get_bars")[0]
    with opened() as venue:
        session = venue.session()
        venue.vendor.replies = [ServerReply(document=page)] * 3
        with pytest.raises(Unavailable, match="read before"):
            venue.wait(session.daily(("AAPL",), dt.date(2022, 2, 1), dt.date(2022, 2, 2)))
        assert len(venue.vendor.replies) == 1


@pytest.mark.parametrize(("wait_s", "requests"), [(3, 2), (40, 1)])
def test_the_vendor_says_when_it_answers_again(opened: Callable[..., Any], wait_s: int, requests: int) -> None:
    """A short pause is waited for inside the call; of a long one the core is told, and nothing is sent meanwhile."""
    reset = int((MONDAY + dt.timedelta(seconds=wait_s)).timestamp())
    limit = {"X-RateLimit-Limit": "200", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset)}
    with opened(retries=2) as venue:
        session = venue.session()
        before = len(venue.vendor.server.requests)
        venue.vendor.replies = [ServerReply(status=429, headers=limit, document={"message": "too many requests."})]
        call = session.daily(SYMBOLS, session.session.date, session.session.date)
        if requests == 1:
            with pytest.raises(Unavailable, match="429") as caught:
                venue.wait(call)
            assert 30 < (caught.value.retry_after_s or 0.0) <= wait_s
            with pytest.raises(Unavailable, match="asked for a pause"):
                venue.wait(session.daily(SYMBOLS, session.session.date, session.session.date))
        else:
            assert venue.wait(call) == []
        assert len(venue.vendor.server.requests) - before == requests


def test_a_refusal_is_in_the_words_of_the_vendor(opened: Callable[..., Any]) -> None:
    """Data that the plan does not cover is a rejection, a wrong key a login, and neither is asked for again."""
    words = "subscription does not permit querying recent SIP data"
    with opened(retries=2) as venue:
        session = venue.session()
        venue.vendor.replies = [ServerReply(status=403, document={"message": words})]
        with pytest.raises(Rejected, match=words):
            venue.wait(session.history(SYMBOLS, MONDAY, MONDAY))
        venue.vendor.replies = [ServerReply(status=401, document={"message": "forbidden."})]
        with pytest.raises(LoginNeeded, match=r"data.*forbidden"):
            venue.wait(session.history(SYMBOLS, MONDAY, MONDAY))
        assert venue.vendor.replies == []
