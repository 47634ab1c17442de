"""`tbot service`: exit codes and lines, and the real bot under tbot's own supervisor."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli
from tbot_core.actions import service as actions
from tbot_core.actions.audit import logged_accesses
from tbot_core.actions.service import stop_service
from tbot_core.instance import Instance
from tbot_core.status import service
from tbot_core.status.service import ServiceState
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SINCE = "2026-11-24T15:00:00+00:00"


TIMEOUT_S = 30.0


def until(what: Callable[[], bool], seconds: float) -> None:
    """Wait until something holds."""
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance that runs nothing."""
    (tmp_path / ".env_bot").write_text("BROKER_NAME=PAPER\n")
    return tmp_path


@pytest.fixture
def _no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a machine without a user manager.
    monkeypatch.setattr(actions.ServiceHost, "ask", lambda *_words: None)


@pytest.mark.parametrize("verb", ["start", "stop", "status"])
def test_where_there_is_no_instance_it_exits_with_3(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says so; nothing is written."""
    assert cli.invoke(["service", verb, "--home", str(tmp_path / "none")]) == 3
    assert "is not an instance" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_service_that_was_never_started_is_no_failure(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status and stop exit with 0; `tbot status` has no line of it."""
    assert cli.invoke(["service", "status", "--home", str(home)]) == 0
    assert "No service was ever started" in capsys.readouterr().out
    assert cli.invoke(["service", "status", "--home", str(home), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"running": False, "wanted": False, "failed": False}
    assert cli.invoke(["service", "stop", "--home", str(home)]) == 0
    assert "No service runs." in capsys.readouterr().out
    cli.invoke(["status", "--home", str(home)])
    assert "\nservice" not in capsys.readouterr().out


def test_a_service_that_is_down_although_it_is_wanted_exits_with_1(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the reason, the last exit and the last lines; `tbot status` has the reason in one line."""
    ended = {"code": 3, "signal": "", "time": SINCE}
    state = ServiceState(wanted=True, actor="anna", since=SINCE, exit=ended, down="The bot ended with 3.")
    service.write_state(Instance.at(home), state)
    (home / "logs").mkdir()
    service.output_path(Instance.at(home)).write_text("one\ntwo\x1b[2J\n")
    assert cli.invoke(["service", "status", "--home", str(home)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "The bot ended with 3.",
        "no bot runs now; started or stopped last by anna",
        "last exit: 3 at 2026-11-24 15:00:00 UTC",
        "  one",
        "  two [2J",
    ]
    cli.invoke(["status", "--home", str(home)])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("service")]
    assert line.endswith("  The bot ended with 3.")


def test_under_systemd_the_status_of_the_bot_asks_no_process(home: Path) -> None:
    """It shows the unit from the record; whether a bot runs says its lock."""
    service.write_state(Instance.at(home), ServiceState(wanted=True, actor="anna", since=SINCE, unit="tbot-x.service"))
    found = service.service_document(Instance.at(home))
    assert found is not None
    assert service.service_sentence(found) == "No bot runs; `systemctl --user status tbot-x.service` says why."


def test_a_run_beside_the_service_names_the_stop_of_the_service(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stop of the bot alone would not do: it comes back."""
    service.write_state(Instance.at(home), ServiceState(wanted=True, actor="anna", since=SINCE, unit="tbot-x.service"))
    with filesystem.hold_lock(Instance.at(home).lock):
        assert cli.invoke(["run", "--home", str(home)]) == 1
    said = capsys.readouterr().err
    assert "is in use by another tbot, process" in said
    assert "`tbot service stop` stops it" in said


@pytest.mark.slow
@pytest.mark.first(0)
@pytest.mark.usefixtures("_no_systemd")
def test_the_real_bot_is_kept_going(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
    distant_weekday: str,
) -> None:
    """It comes back after `kill -9` and ends in order by a stop; the audit log has who started and stopped it."""
    home = tmp_path / "bot"
    request.addfinalizer(lambda: stop_service(home))

    def shown(verb: str, code: int) -> dict[str, Any]:
        capsys.readouterr()
        assert cli.invoke(["service", verb, "--home", str(home), "--json"]) == code
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    assert cli.invoke(["init", "--paper", "--home", str(home)]) == 0
    assert cli.invoke(["config", "set", f"TRADING_DAYS={distant_weekday}", "--home", str(home)]) == 0
    first, output = shown("start", 0)["service"]["process"], service.output_path(Instance.at(home))
    until(lambda: "Waiting for the session" in output.read_text(), TIMEOUT_S)
    os.kill(first, signal.SIGKILL)
    until(lambda: Instance.at(home).lock_holder not in {None, first}, 10)
    until(lambda: output.read_text().count("Waiting for the session") > 1, TIMEOUT_S)
    assert shown("status", 0)["restarts"] == 1
    stopped = shown("stop", 0)
    assert (stopped["sentences"], stopped["open"]) == (["Stopped; nothing is open."], [])
    assert Instance.at(home).lock_holder is None
    entries, _ = logged_accesses(home, verify=True)
    assert [one.outcome for one in entries if one.category == "control"] == [
        "started the service",
        "stopped the service",
    ]
