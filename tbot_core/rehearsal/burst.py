"""Many orders at once, for benchmarks: a bot enters every symbol in one minute at a venue without depth.

All entries rest until they are cancelled. The venue runs in virtual or real time.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

from tbot_core.contracts import Broker, BrokerCapabilities
from tbot_core.contracts.settings import StrategySettings
from tbot_core.journal.store import Journal, open_journal
from tbot_core.model.clock import Clock, SystemClock
from tbot_core.model.signals import ExitRules
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import AcknowledgedJournal, BotConfig, BotEnvironment, ScriptedStrategy
from tbot_core.rehearsal.broker_client import SimulatedBroker
from tbot_core.rehearsal.feed import DeliverySchedule, SimulatedFeed, facts_of_the_day
from tbot_core.rehearsal.random_streams import RandomStreams
from tbot_core.rehearsal.remote_broker import RemoteBroker
from tbot_core.rehearsal.small_world import LEAD_S, SmallWorld
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.system import sockets
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy
from tbot_core.trading.universe import Universe

if TYPE_CHECKING:
    from pathlib import Path


_RULES: Final = BrokerCapabilities(
    query_by_cid=True, lists_closed=True, exec_ids_unique=True, brackets=True, replace="same_id", shortable=True
)
_TIMEOUT_S: Final = 60.0
_WATCH_S: Final = 0.05
"""How often control/ is read: the contract, section 8, "Kill, stop"."""

_CASH: Final = Decimal(100_000_000)
CALLED_AT: Final = LEAD_S + 4 * 60.0
"""The second of the world at which the signals' minute has closed."""


class WorldClock:
    """The machine's clock in seconds of a world; `at` is the current second."""

    def __init__(self, start: dt.datetime, at: float) -> None:
        self._machine = SystemClock()
        self._start = start
        self._offset = at - self._machine.monotonic()

    def monotonic(self) -> float:
        """The second of the world."""
        return self._machine.monotonic() + self._offset

    def now(self) -> dt.datetime:
        """The world's time."""
        return self._start + dt.timedelta(seconds=self.monotonic())

    async def sleep(self, seconds: float) -> None:
        """Wait this many seconds."""
        await self._machine.sleep(seconds)

    async def sleep_until(self, moment: dt.datetime) -> None:
        """Wait until `moment`."""
        await self._machine.sleep((moment - self.now()).total_seconds())


class PlainJournal:
    """A journal without crashes; `acknowledged` stays empty."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.acknowledged: list[tuple[int, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)


class LocalConnections:
    """Connections to a journal on disk, and to a venue in this process."""

    def journal(self, path: Path) -> AcknowledgedJournal:
        """The journal at a path."""
        return cast("AcknowledgedJournal", PlainJournal(open_journal(path)))

    def broker(self, world: BotEnvironment, name: str) -> Broker:
        """A client of the venue."""
        return world.client(name)


class RemoteConnections(LocalConnections):
    """Connections to a journal on disk, and to a venue that another process serves at a socket path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def broker(self, world: BotEnvironment, name: str) -> Broker:  # noqa: ARG002  there is one venue
        """A client of the venue, with the bot's clock."""
        return RemoteBroker(sockets.connect(self._path, _TIMEOUT_S), world.clock)


class BurstScenario:
    """`count` symbols with signals in the fourth minute; `latency_s` is the round-trip time of a request."""

    def __init__(self, count: int, latency_s: float = 0.05) -> None:
        symbols = tuple(f"S{number:04d}" for number in range(count))
        self._world = SmallWorld(VenueProfile(rules=_RULES, cash=_CASH), symbols=symbols)
        for path in self._world.market.paths.values():
            path.depth[:] = [0] * len(path.depth)
        self.way = self._world.way
        self.way.latency_s = (latency_s / 2, latency_s / 2)
        self.loop = self._world.loop
        self.venue_clock = self._world.clock
        self.clock: Clock = self._world.clock
        self.start = self._world.matching.start

    def client(self, name: str) -> Broker:  # noqa: ARG002  there is one venue
        """A new client of the venue, in this process."""
        return SimulatedBroker(self.way, self._world.clock)

    def session_feed(self) -> SimulatedFeed:
        """The session's feed, with the bot's clock."""
        small_world = self._world
        plan = DeliverySchedule(small_world.session, LEAD_S, small_world.faults, RandomStreams(0).stream).plan
        return SimulatedFeed(small_world.session, small_world.market, plan, self.universe().day, self.clock)

    def universe(self) -> Universe:
        """All symbols, with random facts."""
        market = self._world.market
        return Universe(symbols=market.symbols, day=facts_of_the_day(market, RandomStreams(0).stream("day")))

    @property
    def bot(self) -> BotConfig:
        """One strategy that signals every symbol, and limits that allow all entries."""
        count = len(self._world.market.symbols)
        settings: dict[str, Any] = {
            "max_gross_exposure": Decimal("0.9"),
            "total_allocation": Decimal("0.5"),
            "max_risk_per_trade": Decimal("0.1"),
            "max_trades": count,
            "max_orders_per_minute": count,
            "weights": (Decimal(1) / (2 * count),) * count,
            "max_open_positions": count,
            "flatten_before_close": 3,
        }
        window = Window(start=0, analysis=0, breakout=self._world.session.minutes - 6, monitoring=5)
        calls = tuple((3, row, 1) for row in range(count))
        strategy = ScriptedStrategy(window=window, calls=calls, exits=ExitRules(), distance=0.01)
        return BotConfig(
            entrants=(ActiveStrategy(name="crowd", rank=0, strategy=strategy, frame=StrategySettings()),),
            rules=lambda venue: rules(venue=venue, **settings),
            stream=RandomStreams(0).stream("bot"),
            watch_s=_WATCH_S,
        )
