"""An instance in a simulated world of one venue, with folder, journal and calendar, over several days."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs

from tbot_core.engine.disk_guard import DiskGuard
from tbot_core.engine.live.daily_cycle import DailyCycle
from tbot_core.engine.live.session_inputs import DailyServices
from tbot_core.engine.session.arming import LiveContext
from tbot_core.engine.session.config import LiveConfig, ProcessSignals
from tbot_core.engine.session.feed_session import universe_of
from tbot_core.engine.session.gauge_writer import GaugeWriter
from tbot_core.engine.session.session import SessionContext, TradingSession
from tbot_core.engine.settings_reload import SettingsReloader
from tbot_core.errors import Unavailable
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.journal.store import Event, Journal, open_journal
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.rehearsal.bot import BotConfig, bot_config
from tbot_core.rehearsal.world import World
from tbot_core.trading.orders import ClientOrderIds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tbot_core.contracts import Broker, BrokerCapabilities, FeedSession, LiveSession
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Account
    from tbot_core.trading.proposals import ActiveStrategy
    from tbot_core.trading.universe import Universe


class LifecycleBroker:
    """A client of a simulated venue that reports trading hours; its first `deaf` logins fail."""

    def __init__(self, world: World, deaf: int = 0, hours: dict[dt.date, Session | None] | None = None) -> None:
        self._client = world.client(world.names[0])
        self._capabilities = attrs.evolve(self._client.capabilities, hours=True)
        self._failing_connects = deaf
        self._hours = hours or {}
        self.session = world.session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @property
    def capabilities(self) -> BrokerCapabilities:
        """The venue's capabilities, and the trading hours."""
        return self._capabilities

    async def connect(self) -> Account:
        """Log in; the first calls may fail."""
        if self._failing_connects:
            self._failing_connects -= 1
            raise Unavailable("the line is dead")
        return await self._client.connect()

    async def hours(self, day: dt.date) -> Session | None:
        """The world's session, unless `hours` has another."""
        return self._hours.get(day, self.session)


@attrs.define(eq=False)
class SimulatedInstance:
    """An instance in a world without faults, for consecutive processes; `room` guards its disk space.

    `live`: it has a live feed, not a minute feed. `arming`: if set, its sessions must be armed.
    """

    world: World
    home: Path
    journal: Journal
    broker: LifecycleBroker
    calendar: ExchangeCalendar
    room: DiskGuard = attrs.field(factory=DiskGuard)
    signals: ProcessSignals = attrs.field(factory=ProcessSignals)
    renewal: SettingsReloader = attrs.field(factory=SettingsReloader)
    waited: list[dt.datetime] = attrs.field(factory=list)
    watch: Callable[[TradingSession, int], None] = lambda _run, _minute: None
    meter: GaugeWriter | None = None
    past: list[Event] = attrs.field(factory=list)
    live: bool = False
    arming: LiveContext | None = None
    _bot: BotConfig = attrs.field(init=False)
    _context: SessionContext = attrs.field(init=False)

    @property
    def folder(self) -> Path:
        """The folder of control requests."""
        return self.home / "control"

    def life(self, *, once: bool = True) -> DailyCycle:
        """A new process of the bot."""
        self.journal.free_space = self.room.release_ballast
        broker = cast("Broker", self.broker)
        self._bot = bot_config(self.world)
        self._context = SessionContext(
            rules=self._bot.rules(broker.capabilities),
            venue=BrokerAccount(broker=broker, name="w", account_id="a"),
            journal=self.journal,
            clock=self.world.clock,
            naming=ClientOrderIds(
                install_id="life", identity="", account_id="a", length=broker.capabilities.cid_length
            ),
            wait=self.world.clock.sleep_until,
            on_events=lambda _entries: None,
            on_minute=self.watch,
        )
        config = LiveConfig(
            folder=self.folder,
            poll_s=1.0,
            ttl_s=20.0,
            watch_s=1.0,
            signals=self.signals,
            disk_guard=self.room,
            lost=self.home,
        )
        services = DailyServices(
            calendar=self.calendar,
            settings_reload=self.renewal,
            meter=self.meter,
            on_idle=self.waited.append,
            once=once,
        )
        return DailyCycle(self._context.recorder, broker, config, self, services)

    async def prepare(self, session: Session) -> None:
        """Nothing is prepared."""

    def entrants(self, _session: Session) -> tuple[ActiveStrategy, ...]:
        """The strategies of the world's bot."""
        return self._bot.entrants

    async def context(self, _account: Account, _opened: Event | None) -> SessionContext:
        """The context of the bot's account; there is no other broker."""
        return self._context

    def arming_terms(self, _account: Account) -> LiveContext | None:
        """The arming context that was set."""
        return self.arming

    def is_drilled(self, past: Sequence[Event]) -> bool:
        """Record the events that a session got from the journal; there is no other broker."""
        self.past = list(past)
        return True

    async def compare(self, session: Session) -> None:
        """Nothing is compared."""

    async def bars(self, session: Session) -> FeedSession | LiveSession:
        """The world's feed; raises ValueError for another session than its own."""
        if session.date != self.world.session.date:
            raise ValueError(f"{session.date} is not a day of this world")
        return self.world.live_feed() if self.live else self.world.feed()

    async def universe(
        self, source: FeedSession | LiveSession, _past: Sequence[Event], _on_wait: Callable[[str], None]
    ) -> Universe:
        """The source's symbols, with the world's facts if it has none."""
        return self.world.universe() if self.live else universe_of(source)

    def events(self, kind: str) -> list[Event]:
        """The journal's events of a kind."""
        return list(self.journal.events(kind=kind))


@contextmanager
def simulated_instance(home: Path, world: World | None = None) -> Iterator[SimulatedInstance]:
    """An instance in that folder, with an open journal; the session of its own world lasts 25 minutes."""
    world = world or World(5, (), rates={}, minutes=25)
    found = SimulatedInstance(world, home, open_journal(home / "tbot.sqlite"), LifecycleBroker(world), world.calendar)
    try:
        yield found
    finally:
        found.journal.close()
