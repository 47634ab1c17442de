"""Measures vectorbt at the work of the engine comparison: its compiled kernels of Numba, or those of vectorbt-rust."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import vectorbt as vbt
from bench_work import FIELDS, MINUTES, QUANTITY, BenchTrade, Prices, Rules, Work, measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class VectorbtEngine:
    """Signals as arrays of (minute, symbol), filled at the next open."""

    version = vbt.__version__
    loading_s = 0.0

    def __init__(self, kernels: str) -> None:
        self._kernels = kernels

    def load(self, work: Work, folder: Path) -> Any:
        """Arrays of (all minutes, symbols)."""
        bars = {name: np.ascontiguousarray(values.T) for name, values in work.fields(folder).items() if name in FIELDS}
        return work, bars

    def run(self, loaded: Any, rules: Rules) -> Any:
        """Signals, the portfolio, and the records of its trades."""
        work, bars = loaded
        signals = _signals(bars, len(work.opens_ns), rules)
        portfolio = vbt.Portfolio.from_signals(
            bars["close"],
            signals["long_entry"],
            signals["long_exit"],
            signals["short_entry"],
            signals["short_exit"],
            price=bars["open"],
            size=float(QUANTITY),
            init_cash=1e9,
            engine=self._kernels,
        )
        return portfolio.trades.records

    def trades(self, loaded: Any, found: Any) -> Sequence[BenchTrade]:
        """From the records."""
        work, _ = loaded
        times = work.times_ns
        return [
            BenchTrade(
                work.symbols[one.col],
                1 if one.direction == 0 else -1,
                int(times[one.entry_idx]),
                one.entry_price,
                int(times[one.exit_idx]),
                one.exit_price,
                one.size,
                one.pnl,
            )
            for one in found.itertuples(index=False)
        ]


def _signals(bars: Mapping[str, Prices], sessions: int, rules: Rules) -> dict[str, Any]:
    # Flags of the minutes at whose open an order is filled: a minute after its bar's close.
    by_session = {name: values.reshape(sessions, MINUTES, -1) for name, values in bars.items()}
    high = by_session["high"][:, : rules.range_minutes].max(axis=1, keepdims=True)
    low = by_session["low"][:, : rules.range_minutes].min(axis=1, keepdims=True)
    close = by_session["close"][:, rules.range_minutes : rules.leave]
    entries = close[:, : rules.breakout]
    above, below = entries > np.round(high * (1 + rules.buffer), 8), entries < np.round(low * (1 - rules.buffer), 8)
    first = np.arange(rules.breakout)[:, None] == (above | below).argmax(axis=1)[:, None]
    flags = {
        "long_entry": above & first,
        "short_entry": below & first,
        "long_exit": close <= low,
        "short_exit": close >= high,
    }
    found = {}
    for name, part in flags.items():
        if name.endswith("exit"):
            part[:, -1] = True
        whole = np.zeros((sessions, MINUTES, close.shape[-1]), dtype=np.bool_)
        whole[:, rules.range_minutes + 1 : rules.range_minutes + 1 + part.shape[1]] = part
        found[name] = whole.reshape(sessions * MINUTES, -1)
    return found


if __name__ == "__main__":
    measure({"numba": partial(VectorbtEngine, "numba"), "rust": partial(VectorbtEngine, "rust")})
