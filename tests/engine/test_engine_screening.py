"""`tbot screen`: the symbols of the next session, with the reason of each strategy, as a session would choose them."""

from __future__ import annotations

import asyncio
import datetime as dt
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from tbot_core.contracts import BrokerCapabilities, Check, DailyBar, FeedCoverage, FeedQuality
from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine.screening import ScreenedSymbols, screen_symbols
from tbot_core.errors import DataError, Unavailable
from tbot_core.model.clock import ManualClock
from tbot_core.model.reasons import Reason
from tbot_core.model.window import Window
from tbot_core.testing.store import StoreFixture, exchange_sessions
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tbot_core.engine.assembly import Assembly
    from tbot_core.model.day_facts import DayFacts

SESSIONS = exchange_sessions("2019-11-01", "2019-12-03")
VOLUMES = {"AAA": 500.0, "BBB": 300.0, "CCC": 99.0}


class Vendor:
    """A broker with a live session of these symbols; a day without one where `sessions_` is empty."""

    capabilities = BrokerCapabilities(feed=True)
    session = SESSIONS[-1]

    def __init__(self, *, quality: FeedQuality, fault: Exception | None = None, ends: bool = False) -> None:
        self.symbols = tuple(VOLUMES)
        self.quality = quality
        self.deeds: list[str] = []
        self._fault, self._ends = fault, ends

    async def connect(self) -> None:
        """Log in."""
        self.deeds.append("connect")

    async def close(self) -> None:
        """Log out."""
        self.deeds.append("close")

    def feed(self, request: object) -> Vendor:
        """The feed is the vendor itself."""
        assert request
        return self

    async def sessions(self) -> AsyncIterator[Any]:
        """One session, or none."""
        for one in () if self._ends else (self,):
            yield one

    def messages(self, symbols: Sequence[str]) -> AsyncIterator[Any]:
        """Nothing is asked for."""
        raise AssertionError(symbols)

    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Any]:
        """Minutes are not asked for."""
        raise AssertionError(symbols, first, last)

    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        """Days at 10 USD with the symbol's volume."""
        if self._fault is not None:
            raise self._fault
        days = [one.date for one in SESSIONS[:-1] if first <= one.date <= last]
        price = {"open": 10.0, "high": 11.0, "low": 9.5, "close": 10.0}
        return [DailyBar(symbol=one, date=day, volume=VOLUMES[one], **price) for one in symbols for day in days]


class Busy:
    """A filter that denies symbols of little volume."""

    def screen(self, day: DayFacts, *_others: object) -> Sequence[Check]:
        """The mean volume is at least 100."""
        low, unknown = Reason.VOLUME_LOW, Reason.VOLUME_UNKNOWN
        return [Check(name="volume", value=day.average_volume, low=100.0, below=low, above=low, unknown=unknown)]


def entrant(name: str, start: int = 0) -> ActiveStrategy:
    """A strategy with a window of its own."""
    window = Window(start=start, analysis=10, breakout=10, monitoring=10)
    frame = StrategySettings(start_time=dt.time(14, 30), analysis_minutes=10, breakout_minutes=10, monitoring_minutes=9)
    return ActiveStrategy(name=name, rank=0, strategy=cast("Any", SimpleNamespace(window=window)), frame=frame)


def screened(folder: Path, vendor: Vendor, entrants: Sequence[ActiveStrategy] = (), **changes: Any) -> ScreenedSymbols:
    """The result for an instance that takes its bars from the vendor."""
    bench = StoreFixture(folder=folder)
    trading = SimpleNamespace(universe=(), universe_max=500, data_source="", broker_name="acme", api_timeout=1.0)
    settings = SimpleNamespace(
        trading=trading, simulation=SimpleNamespace(seed=0), instance=SimpleNamespace(bars=bench.bars)
    )
    assembly = SimpleNamespace(
        settings=settings,
        calendar=bench.calendar,
        clock=ManualClock(SESSIONS[-1].open),
        broker=lambda _name: vendor,
        quality=lambda _name: vendor.quality,
        rules=lambda _venue: attrs.evolve(rules(), filters={"busy": cast("Any", Busy())}, **changes),
        entrants=lambda _session: tuple(entrants) or (entrant("s"),),
        extensions=(),
    )
    return asyncio.run(screen_symbols(cast("Assembly", assembly), "acme"))


CONSOLIDATED = FeedQuality(coverage=FeedCoverage.CONSOLIDATED)


def test_each_strategy_has_its_own_reasons(tmp_path: Path) -> None:
    """A filter denies a symbol to all, a window that does not exist all symbols to its strategy."""
    vendor = Vendor(quality=CONSOLIDATED)
    found = screened(tmp_path, vendor, (entrant("early"), entrant("never", start=10_000)))
    assert found.symbols == ("AAA", "BBB", "CCC")
    assert found.passed("early") == ("AAA", "BBB")
    assert found.reasons["early"][2] is Reason.VOLUME_LOW
    assert found.passed("never") == ()
    assert {*found.reasons["never"]} == {Reason.WINDOW_OUTSIDE_SESSION}
    assert (found.universe.cut, found.universe.limit) == ((), 0)
    assert vendor.deeds == ["connect", "close"]


def test_a_limit_names_what_it_leaves_out(tmp_path: Path) -> None:
    """The denied go first, then those with the smallest dollar volume, as before a session."""
    found = screened(tmp_path, Vendor(quality=attrs.evolve(CONSOLIDATED, subscriptions=1)))
    assert (found.universe.symbols, found.universe.cut) == (("AAA",), ("BBB",))
    assert found.universe.denied == {"VOLUME_LOW": ("CCC",)}
    assert found.universe.counts is not None
    assert found.universe.counts.text == (
        "1 of 3 symbols subscribed (the feed's limit of subscriptions, 1; "
        "symbols left out: VOLUME_LOW 1, UNIVERSE_TRUNCATED 1)"
    )


@pytest.mark.parametrize("fault", [Unavailable("The vendor is down."), DataError("A bar is wrong.")])
def test_a_source_that_fails_is_logged_out(tmp_path: Path, fault: Exception) -> None:
    """The reason is raised as unavailable, and the login ends."""
    vendor = Vendor(quality=CONSOLIDATED, fault=fault)
    with pytest.raises(Unavailable, match=r"The vendor is down\.|A bar is wrong\."):
        screened(tmp_path, vendor)
    assert vendor.deeds[-1] == "close"


def test_a_source_without_a_session_says_so(tmp_path: Path) -> None:
    """Nothing is screened where the feed offers no session."""
    with pytest.raises(DataError, match=r"acme has no session\."):
        screened(tmp_path, Vendor(quality=CONSOLIDATED, ends=True))
