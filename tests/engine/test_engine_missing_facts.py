"""What a run over stored sessions lacks before the bell, said before its first session."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np
import polars as pl
import pytest

from tbot_core.backtest.engine import BacktestRange, trade_range
from tbot_core.contracts import Check, FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.missing_facts import missing_fact_notes, session_lacks
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.marketdata.store.store import BarStore
from tbot_core.model.clock import ManualClock
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.reasons import Reason
from tbot_core.model.window import Window
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES
from tbot_core.trading.universe import FactCoverage, Universe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tbot_core.engine.assembly import Assembly
    from tbot_core.model.bars import Bars
    from tbot_core.model.signals import Signals

DAYS = dt.date(2018, 6, 29), dt.date(2018, 7, 3)
CLOCK = ManualClock(dt.datetime(2026, 1, 5, tzinfo=dt.UTC))
UNKNOWN: Any = {"below": Reason.SCREEN_DENIED, "above": Reason.SCREEN_DENIED, "unknown": Reason.SCREEN_UNKNOWN}
BEFORE = ("Stored bars have no quotes",)
PASS = "`--set FILTER_MISSING_DATA=pass` lets entries pass without what is unknown"
FUNDAMENTALS = "`tbot data import PATH` stores fundamentals (docs/data-formats.md)"
FETCHED = "`tbot run` fetches before each session what finnhub compares, and stores it"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with three sessions, of two months, of two symbols."""
    bench = StoreFixture(folder=tmp_path / "data")
    bench.folder.mkdir()
    days = exchange_sessions(*(day.isoformat() for day in DAYS))
    for symbol in ("AAA", "BBB"):
        bench.put(rising_bars(symbol, days, price=20.0))
    return tmp_path


def assembled(home: Path, mode: Any = "backtest", **settings: str) -> Assembly:
    """A run of `open` without filters, or with these settings."""
    given = {"STRATEGY_SEQUENCE": "open", "BROKER_NAME": "PAPER", "FILTERS": "none", **settings}
    (home / ".env_bot").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    return assemble(home, mode, CLOCK)


def notes(assembly: Assembly) -> list[str]:
    """What is missing in the stored sessions."""
    store = BarStore(folder=assembly.settings.instance.bars, calendar=assembly.calendar)
    return list(missing_fact_notes(assembly, store, DAYS, ("AAA", "BBB")))


@attrs.frozen(eq=False)
class Growth:
    """A stranger's filter: what it knows of growth in a screening, and whether it always needs it."""

    value: Callable[[DayFacts], Any]
    required: bool = False
    needs: frozenset[str] = frozenset()

    def screen(self, day: DayFacts, *_given: object) -> Sequence[Check]:
        """Compares growth."""
        return (Check(name="growth", value=self.value(day), low=0.0, required=self.required, **UNKNOWN),)

    def judge(self, *_given: object) -> Sequence[Check]:
        """Compares nothing."""
        return ()


@attrs.frozen(eq=False)
class Lookback:
    """A strategy that compares the close of two sessions before, which it declares."""

    window: Window
    daily_bars = 2

    def screen(self, day: DayFacts) -> Sequence[Check]:
        """Compares that close."""
        assert day.daily is not None
        return (Check(name="old close", value=day.daily.close[..., 0], low=0.0, **UNKNOWN),)

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """Is not called."""
        raise NotImplementedError


class Fetching(Growth):
    """The same, with a fact that it fetches, and that no import has."""

    facts: ClassVar[Mapping[str, int]] = {"growth": 30}

    async def refresh(self, *_given: object) -> Mapping[str, Mapping[str, float]]:
        """Is not called."""
        raise NotImplementedError


def grown(home: Path, growth: Growth, **settings: str) -> list[str]:
    """What is missing with this filter."""
    assembly = assembled(home, **settings)
    return notes(attrs.evolve(assembly, filters={"growth": growth}))


def test_a_backtest_says_before_its_first_session_what_is_unknown_in_all(home: Path) -> None:
    """Each fact with its plugin, of how many symbols and sessions; and what supplies it, in the label and the notes."""
    assembly = assembled(home, FILTERS="", ENABLE_FINNHUB_FUNDAMENTALS_FILTER="true", FILTER_MISSING_DATA="reject")
    heard: list[Any] = []
    over = BacktestRange(first=DAYS[0], last=DAYS[1])
    found = trade_range(assembly, over, heard.append, lambda label: heard.append(label.notes))
    first, missing, ways = heard[0]
    assert first.startswith(BEFORE)
    assert missing == (
        "Unknown of 2 of 2 symbols in 3 of 3 sessions, where each entry of [OPEN] is denied: P/E (finnhub), "
        "debt to equity (finnhub)."
    )
    assert ways == f"What changes it: {FUNDAMENTALS}; {FETCHED}; {PASS}, in one run."
    assert heard[1:] == [dt.date(2018, 6, 29), dt.date(2018, 7, 2), dt.date(2018, 7, 3)]
    assert list(found.summary.notes)[:3] == [first, missing, ways]


def test_a_replay_says_the_same_and_journals_it(home: Path) -> None:
    """Its label has it before a session is traded, for the symbols of the request alone."""
    assembly = assembled(home, "replay", STRATEGY_SEQUENCE="close")
    heard: list[Any] = []
    for symbols in ((), ("BBB", "CCC")):
        request = FeedRequest(
            kind="replay",
            first=DAYS[0],
            last=DAYS[1],
            symbols=symbols,
            bars=assembly.settings.instance.bars,
            calendar=assembly.calendar,
        )
        watcher = RunWatcher(on_started=lambda feed, _book: heard.append(feed.label.notes))
        outcome = asyncio.run(run(RunPlan(assembly=assembly, request=request, wall=CLOCK), watcher))
        assert list(outcome.summary.notes)[: len(heard[-1])] == list(heard[-1])
    words = "symbols in 3 of 3 sessions, where each entry of [CLOSE] is denied: vix (close)."
    ways = (
        "What changes it: `tbot data import PATH` stores the daily VIX (docs/data-formats.md); "
        "`tbot data download vix` stores the daily VIX."
    )
    assert heard[0][1:] == (f"Unknown of 2 of 2 {words}", ways)
    assert f"Unknown of 1 of 1 {words}" in heard[1]


def test_what_passes_unknown_is_said_as_such(home: Path) -> None:
    """With FILTER_MISSING_DATA=pass entries are not compared; what a strategy requires is denied all the same."""
    given = {"STRATEGY_SEQUENCE": "open,close", "FILTERS": "", "MIN_VOLUME_THRESHOLD": "1000"}
    passing, denied, ways = notes(assembled(home, **given, FILTER_MISSING_DATA="pass"))
    assert passing.endswith("of [OPEN], [CLOSE] passes without this comparison: average volume (price_volume).")
    assert denied.endswith("each entry of [CLOSE] is denied: vix (close).")
    assert PASS not in ways
    assert "stores bars of earlier sessions" in ways
    ways = notes(assembled(home, **given))[-1]
    assert f"{PASS}, except vix (close), in one run" in ways
    assert "stores earlier sessions, the daily VIX (docs/data-formats.md)" in ways


def test_getting_started_goes_through_what_such_a_run_prints(home: Path, root: Path) -> None:
    """The page quotes the sentences of a run on bars alone, whatever the number of symbols and sessions."""
    page = (root / "docs" / "getting-started.md").read_text(encoding="utf-8")
    quoted = re.sub(r"\d+ of \d+", "N of N", " ".join(page.split()))
    given = {"STRATEGY_SEQUENCE": "open,mid,close", "FILTERS": "", "ENABLE_FINNHUB_FUNDAMENTALS_FILTER": "true"}
    caps = {f"MIN_MARKET_CAP_{name}": "2000000000" for name in ("OPEN", "MID", "CLOSE")}
    said = notes(assembled(home, **given, **caps))
    assert [one for one in said if re.sub(r"\d+ of \d+", "N of N", one) not in quoted] == []
    assert len(said) == 3


def test_facts_that_are_known_or_not_compared_are_not_said(home: Path) -> None:
    """Imported fundamentals and the VIX end the notes; so does a list of symbols that are not traded."""
    given = {"STRATEGY_SEQUENCE": "close", "FILTERS": "", "MIN_MARKET_CAP_CLOSE": "1", "BLOCKLIST": "BBB"}
    assert "of 1 of 1 symbols" in notes(assembled(home, **given))[0]
    assert notes(assembled(home, **given | {"BLOCKLIST": "AAA,BBB"})) == []
    bench = StoreFixture(folder=home / "data")
    bench.put(pl.DataFrame({"symbol": ["AAA"], "as_of": [dt.date(2018, 6, 1)], "market_cap": [1e9]}))
    days = [dt.date(2018, 6, 28), dt.date(2018, 6, 29), dt.date(2018, 7, 2)]
    bench.put(pl.DataFrame({"date": days, "open": 15.0, "high": 15.0, "low": 15.0, "close": 15.0}))
    assert notes(assembled(home, **given)) == []


def test_a_filter_of_a_stranger_is_counted_by_its_own_comparison(home: Path) -> None:
    """One symbol in all sessions and all symbols in one are said; single unknown values are not."""
    nan = np.nan

    def at(*rows: tuple[float, float]) -> Growth:
        return Growth(lambda _day: np.array(rows))

    assert grown(home, at((1, nan), (nan, 1), (1, 1))) == []
    one, _ = grown(home, at((1, nan), (1, nan), (1, nan)))
    assert one.startswith("Unknown of 1 of 2 symbols in 3 of 3 sessions, where")
    some, ways = grown(home, at((nan, nan), (1, nan), (1, nan)))
    assert some.startswith(
        "Unknown of 1 of 2 symbols in 3 of 3 sessions; of 2 of 2 symbols in 1 of 3 sessions, the last 2018-06-29, where"
    )
    assert ways == f"What changes it: {PASS}, in one run."


def test_what_no_setting_changes_has_no_ways_on(home: Path) -> None:
    """A stranger's filter that denies what is unknown in any case; one that fetches has a way."""
    unknown = np.full((3, 2), np.nan)
    (said,) = grown(home, Growth(lambda _day: unknown, required=True))
    assert said.endswith("each entry of [OPEN] is denied: growth (growth).")
    _, ways = grown(home, Fetching(lambda _day: unknown), FILTER_MISSING_DATA="pass")
    assert ways == "What changes it: `tbot run` fetches before each session what growth compares, and stores it."


def test_volumes_of_minutes_count_as_known(home: Path) -> None:
    """They would have to be read before the first session; a filter that asks for them gets numbers to compare."""
    growth = Growth(lambda day: day.typical_volume[..., -1], needs=frozenset({"typical_volume"}))  # type: ignore[index]  # it is there, as the filter needs it
    assert grown(home, growth) == []


def test_a_strategy_that_reads_daily_bars_is_screened_month_by_month(home: Path) -> None:
    """What it lacks in the sessions of both months is counted together."""
    assembly = assembled(home)
    (active,) = assembly.entrants(exchange_sessions("2018-07-02", "2018-07-02")[0])
    reading = attrs.evolve(active, strategy=Lookback(active.window))
    missing, _ = notes(attrs.evolve(assembly, placed={(active.window,): (reading,)}))
    assert missing.startswith("Unknown of 2 of 2 symbols in 2 of 3 sessions, the last 2018-07-02, where")
    assert missing.endswith("old close (open).")


def test_a_session_of_the_market_says_what_its_universe_lacks(home: Path) -> None:
    """For its READY: not the VIX nor what a filter was asked for, which it says already, nor watched symbols."""
    assembly = assembled(home, STRATEGY_SEQUENCE="open,close", FILTERS="", MIN_MARKET_CAP_OPEN="1")
    session = exchange_sessions("2018-07-02", "2018-07-02")[0]
    market = assembly.rules(SIMULATOR_CAPABILITIES)
    caps = attrs.evolve(DayFacts.unknown(4), market_cap=np.array([1e9, np.nan, np.nan, np.nan]))
    universe = Universe(symbols=("AAA", "BBB", "CCC", "XYZ"), day=caps, watch_only=frozenset({"XYZ"}))
    entrants = assembly.entrants(session)
    words = "market capitalisation (price_volume): unknown of 2 of 3 symbols, of which each entry of [OPEN]"
    assert session_lacks(entrants, market, universe, session) == (f"{words} is denied",)
    passing = attrs.evolve(market, missing_rejects=False)
    assert session_lacks(entrants, passing, universe, session) == (f"{words} passes without this comparison",)
    asked = attrs.evolve(universe, facts=(FactCoverage(filter="price_volume", known=1, of=3),))
    assert session_lacks(entrants, market, asked, session) == ()
