"""How often a broker's news are taken in: SLEEP_TIME delays no stop where there is a stream, and holds elsewhere."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tbot_core.contracts import BrokerCapabilities
from tbot_core.contracts.settings import StrategySettings
from tbot_core.journal import records
from tbot_core.journal.store import open_journal
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import Leg
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import BotConfig, BotProcess, PlannedCrash, ScriptedStrategy
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.rehearsal.world import World
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from pathlib import Path

SLEEP_TIME = 20.0


def stops_after(folder: Path, *, streams: bool) -> list[float]:
    """After how many seconds each position's stop left, at a venue that keeps no brackets and SLEEP_TIME=20s."""
    character = VenueProfile(rules=BrokerCapabilities(query_by_cid=True, streams=streams))
    world = World(4, (), rates={}, live=True, venues=1, minutes=20, character=character)
    for path in world.market.paths.values():
        path.prices[:] = [1_000_000] * len(path.prices)
        path.depth[:] = [10**15] * len(path.depth)
        path.quiet = frozenset()
    window = Window(start=0, analysis=0, breakout=12, monitoring=4)
    strategy = ScriptedStrategy(
        window=window, calls=((2, 0, 1), (5, 1, 1)), exits=ExitRules(leave=window.leave, hold=3), distance=0.02
    )
    habits = BotConfig(
        entrants=(ActiveStrategy(name="told", rank=0, strategy=strategy, frame=StrategySettings()),),
        rules=lambda venue: rules(venue=venue, flatten_before_close=2),
        stream=world.chances.stream("bot"),
        poll_s=SLEEP_TIME,
    )

    async def trade() -> None:
        life = BotProcess(world, world.names, folder, habits, PlannedCrash(10**9, after=False))
        await life.live()
        life.close()

    world.run(trade)
    with closing(open_journal(folder / "tbot.sqlite")) as journal:
        events = list(journal.events())
    legs = {one.cid: one.payload["leg"] for one in events if one.kind == records.INTENDED}
    symbols = {one.cid: one.payload["signal"]["symbol"] for one in events if one.kind == records.INTENDED}
    fills = [one for one in events if one.kind == "fill" and legs[one.cid] == Leg.ENTRY.value]
    bought = {symbols[one.cid]: dt.datetime.fromisoformat(one.payload["time"]) for one in fills}
    stops = [one for one in events if one.kind == records.SENDING and legs[one.cid] == Leg.STOP.value]
    return [(one.applied - bought[symbols[one.cid]]).total_seconds() for one in stops]


@pytest.mark.slow
def test_sleep_time_delays_no_stop_at_a_broker_with_a_stream(tmp_path: Path) -> None:
    """Each position has its stop on the way within a second of its fill, however long SLEEP_TIME is."""
    waits = stops_after(tmp_path, streams=True)
    assert len(waits) >= 2
    assert max(waits) < 1.0


@pytest.mark.slow
def test_a_broker_without_a_stream_is_asked_every_sleep_time(tmp_path: Path) -> None:
    """It is asked no more often than that, and what was filled is known as late."""
    waits = stops_after(tmp_path, streams=False)
    assert 1.0 < max(waits) < SLEEP_TIME + 1.0
