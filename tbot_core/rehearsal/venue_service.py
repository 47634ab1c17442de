"""The venues of plugins at the real pace, for commands in another process."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from tbot_core.engine.rehearsal_run import rehearsal_clock
from tbot_core.engine.rehearsal_target import RehearsalTarget, rehearsed_session
from tbot_core.rehearsal.broker_day import trading_venue, venue_summary
from tbot_core.rehearsal.served_venues import Arrivals, installed_offers, served_venues

AFTER_CLOSE_S: float = 600.0
"""How long the venue is served after the close of its session, so that a run can end its day."""

_POLL_S: Final = 1.0

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tbot_core.contracts import Plugin
    from tbot_core.rehearsal.prices import SimulatedMarket


def serve_venue(
    plugin: Plugin,
    market: SimulatedMarket,
    opens: datetime,
    announce: Callable[[RehearsalTarget], None],
    tell: Callable[[tuple[str, ...]], None] = lambda _lines: None,
) -> None:
    """Serve the broker's venue from now until `AFTER_CLOSE_S` after its session, and those of the other plugins.

    The session opens at this moment of the machine's clock. For a moment in the past the session has begun, and the
    venue has its closed minutes.

    `announce` is called once with the target, `tell` with a line for each message that arrives at a channel, at the
    close, and at the end, also where an interrupt brings it, with what the venue reports.
    Raises PluginError for a plugin whose venue trades no day.
    """
    session, clock = rehearsed_session(opens), rehearsal_clock(opens)
    with (
        asyncio.Runner() as runner,
        trading_venue(plugin, runner, clock, market) as venue,
        served_venues(installed_offers(), runner, clock, lambda words: tell((words,))) as others,
    ):
        url, stream = venue.server.url, venue.server.socket_url
        ports = {name: one.ports for name, one in others.items()}
        announce(RehearsalTarget(url=url, stream=stream, opens=opens, ports=ports))
        arrivals = Arrivals(others)

        async def day() -> None:
            showing = asyncio.create_task(_show(arrivals, tell))
            try:
                await market.trade_at(venue, session, clock)
                rest = f"The venue answers for another {AFTER_CLOSE_S / 60:g} minutes, so that a run can end its day."
                tell((f"The session has closed. {rest}",))
                await clock.sleep(AFTER_CLOSE_S)
            finally:
                showing.cancel()
                with suppress(asyncio.CancelledError):
                    await showing

        try:
            runner.run(day())
        finally:
            tell((*arrivals.poll(), *venue_summary(venue)))


async def _show(arrivals: Arrivals, tell: Callable[[tuple[str, ...]], None]) -> None:
    # What arrives is shown as it comes.
    while True:
        if lines := arrivals.poll():
            tell(tuple(lines))
        await asyncio.sleep(_POLL_S)
