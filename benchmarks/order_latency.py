"""How soon an order is on the wire: a minute of 500 symbols is complete -> the first byte of the order at the server.

A session of a running bot at the test venue of Alpaca, with one signal each minute. The
venue and the bot share one process and virtual time; the bytes go over real connections of this machine. Prints median
and 99th percentile of these steps, with the journal on disk and in memory:

- whole: from the last bar of the minute, as the feed's plugin hands it over, to the first byte of the order
- without network: to the moment at which the plugin is given the order
- decision: from the closed minute to that moment
- wire: from there to the first byte at the server's socket

What the run waits for by a timer would take no time here: it is printed as `waited`, and must be 0.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import attrs
from tbot_broker_alpaca import tbot_broker
from tbot_broker_alpaca.broker import AlpacaBroker
from tbot_broker_alpaca.venue import open_venue

from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine.session.session import TradingSession
from tbot_core.marketdata.bar_aggregator import BarAggregator
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import Leg
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import ScriptedStrategy
from tbot_core.rehearsal.broker_rehearsal import BrokerDay, addresses, open_day
from tbot_core.rehearsal.prices import CENT, SimulatedMarket
from tbot_core.rehearsal.world import DAY, short_day
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tbot_core.contracts import Bar
    from tbot_core.engine.run_plan import RunOutcome


SYMBOLS, MINUTES, FIRST = 500, 60, 2
SIGNALS = MINUTES - 10
SETTINGS = {
    "BROKER_NAME": "ALPACA",
    "FILTERS": "none",
    "EXTENSIONS": "none",
    "ALPACA_DATA_FEED": "sip",
    "TOTAL_ALLOCATION": "0.9",
    "MAX_GROSS_EXPOSURE": "1",
    "MAX_OPEN_POSITIONS": str(SIGNALS),
    "MAX_TRADES": str(SIGNALS),
    "WEIGHTS": ",".join([f"{1 / SIGNALS:.4f}"] * SIGNALS),
    "CRITICAL_ALERT_CHANNEL": "console",
    "ROUTINE_ALERT_CHANNEL": "console",
}


@attrs.define
class Marks:
    """Moments of the minute that is decided; `taken` are the steps of each minute that sent an order, in seconds."""

    day: BrokerDay
    bar: tuple[float, float] = (0.0, 0.0)
    step: float = 0.0
    handed: float | None = None
    taken: list[dict[str, float]] = attrs.field(factory=list)

    def on_bytes(self, data: bytes) -> None:
        """Note when a connection of the server receives the first bytes of an order."""
        if self.handed is None or not data.startswith(b"POST "):
            return
        now, (bar, since) = time.perf_counter(), self.bar
        steps = {"whole": now - bar, "without network": self.handed - bar, "decision": self.handed - self.step}
        self.taken.append({**steps, "wire": now - self.handed, "waited": self.day.loop.time() - since})
        self.handed = None


@contextmanager
def watched(marks: Marks) -> Iterator[None]:
    """Let the classes of the run and the server's sockets note their moments."""
    add, step, submit = BarAggregator.add_bar, TradingSession.step, AlpacaBroker.submit
    feed = asyncio.StreamReader.feed_data

    def added(self: Any, *given: Any, **options: Any) -> Any:
        marks.bar = time.perf_counter(), marks.day.loop.time()
        return add(self, *given, **options)

    async def stepped(self: Any, *given: Any, **options: Any) -> None:
        marks.step, marks.handed = time.perf_counter(), None
        await step(self, *given, **options)

    async def submitted(self: Any, order: Any, permit: Any) -> None:
        if order.leg is Leg.ENTRY:
            marks.handed = time.perf_counter()
        await submit(self, order, permit)

    def fed(self: Any, data: bytes) -> None:
        marks.on_bytes(data)
        feed(self, data)

    with (
        mock.patch.object(BarAggregator, "add_bar", added),
        mock.patch.object(TradingSession, "step", stepped),
        mock.patch.object(AlpacaBroker, "submit", submitted),
        mock.patch.object(asyncio.StreamReader, "feed_data", fed),
    ):
        yield


def entries() -> ActiveStrategy:
    """A strategy with one signal each minute, each for another symbol."""
    window = Window(start=1, analysis=0, breakout=SIGNALS + FIRST, monitoring=5)
    strategy = ScriptedStrategy(
        window=window,
        calls=tuple((FIRST + row, row, 1) for row in range(SIGNALS)),
        exits=ExitRules(trigger="intrabar", trailing=False, leave=window.leave, hold=None),
        distance=0.02,
        gain=math.nan,
    )
    return ActiveStrategy(name="entries", rank=0, strategy=strategy, frame=StrategySettings())


async def whole(day: BrokerDay) -> RunOutcome:
    """The session from before the bell to its close."""
    return await day.start()


def traded(folder: str | None) -> list[dict[str, float]]:
    """The steps of each minute that sent an order, in seconds; the instance is a folder in this one."""
    plugin, (calendar, session) = tbot_broker(), short_day(MINUTES)
    paid = attrs.evolve(plugin, venue=lambda *place: open_venue(*place, basic=False))
    symbols = tuple(f"Q{chr(65 + row // 26)}{chr(65 + row % 26)}" for row in range(SYMBOLS))
    market = SimulatedMarket.flat(20 * 100 * CENT, symbols, session.minutes)
    with tempfile.TemporaryDirectory(dir=folder) as made, open_day(paid, Path(made), market, calendar, DAY) as opened:
        day, run = opened
        texts = SETTINGS | addresses(plugin, day.venue)
        (Path(made) / ".env_bot").write_text("".join(f"{key}={value}\n" for key, value in texts.items()))
        venue: Any = day.venue
        venue.venue.market.past_days = 1
        trade, publish, entered = venue.trade, venue.publish, set(symbols[:SIGNALS])

        async def published(bars: Sequence[Bar]) -> None:
            await day.clock.sleep(0.137)  # not at the moment of what is done every half second
            await publish(bars)

        venue.publish = published
        venue.trade = lambda symbol, price: trade(symbol, price) if symbol in entered else None
        day.entrants.append(entries())
        marks = Marks(day)
        with watched(marks):
            run(whole)
    return marks.taken


def main() -> None:
    """Print the figures."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  -- where the journal waits for no disk
    for words, folder in (("journal on disk", None), ("journal in memory", memory)):
        taken = traded(folder)
        for step in taken[0]:
            times = [one[step] * 1e3 for one in taken]
            median, worst = statistics.median(times), statistics.quantiles(times, n=100)[98]
            figures = f"median {median:.2f} ms, p99 {worst:.2f} ms in {len(times)} minutes"
            sys.stdout.write(f"{SYMBOLS} symbols, {words}, {step}: {figures}\n")


if __name__ == "__main__":
    main()
