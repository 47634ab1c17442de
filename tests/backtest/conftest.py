"""Instances with random sessions and random settings: holes, halts, thin volume, jumps, limits that bind."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
import polars as pl
import pytest

from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.system import filesystem
from tbot_core.testing.store import StoreFixture

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

SYMBOLS = tuple(f"{letter}{letter}{letter}" for letter in "ABCDEFGHIJKL")
FIRST, LAST = dt.date(2018, 6, 28), dt.date(2018, 7, 5)
"""Five sessions, the half day of 3 July 2018 among them."""


def _frame(symbol: str, session: Session, generator: np.random.Generator) -> pl.DataFrame:
    # One session of one symbol: a jumpy walk with missing minutes, halts, and bars of a few shares.
    minutes = session.minutes
    steps = generator.standard_t(3, minutes) * generator.choice([0.0002, 0.0005, 0.001])
    jumps = generator.random(minutes) < 0.01
    steps += jumps * generator.normal(0, 0.01, minutes)
    close = np.round(generator.uniform(0.9, 80) * np.exp(np.cumsum(steps)), 2)
    opens = np.round(np.concatenate(([close[0]], close[:-1])) * (1 + generator.normal(0, 0.0005, minutes)), 2)
    wick = np.abs(generator.normal(0, 0.001, (2, minutes)))
    high = np.round(np.maximum(opens, close) * (1 + wick[0]), 2)
    low = np.round(np.minimum(opens, close) * (1 - wick[1]), 2)
    volume = np.floor(generator.lognormal(generator.choice([2.0, 6.0, 9.0]), 1.5, minutes))
    kept = generator.random(minutes) > generator.choice([0.0, 0.05, 0.4])
    if generator.random() < 0.3:
        halt = int(generator.integers(0, minutes))
        kept[halt : halt + int(generator.integers(3, 90))] = False
    if generator.random() < 0.1:
        kept[int(generator.integers(0, minutes)) :] = False
    return (
        pl.DataFrame(
            {
                "ts": [session.moment(minute) for minute in range(minutes)],
                "symbol": symbol,
                "open": np.maximum(opens, 0.01),
                "high": np.maximum(high, 0.02),
                "low": np.maximum(low, 0.01),
                "close": np.maximum(close, 0.01),
                "volume": volume.astype(np.int64),
            }
        )
        .filter(pl.Series(kept))
        .with_columns(high=pl.max_horizontal("open", "high", "close"), low=pl.min_horizontal("open", "low", "close"))
    )


def _fill(home: Path, seed: int, partial: Collection[str]) -> None:
    # An instance's bar store with random sessions of every symbol; volumes of `partial` are a part of the tape.
    generator = np.random.default_rng(seed)
    bench = StoreFixture(folder=home / "data")
    sessions = ExchangeCalendar().sessions(FIRST, LAST)
    vix = pl.DataFrame({"date": [FIRST - dt.timedelta(days=1), *(session.date for session in sessions)]})
    vix = vix.with_columns(open=pl.lit(20.0), high=pl.lit(21.0), low=pl.lit(19.0), close=pl.lit(20.0))
    frames = {symbol: pl.concat([_frame(symbol, session, generator) for session in sessions]) for symbol in SYMBOLS}
    bench.put(vix, *(frame for symbol, frame in frames.items() if symbol not in partial))
    if partial:
        bench.put(*(frames[symbol] for symbol in partial), volume="partial")


def _settings(seed: int) -> dict[str, str]:
    # Random settings: windows, plans, limits that bind and limits that don't.
    chance = random.Random(seed)
    pick = chance.choice
    chosen = {
        "BROKER_NAME": "PAPER",
        "FILTERS": pick(["price_volume", "none"]),
        "FILTER_MISSING_DATA": "pass",
        "STRATEGY_SEQUENCE": pick(["open,mid,close", "close,open,mid", "mid", "open,close"]),
        "STRAT_CLOSE_VIX_THRESHOLD": "0",
        "SEED": str(chance.randrange(1000)),
        "MIN_PRICE": pick(["0", "5"]),
        "MAX_PRICE": "1000",
        "MIN_VOLUME_THRESHOLD": pick(["0", "1000"]),
        "STRAT_OPEN_BUFFER": pick(["0", "0.001", "0.005"]),
        "STRAT_MID_VWAP_THRESHOLD": pick(["0.001", "0.005", "0.02"]),
        "CLOSE_MIN_RANGE_PCT": "0",
        "CLOSE_FADE_PCT": pick(["0.005", "0.02", "0.05"]),
        "STOP_LOSS_PCT": pick(["0.002", "0.01", "0.03"]),
        "TRAILING_STOP": pick(["true", "false"]),
        "TARGET_R": pick(["0", "0", "0.5", "2"]),
        "TARGET_FILL": pick(["through", "touch"]),
        "ENTRY_ORDER_TYPE": pick(["limit", "limit", "market"]),
        "ENTRY_LIMIT_PCT": pick(["0", "0.0005", "0.002"]),
        "FRACTIONAL": pick(["true", "false"]),
        "ONE_TRADE_PER_SYMBOL_PER_DAY": pick(["true", "false"]),
        "FLATTEN_BEFORE_CLOSE": pick(["1", "5", "30"]),
        "TOTAL_ALLOCATION": pick(["0.02", "0.3"]),
        "MAX_TRADES": pick(["2", "4", "4"]),
        "WEIGHTS": pick(["0.4,0.2,0.2,0.2", "0.7,0.1,0.1,0.1"]),
        "MAX_RISK_PER_TRADE": pick(["0.025", "0.2"]),
        "MAX_OPEN_POSITIONS": pick(["2", "5", "20"]),
        "MAX_GROSS_EXPOSURE": pick(["0.05", "1", "1"]),
        "DAILY_LOSS_LIMIT": pick(["0.05", "0.0005", "0.00005"]),
        "WINDOW_LOSS_LIMIT": pick(["0.10", "0.001"]),
        "MAX_CONSECUTIVE_LOSSES": pick(["0", "0", "2"]),
        "VOLUME_LIMIT": pick(["0.10", "0.10", "0.01", "0"]),
        "FIXED_QUANTITY": pick(["0", "0", "0", "7"]),
        "FEE_PER_SHARE": pick(["0", "0.005"]),
        "SLIPPAGE_SIMULATION_TYPE": pick(["none", "rule_based", "randomized"]),
        "SLIPPAGE_MEAN_PCT": "0.15",
        "SLIPPAGE_STDDEV_PCT": "0.10",
        "SIMULATED_LATENCY_MS": pick(["0", "500", "60000", "125000"]),
    }
    for name, start in (("OPEN", "14:30"), ("MID", "15:30"), ("CLOSE", pick(["16:30", "18:30"]))):
        chosen |= {
            f"START_TIME_{name}": start,
            f"{name}_ANALYSIS_TIME": str(chance.randrange(1, 20)),
            f"{name}_BREAKOUT_TIME": str(chance.randrange(10, 90)),
            f"{name}_MONITORING_TIME": str(chance.randrange(1, 60)),
            f"SHORT_TYPE_{name}": pick(["ShortSell"] * 6 + ["disabled", "InverseETF"]),
            f"MAX_GAP_PCT_{name}": pick(["0.1", "0.02"]),
        }
    apart = random.Random(f"rebalance {seed}")
    return chosen | {
        "REBALANCE_ENABLED": apart.choice(["true", "false"]),
        "REBALANCE_THRESHOLD": apart.choice(["0", "0.0005", "0.005"]),
        "REBALANCE_CHECK_INTERVAL": apart.choice(["60", "300", "1000"]),
        "REBALANCE_TOP_UP": apart.choice(["true", "false"]),
    }


@attrs.frozen
class RandomInstance:
    """An instance whose bars come from one seed; `settle` writes the settings of another."""

    home: Path
    first: dt.date = FIRST
    last: dt.date = LAST

    def settle(self, seed: int, **changes: str) -> None:
        """Write the settings of this seed, and these in place of its own."""
        texts = "".join(f"{key}={value}\n" for key, value in {**_settings(seed), **changes}.items())
        filesystem.write_atomic(self.home / ".env_bot", texts.encode())


@pytest.fixture
def random_instance(tmp_path: Path) -> Callable[..., RandomInstance]:
    """Makes an instance with the random sessions of a seed."""

    def make(seed: int, partial: Collection[str] = ()) -> RandomInstance:
        home = tmp_path / str(seed)
        filesystem.make_folder(home / "data")
        _fill(home, seed, partial)
        return RandomInstance(home)

    return make
