"""Measures backtesting.py at the work of the engine comparison: a run for each symbol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import backtesting
import pandas as pd
from bench_work import FIELDS, MINUTES, QUANTITY, BenchTrade, Rules, Work, measure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Breakout(backtesting.Strategy):
    """The work's rules, bar by bar; orders are filled at the next open."""

    rules: ClassVar[Rules] = Rules()

    def init(self) -> None:
        """No indicator."""
        self._high = self._low = self._upper = self._lower = 0.0
        self._traded = False

    def next(self) -> None:
        """A bar has closed."""
        rules, minute = self.rules, (len(self.data) - 1) % MINUTES
        if minute < rules.range_minutes - 1 or minute >= rules.leave:
            return
        if minute == rules.range_minutes - 1:
            self._high = float(self.data.High[-rules.range_minutes :].max())
            self._low = float(self.data.Low[-rules.range_minutes :].min())
            self._upper, self._lower = (
                round(level, 8) for level in (self._high * (1 + rules.buffer), self._low * (1 - rules.buffer))
            )
            self._traded = False
            return
        close = self.data.Close[-1]
        if not self._traded and minute < rules.entry_end:
            if close > self._upper or close < self._lower:
                self._traded = True
                (self.buy if close > self._upper else self.sell)(size=QUANTITY)
        elif self.position and (
            minute == rules.leave - 1 or (close <= self._low if self.position.is_long else close >= self._high)
        ):
            self.position.close()


class BacktestingEngine:
    """A data frame and a run for each symbol."""

    version = backtesting.__version__
    loading_s = 0.0

    def load(self, work: Work, folder: Path) -> Any:
        """Data frames."""
        index = pd.DatetimeIndex(work.times_ns)
        fields = work.fields(folder)
        frames = [
            pd.DataFrame({name.title(): fields[name][row] for name in FIELDS}, index=index)
            for row in range(len(work.symbols))
        ]
        return work, frames

    def run(self, loaded: Any, rules: Rules) -> Any:
        """A run for each symbol, with its statistics."""
        Breakout.rules = rules
        return [backtesting.Backtest(frame, Breakout, cash=1e9).run()._trades for frame in loaded[1]]  # noqa: SLF001

    def trades(self, loaded: Any, found: Any) -> Sequence[BenchTrade]:
        """From its frames of trades."""
        work, _ = loaded
        times = work.times_ns
        return [
            BenchTrade(
                symbol,
                1 if one.Size > 0 else -1,
                int(times[one.EntryBar]),
                one.EntryPrice,
                int(times[one.ExitBar]),
                one.ExitPrice,
                abs(one.Size),
                one.PnL,
            )
            for symbol, frame in zip(work.symbols, found, strict=True)
            for one in frame.itertuples()
        ]


if __name__ == "__main__":
    measure({"each": BacktestingEngine})
