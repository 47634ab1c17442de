"""The venues of plugins at the real pace, for commands in another process.

Beside the venue of a broker are served those of installed alert channels, filters and extensions.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import ExitStack, contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import attrs

from tbot_core.engine.rehearsal_run import rehearsal_clock
from tbot_core.engine.rehearsal_target import RehearsalTarget, rehearsed_session
from tbot_core.plugins import discovery
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
from tbot_core.rehearsal.broker_rehearsal import trading_venue, venue_summary
from tbot_core.rehearsal.demo_market import demo_market
from tbot_core.system.foreign_exceptions import assert_failure
from tbot_core.testing.venue import LoopbackServer, ReceivingVenue, ServedVenue

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping

    from tbot_core.contracts import Host, Plugin
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock
    from tbot_core.testing.scripted_server import ScriptedServer

AFTER_CLOSE_S: float = 600.0
"""How long the venue is served after the close of its session, so that a run can end its day."""

_POLL_S: Final = 1.0

KINDS: Final = frozenset({"alert", "extension", "filter"})
"""The kinds whose venues are served beside that of a broker."""


@attrs.frozen(kw_only=True)
class ServedDay:
    """What is served: prices from a seed, and a session that opens at this moment of the machine's clock.

    In the minutes of `outage`, counted from the open, no WebSocket can be opened.
    """

    opens: datetime
    seed: int = 0
    outage: range = range(0)


@attrs.frozen(kw_only=True, eq=False)
class OpenVenue:
    """A venue that is served, and its ports as a target has them."""

    venue: ServedVenue
    ports: tuple[int, int]


def serve_venue(
    plugin: Plugin,
    served: ServedDay,
    announce: Callable[[RehearsalTarget], None],
    tell: Callable[[tuple[str, ...]], None] = lambda _lines: None,
) -> None:
    """Serve the broker's venue from now until `AFTER_CLOSE_S` after its session, and those of the other plugins.

    Where it opened in the past, the venue has its closed minutes. `announce` is called once with the target, `tell`
    with a line for each message that arrives at a channel, with a sentence at the close, and at the end, also where an
    interrupt brings it, with what the venue reports. Raises PluginError for a plugin whose venue trades no day.
    """
    session, clock, market = rehearsed_session(served.opens), rehearsal_clock(served.opens), demo_market(served.seed)
    with (
        asyncio.Runner() as runner,
        trading_venue(plugin, runner, clock, market) as venue,
        served_venues(installed_offers(), runner, clock, lambda words: tell((words,))) as others,
    ):
        url, stream = venue.server.url, venue.server.socket_url
        ports = {name: one.ports for name, one in others.items()}
        announce(RehearsalTarget(url=url, stream=stream, opens=served.opens, ports=ports))
        arrivals = Arrivals(others)

        async def day() -> None:
            await market.trade_at(venue, session, clock)
            rest = f"The venue answers for another {AFTER_CLOSE_S / 60:g} minutes, so that a run can end its day."
            tell((f"The session has closed. {rest}",))
            await clock.sleep(AFTER_CLOSE_S)

        beside = (_show(arrivals, tell), lose_streams(venue.server, session, clock, served.outage))
        try:
            runner.run(_with_tasks(day(), beside))
        finally:
            tell((*arrivals.poll(), *venue_summary(venue)))


async def lose_streams(server: ScriptedServer, session: Session, clock: Clock, outage: range) -> None:
    """Close the WebSockets of a server, and refuse new ones, in these minutes of a session."""
    if not outage:
        return
    await clock.sleep_until(session.moment(outage.start))
    server.refuse_sockets = HTTPStatus.SERVICE_UNAVAILABLE
    await server.drop_sockets()
    await clock.sleep_until(session.moment(outage.stop))
    server.refuse_sockets = 0


def installed_offers() -> Iterator[LoadedPlugin | PluginFailure]:
    """The installed plugins of these kinds, imported, or why they cannot be."""
    loader = PluginLoader()
    for entry in sorted(plugin.entry for plugin in discovery.installed_plugins() if plugin.entry.kind in KINDS):
        yield loader.load(entry)


@contextmanager
def served_venues(
    offers: Iterable[LoadedPlugin | PluginFailure],
    runner: asyncio.Runner,
    clock: Clock,
    report: Callable[[str], None],
) -> Iterator[Mapping[str, OpenVenue]]:
    """Open the venues in the loop of this runner; yields them by KIND.NAME.

    A plugin without a venue that takes a runner and a clock has none. `report` is called with a sentence for each
    plugin that cannot be imported, or whose venue cannot be opened.
    """
    found: dict[str, OpenVenue] = {}
    with ExitStack() as stack:
        for loaded in offers:
            if isinstance(loaded, PluginFailure):
                report(f"Not served: {loaded.sentence}")
                continue
            entry, opened = loaded.entry, loaded.plugin.venue
            if opened is None or not inspect.signature(opened).parameters:
                continue
            try:
                venue = stack.enter_context(opened(runner, clock))
            except BaseException as fault:  # noqa: BLE001  -- the border of a plugin
                assert_failure(fault)
                report(f"Not served: the venue of the {entry.kind} {entry.name} ({type(fault).__name__}: {fault})")
                continue
            if isinstance(venue, ServedVenue):
                ports = _ports(loaded.plugin.needs.hosts.values(), venue.server)
                found[f"{entry.kind}.{entry.name}"] = OpenVenue(venue=venue, ports=ports)
        yield found


class Arrivals:
    """What has newly arrived at venues."""

    def __init__(self, venues: Mapping[str, OpenVenue]) -> None:
        self._venues = {name: one.venue for name, one in venues.items() if isinstance(one.venue, ReceivingVenue)}
        self._shown = dict.fromkeys(self._venues, 0)

    def poll(self) -> list[str]:
        """A line for each message since the last call, with the name of its venue; a venue that fails is left out."""
        found = []
        for name, venue in tuple(self._venues.items()):
            try:
                lines = list(venue.received())
            except BaseException as fault:  # noqa: BLE001  -- the border of a plugin
                assert_failure(fault)
                found.append(f"{name}: no longer shown ({type(fault).__name__}: {fault})")
                del self._venues[name]
                continue
            found += [f"{name}: {line}" for line in lines[self._shown[name] :]]
            self._shown[name] = len(lines)
        return found


async def _with_tasks(work: Coroutine[Any, Any, None], beside: Iterable[Coroutine[Any, Any, None]]) -> None:
    # Await the work, with tasks beside it that end with it.
    tasks = [asyncio.ensure_future(one) for one in beside]
    try:
        await work
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _show(arrivals: Arrivals, tell: Callable[[tuple[str, ...]], None]) -> None:
    # What arrives is shown as it comes.
    while True:
        if lines := arrivals.poll():
            tell(tuple(lines))
        await asyncio.sleep(_POLL_S)


def _ports(hosts: Iterable[Host], server: LoopbackServer) -> tuple[int, int]:
    # For HTTP or mail, and for WebSockets: the same one for a plugin that has none.
    sockets = server.socket_url if any(host.url.startswith("wss") for host in hosts) else server.url
    return urlsplit(server.url).port or 0, urlsplit(sockets).port or 0
