"""Rules that tie several settings together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tbot_core.instance import examine_settings
from tbot_core.instance.loading import package_version

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.instance.findings import Mode

FAILS: list[tuple[str, str]] = [
    ("VERSION_TAG=v99.0.0", "VERSION_TAG=v99.0.0: the file is for major version 99, this is tbot"),
    ("WEIGHTS=0.6,0.6,0,0", "WEIGHTS=0.6,0.6,0,0: the sum is 1.2, at most 1 is allowed."),
    ("MAX_TRADES=5", "MAX_TRADES=5 is more than the 4 weights of WEIGHTS"),
    ("STRATEGY_SEQUENCE=mid,MID", "STRATEGY_SEQUENCE=mid,mid: mid is listed more than once."),
    ("STRATEGY_SEQUENCE=op-en", "STRATEGY_SEQUENCE=op-en: op-en is not a valid strategy name"),
    ("STRATEGY_OVERRIDE=mid\nSTRAT_MID_ENABLED=off", "STRATEGY_OVERRIDE=mid: STRAT_MID_ENABLED=false disables it."),
    ("START_TIME_OPEN=14:29", "START_TIME_OPEN=14:29 is outside of every session"),
    ("START_TIME_OPEN=21:00", "START_TIME_OPEN=21:00 is outside of every session"),
    ("START_TIME_OPEN=13:29\nTIME_ANCHOR=utc", "START_TIME_OPEN=13:29 is outside of every session"),
    ("START_TIME_OPEN=20:26", "START_TIME_OPEN=20:26: the entry phase ends 386 minutes after the bell"),
    ("START_TIME_OPEN=09:29 ET", "START_TIME_OPEN=09:29 ET is outside of every session"),
    ("START_TIME_OPEN=15:26 ET", "START_TIME_OPEN=15:26 ET: the entry phase ends 386 minutes after the bell"),
    ("OPEN_BREAKOUT_TIME=366", "START_TIME_OPEN=14:30: the entry phase ends 386 minutes after the bell"),
    ("MIN_PRICE=9\nMAX_PRICE=8", "MIN_PRICE=9 is more than MAX_PRICE=8."),
    (
        "MIN_MARKET_CAP_OPEN=9\nMAX_MARKET_CAP_OPEN=8",
        "MIN_MARKET_CAP_OPEN=9 is more than MAX_MARKET_CAP_OPEN=8.",
    ),
    ("FILTERS=a,a", "FILTERS=a,a: a name is repeated."),
    ("FILTERS=-mine", "FILTERS=-mine: mine cannot be taken away, only a standard filter can (price_volume, finnhub,"),
    ("FILTERS=-finnhub,finnhub", "FILTERS=-finnhub,finnhub: finnhub is named and taken away."),
    ("FILTERS=price_volume,none", "FILTERS=price_volume,none: price_volume is named and taken away."),
    ("DAILY_LOSS_LIMIT=0", "DAILY_LOSS_LIMIT=0: allowed is a fraction (0.02 is 2 %) from 0 to 1 and more than 0."),
    (
        "WINDOW_LOSS_LIMIT=0.0",
        "WINDOW_LOSS_LIMIT=0.0: allowed is a fraction (0.02 is 2 %) from 0 to 1 and more than 0.",
    ),
    ("STOP_LOSS_PCT=1", "STOP_LOSS_PCT=1: allowed is a fraction (0.02 is 2 %) from 0.0001 to 0.99."),
]

WARNS: list[tuple[str, str]] = [
    ("DEFENSE_MODE_TOTAL_ALLOCATION=0.03", "DEFENSE_MODE_TOTAL_ALLOCATION is larger than TOTAL_ALLOCATION"),
    ("STRAT_OPEN_ENABLED=false", "No strategy is enabled: nothing will be traded."),
    ("TIME_ANCHOR=utc", "TIME_ANCHOR=utc: relative to the bell, start times shift by one hour"),
    ("VIX_SOURCE=live", "VIX_SOURCE=live is for live trading only"),
    ("FAILOVER_ENABLED=true", "FAILOVER_ENABLED=true without FAILOVER_BROKERS"),
    ("ENABLE_BSM_FILTER=true", "No SHORT_TYPE_* is LongPut, so the filter black_scholes has nothing to judge."),
    (
        "SHORT_TYPE_OPEN=LongPut\nENABLE_BSM_FILTER=true",
        "SHORT_TYPE_OPEN=LongPut: not available, so all short signals of open are denied.",
    ),
    (
        "SHORT_TYPE_OPEN=InverseETF",
        "SHORT_TYPE_OPEN=InverseETF: not available, so all short signals of open are denied. SHORT_TYPE_OPEN=ShortSell",
    ),
    ("EARNINGS_BLACKOUT=true", "EARNINGS_BLACKOUT=true: no effect without the filter finnhub, which is not on."),
    (
        "FILTERS=-finnhub\nENABLE_FINNHUB_FUNDAMENTALS_FILTER=true",
        "ENABLE_FUNNHUB_FUNDAMENTALS_FILTER=true: no effect, since FILTERS=-finnhub takes finnhub away.",
    ),
    (
        "FILTERS=none\nENABLE_BSM_FILTER=true",
        "ENABLE_BSM_FILTER=true: no effect, since FILTERS=none takes black_scholes away.",
    ),
    ("TRADING_DAYS=mon,sat", "TRADING_DAYS=mon,sat: the exchange is closed on Saturday and Sunday."),
]

CHECKED = "REBALANCE_ENABLED=true\nREBALANCE_CHECK_INTERVAL=60\nREBALANCE_THRESHOLD="
REBALANCE = "REBALANCE_ENABLED=true\nREBALANCE_THRESHOLD=0.01\nREBALANCE_CHECK_INTERVAL="
NOTIFIER = "ENABLE_REBALANCE_NOTIFIER=true\nREBALANCE_TRIGGER_PCT="

NOTES: list[tuple[str, str]] = [
    # `open` holds positions from the fill of minute 21 to the exits of minute 59
    (f"{REBALANCE}3600", "REBALANCE_CHECK_INTERVAL=3600s: no check meets a position of any strategy: each is opened"),
    (f"{REBALANCE}4000", "REBALANCE_CHECK_INTERVAL=4000s: no check meets a position of any strategy"),
    (f"{REBALANCE}3540\nSTART_TIME_OPEN=15:28", "no check meets a position of any strategy"),
    (f"{REBALANCE}7200\nSTART_TIME_OPEN=15:31\nSTRATEGY_SEQUENCE=open,mid", "meets a position of mid: each"),
    (f"{REBALANCE}23100\nSTART_TIME_OPEN=20:15\nOPEN_ANALYSIS_TIME=9", "no check meets a position of any strategy"),
    (
        f"{CHECKED}0.02",
        "REBALANCE_THRESHOLD=0.02 is not below STOP_LOSS_PCT=0.02: a position that loses so much is closed at its stop",
    ),
    (
        f"{CHECKED}0.1\nREBALANCE_TOP_UP=1",
        "only a long one that gains more is trimmed, and only a short one topped up.",
    ),
    (
        f"{NOTIFIER}2",
        "REBALANCE_TRIGGER_PCT=2 is not reached: with these settings the cash share is at most 2 per",
    ),
    (f"{NOTIFIER}4\nSHORT_TYPE_OPEN=ShortSell", "at most 4 percentage points from its target"),
    (f"{NOTIFIER}1.5\nTOTAL_ALLOCATION=0.01\nMAX_TRADES=1", "at most 1 percentage points from its target"),
    (
        "TOTAL_ALLOCATION=0.5\nMAX_RISK_PER_TRADE=0.2",
        "position fits. The first order of a window is 20 % of equity, so that every entry is denied (GROSS_EXPOSURE).",
    ),
    (
        "TOTAL_ALLOCATION=0.5\nMAX_RISK_PER_TRADE=0.199",
        "is 19.9 % of equity, so that every entry is denied (GROSS_EXPOSURE), unless rounding to whole shares makes it",
    ),
    (
        "TOTAL_ALLOCATION=0.5\nMAX_RISK_PER_TRADE=0.05",
        "MAX_GROSS_EXPOSURE=0.1: 2 of the 4 positions of a window fit at once; the next entry is denied (GROSS_",
    ),
    ("MAX_LEVERAGE=0.005", "MAX_LEVERAGE=0.005: no position fits. The first order of a window is 0.8 % of equity"),
    (
        "MAX_SYMBOL_EXPOSURE=0.005",
        "An order of 0.8 % of equity is above MAX_SYMBOL_EXPOSURE=0.005: it is denied (SYMBOL_EXPOSURE), and so is",
    ),
]

PASSES = [
    f"{REBALANCE}3540",
    f"{REBALANCE}1320",
    "REBALANCE_CHECK_INTERVAL=3600\nREBALANCE_THRESHOLD=0.5",
    f"{CHECKED}0.019",
    f"{CHECKED}0.5\nSTOP_ATR=2",
    f"{NOTIFIER}1.9",
    f"{NOTIFIER}3.9\nSHORT_TYPE_OPEN=ShortSell",
    f"{NOTIFIER}50\nFIXED_QUANTITY=10",
    "TOTAL_ALLOCATION=0.5\nMAX_RISK_PER_TRADE=0.025",
    "TOTAL_ALLOCATION=0.5\nMAX_RISK_PER_TRADE=0.05\nMAX_OPEN_POSITIONS=2",
    "TOTAL_ALLOCATION=0.5\nMAX_RISK_PER_TRADE=0.2\nFIXED_QUANTITY=10",
    "MAX_TRADES=0",
    "",
    "VERSION_TAG=",
    "WEIGHTS=0.5,0.5\nMAX_TRADES=2",
    "MAX_TRADES=50\nFIXED_QUANTITY=100",
    "START_TIME_OPEN=20:25",
    "START_TIME_OPEN=09:50 ET\nTIME_ANCHOR=utc",
    "STRATEGY_OVERRIDE=mid",
    "MIN_PRICE=8\nMAX_PRICE=8",
    "MIN_MARKET_CAP_OPEN=9\nMAX_MARKET_CAP_OPEN=0",
    "BROKER_NAME=ALPACA\nDATA_SOURCE=TRADIER\nFAILOVER_ENABLED=true\nFAILOVER_BROKERS=ibkr",
    "SHORT_TYPE_OPEN=ShortSell",
    "SHORT_TYPE_MID=LongPut",
    "FILTERS=none",
    "FILTERS=none,finnhub",
    "FILTERS=-finnhub,mine",
    "FILTERS=price_volume,finnhub\nENABLE_FUNNHUB_FUNDAMENTALS_FILTER=true",
    "EARNINGS_BLACKOUT=true\nENABLE_FINNHUB_FUNDAMENTALS_FILTER=true",
]


def found(home: Path, text: str, mode: Mode = "replay") -> list[tuple[str, str]]:
    """Level and sentence of each finding for a configuration with strategy open."""
    (home / ".env_bot").write_text(f"{text}\n" if "STRATEGY_SEQUENCE" in text else f"STRATEGY_SEQUENCE=open\n{text}\n")
    return [(finding.level, str(finding)) for finding in examine_settings(home, mode=mode).findings]


@pytest.mark.parametrize("names", ["web,none", "web,web"])
def test_extensions_are_named_once_or_none_of_them(tmp_path: Path, names: str) -> None:
    """Anything else has two meanings."""
    (tmp_path / ".env").write_text(f"EXTENSIONS={names}\n")
    expected = f".env:1: EXTENSIONS={names}: a name is repeated, or combined with none."
    assert [(level, text) for level, text in found(tmp_path, "") if "EXTENSIONS" in text] == [("fail", expected)]


@pytest.mark.parametrize(("text", "sentence"), FAILS)
def test_what_cannot_hold_together_fails(tmp_path: Path, text: str, sentence: str) -> None:
    """Each rule says which settings contradict each other, with values and the line of the first."""
    fails = [message for level, message in found(tmp_path, text) if level == "fail"]
    assert len(fails) == 1
    assert sentence in fails[0]
    assert fails[0].startswith(".env_bot:")


@pytest.mark.parametrize(("text", "sentence"), WARNS)
def test_what_will_surprise_warns(tmp_path: Path, text: str, sentence: str) -> None:
    """What holds and is probably not meant is said, and does not refuse."""
    messages = found(tmp_path, text)
    assert [level for level, _ in messages] == ["warn"]
    assert sentence in messages[0][1]


@pytest.mark.parametrize(("text", "sentence"), NOTES)
def test_what_cannot_act_is_noted(tmp_path: Path, text: str, sentence: str) -> None:
    """A setting that the others keep from acting is said as a note, which never fails, with the file's line."""
    notes = [message for level, message in found(tmp_path, text) if level == "note"]
    assert len(notes) == 1
    assert sentence in notes[0]
    assert notes[0].startswith(".env_bot:")


@pytest.mark.parametrize("text", PASSES)
def test_what_holds_together_says_nothing(tmp_path: Path, text: str) -> None:
    """Settings at the edge of each rule pass in silence."""
    assert found(tmp_path, text) == []


def test_whether_a_check_meets_a_position_follows_from_the_windows(tmp_path: Path) -> None:
    """A window that fits no session is not judged, and with TIME_ANCHOR=utc both halves of the year are."""
    assert [level for level, _ in found(tmp_path, f"{REBALANCE}60\nSTART_TIME_OPEN=21:00")] == ["fail"]
    utc = f"{REBALANCE}6000\nTIME_ANCHOR=utc\nSTART_TIME_OPEN="
    assert [level for level, _ in found(tmp_path, f"{utc}14:30")] == ["warn"]
    assert sorted(level for level, _ in found(tmp_path, f"{utc}15:00")) == ["note", "warn"]


def test_without_a_strategy_nothing_is_noted(tmp_path: Path) -> None:
    """That nothing will be traded is all that there is to say."""
    text = f"{REBALANCE}3600\n{NOTIFIER}90\nTOTAL_ALLOCATION=0.5\nMAX_RISK_PER_TRADE=0.2\nSTRATEGY_SEQUENCE="
    assert [level for level, _ in found(tmp_path, text)] == ["warn"]


def test_each_strategy_whose_short_signals_are_denied_is_named_once(tmp_path: Path) -> None:
    """With its own setting, so that half of a sample is never silently off."""
    text = "STRATEGY_SEQUENCE=open,mid,close\nSHORT_TYPE_OPEN=InverseETF\nSHORT_TYPE_MID=InverseETF\n"
    messages = [message for _, message in found(tmp_path, f"{text}SHORT_TYPE_CLOSE=LongPut")]
    assert [f"short signals of {name} are denied" in one for name, one in zip(("open", "mid", "close"), messages,
            strict=True)] == [True] * 3  # fmt: skip


def test_another_minor_version_warns(tmp_path: Path) -> None:
    """A file for another minor version of the same major one still holds."""
    major = package_version().removeprefix("v").split(".")[0]
    ((level, message),) = found(tmp_path, f"VERSION_TAG=v{major}.9999.0")
    assert (level, "the file is still valid" in message) == ("warn", True)
    assert found(tmp_path, f"VERSION_TAG={package_version()}") == []


def test_development_refuses_live(tmp_path: Path) -> None:
    """ENVIRONMENT=development is a second lock on live trading, and on nothing else."""
    (tmp_path / ".env").write_text("ENVIRONMENT=development\n")
    assert ("fail", ".env:1: ENVIRONMENT=development does not allow live trading.") in found(tmp_path, "", "live")
    assert found(tmp_path, "", "paper") == []


@pytest.mark.parametrize(
    ("mode", "broker", "refused"),
    [
        ("live", "paper", True),
        ("paper", "alpaca", True),
        ("paper", "paper", False),
        ("dry-run", "alpaca", True),
        ("dry-run", "paper", False),
        ("backtest", "alpaca", False),
    ],
)
def test_a_fixed_quantity_is_for_simulations(tmp_path: Path, mode: Mode, broker: str, refused: bool) -> None:
    """FIXED_QUANTITY never meets a real account."""
    messages = found(tmp_path, f"FIXED_QUANTITY=1\nBROKER_NAME={broker}", mode)
    assert any("is for simulations only" in message for _, message in messages) is refused


def test_a_refused_value_does_not_make_a_second_fault_of_a_rule(tmp_path: Path) -> None:
    """A rule about a value that could not be read is silent: one mistake is one line."""
    messages = found(tmp_path, "WEIGHTS=x\nMAX_TRADES=9\nMIN_PRICE=abc\nMAX_PRICE=1")
    assert [message.split(":")[1] for _, message in messages] == ["2", "4"]
