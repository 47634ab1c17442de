"""Disks that are full, read-only or broken under a session: what is entered, what is still written, and how it ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from tbot_core.engine.disk_guard import DiskGuard, DiskReserve
from tbot_core.errors import JournalError
from tbot_core.journal import records
from tbot_core.journal.store import NO_ROOM_BYTES, open_journal
from tbot_core.rehearsal.lifecycle import SimulatedInstance, simulated_instance
from tbot_core.rehearsal.world import World
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession

SEED = 7
AT = 11
"""A minute after which a position is held, three more entries are signalled, and the first exits are due."""


@pytest.fixture
def small(mounted: Callable[[str], Path]) -> Path:
    """A file system of four megabytes."""
    return mounted("4m")


@attrs.define(eq=False)
class Broken:
    """A connection to SQLite whose disk may fail: `code` is what each statement that writes is answered with."""

    connection: sqlite3.Connection
    code: int = sqlite3.SQLITE_OK
    at: str = "INSERT"
    until: Callable[[], bool] = lambda: False
    asked: list[str] = attrs.field(factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """Run a statement."""
        self._fail(statement)
        return self.connection.execute(statement, *values)

    def executemany(self, statement: str, rows: Any) -> sqlite3.Cursor:
        """Run a statement for several rows."""
        self._fail(statement)
        return self.connection.executemany(statement, rows)

    def _fail(self, statement: str) -> None:
        if self.code and statement.startswith(self.at) and not self.until():
            self.asked.append(statement)
            fault = sqlite3.OperationalError("the disk fails")
            fault.sqlite_errorcode = self.code
            raise fault


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[tuple[SimulatedInstance, Broken]]:
    """A household whose disk may fail."""
    made: list[Broken] = []

    def connect(address: str) -> sqlite3.Connection:
        made.append(Broken(sqlite3.connect(address, isolation_level=None)))
        return cast("sqlite3.Connection", made[-1])

    world = World(SEED, (), rates={})
    with simulated_instance(tmp_path, world) as home:
        home.journal.close()
        home.journal = open_journal(tmp_path / "again.sqlite", connect)
        yield home, made[-1]


def at_minute(home: SimulatedInstance, act: Callable[[], object], minute: int = AT) -> None:
    """Let something happen when a minute of the session has been traded."""

    def watch(_run: TradingSession, index: int) -> None:
        if index == minute:
            act()

    home.watch = watch


def sent_after(home: SimulatedInstance, minute: int = AT) -> list[str]:
    """The legs of the orders that were sent after that minute."""
    legs = {event.cid: event.payload["leg"] for event in home.events(records.INTENDED)}
    session = home.world.session
    return [legs[one.cid] for one in home.events(records.SENDING) if session.minute(one.applied) > minute + 1]


def judged_full(home: SimulatedInstance) -> None:
    """What must be so of a session whose disk became full."""
    (began,) = (event for event in home.events(records.STATE) if event.payload["cause"] == StateCause.DISK_LOW.name)
    assert began.payload == {
        "cause": "DISK_LOW", "there": True, "state": "exit-only", "words": "the disk had no space for the journal",
    }  # fmt: skip
    assert sorted({*sent_after(home)}) == ["exit"]
    late = [event for event in home.events(records.CANCEL_REQUESTED) if event.seq > began.seq]
    assert late
    (closed,) = home.events(records.SESSION_CLOSED)
    assert closed.payload["open"] == []
    home.journal.verify()


def test_f77_a_real_disk_that_is_full_lets_no_entry_leave_and_every_exit(small: Path) -> None:
    """F77: what is held back is freed, exits and their cancels are written into it, and it ends as it should."""
    world = World(SEED, (), rates={})
    with simulated_instance(small, world) as home:
        free = [10 * NO_ROOM_BYTES]
        home.room = DiskGuard(lambda: free[0], DiskReserve(path=small / "ballast", size=1_500_000))

        def fill() -> None:
            free[0] = NO_ROOM_BYTES  # by its own words; the journal finds out
            with (small / "filler").open("wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(4096)):
                    pass

        at_minute(home, fill)
        world.run(home.life().run)
        assert not (small / "ballast").exists()
        judged_full(home)


def test_f77_a_journal_without_room_is_given_what_was_held_back(broken: tuple[SimulatedInstance, Broken]) -> None:
    """F77: the same with a disk that says that it is full, where none can be mounted."""
    home, disk = broken
    free, ballast = [10 * NO_ROOM_BYTES], DiskReserve(path=home.home / "ballast", size=4096)
    home.room = DiskGuard(lambda: free[0], ballast)

    def fill() -> None:
        free[0] = NO_ROOM_BYTES
        disk.code, disk.until = sqlite3.SQLITE_FULL, lambda: not ballast.path.exists()

    at_minute(home, fill)
    home.world.run(home.life().run)
    judged_full(home)


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("code", "at"),
    [
        pytest.param(sqlite3.SQLITE_IOERR_FSYNC, "COMMIT", id="f79-sync"),
        pytest.param(sqlite3.SQLITE_IOERR_WRITE, "INSERT", id="f79-write"),
        pytest.param(sqlite3.SQLITE_READONLY, "BEGIN", id="f80"),
        pytest.param(sqlite3.SQLITE_FULL, "INSERT", id="f77-nothing-held"),
    ],
)
def test_f79_f80_a_journal_that_the_disk_refuses_ends_the_session_at_once(
    code: int, at: str, broken: tuple[SimulatedInstance, Broken]
) -> None:
    """F79, F80: nothing is tried again, nothing leaves, the error says what stands; the next life trades to the end."""
    home, disk = broken

    def fail() -> None:
        disk.code, disk.at = code, at

    at_minute(home, fail)
    ends: list[JournalError] = []

    async def lives() -> None:
        try:
            await home.life().run()
        except JournalError as fault:
            ends.append(fault)
        asked = list(disk.asked)
        assert len(asked) == 1
        disk.code = sqlite3.SQLITE_OK
        assert sent_after(home) == []
        home.watch = lambda _run, _minute: None
        await home.life().run()

    home.world.run(lives)
    (fault,) = ends
    assert "could not be written: the disk fails" in fault.message
    assert "the run resumes from the journal" in fault.remedy
    (closed,) = home.events(records.SESSION_CLOSED)
    assert closed.payload["open"] == []
    home.journal.verify()
