"""The comparison of backtest engines: equal trades or it does not count, and what cannot be installed is left out."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tbot_core.model.window import Window
from tbot_core.testing.strategy import StrategyContract

FOLDER = Path(__file__).parents[1] / "benchmarks" / "engines"


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """The names of the module that writes the tables."""
    return runpy.run_path(str(FOLDER / "bench_report.py"))


def entry(report: dict[str, Any], name: str, cpu_s: float, **changes: Any) -> Any:
    """An engine that was measured in three runs on all of four symbols, 390,000 bars."""
    runs = [cpu_s * 3, cpu_s, cpu_s / 2]
    result = {"version": "1.2", "bars": 390_000, "run_s": runs, "listed_s": runs, "peak_mib": 100.4}
    whole = {"title": name, "symbols": 4, "equal": True, "trades": 7, "results": [result], **changes}
    return report["EntryResult"](name=name, **whole)


def comparison(report: dict[str, Any], *entries: Any, **more: Any) -> Any:
    """A comparison on four symbols and 250 sessions."""
    return report["Comparison"](symbols=4, sessions=250, machine={"date": "2026-01-05"}, entries=entries, **more)


def test_speed_is_the_median_and_relative_to_tbot(report: dict[str, Any]) -> None:
    """The median of all runs counts; the ratio says how many times as many bars tbot trades in a CPU second."""
    rows = report["entry_table"](comparison(report, entry(report, "tbot", 0.1), entry(report, "other", 2.0)))
    assert rows[2] == "| tbot | 1.2 | none | 0.100 | 0.100 | 3.90 | - | 100 |"
    assert rows[3] == "| other | 1.2 | none | 2.00 | 2.00 | 0.195 | 20.0 x | 100 |"


def test_seconds_of_a_part_are_scaled_and_say_so(report: dict[str, Any]) -> None:
    """An engine that was measured on one symbol of four has its seconds times four, with the part named."""
    slow = entry(report, "slow", 2.0, symbols=1)
    assert "| 8.00 (from 1 symbols) |" in report["entry_table"](comparison(report, slow))[2]


def test_differing_trades_do_not_count(report: dict[str, Any]) -> None:
    """An engine, a sweep or a command with other trades has no figure and is a fault, as a part that failed is."""
    other = entry(report, "other", 2.0, equal=False)
    sweep = report["SweepResult"](title="swept", sets=10, cpu_s=1.0, equal=False)
    used = report["ProcessUse"](title="command", bars=390, cpu_s=1.0, wall_s=1.0, peak_mib=1.0, equal=False)
    found = comparison(report, other, sweeps=[sweep], processes=[used], failures=["part"])
    assert report["entry_table"](found)[2] == "| other | 1.2 | none | its trades differ: does not count | | | | |"
    assert report["sweep_table"](found)[2] == "| swept | 10 | a set's trades differ: does not count |"
    assert [fault.split(":")[0] for fault in found.faults] == ["part", "other", "swept", "command"]


def test_part_of_a_sweep_is_calculated(report: dict[str, Any]) -> None:
    """Seconds of ten sets are twenty times as many for the whole sweep, and the table says that they are calculated."""
    swept = report["SweepResult"](title="swept", sets=10, cpu_s=1.5, equal=True)
    assert report["sweep_table"](comparison(report, sweeps=[swept]))[2] == "| swept | 10 | 30.0 by calculation |"


def test_the_page_has_every_part(report: dict[str, Any]) -> None:
    """What was not measured is named; what could not be installed has its reason."""
    absent = report["EntryResult"](name="gone", title="gone", symbols=4, reason="no such version")
    text = report["page"](comparison(report, entry(report, "tbot", 0.1), absent))
    assert "| gone | - | - | not measured: no such version | | | | |" in text
    assert text.count("Not measured in this run.") == 4


def test_an_environment_that_cannot_be_made_gives_the_reason(tmp_path: Path) -> None:
    """Without a fitting Python the answer is a sentence, no interpreter."""
    made = runpy.run_path(str(FOLDER / "bench_environments.py"))["Environments"]
    stated = {"future": {"python": ">=3.99,<4", "packages": ["future==1"]}}
    reason = made(tmp_path, stated).python("future")
    assert isinstance(reason, str)
    assert reason
    assert list(tmp_path.glob("*/pins.json")) == []


def test_an_environment_with_the_same_pins_is_used_again(tmp_path: Path) -> None:
    """The interpreter is given without an installer while the pins are those with which it was made."""
    made = runpy.run_path(str(FOLDER / "bench_environments.py"))["Environments"]
    interpreter = tmp_path / "kept" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.symlink_to(sys.executable)
    (tmp_path / "kept" / "pins.json").write_text('{"packages": ["kept==1"], "python": ">=3.11"}')
    assert made(tmp_path, {"kept": {"python": ">=3.11", "packages": ["kept==1"]}}).python("kept") == interpreter
    assert made(tmp_path, {"kept": {"python": ">=3.99", "packages": ["kept==2"]}}).python("kept") != interpreter


class TestBenchStrategy(StrategyContract):
    """The strategy of the comparison keeps the contract of strategies."""

    @pytest.fixture
    def strategy(self) -> Any:
        """The breakout with a small buffer."""
        kept = runpy.run_path(str(FOLDER / "plugin" / "tbot_strategy_bench" / "__init__.py"))
        return kept["BenchBreakout"](window=Window(start=0, analysis=20, breakout=60, monitoring=30), buffer=0.002)


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_tbot_and_a_plain_loop_trade_alike(tmp_path: Path) -> None:
    """In memory, from the store and as a command tbot has the trades of the loop, and a sweep has those of each set."""
    size = ["--symbols", "8", "--sessions", "21", "--rounds", "1", "--runs", "1", "--sweep", "2", "--no-growth"]
    files = ["--folder", f"{tmp_path / 'kept'}", "--page", f"{tmp_path / 'performance.md'}"]
    command = [sys.executable, f"{FOLDER / 'compare.py'}", "--engines", "tbot,tbot-store", *size, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "performance.md").read_text()
    assert "differ: does not count" not in page
    assert "| tbot, engine, bars in memory |" in page
    assert "8 symbols x 21 sessions of simulated one-minute bars (0.1 million), 22 trades." in page
    assert list((tmp_path / "kept").iterdir()) == []
