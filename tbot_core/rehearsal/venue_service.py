"""The venue of a broker plugin at the real pace, for `tbot run --rehearsal` in another process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tbot_core.engine.rehearsal_run import rehearsal_clock
from tbot_core.engine.rehearsal_target import LEAD, RehearsalTarget, rehearsed_session
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.rehearsal.broker_day import trading_venue, venue_summary
from tbot_core.rehearsal.prices import SimulatedMarket
from tbot_core.rehearsal.random_streams import RandomStreams

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tbot_core.contracts import Plugin

SYMBOLS: Final = ("AAPL", "AMD", "F", "INTC", "KO", "MSFT", "NVDA", "PFE", "T", "WMT")


def serve_venue(
    plugin: Plugin,
    seed: int,
    now: datetime,
    announce: Callable[[RehearsalTarget], None],
    ended: Callable[[tuple[str, ...]], None] = lambda _summary: None,
) -> None:
    """Serve the plugin's venue from now to the close of its session, which opens in two minutes.

    Prices come from the seed. `announce` is called once with the target for `tbot run --rehearsal`, `ended` with what
    the venue reports, also where an interrupt ends it. Raises PluginError for a plugin whose venue trades no day.
    """
    calendar, opens = ExchangeCalendar(), (now + LEAD).replace(microsecond=0)
    session, clock = rehearsed_session(calendar, opens), rehearsal_clock(calendar, opens)
    market = SimulatedMarket.drawn(RandomStreams(seed), SYMBOLS, session.minutes)
    with asyncio.Runner() as runner, trading_venue(plugin, runner, clock, market) as venue:
        announce(RehearsalTarget(url=venue.server.url, stream=venue.server.socket_url, opens=opens))
        try:
            runner.run(market.trade_at(venue, session, clock))
        finally:
            ended(venue_summary(venue))
