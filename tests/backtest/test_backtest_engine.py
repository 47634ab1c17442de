"""A backtest says how reliable its result is; a sweep gives for each set of settings what a backtest gives."""

from __future__ import annotations

import datetime as dt
import re
import runpy
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import polars as pl
import pytest

from tbot_core.backtest import vectorised
from tbot_core.backtest.engine import BacktestRange, sweep, trade_range
from tbot_core.engine.bootstrap import assemble
from tbot_core.errors import PluginError, SettingsError
from tbot_core.marketdata.store import reference
from tbot_core.marketdata.store.recorded_facts import RecordedFact
from tbot_core.model.clock import ManualClock
from tbot_core.model.formatting import round_to_cents
from tbot_core.reports.reliability import FactUse, Reliability
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tbot_core.contracts import Check

DOCS = Path(__file__).parents[2] / "docs"

DAYS = dt.date(2018, 7, 2), dt.date(2018, 7, 3)

CLOCK = ManualClock(dt.datetime(2026, 1, 5, tzinfo=dt.UTC))

SETTINGS = {
    "STRATEGY_SEQUENCE": "open",
    "FILTERS": "price_volume",
    "FILTER_MISSING_DATA": "pass",
    "BROKER_NAME": "PAPER",
    "STRAT_OPEN_BUFFER": "0",
    "MIN_MARKET_CAP_OPEN": "0",
    "MAX_MARKET_CAP_OPEN": "0",
}

GRID = [
    {},
    {"STOP_LOSS_PCT": "0.004"},
    {"TRAILING_STOP": "true", "TARGET_R": "0"},
    {"STRAT_MID_VWAP_THRESHOLD": "0.002"},
    {"VOLUME_LIMIT": "0", "SEED": "7"},
    {"MIN_PRICE": "20", "FILTERS": "price_volume"},
    {"FIXED_QUANTITY": "3", "PAPER_CASH": "50000"},
    {"MAX_CONSECUTIVE_LOSSES": "1"},
    {"OPEN_MONITORING_TIME": "7", "FLATTEN_BEFORE_CLOSE": "30"},
    {"TRADING_DAYS": "mon,thu"},
    {"CALENDAR_OVERRIDES": "2018-07-02 closed a storm"},
    {"UNIVERSE": "AAA,CCC", "TRAILING_STOP": "true"},
    {"MIN_REL_VOLUME": "1.02", "FILTER_MISSING_DATA": "reject"},
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with two sessions of two symbols, the second with adjusted prices and a part of the volume."""
    bench = StoreFixture(folder=tmp_path / "data")
    bench.folder.mkdir()
    days = exchange_sessions(*(day.isoformat() for day in DAYS))
    bench.put(rising_bars("AAA", days, price=20.0))
    bench.put(rising_bars("BBB", days, price=30.0), adjustment="split", volume="partial")
    caps = {"symbol": ["AAA", "AAA"], "as_of": [DAYS[0], dt.date(2018, 6, 29)], "market_cap": [1e9, 9e8]}
    bench.put(pl.DataFrame(caps))
    return tmp_path


class Growth:
    """A filter that compares growth, which it fetches."""

    facts: ClassVar[Mapping[str, int]] = {"growth": 30}

    def screen(self, *_given: object) -> Sequence[Check]:
        """Compares nothing."""
        return ()

    def judge(self, *_given: object) -> Sequence[Check]:
        """Compares nothing."""
        return ()

    async def refresh(self, *_given: object) -> Mapping[str, Mapping[str, float]]:
        """Is not called in a backtest."""
        pytest.fail("a backtest fetches nothing")


def known(
    home: Path, symbols: tuple[str, ...] = (), *, fetching: bool = False, last: dt.date = DAYS[1], **changes: str
) -> Reliability:
    """What a backtest with these settings knows."""
    (home / ".env_bot").write_text("\n".join(f"{key}={value}" for key, value in {**SETTINGS, **changes}.items()))
    assembly = assemble(home, "backtest", CLOCK)
    if fetching:
        assembly = attrs.evolve(assembly, filters={"growth": Growth()})
    over = BacktestRange(first=DAYS[0], last=last, symbols=symbols)
    found = trade_range(assembly, over).summary.reliability
    assert found is not None
    return found


def test_what_chose_the_symbols_is_known(home: Path) -> None:
    """The caller before UNIVERSE before the store."""
    assert (known(home).chosen, known(home).symbols) == ("stored", 2)
    assert known(home, UNIVERSE="AAA").chosen == "UNIVERSE"
    named = known(home, ("AAA",), UNIVERSE="AAA,BBB")
    assert (named.chosen, named.symbols) == ("--symbols", 1)


def test_hours_and_kinds_are_those_of_what_was_traded(home: Path) -> None:
    """A half day ends early; kinds and what follows from them are those of the chosen symbols."""
    found = known(home)
    assert [(one.open.hour, one.close.hour) for one in found.days] == [(13, 20), (13, 17)]
    assert sorted(found.kinds) == [("raw", "consolidated"), ("split", "partial")]
    assert [one.partition(":")[0] for one in found.notes] == [
        "Prices of BBB (split) are adjusted",
        "Volumes of BBB are a part of the tape",
    ]
    assert (known(home, ("AAA",)).kinds, known(home, ("AAA",)).notes) == (found.kinds[:1], ())


def test_signals_that_pass_without_a_fact_are_counted(tmp_path: Path) -> None:
    """With the first session in which all facts are known: mean volumes need five sessions before it.

    Nothing is said where FILTER_MISSING_DATA rejects, or no limit needs the fact.
    """
    bench = StoreFixture(folder=tmp_path / "data")
    bench.folder.mkdir()
    days = exchange_sessions("2018-07-02", "2018-07-13")
    bench.put(rising_bars("AAA", days, price=20.0))
    found = known(tmp_path, last=days[-1].date, MIN_VOLUME_THRESHOLD="1").unknown
    assert found is not None
    assert (dict(found.signals), found.first_known) == ({"VOLUME_UNKNOWN": 5}, days[5].date)
    assert "(VOLUME_UNKNOWN 5); 2018-07-10 is the first session with all facts known." in found.sentence
    early = known(tmp_path, last=days[2].date, MIN_VOLUME_THRESHOLD="1").unknown
    assert early is not None
    assert "there is no session with all facts known." in early.sentence
    assert known(tmp_path, last=days[-1].date, MIN_VOLUME_THRESHOLD="1", FILTER_MISSING_DATA="reject").unknown is None
    assert known(tmp_path, last=days[-1].date).unknown is None


def test_facts_that_filters_used_are_known_from_their_first_day_on(home: Path) -> None:
    """Capitalisations are used by their limits alone, fetched facts by the filter that fetches them.

    A fact without a value is not known, nor one of a day after the last session. Its age is counted from that day, for
    each symbol and session.
    """
    assert known(home).facts == {}
    assert known(home, FILTERS="none", MIN_MARKET_CAP_OPEN="1000").facts == {}
    caps = {"market_cap": FactUse(first_days={"AAA": dt.date(2018, 6, 30)}, ages=(1, 1, 0, 0, 0, 0, 2))}
    assert known(home, MAX_MARKET_CAP_OPEN="1000").facts == caps
    assert known(home, fetching=True).facts == {"growth": FactUse(first_days={}, ages=(0, 0, 0, 0, 0, 0, 4))}
    later = DAYS[-1] + dt.timedelta(days=1)
    fetched = [("AAA", DAYS[1], 0.1), ("AAA", DAYS[0], 0.2), ("BBB", DAYS[0], float("nan")), ("BBB", later, 0.3)]
    facts = [
        RecordedFact(name="growth", symbol=symbol, first=day, last=None, value=value) for symbol, day, value in fetched
    ]
    reference.add_fetched(home / "data" / "bars", facts)
    growth = FactUse(first_days={"AAA": DAYS[0]}, ages=(2, 0, 0, 0, 0, 0, 2))
    assert known(home, fetching=True, MIN_MARKET_CAP_OPEN="1").facts == {"growth": growth, **caps}


def test_the_docs_name_each_cause_of_walking_a_session() -> None:
    """Each cause that the output gives for walking a session is explained in docs/backtests.md."""
    source, page = Path(vectorised.__file__).read_text(), (DOCS / "backtests.md").read_text()
    causes = re.findall(r'WalkNeeded\("([^"]+)"\)|causes = \{"([^"]+)": [^,]+, "([^"]+)"', source)
    found = {cause for matched in causes for cause in matched if cause}
    assert len(found) == 9
    assert {cause for cause in found if f"\n| {cause} |" not in page} == set()


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_each_set_is_traded_as_a_backtest_of_its_own(random_instance: Callable[[int], Any]) -> None:
    """Equity, trades, winners and denials of each session are those of a backtest with the set's settings alone."""
    instance = random_instance(4)
    instance.settle(4001, FILTERS="price_volume", STRATEGY_SEQUENCE="open,mid,close")
    over = BacktestRange(first=instance.first, last=instance.last)
    found = sweep(assemble(instance.home, "backtest", CLOCK), over, GRID)
    assert len({one.settings_hash for one in found}) == len(GRID)
    for changes, swept in zip(GRID, found, strict=True):
        alone = trade_range(assemble(instance.home, "backtest", CLOCK, changes), over)
        assert swept.changes == changes
        assert swept.settings_hash == alone.summary.settings_hash
        assert swept.dates == [one.session.date for one in alone.sessions]
        assert swept.equity == [one.closing for one in alone.chapters]
        assert swept.trades == [len(one.trades) for one in alone.chapters]
        assert swept.won == [sum(round_to_cents(trade.pnl) > 0 for trade in one.trades) for one in alone.chapters]
        assert swept.denials == alone.summary.denials
        assert swept.pnl == alone.summary.pnl
    assert sum(sum(one.trades) for one in found) > 50


def test_a_set_that_is_invalid_is_refused(random_instance: Callable[[int], Any]) -> None:
    """A value that is not allowed, and a plugin that the run did not load."""
    instance = random_instance(4)
    instance.settle(4001, FILTERS="none", STRATEGY_SEQUENCE="open")
    over = BacktestRange(first=instance.first, last=instance.last)
    assembly = assemble(instance.home, "backtest", CLOCK)
    with pytest.raises(SettingsError, match="STOP_LOSS_PCT=2"):
        sweep(assembly, over, [{"STOP_LOSS_PCT": "2"}])
    with pytest.raises(PluginError, match="The strategy mid of the set STRATEGY_SEQUENCE=mid was not loaded"):
        sweep(assembly, over, [{"STRATEGY_SEQUENCE": "mid"}])
    with pytest.raises(PluginError, match="The filter price_volume of the set FILTERS=price_volume was not loaded"):
        sweep(assembly, over, [{"FILTERS": "price_volume"}])


def test_the_example_of_the_page_runs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is written there: a line for each set, the best first, with the figures of a backtest of its settings."""
    bench = StoreFixture(folder=tmp_path / "my-bot" / "data")
    bench.folder.mkdir(parents=True)
    bench.put(rising_bars("AAA", exchange_sessions("2018-02-16", "2018-02-21"), price=20.0))
    lines = ("STRATEGY_SEQUENCE=open", "FILTERS=none", "BROKER_NAME=PAPER", "VOLUME_LIMIT=0")
    (tmp_path / "my-bot" / ".env_bot").write_text("\n".join(lines))
    (code,) = re.findall(r"```python\n(.*?)```", (root / "docs" / "backtests.md").read_text(), re.DOTALL)
    (tmp_path / "example.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path("example.py")
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == len(names["grid"]) == 6
    profits = [Decimal(line.split()[0]) for line in shown]
    assert profits == sorted(profits, reverse=True)
    best = names["grid"][0]
    alone = trade_range(assemble(Path("my-bot"), "backtest", CLOCK, best), names["over"]).summary
    assert len(alone.trades) > 1
    assert f"{alone.pnl} {len(alone.trades)} {best} {alone.settings_hash}" in shown
