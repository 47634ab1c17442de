"""Bots in processes of their own, which say at which moment they are, and wait there until they may go on, or die.

Reads one life a line from standard input, forks a process for it, and writes how that ended, as `wait` has it. Each
process connects twice to the path that is its argument: to its venue, and to the process that decides over it.
"""

from __future__ import annotations

import os
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import apsw

from tbot_core.engine import control
from tbot_core.journal import records
from tbot_core.journal.store import Connect, Event, NewEvent, open_journal
from tbot_core.model.types import ExitReason, Leg
from tbot_core.rehearsal.bot import BotEnvironment, BotProcess
from tbot_core.rehearsal.failover_drill import OutageScenario
from tbot_core.rehearsal.remote_broker import RemoteBroker, dump_line, load_line
from tbot_core.rehearsal.scenarios import Scenario
from tbot_core.system import sockets

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tbot_core.contracts import Broker

TIMEOUT_S: Final = 60.0
PAGES: Final = 12
"""Pages in the log before SQLite moves them into the file; so few that a short session sees checkpoints."""
_ROUNDS: Final = frozenset({ExitReason.STOPPED.value, ExitReason.SESSION_END.value})


class Herald:
    """Says where the process is, and waits there."""

    def __init__(self, line: sockets.SocketConnection, watched: Collection[str]) -> None:
        self._line = line
        self._watched = watched

    def announce(self, point: str, *words: object) -> None:
        """Wait at a point until it may be passed; a point that is not watched does not block."""
        if point.startswith("CP") and point not in self._watched:
            return
        self._line.send(dump_line((point, words)))
        if self._line.receive() is None:
            os._exit(1)


class Disk(apsw.VFS):
    """The system's files; what is about to be written there is announced."""

    def __init__(self, herald: Herald) -> None:
        self.name = "announcing"
        super().__init__(self.name, "")
        self.herald = herald
        self.within = ["CP22"]

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  -- SQLite's name
        """Open a file."""
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return File(self, Path(path).suffix == ".sqlite", name, flags)

    def touch(self, *, log: bool) -> None:
        """Something is about to be written, to the log or to the file itself."""
        for point in self.within if log or "CP22" in self.within else ["CP20"]:
            self.herald.announce(point)


class File(apsw.VFSFile):
    """One open file."""

    def __init__(self, disk: Disk, main: bool, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._log = not main
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  -- SQLite's name
        """Write; half of a page is there before the other."""
        self._disk.touch(log=self._log)
        super().xWrite(data[: len(data) // 2], offset)
        self._disk.touch(log=self._log)
        super().xWrite(data[len(data) // 2 :], offset + len(data) // 2)

    def xSync(self, flags: int) -> None:  # noqa: N802  -- SQLite's name
        """Wait for the disk."""
        self._disk.touch(log=self._log)
        super().xSync(flags)


class Adapter:
    """What the journal asks of a connection, answered by the SQLite of `apsw` on an announcing disk."""

    def __init__(self, disk: Disk, address: str) -> None:
        self._connection = apsw.Connection(address, vfs=disk.name)
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {PAGES}")
        self.execute, self.executemany, self.close = (
            self._connection.execute,
            self._connection.executemany,
            self._connection.close,
        )

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    def executescript(self, text: str) -> None:
        """Run several statements."""
        list(self._connection.execute(text))


class AnnouncingJournal:
    """A journal that says what it is about to write, what it is writing, and what it has written."""

    def __init__(self, path: Path, herald: Herald) -> None:
        self._disk = Disk(herald)
        self._journal = open_journal(path, cast("Connect", partial(Adapter, self._disk)))
        self._disk.within = []
        self._herald = herald
        self.again = self._journal.head[0] > 0
        self.acknowledged: list[tuple[int, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def append(self, entries: Sequence[NewEvent]) -> None:
        """Append."""
        kinds = {entry.kind for entry in entries}
        for point in self._before(entries, kinds):
            self._herald.announce(point)
        points = {records.INTENDED: "CP2", records.SENDING: "CP4", "fill": "CP11"}
        self._disk.within = [point for kind, point in points.items() if kind in kinds]
        self._journal.append(entries)
        self._disk.within = []
        self._herald.announce("written", self._journal.head)
        after = {records.SENDING: "CP5", "acknowledged": "CP9", "fill": "CP12", records.LEASE: "CP18"}
        for kind, point in after.items():
            if kind in kinds:
                self._herald.announce(point)

    def _before(self, entries: Sequence[NewEvent], kinds: set[str]) -> list[str]:
        points = {records.INTENDED: "CP1", records.SENDING: "CP3", "fill": "CP10", "acknowledged": "CP8"}
        points |= {records.RISK: "CP19", records.SESSION_CLOSED: "CP28"}
        found = [point for kind, point in points.items() if kind in kinds]
        found += ["CP27"] if self.again else []
        for entry in entries:
            match entry.kind, entry.payload:
                case records.STATE, {"cause": "UNRECONCILED", "there": False}:
                    self.again = False
                case records.INTENDED, {"leg": Leg.STOP.value, "signal": signal} if len(entries) == 1:
                    found.append("CP14" if any(self._stops(signal)) else "CP15")
                case records.INTENDED, {"leg": Leg.EXIT.value, "reason": reason} if reason in _ROUNDS:
                    found.append("CP17")
        return found

    def _stops(self, signal: object) -> list[Event]:
        return [
            event
            for event in self._journal.events(kind=records.INTENDED)
            if event.payload["leg"] == Leg.STOP.value and event.payload["signal"] == signal
        ]


class AnnouncingLine:
    """A connection to a venue that says what is on its way, and what has come."""

    def __init__(self, line: sockets.SocketConnection, herald: Herald, home: Path) -> None:
        self._line = line
        self._herald = herald
        self._home = home
        self._sent: set[int] = set()
        self.journal: AnnouncingJournal

    def send(self, data: bytes) -> None:
        """Send a message."""
        _, number, what, _ = load_line(data)
        half = len(data) // 2
        self._line.send(data[:half])
        if what == "submit":
            self._sent.add(number)
            self._herald.announce("CP6")
        self._line.send(data[half:])
        match what:
            case "submit":
                self._herald.announce("CP7")
            case "cancel":
                self._herald.announce("CP16" if control.kill_file_exists(self._home / "control") else "CP13")
            case "replace":
                self._herald.announce("CP14")
            case "snapshot" if self.journal.again:
                self._herald.announce("CP27")

    def receive(self) -> bytes | None:
        """The next message."""
        line = self._line.receive()
        if line is not None and self._sent:
            answers, _ = load_line(line)
            for number in {number for number, _ in answers} & self._sent:
                self._sent.remove(number)
                self._herald.announce("CP8")
        return line


class Crossing:
    """How a process comes by its journal and its accounts, in the order of `names`: each announces."""

    def __init__(self, path: Path, home: Path, watched: Collection[str], names: Sequence[str]) -> None:
        self._venues = {name: sockets.connect(path, TIMEOUT_S) for name in names}
        self.herald = Herald(sockets.connect(path, TIMEOUT_S), watched)
        self._home = home
        self._journal: AnnouncingJournal

    def journal(self, path: Path) -> AnnouncingJournal:
        """The journal at a path."""
        self._journal = AnnouncingJournal(path, self.herald)
        return self._journal

    def broker(self, world: BotEnvironment, name: str) -> Broker:
        """A client of the venue."""
        line = AnnouncingLine(self._venues[name], self.herald, self._home)
        line.journal = self._journal
        return RemoteBroker(line, world.clock)


SCENES: Final = {made.__name__: made for made in (Scenario, OutageScenario)}


def live(path: Path, home: Path, at: float, watched: Collection[str], scene: tuple[str, dict[str, Any]]) -> None:
    """One life, from that second of the world on to the session's end."""
    made = SCENES[scene[0]](**scene[1])
    world = made.world()
    world.loop.pass_time(at)
    bot = made.bot(world)
    names = world.names if bot.failover else world.names[:1]
    ways = Crossing(path, home, watched, names)
    ways.herald.announce("born", os.getpid())
    life = BotProcess(world, names, home, bot, ways)
    ways.herald.announce("opened", life.journal.head)
    world.run(life.live)
    session = life.session
    assert session is not None
    for supervisor in session.supervisors:
        post = supervisor.broker_session
        left = (
            post.decision_engine.portfolio.holdings,
            dict(supervisor.reconciler.external),
            post.decision_engine.book.records(),
        )
        ways.herald.announce("ended", post.journal_tag, *left)
    life.close()


def main(path: Path) -> None:
    """One process for each life that is asked for."""
    for line in sys.stdin.buffer:
        home, at, watched, scene = load_line(line)
        process = os.fork()
        if not process:
            code = 1
            try:
                live(path, Path(home), at, watched, scene)
                code = 0
            except BaseException:  # noqa: BLE001  -- a process that was forked ends here
                traceback.print_exc()
            finally:
                os._exit(code)
        sys.stdout.write(f"{os.waitpid(process, 0)[1]}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
