"""The venue of a broker plugin at the real pace, for commands in another process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tbot_core.engine.rehearsal_run import rehearsal_clock
from tbot_core.engine.rehearsal_target import RehearsalTarget, rehearsed_session
from tbot_core.rehearsal.broker_day import trading_venue, venue_summary
from tbot_core.rehearsal.demo_market import demo_market

AFTER_CLOSE_S: float = 600.0
"""How long the venue is served after the close of its session, so that a run can end its day."""

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tbot_core.contracts import Plugin


def serve_venue(
    plugin: Plugin,
    seed: int,
    opens: datetime,
    announce: Callable[[RehearsalTarget], None],
    tell: Callable[[tuple[str, ...]], None] = lambda _lines: None,
) -> None:
    """Serve the plugin's venue from now until `AFTER_CLOSE_S` after its session.

    The session opens at this moment of the machine's clock.

    For a moment in the past the session has begun, and the venue has its closed minutes. Prices come from the seed.
    `announce` is called once with the target, `tell` with a sentence at the close, and at the end, also where an
    interrupt brings it, with what the venue reports.
    Raises PluginError for a plugin whose venue trades no day.
    """
    session, clock = rehearsed_session(opens), rehearsal_clock(opens)
    market = demo_market(seed)
    with asyncio.Runner() as runner, trading_venue(plugin, runner, clock, market) as venue:
        announce(RehearsalTarget(url=venue.server.url, stream=venue.server.socket_url, opens=opens))
        try:
            runner.run(market.trade_at(venue, session, clock))
            rest = f"The venue answers for another {AFTER_CLOSE_S / 60:g} minutes, so that a run can end its day."
            tell((f"The session has closed. {rest}",))
            runner.run(clock.sleep(AFTER_CLOSE_S))
        finally:
            tell(venue_summary(venue))
