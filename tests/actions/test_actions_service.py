"""The service in real processes: a bot that is killed comes back, one that a person stopped does not."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.actions import service as actions
from tbot_core.actions import supervisor
from tbot_core.actions.service import ServiceHost, service_status, start_service, status_lines, stop_service
from tbot_core.actions.supervisor import Supervisor
from tbot_core.errors import AccessError, SettingsError, UsageError
from tbot_core.instance import Instance
from tbot_core.instance.folder import SIMULATION
from tbot_core.journal import records
from tbot_core.journal.events.sessions import RunStopped
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.clock import SystemClock
from tbot_core.status import service
from tbot_core.system import environ, filesystem, signals
from tbot_core.vault import key_providers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT_S = 30.0
SESSION = {
    "date": "2026-11-23",
    "open": "2026-11-23T14:30:00+00:00",
    "close": "2026-11-23T21:00:00+00:00",
    "minutes": 390,
    "symbols": 3,
    "equity": "100005.19",
    "account": "1",
    "windows": {},
}
WAITS = "import signal; print('there', flush=True); signal.pause()"
FAILS = "import sys; print('tbot: Something is wrong.\\x1b[2J\\n      Correct it.', flush=True); sys.exit({code})"
TRADES = """
import sys, threading
from pathlib import Path
from tbot_core.system import filesystem, signals
home = Path(sys.argv[2].removeprefix("--home="))
with filesystem.hold_lock(home / "data" / "tbot.lock", folder=home), signals.received_signals(15) as wait:
    while not wait(60):
        pass
"""
STOPS = """
import datetime as dt, sys
from pathlib import Path
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.system import signals
with signals.received_signals(15) as wait:
    journal = open_journal(Path(sys.argv[2].removeprefix("--home=")) / "data" / "tbot.sqlite")
    print("there", flush=True)
    while {waits} and not wait(60):
        pass
    left = {{"open": ["AAPL"], "unconfirmed": ""}}
    journal.append([NewEvent(kind=records.STOPPED, payload=left, time=dt.datetime.now(dt.UTC))])
    journal.close()
sys.exit(1)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An instance; what still runs in it at the end is killed."""
    place = tmp_path / "bot"
    place.mkdir()
    (place / ".env_bot").write_text("BROKER_NAME=PAPER\n")
    yield place
    state = service.read_state(Instance.at(place))
    for process in () if state is None else (state.supervisor, state.bot):
        if process not in {None, os.getpid()}:
            with suppress(ProcessLookupError):
                kill(process)


def host(code: str, steady_s: float = 0.0) -> ServiceHost:
    """A bot that is this program of Python, on a machine without systemd."""
    return ServiceHost(program=(sys.executable, "-c", code), systemctl="no-such-systemctl", steady_s=steady_s)


def until(what: Callable[[], object]) -> None:
    """Wait until something holds."""
    ends = time.monotonic() + TIMEOUT_S
    while not what():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)


def state_of(home: Path) -> service.ServiceState:
    """The recorded state."""
    found = service.read_state(Instance.at(home))
    assert found is not None
    return found


def kill(process: int | None) -> None:
    """End a process as `kill -9` does."""
    assert process is not None
    os.kill(process, signal.SIGKILL)


def test_a_killed_bot_is_back(home: Path) -> None:
    """After a second, under the same supervisor; the status has the restart and the signal, and a stop ends both."""
    it, said = host(WAITS), list[str]()
    assert start_service(home, actor="anna", host=it, notice=said.append).code == 0
    assert said == [f"Starting the bot; waiting until it has run for {it.steady_s:g} s, at most 20 s."]
    before, output = state_of(home), service.output_path(Instance.at(home))
    until(lambda: service.last_lines(output) == ["there"])
    kill(before.bot)
    until(lambda: state_of(home).bot not in {None, before.bot})
    until(lambda: service.last_lines(output) == ["there"] * 2)
    found = service_status(home, it)
    assert found is not None
    assert (found["running"], found["restarts"], found["exit"]["signal"]) == (True, 1, "SIGKILL")
    assert (found["supervisor_process"], found["actor"]) == (before.supervisor, "anna")
    assert "1 restart, last exit by SIGKILL" in status_lines(found)[0]
    stopped = stop_service(home, "ben", host=it)
    assert (stopped.changed, stopped.code) == (True, 0)
    after = service_status(home, it)
    assert after is not None
    assert (after["running"], after["wanted"], after["process"], after["actor"]) == (False, False, None, "ben")
    assert not service.runs_own(Instance.at(home))


@pytest.mark.parametrize("code", [2, 3, 5])
@pytest.mark.first(1)
def test_a_bot_that_a_restart_cannot_help_stays_down(home: Path, code: int) -> None:
    """After wrong usage, settings or a refusal: start and status say why, in the bot's own words, without escapes."""
    change = start_service(home, host=host(FAILS.format(code=code), 5))
    assert change.code == 1
    found = service_status(home)
    assert found is not None
    assert (found["failed"], found["exit"]["code"], found["restarts"]) == (True, code, 0)
    assert found["down"].endswith("does not change: tbot: Something is wrong. [2J")
    assert not stop_service(home).changed
    assert not state_of(home).wanted


def test_two_starts_at_once_are_one_service(home: Path) -> None:
    """The other caller reads that it runs already; so is a later one."""
    it, changes = host(WAITS), []
    callers = [threading.Thread(target=lambda: changes.append(start_service(home, host=it))) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(TIMEOUT_S)
    assert sorted(change.changed for change in changes) == [False, True]
    before = state_of(home)
    again = start_service(home, host=it)
    assert (again.changed, again.code, state_of(home)) == (False, 0, before)
    stop_service(home, host=it)


def test_a_stop_in_the_pause_before_a_restart_ends_it(home: Path) -> None:
    """Nothing is started any more."""
    it = host(FAILS.format(code=1))
    start_service(home, host=it)
    until(lambda: state_of(home).exit is not None)
    assert stop_service(home, host=it).code == 0
    assert (state_of(home).wanted, state_of(home).bot) == (False, None)


def test_a_bot_outlives_its_supervisor_and_gets_the_next(home: Path) -> None:
    """Status says that the supervisor is dead, the next start doubles no bot, a stop ends an orphan."""
    it, instance = host(TRADES), Instance.at(home)
    start_service(home, host=it)
    until(lambda: filesystem.locker(home) is not None)
    before = state_of(home)
    kill(before.supervisor)
    until(lambda: not service.runs_own(instance))
    found = service_status(home, it)
    assert found is not None
    assert (found["failed"], found["process"]) == (True, before.bot)
    assert f"process {before.bot} trades on without one" in found["down"]
    change = start_service(home, host=it)
    assert (change.changed, change.code, state_of(home).bot) == (True, 0, before.bot)
    kill(state_of(home).supervisor)
    until(lambda: not service.runs_own(instance))
    assert stop_service(home, host=it).changed
    assert instance.lock_holder is None


@pytest.mark.slow
@pytest.mark.first(0)
def test_a_supervisor_ends_the_bot_that_it_has_found(home: Path) -> None:
    """As one that it has started."""
    it, instance = host(TRADES), Instance.at(home)
    start_service(home, host=it)
    until(lambda: filesystem.locker(home) is not None)
    kill(state_of(home).supervisor)
    until(lambda: not service.runs_own(instance))
    start_service(home, host=it)
    assert stop_service(home, host=it).changed
    assert instance.lock_holder is None
    assert not service.runs_own(instance)


def test_a_bot_that_was_started_by_hand_is_left_alone(home: Path) -> None:
    """No second one is started, and a stop of the service does not end it."""
    it, command = host(TRADES), (sys.executable, "-c", TRADES, "run", f"--home={home}")
    (home / "data").mkdir()
    with subprocess.Popen(command, env=environ.minimal_environment()) as bot:
        until(lambda: filesystem.locker(home) is not None)
        started, stopped = start_service(home, host=it), stop_service(home, host=it)
        assert bot.poll() is None
        bot.terminate()
    assert (started.changed, started.code) == (False, 1)
    assert str(bot.pid) in started.sentences[0]
    assert (stopped.changed, stopped.code) == (False, 1)
    assert service.read_state(Instance.at(home)) is None


def test_a_stop_says_what_stays_open(home: Path) -> None:
    """As the bot has recorded it: exit 1."""
    it = host(STOPS.format(waits=True))
    start_service(home, host=it)
    until(lambda: service.last_lines(service.output_path(Instance.at(home))) == ["there"])
    change = stop_service(home, host=it)
    assert (change.code, change.open) == (1, ("AAPL",))
    assert "AAPL" in change.sentences[0]


@pytest.mark.parametrize("trades", [True, False], ids=["session", "idle"])
def test_a_service_that_is_stopped_without_a_record_says_what_may_be_open(home: Path, *, trades: bool) -> None:
    """In a session its books may be out of date: exit 1. A bot that ends before it has traded leaves nothing open."""
    (home / "data").mkdir()
    journal = open_journal(Instance.at(home).journal)
    kind, payload = (records.SESSION_OPENED, SESSION) if trades else (records.READY, {})
    journal.append([NewEvent(kind=kind, payload=payload, time=SystemClock().now())])
    journal.close()
    it = host(WAITS)
    start_service(home, host=it)
    change = stop_service(home, host=it)
    assert (change.code, bool(change.unconfirmed)) == (int(trades), trades)
    assert change.sentences[0].startswith("No bot was trading.")


def test_a_stop_that_takes_long_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each second while it waits, and at last that the bot is still being stopped: exit 1."""
    it, notices = host(WAITS.replace("print", "signal.signal(15, signal.SIG_IGN); print")), list[str]()
    start_service(home, host=it)
    until(lambda: service.last_lines(service.output_path(Instance.at(home))) == ["there"])
    monkeypatch.setattr(actions, "STOP_S", 1.1)
    change = stop_service(home, notice=notices.append, host=it)
    assert (change.changed, change.code) == (True, 1)
    assert "is still being stopped" in change.sentences[0]
    assert notices == ["The bot is being stopped by STOP_POLICY, for 1 s now."]


@pytest.mark.parametrize(
    ("command", "asked", "restarts"),
    [((sys.executable, "-S", "-c", WAITS), 1, 0), (("false",), 3, 0)],
    ids=["trading", "paused"],
)
def test_sigterm_ends_bot_and_supervisor(home: Path, command: tuple[str, ...], asked: int, restarts: int) -> None:
    """While the bot trades, and in the pause before a restart."""
    waits = iter(range(1, 1000))

    def wait(seconds: float) -> bool:
        time.sleep(min(seconds, 0.05))
        return next(waits) >= asked

    state = supervised(home, *command, wait=wait)
    assert (state.wanted, state.bot, state.restarts) == (False, None, restarts)


def test_a_simulation_is_not_stopped(home: Path) -> None:
    """A supervisor waits for a replay that holds the instance; its own stop does not end that."""
    (home / "data").mkdir()
    with filesystem.hold_lock(Instance.at(home).lock, SIMULATION, folder=home):
        state = supervised(home, "false", wait=lambda _seconds: True)
    assert (state.wanted, state.exit and state.exit["code"]) == (False, None)


def supervised(home: Path, *command: str, wait: Callable[[float], bool] | None = None) -> service.ServiceState:
    """The state after a supervisor in this process has given up, with restarts at once or after a second."""
    instance = Instance.at(home)
    filesystem.make_folder(instance.logs)
    filesystem.make_folder(instance.data)
    with signals.received_signals(signal.SIGCHLD) as received:
        Supervisor(
            instance=instance,
            command=command,
            wait=wait or (lambda seconds: bool(received(seconds)) and False),
            clock=SystemClock(),
            pauses=(1.0 if wait else 0.0,),
        ).run()
    return state_of(home)


def test_five_failed_starts_in_ten_minutes_are_enough(home: Path) -> None:
    """It stays down, and says so."""
    state = supervised(home, sys.executable, "-S", "-c", FAILS.format(code=1))
    assert (state.wanted, state.restarts, state.exit["code"] if state.exit else None) == (True, 4, 1)
    assert state.down.startswith("5 starts failed within 10 minutes; the last exit was 1 at ")


@pytest.mark.parametrize("command", [("true",), (sys.executable, "-c", STOPS.format(waits=False), "run", "--home={}")])
def test_a_bot_that_a_person_stopped_is_not_started_again(home: Path, command: tuple[str, ...]) -> None:
    """It ended with 0, or has recorded its stop, also where that left something open."""
    state = supervised(home, *(word.format(home) if word.startswith("--home") else word for word in command))
    assert (state.wanted, state.restarts) == (False, 0)
    assert state.down.startswith("The bot was stopped")


def test_a_bot_that_cannot_be_started_is_said(home: Path) -> None:
    """By the state, where the supervisor's own output is."""
    with pytest.raises(AccessError, match="Cannot start no-such-program"):
        supervised(home, "no-such-program")
    assert state_of(home).down.startswith("Cannot start no-such-program")


def test_the_output_of_the_bot_is_bounded(home: Path) -> None:
    """Of a longer file the last lines stay, whole, and the bot goes on behind them."""
    path = home / "service.out"
    filesystem.keep_end(path, 100)  # of no file: nothing
    with path.open("ab", buffering=0) as bot:
        bot.write(b"".join(b"line %05d\n" % number for number in range(10)))
        filesystem.keep_end(path, 110)
        assert len(path.read_bytes()) == 110
        filesystem.keep_end(path, 100)
        bot.write(b"more\n")
    assert path.read_bytes() == b"".join(b"line %05d\n" % number for number in range(6, 10)) + b"more\n"


def test_a_damaged_state_is_none(home: Path) -> None:
    """The next start writes it anew."""
    folder = home / "data" / "service"
    folder.mkdir(parents=True)
    for text in ("", "[1]", '{"wanted": 1, "other": 2}'):
        (folder / "state.json").write_text(text)
        assert service.read_state(Instance.at(home)) is None
        assert service_status(home) is None
    assert status_lines(None) == ["No service was ever started here; `tbot service start` starts it."]


def test_a_stop_that_an_earlier_run_recorded_does_not_count(home: Path) -> None:
    """Only one behind the head at the start does."""
    instance = Instance.at(home)
    assert service.journal_head(instance) == 0
    (home / "data").mkdir()
    journal = open_journal(instance.journal)
    left = {"open": [], "unconfirmed": ""}
    journal.append([NewEvent(kind=records.STOPPED, payload=left, time=SystemClock().now())])
    journal.close()
    assert service.journal_head(instance) == 1
    assert service.stop_after(instance, 0) == RunStopped(open=())
    assert service.stop_after(instance, 1) is None


def test_a_passphrase_cannot_be_typed_under_a_service(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start says so, and starts nothing."""
    monkeypatch.setenv(key_providers.VARIABLE, "passphrase")
    with pytest.raises(SettingsError, match="cannot start unattended"):
        start_service(home)
    assert service_status(home) is None


SYSTEMCTL = """\
#!/bin/sh
echo "$@" >> {folder}/asked
case "$*" in
*show-environment*) exit {there} ;;
*enable*) echo active > {folder}/active; exit {enables} ;;
*stop*) rm -f {folder}/active ;;
*show*)
    echo NRestarts=2; echo ExecMainCode=2; echo ExecMainStatus=9; echo ExecMainExitTimestamp=@1700000000
    if [ -e {folder}/active ]; then echo ActiveState=active; echo MainPID=4242
    else echo ActiveState=failed; echo MainPID=0; echo Result=exit-code; fi ;;
esac
"""


@pytest.fixture
def systemd(tmp_path: Path) -> Callable[..., ServiceHost]:
    """A machine with a user manager that does what it is asked, and writes it down."""

    def made(*, enables: int = 0) -> ServiceHost:
        tools = {"systemctl": SYSTEMCTL.format(folder=tmp_path, there=0, enables=enables), "journalctl": JOURNALCTL}
        for name, text in tools.items():
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o700)
        return ServiceHost(systemctl=str(tmp_path / "systemctl"), journalctl=str(tmp_path / "journalctl"), steady_s=0)

    return made


JOURNALCTL = "#!/bin/sh\nprintf 'first\\033[2J\\nlast\\n'\n"


def test_a_systemd_user_unit_is_enabled_by_a_link(
    home: Path, tmp_path: Path, systemd: Callable[..., ServiceHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit lies in the instance; a stop unlinks it before it ends it; the status is systemd's."""
    it, name = systemd(), actions.unit_name(Instance.at(home))
    monkeypatch.setattr(actions, "LINGER", tmp_path)
    change = start_service(home, ["--symbols=SPY"], "anna", it)
    assert (change.changed, change.code) == (True, 0)
    assert any(f"loginctl enable-linger {environ.user_name()}" in words for words in change.sentences)
    unit = home / "data" / "service" / name
    assert f'"--home={home}" "--symbols=SPY"' in unit.read_text()
    assert stat_mode(unit) == 0o600
    asked = (tmp_path / "asked").read_text().splitlines()
    assert f"--user --no-block enable --now {unit}" in asked
    found = service_status(home, it)
    assert found is not None
    assert (found["supervisor"], found["process"], found["restarts"]) == (f"systemd user unit {name}", 4242, 2)
    assert found["exit"] == {"code": None, "signal": "SIGKILL", "time": "2023-11-14T22:13:20+00:00"}
    assert found["output"] == ["first [2J", "last"]
    assert not start_service(home, host=it).changed
    stopped = stop_service(home, host=it)
    assert (stopped.changed, stopped.code) == (True, 0)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked.index(f"--user disable {name}") < asked.index(f"--user --no-block stop {name}")
    assert service_status(home, it)["failed"] is False  # type: ignore[index]  # it was started


def test_a_unit_that_has_failed_says_so(home: Path, tmp_path: Path, systemd: Callable[..., ServiceHost]) -> None:
    """As systemd does; one that is not enabled is an error, and the service is not wanted then."""
    it = systemd()
    start_service(home, host=it)
    (tmp_path / "active").unlink()
    found = service_status(home, it)
    assert found is not None
    assert (found["failed"], found["process"]) == (True, None)
    assert found["down"].endswith(" is failed: exit-code.")
    with pytest.raises(AccessError, match="does not start"):
        start_service(home, host=systemd(enables=1))
    assert not state_of(home).wanted


def stat_mode(path: Path) -> int:
    """The permissions of a file."""
    return path.stat().st_mode & 0o777


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", ["bot", 'a b%h$x"y\\z'])
def test_systemd_accepts_the_unit(tmp_path: Path, name: str) -> None:
    """Whatever the name of the folder, which is a word of the command as it is."""
    home = tmp_path / name
    home.mkdir()
    instance = Instance.at(home)
    path = tmp_path / actions.unit_name(instance)
    path.write_text(actions.unit_text(instance, (*actions.PROGRAM, "run", f"--home={home}"), {"TBOT_HOME": str(home)}))
    environment = environ.minimal_environment() | {"XDG_RUNTIME_DIR": str(tmp_path)}
    command = ("systemd-analyze", "verify", "--user", "--man=no", str(path))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_unit_has_no_line_break(tmp_path: Path) -> None:
    """A folder with one would add lines to the unit."""
    with pytest.raises(UsageError, match="control characters"):
        actions.unit_text(Instance.at(tmp_path / "a\nUser=root"), (), {})


@pytest.mark.parametrize(
    ("cause", "minutes", "there", "may_start"),
    [
        ("STOP_COMMAND", 1, True, False),
        ("STOP_FILE", 1, True, False),
        ("STOP_SIGNAL", 1, True, True),
        ("STOP_COMMAND", -1, True, True),
        ("STOP_COMMAND", 1, False, True),
        ("", 1, True, True),
    ],
)
def test_systemd_starts_no_bot_again_that_a_person_stopped(
    home: Path, cause: str, minutes: int, *, there: bool, may_start: bool
) -> None:
    """Though it left positions open and so ended with 1; one that the machine ended at its restart is started."""
    instance, since = Instance.at(home), dt.datetime(2026, 11, 23, 15, 0, tzinfo=dt.UTC)
    service.write_state(instance, service.ServiceState(wanted=True, actor="anna", since=since.isoformat(), unit="x"))
    at = since + dt.timedelta(minutes=minutes)
    with closing(open_journal(instance.journal)) as journal:
        asked = {"cause": cause, "there": there, "state": "exit-only", "words": "a stop"}
        events: list[tuple[str, dict[str, Any]]] = [(records.STATE, asked)] if cause else []
        for kind, payload in (*events, (records.STOPPED, {"open": ["AAPL"], "unconfirmed": ""})):
            journal.append([NewEvent(kind=kind, payload=payload, time=at)])
    with pytest.raises(SystemExit) as ended:
        supervisor.main([supervisor.CONDITION, str(home)])
    assert ended.value.code == int(not may_start)
    found = service_status(home, ServiceHost(systemctl="no-such-systemctl"))
    assert found is not None
    assert (found["wanted"], found["failed"], found["down"] == "The bot was stopped.") == (
        may_start,
        may_start,
        not may_start,
    )
