"""Replay and backtest are one decision path."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli
from tbot_core.backtest.engine import BacktestRange, run_backtest
from tbot_core.contracts import FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.model.clock import ManualClock
from tbot_core.system import filesystem
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.reports.summary import RunSummary

SAME = ("trades", "denials", "sessions", "symbols", "equity_start", "equity_end", "settings_hash", "data_hash", "notes")
CLOCK = ManualClock(dt.datetime(2026, 1, 5, tzinfo=dt.UTC))


def both(home: Path, first: dt.date, last: dt.date) -> tuple[dict[str, Any], dict[str, Any]]:
    """The documents of a backtest and of a replay of the same range; `exact`: amounts with all their digits."""
    tested = run_backtest(assemble(home, "backtest", CLOCK), BacktestRange(first=first, last=last))
    assembly = assemble(home, "replay", CLOCK)
    request = FeedRequest(
        kind="replay",
        first=first,
        last=last,
        bars=assembly.settings.instance.bars,
        calendar=assembly.calendar,
        extra_facts=assembly.extra_facts,
    )
    outcome = asyncio.run(run(RunPlan(assembly=assembly, request=request, wall=CLOCK), RunWatcher()))
    return _compared(tested), _compared(outcome.summary)


def _compared(summary: RunSummary) -> dict[str, Any]:
    document = summary.document()
    amounts = [amount for trade in summary.trades for amount in (trade.pnl, trade.fees)]
    return {key: document[key] for key in SAME} | {"exact": [*amounts, summary.equity_start, summary.equity_end]}


def check(make: Callable[[int], Any], bars: int, settings: range) -> int:
    """Compare the clocks on one market under several settings; the number of trades."""
    instance = make(bars)
    trades = 0
    for seed in settings:
        instance.settle(seed)
        tested, replayed = both(instance.home, instance.first, instance.last)
        assert tested == replayed, f"bars {bars}, settings {seed}"
        trades += len(tested["trades"])
    return trades


@pytest.mark.slow
@pytest.mark.parametrize(("bars", "settings"), [(1, 2), (1, 5), (8, 5), (15, 5)])
def test_random_markets_trade_alike(random_instance: Callable[[int], Any], bars: int, settings: int) -> None:
    """On random bars under random settings replay and backtest give the same trades, denials and equity."""
    assert check(random_instance, bars, range(bars * 1000, bars * 1000 + settings)) > 4 * settings


@pytest.mark.slow
def test_what_a_fill_sets_free_is_sent_before_its_minute_is_judged(random_instance: Callable[[int], Any]) -> None:
    """A position whose stop was made anew for what was added may be trimmed in the same minute, in both clocks."""
    assert check(random_instance, 128, range(128008, 128009)) == 16


@pytest.mark.slow
def test_a_backtest_tests_its_own_assumptions(random_instance: Callable[[int], Any]) -> None:
    """It has the result of the run at twice the slippage, and of that whose entries fill one bar later."""
    instance = random_instance(2)
    over = BacktestRange(first=instance.first, last=instance.last)
    slips = {"SLIPPAGE_SIMULATION_TYPE": "randomized", "SIMULATED_LATENCY_MS": "0", "DAILY_LOSS_LIMIT": "1"}

    def tested(**changes: str) -> RunSummary:
        instance.settle(8003, **{**slips, **changes})
        return run_backtest(assemble(instance.home, "backtest", CLOCK), over)

    ours, twice = tested(), tested(SLIPPAGE_MEAN_PCT="0.30", SLIPPAGE_STDDEV_PCT="0.20")
    assert ours.reliability is not None
    cheap, prompt = ours.reliability.variants
    assert [cheap.words, prompt.words] == ["at twice the slippage", "with entries one bar later"]
    assert (cheap.trades, cheap.pnl) == (len(twice.trades), twice.pnl)
    assert twice.pnl < ours.pnl
    assert prompt.pnl != ours.pnl
    assert ours.document()["reliability"]["results"][2]["trades"] == prompt.trades


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_both_clocks_hold_no_more_than_the_account_is_granted(random_instance: Callable[[int], Any]) -> None:
    """Where MAX_LEVERAGE allows more than a simulated account may hold, that denies alike in replay and backtest."""
    instance = random_instance(1)
    every = dict.fromkeys(("MAX_RISK_PER_TRADE", "MAX_SYMBOL_EXPOSURE", "DAILY_LOSS_LIMIT", "WINDOW_LOSS_LIMIT"), "1")
    many = dict.fromkeys(("MAX_TRADES", "MAX_OPEN_POSITIONS"), "20")
    more = {"MAX_LEVERAGE": "4", "MAX_GROSS_EXPOSURE": "4", "FIXED_QUANTITY": "1000", "OPEN_MONITORING_TIME": "59"}
    instance.settle(8001, **every, **many, **more)
    tested, replayed = both(instance.home, instance.first, instance.last)
    assert tested == replayed
    assert tested["trades"]
    assert tested["denials"]["BUYING_POWER"] > 3


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_both_clocks_trim_alike(random_instance: Callable[[int], Any]) -> None:
    """With positions that are taken back to their share, and up to it, replay and backtest give the same trades."""
    instance = random_instance(3)
    ways = {"REBALANCE_ENABLED": "true", "REBALANCE_THRESHOLD": "0", "REBALANCE_CHECK_INTERVAL": "60"}
    apart = {"STOP_LOSS_PCT": "0.03", "TOTAL_ALLOCATION": "0.3", "MAX_RISK_PER_TRADE": "0.2", "VOLUME_LIMIT": "0"}
    wide = {"MAX_GROSS_EXPOSURE": "1", "FIXED_QUANTITY": "0", "DAILY_LOSS_LIMIT": "0.05", "WINDOW_LOSS_LIMIT": "0.10"}
    found = {}
    for enabled, top_up in (("false", "false"), ("true", "false"), ("true", "true")):
        switches = {"REBALANCE_ENABLED": enabled, "REBALANCE_TOP_UP": top_up}
        instance.settle(8002, **{**ways, **apart, **wide, **switches})
        tested, replayed = both(instance.home, instance.first, instance.last)
        assert tested == replayed
        found[enabled, top_up] = tested["trades"]
    assert found["true", "false"] != found["false", "false"]
    assert found["true", "true"] != found["true", "false"]


@pytest.mark.slow
def test_partial_volume_of_a_symbol_lifts_its_cap_alone(random_instance: Callable[..., Any]) -> None:
    """VOLUME_LIMIT is off for symbols with partial volume, which the notes name, and caps the fills of the others."""
    instance = random_instance(5, ("CCC", "AAA"))
    wide = dict.fromkeys(("MAX_RISK_PER_TRADE", "MAX_GROSS_EXPOSURE", "DAILY_LOSS_LIMIT", "WINDOW_LOSS_LIMIT"), "1")
    many = {"MAX_TRADES": "20", "MAX_OPEN_POSITIONS": "20", "FILTERS": "none", "SIMULATED_LATENCY_MS": "500"}
    once = {"FIXED_QUANTITY": "50", "VOLUME_LIMIT": "0.01", "REBALANCE_ENABLED": "false", "STRATEGY_SEQUENCE": "mid"}
    instance.settle(5000, **wide, **many, **once, STRAT_MID_VWAP_THRESHOLD="0.001", SHORT_TYPE_MID="ShortSell")
    tested, replayed = both(instance.home, instance.first, instance.last)
    assert tested == replayed
    whole = {symbol: set[bool]() for symbol in ("partial", "capped")}
    for trade in tested["trades"]:
        whole["partial" if trade["symbol"] in {"AAA", "CCC"} else "capped"].add(trade["quantity"] == "50")
    assert whole == {"partial": {True}, "capped": {True, False}}
    assert any("Volumes of AAA, CCC are a part of the tape: VOLUME_LIMIT is off" in one for one in tested["notes"])


@pytest.mark.slow
def test_what_is_denied_before_the_bell_is_not_counted_without_a_bar(random_instance: Callable[..., Any]) -> None:
    """VIX_LOW counts the symbols that traded that day: a symbol without a bar is no candidate, in both clocks."""
    instance = random_instance(6)
    alone = {"STRATEGY_SEQUENCE": "close", "START_TIME_CLOSE": "16:30", "FILTERS": "none"}
    instance.settle(6000, **alone, STRAT_CLOSE_VIX_THRESHOLD="30", CLOSE_BREAKOUT_TIME="10")
    tested, replayed = both(instance.home, instance.first, instance.last)
    assert tested == replayed
    assert tested["denials"] == {"VIX_LOW": 12 * 5}
    first = exchange_sessions(f"{instance.first}", f"{instance.first}")
    StoreFixture(folder=instance.home / "data").put(rising_bars("ZZZ", first, minutes=3))
    tested, replayed = both(instance.home, instance.first, instance.last)
    assert tested == replayed
    assert (tested["symbols"], tested["denials"]) == (13, {"VIX_LOW": 12 * 5 + 1})


@pytest.mark.slow
def test_a_window_before_the_bell_is_denied_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With TIME_ANCHOR=utc 13:30 lies before the bell in winter: its symbols are denied in both clocks and in `why`."""
    days = exchange_sessions("2026-03-05", "2026-03-09")  # daylight saving time begins on 8 March
    filesystem.make_folder(tmp_path / "data")
    StoreFixture(folder=tmp_path / "data").put(rising_bars("AAA", days), rising_bars("BBB", days))
    lines = ("BROKER_NAME=PAPER", "FILTERS=none", "TIME_ANCHOR=utc", "STRATEGY_SEQUENCE=open,mid", "UNIVERSE=AAA,BBB",
             "START_TIME_OPEN=13:30", "OPEN_BREAKOUT_TIME=90", "STRAT_OPEN_BUFFER=0", "VOLUME_LIMIT=0",
             "START_TIME_MID=15:30")  # fmt: skip
    filesystem.write_atomic(tmp_path / ".env_bot", "\n".join(lines).encode())
    tested, replayed = both(tmp_path, days[0].date, days[-1].date)
    assert tested == replayed
    assert tested["denials"]["WINDOW_OUTSIDE_SESSION"] == 2 * 2
    assert {trade["entry_time"][:10] for trade in tested["trades"] if trade["strategy"] == "open"} == {"2026-03-09"}
    asked = ["why", "AAA", "--date", "2026-03-06", "--at", "09:45", "--json", "--home", str(tmp_path)]
    assert cli.invoke(asked) == 0
    shown = json.loads(capsys.readouterr().out)
    reasons = {one["strategy"]: one["reason"] for one in shown["screening"]}
    assert reasons == {"open": "WINDOW_OUTSIDE_SESSION", "mid": "ALLOWED"}
    (minute,) = shown["minutes"]
    assert [part["comparisons"] for part in minute["strategies"] if part["strategy"] == "open"] == [[]]


@pytest.mark.full
@pytest.mark.parametrize("bars", range(100, 140))
def test_many_random_markets_trade_alike(random_instance: Callable[[int], Any], bars: int) -> None:
    """The same promise over many more markets and settings."""
    check(random_instance, bars, range(bars * 1000, bars * 1000 + 20))
