"""A power cut at each write and sync of a journal: whatever part of the unsynced sectors is left, no append is lost."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import apsw
import attrs
import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.errors import JournalError
from tbot_core.journal import integrity
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tbot_core.journal.store import Connect

SECTOR: Final = 512
PAGES: Final = 40
"""Pages in the log before SQLite moves them into the file; so few that a short session sees many checkpoints."""


@attrs.frozen
class Op:
    """What was asked of the disk: to make, write, cut, sync or remove a file."""

    deed: str
    name: str
    offset: int = 0
    data: bytes = b""


class Recorder(apsw.VFS):
    """The system's files, with a record of all that is asked of them."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.ops: list[Op] = []

    def note(self, op: Op) -> None:
        """Write down what is asked."""
        self.ops.append(op)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  -- SQLite's name
        """Open a file; one that is not there is made."""
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        if not path.exists():
            self.note(Op("make", path.name))
        return File(self, path.name, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802  -- SQLite's name
        """Remove a file; with `sync` it stays removed."""
        self.note(Op("remove", Path(name).name))
        super().xDelete(name, sync)
        if sync:
            self.note(Op("sync", ""))


class Refusing(Recorder):
    """Files of which one write or sync fails, the next one after so many deeds."""

    def __init__(self, name: str, doomed: int, fault: type[apsw.Error]) -> None:
        super().__init__(name)
        self._doomed = doomed
        self._fault: type[apsw.Error] | None = fault

    def note(self, op: Op) -> None:
        """Write down what is asked, or fail."""
        if self._fault and len(self.ops) >= self._doomed and op.deed in {"write", "sync"}:
            fault, self._fault = self._fault, None
            raise fault
        super().note(op)


class File(apsw.VFSFile):
    """One open file of a recorder."""

    def __init__(self, disk: Recorder, short: str, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._name = short
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  -- SQLite's name
        """Write; nothing says when it is on the disk."""
        self._disk.note(Op("write", self._name, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802  -- SQLite's name
        """Cut; nothing says when it is on the disk."""
        self._disk.note(Op("cut", self._name, size))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802  -- SQLite's name
        """Wait for the disk; the tests need not."""
        self._disk.note(Op("sync", self._name, flags))


class Adapter:
    """What the journal asks of a connection, answered by the SQLite of `apsw` on a recorder."""

    def __init__(self, disk: Recorder, synchronous: str, address: str) -> None:
        self._connection = apsw.Connection(address, vfs=disk.name)
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {PAGES}")
        self._synchronous = synchronous

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    def execute(self, text: str, values: Sequence[Any] = ()) -> Any:
        """Run a statement."""
        text = text.replace("synchronous = FULL", f"synchronous = {self._synchronous}")
        return self._said(self._connection.execute, text, values)

    def executemany(self, text: str, rows: Sequence[Sequence[Any]]) -> Any:
        """Run a statement for each row."""
        return self._said(self._connection.executemany, text, rows)

    def executescript(self, text: str) -> None:
        """Run several statements."""
        self._said(lambda: list(self._connection.execute(text)))

    def close(self) -> None:
        """Close the file; SQLite does not report what goes wrong in its last checkpoint."""
        with suppress(apsw.Error):
            self._connection.close()

    def _said(self, ask: Callable[..., Any], *parts: Any) -> Any:
        try:
            return ask(*parts)
        except apsw.Error as error:
            raise sqlite3.OperationalError(str(error)) from error


class Platter:
    """What is on the disk for certain, and what is still on its way there."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._pending: list[Op] = []

    def take(self, op: Op) -> None:
        """A sync puts a file's content down, a log's also the names in its folder; all else may be lost."""
        if op.deed != "sync":
            self._pending.append(op)
            return
        names = {"make", "remove"} if not op.name.endswith(".sqlite") else set()
        done = [one for one in self._pending if one.name == op.name or one.deed in names]
        self.files = _laid(self.files, done, lambda: True)
        self._pending = [one for one in self._pending if one not in done]

    def after(self, keep: Callable[[], bool]) -> dict[str, bytes]:
        """The files after a power cut: of what was on its way, `keep` says of each sector whether it arrived."""
        return _laid(self.files, self._pending, keep)


def _laid(files: dict[str, bytes], ops: Sequence[Op], keep: Callable[[], bool]) -> dict[str, bytes]:
    # The files with those parts of the deeds that are kept; of a file whose name was lost all is lost.
    found, lost = {name: bytearray(data) for name, data in files.items()}, set[str]()
    for op in ops:
        if op.name in lost:
            continue
        match op.deed:
            case "write":
                _write(found[op.name], op, keep)
            case "cut":
                if keep():
                    del found[op.name][op.offset :]
            case "make" | "remove" if not keep():
                lost.add(op.name)
            case "make":
                found[op.name] = bytearray()
            case "remove":
                found.pop(op.name, None)
    return {name: bytes(data) for name, data in found.items()}


def _write(data: bytearray, op: Op, keep: Callable[[], bool]) -> None:
    # Each sector that a write touches arrives whole or not at all; a hole before it reads as zeros.
    start, end = op.offset, op.offset + len(op.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        if keep():
            data.extend(bytes(max(0, start - len(data))))
            data[start:stop] = op.data[start - op.offset : stop - op.offset]
        start = stop


@attrs.frozen
class Played:
    """What a journal asked of the disk, and after how many deeds which head was acknowledged."""

    ops: list[Op]
    heads: list[tuple[int, tuple[int, str]]]


def play(folder: Path, batches: Sequence[Sequence[NewEvent]], synchronous: str = "FULL") -> Played:
    """Append each batch, in three lives of the journal."""
    disk = Recorder(f"recorder-{folder}")
    heads = [(0, (0, "0" * 64))]
    for life in range(3):
        with closing(open_journal(folder / "run.sqlite", _connect(disk, synchronous))) as journal:
            for batch in batches[len(batches) * life // 3 : len(batches) * (life + 1) // 3]:
                journal.append(batch)
                heads.append((len(disk.ops), journal.head))
    return Played(disk.ops, heads)


def losses(played: Played, folder: Path, *, thorough: bool) -> Iterator[str]:
    """Cut the power after each deed, with none, all and some of what was on its way; what is wrong of what is left."""
    platter, known = Platter(), {head for _, head in played.heads}
    for index, op in enumerate(played.ops, 1):
        platter.take(op)
        owed = max(head for when, head in played.heads if when <= index)
        some = partial(random.Random(index).choice, (False, True))
        cuts: list[Callable[[], bool]] = [lambda: False, lambda: True, *[some] * 4]
        for cut in cuts if thorough else cuts[index % 3 : index % 3 + 1]:
            for left in folder.iterdir():
                left.unlink()
            for name, data in platter.after(cut).items():
                (folder / name).write_bytes(data)
            integrity.note_event_count(folder / "run.sqlite", owed[0])
            try:
                with closing(open_journal(folder / "run.sqlite")) as journal:
                    head = journal.verify()
            except JournalError as error:
                yield f"after deed {index}, {op.deed} {op.name}: {error.message}"
                continue
            if head < owed or head not in known:
                yield f"after deed {index}, {op.deed} {op.name}: ends at {head}, {owed} was acknowledged"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> list[Sequence[NewEvent]]:
    """What a simulated session appends, batch by batch."""
    announced: list[Sequence[NewEvent]] = []
    home = tmp_path_factory.mktemp("session")
    create_demo_instance(home)
    assembly = assemble(home, "demo", SystemClock())
    plan = RunPlan(assembly=assembly, request=FeedRequest(kind="demo"), wall=SystemClock())
    asyncio.run(run(plan, RunWatcher(on_events=announced.append)))
    return announced


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder that is quick to write, where there is one."""
    quick = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=quick if quick.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
@pytest.mark.parametrize(
    "thorough", [False, pytest.param(True, marks=[pytest.mark.full, pytest.mark.timeout(600)])], ids=["once", "often"]
)
def test_cp1_to_cp5_cp20_f76_no_acknowledged_append_is_lost_in_a_power_cut(
    session: list[Sequence[NewEvent]], tmp_path: Path, memory: Path, *, thorough: bool
) -> None:
    """After each write and sync of a session, log, file and checkpoints: the journal opens, its chain fits, and it
    ends where an append ended, at the last acknowledged one or later.
    """
    played = play(tmp_path, session)
    synced = {op.name for op in played.ops if op.deed == "sync"}
    assert {"run.sqlite", "run.sqlite-journal", "run.sqlite-wal"} <= synced
    assert sum(op.deed == "sync" for op in played.ops) > len(session)
    assert list(losses(played, memory, thorough=thorough)) == []


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_f76_a_journal_that_waits_for_the_disk_less_often_is_caught(
    session: list[Sequence[NewEvent]], tmp_path: Path, memory: Path, synchronous: str
) -> None:
    """With synchronous=NORMAL or OFF the same cuts lose appends that had returned: the test sees what it looks for."""
    found = list(losses(play(tmp_path, session[:20], synchronous), memory, thorough=False))
    assert any("ends at event 0 but had" in one for one in found)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [apsw.IOError, apsw.FullError])
def test_f77_f79_an_append_that_the_disk_refused_is_never_taken_for_written(
    session: list[Sequence[NewEvent]], memory: Path, fault: type[apsw.Error]
) -> None:
    """Whichever write or sync fails: an append raises, or nothing was lost; all that returned outlives a power cut."""
    deeds = len(play(_folder(memory, "whole"), session[:8]).ops)
    raised = 0
    for doomed in range(deeds):
        folder, owed = _folder(memory, str(doomed)), 0
        disk = Refusing(f"refusing-{folder}", doomed, fault)
        try:
            with closing(open_journal(folder / "run.sqlite", _connect(disk))) as journal:
                for batch in session[:8]:
                    journal.append(batch)
                    owed = journal.head[0]
        except JournalError:
            raised += 1
        platter = Platter()
        for op in disk.ops:
            platter.take(op)
        rest = _folder(folder, "rest")
        for name, data in platter.after(lambda: False).items():
            (rest / name).write_bytes(data)
        with closing(open_journal(rest / "run.sqlite")) as journal:
            assert journal.verify()[0] >= owed, doomed
    assert raised > deeds / 2


def _connect(disk: Recorder, synchronous: str = "FULL") -> Connect:
    return cast("Connect", partial(Adapter, disk, synchronous))


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name
