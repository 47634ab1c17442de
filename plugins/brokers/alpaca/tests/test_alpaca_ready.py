"""READY at the test venue: how many symbols there are, and why some are left out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tbot_broker_alpaca import tbot_broker

from tbot_core.errors import FeedRefused
from tbot_core.journal import records
from tbot_core.journal.store import read_journal
from tbot_core.rehearsal.broker_rehearsal import BrokerDay, addresses, open_day
from tbot_core.rehearsal.prices import CENT, SimulatedMarket
from tbot_core.rehearsal.world import DAY, short_day

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("loopback")

SETTINGS = {
    "BROKER_NAME": "ALPACA",
    "EXTENSIONS": "none",
    "CRITICAL_ALERT_CHANNEL": "console",
    "ROUTINE_ALERT_CHANNEL": "console",
    "FILTERS": "price_volume",
    "MIN_VOLUME_THRESHOLD": "100000",
    "STRATEGY_SEQUENCE": "open",
    "OPEN_ANALYSIS_TIME": "1",
    "OPEN_BREAKOUT_TIME": "1",
    "OPEN_MONITORING_TIME": "1",
}


@pytest.mark.full
def test_ready_counts_who_is_left_out_and_why(tmp_path: Path) -> None:
    """Of 60 symbols 30 are subscribed: the others are not tradable, too quiet, or over the feed's limit; limits too."""
    plugin, (calendar, session) = tbot_broker(), short_day(10)
    names = tuple(f"{first}{second}" for first in "ABCDEF" for second in "KLMNOPQRST")
    market = SimulatedMarket.flat(20 * 100 * CENT, names, session.minutes)
    with open_day(plugin, tmp_path, market, calendar, DAY) as (day, run):
        texts = SETTINGS | addresses(plugin, day.venue)
        (tmp_path / ".env_bot").write_text("".join(f"{name}={text}\n" for name, text in texts.items()))
        venue: Any = day.venue
        listings = [venue.venue.market.listings[symbol] for symbol in names]
        for number, one in enumerate(listings):
            one.volume -= number  # no two are alike
            if number < 22:
                one.volume = 1000
            elif number < 25:
                one.tradable = False

        async def to_the_bell(opened: BrokerDay) -> None:
            life = opened.start()
            await opened.until(0.1)
            await opened.crash(life)

        run(to_the_bell)
    journal = read_journal(tmp_path / "data" / "tbot.sqlite")
    try:
        (ready,) = journal.events(kind=records.READY)
    finally:
        journal.close()
    assert ready.payload["feed_quality"].startswith("single venue, at most 30 symbols, history without delay")
    assert ready.payload["request_limit"] == "at most 200 requests a minute to each host"
    assert ready.payload["universe"] == {
        "listed": 60,
        "left_out": {"VOLUME_LOW": 22, "UNIVERSE_TRUNCATED": 5, "not tradable": 3},
        "subscribed": 30,
        "limit": 30,
        "limited_by": "the feed's limit of subscriptions",
    }


@pytest.mark.slow
def test_a_feed_that_the_plan_does_not_have_ends_the_run_at_its_start(tmp_path: Path) -> None:
    """Before the bell, with exit 4 and the sentence of `tbot broker test`: no retry would help."""
    plugin, (calendar, session) = tbot_broker(), short_day(10)
    market = SimulatedMarket.flat(20 * 100 * CENT, ("AAPL",), session.minutes)
    with open_day(plugin, tmp_path, market, calendar, DAY) as (day, run):
        texts = SETTINGS | addresses(plugin, day.venue) | {"ALPACA_DATA_FEED": "sip"}
        (tmp_path / ".env_bot").write_text("".join(f"{name}={text}\n" for name, text in texts.items()))

        async def started(opened: BrokerDay) -> tuple[float, BaseException | None]:
            begun, life = opened.clock.now(), opened.start()
            await asyncio.wait({life}, timeout=3600)
            return (opened.clock.now() - begun).total_seconds(), life.exception()

        after_s, fault = run(started)
    assert isinstance(fault, FeedRefused)
    assert fault.exit_code == 4
    assert fault.message.startswith("alpaca: ALPACA_DATA_FEED=sip, but the account's plan has no consolidated data")
    assert after_s < 60  # the bell is four minutes further
