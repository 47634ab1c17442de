"""A process that is forked from a bot never acts as the bot: it ends at once, and the bot goes on."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.system.forks import end_if_forked, without_forks

if TYPE_CHECKING:
    from pathlib import Path

CHILD = """
import ctypes, os, sys
from pathlib import Path
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.clock import SystemClock
from tbot_core.system import log
from tbot_core.system.forks import without_forks
from tbot_core.testing.trades import order

journal = open_journal(Path(sys.argv[2]) / "journal.sqlite")
now = SystemClock().now()
log.configure("info", "json", Path(sys.argv[2]), screen=True)
before = os.fork()
if not before:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(before, 0)[1]), flush=True)
with without_forks(), without_forks():
    parent, fork = os.getpid(), {"os": os.fork, "native": ctypes.CDLL(None).fork}[sys.argv[1]]
    child = fork()
    if os.getpid() != parent:
        print("it acts", flush=True)
        if sys.argv[3] == "journal":
            journal.append([NewEvent(kind="child", payload={}, time=now)])
        else:
            SendPermit(order(), never_refuse).redeem()
        print("it acted", flush=True)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    journal.append([NewEvent(kind="parent", payload={}, time=now)])
print([one.kind for one in journal.events()])
"""


@pytest.mark.parametrize(
    ("how", "door", "printed"),
    [
        ("os", "journal", ["7", "1", "['parent']"]),
        ("native", "journal", ["7", "it acts", "1", "['parent']"]),
        ("native", "order", ["7", "it acts", "1", "['parent']"]),
    ],
)
def test_f92_a_forked_process_ends_before_it_acts(tmp_path: Path, how: str, door: str, printed: list[str]) -> None:
    """Python's fork ends at once, one of native code before it books or sends; standard error and the log say so."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, how, str(tmp_path), door], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == printed
    assert done.stderr.count("A process that was forked from the bot was ended") == 1
    assert ("process.forked" in done.stderr) is (how == "os")
    assert ("<string>:20" in done.stderr) is (how == "os")


def test_f92_the_log_says_where_a_process_was_forked(caplog: pytest.LogCaptureFixture) -> None:
    """File and line of the call, in the process that goes on; without the guard nothing is said."""
    caplog.set_level(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the test has threads
        with without_forks():
            child = os.fork()
        other = os.fork() or os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 0
    found: list[Any] = [one.msg for one in caplog.records if one.name == "tbot_core.system.forks"]
    assert [one["where"].rpartition(":")[0] for one in found] == [__file__]


def test_f92_what_acts_in_a_forked_process_ends_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """At the latest when it is about to write or send; the bot itself and its spawned programs go on."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    end_if_forked()
    with without_forks():
        end_if_forked()
        assert ended == []
        monkeypatch.setattr(os, "getpid", lambda: -1)
        end_if_forked()
    assert ended == [1]
    assert "forked from the bot" in capfd.readouterr().err
