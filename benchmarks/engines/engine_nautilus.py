"""Measures nautilus_trader at the work of the engine comparison: all symbols in one engine.

Bars do not say at which price the next minute opens, so the opens of the minutes in which an order may be filled
are trade ticks beside them; an order waits for the next one.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from bench_work import FIELDS, MINUTES, QUANTITY, BenchTrade, Rules, Work, measure
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, RiskEngineConfig, StrategyConfig
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.persistence.wranglers import BarDataWrangler, TradeTickDataWrangler
from nautilus_trader.trading.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

VENUE = Venue("XNYS")


class BreakoutConfig(StrategyConfig, frozen=True):  # type: ignore[call-arg]  # its base is not installed here
    """The parameters."""

    range_minutes: int
    breakout: int
    monitoring: int
    buffer: float


class SymbolState:
    """What the strategy knows of a symbol."""

    def __init__(self) -> None:
        self.bars = self.side = 0
        self.high = self.low = self.upper = self.lower = 0.0
        self.traded = False
        self.due: OrderSide | None = None


class Breakout(Strategy):
    """The work's rules, bar by bar; an order is sent at the next open."""

    def __init__(self, config: BreakoutConfig, instruments: Sequence[Equity]) -> None:
        super().__init__(config)
        self.found: list[Any] = []
        self._rules = Rules(
            range_minutes=config.range_minutes,
            breakout=config.breakout,
            monitoring=config.monitoring,
            buffer=config.buffer,
        )
        self._states = {instrument.id: SymbolState() for instrument in instruments}
        self._quantity = Quantity.from_int(QUANTITY)

    def on_start(self) -> None:
        """Subscribe."""
        for one in self._states:
            self.subscribe_bars(BarType.from_str(f"{one}-1-MINUTE-LAST-EXTERNAL"))
            self.subscribe_trade_ticks(one)

    def on_bar(self, bar: Any) -> None:
        """A bar has closed."""
        rules, state = self._rules, self._states[bar.bar_type.instrument_id]
        minute = state.bars % MINUTES
        state.bars += 1
        if minute >= rules.leave:
            return
        if minute < rules.range_minutes:
            high, low = bar.high.as_double(), bar.low.as_double()
            state.high, state.low = (high, low) if minute == 0 else (max(state.high, high), min(state.low, low))
            if minute == rules.range_minutes - 1:
                state.upper = round(state.high * (1 + rules.buffer), 8)
                state.lower = round(state.low * (1 - rules.buffer), 8)
                state.traded = False
            return
        close = bar.close.as_double()
        if not state.traded and minute < rules.entry_end:
            if close > state.upper or close < state.lower:
                state.traded, state.side = True, 1 if close > state.upper else -1
                state.due = OrderSide.BUY if state.side > 0 else OrderSide.SELL
        elif state.side and (
            minute == rules.leave - 1 or (close <= state.low if state.side > 0 else close >= state.high)
        ):
            state.due = OrderSide.SELL if state.side > 0 else OrderSide.BUY
            state.side = 0

    def on_trade_tick(self, tick: Any) -> None:
        """A minute has opened: send what is due."""
        state = self._states[tick.instrument_id]
        if state.due is not None:
            order = self.order_factory.market(tick.instrument_id, state.due, self._quantity)
            state.due = None
            self.submit_order(order)

    def on_position_closed(self, event: Any) -> None:
        """Keep the trade."""
        self.found.append(event)


class NautilusEngine:
    """One engine with one venue."""

    version = version("nautilus_trader")

    def __init__(self) -> None:
        self.loading_s = 0.0

    def load(self, work: Work, folder: Path) -> Any:
        """Instruments, bars and ticks as objects of the library."""
        fields, instruments, data = work.fields(folder), [], []
        starts = pd.DatetimeIndex(work.times_ns, tz="UTC")
        ends = starts + pd.Timedelta(minutes=1)
        fillable = np.flatnonzero((np.arange(work.bars // len(work.symbols)) % MINUTES) <= work.rules.leave)
        for row, symbol in enumerate(work.symbols):
            instrument = Equity(
                InstrumentId(Symbol(symbol), VENUE), Symbol(symbol), USD, 2, Price.from_str("0.01"),
                Quantity.from_int(1), ts_event=0, ts_init=0,
            )  # fmt: skip
            frame = pd.DataFrame({name: fields[name][row] for name in FIELDS}, index=ends)
            bar_type = BarType.from_str(f"{instrument.id}-1-MINUTE-LAST-EXTERNAL")
            data.append(BarDataWrangler(bar_type, instrument).process(frame))
            opens = pd.DataFrame(
                {"price": fields["open"][row][fillable], "quantity": 1e6, "trade_id": [f"{at}" for at in fillable]},
                index=starts[fillable] + pd.Timedelta(1, "ns"),
            )
            data.append(TradeTickDataWrangler(instrument).process(opens))
            instruments.append(instrument)
        return work, instruments, data

    def run(self, loaded: Any, rules: Rules) -> Any:
        """Run the engine; putting the data into it is loading."""
        begun = time.process_time()
        _, instruments, data = loaded
        config = BacktestEngineConfig(
            logging=LoggingConfig(bypass_logging=True), risk_engine=RiskEngineConfig(bypass=True), run_analysis=False
        )
        engine = BacktestEngine(config)
        engine.add_venue(
            VENUE, OmsType.NETTING, AccountType.MARGIN, [Money(1_000_000_000, USD)], base_currency=USD,
            bar_execution=False,
        )  # fmt: skip
        for instrument in instruments:
            engine.add_instrument(instrument)
        for part in data:
            engine.add_data(part, sort=False)
        engine.sort_data()
        strategy = Breakout(
            BreakoutConfig(
                range_minutes=rules.range_minutes,
                breakout=rules.breakout,
                monitoring=rules.monitoring,
                buffer=rules.buffer,
            ),
            instruments,
        )
        engine.add_strategy(strategy)
        self.loading_s = time.process_time() - begun
        engine.run()
        found = strategy.found
        engine.dispose()
        return found

    def trades(self, loaded: Any, found: Any) -> Sequence[BenchTrade]:
        """From the events of closed positions."""
        del loaded
        minute = 60_000_000_000
        return [
            BenchTrade(
                str(one.instrument_id.symbol),
                1 if one.entry == OrderSide.BUY else -1,
                one.ts_opened // minute * minute,
                float(one.avg_px_open),
                one.ts_closed // minute * minute,
                float(one.avg_px_close),
                float(one.peak_qty),
                one.realized_pnl.as_double(),
            )
            for one in found
        ]


if __name__ == "__main__":
    measure({"all": NautilusEngine})
