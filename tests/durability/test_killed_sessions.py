"""Paper trading in real processes, killed at random and started again in the same minute: the same trades."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

LIVES = """
import datetime, functools, json, os, random, shutil, signal, sqlite3, sys, traceback
from contextlib import closing
from pathlib import Path

import attrs

from tbot_core.journal import records
from tbot_core.engine.bootstrap import assemble
from tbot_core.cli.settings_watch import SettingsWatcher
from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.cli.run_options import RunOptions
from tbot_core.model.calendar import EarlyClose, ExchangeCalendar
from tbot_core.model.clock import ManualClock
from tbot_core.contracts import FeedRequest
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop, run_virtual
from tbot_core.journal.store import read_journal
from tbot_core.journal.projections.book import fold_events
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.engine.settings_reload import SettingsReloader, open_session_settings
from tbot_core.engine.run import run
from tbot_core.engine.session.open_positions import open_at_end
from tbot_core.instance import Instance, read_settings_files

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
MORNING = datetime.datetime(2026, 11, 24, 14, 15, tzinfo=datetime.UTC)
CALENDAR = ExchangeCalendar(
    overrides={
        MORNING.date() + datetime.timedelta(days=days): EarlyClose(close=datetime.time(10, 45)) for days in (0, 1)
    }
)  # sessions of 75 minutes

class Statements(sqlite3.Connection):
    # Steps before each statement of the journal and of the venue's books, and after it.
    step = staticmethod(lambda: None)

    def execute(self, *words):
        return self.stepped(super().execute, *words)

    def executemany(self, *words):
        return self.stepped(super().executemany, *words)

    def stepped(self, call, *words):
        Statements.step()
        done = call(*words)
        Statements.step()
        return done

sqlite3.connect = functools.partial(sqlite3.connect, factory=Statements)

def closed_of(home):
    path = home / "data" / "tbot.sqlite"
    if not path.exists():
        return 0
    with closing(read_journal(path)) as journal:
        return sum(1 for _ in journal.events(kind=records.SESSION_CLOSED))

def raised(home):
    # Somebody raises a limit while the bot runs.
    path = home / ".env_bot"
    path.write_text(path.read_text().replace("MAX_OPEN_POSITIONS=5", "MAX_OPEN_POSITIONS=6"))

def live(home, doom, days=1, change=False):
    # Trade to the last session's end, or be killed at a statement: before it begins or when it returned. Of two days
    # those statements count that come after the end of the first.
    noted, loop = home / "clock", VirtualLoop()
    clock = LoopClock(loop, datetime.datetime.fromisoformat(noted.read_text()) if noted.exists() else MORNING)
    steps, ends, changed = 0, closed_of(home), not change

    def wrote(entries):
        nonlocal ends, changed
        if change and any(entry.kind == "fill" for entry in entries):
            changed = raised(home) is None
        ends += sum(entry.kind == records.SESSION_CLOSED for entry in entries)
        if ends == days > 1:
            plan.stop.set()

    def step():
        nonlocal steps
        if ends >= days - 1 and changed:
            steps += 1
            if steps == doom:
                noted.write_text(clock.now().isoformat())
                os.kill(os.getpid(), signal.SIGKILL)

    found = read_settings_files(Instance.at(home))
    settings = open_session_settings(Instance.at(home).journal, clock.now())
    assembly = attrs.evolve(assemble(home, "paper", clock, settings, found), calendar=CALENDAR)
    options = RunOptions(mode="paper", home=home)
    editions = SettingsWatcher(options, found, lambda wish: (wish, read_settings_files(Instance.at(home))))
    editions.begin(assembly.settings)
    request, renewal = FeedRequest(kind="live", calendar=CALENDAR), SettingsReloader(editions.poll)
    once, watch_s = days == 1, 5.0 if days == 1 else 60.0
    plan = RunPlan(assembly=assembly, request=request, wall=clock, once=once, watch_s=watch_s, settings_reload=renewal)
    Statements.step = staticmethod(step)
    run_virtual(lambda: run(plan, RunWatcher(on_events=wrote)), loop)
    Statements.step = staticmethod(lambda: None)
    (home / "steps").write_text(str(steps))

def forked(home, doom, days=1, change=False):
    # How a life ended: 0, or the signal that ended it.
    process = os.fork()
    if not process:
        code = 1
        try:
            live(home, doom, days, change)
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(process, 0)[1]

def result(home):
    # The trades, and what is open at the end.
    with closing(read_journal(home / "data" / "tbot.sqlite")) as journal:
        journal.verify()
        trades = sorted(str(one) for one in fold_events(journal.events()).trades)
        return {"trades": trades, "open": list(open_at_end(journal).open)}

def fresh(name):
    return Path(shutil.copytree(folder / "made", folder / name))

(folder / "made" / "data").mkdir(parents=True)
create_demo_instance(folder / "made")
(folder / "made" / "data" / "install.id").write_text("0123456789abcdef")
assemble(folder / "made", "paper", ManualClock(MORNING))  # tries the plugins, once for all lives
whole = fresh("whole")
"""
CHILD = f"""{LIVES}
live(whole, 0)  # not forked: what it imports and draws need not be imported and drawn in each life
steps, dice = int((whole / "steps").read_text()), random.Random(kills)
survived, ends, lives = 0, [], 0
while not ends or survived < kills:
    home = fresh("killed" + str(len(ends)))
    while (ended := forked(home, dice.randint(1, 40 + 2 * steps // kills) if survived < kills else 0)) != 0:
        assert os.WTERMSIG(ended) == signal.SIGKILL, ended
        survived += 1
    ends.append(result(home))
print(json.dumps(dict(whole=result(whole), ends=ends, survived=survived, steps=steps)))
"""
RENEWAL = f"""{LIVES}
live(whole, 0)
dice, ends, kept = random.Random(kills), [], []
for number in range(kills):
    home = fresh("killed" + str(number))
    assert os.WTERMSIG(forked(home, dice.randint(1, 200), 1, True)) == signal.SIGKILL
    instance = Instance.at(home)
    before = open_session_settings(instance.journal, MORNING)
    assert forked(home, 0, 1, True) == 0
    after = open_session_settings(instance.journal, MORNING) | read_settings_files(instance).texts()
    ends.append(result(home))
    kept.append([one["MAX_OPEN_POSITIONS"] for one in (before, after)])
print(json.dumps(dict(whole=result(whole), ends=ends, kept=kept)))
"""
ROLLOVER = f"""{LIVES}
live(whole, 0, 2)
dice, ends = random.Random(kills), []
for number in range(kills):
    home = fresh("killed" + str(number))
    assert os.WTERMSIG(forked(home, dice.randint(1, STATEMENTS), 2)) == signal.SIGKILL
    assert forked(home, 0, 2) == 0
    ends.append(result(home))
print(json.dumps(dict(whole=result(whole), ends=ends, sessions=closed_of(whole))))
""".replace("STATEMENTS", "20")
"""Deaths at one of the first statements behind a session's end."""


def run(child: str, kills: int, place: Path) -> dict[str, Any]:
    """What the processes say that let others live and die."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else place) as folder:
        command = [sys.executable, "-W", "error", "-c", child, folder, str(kills)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.slow
@pytest.mark.first(0)  # one kill at each crash point: test_crash_points
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(20, marks=pytest.mark.timeout(300)),
        pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(900)]),
    ],
)
def test_f75_a_session_killed_at_random_ends_as_one_that_never_was(kills: int, tmp_path: Path) -> None:
    """SIGKILL before or after any statement of the journal or the venue's books, a restart at once: the same trades."""
    said = run(CHILD, kills, tmp_path)
    assert said["survived"] == kills
    assert len(said["whole"]["trades"]) > 2
    for end in said["ends"]:
        assert end == said["whole"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(1, marks=pytest.mark.timeout(300)),
        pytest.param(20, marks=[pytest.mark.full, pytest.mark.timeout(900)]),
    ],
)
@pytest.mark.first(0)
def test_f74_f75_cp28_a_bot_killed_between_two_days_trades_the_second_as_one_that_never_was(
    kills: int, tmp_path: Path
) -> None:
    """SIGKILL between the end of one session and the first words of the next: the trades of both days."""
    said = run(ROLLOVER, kills, tmp_path)
    assert said["sessions"] == 2
    assert len(said["whole"]["trades"]) > 4
    assert said["ends"] == [said["whole"]] * kills


@pytest.mark.slow
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(1, marks=pytest.mark.timeout(300)),
        pytest.param(20, marks=[pytest.mark.full, pytest.mark.timeout(900)]),
    ],
)
@pytest.mark.first(0)
def test_f75_f100_cp26_a_bot_killed_after_its_settings_were_changed_has_the_old_ones_to_the_sessions_end(
    kills: int, tmp_path: Path
) -> None:
    """SIGKILL anywhere behind the change: the session ends as one that was left alone, the next has the new ones."""
    said = run(RENEWAL, kills, tmp_path)
    assert said["ends"] == [said["whole"]] * kills
    assert said["kept"] == [["5", "6"]] * kills
