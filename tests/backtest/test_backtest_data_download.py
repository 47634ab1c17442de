"""A download: which sessions and symbols, what is stored besides bars, and what is refused."""

from __future__ import annotations

import asyncio
import datetime as dt
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
from tbot_broker_paper.broker import PaperBroker
from tbot_broker_paper.config import Config

from tbot_core.backtest.data_download import DownloadRequest, DownloadResult, download
from tbot_core.contracts import (
    Bar,
    BrokerCapabilities,
    DailyBar,
    FeedCoverage,
    FeedLabel,
    FeedMessage,
    FeedQuality,
    FeedRequest,
    Split,
)
from tbot_core.errors import DataError, PluginError, SettingsError, Unavailable
from tbot_core.marketdata.store import reference
from tbot_core.model.clock import ManualClock
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path


DAYS = exchange_sessions("2019-11-29", "2019-12-04")
WHOLE = FeedQuality(coverage=FeedCoverage.CONSOLIDATED, history_delay_s=900.0)
BEFORE = dt.date(2019, 11, 27)


class Vendor:
    """A broker, its feed and its session in one; it has these symbols, and their bars on all days."""

    capabilities = BrokerCapabilities(feed=True)

    def __init__(self, *symbols: str, simulated: bool = False) -> None:
        self.symbols = symbols
        self.label = FeedLabel(name="acme", simulated=simulated, quotes=True)
        self.session = DAYS[-1]
        self.quality = WHOLE
        self.request: FeedRequest | None = None
        self.closed = 0
        self.is_open = True

    def feed(self, request: FeedRequest) -> Vendor:
        """Itself."""
        self.request = request
        return self

    async def sessions(self) -> AsyncIterator[Vendor]:
        """Itself, unless it is shut."""
        if self.is_open:
            yield self

    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """A download receives nothing."""
        nothing: tuple[FeedMessage, ...] = ()
        for one in nothing:
            yield one
        raise AssertionError(symbols)

    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        """A download needs no days."""
        raise AssertionError(symbols, first, last)

    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        """The minutes that start in [first, last)."""
        names = "start", "open", "high", "low", "close", "volume"
        days = [day for day in DAYS if first < day.close and day.open < last]
        frames = ((one, rising_bars(one, days).select("ts", *names[1:])) for one in symbols)
        rows = ((one, row) for one, frame in frames for row in frame.iter_rows())
        found = (Bar(symbol=one, **dict(zip(names, row, strict=True))) for one, row in rows)
        return [bar for bar in found if first <= bar.start < last]

    async def close(self) -> None:
        """Log out."""
        self.closed += 1


class WithIndex(Vendor):
    """A vendor that knows the VIX of one day, and then answers no more."""

    capabilities = BrokerCapabilities(feed=True, daily_vix=True)
    asked = 0

    async def vix_close(self, day: dt.date) -> float | None:
        """The close of the first day that is asked for."""
        self.asked += 1
        if self.asked == 3:
            raise Unavailable("busy")
        return 14.5 if day == BEFORE else None


class WithSplits(Vendor):
    """A vendor that reports a split of each day that is asked for, and once none."""

    is_busy = True

    async def splits(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[Split]:
        """Two new shares for an old one, on the first and the last day."""
        if self.is_busy:
            self.is_busy = False
            raise Unavailable("busy")
        return [Split(symbol=one, date=day, before=1, after=2) for one in symbols for day in (first, last)]


def run(
    folder: Path,
    broker: object,
    *symbols: str,
    quality: FeedQuality | None = WHOLE,
    universe: Sequence[str] = (),
    days: tuple[str, str] = ("2019-11-29", "2019-12-04"),
    own: str = "acme",
    universe_max: int = 2,
    now: dt.datetime = DAYS[-1].close + dt.timedelta(minutes=10),
) -> DownloadResult:
    """Download into the store of this folder, ten minutes after the close of the last day."""
    bench = StoreFixture(folder=folder)
    settings = SimpleNamespace(
        instance=SimpleNamespace(bars=bench.bars),
        trading=SimpleNamespace(universe=tuple(universe), universe_max=universe_max, api_timeout=5.0),
        simulation=SimpleNamespace(seed=7),
    )
    assembly: Any = SimpleNamespace(
        settings=settings,
        calendar=bench.calendar,
        clock=ManualClock(now),
        broker=lambda _name: broker,
        quality=lambda _name: quality,
    )
    first, last = map(dt.date.fromisoformat, days)
    request = DownloadRequest(source="acme", days=(first, last), symbols=symbols)
    return asyncio.run(download(assembly, request, own, lambda _progress: None))


def test_sessions_that_are_over_are_downloaded(tmp_path: Path) -> None:
    """The last one is not: its bars come a quarter of an hour late. The plugin is logged out."""
    vendor = Vendor("AAA", "BBB")
    found = run(tmp_path, vendor)
    assert (found.sessions, found.symbols, found.unknown) == (DAYS[:-1], ("AAA", "BBB"), ())
    assert found.progress.bars == 2 * (210 + 390 + 390)
    assert StoreFixture(folder=tmp_path).store.sessions(DAYS[0].date, DAYS[-1].date) == DAYS[:-1]
    assert vendor.request is not None
    assert (vendor.request.kind, vendor.request.first, vendor.closed) == ("live", None, 1)


def test_symbols_are_the_named_ones_then_the_universe(tmp_path: Path) -> None:
    """What the source does not know is reported and left out; with nothing named they are all of the source."""
    vendor = Vendor("AAA", "BBB", "CCC")
    named = run(tmp_path, vendor, "AAA", "ZZZ", universe=["BBB"])
    assert (named.symbols, named.unknown) == (("AAA",), ("ZZZ",))
    assert run(tmp_path, vendor, universe=["BBB"]).symbols == ("BBB",)
    assert run(tmp_path, Vendor("AAA", "BRK/B")).symbols == ("AAA",)
    with pytest.raises(DataError, match="acme does not know YYY, ZZZ"):
        run(tmp_path, vendor, "ZZZ", "YYY")


def test_a_range_without_a_finished_session_is_refused(tmp_path: Path) -> None:
    """A weekend, and a day to come."""
    for days in (("2019-11-30", "2019-12-01"), ("2019-12-04", "2019-12-05")):
        with pytest.raises(DataError, match=f"No session from {days[0]} to {days[1]} is over"):
            run(tmp_path, Vendor("AAA"), days=days)


def test_a_source_without_minutes_of_earlier_sessions_is_refused(tmp_path: Path) -> None:
    """Nothing is connected, and no session counts as requested."""
    vendor = Vendor("AAA")
    with pytest.raises(DataError, match="acme has no minute bars of earlier sessions"):
        run(tmp_path, vendor, quality=attrs.evolve(WHOLE, minute_history=False))
    assert vendor.request is None
    assert not list(tmp_path.rglob("downloads.json"))


def test_a_source_without_history_is_refused(tmp_path: Path) -> None:
    """So is one that has no session at all."""
    vendor = Vendor("AAA")
    vendor.is_open = False
    with pytest.raises(PluginError, match="acme has no past bars"):
        run(tmp_path, vendor)


def test_simulated_bars_stay_out_of_an_instance_with_real_ones(tmp_path: Path) -> None:
    """Its VIX and capitalisations would count in decisions on real symbols."""
    with pytest.raises(SettingsError, match="acme are simulated, but this instance uses those of other"):
        run(tmp_path, Vendor("AAA", simulated=True), own="other")
    assert not (tmp_path / "bars").exists()
    assert run(tmp_path, Vendor("AAA", simulated=True)).progress.done == 3


def test_the_vix_is_stored_where_the_source_knows_it(tmp_path: Path) -> None:
    """Of the day before each session, if it is missing; a failure ends only that."""
    vendor = WithIndex("AAA")
    assert run(tmp_path, vendor).facts == 1
    assert reference.reference_facts(tmp_path / "bars").vix == {BEFORE: 14.5}
    assert run(tmp_path, vendor).facts == 0
    assert vendor.asked == 5


def test_splits_of_the_range_are_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They count as facts; that they cannot be had ends no download, and the log says so."""
    vendor = WithSplits("AAA")
    with caplog.at_level("WARNING"):
        assert run(tmp_path, vendor).facts == 0
    assert "splits.not_available" in caplog.text
    assert run(tmp_path, vendor).facts == 2
    stored = reference.reference_facts(tmp_path / "bars").splits
    assert [(one.symbol, one.date) for one in stored] == [("AAA", DAYS[0].date), ("AAA", DAYS[-2].date)]
    assert run(tmp_path, vendor).facts == 0


@pytest.mark.slow
def test_a_simulator_supplies_the_facts_of_its_days(tmp_path: Path) -> None:
    """The stored bars and facts equal those of its sessions; the second time there is nothing to add."""
    days, symbols, now = ("2026-10-01", "2026-10-02"), ("AXILO", "FENNO"), dt.datetime(2026, 10, 5, tzinfo=dt.UTC)
    broker = PaperBroker(Config(), ManualClock(now))
    found = run(tmp_path, broker, *symbols, quality=None, days=days, now=now)
    assert (found.progress.done, found.facts) == (4, 2 + 4)
    assert run(tmp_path, broker, *symbols, quality=None, days=days, now=now).facts == 0
    first, last = map(dt.date.fromisoformat, days)
    request = FeedRequest(kind="demo", first=first, sessions=2, symbols=symbols, seed=7)

    async def sessions() -> list[Any]:
        return [one async for one in broker.feed(request).sessions()]

    store = StoreFixture(folder=tmp_path).store
    (block,) = store.blocks(first, last, symbols)
    for index, one in enumerate(asyncio.run(sessions())):
        facts = store.facts([one.session], symbols).session(0)
        assert (facts.vix.tolist(), facts.market_cap.tolist()) == (one.day.vix.tolist(), one.day.market_cap.tolist())
        for name, field in one.rows.fields.items():
            np.testing.assert_array_equal(block.bars.field(name)[:, index], field, err_msg=name)
