"""Backtest and replay give what a second computation gives that shares nothing with them."""

from __future__ import annotations

import datetime as dt
import json
import random
import runpy
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from click.testing import CliRunner

from tbot_core.cli import group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DAYS = [dt.date(2026, 1, day) for day in (5, 6, 7, 8, 9, 12)]
LOOSE = dict.fromkeys(("MAX_SYMBOL_EXPOSURE", "MAX_GROSS_EXPOSURE", "DAILY_LOSS_LIMIT", "WINDOW_LOSS_LIMIT"), "1")
SETTINGS = {
    **LOOSE,
    "BROKER_NAME": "PAPER",
    "STRATEGY_SEQUENCE": "open",
    "FILTERS": "none",
    "PAPER_CASH": "100000",
    "FRACTIONAL": "false",
    "START_TIME_OPEN": "14:30",
    "OPEN_ANALYSIS_TIME": "10",
    "OPEN_BREAKOUT_TIME": "60",
    "OPEN_MONITORING_TIME": "60",
    "STRAT_OPEN_BUFFER": "0.001",
    "STOP_LOSS_PCT": "0.01",
    "TOTAL_ALLOCATION": "0.4",
    "WEIGHTS": "0.4,0.3,0.2,0.1",
    "MAX_TRADES": "4",
    "MAX_RISK_PER_TRADE": "0.12",
    "MAX_OPEN_POSITIONS": "4",
    "ENTRY_ORDER_TYPE": "limit",
    "ENTRY_LIMIT_PCT": "0.002",
    "SHORT_TYPE_OPEN": "ShortSell",
    "VOLUME_LIMIT": "0.10",
    "FLATTEN_BEFORE_CLOSE": "5",
    "REBALANCE_ENABLED": "false",
    "REBALANCE_THRESHOLD": "0.001",
    "REBALANCE_CHECK_INTERVAL": "300",
    "FEE_PER_SHARE": "0.005",
    "FEE_SELL_BPS": "0.278",
    "SLIPPAGE_SIMULATION_TYPE": "none",
    "SIMULATED_LATENCY_MS": "0",
    "MIN_PRICE": "0",
    "MAX_PRICE": "0",
    "MAX_GAP_PCT_OPEN": "1",
    "GAP_REFERENCE": "current",
    "FILTER_MISSING_DATA": "reject",
    "BLOCKLIST": "",
    "MAX_ORDER_NOTIONAL": "0",
}


@pytest.fixture(scope="module")
def second() -> dict[str, Any]:
    """The names of the second computation."""
    return runpy.run_path(str(Path(__file__).with_name("independent_backtest.py")))


@pytest.fixture
def traded(tmp_path: Path, second: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """What a command of tbot gives for settings and sessions, in the shape of the second computation.

    `kinds`: the adjustment of symbols whose prices are not raw.
    """

    def run(
        settings: dict[str, str],
        sessions: dict[dt.date, Any],
        *,
        replay: bool = False,
        kinds: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Any]:
        write_settings(tmp_path, settings)
        if not (tmp_path / "data").exists():
            for kind in {"raw", *kinds.values()}:
                held = {
                    day: {symbol: found for symbol, found in bars.items() if kinds.get(symbol, "raw") == kind}
                    for day, bars in sessions.items()
                }
                (tmp_path / f"{kind}.csv").write_text(second["csv_of"](held), encoding="utf-8")
                invoke("data", "import", str(tmp_path / f"{kind}.csv"), "--adjustment", kind, "--home", str(tmp_path))
        first, last = f"{sorted(sessions)[2]}", f"{max(sessions)}"
        words = ["run", "--replay", f"{first}..{last}"] if replay else ["backtest", "--from", first, "--to", last]
        found = json.loads(invoke(*words, "--json", "--home", str(tmp_path)))
        shown = [{name: text for name, text in one.items() if name != "exit_price"} for one in found["trades"]]
        return {
            "trades": sorted(shown, key=second["order"]),
            "denials": found["denials"],
            "equity_end": found["equity_end"],
        }

    return run


def write_settings(home: Path, settings: dict[str, str]) -> None:
    """Write the settings of an instance."""
    texts = "".join(f"{name}={text}\n" for name, text in settings.items())
    (home / ".env_bot").write_text(texts, encoding="utf-8")


def invoke(*words: str) -> str:
    """What a command prints; it must succeed."""
    result = CliRunner().invoke(group, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


BURSTS = {
    "REBALANCE_ENABLED": "true",
    "REBALANCE_THRESHOLD": "0",
    "OPEN_ANALYSIS_TIME": "20",
    "OPEN_BREAKOUT_TIME": "120",
    "OPEN_MONITORING_TIME": "200",
    "ENTRY_ORDER_TYPE": "market",
}
RANDOM: list[tuple[int, dict[str, str]]] = [
    (22, {**BURSTS, "REBALANCE_CHECK_INTERVAL": "60"}),
    (1, {"REBALANCE_ENABLED": "true"}),
    (13, {"REBALANCE_ENABLED": "true", "REBALANCE_THRESHOLD": "0", "STOP_LOSS_PCT": "0.003", "VOLUME_LIMIT": "0"}),
    (16, {"VOLUME_LIMIT": "0.01", "MAX_OPEN_POSITIONS": "2", "STRAT_OPEN_BUFFER": "0"}),
    (25, {"ENTRY_ORDER_TYPE": "market", "FLATTEN_BEFORE_CLOSE": "60", "OPEN_MONITORING_TIME": "300"}),
    (33, {"SIMULATED_LATENCY_MS": "60000", "SHORT_TYPE_OPEN": "disabled", "ENTRY_LIMIT_PCT": "0"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "changes"), RANDOM)
def test_random_sessions(
    second: dict[str, Any], traded: Callable[..., dict[str, Any]], seed: int, changes: dict[str, str]
) -> None:
    """Trades, denials and equity are those of the second computation, to the cent."""
    sessions = second["random_sessions"](seed, DAYS, "ABCDEF", bursts=changes.keys() >= BURSTS.keys())
    settings = {**SETTINGS, **changes}
    expected = second["computed"](settings, sessions, Decimal(100_000))
    assert expected["trades"]
    assert traded(settings, sessions) == expected
    assert traded(settings, sessions, replay=True) == expected


def drawn(chance: random.Random) -> dict[str, str]:
    """Settings drawn at random."""
    pick = chance.choice
    return {
        **SETTINGS,
        "OPEN_ANALYSIS_TIME": pick(["3", "10", "20"]),
        "OPEN_BREAKOUT_TIME": pick(["15", "60", "120"]),
        "OPEN_MONITORING_TIME": pick(["1", "60", "200"]),
        "STRAT_OPEN_BUFFER": pick(["0", "0.001", "0.003"]),
        "STOP_LOSS_PCT": pick(["0.003", "0.01"]),
        "ENTRY_ORDER_TYPE": pick(["limit", "market"]),
        "ENTRY_LIMIT_PCT": pick(["0", "0.0005", "0.002"]),
        "VOLUME_LIMIT": pick(["0.10", "0.01", "0.002", "0"]),
        "REBALANCE_ENABLED": pick(["true", "true", "false"]),
        "REBALANCE_THRESHOLD": pick(["0", "0.001"]),
        "REBALANCE_CHECK_INTERVAL": pick(["60", "120", "300", "1000"]),
        "SHORT_TYPE_OPEN": pick(["ShortSell", "ShortSell", "disabled"]),
        "MAX_TRADES": pick(["2", "4"]),
        "MAX_OPEN_POSITIONS": pick(["2", "4"]),
        "SIMULATED_LATENCY_MS": pick(["0", "60000"]),
        "FLATTEN_BEFORE_CLOSE": pick(["1", "5", "60"]),
        "FILTERS": pick(["none", ""]),
        "MIN_PRICE": pick(["0", "20"]),
        "MAX_PRICE": pick(["0", "100"]),
        "MAX_GAP_PCT_OPEN": pick(["1", "0.01"]),
        "GAP_REFERENCE": pick(["current", "previous_close"]),
        "MAX_ORDER_NOTIONAL": pick(["0", "11000"]),
    }


@pytest.mark.full
@pytest.mark.parametrize("seed", range(20))
def test_random_settings(second: dict[str, Any], traded: Callable[..., dict[str, Any]], seed: int) -> None:
    """The same under settings drawn at random, in calm and in bursting markets."""
    settings = drawn(random.Random(seed))
    sessions = second["random_sessions"](seed, DAYS, "ABCDEF", bursts=seed % 2 == 1)
    expected = second["computed"](settings, sessions, Decimal(100_000))
    assert traded(settings, sessions) == expected
    assert traded(settings, sessions, replay=True) == expected


REAL: list[dict[str, str]] = [
    {"VOLUME_LIMIT": "0.0005", "REBALANCE_ENABLED": "true", "REBALANCE_CHECK_INTERVAL": "60"},
    {"ENTRY_ORDER_TYPE": "market", "OPEN_MONITORING_TIME": "250", "STOP_LOSS_PCT": "0.003"},
    {"FILTERS": "", "GAP_REFERENCE": "previous_close", "MAX_GAP_PCT_OPEN": "0.01", "MAX_PRICE": "200"},
]


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
@pytest.mark.parametrize("changes", REAL)
def test_recorded_sessions(
    second: dict[str, Any], traded: Callable[..., dict[str, Any]], shared: Path, changes: dict[str, str]
) -> None:
    """The same on recorded sessions of sixteen stocks."""
    sessions: dict[dt.date, Any] = {}
    paths = sorted((shared / "data" / "bars" / "us300_2018").glob("*.parquet"))
    for path in paths:
        for row in pl.read_parquet(path).iter_rows(named=True):
            day = row["ts"].date()
            if day < dt.date(2018, 3, 9):  # in winter time
                bars = sessions.setdefault(day, {one.stem: [None] * 390 for one in paths})[path.stem]
                prices = [Decimal(str(row[name])) for name in ("open", "high", "low", "close")]
                bars[(row["ts"] - second["opening"](day)) // dt.timedelta(minutes=1)] = second["Bar"](
                    *prices, row["volume"]
                )
    settings = {**SETTINGS, **changes}
    expected = second["computed"](settings, sessions, Decimal(100_000))
    assert len(expected["trades"]) > 40
    assert traded(settings, sessions) == expected


def steady(second: dict[str, Any], price: str, changes: Mapping[int, tuple[str, int]]) -> list[Any]:
    """A session at one price, with a high and a low five cents away in its first ten minutes.

    From the minute of each change on another price holds, in that minute with so many shares.
    """
    bars, now = [], Decimal(price)
    for minute in range(390):
        if minute in changes:
            now = Decimal(changes[minute][0])
        away = Decimal("0.05") if minute < 10 else Decimal(0)
        volume = changes[minute][1] if minute in changes else 1_000_000
        bars.append(second["Bar"](now, now + away, now - away, now, volume))
    return bars


def test_a_stop_that_has_triggered_is_not_replaced_by_a_trim(
    second: dict[str, Any], traded: Callable[..., dict[str, Any]]
) -> None:
    """It fills at the next open, though the check of that minute found the position too large."""
    calm = steady(second, "10.00", {})
    falls = steady(second, "10.00", {10: ("9.90", 10**6), 14: ("9.99", 5), 15: ("9.92", 10**6)})
    sessions = {day: {"AAA": falls if day == DAYS[2] else calm} for day in DAYS[:3]}
    settings = {**SETTINGS, "REBALANCE_ENABLED": "true", "FEE_PER_SHARE": "0", "FEE_SELL_BPS": "0"}
    expected = second["computed"](settings, sessions, Decimal(100_000))
    assert [(one["quantity"], one["pnl"], one["exit_reason"]) for one in expected["trades"]] == [
        ("1212", "-24.24", "STOP")
    ]
    assert traded(settings, sessions) == expected
    assert traded(settings, sessions, replay=True) == expected


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["reject", "pass"])
@pytest.mark.parametrize("kind", ["split", "total"])
def test_limits_on_price_do_not_judge_adjusted_prices(
    second: dict[str, Any], traded: Callable[..., dict[str, Any]], kind: str, missing: str
) -> None:
    """A symbol with adjusted bars is denied as unknown or trades without the limit; the others are compared with it."""
    sessions = second["random_sessions"](25, DAYS, "ABCDEF")
    bought = {one["symbol"]: one for one in second["computed"](SETTINGS, sessions, Decimal(100_000))["trades"]}
    most = sorted(Decimal(one["entry_price"]) for one in bought.values())[len(bought) // 2]
    settings = {**SETTINGS, "FILTERS": "", "MAX_PRICE": f"{most}", "FILTER_MISSING_DATA": missing}
    adjusted = sorted(bought)[:2]
    expected = second["computed"](settings, sessions, Decimal(100_000), adjusted)
    assert (expected["denials"].get("PRICE_UNKNOWN"), any(one["symbol"] in adjusted for one in expected["trades"])) == (
        (8, False) if missing == "reject" else (None, True)
    )
    assert expected["denials"]["PRICE_HIGH"]
    kinds = dict.fromkeys(adjusted, kind)
    assert traded(settings, sessions, kinds=kinds) == expected
    assert traded(settings, sessions, kinds=kinds, replay=True) == expected


@pytest.mark.slow
def test_an_early_close_of_the_operator_ends_the_day_for_the_next_one(
    second: dict[str, Any], traded: Callable[..., dict[str, Any]]
) -> None:
    """Gap and short-sale rule compare with the close of the shortened session, also if it was shortened later."""
    whole = second["random_sessions"](25, DAYS, "ABCDEF")
    early = DAYS[3]
    whole[early] = {
        symbol: [fallen(second, bar) if bar and at >= 210 else bar for at, bar in enumerate(bars)]
        for symbol, bars in whole[early].items()
    }
    settings = {**SETTINGS, "FILTERS": "", "GAP_REFERENCE": "previous_close", "MAX_GAP_PCT_OPEN": "0.02"}
    assert traded(settings, whole) == second["computed"](settings, whole, Decimal(100_000))
    sessions = second["shortened"](whole, early, 210)
    expected = second["computed"](settings, sessions, Decimal(100_000))
    assert expected["denials"]["GAP_LARGE"]
    assert any(one["side"] == "short" and one["entry_time"].startswith(f"{DAYS[4]}") for one in expected["trades"])
    settings["CALENDAR_OVERRIDES"] = f"{early} 13:00"
    assert traded(settings, sessions) == expected
    assert traded(settings, sessions, replay=True) == expected


def fallen(second: dict[str, Any], bar: Any) -> Any:
    """A minute at less than two thirds of its prices."""
    prices = [(price * Decimal("0.65")).quantize(Decimal("0.01")) for price in (bar.open, bar.high, bar.low, bar.close)]
    return second["Bar"](*prices, bar.volume)


STAGES: list[tuple[int, dict[str, str], set[str]]] = [
    (
        25,
        {"FILTERS": "", "BLOCKLIST": "AAA,FFF", "MAX_PRICE": "130", "MAX_GAP_PCT_OPEN": "0.004", "MAX_TRADES": "1"},
        {"BLOCKLISTED", "PRICE_HIGH", "GAP_LARGE", "SHORT_DISABLED", "MAX_TRADES"},
    ),
    (25, {"MAX_ORDER_NOTIONAL": "11990"}, {"SHORT_DISABLED", "MAX_TRADES", "MAX_OPEN_POSITIONS", "ORDER_NOTIONAL"}),
    (
        16,
        {
            "MAX_TRADES": "4",
            "MAX_OPEN_POSITIONS": "3",
            "TOTAL_ALLOCATION": "0.003",
            "MAX_GROSS_EXPOSURE": "0.0014",
            "MAX_ORDER_NOTIONAL": "95",
        },
        {"SHORT_DISABLED", "QUANTITY_TOO_SMALL", "ORDER_NOTIONAL", "GROSS_EXPOSURE"},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "changes", "reasons"), STAGES)
def test_the_first_stage_that_denies_gives_the_reason(
    second: dict[str, Any],
    traded: Callable[..., dict[str, Any]],
    tmp_path: Path,
    seed: int,
    changes: dict[str, str],
    reasons: set[str],
) -> None:
    """Where several deny a signal the first counts: in a backtest, a replay and `why`; without a bar nothing counts."""
    sessions = second["random_sessions"](seed, DAYS, "ABCDEF")
    sessions[DAYS[3]]["FFF"] = [None] * 390
    several = {"STRAT_OPEN_BUFFER": "0", "SHORT_TYPE_OPEN": "disabled", "MAX_TRADES": "2", "MAX_OPEN_POSITIONS": "1"}
    settings = {**SETTINGS, **several, **changes}
    expected = second["computed"](settings, sessions, Decimal(100_000))
    assert expected["denials"].keys() >= reasons
    assert traded(settings, sessions) == expected
    assert traded(settings, sessions, replay=True) == expected
    decided = second["traded_days"](settings, sessions, Decimal(100_000))[DAYS[4]].decided
    for symbol, reason in decided.items():
        why = json.loads(invoke("why", symbol, "--date", f"{DAYS[4]}", "--json", "--home", str(tmp_path)))
        assert [one["reason"] for one in why["decisions"]] == [reason]
