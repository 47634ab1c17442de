"""The market that `tbot rehearse --serve` trades: the demo's companies."""

from __future__ import annotations

import datetime as dt

import numpy as np
from tbot_broker_paper.broker import DEMO_FIRST_DAY
from tbot_broker_paper.market import SimulatedMarket

from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.rehearsal.demo_market import FUND, demo_bars, demo_market

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


def test_bars_of_sessions_are_those_that_the_demo_trades() -> None:
    """Of each company and session, at the same prices and volumes; minutes without a trade have none."""
    calendar = ExchangeCalendar()
    sessions = calendar.sessions(DEMO_FIRST_DAY, DEMO_FIRST_DAY + dt.timedelta(days=4))[:2]
    found = demo_bars(3, sessions)
    for session in sessions:
        fields = SimulatedMarket(3, calendar).bars(session)
        closes = [(bar.symbol, bar.close, bar.volume) for bar in found if session.open <= bar.start < session.close]
        traded = ~np.isnan(fields["close"].T)
        ours = zip(fields["close"].T[traded].tolist(), fields["volume"].T[traded].tolist(), strict=True)
        assert [(close, volume) for _, close, volume in closes] == list(ours)
    assert {bar.symbol for bar in found} == {*demo_market(3).symbols} - {FUND}
