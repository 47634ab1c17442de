"""`tbot stop`, `tbot kill` and `tbot defense`: what they ask of a running bot, and what they say of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core import cli
from tbot_core.actions import control_requests
from tbot_core.actions.control_requests import RequestResult, kill_sentence, stop_sentence
from tbot_core.actions.operator_requests import defense_sentence, keeps_defense
from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.cli.commands.status import lines
from tbot_core.cli.run_options import hold_instance_lock
from tbot_core.contracts import FeedRequest
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.engine import control
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.instance import Instance
from tbot_core.instance.folder import SIMULATION
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.journal import records
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.store import Event, NewEvent, read_journal
from tbot_core.model.clock import ManualClock, SystemClock
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop, run_virtual
from tbot_core.status.event_lines import EventNarrator
from tbot_core.status.risk_state import folder_warnings, risk_status
from tbot_core.system import filesystem
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession

MORNING = dt.datetime(2026, 11, 24, 13, 0, tzinfo=dt.UTC)
TBOT = (sys.executable, "-c", "import sys; from tbot_core.__main__ import main; sys.exit(main())")


class Bot:
    """Paper trading in a process of its own, and what it has said."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [*TBOT, "run", "--home", str(home)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def until(self, words: str) -> None:
        """Read its lines until one holds the words."""
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if words in line:
                return
        pytest.fail(f"the run ended without saying {words!r}: {said}")

    def end(self) -> tuple[int, str]:
        """Its exit code, and what else it said."""
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out


@pytest.mark.slow
def test_bot_commands_and_files_use_the_folder_of_control_dir(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kill by command waits there for the next start, a file there halts the bot, and texts name it."""
    create_demo_instance(tmp_path)
    (tmp_path / ".env").write_text("CONTROL_DIR=requests\n")
    assert cli.invoke(["kill", "--home", str(tmp_path)]) == 0
    (written,) = (tmp_path / "requests").iterdir()
    assert (tmp_path / "requests").stat().st_mode & 0o777 == 0o700
    clock, states = ManualClock(MORNING), list[str]()
    plan = RunPlan(
        assembly=assemble(tmp_path, "paper", clock),
        request=FeedRequest(kind="live"),
        wall=clock,
        once=True,
        watch_s=30.0,
    )

    def minute(session: TradingSession, index: int) -> None:
        states.append(session.decision_engine.exposure.current_state.word)
        if index == 1:
            now = SystemClock().now()
            control.write_request(tmp_path / "requests", ControlVerb.KILL_CLEAR, actor="ann", now=now, order=2)
        if index == 3:
            (tmp_path / "requests" / "kill").touch()
        if index == 5:
            plan.stop.set()

    asyncio.run(run(plan, RunWatcher(on_minute=minute)))
    assert not written.exists()
    assert [states[place] for place in (1, 3, 5)] == ["halted", "normal", "halted"]
    assert not (tmp_path / "control").exists()
    capsys.readouterr()
    assert cli.invoke(["status", "--home", str(tmp_path)]) == 1
    assert "requests/kill exists: remove it to trade." in capsys.readouterr().out
    assert cli.invoke(["kill", "--clear", "--home", str(tmp_path)]) == 1
    assert "`rm requests/kill` ends it." in capsys.readouterr().out


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with the demo's settings."""
    create_demo_instance(tmp_path)
    return tmp_path


@pytest.fixture
def start(home: Path, trials: Callable[[Path], None], distant_weekday: str) -> Iterator[Callable[[], Bot]]:
    """Starts a bot that waits for the next session, which is days away."""
    trials(home)
    settings = home / ".env_bot"
    settings.write_text(f"{settings.read_text()}TRADING_DAYS={distant_weekday}\n")
    started: list[Bot] = []

    def make() -> Bot:
        started.append(Bot(home))
        started[-1].until("Waiting for the session")
        return started[-1]

    yield make
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


@pytest.fixture
def bot(start: Callable[[], Bot]) -> Bot:
    """A bot that waits for the next session."""
    return start()


def asked(capsys: pytest.CaptureFixture[str], home: Path, *words: str, code: int = 0) -> Any:
    """The document of a command."""
    assert cli.invoke([*words, "--home", str(home), "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_running_bot_is_killed_cleared_and_stopped(bot: Bot, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command is answered by the bot's journal; the stop ends the process with its summary and exit 0."""
    killed = asked(capsys, bot.home, "kill")
    assert (killed["taken"], killed["state"], killed["causes"]) == (True, "halted", ["tbot kill"])
    bot.until("State halted: tbot kill")
    assert asked(capsys, bot.home, "status", code=1)["causes"] == ["tbot kill"]
    assert asked(capsys, bot.home, "kill", "--clear")["state"] == "normal"
    assert asked(capsys, bot.home, "defense", "on")["causes"] == ["tbot defense on"]
    assert asked(capsys, bot.home, "defense", "status")["state"] == "defense"
    assert asked(capsys, bot.home, "defense", "off")["state"] == "normal"
    (bot.home / "control").chmod(0o777)
    assert asked(capsys, bot.home, "defense", "off", code=1)["taken"] is False
    stopped = asked(capsys, bot.home, "stop")
    assert (stopped["ended"], stopped["open"]) == (True, [])
    assert filesystem.lock_holder(Instance(bot.home).lock) is None, "a stop is answered once the process has ended"
    code, said = bot.end()
    assert code == 0
    assert "No session was traded." in said
    assert "Stopped; nothing is open." in said


@pytest.mark.slow
@pytest.mark.first(0)  # three processes
def test_a_journal_that_was_copied_back_waits_for_its_acceptance(
    home: Path, start: Callable[[], Bot], capsys: pytest.CaptureFixture[str]
) -> None:
    """It lost a kill: the bot is exit-only, and says so everywhere, until a person accepts it."""
    open_instance_vault(Instance(home), DeploymentSettings())
    start()
    asked(capsys, home, "stop")
    older = [shutil.copy2(one, home) for one in (home / "data").glob("tbot.sqlite*")]
    start()
    assert asked(capsys, home, "kill")["state"] == "halted"
    asked(capsys, home, "stop")
    for one in older:
        shutil.copy2(one, home / "data")

    words = "the journal is older than its head in the audit log"
    assert asked(capsys, home, "audit", "verify", code=1)["journals"][0]["verified"] is False
    shown = asked(capsys, home, "status", code=1)
    assert (shown["state"], shown["causes"]) == ("exit-only", [words])
    assert any(words in one and "perhaps a kill" in one and "tbot audit accept" in one for one in shown["attention"])
    cli.invoke(["check", "--home", str(home), "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [one["level"] for one in rows if "perhaps a kill" in one["message"]] == ["warn"]

    start()
    assert asked(capsys, home, "status", code=1)["causes"] == [words]
    assert cli.invoke(["audit", "accept", "--home", str(home)]) == 2
    said = capsys.readouterr()
    assert "perhaps a kill" in said.out
    assert "Approve with --yes." in said.err
    done = asked(capsys, home, "audit", "accept", "--yes")
    assert (done["accepted"], done["pending"]) == (True, "")
    (condition,) = asked(capsys, home, "status", code=1)["conditions"]
    assert (condition["cause"], condition["over"] is None) == (words, False)
    assert asked(capsys, home, "audit", "accept")["accepted"] is False
    asked(capsys, home, "stop")
    assert asked(capsys, home, "audit", "verify")["verified"] is True
    sent = asked(capsys, home, "alerts", "log")
    assert any(words in str(one) and "critical" in str(one) for one in sent["alerts"])


@pytest.mark.slow
def test_a_touched_file_and_a_signal_halt_a_running_bot(bot: Bot) -> None:
    """Loose modes and no words at all: obeyed; so is SIGUSR2, also while the bot only waits."""
    (bot.home / "control").mkdir(mode=0o700, exist_ok=True)
    (bot.home / "control" / "kill").touch(mode=0o666)
    bot.until("State halted: the file control/kill exists")
    bot.process.send_signal(signal.SIGUSR2)
    bot.until("State halted: a kill signal")
    (bot.home / "control" / "stop").touch(mode=0o666)
    code, said = bot.end()
    assert (code, "Stopped; nothing is open." in said) == (0, True)


@pytest.mark.slow
def test_f111_a_loose_request_is_refused_and_named(bot: Bot, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not obeyed, stands in the journal, and status and check name it with its flaw."""
    odd = bot.home / "control" / "kill-clear-x.json"
    odd.parent.mkdir(mode=0o700, exist_ok=True)
    odd.touch(mode=0o644)
    bot.until("control/kill-clear-x.json was refused")
    found = asked(capsys, bot.home, "status", code=1)
    assert [one["name"] for one in found["requests"]["refused"]] == ["kill-clear-x.json"]
    assert any("other users may read or write it" in sentence for sentence in found["attention"])
    cli.invoke(["check", "--home", str(bot.home), "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert any(row["subject"] == "requests" and row["level"] == "warn" for row in rows)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("kill",), "touch {}/control/kill"),
        (("kill", "--flatten"), "touch {}/control/kill"),
        (("stop",), "touch {}/control/stop"),
        (("kill", "--clear"), ""),
    ],
)
def test_a_kill_that_cannot_be_written_names_the_file_that_can(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], remedy: str
) -> None:
    """On a full disk an empty file still stops entries; what permits something has no such way."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert cli.invoke([*words, "--home", str(home)]) == 1
    text = capsys.readouterr().err
    assert "No space left on device" in text
    assert remedy.format(home) in text
    assert ("blocks entries in any case" in text) is bool(remedy)


def test_without_a_bot_requests_wait_for_the_next_start(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command says that no bot runs; the requests lie in the folder, and status names it."""
    for words in (
        ("kill",),
        ("kill", "--clear"),
        ("stop",),
        ("stop", "--cancel"),
        ("defense", "on"),
        ("defense", "off"),
    ):
        assert cli.invoke([*words, "--home", str(home)]) == 0
        assert "No bot is running" in capsys.readouterr().out
    shown = asked(capsys, home, "status", code=0)
    assert shown["attention"] == []
    waiting = shown["requests"]["waiting"]
    assert waiting == ["kill", "kill-clear", "stop", "stop-cancel", "defense-on", "defense-off"]
    assert shown["at_next_start"] == "normal"
    assert (home / "control").stat().st_mode & 0o777 == 0o700


def test_a_request_that_waits_has_the_state_of_the_next_start(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a bot the document says that it waits, and what the next start begins with; a withdrawal ends that."""
    for words, state, causes in (
        (("defense", "on"), "defense", ["tbot defense on"]),
        (("stop",), "exit-only", ["tbot stop", "tbot defense on"]),
        (("kill",), "halted", ["tbot kill", "tbot stop", "tbot defense on"]),
        (("stop", "--cancel"), "halted", ["tbot kill", "tbot defense on"]),
        (("kill", "--clear"), "defense", ["tbot defense on"]),
    ):
        found = asked(capsys, home, *words, code=0)
        assert (found["waits"], found["taken"], found["state"], found["causes"]) == (True, False, state, causes)
        shown = asked(capsys, home, "status", code=1)
        assert (shown["state"], shown["at_next_start"]) == ("normal", state)
        assert any(f"state normal; from the next start on {state}" in line for line in lines(shown, MORNING))
    (home / "control" / "kill").touch()
    found = asked(capsys, home, "defense", "off", code=0)
    assert (found["state"], found["causes"]) == ("halted", ["the file control/kill exists"])
    assert cli.invoke(["kill", "--clear", "--home", str(home)]) == 1
    assert "the request waits in control/" in capsys.readouterr().out


def test_what_was_not_there_is_not_said_to_be_cleared(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kill or stop that waits for the next start is withdrawn once; without one it is said that there was none."""
    for verb, option, missing in (
        ("kill", "--clear", "There was no kill to clear; the state is normal."),
        ("stop", "--cancel", "There was no stop to undo; the state is normal."),
    ):
        said = []
        for words in ((verb, option), (verb,), (verb, option), (verb, option)):
            assert cli.invoke([*words, "--home", str(home)]) == 0
            said.append(capsys.readouterr().out.strip() == missing)
        assert said == [True, False, False, True]


def test_the_status_of_defense_names_what_is_requested(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A request that waits for the next start stands beside the state, which it has not changed yet."""
    assert cli.invoke(["defense", "on", "--home", str(home)]) == 0
    capsys.readouterr()
    assert cli.invoke(["defense", "status", "--home", str(home)]) == 0
    pending = "Requested, takes effect at the next start: defense-on."
    assert capsys.readouterr().out.splitlines() == ["The state is normal.", pending]
    assert asked(capsys, home, "defense", "status")["requests"] == [pending]


def test_a_kill_that_a_file_keeps_is_not_taken_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 with what remains, and 0 once the file is gone."""
    kill = home / "control" / control.KILL
    kill.parent.mkdir(mode=0o700)
    kill.touch()
    assert cli.invoke(["kill", "--clear", "--home", str(home)]) == 1
    assert (
        "the file control/kill exists and keeps the bot halted: `rm control/kill` ends it." in capsys.readouterr().out
    )
    kill.unlink()
    assert cli.invoke(["kill", "--clear", "--home", str(home)]) == 0
    assert "control/kill" not in capsys.readouterr().out


def test_the_name_of_a_file_moves_no_cursor(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line end and an escape in a name in control/ are shown as such."""
    odd = home / "control" / "a\nb\x1b[31m.json"
    odd.parent.mkdir(mode=0o700)
    odd.touch(mode=0o600)
    assert cli.invoke(["status", "--home", str(home)]) == 1
    assert r"control/a\nb\x1b[31m.json was refused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("stop", "--cancel", "--keep"), "--keep and --cancel"),
        (("stop", "--flatten", "--keep"), "--flatten and --keep"),
        (("stop", "--flatten", "--keep", "--cancel"), "--flatten and --keep and --cancel"),
        (("kill", "--clear", "--flatten"), "--flatten and --clear"),
    ],
)
def test_options_that_contradict_ask_nothing(
    home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], named: str
) -> None:
    """Exit 2 with both names, in whichever order: the last one given must not win."""
    assert cli.invoke([*words, "--home", str(home)]) == 2
    assert "exclude each other" in (said := capsys.readouterr().err)
    assert all(name in said for name in named.split(" and "))
    assert not (home / "control").exists()


@pytest.mark.slow
def test_what_was_asked_before_the_start_counts_from_the_first_minute(home: Path) -> None:
    """A kill that lay in the folder lets nothing be entered all day."""
    assert cli.invoke(["kill", "--home", str(home)]) == 0
    clock = ManualClock(MORNING)
    plan = RunPlan(
        assembly=assemble(home, "paper", clock), request=FeedRequest(kind="live"), wall=clock, once=True, watch_s=10.0
    )
    assert asyncio.run(run(plan, RunWatcher())).summary.trades == ()


@pytest.mark.slow
def test_a_stop_without_a_bot_names_unmanaged_positions(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Positions of a bot that has been stopped are open: exit 1."""
    loop = VirtualLoop()
    clock = LoopClock(loop, MORNING)
    plan = RunPlan(assembly=assemble(home, "paper", clock), request=FeedRequest(kind="live"), wall=clock, watch_s=5.0)

    def minute(session: TradingSession, _index: int) -> None:
        if session.decision_engine.portfolio.positions:
            control.write_request(home / "control", ControlVerb.STOP_KEEP, actor="ann", now=clock.now())

    held = run_virtual(lambda: run(plan, RunWatcher(on_minute=minute)), loop).open
    assert held
    assert tuple(asked(capsys, home, "stop", code=1)["open"]) == held
    assert cli.invoke(["stop", "--home", str(home)]) == 1
    assert "not managed by any bot" in capsys.readouterr().out


def test_a_bot_that_does_not_answer_is_named(home: Path) -> None:
    """The process that holds the instance and accepts nothing in its time is named; the request stays."""
    (home / "data").mkdir()
    with filesystem.hold_lock(home / "data" / "tbot.lock"):
        answer = asyncio.run(control_requests.send_request(home, ControlVerb.KILL, ManualClock(MORNING)))
    assert not answer.taken
    assert "has not recorded the request within 5 s" in kill_sentence(answer)
    assert len(control.read_folder(home / "control").requests) == 1


@pytest.mark.parametrize("taken", [False, True])
def test_a_running_bot_whose_journal_cannot_be_read_has_taken_what_is_gone(home: Path, *, taken: bool) -> None:
    """The process that removed the file has recorded the request, whether or not that can be read here."""
    (home / "data").mkdir()
    (home / "data" / "tbot.sqlite").write_bytes(b"no journal at all" * 100)
    name = control.write_request(home / "control", ControlVerb.KILL, actor="ann", now=MORNING)
    if taken:
        control.remove_request(home / "control", name)
    found = control_requests.request_result(Instance.at(home), ControlVerb.KILL, name, 7)
    assert (found.taken, bool(found.lost)) == (taken, not taken)
    assert "the positions are unknown" in control_requests.result_notes(found)[0]


@pytest.mark.parametrize("words", [("stop",), ("kill",), ("defense", "on")])
def test_a_simulation_is_asked_nothing(home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    """It takes no requests, and what is asked beside it must not stop the next start: exit 1, nothing is dropped."""
    (home / "data").mkdir()
    with hold_instance_lock(home, SIMULATION):
        assert cli.invoke([*words, "--home", str(home)]) == 1
    assert "runs a simulation here, which accepts no requests" in capsys.readouterr().err
    assert not (home / "control").exists()


def test_a_folder_without_an_instance_is_asked_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 3 and a sentence; no folder is made."""
    assert cli.invoke(["kill", "--home", str(tmp_path)]) == 3
    assert "is not an instance" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def answer(verb: ControlVerb, **more: Any) -> RequestResult:
    """An answer of a bot that took the request."""
    return attrs.evolve(RequestResult(verb=verb, process=7, taken=True), **more)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (stop_sentence(answer(ControlVerb.STOP, open=("A", "B"))), "manages A, B to their exits, then ends"),
        (
            stop_sentence(answer(ControlVerb.STOP, open=("A",))),
            "manages A to its exit, then ends as soon as nothing is held.",
        ),
        (
            stop_sentence(answer(ControlVerb.STOP_FLATTEN, open=("A",))),
            "closes A, then ends as soon as the broker has confirmed it.",
        ),
        (
            stop_sentence(answer(ControlVerb.STOP_KEEP, open=("A",))),
            "keeps A with its stop, then ends as soon as no order is in transit",
        ),
        (stop_sentence(answer(ControlVerb.STOP)), "manages all positions to their exits, then ends"),
        (stop_sentence(answer(ControlVerb.STOP_KEEP, ended=True, open=("A",))), "Stopped and left open: A"),
        (stop_sentence(answer(ControlVerb.STOP_KEEP, open=("A", "B"))), "keeps A, B with their stops, then ends"),
        (
            stop_sentence(answer(ControlVerb.STOP_KEEP, open=("A", "B"), unprotected=("B",))),
            "no order is in transit, after API_TIMEOUT at the latest. Without a stop order: B.",
        ),
        (
            stop_sentence(answer(ControlVerb.STOP_KEEP, open=("A",), unprotected=("A",), cancelling=("A",))),
            "keeps A, then ends",
        ),
        (
            stop_sentence(
                answer(
                    ControlVerb.STOP_FLATTEN,
                    open=("A", "B"),
                    unprotected=("A", "B"),
                    cancelling=("A",),
                    causes=(StateCause.STOP_COMMAND.value, StateCause.UNREACHABLE.value),
                )
            ),
            "But the broker does not respond; `tbot status` shows what is known. The cancel of the stop order",
        ),
        (
            stop_sentence(answer(ControlVerb.STOP, process=None, open=("A", "B"), unprotected=("A",))),
            "Open and not managed by any bot: A, B. Without a stop order: A.",
        ),
        (stop_sentence(answer(ControlVerb.STOP_FLATTEN, ended=True)), "nothing is open"),
        (
            stop_sentence(answer(ControlVerb.STOP, ended=True, unconfirmed="no line.")),
            "but the account could not be read: no line.",
        ),
        (
            stop_sentence(answer(ControlVerb.STOP, ended=True, open=("A",), unconfirmed="no line")),
            "Stopped and left open: A. The account could not be read: no line.",
        ),
        (
            stop_sentence(answer(ControlVerb.STOP_CANCEL, state="halted")),
            "accepted the request: the stop is undone",
        ),
        (stop_sentence(answer(ControlVerb.STOP, taken=False, refused="loose.")), "refused the request: loose."),
        (kill_sentence(answer(ControlVerb.KILL, open=("A",))), "kept with their stops: A"),
        (
            kill_sentence(answer(ControlVerb.KILL, open=("A",), unprotected=("A",), cancelling=("A",))),
            "Positions are kept: A. The cancel of the stop order was requested and not confirmed",
        ),
        (kill_sentence(answer(ControlVerb.KILL_FLATTEN, open=("A",))), "Positions are being closed: A."),
        (
            kill_sentence(answer(ControlVerb.KILL_CLEAR, state="halted", causes=("the file control/kill exists",))),
            (
                "`tbot kill` is cleared, but the state stays halted: the file control/kill exists. `rm control/kill` "
                "ends it."
            ),
        ),
        (
            kill_sentence(answer(ControlVerb.KILL_CLEAR)),
            "accepted the request: the kill is cleared",
        ),
        (
            kill_sentence(answer(ControlVerb.KILL_CLEAR, needless=True)),
            "There was no kill to clear; the state is normal.",
        ),
        (
            stop_sentence(answer(ControlVerb.STOP_CANCEL, needless=True, state="exit-only")),
            "There was no stop to undo; the state is exit-only.",
        ),
        (
            defense_sentence(answer(ControlVerb.DEFENSE_ON, state="defense", causes=("tbot defense on",))),
            "defense: tbot defense on",
        ),
        (
            defense_sentence(answer(ControlVerb.DEFENSE_OFF, state="defense", causes=("DEFENSE_MODE_ACTIVE",))),
            "DEFENSE_MODE_ACTIVE",
        ),
        (defense_sentence(answer(ControlVerb.DEFENSE_OFF)), "The state is normal."),
        (
            defense_sentence(RequestResult(verb=ControlVerb.DEFENSE_OFF, process=None)),
            "No bot is running; `tbot defense on` is cleared from the next start.",
        ),
        (defense_sentence(answer(ControlVerb.DEFENSE_OFF, taken=False)), "has not recorded the request"),
    ],
)
def test_each_answer_is_one_sentence(said: str, words: str) -> None:
    """What was asked for, what it has come to, and what stands in its way."""
    assert words in said


def test_defense_stays_while_the_setting_stands(home: Path) -> None:
    """DEFENSE_MODE_ACTIVE is named as the cause, read from the run's own journal."""
    settings = home / ".env_bot"
    settings.write_text(settings.read_text() + "DEFENSE_MODE_ACTIVE=true\n")
    clock = ManualClock(MORNING)
    plan = RunPlan(
        assembly=assemble(home, "paper", clock), request=FeedRequest(kind="live"), wall=clock, once=True, watch_s=10.0
    )
    results: list[RequestResult] = []

    def minute(_session: TradingSession, index: int) -> None:
        if index == 3:
            results.append(
                control_requests.request_result(plan.assembly.settings.instance, ControlVerb.DEFENSE_OFF, "none", 7)
            )
            plan.stop.set()

    asyncio.run(run(plan, RunWatcher(on_minute=minute)))
    assert [(one.state, one.causes) for one in results] == [("defense", ("DEFENSE_MODE_ACTIVE",))]


def traded(home: Path) -> tuple[bool, list[Event]]:
    """One session: whether it was stopped, and what the journal holds of requests."""
    clock = ManualClock(MORNING)
    plan = RunPlan(
        assembly=assemble(home, "paper", clock), request=FeedRequest(kind="live"), wall=clock, once=True, watch_s=10.0
    )
    stopped = asyncio.run(run(plan, RunWatcher())).stopped
    journal = read_journal(home / "data" / "tbot.sqlite")
    found = [event for event in journal.events() if event.kind in {records.REQUEST, records.REQUEST_REFUSED}]
    journal.close()
    return stopped, found


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f111_a_permit_of_another_user_is_refused_in_the_journal(home: Path) -> None:
    """What somebody else dropped takes no kill back, and stands in the journal with the reason."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    name = control.write_request(home / "control", ControlVerb.KILL_CLEAR, actor="eve", now=MORNING)
    os.chown(home / "control" / name, 12345, 12345)
    stopped, (refused,) = traded(home)
    assert not stopped
    assert (refused.kind, "another user" in refused.payload["words"]) == (records.REQUEST_REFUSED, True)


@pytest.mark.first(1)
@pytest.mark.parametrize("foreign", [False, True])
def test_a_stop_is_obeyed_whatever_the_folder_and_said(home: Path, *, foreign: bool) -> None:
    """A folder that anybody may write to, or that is another user's, stops the bot; the journal has what is odd."""
    if foreign and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    folder = home / "control"
    control.write_request(folder, ControlVerb.STOP, actor="ann", now=MORNING)
    folder.chmod(0o777)
    if foreign:
        os.chown(folder, 12345, 12345)
    stopped, (taken,) = traded(home)
    assert (stopped, taken.kind, list(folder.iterdir())) == (True, records.REQUEST, [])
    words = "its folder belongs to another user" if foreign else "other users may replace files in its folder"
    assert taken.payload["flaw"] == words
    (line,) = EventNarrator().lines_for([NewEvent(kind=taken.kind, payload=taken.payload, time=MORNING)])
    assert line.text.endswith(f"(invalid file content: {words})")


def test_status_says_that_others_may_use_the_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anybody asks for anything: attention, exit 1, as long as it is so."""
    control.prepare_folder(home / "control")
    assert not any("others may" in one for one in asked(capsys, home, "status", code=0)["attention"])
    (home / "control").chmod(0o777)
    assert any("other users may enter its folder" in one for one in asked(capsys, home, "status", code=1)["attention"])


def test_a_request_that_blocks_trading_at_the_next_start_needs_attention(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stop after a cancel waits, a cancel after a stop leaves nothing; a kill is not withdrawn by it."""
    for words in (("stop", "--cancel"), ("kill",), ("stop",)):
        cli.invoke([*words, "--home", str(home)])
    capsys.readouterr()
    shown = asked(capsys, home, "status", code=1)["attention"]
    assert "Requested, takes effect at the next start: kill, stop." in shown
    cli.invoke(["stop", "--cancel", "--home", str(home)])
    capsys.readouterr()
    assert "Requested, takes effect at the next start: kill." in asked(capsys, home, "status", code=1)["attention"]


def test_only_the_requests_that_will_be_in_effect_are_listed(home: Path) -> None:
    """The last arming and the last stop count, and the same request twice is one."""
    for number, word in enumerate(("arm", "disarm", "kill", "stop-flatten", "kill", "stop-keep", "arm")):
        made = MORNING + dt.timedelta(seconds=number)
        control.write_request(home / "control", ControlVerb(word), actor="ann", now=made)
    seen = control.read_folder(home / "control")
    assert folder_warnings(seen, running=False) == ["Requested, takes effect at the next start: kill, stop-keep, arm."]


def checked(capsys: pytest.CaptureFixture[str], home: Path) -> list[tuple[str, str]]:
    """The rows of `tbot check` about requests."""
    cli.invoke(["check", "--home", str(home), "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    return [(row["level"], row["message"]) for row in rows if row["subject"] == "requests"]


def test_check_judges_the_folder_of_requests(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """None and an empty one are good, a kill is warned of, and one that others may enter fails."""
    good = [("ok", "No request blocks trading.")]
    assert checked(capsys, home) == good
    control.prepare_folder(home / "control")
    assert checked(capsys, home) == good
    (home / "control" / "kill").touch()
    assert checked(capsys, home) == [("warn", "control/kill exists: remove it to trade.")]
    (home / "control" / "kill").unlink()
    (home / "control").chmod(0o755)
    ((level, words),) = checked(capsys, home)
    assert (level, "other users may enter" in words or "mode" in words) == ("fail", True)


def test_a_folder_that_cannot_be_read_is_reported(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status names what is wrong instead of failing."""
    (home / "control").write_text("a file")
    assert any("Not a directory" in one for one in asked(capsys, home, "status", code=1)["attention"])


def risk(what: str, cause: str) -> dict[str, str]:
    """What the journal says of a limit."""
    return {"what": what, "cause": cause, "value": "1", "limit": "1"}


HALF = risk("defense", "half of DAILY_LOSS_LIMIT used")
LOST = risk("daily loss latch", "DAILY_LOSS_LIMIT reached")


def test_causes_of_the_session_are_shown_with_those_of_the_operator(home: Path) -> None:
    """Half of the daily loss is defense, the whole of it leaves exits only, a kill is graver than both."""
    book = SessionBook(in_session=True, session={"state": "normal"}, risk=[HALF])
    half = risk_status(home / "control", [], book, running=False)
    assert (half.state, half.causes, half.latched) == ("defense", (HALF["cause"],), False)
    book.risk.append(LOST)
    latched = risk_status(home / "control", [], book, running=False)
    assert (latched.state, latched.causes, latched.latched) == ("exit-only", (LOST["cause"], HALF["cause"]), True)
    killed = {"cause": "KILL_COMMAND", "there": True, "state": "halted", "words": ""}
    event = Event(
        seq=1, kind=records.STATE, cid=None, source=None, payload=killed, received=MORNING, applied=MORNING, hash=""
    )
    whole = risk_status(home / "control", [event], book, running=False)
    assert (whole.state, whole.causes) == ("halted", ("tbot kill", LOST["cause"], HALF["cause"]))
    assert not risk_status(home / "control", [], attrs.evolve(book, in_session=False), running=False).latched
    control.write_request(home / "control", ControlVerb.KILL_CLEAR, actor="ann", now=MORNING)
    assert risk_status(home / "control", [event], book, running=False).state == "exit-only"
    assert risk_status(home / "control", [event], book, running=True).state == "halted"


def test_a_setting_keeps_defense_after_a_kill_at_the_bell(home: Path) -> None:
    """The state in which the session was opened does not outlast its cause."""
    run = {"settings": {"DEFENSE_MODE_ACTIVE": "true"}}
    found = risk_status(
        home / "control", [], SessionBook(in_session=True, session={"state": "halted"}, run=run), running=False
    )
    assert (found.state, found.causes) == ("defense", ("DEFENSE_MODE_ACTIVE",))


def test_a_setting_keeps_defense_while_a_bot_waits_for_the_bell(home: Path) -> None:
    """Who takes defense back before the session learns what stands; a loss of the session before has ended with it."""
    run = {"settings": {"DEFENSE_MODE_ACTIVE": "true"}}
    book = SessionBook(in_session=False, run=run, risk=[LOST])
    found = risk_status(home / "control", [], book, running=True)
    assert (found.state, found.causes, found.latched) == ("defense", ("DEFENSE_MODE_ACTIVE",), False)


def test_a_run_that_is_over_keeps_no_defense(home: Path) -> None:
    """The next start goes by the settings as they are then."""
    run = {"settings": {"DEFENSE_MODE_ACTIVE": "true"}}
    found = risk_status(home / "control", [], SessionBook(in_session=False, run=run), running=False)
    assert (found.state, found.causes) == ("normal", ())


@pytest.mark.parametrize(
    ("causes", "stays"),
    [
        (("DEFENSE_MODE_ACTIVE",), True),
        (("DAILY_LOSS_LIMIT reached", "half of DAILY_LOSS_LIMIT used"), True),
        (("tbot kill", "the primary broker is down"), True),
        (("tbot kill",), False),
        ((), False),
    ],
)
def test_defense_off_checks_the_causes_of_defense_alone(causes: tuple[str, ...], *, stays: bool) -> None:
    """Also where the state is graver; what is no cause of defense is none of its business."""
    assert keeps_defense(causes) is stays
