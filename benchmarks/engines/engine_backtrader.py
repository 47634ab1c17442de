"""Measures backtrader at the work of the engine comparison: a Cerebro for each symbol, data preloaded."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any

import backtrader as bt
from bench_work import FIELDS, MINUTES, QUANTITY, BenchTrade, Rules, Work, measure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class ArrayFeed(bt.feed.DataBase):
    """Bars from lists; its loading is measured apart."""

    params = (("columns", None), ("stamps", None))

    def start(self) -> None:
        """Begin at the first bar."""
        super().start()
        self._at = 0

    def preload(self) -> None:
        """Read all bars."""
        begun = time.process_time()
        super().preload()
        self.loading_s = time.process_time() - begun

    def _load(self) -> bool:
        at = self._at
        if at == len(self.p.stamps):
            return False
        lines = self.lines
        lines.datetime[0] = self.p.stamps[at]
        columns = self.p.columns
        lines.open[0], lines.high[0], lines.low[0], lines.close[0], lines.volume[0] = (
            columns[name][at] for name in FIELDS
        )
        lines.openinterest[0] = 0.0
        self._at = at + 1
        return True


class Breakout(bt.Strategy):
    """The work's rules, bar by bar; orders are filled at the next open."""

    params = (("rules", Rules()),)

    def __init__(self) -> None:
        self.fills: list[tuple[int, float, float]] = []
        self._high = self._low = self._upper = self._lower = 0.0
        self._traded = False

    def notify_order(self, order: Any) -> None:
        """Keep fills."""
        if order.status == order.Completed:
            self.fills.append((len(self) - 1, order.executed.size, order.executed.price))

    def next(self) -> None:
        """A bar has closed."""
        rules, minute = self.p.rules, (len(self) - 1) % MINUTES
        if minute < rules.range_minutes - 1 or minute >= rules.leave:
            return
        if minute == rules.range_minutes - 1:
            self._high = max(self.data.high.get(size=rules.range_minutes))
            self._low = min(self.data.low.get(size=rules.range_minutes))
            self._upper, self._lower = (
                round(level, 8) for level in (self._high * (1 + rules.buffer), self._low * (1 - rules.buffer))
            )
            self._traded = False
            return
        close, held = self.data.close[0], self.position.size
        if not self._traded and minute < rules.entry_end:
            if close > self._upper or close < self._lower:
                self._traded = True
                (self.buy if close > self._upper else self.sell)(size=QUANTITY)
        elif held and (minute == rules.leave - 1 or (close <= self._low if held > 0 else close >= self._high)):
            self.close()


class BacktraderEngine:
    """A Cerebro for each symbol."""

    version = bt.__version__

    def __init__(self) -> None:
        self.loading_s = 0.0

    def load(self, work: Work, folder: Path) -> Any:
        """Lists of prices and of the library's time stamps."""
        fields = work.fields(folder)
        stamps = [bt.date2num(dt.datetime.fromtimestamp(at / 1e9, tz=dt.UTC)) for at in work.times_ns.tolist()]
        return work, stamps, [{name: fields[name][row].tolist() for name in FIELDS} for row in range(len(work.symbols))]

    def run(self, loaded: Any, rules: Rules) -> Any:
        """A run for each symbol."""
        _, stamps, bars = loaded
        self.loading_s, found = 0.0, []
        for columns in bars:
            cerebro = bt.Cerebro(stdstats=False)
            feed = ArrayFeed(columns=columns, stamps=stamps, timeframe=bt.TimeFrame.Minutes)
            cerebro.adddata(feed)
            cerebro.addstrategy(Breakout, rules=rules)
            cerebro.broker.set_cash(1e9)
            (strategy,) = cerebro.run()
            self.loading_s += feed.loading_s
            found.append(strategy.fills)
        return found

    def trades(self, loaded: Any, found: Any) -> Sequence[BenchTrade]:
        """From pairs of fills."""
        work = loaded[0]
        times, trades = work.times_ns.tolist(), []
        for symbol, fills in zip(work.symbols, found, strict=True):
            for (entered, size, paid), (left, _, got) in zip(fills[::2], fills[1::2], strict=True):
                side = 1 if size > 0 else -1
                pnl = size * (got - paid)
                trades.append(BenchTrade(symbol, side, times[entered], paid, times[left], got, abs(size), pnl))
        return trades


if __name__ == "__main__":
    measure({"each": BacktraderEngine})
