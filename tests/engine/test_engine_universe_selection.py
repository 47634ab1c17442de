"""The universe of a live session: filters first, the cut last, and facts that replay would have too."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import attrs
import numpy as np
import pytest

from tbot_core.backtest.explanations import explain_received
from tbot_core.contracts import (
    Bar,
    BrokerCapabilities,
    Check,
    DailyBar,
    FeedCoverage,
    FeedMessage,
    FeedQuality,
    FeedRequest,
    LiveSession,
    Split,
    SupportsSplits,
)
from tbot_core.contracts.feed import ExtraFacts
from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine.live.feed_connection import FeedConnection, limit_to_hours
from tbot_core.engine.session.fact_refresh import FactRefresher
from tbot_core.engine.session.universe_selection import UniverseSelector, universe_selector, watched_request
from tbot_core.engine.session.vix import VixSources
from tbot_core.errors import Rejected, TbotError, Unavailable
from tbot_core.journal import codec, records
from tbot_core.journal.codec import fill_facts
from tbot_core.journal.events.sessions import CarriedPosition
from tbot_core.journal.store import Event
from tbot_core.marketdata.history import add_reference_facts
from tbot_core.marketdata.received_bars import RecordedSession, RecordingHeader, SessionRecorder, read_recording
from tbot_core.marketdata.store import manifest, reference
from tbot_core.model.clock import ManualClock
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Fill, SignalId
from tbot_core.model.window import Window
from tbot_core.rehearsal.world import World
from tbot_core.system import filesystem
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy
from tbot_core.trading.universe import Universe, VixClose

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from tbot_core.model.calendar import Session
    from tbot_core.model.day_facts import DayFacts

SESSIONS = exchange_sessions("2019-11-01", "2019-12-03")
PAST, TODAY = SESSIONS[:-1], SESSIONS[-1]
WHOLE = FeedQuality(coverage=FeedCoverage.CONSOLIDATED)
BARS = {
    (symbol, session.date): [
        Bar(symbol=symbol, **dict(zip(("start", "open", "high", "low", "close", "volume"), row, strict=True)))
        for row in rising_bars(symbol, [session], price=price)
        .select("ts", "open", "high", "low", "close", "volume")
        .iter_rows()
    ]
    for symbol, price in (("AAA", 100.0), ("BBB", 50.0))
    for session in PAST
}


class Vendor:
    """A live session of these symbols and daily volumes; AAA and BBB have minutes, and each request is noted."""

    session = TODAY

    def __init__(self, volumes: Mapping[str, float], quality: FeedQuality = WHOLE) -> None:
        self.symbols = tuple(sorted(volumes))
        self.quality = quality
        self.requests: list[tuple[str, tuple[str, ...]]] = []
        self._volumes = volumes

    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """Nothing is heard before the open."""
        nothing: tuple[FeedMessage, ...] = ()
        for one in nothing:
            yield one
        raise AssertionError(symbols)

    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        """Days at 10 USD with the symbol's volume."""
        self.requests.append(("daily", tuple(symbols)))
        days = [one.date for one in PAST if first <= one.date <= last]
        price = {"open": 10.0, "high": 11.0, "low": 9.5, "close": 10.0}
        return [DailyBar(symbol=one, date=day, volume=self._volumes[one], **price) for one in symbols for day in days]

    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        """The minutes that start in [first, last)."""
        self.requests.append(("history", tuple(symbols)))
        found = [bar for (symbol, _), bars in BARS.items() if symbol in symbols for bar in bars]
        return [bar for bar in found if first <= bar.start < last]


class Busy:
    """A filter that denies symbols of little volume."""

    def screen(self, day: DayFacts, *_others: object) -> Sequence[Check]:
        """The mean volume is at least 100."""
        low, unknown = Reason.VOLUME_LOW, Reason.VOLUME_UNKNOWN
        return [Check(name="volume", value=day.average_volume, low=100.0, below=low, above=low, unknown=unknown)]

    def judge(self, *_market: object) -> Sequence[Check]:
        """Nothing."""
        return ()


class Broker:
    """A data source that knows the VIX and capitalisations."""

    capabilities = BrokerCapabilities(daily_vix=True, market_caps=True)

    async def vix_close(self, day: dt.date) -> float | None:
        """The close of the session before."""
        return 17.25 if day == PAST[-1].date else None

    async def market_caps(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """That of AAA."""
        return {symbol: 2e9 for symbol in symbols if symbol == "AAA"}


def entrant(start: int = 0) -> ActiveStrategy:
    """A strategy with a window of its own."""
    window = Window(start=start, analysis=10, breakout=10, monitoring=10)
    frame = StrategySettings(start_time=dt.time(14, 30), analysis_minutes=10, breakout_minutes=10, monitoring_minutes=9)
    return ActiveStrategy(name="s", rank=0, strategy=cast("Any", SimpleNamespace(window=window)), frame=frame)


def selector(folder: Path, *, server: object = None, **changes: Any) -> UniverseSelector:
    """A selector over an instance's bar store; `changes` are fields of it, or of its rules."""
    bench = StoreFixture(folder=folder)
    ours = {name: changes.pop(name) for name in ("symbols", "extra", "entrants") if name in changes}
    brokers = () if server is None else (server,)
    return UniverseSelector(
        calendar=bench.calendar,
        clock=ManualClock(TODAY.open),
        bars=bench.bars,
        source="acme",
        server=server,
        vix=VixSources(calendar=bench.calendar, brokers=brokers, bars=bench.bars),
        rules=attrs.evolve(rules(), **changes),
        facts=FactRefresher(sources={}, bars=bench.bars, clock=ManualClock(TODAY.open)),
        **{"entrants": lambda _session: (entrant(),), **ours},
    )


def select(made: UniverseSelector, source: Any) -> Universe:
    """The selected universe, of an empty journal."""
    return asyncio.run(made.select(source, ()))


def test_facts_are_those_of_a_replay(tmp_path: Path) -> None:
    """The minutes of the look-back are downloaded, and the store computes the facts, typical volume included."""
    source, made = Vendor({"AAA": 1.0, "BBB": 1.0}), selector(tmp_path, extra=ExtraFacts(typical_volume=True))
    found = select(made, source)
    other = StoreFixture(folder=tmp_path / "other")
    filesystem.make_folder(other.folder)
    other.put(*(rising_bars(symbol, PAST, price=price) for symbol, price in (("AAA", 100.0), ("BBB", 50.0))))
    replay = other.store.facts([TODAY], ["AAA", "BBB"], extra=ExtraFacts(typical_volume=True)).session(0)
    for name, value in replay.arrays().items():
        np.testing.assert_array_equal(found.day.arrays()[name], value, err_msg=name)
    assert (found.symbols, found.cut, found.watch_only) == (("AAA", "BBB"), (), frozenset())
    assert {name for name, _ in source.requests} == {"history"}
    again = Vendor({"AAA": 1.0, "BBB": 1.0})
    select(made, again)
    assert again.requests == []


def test_vix_and_capitalisations_come_from_the_data_source(tmp_path: Path) -> None:
    """Where it has them; the rest from the store, which has none."""
    found = select(selector(tmp_path, server=Broker()), Vendor({"AAA": 1.0, "BBB": 1.0}))
    assert found.day.vix.tolist() == [17.25]
    np.testing.assert_array_equal(found.day.market_cap, [2e9, np.nan])


class Refresher:
    """It stores the close of the session before, and says what went wrong; `sessions` are those of its calls."""

    def __init__(self, bars: Path) -> None:
        self.bars, self.sessions = bars, list[dt.date]()

    async def refresh(self, session: Session) -> tuple[str, ...]:
        """As a download before the bell."""
        self.sessions.append(session.date)
        add_reference_facts(self.bars, {PAST[-1].date: 16.5}, {})
        return ("Series vix: acme: slow.",)


def test_the_stored_vix_counts_after_that_of_the_data_source(tmp_path: Path) -> None:
    """Also where the facts of the day come from stored minutes."""
    made = selector(tmp_path, server=Broker())
    filesystem.make_folder(made.bars)
    add_reference_facts(made.bars, {PAST[-1].date: 16.5}, {})
    found = select(made, Vendor({"AAA": 1.0, "BBB": 1.0}))
    assert found.vix == VixClose(value=17.25, day=PAST[-1].date, source="Broker")


def still_held() -> list[Event]:
    """The events of a session that could not close AAA."""
    signal = SignalId(session=PAST[-1].date, strategy="s", symbol="AAA", minute=20, rule="breakout")
    shares: dict[str, Any] = {"quantity": Decimal(7), "price": Decimal(60), "fees": Decimal(0), "time": PAST[-1].open}
    fill = Fill(execution_id="1", client_order_id="", symbol="AAA", buy=True, **shares)
    stuck = codec.write(CarriedPosition(signal=signal, **fill_facts(fill))) | {
        "side": "long",
        "words": "halted",
        "attempts": {},
    }
    payloads = {records.STUCK: stuck, records.SESSION_CLOSED: {"account": "a"}}
    time = PAST[-1].close
    return [
        Event(seq=seq, kind=kind, cid=None, source=None, payload=payload, received=time, applied=time, hash="")
        for seq, (kind, payload) in enumerate(payloads.items(), 1)
    ]


def test_series_are_refreshed_before_the_facts_of_the_day(tmp_path: Path) -> None:
    """So the VIX of the day is the downloaded one; a restart with a position after the bell does not wait for it."""
    made = selector(tmp_path)
    series: Any = Refresher(made.bars)
    found = select(attrs.evolve(made, series=series), Vendor({"AAA": 1.0, "BBB": 1.0}))
    assert (found.day.vix.tolist(), found.series) == ([16.5], ("Series vix: acme: slow.",))
    assert found.vix == VixClose(value=16.5, day=PAST[-1].date, source="stored")
    assert series.sessions == [TODAY.date]
    again = attrs.evolve(made, series=series)
    held = asyncio.run(again.select(Vendor({"AAA": 1.0, "BBB": 1.0}), still_held()))
    assert (held.series, series.sessions) == ((), [TODAY.date])


def test_the_cut_comes_after_the_filters(tmp_path: Path) -> None:
    """What every strategy denies goes first, whatever its volume, then the smallest; each is named with its reason."""
    volumes = {"AAA": 500.0, "BBB": 300.0, "CCC": 400.0, "DDD": 99.0, "EEE": 98.0}
    source = Vendor(volumes)
    made = selector(tmp_path, universe_max=2, filters={"busy": Busy()})
    found = select(made, source)
    assert (found.symbols, found.cut) == (("AAA", "CCC"), ("BBB",))
    assert found.denied == {"VOLUME_LOW": ("DDD", "EEE")}
    assert found.counts is not None
    assert (found.counts.listed, found.counts.subscribed, found.counts.limit) == (5, 2, 2)
    assert found.counts.left_out == {"VOLUME_LOW": 2, "UNIVERSE_TRUNCATED": 1}
    assert source.requests[0] == ("daily", tuple(volumes))
    assert {symbols for name, symbols in source.requests if name == "history"} == {("AAA", "CCC")}
    np.testing.assert_array_equal(found.day.previous_close, [103.9, np.nan])
    no_strategy = select(selector(tmp_path, universe_max=2, entrants=lambda _session: ()), source)
    assert (no_strategy.symbols, no_strategy.denied) == (("AAA", "CCC"), {})


class Listing(Vendor):
    """A vendor that lists what cannot be traded too, and symbols of another spelling."""

    def __init__(self, *symbols: str) -> None:
        super().__init__(dict.fromkeys(symbols, 1.0), attrs.evolve(WHOLE, minute_history=False))
        self.left_out = {"not tradable": 3}


def test_what_the_vendor_does_not_offer_is_counted(tmp_path: Path) -> None:
    """By the vendor's reason and by the spelling; of named symbols only those that are unknown, also on a short day."""
    source = Listing("AAA", "BBB", "b b")
    everything = select(selector(tmp_path), source).counts
    assert everything is not None
    assert (everything.listed, everything.subscribed) == (6, 2)
    assert everything.left_out == {"not tradable": 3, "not the symbol of a share": 1}
    named = select(selector(tmp_path, symbols=("AAA", "ZZZ")), source).counts
    assert named is not None
    assert (named.listed, named.left_out) == (2, {"unknown to the feed": 1})
    short = attrs.evolve(TODAY, close=TODAY.close - dt.timedelta(hours=3))
    assert select(selector(tmp_path), limit_to_hours(cast("LiveSession", source), short)).counts == everything


def test_a_symbol_that_one_strategy_may_enter_is_not_denied(tmp_path: Path) -> None:
    """A window that does not exist today denies all symbols of its own strategy only."""
    both = (entrant(start=10_000), entrant())
    found = select(selector(tmp_path, universe_max=1, entrants=lambda _session: both), Vendor({"AAA": 2.0, "BBB": 1.0}))
    assert (found.cut, found.denied) == (("BBB",), {})
    late = select(
        selector(tmp_path, universe_max=1, entrants=lambda _session: both[:1]), Vendor({"AAA": 2.0, "BBB": 1.0})
    )
    assert (late.symbols, late.cut, late.denied) == (("AAA",), (), {"WINDOW_OUTSIDE_SESSION": ("BBB",)})


def test_watched_symbols_are_subscribed_but_not_traded(tmp_path: Path) -> None:
    """SPY, QQQ, IWM and WATCH_ONLY count inside the limit; what is neither traded nor watched is left out."""
    volumes = {"AAA": 500.0, "BBB": 300.0, "ETF": 1.0, "OTHER": 900.0, "SPY": 2.0}
    made = selector(tmp_path, symbols=("AAA", "BBB", "ETF"), watch_only=frozenset({"ETF"}), universe_max=3)
    found = select(made, Vendor(volumes))
    assert (found.symbols, found.cut) == (("AAA", "ETF", "SPY"), ("BBB",))
    assert found.watch_only == {"ETF", "SPY"}
    everything = select(selector(tmp_path, watch_only=frozenset({"ETF"})), Vendor(volumes))
    assert (everything.symbols, everything.watch_only) == (tuple(volumes), frozenset({"ETF"}))


def test_without_minute_history_the_daily_bars_are_the_facts(tmp_path: Path) -> None:
    """No minute is requested, and nothing is stored."""
    source = Vendor({"AAA": 500.0, "BBB": 300.0}, attrs.evolve(WHOLE, minute_history=False))
    found = select(selector(tmp_path, extra=ExtraFacts(typical_volume=True)), source)
    assert found.day.average_volume.tolist() == [500.0, 300.0]
    assert found.day.previous_close.tolist() == [10.0, 10.0]
    assert found.day.atr.tolist() == [1.5, 1.5]
    assert found.day.typical_volume is None
    assert source.requests == [("daily", ("AAA", "BBB"))]
    assert not (tmp_path / "bars").exists()


def test_one_venue_has_its_own_typical_volume_but_consolidated_means(tmp_path: Path) -> None:
    """MIN_VOLUME_THRESHOLD means the whole tape, which only the daily bars have."""
    source = Vendor({"AAA": 500.0, "BBB": 300.0}, attrs.evolve(WHOLE, coverage=FeedCoverage.SINGLE_VENUE))
    found = select(selector(tmp_path, extra=ExtraFacts(typical_volume=True)), source)
    assert found.day.average_volume.tolist() == [500.0, 300.0]
    assert found.day.previous_close.tolist() == [103.9, 53.9]
    assert found.day.typical_volume is not None
    assert found.day.typical_volume[0, 0] == 100.0
    bench = StoreFixture(folder=tmp_path)
    assert bench.store.partial_volume(PAST[0].date, PAST[-1].date, ["AAA"]) == {"AAA"}


@pytest.mark.parametrize("minute_history", [True, False])
def test_daily_bars_come_from_the_data_source_in_the_shares_of_the_day(tmp_path: Path, minute_history: bool) -> None:
    """Of as many sessions as are wanted, whether the feed has minutes or not; a later split changes nothing."""
    split, later = PAST[-2].date, TODAY.date + dt.timedelta(days=1)
    rows = f"date,symbol,before,after\n{split},AAA,1,5\n{later},AAA,1,7\n"
    StoreFixture(folder=tmp_path).put_text(rows, name="splits.csv")
    source = Vendor({"AAA": 500.0, "BBB": 300.0}, attrs.evolve(WHOLE, minute_history=minute_history))
    found = select(selector(tmp_path, extra=ExtraFacts(daily_bars=4)), source).day.daily
    assert found is not None
    np.testing.assert_array_equal(found.close, [[2.0, 2.0, 10.0, 10.0], [10.0] * 4])
    np.testing.assert_array_equal(found.volume, [[2500.0, 2500.0, 500.0, 500.0], [300.0] * 4])
    assert source.requests[-1] == ("daily", ("AAA", "BBB"))


class Splitting(Vendor):
    """A vendor that reports these splits, or fails with these errors, one after the other."""

    def __init__(self, *found: Split | TbotError, quality: FeedQuality = WHOLE) -> None:
        super().__init__({"AAA": 500.0, "BBB": 300.0}, quality)
        self.found = [one for one in found if isinstance(one, Split)]
        self.faults = [one for one in found if isinstance(one, TbotError)]
        self.asked: list[tuple[tuple[str, ...], dt.date, dt.date]] = []

    async def splits(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[Split]:
        """All of them, whatever is asked for."""
        self.asked.append((tuple(symbols), first, last))
        if self.faults:
            raise self.faults.pop(0)
        return self.found


FIVE = Split(symbol="AAA", date=PAST[-2].date, before=1, after=5)
NO_MINUTES = attrs.evolve(WHOLE, minute_history=False)


def stored_splits(folder: Path) -> list[tuple[Any, ...]]:
    """The rows of the table of splits."""
    return list(reference.read_table(StoreFixture(folder=folder).bars, manifest.SPLITS).iter_rows())


@pytest.mark.parametrize("quality", [WHOLE, NO_MINUTES, attrs.evolve(WHOLE, coverage=FeedCoverage.SINGLE_VENUE)])
def test_a_split_that_the_source_reports_is_no_crash(tmp_path: Path, quality: FeedQuality) -> None:
    """Whichever bars the facts are from, those before the split are in the new shares, and a replay has it too."""
    on_the_day = Split(symbol="BBB", date=TODAY.date, before=2, after=1)
    found = select(selector(tmp_path, extra=ExtraFacts(daily_bars=4)), Splitting(FIVE, on_the_day, quality=quality)).day
    assert found.daily is not None
    np.testing.assert_array_equal(found.daily.close, [[2.0, 2.0, 10.0, 10.0], [20.0] * 4])
    minutes = quality.minute_history
    np.testing.assert_allclose(found.previous_close, [103.9, 107.8] if minutes else [10.0, 20.0])
    assert stored_splits(tmp_path) == [("AAA", FIVE.date, 1, 5), ("BBB", TODAY.date, 2, 1)]


def test_splits_are_requested_once_a_session(tmp_path: Path) -> None:
    """Of the look-back's days and the session's own; for further symbols again, and after a failure."""
    source, made = (
        Splitting(Unavailable("busy"), quality=NO_MINUTES),
        selector(tmp_path, extra=ExtraFacts(daily_bars=2)),
    )
    with pytest.raises(Unavailable, match="busy"):
        select(made, source)
    for _ in range(2):
        select(made, source)
    both = ("AAA", "BBB")
    assert source.asked == [(both, PAST[-21].date, TODAY.date)] * 2
    asyncio.run(made.daily_facts(cast("Any", source), ("AAA",)))
    assert len(source.asked) == 2
    source.symbols = ("AAA", "BBB", "CCC")
    source._volumes = dict.fromkeys(source.symbols, 1.0)
    select(made, source)
    assert [symbols for symbols, *_ in source.asked[2:]] == [source.symbols]


def test_a_stored_split_is_not_overwritten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same ratio in other numbers is no difference; another ratio is logged, and the stored one counts."""
    rows = f"date,symbol,before,after\n{FIVE.date},AAA,1,5\n{FIVE.date},BBB,2,4\n"
    StoreFixture(folder=tmp_path).put_text(rows, name="splits.csv")
    theirs = (attrs.evolve(FIVE, after=2), Split(symbol="BBB", date=FIVE.date, before=1, after=2))
    with caplog.at_level("WARNING"):
        found = select(selector(tmp_path, extra=ExtraFacts(daily_bars=3)), Splitting(*theirs, quality=NO_MINUTES))
    assert found.day.daily is not None
    assert found.day.daily.close[0].tolist() == [2.0, 10.0, 10.0]
    assert stored_splits(tmp_path) == [("AAA", FIVE.date, 1, 5), ("BBB", FIVE.date, 2, 4)]
    (line,) = [one.getMessage() for one in caplog.records if "splits.differ" in one.getMessage()]
    assert all(words in line for words in ("AAA", "1 to 5", "1 to 2"))


def test_what_is_no_split_of_the_request_is_not_stored(tmp_path: Path) -> None:
    """Another symbol, a day outside the look-back, one share for one; what comes twice is stored once."""
    outside = [attrs.evolve(FIVE, date=day) for day in (PAST[-21].date - dt.timedelta(1), TODAY.date + dt.timedelta(1))]
    wrong = (attrs.evolve(FIVE, symbol="ZZZ"), *outside, attrs.evolve(FIVE, date=PAST[-3].date, after=1))
    select(selector(tmp_path), Splitting(*wrong, FIVE, FIVE, quality=NO_MINUTES))
    assert stored_splits(tmp_path) == [("AAA", FIVE.date, 1, 5)]


@pytest.mark.parametrize("fault", [Unavailable("busy"), Rejected("no such path")])
def test_without_splits_only_a_strategy_of_days_waits(
    tmp_path: Path, fault: TbotError, caplog: pytest.LogCaptureFixture
) -> None:
    """Others trade with the stored splits, and the log says so; one that reads days is not ready."""
    with caplog.at_level("WARNING"):
        select(selector(tmp_path), Splitting(fault, quality=NO_MINUTES))
    assert "splits.not_available" in caplog.text
    with pytest.raises(type(fault)):
        select(selector(tmp_path, extra=ExtraFacts(daily_bars=1)), Splitting(fault, quality=NO_MINUTES))


def test_bars_of_another_kind_in_the_store_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The feed's are not stored there: these days do not count, and the log says so."""
    StoreFixture(folder=tmp_path).put(rising_bars("AAA", PAST[-2:-1]), adjustment="split")
    with caplog.at_level("WARNING"):
        select(selector(tmp_path), Vendor({"AAA": 500.0}))
    assert "history.not_stored" in caplog.text


def test_a_store_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    """The session is not ready, and the request is repeated."""
    (tmp_path / "bars").write_text("")
    with pytest.raises(Unavailable, match="bars"):
        select(selector(tmp_path), Vendor({"AAA": 500.0}))


def test_a_session_of_whole_minutes_keeps_its_symbols_and_facts(tmp_path: Path) -> None:
    """Only a VIX that it lacks is added."""
    world = World(6, (), rates={})
    found = select(selector(tmp_path, universe_max=1), world.feed())
    assert found.symbols == world.market.symbols
    assert found.day.vix.tolist() == world.universe().day.vix.tolist()
    world.loop.finish()


def test_a_named_universe_is_requested_with_what_is_watched_and_held() -> None:
    """A feed that may choose is asked for everything anyway."""
    assembly: Any = SimpleNamespace(settings=SimpleNamespace(trading=SimpleNamespace(watch_only=("GLD",))))
    whole, named = FeedRequest(kind="live"), FeedRequest(kind="live", symbols=("MSFT", "AAPL"))
    assert watched_request(whole, assembly, WHOLE) is whole
    assert watched_request(named, assembly, None) is named
    assert watched_request(named, assembly, WHOLE).symbols == ("AAPL", "GLD", "IWM", "MSFT", "QQQ", "SPY")


def test_the_selector_of_a_run_has_its_settings(tmp_path: Path) -> None:
    """Bars of the instance, noted under the data source's name."""
    settings = SimpleNamespace(
        instance=SimpleNamespace(bars=tmp_path), trading=SimpleNamespace(data_source="", broker_name="acme")
    )
    assembly: Any = SimpleNamespace(
        settings=settings, calendar=None, clock=None, rules=lambda _venue: rules(), entrants=None, extensions=()
    )
    made = universe_selector(assembly, FeedRequest(kind="live", symbols=("A",)), BrokerCapabilities(), ("server", "x"))
    assert (made.source, made.symbols, made.server, made.vix.brokers) == ("acme", ("A",), "server", ("server", "x"))


def test_why_names_the_filter_that_kept_a_symbol_out(tmp_path: Path) -> None:
    """A denied symbol that the limit left out has the filter's reason, a cut one UNIVERSE_TRUNCATED, with numbers."""
    volumes = {"AAA": 500.0, "BBB": 300.0, "CCC": 99.0}
    found = select(selector(tmp_path, universe_max=1, filters={"busy": Busy()}), Vendor(volumes))
    header = RecordingHeader(
        session=TODAY,
        symbols=found.symbols,
        day=found.day,
        cut=found.cut,
        denied=found.denied,
        left_out_day=found.left_out_day,
        watch_only=("AAA",),
    )
    recorded = SessionRecorder.open(tmp_path, header)
    again = read_recording(recorded.path)
    assert (again.header.denied, again.header.watch_only) == (found.denied, ("AAA",))
    assembly: Any = SimpleNamespace(
        entrants=lambda _session: (entrant(),), rules=lambda _venue: rules(filters={"busy": Busy()})
    )

    def note(recording: RecordedSession) -> tuple[bool, str]:
        explained = asyncio.run(explain_received(assembly, recording, "CCC", (), {}))
        return explained.subscribed, explained.note

    def compared(symbol: str, recording: RecordedSession = again) -> list[tuple[Reason, list[float]]]:
        explained = asyncio.run(explain_received(assembly, recording, symbol, (), {}))
        return [(one.reason, [finding.value for finding in one.findings]) for one in explained.screenings]

    assert compared("BBB") == [(Reason.UNIVERSE_TRUNCATED, [300.0])]
    assert compared("CCC") == [(Reason.VOLUME_LOW, [99.0])]
    assert [reason for reason, _ in compared("AAA")] == [Reason.WATCH_ONLY]
    older = attrs.evolve(again, header=attrs.evolve(again.header, left_out_day=None))
    assert compared("CCC", older) == [(Reason.VOLUME_LOW, [])]
    no_bars = "The universe of the session left it out: it has no bars, so no minute of it can be compared."
    assert note(again) == (False, no_bars)
    assert note(older) == (
        False,
        f"{no_bars} Facts of symbols that the universe left out were not recorded then: only the reason is known.",
    )


def test_why_says_which_fetched_facts_a_recording_lacks(tmp_path: Path) -> None:
    """One of a time before the filter was enabled: what it compares is not known, which the answer says."""

    class Fetching(Busy):
        facts: ClassVar = {"pe_ratio": 7, "market_cap": 7}

        async def refresh(self, _day: dt.date, _symbols: object) -> dict[str, dict[str, float]]:
            return {}

    found = select(selector(tmp_path, filters={"busy": Busy()}), Vendor({"AAA": 500.0}))
    path = SessionRecorder.open(tmp_path, RecordingHeader(session=TODAY, symbols=found.symbols, day=found.day)).path

    def note(subject: Any) -> str:
        assembly: Any = SimpleNamespace(
            entrants=lambda _session: (entrant(),), rules=lambda _venue: rules(filters={"busy": subject})
        )
        return asyncio.run(explain_received(assembly, read_recording(path), "AAA", (), {})).note

    assert note(Busy()) == ""
    assert note(Fetching()).startswith("Not recorded then: pe_ratio. ")


def test_a_session_with_shorter_hours_has_the_same_past() -> None:
    """Connection, limit of hours and placeholder pass the history on, or its fault."""
    vendor = Vendor({"AAA": 1.0})
    cut = limit_to_hours(vendor, attrs.evolve(TODAY, close=TODAY.moment(60)))
    assert isinstance(cut, LiveSession)
    connected = FeedConnection(cut.session, ManualClock(TODAY.open), cut)
    assert isinstance(connected, LiveSession)
    days = PAST[-2].date, PAST[-1].date
    assert len(asyncio.run(connected.daily(("AAA",), *days))) == 2
    assert len(asyncio.run(connected.history(("AAA",), PAST[-1].open, PAST[-1].close))) == 390
    assert isinstance(cut, SupportsSplits)
    assert asyncio.run(cut.splits(("AAA",), *days)) == ()
    splitting = limit_to_hours(Splitting(FIVE), attrs.evolve(TODAY, close=TODAY.moment(60)))
    assert asyncio.run(cast("SupportsSplits", splitting).splits(("AAA",), *days)) == [FIVE]
    silent = FeedConnection(TODAY, ManualClock(TODAY.open), None, Unavailable("no feed"))
    assert isinstance(silent, LiveSession)
    with pytest.raises(Unavailable, match="no feed"):
        asyncio.run(silent.daily(("AAA",), *days))


def test_a_symbol_that_is_none_is_left_out(tmp_path: Path) -> None:
    """It would become a part of a path."""
    assert select(selector(tmp_path), Vendor({"../AAA": 1.0, "AAA": 1.0})).symbols == ("AAA",)


def test_symbols_that_the_feed_does_not_have_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A mistake in UNIVERSE is not silent."""
    with caplog.at_level("WARNING"):
        found = select(selector(tmp_path, symbols=("AAA", "APPL")), Vendor({"AAA": 1.0}))
    assert found.symbols == ("AAA",)
    assert "universe.unknown_symbols" in caplog.text
    assert "APPL" in caplog.text


class Rated(Busy):
    """A filter that fetches ratings, the number in the symbol, and denies those below 6."""

    facts: ClassVar[Mapping[str, int]] = {"rating": 7}

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def refresh(self, _day: dt.date, symbols: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """All that is asked for."""
        self.asked += symbols
        return {symbol: {"rating": float(symbol[1:])} for symbol in symbols}

    def screen(self, day: DayFacts, *_others: object) -> Sequence[Check]:
        """The rating."""
        low, unknown = Reason.SCREEN_DENIED, Reason.SCREEN_UNKNOWN
        return [Check(name="rating", value=day.fact("rating"), low=6.0, below=low, above=low, unknown=unknown)]


def test_filters_fetch_for_those_that_would_be_subscribed(tmp_path: Path) -> None:
    """By dollar volume, and the next ones in place of those that are denied, until the limit of the feed is filled."""
    rated, bench = Rated(), StoreFixture(folder=tmp_path)
    named = {f"S{number}": 1000.0 - number for number in range(20)}
    quality = attrs.evolve(WHOLE, subscriptions=4, minute_history=False)
    made = attrs.evolve(
        selector(tmp_path, filters={"rated": rated}),
        facts=FactRefresher(sources={"rated": rated}, bars=bench.bars, clock=ManualClock(TODAY.open)),
    )
    found = select(made, Vendor(named, quality))
    assert rated.asked == [f"S{number}" for number in range(10)]
    assert found.symbols == ("S6", "S7", "S8", "S9")
    assert found.day.fact("rating").tolist() == [6.0, 7.0, 8.0, 9.0]
    assert [one.text for one in found.facts] == ["rated: the facts of 4 of 4 symbols that may be entered are known"]
    again = select(made, Vendor(named, quality))
    assert (len(rated.asked), again.symbols) == (10, found.symbols)
