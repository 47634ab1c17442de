"""The strategies of docs/tutorials/daily-strategies.md: they keep their contract, and trade alike in every clock."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import pytest

from tbot_core.backtest.engine import BacktestRange, run_backtest
from tbot_core.contracts import FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.model.clock import ManualClock
from tbot_core.rehearsal.broker_rehearsal import broker_plugin
from tbot_core.rehearsal.session_rehearsal import SessionTerms, rehearse_session
from tbot_core.testing.store import StoreFixture, exchange_sessions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.model.calendar import Session

PAGE: Final = (Path(__file__).parents[2] / "docs" / "tutorials" / "daily-strategies.md").read_text(encoding="utf-8")
NAMES: Final = ("pullback", "gap_fade")
SESSIONS: Final = exchange_sessions("2018-05-01", "2018-06-20")
TRADED: Final = SESSIONS[-6:]
SPLIT_AT: Final = len(SESSIONS) - 4
SYMBOLS: Final = ("ANN", "BOB", "CAT", "DOG")
CLOCK: Final = ManualClock(dt.datetime(2026, 1, 5, tzinfo=dt.UTC))
SETTINGS: Final = """\
BROKER_NAME=PAPER
FILTERS=none
FILTER_MISSING_DATA=pass
STRATEGY_SEQUENCE=pullback,gap_fade
START_TIME_PULLBACK=14:30
PULLBACK_ANALYSIS_TIME=5
PULLBACK_BREAKOUT_TIME=60
PULLBACK_MONITORING_TIME=30
PULLBACK_TREND_DAYS=25
PULLBACK_RSI=50
START_TIME_GAP_FADE=14:30
GAP_FADE_ANALYSIS_TIME=5
GAP_FADE_BREAKOUT_TIME=60
GAP_FADE_MONITORING_TIME=30
GAP_FADE_DAYS=2
GAP_FADE_LEAST=0.001
SHORT_TYPE_GAP_FADE=ShortSell
MAX_GAP_PCT_PULLBACK=0.5
MAX_GAP_PCT_GAP_FADE=0.5
TOTAL_ALLOCATION=0.3
MAX_TRADES=4
WEIGHTS=0.25,0.25,0.25,0.25
MAX_RISK_PER_TRADE=0.2
MAX_GROSS_EXPOSURE=1
MAX_OPEN_POSITIONS=20
ENTRY_ORDER_TYPE=market
VOLUME_LIMIT=0
DAILY_LOSS_LIMIT=0.5
WINDOW_LOSS_LIMIT=0.5
"""


def code(name: str) -> str:
    """The module of the page and its test, without the import that both begin with."""
    blocks = re.findall(rf"```python {name}\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    return "\n".join(blocks)


def names(module: str) -> dict[str, Any]:
    """What the page's code defines."""
    found: dict[str, Any] = {"__name__": module}
    exec(compile(code(module), "docs/tutorials/daily-strategies.md", "exec", dont_inherit=True), found)
    return found


PULLBACK, GAP_FADE = (names(name) for name in NAMES)
TestPullback: type[Any] = PULLBACK["TestPullback"]
TestGapFade: type[Any] = GAP_FADE["TestGapFade"]
test_a_fall_in_a_trend_is_bought_above_the_previous_close = PULLBACK[
    "test_a_fall_in_a_trend_is_bought_above_the_previous_close"
]
test_a_gap_that_does_not_hold_is_sold = GAP_FADE["test_a_gap_that_does_not_hold_is_sold"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both strategies as installed distributions."""
    site = tmp_path / "site"
    for name in NAMES:
        info = site / f"acme_{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(code(name))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[tbot.strategies]\n{name} = {name}\n")
        (info / "RECORD").write_text(f"{name}.py,,\n")
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    yield
    for name in NAMES:
        sys.modules.pop(name, None)


def market(symbol: str, seed: int) -> pl.DataFrame:
    """Sessions that rise over the weeks, with falls of a day or two, and gaps that are lost within the hour."""
    chance, price, frames = np.random.default_rng(seed), 60.0 + 7 * seed, []
    for number, session in enumerate(SESSIONS):
        gap = chance.choice([-0.03, 0.0, 0.0, 0.03]) + chance.normal(0.001, 0.01)
        steps = np.cumsum(chance.normal(0, 0.0004, session.minutes)) - gap * 0.6 * np.minimum(
            np.arange(session.minutes) / 40, 1
        )
        close = price * (1 + gap) * np.exp(steps)
        price = float(close[-1])
        divisor = 2.0 if symbol == "ANN" and number >= SPLIT_AT else 1.0
        frames.append(bars(symbol, session, np.round(close / divisor, 2)))
    return pl.concat(frames)


def bars(symbol: str, session: Session, close: np.ndarray[Any, Any]) -> pl.DataFrame:
    """The bars of a session with these closes."""
    opened = np.concatenate((close[:1], close[:-1]))
    return pl.DataFrame(
        {
            "symbol": [symbol] * session.minutes,
            "ts": [session.moment(minute) for minute in range(session.minutes)],
            "open": opened,
            "high": np.maximum(opened, close) + 0.01,
            "low": np.minimum(opened, close) - 0.01,
            "close": close,
            "volume": [50_000] * session.minutes,
        }
    )


@pytest.fixture
def home(tmp_path: Path, installed: None) -> Path:  # noqa: ARG001
    """An instance with seven weeks of stored bars, and a split in its last week."""
    folder = tmp_path / "home"
    (folder / "data").mkdir(parents=True)
    (folder / ".env_bot").write_text(SETTINGS)
    bench = StoreFixture(folder=folder / "data")
    bench.put(*(market(symbol, seed) for seed, symbol in enumerate(SYMBOLS)))
    bench.put_text(f"date,symbol,before,after\n{SESSIONS[SPLIT_AT].date},ANN,1,2\n", name="splits.csv")
    return folder


def backtested(home: Path) -> dict[str, Any]:
    """The document of a backtest of the last sessions."""
    over = BacktestRange(first=TRADED[0].date, last=TRADED[-1].date)
    return run_backtest(assemble(home, "backtest", CLOCK), over).document()


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_backtest_and_replay_of_daily_strategies_are_one(home: Path) -> None:
    """The same trades and denials of both strategies, across a split."""
    backtest = backtested(home)
    assembly = assemble(home, "replay", CLOCK)
    assert assembly.extra_facts.daily_bars == 25
    request = FeedRequest(
        kind="replay",
        first=TRADED[0].date,
        last=TRADED[-1].date,
        bars=assembly.settings.instance.bars,
        calendar=assembly.calendar,
        extra_facts=assembly.extra_facts,
    )
    outcome = asyncio.run(run(RunPlan(assembly=assembly, request=request, wall=CLOCK), RunWatcher()))
    replay = outcome.summary.document()
    for part in ("trades", "denials", "equity_end", "data_hash"):
        assert backtest[part] == replay[part], part
    traded = [trade["strategy"] for trade in backtest["trades"]]
    assert min(traded.count(name) for name in NAMES) > 2


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_what_is_known_later_changes_no_trade_before(home: Path) -> None:
    """Other bars from a day on, and a split announced for it, leave the trades before it as they are."""
    day = TRADED[3].date
    before = [one for one in backtested(home)["trades"] if one["entry_time"] < f"{day}"]
    bench = StoreFixture(folder=home / "data")
    kept = [one for one in SESSIONS if one.date >= day]
    others = [pl.concat([bars(name, one, np.full(one.minutes, 9.0)) for one in kept]) for name in SYMBOLS]
    bench.put(*others, replace=True)
    bench.put_text(f"date,symbol,before,after\n{day},BOB,1,3\n{SESSIONS[-1].date},CAT,4,1\n", name="later.csv")
    after = backtested(home)["trades"]
    assert [one for one in after if one["entry_time"] < f"{day}"] == before
    assert len(before) > 4
    earlier = "".join(f"{TRADED[0].date},{name},1,3\n" for name in SYMBOLS)
    bench.put_text(f"date,symbol,before,after\n{earlier}", name="earlier.csv")
    assert [one for one in backtested(home)["trades"] if one["entry_time"] < f"{day}"] != before


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("loopback")
def test_a_rehearsed_day_of_daily_strategies_is_its_replay(home: Path) -> None:
    """At Alpaca's venue, which is asked for the daily bars: the same signals, orders and trades."""
    day = SESSIONS[SPLIT_AT].date
    with (home / ".env_bot").open("a") as settings:
        settings.write("UNIVERSE=ANN,BOB\n")
    report = rehearse_session(broker_plugin("alpaca"), home, day, SessionTerms(), CLOCK)
    assert report.disagreements == ()
    assert [one.sentence for one in report.differences] == []
    assert report.trades > 0
