"""A sweep gives for each set of settings what a backtest with these settings gives."""

from __future__ import annotations

import datetime as dt
import re
import runpy
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.backtest.engine import BacktestRange, trade_range
from tbot_core.backtest.sweep import sweep
from tbot_core.engine.bootstrap import assemble
from tbot_core.errors import PluginError, SettingsError
from tbot_core.model.clock import ManualClock
from tbot_core.model.formatting import round_to_cents
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import Callable

CLOCK = ManualClock(dt.datetime(2026, 1, 5, tzinfo=dt.UTC))
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
