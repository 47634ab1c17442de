"""Measures raptorbt at the work of the engine comparison: its portfolio engine, or a run for each symbol and side."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import raptorbt
from bench_work import FIELDS, MINUTES, QUANTITY, BenchTrade, Flags, Rules, Work, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

CAPITAL = 1e9


class RaptorbtEngine:
    """Signals as arrays by symbol, filled at the next open; a long and a short instrument for each symbol.

    The signals are a minute later and filled in their own minute: with "next_bar_open" the portfolio engine of 0.13.4
    loses every second entry after an exit signal without a position.
    """

    version = version("raptorbt")
    loading_s = 0.0

    def __init__(self, trade: Callable[[Any, Mapping[int, Any]], list[Any]]) -> None:
        self._trade = trade

    def load(self, work: Work, folder: Path) -> Any:
        """Contiguous arrays of each symbol."""
        bars = work.fields(folder)
        config = raptorbt.BacktestConfig(
            initial_capital=CAPITAL, fees=0.0, slippage=0.0, apply_slippage=False, fill_timing="same_bar_open_lookahead"
        )
        lots = {}
        for row, symbol in enumerate(work.symbols):  # capital for one lot of 100 shares, but not for two
            capital = float(QUANTITY * 1.4 * np.median(bars["close"][row]))
            for side in (1, -1):
                lots[f"{symbol}{side:+d}"] = raptorbt.InstrumentConfig(lot_size=QUANTITY, alloted_capital=capital)
        return work, bars, work.times_ns, config, lots

    def run(self, loaded: Any, rules: Rules) -> Any:
        """Signals and trades."""
        return self._trade(loaded, _signals(loaded[1], len(loaded[0].opens_ns), rules))

    def trades(self, loaded: Any, found: Any) -> Sequence[BenchTrade]:
        """From its trade objects."""
        times = loaded[2]
        return [
            BenchTrade(
                one.symbol[:-2],
                one.direction,
                int(times[one.entry_idx]),
                one.entry_price,
                int(times[one.exit_idx]),
                one.exit_price,
                one.size,
                one.pnl,
            )
            for one in found
        ]


def _instruments(loaded: Any, signals: Mapping[int, Any]) -> list[tuple[Any, ...]]:
    work, bars, times, _, _ = loaded
    return [
        (times, *(bars[name][row] for name in FIELDS), entries[row], exits[row], side, 1.0, f"{symbol}{side:+d}")
        for side, (entries, exits) in signals.items()
        for row, symbol in enumerate(work.symbols)
    ]


def portfolio(loaded: Any, signals: Mapping[int, Any]) -> list[Any]:
    """All instruments against one capital."""
    config, lots = loaded[3:]
    found = raptorbt.run_portfolio_backtest(
        _instruments(loaded, signals), config, allocation="full", instrument_configs=lots
    )
    return list(found.result.trades())


def singles(loaded: Any, signals: Mapping[int, Any]) -> list[Any]:
    """A run for each instrument."""
    config, lots = loaded[3:]
    runs = (
        raptorbt.run_single_backtest(*one, config=config, instrument_config=lots[one[-1]])
        for one in _instruments(loaded, signals)
    )
    return list(chain.from_iterable(run.trades() for run in runs))


def _signals(bars: Mapping[str, Any], sessions: int, rules: Rules) -> dict[int, tuple[Flags, Flags]]:
    # By side the flags of entries and exits at the minutes at whose open an order is filled.
    by_session = {name: values.reshape(-1, sessions, MINUTES) for name, values in bars.items()}
    high = by_session["high"][..., : rules.range_minutes].max(axis=2, keepdims=True)
    low = by_session["low"][..., : rules.range_minutes].min(axis=2, keepdims=True)
    close = by_session["close"][..., rules.range_minutes : rules.leave]
    entries = close[..., : rules.breakout]
    above, below = entries > np.round(high * (1 + rules.buffer), 8), entries < np.round(low * (1 - rules.buffer), 8)
    first = np.arange(rules.breakout) == (above | below).argmax(axis=2)[..., None]

    def whole(part: Flags) -> Flags:
        found = np.zeros((len(close), sessions, MINUTES), dtype=np.bool_)
        found[..., rules.range_minutes + 1 : rules.range_minutes + 1 + part.shape[2]] = part
        return found.reshape(len(close), -1)

    exits = {1: close <= low, -1: close >= high}
    for part in exits.values():
        part[..., -1] = True
    return {1: (whole(above & first), whole(exits[1])), -1: (whole(below & first), whole(exits[-1]))}


if __name__ == "__main__":
    measure({"portfolio": partial(RaptorbtEngine, portfolio), "single": partial(RaptorbtEngine, singles)})
