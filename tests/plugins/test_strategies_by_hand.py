"""The three strategies against a second account of them: bar by bar, in decimals, without arrays."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tbot_strategy_close import Close
from tbot_strategy_mid import Mid
from tbot_strategy_open import Open

from tbot_core.model.bars import Bars
from tbot_core.model.window import Window
from tbot_core.testing.sessions import NAMES, SessionDraft, market

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.contracts import Strategy

Found: TypeAlias = "tuple[int, int, str, float] | None"

OPEN = Open(window=Window(start=0, analysis=20, breakout=10, monitoring=30), buffer=0.002)
MID = Mid(window=Window(start=60, analysis=15, breakout=10, monitoring=30), threshold=0.005)
CLOSE = Close(window=Window(start=300, analysis=5, breakout=5, monitoring=25), fade_pct=0.01, min_range_pct=0.005)


@attrs.frozen
class Bar:
    """One bar in decimals."""

    minute: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal | None

    @property
    def price(self) -> Decimal:
        """Its average price: the feed's, else the typical one."""
        return self.vwap if self.vwap is not None else (self.high + self.low + self.close) / 3


def _exact(value: float) -> Decimal:
    return Decimal(repr(value))


def _bars(bars: Bars, row: tuple[int, ...]) -> list[Bar]:
    # The existing bars of a row.
    columns = (np.moveaxis(bars.field(name), 0, -1)[row].tolist() for name in NAMES)
    found = []
    for minute, (*prices, vwap) in enumerate(zip(*columns, strict=True)):
        if not np.isnan(prices[0]):
            opened, high, low, close, volume = map(_exact, prices)
            own = None if np.isnan(vwap) else _exact(vwap)
            found.append(Bar(minute, opened, high, low, close, volume, own))
    return found


def _open(bars: list[Bar], strategy: Open) -> Found:
    window, buffer, loss = strategy.window, _exact(strategy.buffer), _exact(strategy.stop_loss_pct)
    bad = bars and abs(bars[0].open - bars[0].price) > bars[0].price * Decimal("0.03")
    inside = [bar for bar in (bars[1:] if bad else bars) if window.start <= bar.minute < window.entry]
    if not inside:
        return None
    high, low = max(bar.high for bar in inside), min(bar.low for bar in inside)
    for bar in bars:
        if window.entry <= bar.minute < window.entry_end:
            if bar.close > high * (1 + buffer):
                return bar.minute, 1, "breakout", float(max(low, bar.close * (1 - loss)))
            if bar.close < low * (1 - buffer):
                return bar.minute, -1, "breakout", float(min(high, bar.close * (1 + loss)))
    return None


def _mid(bars: list[Bar], strategy: Mid) -> Found:
    window, threshold, loss = strategy.window, _exact(strategy.threshold), _exact(strategy.stop_loss_pct)
    dollars = shares = Decimal(0)
    for bar in bars:
        dollars, shares = dollars + bar.price * bar.volume, shares + bar.volume
        if window.entry <= bar.minute < window.entry_end and shares:
            vwap = dollars / shares
            if bar.close <= vwap * (1 - threshold):
                return bar.minute, 1, "reversion", float(bar.close * (1 - loss))
            if bar.close >= vwap * (1 + threshold):
                return bar.minute, -1, "reversion", float(bar.close * (1 + loss))
    return None


def _close(bars: list[Bar], strategy: Close) -> Found:
    window, loss, buffer = strategy.window, _exact(strategy.stop_loss_pct), _exact(strategy.buffer)
    least, fade = _exact(strategy.min_range_pct), _exact(strategy.fade_pct)
    closes = {bar.minute: bar.close for bar in bars}
    early = [bar for bar in bars if bar.minute < window.entry]
    for bar in bars:
        if not window.entry <= bar.minute < window.entry_end:
            continue
        so_far = [other for other in bars if other.minute <= bar.minute]
        if max(one.high for one in so_far) - min(one.low for one in so_far) < least * bars[0].open:
            continue
        if early and bar.close > max(one.high for one in early) * (1 + buffer):
            return bar.minute, 1, "momentum", float(bar.close * (1 - loss))
        if early and bar.close < min(one.low for one in early) * (1 - buffer):
            return bar.minute, -1, "momentum", float(bar.close * (1 + loss))
        before, moved = closes.get(bar.minute - window.analysis), bar.close / bars[0].open - 1
        if before is not None and moved > fade and bar.close < before:
            return bar.minute, -1, "fade", float(bar.close * (1 + loss))
        if before is not None and moved < -fade and bar.close > before:
            return bar.minute, 1, "fade", float(bar.close * (1 - loss))
    return None


def _by_hand(bars: list[Bar], strategy: Strategy) -> Found:
    match strategy:
        case Open():
            return _open(bars, strategy)
        case Mid():
            return _mid(bars, strategy)
        case Close():
            return _close(bars, strategy)
        case _:
            raise AssertionError(strategy)


def _compare(strategy: Strategy, bars: Bars) -> int:
    # Demand the same signals of both accounts and count them.
    signals = strategy.scan(bars, SessionDraft(*bars.symbols).day())
    columns = (getattr(signals, name).tolist() for name in ("minute", "side", "rule", "stop"))
    found = {
        tuple(int(axis[number]) for axis in signals.cells): (minute, side, signals.rules[rule], stop)
        for number, (minute, side, rule, stop) in enumerate(zip(*columns, strict=True))
    }
    for row in np.ndindex(bars.close.shape[:-1]):
        expected, seen = _by_hand(_bars(bars, row), strategy), found.get(row)
        assert (seen is None) == (expected is None), (row, seen, expected)
        if seen is not None and expected is not None:
            assert seen[:3] == expected[:3], row
            assert seen[3] == pytest.approx(expected[3], abs=1e-8), row
    return len(found)


@pytest.mark.parametrize("strategy", [OPEN, MID, CLOSE], ids=["open", "mid", "close"])
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_random_sessions_give_what_is_found_by_hand(strategy: Strategy, seed: int) -> None:
    """On sessions with holes, late starts and bad prints both accounts agree on minute, side, rule and stop."""
    bars, _ = market(seed=seed, sessions=1, symbols=6)
    _compare(strategy, bars)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [OPEN, MID, CLOSE], ids=["open", "mid", "close"])
def test_real_sessions_give_what_is_found_by_hand(strategy: Strategy, shared: Path) -> None:
    """On 29 sessions of 16 stocks both accounts agree, and every strategy finds something."""
    import polars as pl

    folder = shared / "data" / "bars" / "us300_2018"
    table = pl.concat([pl.read_parquet(path) for path in sorted(folder.glob("*.parquet"))], how="diagonal")
    table = table.filter(pl.col("rth")).with_columns(
        pl.col("ts").dt.convert_time_zone("America/New_York").alias("here")
    )
    symbols = tuple(sorted(table["symbol"].unique()))
    found, count = 0, 0
    for (_day,), session in table.group_by(pl.col("here").dt.date(), maintain_order=True):
        fields = {name: np.full((390, len(symbols)), np.nan) for name in NAMES}
        minute = ((session["here"].dt.hour() - 9).cast(pl.Int64) * 60 + session["here"].dt.minute() - 30).to_numpy()
        row = np.searchsorted(symbols, session["symbol"].to_numpy())
        for name in set(NAMES) & set(session.columns):
            fields[name][minute, row] = session[name].to_numpy()
        found, count = found + _compare(strategy, Bars(fields, symbols)), count + 1
    assert count == 29
    assert found > 20
