"""A day of an installed broker plugin at its own venue: real connections, the real run, virtual time.

The plugin's server, the run and the market share one event loop. The market moves every five seconds, each minute
closes as a bar of the venue, and a script may stop the run, start it again, and let the server fail.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from tbot_core.contracts import FeedRequest, Plugin
from tbot_core.contracts.network import host_settings
from tbot_core.engine.bootstrap import Assembly, assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.errors import PluginError
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.types import TICKS_PER_DOLLAR
from tbot_core.rehearsal.live_feed import bars_of
from tbot_core.rehearsal.prices import STEP_S, STEPS_A_MINUTE, SimulatedMarket
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop
from tbot_core.testing.venue import TradingVenue
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from tbot_core.engine.run_plan import RunOutcome
    from tbot_core.model.window import Window

CASH: Final = Decimal(100_000)
_VOLUME: Final = 5_000_000
_LEAD: Final = dt.timedelta(minutes=5)
_LIMIT: Final = dt.timedelta(hours=1)
"""So long after the close a script must have ended."""

_BAR_AFTER_S: Final = 0.5
_REMEDY: Final = (
    "docs/reference/testing-kit.md, section 'The venue of a broker', says what Plugin.venue needs for that."
)
Result = TypeVar("Result")


@attrs.frozen(kw_only=True, eq=False)
class BrokerDay:
    """A session at the venue of a broker; `home` is an instance whose settings name that broker.

    With `entrants` these trade, instead of the strategies of the settings, of which there are none then.
    """

    home: Path
    loop: VirtualLoop
    clock: LoopClock
    venue: TradingVenue
    market: SimulatedMarket
    calendar: ExchangeCalendar
    session: Session
    watcher: RunWatcher = attrs.field(factory=RunWatcher)
    entrants: list[ActiveStrategy] = attrs.field(factory=list)

    async def until(self, minute: float) -> None:
        """Wait until so many minutes after the open."""
        await self.clock.sleep_until(self.session.open + dt.timedelta(minutes=minute))

    def start(self, *, rehearsal: bool = False) -> asyncio.Task[RunOutcome]:
        """Start a run, as a new process does; `rehearsal` as `tbot run --rehearsal`."""
        plan = RunPlan(
            assembly=self._assembled(),
            request=FeedRequest(kind="live", calendar=self.calendar),
            wall=self.clock,
            once=True,
            watch_s=1.0,
            rehearsal=rehearsal,
        )
        return self.loop.create_task(run(plan, self.watcher))

    async def crash(self, life: asyncio.Task[RunOutcome]) -> None:
        """End a run in the midst of what it does: no order is cancelled and nothing is recorded."""
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life

    async def move(self) -> None:
        """Let the market trade to the close."""
        for minute in range(self.session.minutes):
            for step in range(minute * STEPS_A_MINUTE, (minute + 1) * STEPS_A_MINUTE):
                await self.clock.sleep_until(self.session.open + dt.timedelta(seconds=step * STEP_S))
                for symbol, path in self.market.paths.items():
                    self.venue.trade(symbol, Decimal(path.prices[step]) / TICKS_PER_DOLLAR)
            await self.clock.sleep_until(self.session.moment(minute + 1) + dt.timedelta(seconds=_BAR_AFTER_S))
            await self.venue.publish(list(bars_of(self.session, self.market.minute(minute), self.market.symbols)))

    def _assembled(self) -> Assembly:
        # The run's parts. The plugin has the venue's credentials instead of the instance's.
        assembly = assemble(self.home, "paper", self.clock)
        name = assembly.settings.trading.broker_name
        loaded = tuple(
            attrs.evolve(one, plugin=_at_venue(one.plugin, self.venue.secrets))
            if (one.entry.kind, one.entry.name) == ("broker", name)
            else one
            for one in assembly.loaded
        )
        placed: dict[tuple[Window, ...], tuple[ActiveStrategy, ...]] = {}
        if self.entrants:
            placed[()] = tuple(self.entrants)
        return attrs.evolve(assembly, calendar=self.calendar, loaded=loaded, placed=placed)


@contextmanager
def open_day(
    plugin: Plugin, home: Path, market: SimulatedMarket, calendar: ExchangeCalendar, day: dt.date
) -> Iterator[tuple[BrokerDay, Callable[[Callable[[BrokerDay], Awaitable[Result]]], Result]]]:
    """Open the plugin's venue five minutes before the bell; yields the day, and what runs a script beside its market.

    Raises PluginError for a plugin whose venue cannot trade a whole day.
    """
    session = calendar.session(day)
    if session is None or plugin.venue is None:
        raise PluginError(f"The broker {plugin.name} offers no venue for tests.", _REMEDY)
    if len(inspect.signature(plugin.venue).parameters) == 0:
        raise PluginError(f"The venue of the broker {plugin.name} cannot trade a whole day.", _REMEDY)
    loop = VirtualLoop()
    clock = LoopClock(loop, session.open - _LEAD)
    with asyncio.Runner(loop_factory=lambda: loop) as runner, plugin.venue(runner, clock) as venue:
        if not isinstance(venue, TradingVenue):
            raise PluginError(f"The venue of the broker {plugin.name} cannot trade a whole day.", _REMEDY)
        for symbol, path in market.paths.items():
            venue.list_symbol(symbol, Decimal(path.prices[0]) / TICKS_PER_DOLLAR, _VOLUME, CASH)
        opened = BrokerDay(
            home=home, loop=loop, clock=clock, venue=venue, market=market, calendar=calendar, session=session
        )

        async def beside(script: Callable[[BrokerDay], Awaitable[Result]]) -> Result:
            moving = loop.create_task(opened.move())
            try:
                async with asyncio.timeout_at((session.close + _LIMIT - clock.true()).total_seconds()):
                    return await script(opened)
            finally:
                moving.cancel()
                await asyncio.gather(moving, return_exceptions=True)

        yield opened, lambda script: runner.run(beside(script))


def addresses(plugin: Plugin, venue: TradingVenue) -> dict[str, str]:
    """The settings that point the hosts of a plugin to a venue."""
    hosts = {name: host.url for name, host in plugin.needs.hosts.items()}
    return {
        one.name: venue.server.socket_url if hosts[host].startswith("wss") else venue.server.url
        for host, one in host_settings(plugin.name, hosts).items()
    }


def _at_venue(plugin: Plugin, secrets: Mapping[str, object]) -> Plugin:
    create = plugin.create
    return attrs.evolve(
        plugin,
        needs=attrs.evolve(plugin.needs, secrets={}),
        create=lambda config, context: create(config, attrs.evolve(context, secrets=secrets)),
    )
