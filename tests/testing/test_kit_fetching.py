"""The kit for filters that fetch finds what it is for: each deliberately broken filter fails its case."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts import Host
from tbot_core.errors import BrokerError, LoginNeeded, PluginError
from tbot_core.model.clock import ManualClock
from tbot_core.testing.fetching import CASES, FetchingContract
from tbot_core.testing.scripted_server import ScriptedServer, ServerReply, context

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping, Sequence

    from tbot_core.contracts import Context
    from tbot_core.testing.scripted_server import ServerRequest

pytestmark = pytest.mark.usefixtures("loopback")

HOSTS = {"api": Host("https://api.example.com")}


class Ratings:
    """An honest filter: one request for each symbol."""

    facts: Mapping[str, int] = {"rating": 7}

    def __init__(self, given: Context) -> None:
        self._http = given.connect.http("api")

    async def refresh(self, _day: dt.date, symbols: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """The ratings of these symbols."""
        return {symbol: await self.rating(symbol) for symbol in symbols}

    async def rating(self, symbol: str) -> Mapping[str, float]:
        """The rating of a symbol, {} for an unknown one."""
        found = (await self._http.get("/rating", {"symbol": symbol})).json().get("rating")
        return {} if found is None else {"rating": float(found)}


class Incomplete(Ratings):
    """It never fetches the rank."""

    facts: Mapping[str, int] = {"rating": 7, "rank": 1}


class Guessing(Ratings):
    """It takes an unknown symbol for the best one."""

    async def rating(self, symbol: str) -> Mapping[str, float]:
        """At least something."""
        return await super().rating(symbol) or {"rating": 5.0}


class Strict(Ratings):
    """An unknown symbol ends it."""

    async def rating(self, symbol: str) -> Mapping[str, float]:
        """The rating, or a failure."""
        found = await super().rating(symbol)
        assert found, symbol
        return found


class Lenient(Ratings):
    """Whatever fails counts as unknown."""

    async def rating(self, symbol: str) -> Mapping[str, float]:
        """The rating, or none."""
        try:
            return await super().rating(symbol)
        except BrokerError:
            return {}


class Persistent(Ratings):
    """It asks for all symbols in spite of a refused key."""

    async def refresh(self, day: dt.date, symbols: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """The refusal comes at the end."""
        refused: LoginNeeded | None = None
        for symbol in symbols:
            try:
                await self.rating(symbol)
            except LoginNeeded as fault:
                refused = fault
        if refused is not None:
            raise refused
        return await super().refresh(day, symbols)


class Boundless(Ratings):
    """Its numbers are not finite."""

    async def rating(self, symbol: str) -> Mapping[str, float]:
        """No number."""
        return {"rating": float("nan")} if await super().rating(symbol) else {}


class Venue:
    """A filter at a vendor that rates two symbols."""

    day = dt.date(2026, 11, 24)
    symbols = ("AAA", "BBB")

    def __init__(self, runner: asyncio.Runner, server: ScriptedServer, made: type[Ratings]) -> None:
        self._runner, self.server = runner, server
        self.context = context(server, hosts=HOSTS, clock=ManualClock(dt.datetime(2026, 11, 24, tzinfo=dt.UTC)))
        self.filter = made(self.context)

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The result of a call."""
        return self._runner.run(call)


def _answer(request: ServerRequest) -> ServerReply:
    return ServerReply(document={"rating": 4} if request.query["symbol"] in Venue.symbols else {})


@contextmanager
def venue_of(made: type[Ratings]) -> Iterator[Venue]:
    """A venue with a filter of this class."""
    with asyncio.Runner() as runner:
        server = ScriptedServer(_answer)
        runner.run(server.__aenter__())
        venue = Venue(runner, server, made)
        try:
            yield venue
        finally:
            runner.run(venue.context.connect.close())
            runner.run(server.__aexit__(None, None, None))


class TestHonestFilter(FetchingContract):
    """An honest filter keeps the contract."""

    @pytest.fixture
    def venue(self) -> Iterator[Venue]:
        """Its vendor."""
        with venue_of(Ratings) as found:
            yield found


@pytest.mark.parametrize(
    ("broken", "cases"),
    [
        (Incomplete, {"r01"}),
        (Guessing, {"r02"}),
        (Strict, {"r02"}),
        (Lenient, {"r03", "r04"}),
        (Persistent, {"r04"}),
        (Boundless, {"r01", "r02", "r03"}),
    ],
)
def test_a_broken_filter_fails_its_cases(broken: type[Ratings], cases: set[str]) -> None:
    """The cases that look for this fault find it."""
    failed = set()
    for case in CASES:
        with venue_of(broken) as venue:
            try:
                case(venue)
            except (AssertionError, PluginError):
                failed.add(case.__name__[:3])
    assert failed == cases
