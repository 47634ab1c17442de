"""Entries that wait at the broker when none may be sent any more: taken back at once, whoever found that out."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.session.config import ProcessSignals
from tbot_core.journal import records
from tbot_core.journal.store import open_journal
from tbot_core.model.signals import ExitRules
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import BotConfig, BotProcess, PlannedCrash, ScriptedStrategy
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.rehearsal.world import World
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.engine.live.market_session import LiveTradingSession

WAITS: Final = 3.05
"""A minute in which an entry waits at the broker, since there are no sellers."""


def _killed(session: LiveTradingSession, folder: Path) -> None:
    control.write_request(folder, ControlVerb.KILL, actor="ann", now=session.steady_clock.now())


def _stale(session: LiveTradingSession, _folder: Path) -> None:
    session.trading_state.set_cause(StateCause.FEEDS_STALE, "no message for 10 s")


def _unreachable(session: LiveTradingSession, _folder: Path) -> None:
    for _ in range(3):
        session.supervisors[0].record_read_result("no answer")


def _seen_by_a_barrier(session: LiveTradingSession, folder: Path) -> None:
    control.prepare_folder(folder)
    (folder / "kill").touch()
    (record,) = session.run.execution.tickets.values()
    assert session.denial_reason(record.order)


@pytest.mark.parametrize("begins", [_killed, _stale, _unreachable, _seen_by_a_barrier])
def test_an_entry_that_waits_is_taken_back_at_once(
    tmp_path: Path, begins: Callable[[LiveTradingSession, Path], None]
) -> None:
    """A request, a feed without messages, a broker without answers and a barrier that sees the file kill, all alike."""
    world = World(4, (), rates={}, live=False, venues=1, minutes=30, character=VenueProfile())
    for path in world.market.paths.values():
        path.prices[:] = [1_000_000] * len(path.prices)
        path.depth[:] = [0] * len(path.depth)
        path.quiet = frozenset()
    window = Window(start=0, analysis=0, breakout=20, monitoring=6)
    strategy = ScriptedStrategy(
        window=window, calls=((2, 0, 1),), exits=ExitRules(leave=window.leave, hold=20), distance=0.02
    )
    habits = BotConfig(
        entrants=(ActiveStrategy(name="told", rank=0, strategy=strategy, frame=StrategySettings()),),
        rules=lambda venue: rules(venue=venue, flatten_before_close=2),
        stream=world.chances.stream("bot"),
        signals=ProcessSignals(),
    )
    begun: list[dt.datetime] = []

    async def trade() -> None:
        life = BotProcess(world, world.names, tmp_path, habits, PlannedCrash(10**9, after=False))
        process = asyncio.ensure_future(life.live())
        opens = world.session.moment(0)
        await world.clock.sleep_until(opens + WAITS * (world.session.moment(1) - opens))
        assert life.session is not None
        begun.append(world.clock.now())
        begins(life.session, tmp_path / "control")
        await world.clock.sleep(5.0)
        process.cancel()
        await asyncio.gather(process, return_exceptions=True)
        life.close()

    world.run(trade)
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        (asked,) = journal.events(kind=records.CANCEL_REQUESTED)
    assert asked.applied - begun[0] < dt.timedelta(seconds=1)
