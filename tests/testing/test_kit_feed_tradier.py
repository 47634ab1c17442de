"""A feed of Tradier's bars keeps the contract of feeds: one symbol a request, and one element is no list."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts import Bar, Context, DailyBar, FeedLabel, FeedQuality, FeedRequest, Heartbeat, Host, Quote
from tbot_core.errors import DataError, Unavailable
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.clock import ManualClock, exchange_time
from tbot_core.rehearsal.virtual_loop import VirtualLoop
from tbot_core.system.secret import Secret
from tbot_core.testing.feed import FeedContract
from tbot_core.testing.scripted_server import ScriptedServer, ServerReply, ServerRequest, context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

    from tbot_core.contracts import Feed, FeedMessage

HOSTS = {
    "api": Host("https://api.example.com", requests_per_minute=120),
    "stream": Host("wss://ws.example.com"),
}
MONDAY = dt.datetime(2019, 12, 9, 14, 0, tzinfo=dt.UTC)
"""Half an hour before the open."""
SYMBOLS = ("AAPL", "BRK.B")


# The plugin: what an author writes.

_QUIET_S = 4.0


def elements(document: Any, *path: str) -> list[Any]:
    """The elements of an envelope: none is the text `null`, or nothing; one is no list."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    if isinstance(document, list):
        return document
    return [document] if isinstance(document, dict) else []


def vendor_name(symbol: str) -> str:
    """A class of shares is written with a slash."""
    return symbol.replace(".", "/")


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """The numbers of a bar."""
    return {name: float(row[name]) for name in ("open", "high", "low", "close", "volume")}


def daily_bar(symbol: str, row: dict[str, Any]) -> DailyBar:
    """A bar of one day."""
    return DailyBar(symbol=symbol, date=dt.date.fromisoformat(row["date"]), **numbers(row))


def minute_bar(symbol: str, row: dict[str, Any]) -> Bar:
    """A bar of one minute; `time` is the exchange's, so that `timestamp` is read."""
    start = dt.datetime.fromtimestamp(int(row["timestamp"]), dt.UTC)
    return Bar(symbol=symbol, start=start, vwap=float(row["vwap"]), **numbers(row))


def moment(value: Any) -> dt.datetime:
    """A time of a quote: milliseconds, in older replies ISO 8601 with an offset."""
    if isinstance(value, str) and "-" in value:
        return dt.datetime.fromisoformat(value)
    return dt.datetime.fromtimestamp(int(value) / 1000, dt.UTC)


def quote(row: dict[str, Any]) -> Quote:
    """A quote; of its two sides the older one says how old it is."""
    times = [moment(row.get(f"{side}_date", row.get(f"{side}date"))) for side in ("bid", "ask")]
    return Quote(symbol=row["symbol"].replace("/", "."), bid=float(row["bid"]), ask=float(row["ask"]), time=min(times))


class TradierSession:
    """The running session."""

    quality = FeedQuality(coverage="consolidated", quotes=True)

    def __init__(self, plugin: TradierBroker, session: Session, symbols: tuple[str, ...]) -> None:
        self._plugin, self.session, self.symbols = plugin, session, symbols

    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        """Daily bars, one request a symbol."""
        wanted = {"interval": "daily", "start": first.isoformat(), "end": last.isoformat()}
        found = list[DailyBar]()
        for symbol in symbols:
            page = await self._plugin.http.get("/v1/markets/history", {"symbol": vendor_name(symbol), **wanted})
            found += [daily_bar(symbol, row) for row in elements(page.json(), "history", "day")]
        return found

    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        """Minute bars, one request a symbol; the vendor's times are New York's, and its end is included."""
        start, end = (f"{exchange_time(one):%Y-%m-%d %H:%M}" for one in (first, last))
        found = list[Bar]()
        for symbol in symbols:
            wanted = {"symbol": vendor_name(symbol), "interval": "1min", "start": start, "end": end}
            page = await self._plugin.http.get("/v1/markets/timesales", wanted | {"session_filter": "open"})
            bars = [minute_bar(symbol, row) for row in elements(page.json(), "series", "data")]
            found += [bar for bar in bars if first <= bar.start < last]
        return found

    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """Quotes by the stream, whose session is made over HTTP; the vendor streams no bars and no heartbeats."""
        made = (await self._plugin.http.send("POST", "/v1/markets/events/session")).json()["stream"]
        wanted = {"symbols": list(map(vendor_name, symbols)), "sessionid": made["sessionid"], "filter": ["quote"]}
        async with self._plugin.connect_to.websocket("stream", "/v1/markets/events") as connection:
            await connection.send(json.dumps(wanted))
            yield Heartbeat()
            while True:
                found: FeedMessage = Heartbeat()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_QUIET_S):
                        found = quote(json.loads(await connection.receive()))
                yield found


class TradierBroker:
    """The part of the broker that supplies bars; it is its own feed."""

    label = FeedLabel(name="Tradier", simulated=False, quotes=True)

    def __init__(self, given: Context) -> None:
        self.connect_to, self._clock = given.connect, given.clock
        headers = {"Authorization": given.secrets["broker"], "Accept": "application/json"}
        self.http = given.connect.http("api", headers=headers)

    def feed(self, request: FeedRequest) -> Feed:
        """The feed of a request; the vendor has no list of all symbols."""
        if not request.symbols:
            raise DataError("Tradier does not list its symbols.", "Name them in UNIVERSE.")
        self._symbols = request.symbols
        return self

    async def sessions(self) -> AsyncIterator[TradierSession]:
        """Today's session, or the next one."""
        session = ExchangeCalendar().current(self._clock.now())
        form = {"symbols": ",".join(map(vendor_name, self._symbols))}
        found = elements((await self.http.read("POST", "/v1/markets/quotes", form=form)).json(), "quotes", "quote")
        yield TradierSession(self, session, tuple(sorted(row["symbol"].replace("/", ".") for row in found)))


# The vendor, with a quote as in its saved reply.


class TradierServer:
    """Bars of three sessions before today, of two symbols."""

    def __init__(self, quotes: dict[str, Any]) -> None:
        self.server = ScriptedServer(self.answer, self.stream)
        self.replies: list[ServerReply] = []
        self.quote = quotes["quotes"]["quote"][0]
        calendar, self.sessions = ExchangeCalendar(), list[Session]()
        while len(self.sessions) < 3:
            self.sessions.insert(0, calendar.previous(self.sessions[0].date if self.sessions else MONDAY.date()))

    def answer(self, request: ServerRequest) -> ServerReply:
        """The answer to a request: one that a test has prepared, or that of the market."""
        if request.headers.get("authorization") != "Bearer a-token":
            return ServerReply(status=401, body=b"Invalid Access Token")
        if request.headers.get("accept") != "application/json":
            return ServerReply(body=b"<?xml version='1.0'?><history/>")
        if self.replies:
            return self.replies.pop(0)
        found = getattr(self, f"_{request.path.rpartition('/')[2]}")(request)
        return found if isinstance(found, ServerReply) else ServerReply(document=found)

    def _session(self, _request: ServerRequest) -> object:
        return {"stream": {"url": "https://stream.example.com/v1/markets/events", "sessionid": "c8638963"}}

    def _quotes(self, request: ServerRequest) -> object:
        asked = dict(pair.split("=") for pair in request.body.decode().split("&"))["symbols"]
        names = asked.replace("%2C", ",").replace("%2F", "/").split(",")
        found = [self.quote | {"symbol": name} for name in names if name in {"AAPL", "BRK/B"}]
        return {"quotes": enveloped("quote", found)}

    def _history(self, request: ServerRequest) -> object:
        asked, rows = request.query, list[Any]()
        for one in self.sessions:
            if asked["symbol"] in {"AAPL", "BRK/B"} and asked["start"] <= one.date.isoformat() <= asked["end"]:
                prices = {"open": 440, "high": 440.5, "low": 439.5, "close": 440.25}
                rows.append({"date": one.date.isoformat(), **prices, "volume": 2_000_000})
        return {"history": enveloped("day", rows)}

    def _timesales(self, request: ServerRequest) -> object:
        asked, rows = request.query, list[Any]()
        for start in (one.moment(minute) for one in self.sessions for minute in range(one.minutes) if minute % 10):
            local = exchange_time(start)
            known = asked["symbol"] in {"AAPL", "BRK/B"}
            if known and asked["start"] <= f"{local:%Y-%m-%d %H:%M}" <= asked["end"]:
                prices = {"price": 440.1, "open": 440, "high": 440.5, "low": 439.5, "close": 440.25, "vwap": 440.1}
                times = {"time": f"{local:%Y-%m-%dT%H:%M:%S}", "timestamp": int(start.timestamp())}
                rows.append({**times, **prices, "volume": 1000})
        return {"series": enveloped("data", rows)}

    async def stream(self, connection: Any) -> None:
        """The stream: nothing answers a subscription."""
        assert json.loads(await connection.recv())["sessionid"] == "c8638963"
        await connection.wait_closed()


def enveloped(name: str, rows: list[Any]) -> object:
    """Rows as the vendor writes them."""
    return {name: rows[0] if len(rows) == 1 else rows} if rows else "null"


class Venue:
    """The plugin at the server."""

    feed_symbols = SYMBOLS

    def __init__(self, runner: asyncio.Runner, vendor: TradierServer) -> None:
        self._runner, self.vendor, self.clock = runner, vendor, ManualClock(MONDAY)
        self._tasks = list[asyncio.Task[None]]()
        secrets = {"broker": Secret("Bearer a-token")}
        self.context = context(vendor.server, hosts=HOSTS, secrets=secrets, clock=self.clock, retries=1, timeout_s=2.0)
        self.broker = TradierBroker(self.context)

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The result of a call."""
        return self._runner.run(call)

    def trade_on_feed(self, symbol: str) -> None:
        """A quote, with numbers and with times as text."""
        row = {"type": "quote", "symbol": vendor_name(symbol), "bid": 439.9, "ask": 440.1}
        self._soon(self.vendor.server.tell(row | {"biddate": "1575900001000", "askdate": "1575900001250"}))

    def halt_on_feed(self, _symbol: str) -> None:
        """The vendor does not report halts."""

    def lose_feed(self) -> None:
        """The vendor's machine goes away."""
        self._soon(self.vendor.server.drop_sockets())

    def session(self) -> TradierSession:
        """The feed's session."""

        async def first() -> TradierSession:
            return await anext(self.broker.sessions())

        self.broker.feed(FeedRequest(kind="live", symbols=SYMBOLS))
        found: TradierSession = self.wait(first())
        return found

    def _soon(self, call: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(call))


@pytest.fixture(scope="module")
def payloads(shared: Path) -> Path:
    """The vendor's saved replies."""
    folder = shared / "payloads" / "tradier"
    if not folder.is_dir():
        pytest.skip(f"no saved replies at {folder}")
    return folder


@pytest.fixture
def opened(payloads: Path, loopback: None) -> Callable[[], Any]:  # noqa: ARG001  -- a fixture wanted for its effect
    """Opens a venue in virtual time."""

    @contextmanager
    def open_venue() -> Iterator[Venue]:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            vendor = TradierServer(json.loads((payloads / "quotes.json").read_text()))
            runner.run(vendor.server.__aenter__())
            venue = Venue(runner, vendor)
            try:
                yield venue
            finally:
                runner.run(venue.context.connect.close())
                runner.run(vendor.server.__aexit__(None, None, None))

    return open_venue


@pytest.mark.slow
class TestContract(FeedContract):
    """The feed keeps the contract."""

    @pytest.fixture
    def venue(self, opened: Callable[[], Any]) -> Iterator[Venue]:
        """A new server."""
        with opened() as venue:
            yield venue


def test_saved_quotes_and_calendar_are_read(payloads: Path) -> None:
    """A quote has the older of its two times, and the vendor's days of trading are those of the calendar."""
    rows = elements(json.loads((payloads / "quotes.json").read_text()), "quotes", "quote")
    assert [(one.symbol, one.bid, one.ask, one.time.isoformat()) for one in map(quote, rows)] == [
        ("AAPL", 438.6, 438.8, "2013-06-10T16:37:34-04:00"),
        ("MSFT", 35.43, 35.45, "2013-06-10T16:30:05-04:00"),
    ]
    days = elements(json.loads((payloads / "calendar.json").read_text()), "calendar", "days", "day")
    assert {one["date"]: one.get("open") for one in days if one["status"] == "open"} == {
        one.date.isoformat(): {"start": f"{exchange_time(one.open):%H:%M}", "end": f"{exchange_time(one.close):%H:%M}"}
        for one in ExchangeCalendar().sessions(dt.date(2013, 6, 1), dt.date(2013, 6, 30))
    }
    assert len(days) == 30


@pytest.mark.parametrize(
    ("document", "bars"),
    [
        ({"history": None}, 0),
        ({"history": "null"}, 0),
        ({"history": {"day": "null"}}, 0),
        ({"history": {"day": {"date": "2019-12-06", "open": 1, "high": 2, "low": 1, "close": 1.5, "volume": 9}}}, 1),
    ],
)
def test_none_and_one_are_no_lists(opened: Callable[[], Any], document: object, bars: int) -> None:
    """Each form of an answer without rows, or with a single one, has its bars."""
    with opened() as venue:
        session = venue.session()
        venue.vendor.replies = [ServerReply(document=document)]
        found = venue.wait(session.daily(("AAPL",), dt.date(2019, 12, 6), dt.date(2019, 12, 6)))
    assert len(found) == bars


def test_a_spent_limit_is_waited_for(opened: Callable[[], Any]) -> None:
    """A successful answer says that none is left until a moment in milliseconds: the next request goes after it."""
    expiry = MONDAY + dt.timedelta(seconds=20)
    spent = {"X-Ratelimit-Available": "0", "X-Ratelimit-Expiry": str(int(expiry.timestamp() * 1000))}
    with opened() as venue:
        session = venue.session()
        venue.vendor.replies = [ServerReply(document={"history": None}, headers=spent)]
        with pytest.raises(Unavailable, match="asked for a pause") as caught:
            venue.wait(session.daily(SYMBOLS, dt.date(2019, 12, 6), dt.date(2019, 12, 6)))
        venue.wait(venue.clock.sleep(caught.value.retry_after_s))
        assert venue.clock.now() >= expiry
        assert len(venue.wait(session.daily(SYMBOLS, dt.date(2019, 12, 6), dt.date(2019, 12, 6)))) == 2


def test_an_answer_that_is_no_json_is_none(opened: Callable[[], Any]) -> None:
    """XML, as the vendor answers without the header that asks for JSON, is no empty answer."""
    with opened() as venue:
        session = venue.session()
        venue.vendor.replies = [ServerReply(body=b"<?xml version='1.0'?><history/>")]
        with pytest.raises(Unavailable, match="cannot be read"):
            venue.wait(session.daily(SYMBOLS, dt.date(2019, 12, 6), dt.date(2019, 12, 6)))


def test_a_vendor_without_a_list_of_symbols_says_so(opened: Callable[[], Any]) -> None:
    """A DataError names the remedy."""
    with opened() as venue, pytest.raises(DataError, match="does not list"):
        venue.broker.feed(FeedRequest(kind="live"))
