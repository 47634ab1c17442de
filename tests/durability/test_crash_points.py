"""kill -9 at each crash point, in processes that say where they are: the venue goes on, and the bot comes again."""

from __future__ import annotations

import os
import random
import selectors
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

import attrs
import pytest

from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.execution.trading_state import recall_states
from tbot_core.journal import records
from tbot_core.journal.store import APPLICATION_ID, SCHEMA_VERSION, open_journal
from tbot_core.model.types import Leg
from tbot_core.rehearsal.bot import BotProcessResult
from tbot_core.rehearsal.failover_drill import OutageScenario
from tbot_core.rehearsal.history import FinalVenueState, RehearsalHistory
from tbot_core.rehearsal.invariants.all import violations
from tbot_core.rehearsal.remote_broker import VenueServer, dump_line, load_line
from tbot_core.rehearsal.scenarios import Scenario
from tbot_core.rehearsal.world import LEAD_S
from tbot_core.system import sockets
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

DRIVER: Final = Path(__file__).with_name("crash_driver.py")
TIMEOUT_S: Final = 60.0


@attrs.frozen
class Nursery:
    """The process that lets bots live, and where they connect."""

    process: subprocess.Popen[bytes]
    listener: sockets.SocketListener

    def begin(
        self, home: Path, at: float, watched: Collection[str], scene: Scenario | OutageScenario, venues: int
    ) -> list[sockets.SocketConnection]:
        """Begin a life; its ways to its venues, and to the process that decides over it."""
        made = type(scene).__name__, attrs.asdict(scene)
        cast("IO[bytes]", self.process.stdin).write(dump_line((str(home), at, tuple(watched), made)))
        cast("IO[bytes]", self.process.stdin).flush()
        return [self.listener.accept() for _ in range(venues + 1)]

    def ended(self) -> int:
        """How the last life ended."""
        return int(cast("IO[bytes]", self.process.stdout).readline())


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """One for all tests: what takes time is the start of Python."""
    with tempfile.TemporaryDirectory(prefix="tbot") as folder:
        path = Path(folder) / "venue"
        with sockets.listen(path, TIMEOUT_S) as listener:
            command = [sys.executable, "-W", "error", str(DRIVER), str(path)]
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process:
                yield Nursery(process, listener)
                cast("IO[bytes]", process.stdin).close()


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder whose syncs cost nothing, where there is one: kill -9 takes no page of the system's away."""
    quick = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="tbot", dir=quick if quick.is_dir() else None) as folder:
        yield Path(folder)


class Play:
    """A scene with a venue that goes on whatever becomes of the bot, and a story that is judged at the end."""

    def __init__(self, nursery: Nursery, scene: Scenario | OutageScenario, home: Path) -> None:
        self._nursery = nursery
        home.mkdir()
        self.scene = scene
        self._home = home
        self._world = scene.world()
        self.at = LEAD_S - 10.0
        bot, name = scene.bot(self._world), self._world.names[0]
        self._names = self._world.names if bot.failover else (name,)
        rules = bot.rules(self._world.client(name).capabilities)
        self.story = RehearsalHistory(world=self._world, name=name, rules=rules)
        self.passed: list[str] = []
        self.whole = False
        self._killed = self._stopped = False
        self._pid = 0
        self._wrong: list[str] = []

    def live(self, watched: Collection[str] = (), decide: Callable[[str], bool] = lambda _: False) -> bool:
        """Let a bot live until `decide` wants it dead at a point that it is about to pass; whether it was killed."""
        *venues, herald = self._nursery.begin(self._home, self.at, watched, self.scene, len(self._names))
        ways = [self._world.way(name) for name in self._names]
        counters = [VenueServer(way, self._world.loop, self._world.clock) for way in ways]
        self.story.lives.append(BotProcessResult(acknowledged=[], last=0))
        killed = False
        with ExitStack() as open_lines, selectors.DefaultSelector() as selector:
            for line in (*venues, herald):
                open_lines.enter_context(closing(line))
                selector.register(line, selectors.EVENT_READ)
            while not killed and self._gathered(selector):
                for venue, counter in zip(venues, counters, strict=True):
                    while venue.pending:
                        message = cast("bytes", venue.receive())
                        self._overhear(message)
                        venue.send(counter.answer(message))
                if herald.pending:
                    point, words = load_line(cast("bytes", herald.receive()))
                    killed = self._receive(point, words, decide)
                    if not killed:
                        herald.send(b"\n")
        status = self._nursery.ended()
        assert (status == signal.SIGKILL) if killed else not status, (status, self.passed[-3:])
        self.at = self._world.loop.time()
        if killed:
            self.story.deaths.append(self.at + ARRIVES_S)
        else:
            self.story.finished = self.at
        return killed

    def _gathered(self, selector: selectors.BaseSelector) -> bool:
        # Wait for what the bot says; whether it is still there.
        ready = [cast("sockets.SocketConnection", key.fileobj) for key, _ in selector.select(TIMEOUT_S)]
        assert ready, self.passed[-3:]
        there = [line.fill_buffer() for line in ready]
        return all(there)

    def _receive(self, point: str, words: tuple[Any, ...], decide: Callable[[str], bool]) -> bool:
        # What the bot announces; whether it dies of it.
        match point:
            case "born":
                (self._pid,) = words
            case "opened":
                self._begin(*words)
            case "written":
                self.story.lives[-1].acknowledged.append(*words)
            case "ended":
                name, *left = words
                if name:
                    self.story.elsewhere[name] = FinalVenueState(held=left[0], external=left[1], orders=left[2])
                else:
                    self.story.held, self.story.external, self.story.orders = left
                self.whole = True
            case _:
                self.passed.append(point)
                if decide(point):
                    os.kill(self._pid, signal.SIGKILL)
                    return True
        return False

    def _begin(self, head: tuple[int, str]) -> None:
        # A life has found the journal as the one before it left it.
        if before := self.story.lives[:-1]:
            self.story.lives[len(before) - 1] = attrs.evolve(before[-1], last=head[0])

    def ask(self, what: str) -> None:
        """Ask something of the bot that lives: the kill file is touched, all else is a request."""
        folder, now = self._home / "control", self._world.clock.now()
        if what == "kill":
            control.prepare_folder(folder)
            (folder / control.KILL).touch(mode=0o666)
            self._killed = True
        else:
            control.write_request(folder, ControlVerb(what), actor="test", now=now)
            self._stopped = True

    def wait(self, seconds: float) -> None:
        """Let time pass while no bot is there."""
        self.at += seconds

    def _overhear(self, message: bytes) -> None:
        _, _, what, parts = load_line(message)
        if self._killed and what == "submit" and parts[0].leg is Leg.ENTRY:
            self._wrong.append(f"{parts[0].client_order_id} left after the kill")

    def judge(self) -> list[str]:
        """What is wrong with all that happened."""
        journal = open_journal(self._home / "tbot.sqlite")
        with closing(journal):
            journal.verify()
            self.story.events = list(journal.events())
        written: list[Any] = [((one.applied - self._world.start).total_seconds(), one) for one in self.story.events]
        self.story.lives[-1] = attrs.evolve(self.story.lives[-1], last=journal.head[0], written=written)
        wrong = [*self._wrong, *violations(self.story)]
        closed = [event.kind for event in self.story.events].count(records.SESSION_CLOSED)
        if not self.whole or closed != (not self._stopped) or (self._stopped and self.story.held):
            wrong.append(f"the session did not come to its end, and {self.story.held} is held")
        if StateCause.UNRECONCILED in recall_states(self.story.events).causes:
            wrong.append("the last life never was ready")
        return wrong


USUAL: Final = Scenario(seed=0)
OUTAGE: Final = OutageScenario(troubles=((0, "F60", 5.0, 20.0),))
APART: Final = Scenario(seed=0, brackets=False)


@attrs.frozen(kw_only=True)
class Plan:
    """Where a bot dies: in what kind of scene, at which passing at most, and what was asked of it before.

    `asked` is done when the fourth fill has been booked: `kill` touches control/kill, else it is a request.
    """

    most: int = 1
    asked: str = ""
    scene: Scenario | OutageScenario = USUAL


PLANS: Final[Mapping[str, Plan]] = {
    "CP1": Plan(most=8),
    "CP2": Plan(most=150),
    "CP3": Plan(most=8),
    "CP4": Plan(most=100),
    "CP5": Plan(most=8),
    "CP6": Plan(most=10),
    "CP7": Plan(most=10),
    "CP8": Plan(most=16),
    "CP9": Plan(most=7),
    "CP10": Plan(most=10),
    "CP11": Plan(most=150),
    "CP12": Plan(most=10),
    "CP13": Plan(most=3),
    "CP14": Plan(most=4, scene=APART),
    "CP15": Plan(most=4, scene=APART),
    "CP16": Plan(most=2, asked="kill", scene=Scenario(seed=0, thin=True)),
    "CP17": Plan(most=2, asked=ControlVerb.STOP_FLATTEN.value),
    "CP18": Plan(most=4, scene=OUTAGE),
    "CP19": Plan(scene=Scenario(seed=0, falls=True)),
    "CP20": Plan(most=140),
    "CP22": Plan(most=33),
    "CP27": Plan(most=5),
    "CP28": Plan(),
}
WRITES: Final = PLANS["CP22"].most
"""How many writes make a new journal."""

ARRIVES_S: Final = 0.25
"""What a process had sent when it died arrives within this time; no other begins so soon."""

SEEDS: Final = (2, 3, 7, 46, 58, 72, 91)
"""Short days with three symbols or more."""
ASKED_AT: Final = 4


class Doom:
    """Kills at a passing of a point; what is asked of the bot before is done on the way."""

    def __init__(self, play: Play, point: str, passing: int, asked: str = "") -> None:
        self._play = play
        self._point = point
        self._left = passing
        self._asked = asked
        self._fills = 0

    @property
    def watched(self) -> set[str]:
        """The points at which the bot has to wait."""
        return {self._point, "CP12"} if self._asked else {self._point}

    def __call__(self, point: str) -> bool:
        """Whether the process dies here."""
        if point == "CP12":
            self._fills += 1
            if self._fills == ASKED_AT and self._asked:
                self._play.ask(self._asked)
        self._left -= point == self._point and not (self._asked and self._fills < ASKED_AT)
        return not self._left


def killed(nursery: Nursery, home: Path, point: str, dice: random.Random) -> Play:
    """A play whose bot was killed at a drawn passing of the point, once it has come to its end."""
    plan = PLANS[point]
    while True:
        scene: Scenario | OutageScenario = attrs.evolve(plan.scene, seed=dice.choice(SEEDS))
        if isinstance(scene, Scenario):
            scene = attrs.evolve(scene, brackets=scene.brackets and dice.random() < 0.5)
        play = Play(nursery, scene, home / str(dice.random()))
        if point == "CP27":  # in the restart after another death
            assert play.live(["CP12"], Doom(play, "CP12", dice.randint(1, 8)))
        doom = Doom(play, point, dice.randint(1, plan.most), plan.asked)
        if play.live(doom.watched, doom):
            play.wait(dice.uniform(0.5, 90.0))
            assert not play.live()
            return play


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
@pytest.mark.parametrize(
    "kills",
    [pytest.param(1), pytest.param(20, marks=[pytest.mark.full, pytest.mark.timeout(600)])],
    ids=["once", "often"],
)
@pytest.mark.parametrize("point", PLANS)
def test_f75_a_process_killed_at_a_crash_point_comes_again_and_trades_on(
    point: str, kills: int, nursery: Nursery, memory: Path
) -> None:
    """SIGKILL at the point, at a drawn one of its passings: the next process becomes ready, the session comes to its
    end, and every invariant holds of venue, journal and bot.
    """
    dice = random.Random(f"{point} {kills}")
    for _ in range(kills):
        play = killed(nursery, memory, point, dice)
        assert play.judge() == [], (play.scene, play.passed[-1])


@pytest.mark.slow
@pytest.mark.parametrize("passing", [1, WRITES // 2, WRITES - 1])
@pytest.mark.first(0)  # over two seconds
def test_f87_a_schema_whose_making_was_killed_is_there_or_not_and_never_half(
    passing: int, nursery: Nursery, memory: Path
) -> None:
    """SIGKILL at writes of a new journal, the last among them: it has all tables or none, and the next bot trades."""
    seen = set()
    for write in (passing, WRITES):
        play = Play(nursery, Scenario(seed=SEEDS[0]), memory / str(write))
        doom = Doom(play, "CP22", write)
        assert play.live(doom.watched, doom)
        seen.add(schema(memory / str(write) / "tbot.sqlite"))
        play.wait(1.0)
        assert not play.live()
        assert play.judge() == []
    assert seen == {(0, 0, 0), (APPLICATION_ID, SCHEMA_VERSION, 4)}


def schema(path: Path) -> tuple[int, int, int]:
    """Whose file a journal's is, the version that it says, and how many tables and indices it has."""
    with closing(sqlite3.connect(path)) as connection:
        asked = "PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema"
        owner, version, parts = (int(connection.execute(one).fetchone()[0]) for one in asked)
    return owner, version, parts


@pytest.mark.slow
@pytest.mark.first(0)  # each point that is not passed fails a test of its own
def test_f75_a_harness_without_a_kill_sees_every_point_passed(nursery: Nursery, memory: Path) -> None:
    """Each crash point is passed by a bot that lives on: none is killed at a place that is not there."""
    passed = set[str]()
    scenes: tuple[Scenario | OutageScenario, ...] = (
        Scenario(seed=SEEDS[0], falls=True),
        Scenario(seed=SEEDS[0], brackets=False),
        OUTAGE,
    )
    for number, scene in enumerate(scenes):
        play = Play(nursery, scene, memory / str(number))
        assert not play.live([*PLANS])
        assert play.judge() == []
        passed.update(play.passed)
    assert passed >= {*PLANS} - {"CP16", "CP27"}


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_f75_a_journal_that_is_gone_after_a_kill_is_seen(nursery: Nursery, memory: Path) -> None:
    """A bot that comes again without the journal of the one before violates what it is judged by."""
    play = Play(nursery, Scenario(seed=SEEDS[0]), memory / "play")
    doom = Doom(play, "CP12", 3)
    assert play.live(doom.watched, doom)
    for file in (memory / "play").glob("tbot.sqlite*"):
        file.unlink()
    assert not play.live()
    assert {words.partition(":")[0] for words in play.judge()} >= {"I14"}
