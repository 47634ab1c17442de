"""LEDGER_EXPORT_MODE=auto: each closed trade once in the file of its session, whatever happens between."""

from __future__ import annotations

import asyncio
import csv
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.extensions.ledger_export import LedgerExport
from tbot_core.extensions.progress import ProgressFile, failing_extensions, progress_folder
from tbot_core.extensions.runner import ExtensionRunner, FollowTerms
from tbot_core.model.clock import ManualClock
from tbot_core.reports.trades_csv import LEDGER_COLUMNS
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable

PAPER = "AB_US_ACME_01-paper-2026-01-05.csv"


@attrs.define
class Export:
    """The export of one instance, in one process after the other."""

    trader: Any
    run: str = ""
    home: Path = attrs.Factory(lambda self: self.trader.instance.home, takes_self=True)

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self.home / "reports" / "ledger"

    @property
    def journal(self) -> Path:
        """The journal."""
        return self.home / "data" / "tbot.sqlite"

    def follow(self, until: Callable[[], bool] = lambda: True, **parts: Any) -> None:
        """Let it follow the journal until that holds, and to its end."""

        async def work() -> None:
            file = ProgressFile(progress_folder(self.journal) / "ledger.json", "ledger export")
            terms = FollowTerms(journal=self.journal, clock=ManualClock(self.trader.now), every_s=0.001, pause_s=0.001)
            one = ExtensionRunner(LedgerExport(self.folder, self.run, **parts), file, terms, lambda *_: None)
            one.begin()
            while not until():  # noqa: ASYNC110  -- it holds by what the export does
                await asyncio.sleep(0.001)
            await one.finish()

        asyncio.run(asyncio.wait_for(work(), 20))

    def rows(self, name: str = PAPER) -> list[dict[str, str]]:
        """The trades of a file."""
        return list(csv.DictReader((self.folder / name).read_text().splitlines()))

    def symbols(self, name: str = PAPER) -> list[str]:
        """The symbols of a file's trades."""
        return [row["symbol"] for row in self.rows(name)]


@pytest.fixture
def export(trader: Any) -> Export:
    """The export of an open paper session."""
    trader.now = next(trader.journal.events()).applied
    return Export(trader)


def test_a_closed_trade_is_a_row(export: Export) -> None:
    """With what a ledger needs; money is exact, and nothing else is in the folder."""
    export.trader.trade()
    export.follow()
    (row,) = export.rows()
    assert tuple(row) == LEDGER_COLUMNS
    assert (row["session"], row["mode"], row["identity"], row["account"], row["broker"]) == (
        "2026-01-05",
        "paper",
        "AB_US_ACME_01",
        "PA1",
        "acme",
    )
    assert (row["trade_id"], row["fees"], row["pnl"]) == ("2026-01-05/open/AAA/25/breakout", "0.026", "99.974")
    assert [path.name for path in export.folder.iterdir()] == [PAPER]


def test_without_a_trade_there_is_no_file(export: Export) -> None:
    """A session without trades has nothing to export."""
    export.follow()
    assert not filesystem.exists(export.folder)


def test_sessions_and_modes_have_files_of_their_own(export: Export) -> None:
    """A live file bears the identity and the session alone; without an identity the mode takes its place."""
    trader = export.trader
    trader.trade()
    for mode, identity, day in (("live", "AB_US_ACME_01", "2026-01-05"), ("paper", "", "2026-01-06")):
        trader.close()
        trader.start(mode, identity)
        trader.open(day)
        trader.trade(f"{mode}")
    export.follow()
    assert {path.name: export.symbols(path.name) for path in export.folder.iterdir()} == {
        PAPER: ["AAA"],
        "AB_US_ACME_01-2026-01-05.csv": ["live"],
        "paper-2026-01-06.csv": ["paper"],
    }


def test_a_run_with_a_journal_of_its_own_has_files_of_its_own(export: Export) -> None:
    """Two rehearsals of one session are distinguished by the name of the run."""
    export.run = "rehearsal-20260105T150000"
    export.trader.trade()
    export.follow()
    (path,) = export.folder.iterdir()
    assert path.name == "AB_US_ACME_01-rehearsal-20260105T150000-2026-01-05.csv"


def test_a_correction_changes_the_row_and_a_bust_removes_it(export: Export) -> None:
    """Also of a trade that an earlier process exported."""
    export.trader.trade()
    export.trader.trade("BBB")
    export.follow()
    export.trader.report("AAA", "corrected", "12", execution="2")
    export.follow()
    assert [row["pnl"] for row in export.rows()] == ["199.974", "99.974"]
    export.trader.report("AAA", "busted", "12", execution="2")
    export.follow()
    assert export.symbols() == ["BBB"]


LIVES = """
import asyncio, os, shutil, signal, sys
from pathlib import Path

from tbot_core.extensions.ledger_export import LedgerExport
from tbot_core.extensions.progress import ProgressFile, progress_folder
from tbot_core.extensions.runner import ExtensionRunner, FollowTerms
from tbot_core.model.clock import SystemClock
from tbot_core.system import filesystem

replace = filesystem.write_atomic

def life(home, doom):
    # Export to the end of the journal, or be killed before or after a write of a file or of the position.
    steps, journal, folder = 0, home / "data" / "tbot.sqlite", home / "reports" / "ledger"

    def step():
        nonlocal steps
        seen.append(len((folder / sys.argv[2]).read_text().splitlines()))
        if steps == doom:
            os.write(told, bytes(seen))
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1

    def write(path, data, **more):
        step()
        replace(path, data, **more)
        step()

    async def work():
        filesystem.write_atomic = write
        file = ProgressFile(progress_folder(journal) / "ledger.json", "ledger export")
        terms = FollowTerms(journal=journal, clock=SystemClock(), every_s=0.001)
        one = ExtensionRunner(LedgerExport(folder, write=write), file, terms, lambda *_: None)
        one.begin()
        await one.finish()

    seen = []
    asyncio.run(work())
    os._exit(0)

for doom in range(int(sys.argv[3])):
    home = shutil.copytree(sys.argv[1], f"{sys.argv[1]}-{doom}")
    reading, told = os.pipe()
    if not os.fork():
        life(Path(home), doom)
    _, status = os.wait()
    os.close(told)
    print(os.WTERMSIG(status), *os.read(reading, 100))
"""


@pytest.mark.slow
def test_after_a_kill_at_any_step_each_trade_is_there_once(export: Export, tmp_path: Path) -> None:
    """Kill -9 before and after each write of a file and of the position; no file ever has fewer trades than before."""
    trader, home = export.trader, tmp_path / "home"
    trader.trade("AAA")
    export.follow()
    trader.trade("BBB")
    trader.close()
    trader.open("2026-01-06")
    trader.trade("CCC")
    trader.journal.close()
    shutil.copytree(trader.path.parent, home / "data")
    shutil.copytree(export.folder, home / "reports" / "ledger")
    command = [sys.executable, "-c", LIVES, str(home), PAPER, "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lives = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert [status for status, *_ in lives] == [signal.SIGKILL] * 6 + [0]
    assert all(lines == sorted(lines) for _, *lines in lives)
    for step in range(7):
        left = Export(export.trader, home=tmp_path / f"home-{step}")
        left.follow()
        left.follow()
        assert left.symbols() == ["AAA", "BBB"]
        assert left.symbols("AB_US_ACME_01-paper-2026-01-06.csv") == ["CCC"]


def test_a_folder_that_cannot_be_written_is_tried_again(export: Export) -> None:
    """The status says so meanwhile, and the trades of that time are all there later."""
    export.trader.instance.reports.write_text("in the way")
    export.trader.trade()
    export.follow(lambda: bool(failing_extensions(export.trader.path)))
    (words,) = failing_extensions(export.trader.path)
    assert words.startswith("The ledger export fails since 2026-01-05 15:00 UTC: Cannot make the folder")
    export.trader.instance.reports.unlink()
    export.trader.trade("BBB")
    export.follow()
    assert export.symbols() == ["AAA", "BBB"]
    assert failing_extensions(export.trader.path) == []


def test_what_is_there_already_is_not_written_again(export: Export) -> None:
    """A restart leaves the file as it is; one that was removed is written whole with the next start."""
    export.trader.trade()
    export.follow()
    written: list[str] = []
    export.follow(write=lambda path, _data: written.append(path.name))
    assert written == []
    (export.folder / PAPER).unlink()
    export.follow(write=lambda path, _data: written.append(path.name))
    assert written == [PAPER]
