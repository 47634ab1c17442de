"""Bars of a feed in the store: only what is missing is requested, whole sessions are kept, and facts equal replay's."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from tbot_core.contracts import Bar, DailyBar, FeedCoverage, FeedQuality
from tbot_core.errors import AccessError, DataError, Unavailable
from tbot_core.marketdata import history
from tbot_core.marketdata.history import (
    Downloader,
    DownloadProgress,
    DownloadSource,
    DownloadStore,
    add_reference_facts,
    volume_kind,
)
from tbot_core.marketdata.store import manifest, reference
from tbot_core.marketdata.store.daily_facts import ReferenceFacts, facts_from_daily_bars, look_back_sessions
from tbot_core.marketdata.store.manifest import LOCK
from tbot_core.marketdata.store.recorded_facts import RecordedFact
from tbot_core.marketdata.store.selection import select_symbols
from tbot_core.marketdata.store.verification import verify_store
from tbot_core.model.clock import ManualClock
from tbot_core.system import filesystem
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tbot_core.model.calendar import Session

DAYS = exchange_sessions("2019-11-27", "2019-12-03")
MINUTES = sum(day.minutes for day in DAYS)


@pytest.fixture
def bench(tmp_path: Path) -> StoreFixture:
    """An empty store."""
    return StoreFixture(folder=tmp_path)


def opened(bench: StoreFixture, name: str = "acme", volume: str = "consolidated") -> DownloadStore:
    """The store, as a feed of this name fills it."""
    return DownloadStore(bench.bars, bench.calendar, DownloadSource(name=name, volume=volume))


def bars_of(symbol: str, sessions: Iterable[Session], **changes: Any) -> list[Bar]:
    """The bars of whole sessions that `rising_bars` has, as a feed gives them."""
    columns = "ts", "open", "high", "low", "close", "volume"
    names = "start", *columns[1:]
    rows = rising_bars(symbol, sessions).select(columns).iter_rows()
    found = (Bar(symbol=symbol, **dict(zip(names, row, strict=True))) for row in rows)
    return [attrs.evolve(bar, **changes) for bar in found] if changes else list(found)


class Vendor:
    """A feed with these symbols on all days; it fails as often as `fails` says, and notes each request."""

    def __init__(self, symbols: Sequence[str] = ("AAA", "BBB"), fails: int = 0) -> None:
        self.symbols = tuple(symbols)
        self.fails = fails
        self.requests: list[tuple[tuple[str, ...], str, str]] = []

    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        """They are not requested here."""
        raise AssertionError(symbols, first, last)

    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        """The bars that start in [first, last)."""
        self.requests.append((tuple(symbols), first.date().isoformat(), last.date().isoformat()))
        if self.fails:
            self.fails -= 1
            raise Unavailable("busy", "Wait.")
        known = [symbol for symbol in symbols if symbol in self.symbols]
        return [bar for symbol in known for bar in bars_of(symbol, DAYS) if first <= bar.start < last]


def download(
    bench: StoreFixture, vendor: Vendor, symbols: Sequence[str] = ("AAA", "BBB"), *, attempts: int = 1
) -> list[DownloadProgress]:
    """Download all days; returns what was reported on the way."""
    seen: list[DownloadProgress] = []
    clock = ManualClock(DAYS[-1].close)
    made = Downloader(source=vendor, store=opened(bench), clock=clock, attempts=attempts, on_progress=seen.append)
    assert asyncio.run(made.download(DAYS, symbols)) == seen[-1]
    return seen


def test_what_was_downloaded_is_not_requested_again(bench: StoreFixture) -> None:
    """Each month is one request of all symbols; a second run asks nothing, a third only for the new symbol."""
    vendor = Vendor()
    done = download(bench, vendor)[-1]
    assert vendor.requests == [
        (("AAA", "BBB"), "2019-11-27", "2019-11-29"),
        (("AAA", "BBB"), "2019-12-02", "2019-12-03"),
    ]
    assert (done.done, done.total, done.skipped, done.bars, done.invalid) == (8, 8, 0, 2 * MINUTES, 0)
    again = download(bench, vendor)[-1]
    assert (again.done, again.total, again.skipped, again.bars, len(vendor.requests)) == (0, 0, 8, 0, 2)
    download(bench, Vendor(("CCC",)), ("AAA", "CCC"))
    assert bench.store.symbols(DAYS[0].date, DAYS[-1].date) == ("AAA", "BBB", "CCC")


def test_the_store_is_the_one_that_an_import_makes(bench: StoreFixture, tmp_path: Path) -> None:
    """Bars, facts and hash are the same as of a file with the same bars, and the check finds no fault."""
    download(bench, Vendor())
    other = StoreFixture(folder=tmp_path / "other")
    filesystem.make_folder(other.folder)
    other.put(rising_bars("AAA", DAYS), rising_bars("BBB", DAYS))
    ends = DAYS[0].date, DAYS[-1].date
    assert bench.store.data_hash(*ends, ["AAA", "BBB"]) == other.store.data_hash(*ends, ["AAA", "BBB"])
    assert verify_store(bench.bars, bench.calendar, lambda _name: None).findings == ()


def test_imported_bars_count_as_stored_and_are_kept(bench: StoreFixture) -> None:
    """Only the days that the file lacks are requested."""
    bench.put(rising_bars("AAA", DAYS[:1], price=50.0))
    vendor = Vendor()
    download(bench, vendor, ["AAA"])
    assert vendor.requests == [(("AAA",), "2019-11-29", "2019-11-29"), (("AAA",), "2019-12-02", "2019-12-03")]
    closes = bench.store.facts([DAYS[1], DAYS[2]], ["AAA"]).previous_close[:, 0]
    assert closes.tolist() == [53.9, 102.1]


@pytest.mark.parametrize("simulated", [False, True])
def test_simulated_bars_stay_labelled_in_the_store(bench: StoreFixture, *, simulated: bool) -> None:
    """A run over bars of a simulation says so, also where real bars of another symbol are used with them."""
    source = DownloadSource(name="acme", volume="consolidated", simulated=simulated)
    store = DownloadStore(bench.bars, bench.calendar, source)
    store.store({"AAA": DAYS}, bars_of("AAA", DAYS))
    opened(bench).store({"BBB": DAYS}, bars_of("BBB", DAYS))
    span = DAYS[0].date, DAYS[-1].date
    assert select_symbols(bench.store, *span, ()).label.simulated is simulated
    assert select_symbols(bench.store, *span, ["BBB"]).label.simulated is False


def test_symbols_are_requested_together_where_they_lack_the_same(bench: StoreFixture) -> None:
    """In a month that one of them has whole, only the others are requested."""
    bench.put(rising_bars("AAA", DAYS[:2]))
    vendor = Vendor()
    download(bench, vendor)
    assert [symbols for symbols, _, _ in vendor.requests] == [("BBB",), ("AAA", "BBB")]


def test_facts_besides_bars_are_added_and_never_replaced(bench: StoreFixture) -> None:
    """Closes of the VIX by day, capitalisations by symbol and day; what is there stays as it is."""
    first, second = DAYS[0].date, DAYS[1].date
    assert add_reference_facts(bench.bars, {first: 14.5}, {("AAA", first): 2e9}) == 2
    assert (
        add_reference_facts(bench.bars, {first: 99.0, second: 15.5}, {("AAA", first): 1.0, ("BBB", second): 3e9}) == 2
    )
    assert add_reference_facts(bench.bars, {}, {}) == 0
    found = reference.reference_facts(bench.bars)
    assert found.vix == {first: 14.5, second: 15.5}
    caps = found.recorded.at([first, second, second + dt.timedelta(days=1)], ["AAA", "BBB"])["market_cap"]
    np.testing.assert_array_equal(caps, [[np.nan, np.nan], [2e9, np.nan], [2e9, 3e9]])


def test_what_was_imported_comes_along_into_another_store(bench: StoreFixture, tmp_path: Path) -> None:
    """VIX and fundamentals, in place of those of the same day; facts that were fetched do not, and a copy is quiet."""
    first, second = DAYS[0].date, DAYS[1].date
    other = tmp_path / "other"
    reference.copy_imported(bench.bars, other)
    assert not other.exists()
    add_reference_facts(bench.bars, {first: 14.5}, {("AAA", first): 2e9})
    fetched = RecordedFact(name="pe_ratio", symbol="AAA", first=first, last=None, value=9.0)
    reference.add_fetched(bench.bars, [fetched])
    add_reference_facts(other, {first: 99.0, second: 15.5}, {})
    reference.copy_imported(bench.bars, other)
    before = manifest.read_facts(other)
    assert before.keys() == {manifest.VIX, manifest.FUNDAMENTALS}
    assert reference.reference_facts(other).vix == {first: 14.5, second: 15.5}
    reference.copy_imported(bench.bars, other)
    assert manifest.read_facts(other) == before


def test_a_symbol_without_bars_is_requested_once_of_each_feed(bench: StoreFixture) -> None:
    """It may not have been listed; another feed may know more."""
    vendor = Vendor()
    download(bench, vendor, ["NONE"])
    download(bench, vendor, ["NONE"])
    assert len(vendor.requests) == 2
    assert opened(bench).missing(DAYS, ["NONE"]) == {}
    assert opened(bench, "other").missing(DAYS, ["NONE"]) == {"NONE": DAYS}


def test_a_failed_request_is_repeated_after_a_growing_pause(bench: StoreFixture) -> None:
    """As often as allowed; then the error is raised, and what came before stays."""
    patient = Vendor(fails=3)
    assert download(bench, patient, attempts=4)[-1].done == 8
    assert len(patient.requests) == 5
    with pytest.raises(Unavailable, match="busy"):
        download(bench, Vendor(fails=2), ["CCC"], attempts=2)
    with pytest.raises(Unavailable, match="busy"):
        download(bench, Vendor(fails=1), ["CCC"])


def test_a_vendors_own_pause_is_kept(bench: StoreFixture) -> None:
    """If it is longer; at most so many seconds pass as the pauses last."""

    class Limited(Vendor):
        async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
            try:
                return await super().history(symbols, first, last)
            except Unavailable as fault:
                raise Unavailable(fault.message, retry_after_s=1.5) from fault

    clock = ManualClock(DAYS[-1].close)
    made = Downloader(source=Limited(fails=2), store=opened(bench), clock=clock, attempts=3)
    asyncio.run(made.download(DAYS, ["AAA"]))
    assert clock.monotonic() == 1.5 + 2.0


def test_a_large_request_is_split_by_symbols(bench: StoreFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its bars fit into memory; progress is reported after each part."""
    monkeypatch.setattr(history, "MOST_BARS", 700)
    vendor = Vendor()
    assert [one.done for one in download(bench, vendor)] == [0, 2, 4, 6, 8]
    assert [symbols for symbols, _, _ in vendor.requests] == [("AAA",), ("BBB",), ("AAA",), ("BBB",)]


def test_bars_that_were_not_requested_are_ignored(bench: StoreFixture) -> None:
    """Another symbol, another day, and a time outside regular hours."""
    inside = bars_of("AAA", DAYS[:1])
    early = attrs.evolve(inside[0], start=DAYS[0].open - dt.timedelta(minutes=1))
    late = attrs.evolve(inside[0], start=DAYS[0].close)
    others = [early, late, *bars_of("AAA", DAYS[1:2]), *bars_of("BBB", DAYS[:1])]
    assert opened(bench).store({"AAA": DAYS[:1]}, [*inside, *others]).bars == 390
    assert bench.store.sessions(DAYS[0].date, DAYS[-1].date) == DAYS[:1]


def test_invalid_bars_are_left_out_and_counted(bench: StoreFixture) -> None:
    """A price that is no number, a high below the low, a time off the minute; a repeated bar counts as well."""
    sound = bars_of("AAA", DAYS[:1])
    wrong = [
        attrs.evolve(sound[0], close=float("nan")),
        attrs.evolve(sound[1], high=1.0),
        attrs.evolve(sound[2], start=sound[2].start + dt.timedelta(seconds=7)),
        sound[3],
    ]
    stored = opened(bench).store({"AAA": DAYS[:1]}, [*sound[3:], *wrong])
    assert (stored.bars, stored.invalid) == (387, 4)


def test_volumes_are_whole_and_a_far_vwap_is_left_out(bench: StoreFixture) -> None:
    """As in a running session."""
    first, *rest = bars_of("AAA", DAYS[:1], vwap=101.0, volume=1.6)
    opened(bench).store({"AAA": DAYS[:1]}, [attrs.evolve(first, vwap=200.0), *rest])
    (block,) = bench.store.blocks(DAYS[0].date, DAYS[0].date, ["AAA"])
    np.testing.assert_array_equal(block.bars.field("vwap")[:2, 0, 0], [np.nan, 101.0])
    assert block.bars.field("volume")[0, 0, 0] == 2.0


def test_bars_of_another_kind_are_refused_by_symbol_and_month(bench: StoreFixture) -> None:
    """Two kinds of volume in one month would be compared; the month is named, and requested again later."""
    bench.put(rising_bars("AAA", DAYS[:1]))
    store = opened(bench, volume="partial")
    stored = store.store({"AAA": DAYS[1:]}, bars_of("AAA", DAYS[1:]))
    assert stored.bars == 2 * 390
    assert stored.refused == (
        "AAA in 2019-11: raw prices and consolidated volume are stored, but the feed has raw prices and partial volume",
    )
    assert store.missing(DAYS, ["AAA"]) == {"AAA": DAYS[1:2]}
    assert bench.store.partial_volume(DAYS[2].date, DAYS[3].date, ["AAA"]) == {"AAA"}


def test_two_processes_do_not_write_at_the_same_time(bench: StoreFixture) -> None:
    """The lock is that of an import."""
    filesystem.make_folder(bench.bars)
    with filesystem.hold_lock(bench.bars / LOCK), pytest.raises(AccessError, match="in use by another tbot"):
        opened(bench).store({"AAA": DAYS[:1]}, [])


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"format": 2, "feeds": {}}), json.dumps({"format": 1})])
def test_a_damaged_note_is_named(bench: StoreFixture, text: str) -> None:
    """With its file and what follows from its removal."""
    download(bench, Vendor())
    path = bench.bars / "2019-11" / "downloads.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"downloads.json is damaged or of a newer tbot") as raised:
        opened(bench).missing(DAYS, ["AAA"])
    assert "requested again" in raised.value.remedy


@pytest.mark.parametrize(
    ("quality", "kind"),
    [
        (None, "consolidated"),
        (FeedQuality(coverage=FeedCoverage.CONSOLIDATED), "consolidated"),
        (FeedQuality(coverage=FeedCoverage.DELAYED), "consolidated"),
        (FeedQuality(coverage=FeedCoverage.SINGLE_VENUE), "partial"),
    ],
)
def test_volumes_of_one_venue_are_partial(quality: FeedQuality | None, kind: str) -> None:
    """Those of any other feed, and of a simulator, are whole."""
    assert volume_kind(quality) == kind


def test_facts_of_daily_bars_equal_those_of_the_minutes(bench: StoreFixture) -> None:
    """Where both have the same highs, lows, closes and volumes; invalid and foreign bars count as none."""
    sessions = exchange_sessions("2019-11-01", "2019-12-03")
    bench.put(rising_bars("AAA", sessions[:-1]))
    days = [
        DailyBar(
            symbol="AAA",
            date=one.date,
            open=100.0,
            high=round(100.05 + (one.minutes - 1) / 100, 4),
            low=99.95,
            close=round(100.01 + (one.minutes - 1) / 100, 4),
            volume=sum(range(100, 100 + one.minutes)),
        )
        for one in sessions[:-1]
    ]
    foreign = [attrs.evolve(days[0], symbol="BBB"), attrs.evolve(days[0], date=dt.date(2019, 1, 2))]
    before = look_back_sessions(bench.calendar, sessions[-1].date)
    sources = ReferenceFacts(vix={sessions[-2].date: 14.5})
    found = facts_from_daily_bars([*days, *foreign], (*before, sessions[-1]), ("AAA",), sources)
    same = bench.store.facts(sessions[-1:], ["AAA"]).session(0)
    for name in ("previous_close", "average_volume", "atr", "restricted", "market_cap"):
        np.testing.assert_array_equal(getattr(found, name), getattr(same, name), err_msg=name)
    assert found.vix.tolist() == [14.5]
    wrong = [attrs.evolve(days[-1], low=0.0), attrs.evolve(days[-1], volume=float("nan"))]
    for one in wrong:
        facts = facts_from_daily_bars([*days[:-1], one], (*before, sessions[-1]), ("AAA",), sources)
        assert np.isnan(facts.previous_close).all()
