"""Measures tbot at the work of the engine comparison, in the environment of this repository.

The engine with the bars in memory, the same with every session walked by the live machine, and `backtest()` over stored
bars with their reading. All trade the plugin strategy `bench` as the instance in the folder says, with every
limit so wide that it never binds, and checked.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from bench_market import days_of, full_sessions, range_bars
from bench_work import FIELDS, MINUTES, BenchTrade, Rules, Work, measure

from tbot_core.backtest.engine import BacktestRange, sweep_blocks, trade_range
from tbot_core.backtest.session_walk import walk_session
from tbot_core.backtest.trials import MonthOfBars, TestedSession, TrialRun, WalkedSession, run_trials, trial_of
from tbot_core.engine.bootstrap import assemble
from tbot_core.marketdata.store.manifest import month_of
from tbot_core.marketdata.store.store import BarBlock
from tbot_core.model.bars import Bars
from tbot_core.model.calendar import Session
from tbot_core.model.clock import ManualClock
from tbot_core.model.day_facts import DayFacts
from tbot_core.system.garbage import gc_paused

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from tbot_core.engine.assembly import Assembly
    from tbot_core.model.types import Trade

CLOCK = ManualClock(dt.datetime(2026, 1, 5, tzinfo=dt.UTC))
WIDE = {
    "TOTAL_ALLOCATION": "1",
    "MAX_TRADES": "50",
    "MAX_OPEN_POSITIONS": "10000",
    "MAX_RISK_PER_TRADE": "1",
    "MAX_GROSS_EXPOSURE": "10",
    "MAX_SYMBOL_EXPOSURE": "10",
    "MAX_INDEX_EXPOSURE": "10",
    "MAX_LEVERAGE": "4",
    "MAX_ORDERS_PER_MINUTE": "10000",
    "DAILY_LOSS_LIMIT": "1",
    "WINDOW_LOSS_LIMIT": "1",
    "PAPER_CASH": "1000000000",
    "FILTER_MISSING_DATA": "pass",
}
"""Limits that are checked at each signal and never bind; shorts pass on the first day, without a previous close."""

SETTINGS = WIDE | {
    "BROKER_NAME": "PAPER",
    "FILTERS": "none",
    "STRATEGY_SEQUENCE": "bench",
    "START_TIME_BENCH": "14:30",
    "SHORT_TYPE_BENCH": "ShortSell",
    "ENTRY_ORDER_TYPE": "market",
    "FIXED_QUANTITY": "100",
    "VOLUME_LIMIT": "0",
    "FEE_PER_SHARE": "0",
    "FEE_SELL_BPS": "0",
    "ENABLE_SLIPPAGE_MODEL": "false",
    "TRAILING_STOP": "false",
    "TARGET_R": "0",
    "REBALANCE_ENABLED": "false",
}


def rules_settings(rules: Rules) -> dict[str, str]:
    """The settings of a set of parameters."""
    return {
        "BENCH_ANALYSIS_TIME": f"{rules.range_minutes}",
        "BENCH_BREAKOUT_TIME": f"{rules.breakout}",
        "BENCH_MONITORING_TIME": f"{rules.monitoring}",
        "STRAT_BENCH_BUFFER": f"{rules.buffer}",
    }


def write_settings(home: Path, rules: Rules, **changes: str) -> None:
    """Write the settings of an instance."""
    home.mkdir(exist_ok=True)
    (home / ".env").write_text("EXTENSIONS=none\n", encoding="utf-8")
    texts = SETTINGS | rules_settings(rules) | changes
    (home / ".env_bot").write_text("".join(f"{name}={text}\n" for name, text in texts.items()), encoding="utf-8")


@attrs.frozen(kw_only=True, eq=False)
class Month:
    """A month in the engine's own layout: bars as fields of shape (minutes, sessions, symbols), facts by session."""

    name: str
    sessions: tuple[Session, ...]
    symbols: tuple[str, ...]
    fields: Mapping[str, Any]
    day: DayFacts

    def block(self) -> BarBlock:
        """A block without anything that an earlier run remembered."""
        return BarBlock(month=self.name, sessions=self.sessions, bars=Bars(self.fields, self.symbols), day=self.day)


def facts_of(sessions: Sequence[Session], previous_close: Any) -> DayFacts:
    """The facts that a plain list of bars has: the previous close, and nothing else."""
    unknown = np.full(previous_close.shape, np.nan)
    return DayFacts(
        previous_close=previous_close,
        average_volume=unknown,
        market_cap=unknown,
        atr=unknown,
        vix=unknown[:, :1],
        restricted=np.zeros(unknown.shape, dtype=np.bool_),
        date=np.array([session.date for session in sessions], dtype="datetime64[D]")[:, None],
    )


def months(work: Work) -> Iterator[Month]:
    """The work's bars, a month at a time."""
    symbols = len(work.symbols)
    last = np.full(symbols, np.nan)
    sessions = full_sessions(len(work.opens_ns), days_of(work)[0])
    for name, group in itertools.groupby(sessions, key=lambda session: month_of(session.date)):
        held = tuple(group)
        drawn = range_bars([session.date for session in held], symbols, work.seed)
        fields = {field: np.ascontiguousarray(drawn.pop(field).transpose(2, 1, 0)) for field in FIELDS}
        closes = fields["close"][-1]
        fields["vwap"] = np.full((MINUTES, *closes.shape), np.nan)
        previous = np.vstack((last, closes[:-1]))
        last = closes[-1].copy()
        yield Month(name=name, sessions=held, symbols=work.symbols, fields=fields, day=facts_of(held, previous))


def trade_blocks(assembly: Assembly, blocks: Iterable[BarBlock]) -> tuple[TrialRun, list[TestedSession]]:
    """Trade blocks of bars in memory as `backtest()` trades those that it reads."""
    run = TrialRun(trial_of(assembly))
    return run, [tested for _, tested in run_trials([run], blocks)]


def look_blocks(assembly: Assembly, blocks: Iterable[BarBlock]) -> tuple[TrialRun, list[TestedSession]]:
    """The same with every trade built as an object."""
    run, found = trade_blocks(assembly, blocks)
    for one in found:
        list(one.trades)
    return run, found


def walk_blocks(assembly: Assembly, blocks: Iterable[BarBlock]) -> tuple[TrialRun, list[TestedSession]]:
    """The same with every session walked by the live machine, which skips minutes that change nothing."""
    found: list[TestedSession] = []
    run = TrialRun(trial_of(assembly))
    for _, held in itertools.groupby(blocks, key=lambda block: block.month):
        with gc_paused():
            found += _walked(run, MonthOfBars(list(held)))
    return run, found


def _walked(run: TrialRun, month: MonthOfBars) -> list[TestedSession]:
    found: list[TestedSession] = []
    for part, entrants in month.parts(run.trial):
        judged = [one.judged for one in month.screened(run.trial, part, entrants) if one.judged is not None]
        candidates = month.candidates(run.trial, part, judged)
        for index, session in enumerate(part.sessions):
            bars, proposals, equity = part.bars.session(index), candidates.proposals(index), run.equity_atoms
            walked = walk_session(run.trial.terms, session, bars, proposals, equity)
            run.equity_atoms = walked.equity_atoms
            found.append(WalkedSession(session=session, opening_atoms=equity, walked=walked, cause="asked for"))
    return found


def denials(run: TrialRun, found: Iterable[TestedSession]) -> Counter[str]:
    """What a run denied, by reason."""
    counted = run.before_bell.denials.copy()
    for one in found:
        counted.update(one.denials)
    return counted


def bench_trades(trades: Iterable[Trade]) -> list[BenchTrade]:
    """The trades as the comparison writes them."""
    return [
        BenchTrade(
            trade.symbol,
            int(trade.side),
            int(trade.entry_time.timestamp()) * 1_000_000_000,
            float(trade.entry_price),
            int(trade.exit_time.timestamp()) * 1_000_000_000,
            float(trade.exit_price),
            float(trade.quantity),
            float(trade.pnl),
        )
        for trade in trades
    ]


class AssembledOnce:
    """The assembly of an instance; another set of parameters makes another one."""

    version = version("tbot-core")
    loading_s = 0.0

    def __init__(self) -> None:
        self._last: tuple[Rules, Assembly] | None = None

    def assembled(self, home: Path, rules: Rules) -> Assembly:
        """The assembly with these parameters, made anew unless it is the last one."""
        if self._last is None or self._last[0] != rules:
            self._last = rules, assemble(home, "backtest", CLOCK, rules_settings(rules))
        return self._last[1]


class MemoryEngine(AssembledOnce):
    """The engine over bars in memory."""

    def __init__(self, trade: Callable[..., tuple[TrialRun, list[TestedSession]]] = trade_blocks) -> None:
        super().__init__()
        self._trade = trade

    def load(self, work: Work, folder: Path) -> Any:
        """Blocks of a month, as the store hands them over."""
        return folder / "home", tuple(months(work))

    def run(self, loaded: Any, rules: Rules) -> Any:
        """Scan, screen, judge and trade all sessions."""
        home, held = loaded
        return self._trade(self.assembled(home, rules), (month.block() for month in held))

    def trades(self, loaded: Any, found: Any) -> Sequence[BenchTrade]:
        """Every trade as an object; raises ValueError if a limit bound."""
        del loaded
        run, sessions = found
        if denied := denials(run, sessions):
            raise ValueError(f"signals were denied: {dict(denied)}")
        return bench_trades(trade for one in sessions for trade in one.trades)

    def sweep(self, loaded: Any, sets: Sequence[Rules]) -> list[tuple[int, float]]:
        """All sets in one sweep: the number of trades and the profit of each."""
        home, held = loaded
        grid, blocks = [rules_settings(rules) for rules in sets], (month.block() for month in held)
        found = sweep_blocks(self.assembled(home, sets[0]), grid, blocks)
        return [(sum(one.trades), float(one.pnl)) for one in found]


class StoreEngine(AssembledOnce):
    """`backtest()` over stored bars."""

    def load(self, work: Work, folder: Path) -> Any:
        """Nothing: reading is a part of the work."""
        days = days_of(work)
        return folder / "home", BacktestRange(first=days[0], last=days[-1])

    def run(self, loaded: Any, rules: Rules) -> Any:
        """Read, trade and summarise the range."""
        home, over = loaded
        return trade_range(self.assembled(home, rules), over)

    def trades(self, loaded: Any, found: Any) -> Sequence[BenchTrade]:
        """Every trade as an object."""
        del loaded
        return bench_trades(found.summary.trades)


if __name__ == "__main__":
    measure(
        {
            "memory": MemoryEngine,
            "looked": partial(MemoryEngine, look_blocks),
            "steps": partial(MemoryEngine, walk_blocks),
            "store": StoreEngine,
        }
    )
