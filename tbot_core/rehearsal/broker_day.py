"""A day of an installed broker plugin at its own venue: real connections, the real run, virtual time.

The plugin's server, the run and the market share one event loop. The market moves every five seconds, each minute
closes as a bar of the venue, and a script may stop the run, start it again, and let the server fail.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import attrs

from tbot_core.backtest.shadow_run import session_drift
from tbot_core.contracts import Context, FeedRequest, Plugin
from tbot_core.contracts.network import host_settings
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.errors import PluginError
from tbot_core.instance import Mode
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop
from tbot_core.system import filesystem
from tbot_core.system.foreign_exceptions import assert_failure
from tbot_core.testing.venue import ReportingVenue, TradingVenue
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from tbot_core.engine.assembly import Assembly
    from tbot_core.model.clock import Clock
    from tbot_core.model.window import Window

LEAD: Final = dt.timedelta(minutes=5)
"""So long before the bell a day begins."""

_LIMIT: Final = dt.timedelta(hours=1)
"""So long after the close a script must have ended."""

_NEEDED: Final = "docs/reference/testing-kit.md, section 'The venue of a broker', says what Plugin.venue needs."
Result = TypeVar("Result")


class DayMarket(Protocol):
    """A market that a venue is moved by."""

    def list_at(self, venue: TradingVenue) -> None:
        """Let the symbols be traded at a venue."""

    async def trade_at(self, venue: TradingVenue, session: Session, clock: Clock) -> None:
        """Trade at a venue to the close."""


@attrs.frozen(kw_only=True, eq=False)
class BrokerDay:
    """A session at the venue of a broker; `home` is an instance whose settings name that broker.

    With `entrants` these trade, instead of the strategies of the settings, of which there are none then. In `mode` live
    the instance must be one that trades live, with credentials of its own.
    """

    home: Path
    loop: VirtualLoop
    clock: LoopClock
    venue: TradingVenue
    market: DayMarket
    calendar: ExchangeCalendar
    session: Session
    watcher: RunWatcher = attrs.field(factory=RunWatcher)
    entrants: list[ActiveStrategy] = attrs.field(factory=list)
    mode: Mode = "paper"

    async def until(self, minute: float) -> None:
        """Wait until so many minutes after the open."""
        await self.clock.sleep_until(self.session.open + dt.timedelta(minutes=minute))

    def start(self, *, rehearsal: str = "") -> asyncio.Task[RunOutcome]:
        """Start a run, as a new process does; `rehearsal`: the run id of one, as of `tbot run --rehearsal`."""
        assembly = self._assembled()
        plan = RunPlan(
            assembly=assembly,
            request=FeedRequest(
                kind="live",
                symbols=assembly.settings.trading.universe,
                calendar=self.calendar,
                extra_facts=assembly.extra_facts,
            ),
            wall=self.clock,
            once=True,
            watch_s=1.0,
            rehearsal=rehearsal,
            drift=session_drift,
        )
        return self.loop.create_task(run(plan, self.watcher))

    async def crash(self, life: asyncio.Task[RunOutcome]) -> None:
        """End a run in the midst of what it does: no order is cancelled and nothing is recorded."""
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life

    def _assembled(self) -> Assembly:
        # The run's parts. The plugin has the venue's credentials; live it has its own, and the venue's addresses.
        assembly = assemble(self.home, self.mode, self.clock)
        name = assembly.settings.trading.broker_name
        loaded = tuple(
            attrs.evolve(one, plugin=self._at_venue(one.plugin, assembly))
            if (one.entry.kind, one.entry.name) == ("broker", name)
            else one
            for one in assembly.loaded
        )
        placed: dict[tuple[Window, ...], tuple[ActiveStrategy, ...]] = {}
        if self.entrants:
            placed[()] = tuple(self.entrants)
        return attrs.evolve(assembly, calendar=self.calendar, loaded=loaded, placed=placed)

    def _at_venue(self, plugin: Plugin, assembly: Assembly) -> Plugin:
        if self.mode != "live":
            return _with_secrets(plugin, self.venue.secrets)
        hosts = host_addresses(plugin, self.venue)

        def create(config: Any, context: Context) -> object:
            connect = attrs.evolve(context.connect, addresses=hosts)  # type: ignore[misc]  # a Connector
            assembly.connections.add(f"broker/{plugin.name}", connect)
            return plugin.create(config, attrs.evolve(context, connect=connect))

        return attrs.evolve(plugin, create=create)


@contextmanager
def open_day(  # noqa: PLR0913  -- what makes a day
    plugin: Plugin,
    home: Path,
    market: DayMarket,
    calendar: ExchangeCalendar,
    day: dt.date,
    *,
    lead: dt.timedelta = LEAD,
) -> Iterator[tuple[BrokerDay, Callable[[Callable[[BrokerDay], Awaitable[Result]]], Result]]]:
    """Open the plugin's venue `lead` before the bell; yields the day, and what runs a script beside its market.

    Raises PluginError for a plugin whose venue cannot trade a whole day.
    """
    session = calendar.session(day)
    if session is None:
        raise PluginError(f"The exchange is closed on {day}.", "Give another day.")
    loop = VirtualLoop()
    clock = LoopClock(loop, session.open - lead)
    with (
        asyncio.Runner(loop_factory=lambda: loop) as runner,
        trading_venue(plugin, runner, clock, market) as venue,
    ):
        opened = BrokerDay(
            home=home, loop=loop, clock=clock, venue=venue, market=market, calendar=calendar, session=session
        )

        async def beside(script: Callable[[BrokerDay], Awaitable[Result]]) -> Result:
            moving = loop.create_task(market.trade_at(venue, session, clock))
            try:
                async with asyncio.timeout_at((session.close + _LIMIT - clock.true()).total_seconds()):
                    return await script(opened)
            finally:
                moving.cancel()
                await asyncio.gather(moving, return_exceptions=True)

        yield opened, lambda script: runner.run(beside(script))


@contextmanager
def trading_venue(plugin: Plugin, runner: asyncio.Runner, clock: Clock, market: DayMarket) -> Iterator[TradingVenue]:
    """Open the plugin's venue with the symbols of a market; raises PluginError for one that trades no whole day."""
    if plugin.venue is None:
        raise PluginError(f"The broker {plugin.name} offers no venue for tests.", _NEEDED)
    if len(inspect.signature(plugin.venue).parameters) == 0:
        raise PluginError(f"The venue of the broker {plugin.name} cannot trade a whole day.", _NEEDED)
    with _opened_venue(plugin.name, plugin.venue, runner, clock) as venue:
        if not isinstance(venue, TradingVenue):
            raise PluginError(f"The venue of the broker {plugin.name} cannot trade a whole day.", _NEEDED)
        market.list_at(venue)
        yield venue


def venue_summary(venue: TradingVenue) -> tuple[str, ...]:
    """What a venue reports that it has received; nothing from one that does not report."""
    return tuple(venue.summary()) if isinstance(venue, ReportingVenue) else ()


def write_instance(home: Path, settings: Mapping[str, str]) -> None:
    """Write an instance with these settings into an empty folder; its client order ids are the same on each day."""
    lines = "".join(f"{name}={text}\n" for name, text in settings.items())
    filesystem.write_atomic(home / ".env_bot", lines.encode())
    filesystem.make_folder(home / "data")
    filesystem.write_atomic(home / "data" / "install.id", b"simulated\n")


def addresses(plugin: Plugin, venue: TradingVenue) -> dict[str, str]:
    """The settings that point the hosts of a plugin to a venue; live trading does not take them."""
    found = host_addresses(plugin, venue)
    return {one.name: found[host] for host, one in host_settings(plugin.name, {**found}).items()}


def host_addresses(plugin: Plugin, venue: TradingVenue) -> dict[str, str]:
    """The address of each host of a plugin at a venue."""
    return {
        name: venue.server.socket_url if host.url.startswith("wss") else venue.server.url
        for name, host in plugin.needs.hosts.items()
    }


@contextmanager
def _opened_venue(
    name: str, opened: Callable[..., AbstractContextManager[object]], runner: asyncio.Runner, clock: Clock
) -> Iterator[object]:
    # The venue, entered; PluginError for what the plugin raises meanwhile.
    with ExitStack() as stack:
        try:
            venue = stack.enter_context(opened(runner, clock))
        except BaseException as fault:
            assert_failure(fault)
            words = f"The venue of the broker {name} cannot be opened: {type(fault).__name__}: {fault}"
            raise PluginError(words, f"`tbot plugins check {name}` shows the traceback.") from fault
        yield venue


def _with_secrets(plugin: Plugin, secrets: Mapping[str, object]) -> Plugin:
    create = plugin.create
    return attrs.evolve(
        plugin,
        needs=attrs.evolve(plugin.needs, secrets={}),
        create=lambda config, context: create(config, attrs.evolve(context, secrets=secrets)),
    )
