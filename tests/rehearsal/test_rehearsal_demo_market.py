"""The market that `tbot rehearse --serve` trades: the demo's companies."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from tbot_broker_paper.broker import DEMO_FIRST_DAY
from tbot_broker_paper.market import SimulatedMarket

from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import ManualClock
from tbot_core.rehearsal.demo_market import FUND, demo_market
from tbot_core.rehearsal.prices import SimulatedMarket as Drawn

if TYPE_CHECKING:
    from tbot_core.contracts import Bar

FIELDS = ("open", "high", "low", "close")


def test_a_company_trades_at_the_venue_as_in_the_demo() -> None:
    """Each minute of its path has the open, high, low and close of the demo's bar, to the cent; the fund is beside."""
    calendar, served = ExchangeCalendar(), demo_market(3)
    session = calendar.session(DEMO_FIRST_DAY)
    assert session is not None
    bars = SimulatedMarket(3, calendar).bars(session)
    rows = [row for row, symbol in enumerate(served.symbols) if symbol != FUND]
    assert len(rows) == len(served.symbols) - 1
    for minute in range(session.minutes):
        ours = served.minute(minute)
        for name in FIELDS:
            np.testing.assert_allclose(getattr(ours, name)[rows], bars[name][minute], atol=0.0051)


@attrs.define
class QuietVenue:
    """A venue that keeps how many minutes came at once."""

    published: list[int] = attrs.field(factory=list)

    def trade(self, _symbol: str, _price: object) -> None:
        """Nothing fills."""

    async def publish(self, bars: list[Bar]) -> None:
        """Count them."""
        self.published.append(len({bar.start for bar in bars}))


def test_the_bars_of_silent_minutes_follow_at_once() -> None:
    """With the first minute after them; none is lost."""
    calendar = ExchangeCalendar()
    session = calendar.session(DEMO_FIRST_DAY)
    assert session is not None
    short = attrs.evolve(session, close=session.open + dt.timedelta(minutes=6))
    market, venue = Drawn.flat(200_000, ("AAA",), 6), QuietVenue()
    market.silent = range(1, 4)
    moved: Any = venue
    asyncio.run(market.trade_at(moved, short, ManualClock(short.close)))
    assert venue.published == [1, 4, 1]
