"""Finnhub as a server on this machine: companies, a calendar of reports, one key, and a limit of requests a minute."""

from __future__ import annotations

import asyncio
import datetime as dt
import zlib
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.model.clock import Clock, ManualClock
from tbot_core.system.secret import Secret
from tbot_core.testing.scripted_server import ScriptedServer, ServerReply, context
from tbot_filter_finnhub import NEEDS, Config, FinnhubCredentials, create, parse

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping

    from tbot_core.testing.scripted_server import ServerRequest

KEY: Final = "c0ffee0123456789abcd"
PER_MINUTE: Final = 60
_MINUTE_S: Final = 60.0
_VERSION: Final = "/api/v1"
_NO_ACCESS: Final = "You don't have access to this resource."


def company(pe: float | None = 20.0, debt: float | None = 0.5, cap_millions: float | None = 5_000.0) -> dict[str, Any]:
    """The metrics of a company, by the vendor's names; None leaves one out."""
    metrics = {parse.PE_KEYS[0]: pe, parse.DEBT_KEYS[0]: debt, parse.CAP_KEY: cap_millions}
    return {"beta": 1.1, "52WeekHigh": 120.0} | {name: value for name, value in metrics.items() if value is not None}


def drawn_company(symbol: str) -> dict[str, Any]:
    """The metrics of a company, drawn from its symbol: one in seven is dear, one in four is large."""
    drawn = zlib.crc32(symbol.encode())
    return company(pe=80.0 if drawn % 7 == 1 else 21.5, cap_millions=45_000.0 if drawn % 4 == 1 else 4_500.0)


@attrs.define(eq=False)
class FundamentalsServer:
    """Answers requests as Finnhub does; for a `ScriptedServer`: `ScriptedServer(FundamentalsServer(clock).answer)`.

    `companies` are metrics by symbol; `others` makes those of every other symbol, by default none. `reports` are the
    dates of reports by symbol. `no_access` maps a path, or a symbol, to the status with which it is refused: 403, 401,
    or 200 with an error in its body. `key` is accepted, with None every one. `times` are the moments of all requests,
    in seconds of the clock.
    """

    clock: Clock
    companies: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    reports: dict[str, dt.date] = attrs.field(factory=dict)
    others: Callable[[str], dict[str, Any]] = lambda _symbol: {}
    no_access: dict[str, int] = attrs.field(factory=dict)
    key: str | None = KEY
    most_rows: int = 1500
    times: list[float] = attrs.field(factory=list)
    refused: int = 0

    @property
    def busiest_minute(self) -> int:
        """The most requests in any 60 seconds, refused ones included."""
        window: deque[float] = deque()
        most = 0
        for moment in self.times:
            window.append(moment)
            while window[0] <= moment - _MINUTE_S:
                window.popleft()
            most = max(most, len(window))
        return most

    def answer(self, request: ServerRequest) -> ServerReply:
        """The answer to a request."""
        now = self.clock.monotonic()
        recent = [moment for moment in self.times if moment > now - _MINUTE_S]
        self.times.append(now)
        if len(recent) >= PER_MINUTE:
            self.refused += 1
            wait_s = str(round(recent[-PER_MINUTE] + _MINUTE_S - now + 0.5))
            words = {"error": "API limit reached. Please try again later. Remaining Limit: 0"}
            return ServerReply(status=429, document=words, headers={"retry-after": wait_s})
        given = request.headers.get("x-finnhub-token")
        if not given or given != (self.key or given):
            return ServerReply(status=401, document={"error": "Invalid API key"})
        path = request.path.removeprefix(_VERSION)
        status = self.no_access.get(path, self.no_access.get(request.query.get("symbol", "")))
        if status is not None:
            return ServerReply(status=status, document={"error": _NO_ACCESS})
        match path:
            case "/stock/metric":
                return ServerReply(document=self._metrics(request.query))
            case "/calendar/earnings":
                return ServerReply(document=self._calendar(request.query))
            case _:
                return ServerReply(status=404, document={"error": "Not found"})

    def _metrics(self, query: Mapping[str, str]) -> dict[str, Any]:
        symbol = query["symbol"]
        metric = self.companies[symbol] if symbol in self.companies else self.others(symbol)
        return {"metric": metric, "metricType": query["metric"], "series": {}, "symbol": symbol}

    def _calendar(self, query: Mapping[str, str]) -> dict[str, Any]:
        # The reports from the first to the last day, at most `most_rows`, the latest first.
        first, last = (dt.date.fromisoformat(query[name]) for name in ("from", "to"))
        due = sorted(((date, symbol) for symbol, date in self.reports.items() if first <= date <= last), reverse=True)
        rows = [
            {
                "date": date.isoformat(),
                "epsActual": None,
                "epsEstimate": 1.2,
                "hour": "amc",
                "quarter": (date.month + 2) // 3,
                "revenueActual": None,
                "revenueEstimate": 1_000_000,
                "symbol": symbol,
                "year": date.year,
            }
            for date, symbol in due
        ]
        return {"earningsCalendar": rows[: self.most_rows]}


class FinnhubVenue:
    """The filter, with every fact switched on, and the server behind it, in one event loop and in virtual time."""

    day = dt.date(2026, 11, 24)
    symbols = ("AAA", "BBB")

    def __init__(self, runner: asyncio.Runner, server: ScriptedServer, clock: Clock) -> None:
        self._runner, self.server = runner, server
        secrets = {"screener_api": FinnhubCredentials(api_key=Secret(KEY))}
        self.context = context(server, hosts=NEEDS.hosts, secrets=secrets, clock=clock)
        self.filter = create(Config(earnings_blackout=True), self.context)

    def received(self) -> list[str]:
        """How many requests for companies have come, a line for each ten."""
        asked = [request for request in self.server.requests if request.path.endswith("/stock/metric")]
        return [f"{number} requests for the facts of companies" for number in range(10, len(asked) + 1, 10)]

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Await a call in the loop of the filter and the server; returns its result."""
        return self._runner.run(call)


@contextmanager
def open_venue(runner: asyncio.Runner | None = None, clock: Clock | None = None) -> Iterator[FinnhubVenue]:
    """A server with two companies, one of which reports on the day after.

    A rehearsal brings its own event loop and clock; then every key is accepted, and every symbol is a company.
    """
    clock = clock or ManualClock(dt.datetime(2026, 11, 24, 13, tzinfo=dt.UTC))
    vendor = FundamentalsServer(clock, companies={symbol: company() for symbol in FinnhubVenue.symbols})
    vendor.reports = {"BBB": FinnhubVenue.day + dt.timedelta(days=1)}
    if runner is not None:
        vendor.key, vendor.others = None, drawn_company
    with asyncio.Runner() as own:
        runner = runner or own
        server = ScriptedServer(vendor.answer)
        runner.run(server.__aenter__())
        venue = FinnhubVenue(runner, server, clock)
        try:
            yield venue
        finally:
            runner.run(venue.context.connect.close())
            runner.run(server.__aexit__(None, None, None))
