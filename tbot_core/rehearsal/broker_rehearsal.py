"""Days of an installed broker plugin at its own venue: real connections, the real run, virtual time.

The plugin's server, the run and the market share one event loop. The market moves every five seconds, each minute
closes as a bar of the venue, and a script may stop the run, start it again, and let the server fail. From a seed come
signals, prices, faults of the server and restarts; the day is judged by what the server received, by the account that
it has at the end, and by the journal.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import math
import traceback
from collections import Counter
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import attrs

from tbot_core.backtest.shadow_run import session_drift
from tbot_core.contracts import AccountSnapshot, BrokerEventKind, Context, FeedRequest, OrderStatus, Plugin
from tbot_core.contracts.network import host_settings
from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.errors import PluginError
from tbot_core.instance import Mode
from tbot_core.journal import records
from tbot_core.journal.store import Event, read_journal
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.signals import ExitRules
from tbot_core.model.window import Window
from tbot_core.plugins import discovery
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import PluginLoader
from tbot_core.rehearsal.bot import ScriptedStrategy
from tbot_core.rehearsal.parallel import SeedReport
from tbot_core.rehearsal.prices import SimulatedMarket
from tbot_core.rehearsal.random_streams import RandomStream, RandomStreams
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop
from tbot_core.rehearsal.world import DAY, QUIET_MINUTES, short_day
from tbot_core.system import filesystem
from tbot_core.system.foreign_exceptions import assert_failure
from tbot_core.testing.scripted_server import ServerFault, ServerRequest, SocketFault
from tbot_core.testing.venue import ReportingVenue, TradingVenue
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from tbot_core.engine.assembly import Assembly
    from tbot_core.model.clock import Clock
    from tbot_core.plugins.discovery import PluginListing

_SYMBOLS: Final = ("AAPL", "F", "KO")

_MINUTES: Final = (40, 50)

RESTART: Final = "RESTART"

_OUTAGE: Final = "OUTAGE"

_OUTAGE_S: Final = 60.0

_OFTEN: Final = 0.4

_SIGNALS_UNTIL: Final = 20

_SETTINGS: Final = {
    "FILTERS": "none",
    "EXTENSIONS": "none",
    "SLEEP_TIME": "3s",
    "TOTAL_ALLOCATION": "0.2",
    "MAX_GROSS_EXPOSURE": "0.9",
}

LEAD: Final = dt.timedelta(minutes=5)
"""So long before the bell a day begins."""

_LIMIT: Final = dt.timedelta(hours=1)
"""So long after the close a script must have ended."""

_NEEDED: Final = "docs/reference/testing-kit.md, section 'The venue of a broker', says what Plugin.venue needs."

Result = TypeVar("Result")


@attrs.frozen(kw_only=True, eq=False)
class RehearsedDay:
    """A day of a plugin: its report, the journal, the requests that the venue received, and the account at its end.

    `home` was the instance's folder, which is gone.
    """

    report: SeedReport
    events: list[Event]
    requests: list[ServerRequest]
    account: AccountSnapshot
    home: Path


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
            attrs.evolve(plugin, plugin=self._at_venue(plugin.plugin, assembly))
            if (plugin.entry.kind, plugin.entry.name) == ("broker", name)
            else plugin
            for plugin in assembly.loaded
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


def broker_plugin(name: str) -> Plugin:
    """The offer of the installed broker; raises PluginError if it is not installed or cannot be imported."""
    for listing in discovery.installed_plugins():
        if (listing.entry.kind, listing.entry.name) == ("broker", name):
            loaded = PluginLoader().load(listing.entry)
            if isinstance(loaded, PluginFailure):
                raise PluginError(loaded.sentence, "`tbot plugins list --probe` tries every plugin.")
            return loaded.plugin
    raise PluginError(f"The broker {name} is not installed.", "`tbot plugins list` shows the installed plugins.")


def rehearse_broker(plugin: Plugin, seed: int) -> RehearsedDay:
    """One day of the plugin; raises PluginError if its venue cannot trade a whole day."""
    chances = RandomStreams(seed)
    calendar, session = short_day(chances.stream("day").whole(*_MINUTES))
    market = SimulatedMarket.drawn(chances, _SYMBOLS, session.minutes)
    faults: Counter[str] = Counter()
    with filesystem.scratch_folder() as home, open_day(plugin, home, market, calendar, DAY) as (day, run):
        alerts = alert_settings(discovery.installed_plugins())
        texts = {**_SETTINGS, **alerts, "BROKER_NAME": plugin.name.upper(), **addresses(plugin, day.venue)}
        write_instance(home, texts)
        day.entrants.append(_entrant(chances.stream("signals")))
        ended = run(lambda day: live_with_faults(day, chances.stream("faults"), faults))
        snapshot = day.venue.wait(day.venue.broker.snapshot(session.open))
        requests = list(day.venue.server.requests)
        seen = venue_summary(day.venue)
        events = _events(home)
    violations = [
        *([ended] if isinstance(ended, str) else []),
        *_violations(events, snapshot),
        *sent_twice(requests, events),
    ]
    report = SeedReport(
        seed=seed,
        orders=sum(event.kind == records.SENDING for event in events),
        fills=sum(event.kind == BrokerEventKind.FILL for event in events),
        deaths=faults[RESTART],
        faults=dict(faults),
        settled_s=(),
        again=f"tbot rehearse --broker {plugin.name} --seeds 1 --first-seed {seed}",
        violations=tuple(violations),
        venue=seen,
    )
    return RehearsedDay(report=report, events=events, requests=requests, account=snapshot, home=home)


def alert_settings(installed: Iterable[PluginListing]) -> dict[str, str]:
    """The settings of alerts: the console, or else another installed channel; nothing is sent.

    Raises PluginError without one.
    """
    channels = sorted(
        (listing.entry.name != "console", listing.entry.name) for listing in installed if listing.entry.kind == "alert"
    )
    if not channels:
        raise PluginError(
            "A run needs an alert channel, and none is installed.", "Install tbot-alert-console, or another channel."
        )
    return dict.fromkeys(("CRITICAL_ALERT_CHANNEL", "ROUTINE_ALERT_CHANNEL"), channels[0][1])


def sent_twice(requests: Sequence[ServerRequest], events: Sequence[Event]) -> list[str]:
    """The orders that the server received more than once, by the request that it received first."""
    found = []
    for cid in sorted({event.cid for event in events if event.kind == records.SENDING and event.cid}):
        named = [request for request in requests if cid.encode() in request.body]
        repeated = [one for one in named if (one.method, one.path) == (named[0].method, named[0].path)]
        if len(repeated) > 1:
            found.append(f"TWICE: {named[0].method} {named[0].path} with {cid} arrived {len(repeated)} times")
    return found


async def live_with_faults(
    day: BrokerDay, chance: RandomStream, faults: Counter[str], often: float = _OFTEN
) -> RunOutcome | str:
    """Trade the day, with a fault in this share of its minutes; its end, or what ended the run before the close.

    `faults` counts what was injected.
    """
    life, server = day.start(), day.venue.server
    for minute in range(1, day.session.minutes - QUIET_MINUTES):
        await day.until(minute + chance.between(0, 1))
        if life.done():
            break
        if not chance.happens(often):
            continue
        fault = chance.one([*ServerFault, *SocketFault, _OUTAGE, RESTART])
        faults[fault.name if isinstance(fault, ServerFault | SocketFault) else fault] += 1
        if isinstance(fault, ServerFault):
            server.fail(fault, times=chance.whole(1, 3))
        elif isinstance(fault, SocketFault):
            server.fail_sockets(fault, times=chance.whole(1, 3))
        elif fault == _OUTAGE:
            server.fail(ServerFault.SERVER_ERROR, times=None)
            await day.clock.sleep(_OUTAGE_S)
            server.recover()
        else:
            await day.crash(life)
            await day.clock.sleep(chance.between(1, 90))
            life = day.start()
    server.recover()
    try:
        return await life
    except Exception as fault:  # noqa: BLE001  -- the finding
        last = traceback.extract_tb(fault.__traceback__)[-1]
        return f"ALIVE: the run ended with {type(fault).__name__}: {fault} ({last.filename}:{last.lineno})"


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


def _violations(events: Sequence[Event], found: AccountSnapshot) -> list[str]:
    # What the end of the day must not leave.
    closed = [event.payload for event in events if event.kind == records.SESSION_CLOSED]
    if not any(event.kind == records.READY for event in events) or not closed:
        return ["DAY: the session was not ready, or not closed"]
    stuck = {event.payload.get("symbol") for event in events if event.kind == records.STUCK}
    held = [holding for holding in found.holdings if holding.quantity and holding.symbol not in stuck]
    left = [f"HELD: {one.quantity} {one.symbol} at the venue, and not reported as stuck" for one in held]
    left += [
        f"WORKING: {order.client_order_id} works at the venue after the close"
        for order in found.orders
        if order.kind is OrderStatus.WORKING
    ]
    ours, theirs = Decimal(closed[-1]["cash"]), found.account.cash
    if abs(ours - theirs) >= Decimal("0.01"):
        left.append(f"BOOKS: the books have {ours} in cash, and the venue {theirs}")
    return left


def _entrant(chance: RandomStream) -> ActiveStrategy:
    # A strategy with a few signals in the first minutes.
    window = Window(start=1, analysis=0, breakout=_SIGNALS_UNTIL, monitoring=5)
    cells = {(chance.whole(2, _SIGNALS_UNTIL), chance.whole(0, len(_SYMBOLS) - 1)) for _ in range(chance.whole(3, 6))}
    strategy = ScriptedStrategy(
        window=window,
        calls=tuple((minute, row, 1) for minute, row in sorted(cells)),
        exits=ExitRules(trigger="intrabar", trailing=chance.happens(0.3), leave=window.leave, hold=None),
        distance=chance.between(0.003, 0.03),
        gain=math.nan,
    )
    return ActiveStrategy(name="drawn", rank=0, strategy=strategy, frame=StrategySettings())


def _events(home: Path) -> list[Event]:
    with closing(read_journal(home / "data" / "tbot.sqlite")) as journal:
        return list(journal.events())


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
