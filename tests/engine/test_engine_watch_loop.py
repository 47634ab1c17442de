"""What is asked is read whatever a broker leaves unanswered: a cancel, an order, or the first reading."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.session.config import ProcessSignals
from tbot_core.journal import records
from tbot_core.journal.store import Event, open_journal, read_journal
from tbot_core.model.signals import ExitRules
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import BotConfig, BotEnvironment, BotProcess, PlannedCrash, ScriptedStrategy
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.rehearsal.world import World
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.contracts import Broker

ASKED: Final = 3.1
"""A minute in which two entries wait, at the broker or for a person."""

SILENT_S: Final = 25.0
SOON: Final = dt.timedelta(seconds=1.5)
"""The bots of this world look once a second."""


class Silent(PlannedCrash):
    """A process whose broker answers late what it is asked first of a kind; an order is taken at once all the same."""

    def __init__(self, kind: str) -> None:
        super().__init__(10**9, after=False)
        self.kind = kind
        self.submitted: list[str] = []

    def broker(self, world: BotEnvironment, name: str) -> Broker:
        """A client of that venue."""
        return cast("Broker", SilentBroker(super().broker(world, name), self, world))


class SilentBroker:
    """The client itself."""

    def __init__(self, broker: Broker, doom: Silent, world: BotEnvironment) -> None:
        self._broker, self._doom, self._world = broker, doom, world
        self._silent = True

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._broker, name)
        if name not in {self._doom.kind, "submit"}:
            return found

        async def call(*parts: Any) -> Any:
            silent = self._silent and name == self._doom.kind
            self._silent &= not silent
            if silent and name != "submit":
                await self._world.clock.sleep(SILENT_S)
            answer = await found(*parts)
            if name == "submit":
                self._doom.submitted.append(parts[0].client_order_id)
            if silent and name == "submit":
                await self._world.clock.sleep(SILENT_S)
            return answer

        return call


class Scene:
    """A calm world in which two symbols are called at minute 3, without sellers; a person does `acts` at ASKED."""

    def __init__(self, home: Path, silent: str, *, confirmed: bool = False) -> None:
        self.home, self.doom, self.signals = home, Silent(silent), ProcessSignals()
        self.world = World(4, (), rates={}, live=False, venues=1, minutes=30, character=VenueProfile())
        for path in self.world.market.paths.values():
            path.prices[:] = [1_000_000] * len(path.prices)
            path.depth[:] = [0] * len(path.depth)
            path.quiet = frozenset()
        window = Window(start=0, analysis=0, breakout=20, monitoring=6)
        calls = ((2, 0, 1), (2, 1, 1))
        strategy = ScriptedStrategy(
            window=window, calls=calls, exits=ExitRules(leave=window.leave, hold=20), distance=0.02
        )
        self.habits = BotConfig(
            entrants=(ActiveStrategy(name="told", rank=0, strategy=strategy, frame=StrategySettings()),),
            rules=lambda venue: rules(venue=venue, flatten_before_close=2, trade_confirmation_required=confirmed),
            stream=self.world.chances.stream("bot"),
            signals=self.signals,
        )
        self.asked = self.world.clock.now()

    @property
    def events(self) -> list[Event]:
        """What is written down so far."""
        with closing(read_journal(self.home / "tbot.sqlite")) as journal:
            return list(journal.events())

    def ask(self, verb: ControlVerb, **arguments: str) -> None:
        """Somebody asks by a command."""
        self.asked = self.world.clock.now()
        control.write_request(self.home / "control", verb, actor="ann", now=self.asked, arguments=arguments)

    def touch(self) -> None:
        """Somebody touches control/kill."""
        self.asked = self.world.clock.now()
        control.prepare_folder(self.home / "control")
        (self.home / "control" / "kill").touch()

    def signal(self) -> None:
        """SIGUSR2 has come."""
        self.asked = self.world.clock.now()
        self.signals.kill.set()

    def live(self, minute: float, *acts: Callable[[Scene], object]) -> list[Event]:
        """Do one after the other, two seconds apart; what was written down half a minute later."""

        async def lives() -> None:
            life = BotProcess(self.world, self.world.names, self.home, self.habits, self.doom)
            process = asyncio.ensure_future(life.live())
            opens = self.world.session.moment(0)
            await self.world.clock.sleep_until(opens + minute * (self.world.session.moment(1) - opens))
            for act in acts:
                act(self)
                await self.world.clock.sleep(2.0)
            await self.world.clock.sleep(30.0)
            process.cancel()
            await asyncio.gather(process, return_exceptions=True)
            life.close()

        self.world.run(lives)
        with closing(open_journal(self.home / "tbot.sqlite")) as journal:
            return list(journal.events())


KILLS: Final = [lambda scene: scene.ask(ControlVerb.KILL), Scene.touch, Scene.signal]


@pytest.mark.parametrize("kill", KILLS, ids=["command", "file", "signal"])
def test_a_kill_is_read_while_a_cancel_is_unanswered(tmp_path: Path, kill: Callable[[Scene], object]) -> None:
    """Entries are being taken back because of a stop, and the broker does not say a word: the kill counts at once."""
    scene = Scene(tmp_path, "cancel")
    events = scene.live(ASKED, lambda scene: scene.ask(ControlVerb.STOP), kill)
    kills = [one for one in events if one.kind == records.STATE and one.payload["cause"].startswith("KILL")]
    assert [one.applied - scene.asked < SOON for one in kills] == [True]


def test_a_kill_stops_the_second_of_two_confirmed_entries(tmp_path: Path) -> None:
    """The first one is unanswered when it comes: nothing leaves after it but cancels."""
    scene = Scene(tmp_path, "submit", confirmed=True)

    def confirm(scene: Scene) -> None:
        for event in scene.events:
            if event.kind == records.CONFIRMATION_ASKED:
                scene.ask(ControlVerb.CONFIRM, id=event.payload["id"])

    events = scene.live(ASKED, confirm, lambda scene: scene.ask(ControlVerb.KILL))
    sent = [one.cid for one in events if one.kind == records.SENDING]
    assert (len(sent), scene.doom.submitted) == (2, sent[:1])


def test_a_kill_is_read_while_the_account_is_read_for_the_first_time(tmp_path: Path) -> None:
    """The broker of a start says nothing for a while: what lies in the folder counts all the same."""
    scene = Scene(tmp_path, "snapshot")
    until = scene.world.session.moment(0) - scene.world.clock.now()
    before = 1 - until / (scene.world.session.moment(1) - scene.world.session.moment(0))
    events = scene.live(before - 0.95, lambda scene: scene.ask(ControlVerb.KILL))
    (kill,) = [one for one in events if one.kind == records.STATE and one.payload["cause"] == "KILL_COMMAND"]
    assert kill.applied - scene.asked < SOON
