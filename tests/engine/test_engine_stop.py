"""A stop that a death interrupts goes on at the next start as it was asked for: at once, or keeping what is held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import attrs
import pytest

from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.session.config import ProcessSignals
from tbot_core.journal import records
from tbot_core.journal.store import Event, open_journal
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import ExitReason
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import BotConfig, BotProcess, PlannedCrash, ScriptedStrategy
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.rehearsal.world import World
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy

SEED: Final = 4
MINUTES: Final = 30
HELD: Final = 5.2
"""A minute in which the position is held; the minute at hand ends long after what comes next."""

DIES: Final = 5.6


@attrs.define(kw_only=True, eq=False)
class Scene:
    """A calm session in which something is bought at minute 3 and sold at 24, unless something else is asked for.

    `asks` is asked of the first process at HELD, and the process is killed at DIES.
    """

    home: Path
    flattens: bool
    asks: Callable[[Scene], object]
    signals: ProcessSignals = attrs.field(factory=ProcessSignals)
    events: list[Event] = attrs.field(factory=list)
    lived: bool = False
    world: World = attrs.field(
        factory=lambda: World(SEED, (), rates={}, live=False, venues=1, minutes=MINUTES, character=VenueProfile())
    )

    def live(self) -> Scene:
        """Live twice."""
        for path in self.world.market.paths.values():
            path.prices[:] = [1_000_000] * len(path.prices)
            path.depth[:] = [10**15] * len(path.depth)
            path.quiet = frozenset()
        self.world.run(self._lives)
        with closing(open_journal(self.home / "tbot.sqlite")) as journal:
            self.events = list(journal.events())
        return self

    async def _lives(self) -> None:
        clock, opens = self.world.clock, self.world.session.moment(0)
        first = self._life(self.signals)
        process = asyncio.ensure_future(first.live())
        minute = self.world.session.moment(1) - opens
        await clock.sleep_until(opens + HELD * minute)
        self.asks(self)
        await clock.sleep_until(opens + DIES * minute)
        process.cancel()
        await asyncio.gather(process, return_exceptions=True)
        first.close()
        second = self._life(ProcessSignals())
        await second.live()
        second.close()

    def _life(self, signals: ProcessSignals) -> BotProcess:
        world, window = self.world, Window(start=0, analysis=0, breakout=20, monitoring=6)
        exits = ExitRules(leave=window.leave, hold=20)
        entrant = ActiveStrategy(
            name="told",
            rank=0,
            strategy=ScriptedStrategy(window=window, calls=((2, 0, 1),), exits=exits, distance=0.02),
            frame=StrategySettings(),
        )
        habits = BotConfig(
            entrants=(entrant,),
            rules=lambda venue: rules(venue=venue, flatten_before_close=2),
            stream=world.chances.stream("bot"),
            signals=attrs.evolve(signals, flattens=self.flattens),
        )
        return BotProcess(world, world.names, self.home, habits, PlannedCrash(10**9, after=False))

    @property
    def exits(self) -> list[tuple[int, str]]:
        """The minute of each exit that was written down, and why it left."""
        session = self.world.session
        return [(session.minute(one.applied), one.payload["reason"]) for one in self.events
                if one.kind == records.INTENDED and one.payload["leg"] == "exit"]  # fmt: skip

    @property
    def ended(self) -> int:
        """The minute in which the last word was written down."""
        return self.world.session.minute(self.events[-1].applied)


def request(verb: ControlVerb) -> Callable[[Scene], object]:
    """Whoever asks by a command."""
    return lambda scene: control.write_request(scene.home / "control", verb, actor="ann", now=scene.world.clock.now())


def sigterm(scene: Scene) -> None:
    """The signal has come."""
    scene.signals.stop.set()


@pytest.mark.parametrize(
    ("asks", "flattens"),
    [
        (sigterm, True),
        (request(ControlVerb.STOP_FLATTEN), False),
        (request(ControlVerb.KILL_FLATTEN), False),
    ],
    ids=["sigterm", "stop", "kill"],
)
def test_f110_a_process_killed_while_it_flattens_comes_again_and_flattens_on(
    tmp_path: Path, asks: Callable[[Scene], object], flattens: bool
) -> None:
    """Asked to close everything and killed before the exit has left: the next start sends it at once."""
    scene = Scene(home=tmp_path, flattens=flattens, asks=asks).live()
    assert scene.exits == [(5, ExitReason.STOPPED.value)]


@pytest.mark.parametrize(
    ("asks", "flattens"), [(sigterm, False), (request(ControlVerb.STOP_KEEP), True)], ids=["sigterm", "stop"]
)
def test_f110_a_process_killed_while_it_stops_and_keeps_comes_again_and_ends(
    tmp_path: Path, asks: Callable[[Scene], object], flattens: bool
) -> None:
    """Nothing is closed, and nothing is waited for."""
    scene = Scene(home=tmp_path, flattens=flattens, asks=asks).live()
    assert scene.exits == []
    assert scene.ended < 8


def test_f110_a_stop_that_was_taken_back_before_the_death_is_none(tmp_path: Path) -> None:
    """The position is held to its own end, and so is the session."""

    def thinks_again(scene: Scene) -> None:
        request(ControlVerb.STOP)(scene)
        scene.world.loop.call_later(6.0, request(ControlVerb.STOP_CANCEL), scene)

    scene = Scene(home=tmp_path, flattens=False, asks=thinks_again).live()
    ((minute, reason),) = scene.exits
    assert (minute, reason) == (23, ExitReason.TIME.value)
    assert scene.events[-1].kind == records.SESSION_CLOSED
