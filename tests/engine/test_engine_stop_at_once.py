"""A stop waits for no minute: what is to be closed is closed at once, and a process that may end does."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Final

import attrs
import pytest

from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.session.broker_session import BrokerSession
from tbot_core.engine.session.config import ProcessSignals
from tbot_core.engine.session.open_positions import is_protected
from tbot_core.engine.session.requests import CARRIED_OUT
from tbot_core.engine.session.session import TradingSession
from tbot_core.journal import records
from tbot_core.journal.projections.book import fold_events
from tbot_core.rehearsal.lifecycle import LifecycleBroker, SimulatedInstance, simulated_instance

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.journal.store import Event
    from tbot_core.rehearsal.world import World

SOON: Final = dt.timedelta(seconds=3)
"""A household looks once a second; its next minute is fifty away when something is asked."""

PATIENCE_S: Final = 30.0
"""The API_TIMEOUT of a household."""


class Deaf(LifecycleBroker):
    """A client that from a moment on hears cancels as late as `late_s` says."""

    late_s = 0.0

    async def cancel(self, client_order_id: str) -> None:
        """Ask for a cancel."""
        await self._world.clock.sleep(self.late_s)
        await self._client.cancel(client_order_id)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._world = world


@attrs.define(eq=False)
class Day:
    """A household's session in which somebody does something in the minute in which a position is first held, or not.

    What is done later follows so many seconds behind it; `lived` are the ends of the lives.
    """

    scene: SimulatedInstance
    held: bool = True
    begun: dt.datetime | None = None
    run: TradingSession | None = None
    lived: list[dt.datetime] = attrs.field(factory=list)

    def watch(self, run: TradingSession, _minute: int) -> None:
        """A minute has passed."""
        if self.begun is None and bool(run.books.positions) is self.held:
            self.begun, self.run = self.scene.world.clock.now(), run

    def ask(self, verb: ControlVerb) -> None:
        """Somebody asks by a command."""
        control.write_request(self.scene.folder, verb, actor="ann", now=self.scene.world.clock.now())

    def live(self, *acts: tuple[float, Callable[[Day], object]], lives: int = 1) -> dt.datetime:
        """Live, and act so many seconds after that minute; when it was."""
        self.scene.watch = self.watch

        async def act() -> None:
            while self.begun is None:
                await self.scene.world.clock.sleep(0.5)
            for after, one in acts:
                await self.scene.world.clock.sleep(after)
                one(self)

        async def all_lives() -> None:
            person = asyncio.ensure_future(act())
            for _ in range(lives):
                assert await self.scene.life().run()
                self.lived.append(self.scene.world.clock.now())
                await self.scene.world.clock.sleep(5.0)
            await person

        self.scene.world.run(all_lives)
        assert self.begun is not None
        return self.begun + dt.timedelta(seconds=acts[0][0])

    @property
    def positions(self) -> list[str]:
        """What is held at the end."""
        return fold_events(self.scene.journal.events()).portfolio.symbols

    @property
    def covered(self) -> set[str]:
        """What has a stop at the end, as it is told."""
        book = fold_events(self.scene.journal.events())
        return {symbol for symbol in book.portfolio.symbols if is_protected(book, symbol)}

    @property
    def exits(self) -> list[Event]:
        """The exits that were written down."""
        return [one for one in self.scene.events(records.INTENDED) if one.payload["leg"] == "exit"]


def asks(verb: ControlVerb) -> Callable[[Day], object]:
    """Somebody asks by a command."""
    return lambda day: day.ask(verb)


def sigterm(day: Day) -> None:
    """The signal has come."""
    day.scene.signals.stop.set()


@pytest.mark.first(1)
@pytest.mark.parametrize(
    "act", [asks(ControlVerb.STOP_FLATTEN), asks(ControlVerb.KILL_FLATTEN), sigterm], ids=["stop", "kill", "sigterm"]
)
def test_what_is_held_is_closed_at_once(tmp_path: Path, act: Callable[[Day], object]) -> None:
    """`--flatten`, and a signal with STOP_POLICY=flatten, wait for no minute; each position is closed once."""
    with simulated_instance(tmp_path) as scene:
        scene.signals = ProcessSignals(flattens=True)
        day = Day(scene)
        asked = day.live((3.0, act), (600.0, asks(ControlVerb.STOP)))
        first = [one for one in day.exits if one.applied - asked < SOON]
        assert len(first) == len({one.payload["signal"]["symbol"] for one in first}) >= 1


@pytest.mark.first(1)
@pytest.mark.parametrize("act", [asks(ControlVerb.STOP_KEEP), sigterm], ids=["stop", "sigterm"])
def test_a_stop_that_keeps_ends_at_once(tmp_path: Path, act: Callable[[Day], object]) -> None:
    """What is held has its stops, so that nothing is waited for."""
    with simulated_instance(tmp_path) as scene:
        day = Day(scene)
        asked = day.live((3.0, act))
        assert day.positions
        assert day.covered.issuperset(day.positions)
        assert not day.exits
        assert day.lived[0] - asked < SOON


def test_a_stop_ends_at_once_where_nothing_is_held(tmp_path: Path) -> None:
    """No minute is waited for in which nothing could happen."""
    with simulated_instance(tmp_path) as scene:
        day = Day(scene, held=False)
        asked = day.live((3.0, asks(ControlVerb.STOP)))
        assert day.lived[0] - asked < SOON


@pytest.mark.first(1)
@pytest.mark.parametrize("verb", [ControlVerb.STOP, ControlVerb.STOP_FLATTEN])
def test_a_stop_goes_on_at_the_next_start_where_a_signal_ended_the_process(tmp_path: Path, verb: ControlVerb) -> None:
    """SIGTERM with STOP_POLICY=keep ends the process at once and is carried out; what somebody asked for is not."""
    with simulated_instance(tmp_path) as scene:
        day = Day(scene)
        day.live((3.0, asks(verb)), (0.0, sigterm), lives=2)
        told = [one for one in scene.events(records.STATE) if one.payload["words"] == CARRIED_OUT]
        signal, command = (one for one in told if one.payload["cause"] in {"STOP_SIGNAL", "STOP_COMMAND"})
        assert (signal.payload["cause"], command.payload["cause"]) == ("STOP_SIGNAL", "STOP_COMMAND")
        assert signal.applied <= day.lived[0] < command.applied
        assert day.positions == []
        entries = [one for one in scene.events(records.INTENDED) if one.payload["leg"] == "entry"]
        assert not [one for one in entries if one.applied > day.lived[0]]


def test_a_stop_that_keeps_waits_for_an_exit_that_is_on_its_way(tmp_path: Path) -> None:
    """A position whose stop was taken away for its exit is not left with neither: its exit is filled first."""
    with simulated_instance(tmp_path) as scene:
        scene.broker = deaf = Deaf(scene.world)
        deaf.late_s = 10.0
        day = Day(scene)
        asked = day.live((3.0, asks(ControlVerb.STOP_FLATTEN)), (2.0, sigterm))
        assert day.positions == []
        assert dt.timedelta(seconds=8.0) < day.lived[0] - asked < dt.timedelta(seconds=PATIENCE_S)


def test_a_stop_that_keeps_waits_no_longer_than_a_broker_may_take(tmp_path: Path) -> None:
    """Where no answer comes the process ends all the same; a stop that is being taken away is told as none."""
    with simulated_instance(tmp_path) as scene:
        scene.broker = deaf = Deaf(scene.world)
        deaf.late_s = 3_600.0
        day = Day(scene)
        asked = day.live((3.0, asks(ControlVerb.STOP_FLATTEN)), (2.0, sigterm))
        assert day.positions
        assert day.covered.isdisjoint(day.positions)
        assert PATIENCE_S < (day.lived[0] - asked).total_seconds() < 3 * PATIENCE_S


def _due(day: Day) -> None:
    # The time of what is held is over with the next minute.
    assert day.run is not None
    for held in day.run.decision_engine.position_manager.held.values():
        held.plan.time_exit_minute = 1


@pytest.mark.first(1)
@pytest.mark.parametrize(
    "verbs", [(ControlVerb.STOP_KEEP,), (ControlVerb.KILL_FLATTEN, ControlVerb.STOP_KEEP)], ids=["time", "kill"]
)
def test_a_stop_that_keeps_begins_nothing_while_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verbs: tuple[ControlVerb, ...]
) -> None:
    """Something else is on its way while a minute closes: no exit begins, by its time or for whoever asks to close."""
    monkeypatch.setattr(BrokerSession, "is_settled", property(lambda _post: False))
    with simulated_instance(tmp_path) as scene:
        day = Day(scene)
        asked = day.live((35.0, _due), *((0.0, asks(verb)) for verb in verbs))
        assert day.lived[0] - asked > dt.timedelta(seconds=PATIENCE_S)
        assert day.positions
        assert day.covered.issuperset(day.positions)
        assert not day.exits
        assert not [one for one in scene.events(records.INTENDED) if one.applied > asked]
