"""`tbot backtest --check-lookahead` finds strategies and filters whose answers later bars change."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from tbot_core import cli
from tbot_core.backtest.engine import BacktestRange
from tbot_core.backtest.lookahead import check_lookahead
from tbot_core.cli.commands.backtest import lookahead_lines
from tbot_core.contracts import Check
from tbot_core.engine.bootstrap import assemble
from tbot_core.model.bars import Array, Bars
from tbot_core.model.clock import Clock, ManualClock, SystemClock
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules, Signals, Trigger, first_hits
from tbot_core.model.window import Window
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tbot_core.contracts.settings import StrategySettings
    from tbot_core.model.day_facts import DayFacts, MarketView

FIRST, LAST = "2018-06-28", "2018-07-05"
RANGE = ("--from", FIRST, "--to", LAST)
SETTINGS = """BROKER_NAME=PAPER
FILTERS=none
STRATEGY_SEQUENCE=acme
START_TIME_ACME=14:30
ACME_ANALYSIS_TIME=5
ACME_BREAKOUT_TIME=20
ACME_MONITORING_TIME=30
"""


@attrs.frozen(kw_only=True)
class Honest:
    """Buys the first close 30 cents above that of the first minute."""

    window: Window

    def value(self, bars: Bars) -> Array:
        """What is compared; (..., symbols, closed minutes of the phase)."""
        return bars.close[..., self.window.entry : self.window.entry_end]

    def level(self, bars: Bars) -> Array:
        """What it must exceed."""
        return bars.close[..., :1] + 0.095

    def scan(self, bars: Bars, _day: DayFacts, since: int = 0) -> Signals:
        """The first breakout of each row."""
        rule = Trigger(rule="breakout", side=1, value=self.value(bars), level=self.level(bars), above=True)
        hits = first_hits((rule,), self.window.entry)
        price = hits.at(bars.close)
        return hits.signals(price, ExitRules(hold=30), stop=hits.stop_at(price, 0.02), since=since)


class PeeksAMinute(Honest):
    """Compares the next close, where there is one."""

    def value(self, bars: Bars) -> Array:
        """One minute later than it knows."""
        later = np.concatenate((bars.close[..., 1:], bars.close[..., -1:]), axis=-1)
        return later[..., self.window.entry : self.window.entry_end]


class NeedsAMinute(Honest):
    """Reads the next close as if it were always there."""

    def level(self, bars: Bars) -> Array:
        """As many columns as the phase will have."""
        return bars.close[..., self.window.entry + 1 : self.window.entry_end + 1]


class NormalisesByTheDay(Honest):
    """Compares with a share of the whole day's high."""

    def level(self, bars: Bars) -> Array:
        """A maximum over every minute."""
        return np.fmax.reduce(bars.close, axis=-1, keepdims=True, initial=np.nan) * 0.98


class PeeksAtTheEnd(Honest):
    """Buys what will close higher."""

    def level(self, bars: Bars) -> Array:
        """`[..., -1]`."""
        return bars.close[..., -1:] - 3.6 if bars.minutes else bars.close[..., :0]


class LooksAtTheLength(Honest):
    """Waits for more where it sees a whole session."""

    def level(self, bars: Bars) -> Array:
        """Tests `bars.minutes`."""
        return super().level(bars) + (0.05 if bars.minutes in {210, 390} else 0.0)


class LooksAtTheMonth(Honest):
    """Compares with the mean of all sessions of the month."""

    def level(self, bars: Bars) -> Array:
        """Honest in every minute, but not in every session."""
        level = super().level(bars)
        return np.broadcast_to(level.max(axis=0), level.shape) if level.ndim > 2 else level


@attrs.frozen
class JudgesBy:
    """A filter that compares one number of the bars."""

    number: Callable[[Signals, Bars], Array]

    def screen(self, _day: DayFacts, _symbols: tuple[str, ...], _frame: StrategySettings) -> Sequence[Check]:
        """Nothing before the open."""
        return ()

    def judge(self, signals: Signals, market: MarketView, _frame: StrategySettings) -> Sequence[Check]:
        """At the signal."""
        value = self.number(signals, market.bars)
        return (
            Check(
                name="number", value=value, below=Reason.PRICE_LOW, above=Reason.PRICE_HIGH, unknown=Reason.PRICE_LOW
            ),
        )


@pytest.fixture(scope="module")
def strategy(install: Callable[..., Any]) -> Callable[[type[Honest], pytest.MonkeyPatch], None]:
    """Makes the installed strategy `acme` one of the classes."""
    package = install("acme", "strategy")

    def become(made: type[Honest], patch: pytest.MonkeyPatch) -> None:
        patch.setattr(package, "create", lambda config, _context: made(window=config.window))

    return become


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance with five sessions, a half day among them; AAA opens higher each day, BBB trades 15 minutes."""
    folder: Path = tmp_path_factory.mktemp("lookahead")
    bench = StoreFixture(folder=folder / "data")
    bench.folder.mkdir()
    days = exchange_sessions(FIRST, LAST)
    rising = [rising_bars("AAA", [day], price=20.0 + row / 50) for row, day in enumerate(days)]
    bench.put(*rising, rising_bars("BBB", days, minutes=15))
    (folder / ".env_bot").write_text(SETTINGS)
    return folder


def checked(home: Path, capsys: pytest.CaptureFixture[str], code: int) -> dict[str, Any]:
    """The document of a check that ends with this exit code."""
    assert cli.invoke(["backtest", *RANGE, "--check-lookahead", "--json", "--home", str(home)]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_an_honest_strategy_passes(
    home: Path, strategy: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 0, with what was checked."""
    strategy(Honest, monkeypatch)
    document = checked(home, capsys, 0)
    assert (document["found"], document["signals"], document["strategies"]) == ([], 10, ["acme"])
    assert (document["checked"], document["sessions"], document["symbols"]) == (5, 5, 2)
    assert cli.invoke(["backtest", *RANGE, "--check-lookahead", "--home", str(home)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(f"Checked acme from {FIRST} to {LAST} in 5 sessions of 2 symbols: 10 signals, without")
    assert said.endswith("No look-ahead.")


def test_a_strategy_that_peeks_one_minute_is_caught(
    home: Path, strategy: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1; strategy, session, symbol, minute and what differed, for each session, in text and as a document."""
    strategy(PeeksAMinute, monkeypatch)
    found = checked(home, capsys, 1)["found"]
    assert [one["session"] for one in found] == [FIRST, "2018-06-29", "2018-07-02", "2018-07-03", LAST]
    change, words = "without the bars from 09:40 on", "no signal instead of minute 9, side 1, price 20.1"
    where = {"plugin": "strategy/acme", "strategy": "acme", "symbol": "AAA", "minute": 9, "time": "09:39"}
    assert found[0] == where | {"session": FIRST, "change": change, "found": found[0]["found"]}
    assert found[0]["found"].startswith(words)
    assert cli.invoke(["backtest", *RANGE, "--check-lookahead", "--home", str(home)]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert f"[acme] {FIRST} 09:39 AAA (minute 9): {change}: {words}" in said
    assert said.endswith("Look-ahead of strategy/acme: a backtest trades what live trading cannot know.")


@pytest.mark.parametrize(
    ("made", "change"),
    [
        (NeedsAMinute, "without the bars"),
        (NormalisesByTheDay, "without the bars"),
        (PeeksAtTheEnd, "without the bars"),
        (LooksAtTheLength, "without the bars"),
        (LooksAtTheMonth, "with the bars of this session alone"),
    ],
)
def test_other_ways_to_look_ahead_are_caught(
    home: Path,
    strategy: Any,
    made: type[Honest],
    change: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A missing bar, the day's own extremes, `[..., -1]`, the number of minutes, and the month's other sessions."""
    strategy(made, monkeypatch)
    found = checked(home, capsys, 1)["found"]

    assert {one["change"].partition(" from")[0] for one in found} == {change}


def test_a_filter_that_looks_ahead_is_caught(home: Path, strategy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last close is not known at the signal; the signal's own close is."""
    strategy(Honest, monkeypatch)
    assembly = assemble(home, "backtest", SystemClock())
    over = BacktestRange(first=dt.date.fromisoformat(FIRST), last=dt.date.fromisoformat(LAST))
    late = JudgesBy(lambda signals, bars: bars.close[(*signals.cells, np.full(len(signals), -1))])
    fair = JudgesBy(lambda signals, bars: bars.close[(*signals.cells, signals.minute)])
    gone = JudgesBy(lambda signals, bars: bars.close[(*signals.cells, signals.minute + 1)])
    report = check_lookahead(attrs.evolve(assembly, filters={"fair": fair, "late": late}), over)
    assert {one.plugin for one in report.found} == {"filter/late"}
    assert (len(report.found), report.found[0].strategy, report.found[0].symbol) == (5, "acme", "AAA")
    assert report.found[0].found == "value 20.11 of number instead of 23.9"
    with pytest.raises(IndexError):  # a filter of an assembly is guarded: it raises PluginError
        check_lookahead(attrs.evolve(assembly, filters={"gone": gone}), over)


class SlowClock(ManualClock):
    """A clock on which every block takes more than a minute."""

    def monotonic(self) -> float:
        """A minute later each time."""
        self.advance(60.5)
        return super().monotonic()


def test_a_check_of_more_than_a_minute_is_made_on_a_sample(
    home: Path, strategy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time is used up, one session of each block is checked; the report says how many; --all checks each."""
    strategy(PeeksAMinute, monkeypatch)
    clock: Clock = SlowClock(dt.datetime(2026, 1, 5, tzinfo=dt.UTC))
    assembly = assemble(home, "backtest", clock)
    over = BacktestRange(first=dt.date.fromisoformat(FIRST), last=dt.date.fromisoformat(LAST))
    report = check_lookahead(assembly, over)
    assert (report.checked, report.sessions) == (4, 5)
    assert check_lookahead(assembly, over, budget_s=None).checked == 5
    assert " ".join(lookahead_lines(report, None)).count("4 sessions of 5 (a sample: --all checks every one)") == 1


def test_many_findings_are_counted_and_none_without_a_signal_proves_nothing(
    home: Path, strategy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most ten findings are lines; a range without a signal is said to be one."""
    strategy(PeeksAMinute, monkeypatch)
    assembly = assemble(home, "backtest", SystemClock())
    report = check_lookahead(assembly, BacktestRange(first=dt.date(2018, 6, 28), last=dt.date(2018, 6, 28)))
    many = list(lookahead_lines(attrs.evolve(report, found=report.found * 13), None))
    assert sum(line.startswith("[acme] 2018-06-28 09:39 AAA") for line in many) == 10
    assert "... and 3 more; --json has all." in many
    none = list(lookahead_lines(attrs.evolve(report, found=(), signals=0), None))
    assert none[-1] == "No look-ahead, but no signal either: nothing could differ."


def test_all_belongs_to_the_check(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A backtest trades every session anyway: --all alone is wrong usage."""
    assert cli.invoke(["backtest", *RANGE, "--all", "--home", str(home)]) == 2
    assert "--all belongs to --check-lookahead." in capsys.readouterr().err
