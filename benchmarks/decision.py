"""How long a live decision takes: the last bar of a minute is in -> the order is at the broker, for 500 symbols.

Prints the median and the 99th percentile over the minutes that send an order, with durable commits (SQLite, WAL,
synchronous=FULL, two barriers) and with a journal in memory, and the scan of one minute for 500 and 10,000 symbols.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import statistics
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import numpy as np

from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.session.session import SessionContext, TradingSession, open_books
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.instance import Instance
from tbot_core.journal.store import open_journal
from tbot_core.model.bars import FIELDS, MinuteSlice, Tape
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.clock import ManualClock, SystemClock
from tbot_core.model.day_facts import DayFacts
from tbot_core.trading.orders import ClientOrderIds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from tbot_core.contracts import Permit
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Order

SESSIONS = 30
SETTINGS = {
    "BROKER_NAME": "PAPER",
    "STRATEGY_SEQUENCE": "open,mid,close",
    "FILTER_MISSING_DATA": "pass",
    "MAX_TRADES": "20",
    "WEIGHTS": ",".join(["0.05"] * 20),
    "MAX_OPEN_POSITIONS": "40",
    "TOTAL_ALLOCATION": "0.2",
    "MAX_GROSS_EXPOSURE": "1",
    "STRAT_CLOSE_VIX_THRESHOLD": "0",
    "STRAT_OPEN_BUFFER": "0.003",
    "STRAT_MID_VWAP_THRESHOLD": "0.01",
    "SHORT_TYPE_OPEN": "ShortSell",
    "SHORT_TYPE_MID": "ShortSell",
    "SHORT_TYPE_CLOSE": "ShortSell",
    "START_TIME_OPEN": "14:30",
    "START_TIME_MID": "15:30",
    "START_TIME_CLOSE": "19:30",
}


@attrs.frozen(kw_only=True)
class Source:
    """A session of random walks."""

    session: Session
    symbols: tuple[str, ...]
    day: DayFacts
    made: tuple[MinuteSlice, ...]

    async def minutes(self) -> AsyncIterator[MinuteSlice]:
        """Its minutes."""
        for minute in self.made:
            yield minute


@attrs.frozen(kw_only=True)
class Latency:
    """From a minute's last bar to its first order handed over, in milliseconds, and the processor time of these."""

    wall_ms: float
    processor_ms: float


class Timed:
    """The paper broker, noting when a minute's last bar was received, and its first order handed over."""

    def __init__(self, broker: Any) -> None:
        self._broker = broker
        self._received = _moment()
        self.latency: Latency | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def receive(self) -> None:
        """Note that the last bar of a minute is in."""
        self._received, self.latency = _moment(), None

    async def submit(self, order: Order, permit: Permit) -> None:
        """Hand the order over, and note the moment of the first of a minute."""
        if self.latency is None:
            wall, processor = (now - then for now, then in zip(_moment(), self._received, strict=True))
            self.latency = Latency(wall_ms=wall * 1e3, processor_ms=processor * 1e3)
        await self._broker.submit(order, permit)


def _moment() -> tuple[float, float]:
    # Seconds of the clock, and of this thread's processor time.
    return time.perf_counter(), time.thread_time()


def source(session: Session, symbols: int, seed: int = 0) -> Source:
    """A session of random walks, 2 % of the bars missing."""
    generator = np.random.default_rng(seed)
    shape = (session.minutes, symbols)
    close = np.round(50 * np.exp(np.cumsum(generator.normal(0, 0.0006, shape), axis=0)), 2)
    columns = {"open": close, "high": close + 0.02, "low": close - 0.02, "close": close, "volume": np.full(shape, 5e4)}
    hole = generator.random(shape) < 0.02
    fields = {name: np.where(hole, np.nan, columns[name]) for name in FIELDS} | {"vwap": np.full(shape, np.nan)}
    made = tuple(
        MinuteSlice(index=index, **{name: field[index] for name, field in fields.items()})
        for index in range(session.minutes)
    )
    unknown = np.full(symbols, np.nan)
    day = DayFacts(
        previous_close=np.full(symbols, 50.0),
        average_volume=np.full(symbols, 1e7),
        market_cap=unknown,
        atr=unknown,
        vix=np.array([20.0]),
        restricted=np.zeros(symbols, dtype=bool),
    )
    return Source(session=session, symbols=tuple(f"S{row:05d}" for row in range(symbols)), day=day, made=made)


class Beside(Protocol):
    """What runs in the event loop of the sessions, from before the first one to after the last one."""

    def running(self, home: Path, clock: Clock) -> AbstractAsyncContextManager[None]:
        """Run while the context is open."""

    def decided(self) -> None:
        """A decision was measured."""


class Nothing:
    """Nothing runs beside the sessions."""

    @asynccontextmanager
    async def running(self, _home: Path, _clock: Clock) -> AsyncIterator[None]:
        """Run nothing."""
        yield

    def decided(self) -> None:
        """Do nothing."""


def decisions(home: Path, *, durable: bool, sessions: int = SESSIONS, beside: Beside | None = None) -> list[Latency]:
    """From the last bar to the first order handed over, for each minute that sends one.

    Between the bar and the decision the other tasks of the event loop run, if they are ready: that time counts.
    """
    other = beside or Nothing()
    assembly = assemble(home, "replay", SystemClock(), SETTINGS)
    days = ExchangeCalendar().sessions(dt.date(2018, 2, 16), dt.date(2018, 12, 31))[:sessions]
    broker = Timed(assembly.broker())
    clock = ManualClock(days[0].open)
    journal = open_journal(Instance.at(home).journal if durable else Path(":memory:"))
    found: list[Latency] = []

    async def wait(moment: dt.datetime) -> None:
        clock.advance_to(moment)
        broker.receive()
        await asyncio.sleep(0)

    trading = SessionContext(
        rules=assembly.rules(broker.capabilities),
        venue=BrokerAccount(broker=broker, name="paper", account_id="PAPER"),
        journal=journal,
        clock=clock,
        naming=ClientOrderIds(install_id="benchmark", identity="", account_id="PAPER"),
        wait=wait,
        on_events=lambda _entries: None,
        on_minute=lambda _run, _minute: None,
    )

    class Measured(TradingSession):
        async def step(self, minute: int, *, late: bool = False) -> None:
            await super().step(minute, late=late)
            if broker.latency is not None:
                found.append(broker.latency)
                other.decided()

    async def trade() -> None:
        async with other.running(home, clock):
            for index, session in enumerate(days):
                clock.advance_to(session.open)
                entrants = assembly.entrants(session)
                feed = source(session, 500, index)
                books = open_books(trading, session, feed.symbols, feed.day, 10**15)
                await Measured(trading, books, entrants).trade(feed)

    asyncio.run(trade())
    journal.close()
    return found


def scans(home: Path, symbols: int) -> dict[str, float]:
    """Milliseconds of the slowest of a strategy's minute scans, the best of three runs."""
    assembly = assemble(home, "replay", SystemClock(), SETTINGS)
    session = ExchangeCalendar().next(dt.date(2018, 2, 15))
    day = source(session, symbols)
    worst: dict[str, float] = {}
    for entrant in assembly.entrants(session):
        runs = []
        for _ in range(3):
            tape, slowest = Tape(day.symbols, session.minutes), 0.0
            for minute in day.made[: entrant.window.entry_end]:
                tape.append(minute)
                if minute.index >= entrant.window.entry:
                    begun = time.perf_counter()
                    entrant.strategy.scan(tape.bars, day.day, minute.index)
                    slowest = max(slowest, time.perf_counter() - begun)
            runs.append(slowest * 1e3)
        worst[entrant.name] = min(runs)
    return worst


def main() -> None:
    """Print the figures."""
    show: Callable[[str], int] = sys.stdout.write
    for durable in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            (home / ".env_bot").write_text("".join(f"{key}={value}\n" for key, value in SETTINGS.items()))
            times = [one.wall_ms for one in decisions(home, durable=durable)]
        median, worst = statistics.median(times), statistics.quantiles(times, n=100)[98]
        kind = "durable commits" if durable else "journal in memory"
        show(f"decision, 500 symbols, {kind}: median {median:.2f} ms, p99 {worst:.2f} ms in {len(times)} minutes\n")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / ".env_bot").write_text("".join(f"{key}={value}\n" for key, value in SETTINGS.items()))
        for symbols in (500, 10_000):
            slowest = ", ".join(f"{name} {ms:.2f} ms" for name, ms in scans(home, symbols).items())
            show(f"slowest scan of a minute, {symbols} symbols: {slowest}\n")


if __name__ == "__main__":
    main()
