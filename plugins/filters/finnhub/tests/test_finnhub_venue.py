"""The server of the tests: companies that a rehearsal invents, and how busy it was."""

from __future__ import annotations

import datetime as dt

from tbot_filter_finnhub import parse
from tbot_filter_finnhub.venue import FundamentalsServer, drawn_company

from tbot_core.model.clock import ManualClock


def test_a_company_is_drawn_from_its_symbol() -> None:
    """The same each time; of many some are dear and some are large."""
    names = [f"SYM{number}" for number in range(60)]
    drawn = [drawn_company(name) for name in names]
    assert drawn == [drawn_company(name) for name in names]
    assert {one[parse.PE_KEYS[0]] for one in drawn} == {80.0, 21.5}
    assert {one[parse.CAP_KEY] for one in drawn} == {45_000.0, 4_500.0}


def test_the_busiest_minute_is_that_of_any_sixty_seconds() -> None:
    """Not that of a minute of the clock."""
    clock = ManualClock(dt.datetime(2026, 3, 2, 14, tzinfo=dt.UTC))
    server = FundamentalsServer(clock, times=[0.0, 50.0, 55.0, 70.0, 100.0, 200.0])
    assert server.busiest_minute == 4
    assert FundamentalsServer(clock).busiest_minute == 0
