"""The venues of plugins at the real pace, for commands in another process."""

from __future__ import annotations

import asyncio
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.engine.rehearsal_run import rehearsal_clock
from tbot_core.engine.rehearsal_target import RehearsalTarget, rehearsed_session
from tbot_core.rehearsal.broker_day import trading_venue, venue_summary
from tbot_core.rehearsal.demo_market import demo_market
from tbot_core.rehearsal.served_venues import Arrivals, installed_offers, served_venues

AFTER_CLOSE_S: float = 600.0
"""How long the venue is served after the close of its session, so that a run can end its day."""

_POLL_S: Final = 1.0

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from tbot_core.contracts import Plugin
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock
    from tbot_core.testing.scripted_server import ScriptedServer


@attrs.frozen(kw_only=True)
class ServedDay:
    """What is served: prices from a seed, and a session that opens at this moment of the machine's clock.

    In the minutes of `outage`, counted from the open, no WebSocket can be opened.
    """

    opens: datetime
    seed: int = 0
    outage: range = range(0)


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


async def _with_tasks(work: Coroutine[Any, Any, None], beside: Iterable[Coroutine[Any, Any, None]]) -> None:
    # Await the work, with tasks beside it that end with it.
    tasks = [asyncio.ensure_future(one) for one in beside]
    try:
        await work
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _show(arrivals: Arrivals, tell: Callable[[tuple[str, ...]], None]) -> None:
    # What arrives is shown as it comes.
    while True:
        if lines := arrivals.poll():
            tell(tuple(lines))
        await asyncio.sleep(_POLL_S)


async def lose_streams(server: ScriptedServer, session: Session, clock: Clock, outage: range) -> None:
    """Close the WebSockets of a server, and refuse new ones, in these minutes of a session."""
    if not outage:
        return
    await clock.sleep_until(session.moment(outage.start))
    server.refuse_sockets = HTTPStatus.SERVICE_UNAVAILABLE
    await server.drop_sockets()
    await clock.sleep_until(session.moment(outage.stop))
    server.refuse_sockets = 0
