"""The spawn, environment and chance seams."""

from __future__ import annotations

import fcntl
import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import environ, processes, random, signals
from tbot_core.testing.canaries import canary, shows

if TYPE_CHECKING:
    from pathlib import Path


def child(code: str, timeout_s: float = 30) -> processes.ProcessResult:
    """Run a line of Python with the minimal environment."""
    return processes.run_program(
        [sys.executable, "-c", code], timeout_s=timeout_s, environment=environ.minimal_environment()
    )


def test_a_child_gives_its_code_and_both_streams() -> None:
    """`run` returns what the child said and how it ended."""
    done = child("import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)")
    assert done == processes.ProcessResult(code=7, output="out\n", errors="err\n", timed_out=False)


@pytest.mark.slow
def test_a_child_that_never_ends_is_killed() -> None:
    """After its time a child is gone, and the result says so."""
    done = child("print('begun', flush=True)\nwhile True: pass", timeout_s=1)
    assert done.timed_out
    assert done.code == -9
    assert done.output == "begun\n"


def test_a_child_that_closes_its_streams_is_still_waited_for() -> None:
    """Closed streams do not count as an end, nor keep `run` from seeing one."""
    close = "import os; os.close(1); os.close(2);"
    assert child(f"{close} os._exit(3)").code == 3
    assert child(f"{close}\nwhile True: pass", timeout_s=0.5).timed_out


def test_a_flood_of_output_is_cut_and_never_blocks() -> None:
    """The first megabyte is kept, the rest is dropped, the child comes to its end."""
    done = child("import sys; sys.stdout.write('x' * 3_000_000)")
    assert done.code == 0
    assert len(done.output) == processes.OUTPUT_BYTES


def test_a_grandchild_that_keeps_the_streams_does_not_hold_us_up() -> None:
    """What a child leaves behind is killed with it."""
    done = child("import os, signal\nif os.fork() == 0:\n    signal.pause()\nprint('done', flush=True)\nos._exit(0)")
    assert (done.code, done.output, done.timed_out) == (0, "done\n", False)


def test_a_program_that_is_not_there_is_named() -> None:
    """A program that cannot be started is an AccessError."""
    with pytest.raises(AccessError, match="Cannot start no-such-program"):
        processes.run_program(["no-such-program"], timeout_s=1, environment={})


def test_only_our_own_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """`variable` answers for TBOT_ names alone, and None when unset."""
    monkeypatch.setenv("TBOT_HOME", "here")
    monkeypatch.delenv("TBOT_OTHER", raising=False)
    assert environ.variable("TBOT_HOME") == "here"
    assert environ.variable("TBOT_OTHER") is None
    with pytest.raises(ValueError, match="not HOME"):
        environ.variable("HOME")


def test_a_child_inherits_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`minimal` passes on a short list of names and nothing else."""
    monkeypatch.setenv("APCA_API_SECRET_KEY", canary("environment"))
    monkeypatch.setenv("TZ", "UTC")
    assert environ.minimal_environment()["TZ"] == "UTC"
    assert not shows(repr(environ.minimal_environment()))
    assert not shows(child("import os; print(dict(os.environ))").output)


def test_chance_names_differ_and_seeds_repeat() -> None:
    """A token has the length asked for and is new each time; a generator repeats its numbers."""
    assert len(random.token(13)) == 13
    assert random.token(26) != random.token(26)
    assert random.generator(7).random() == random.generator(7).random()
    assert random.generator(7).random() != random.generator(8).random()


def test_a_parent_is_killed_and_waited_for_until_it_is_gone() -> None:
    """It is killed once, and the answer comes when somebody else has become the parent."""
    killed: list[tuple[int, int]] = []
    parents = iter((7, 7, 7, 1, 1, 1))
    assert processes.end_parent(7, lambda: next(parents), lambda *asked: killed.append(asked))
    assert killed == [(7, signal.SIGKILL)]


def test_another_parent_is_left_alone() -> None:
    """A number that is no longer our parent's may be anybody's."""
    killed: list[tuple[int, int]] = []
    assert processes.end_parent(7, lambda: 1, lambda *asked: killed.append(asked))
    assert killed == []


def test_an_exclusive_program_holds_its_lock_until_it_ends(tmp_path: Path) -> None:
    """A second one is not started meanwhile; the streams go to new files; an absent program is an AccessError."""
    lock, output, errors = (tmp_path / name for name in ("lock", "output", "errors"))
    output.write_text("of an earlier program")

    prepared = []

    def start(*args: str) -> int | None:
        streams, environment = (output, errors), environ.minimal_environment()
        return processes.start_exclusive(
            args, environment=environment, lock=lock, streams=streams, prepare=lambda: prepared.append(args)
        )

    assert not processes.runs_exclusively(lock)
    process = start(sys.executable, "-c", "import signal; print('there', flush=True); signal.pause()")
    assert process is not None
    assert start(sys.executable, "-c", "") is None
    assert len(prepared) == 1
    assert processes.runs_exclusively(lock)
    processes.end_group(process)
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # waits for its end
    assert output.read_text() in {"", "there\n"}
    assert not processes.runs_exclusively(lock)
    processes.end_group(process)  # of one that has ended: nothing
    with pytest.raises(AccessError, match="Cannot start no-such-program"):
        start("no-such-program")


def test_a_detached_program_is_asked_to_end(tmp_path: Path) -> None:
    """By a signal that a background start does not ignore; one that has ended already needs nothing."""
    command = (sys.executable, "-c", "import signal; signal.pause()")
    process = processes.start_detached(command, environment=environ.minimal_environment(), output=tmp_path / "out")
    (waits,) = [one for one in threading.enumerate() if one.name == f"end of {process}"]
    assert processes.is_running(process)
    processes.end_program(process)
    waits.join(10)
    assert not waits.is_alive()
    assert not processes.is_running(process)
    processes.end_program(process)


def test_two_that_ask_at_once_see_no_program(tmp_path: Path) -> None:
    """A process that asks whether a program holds its lock is not taken for that program by another that asks."""
    lock = tmp_path / "lock"
    lock.touch()
    with lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert not processes.runs_exclusively(lock)
        fcntl.flock(other, fcntl.LOCK_EX)
        assert processes.runs_exclusively(lock)


def test_a_signal_has_its_name() -> None:
    """Its number where it has none."""
    assert (processes.signal_name(9), processes.signal_name(99)) == ("SIGKILL", "signal 99")


def test_received_signals_are_waited_for() -> None:
    """Each that came since the last wait, none after the time; the handlers of before are back then."""
    before = signal.getsignal(signal.SIGUSR1)
    with signals.received_signals(signal.SIGUSR1, signal.SIGUSR2) as wait:
        assert wait(0) == frozenset()
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR2)
        assert wait(1) == {signal.SIGUSR1, signal.SIGUSR2}
        assert wait(0) == frozenset()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_manager_is_asked_with_the_address_of_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what each child gets, and nothing else of the environment."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    monkeypatch.setenv("SOMETHING_ELSE", "x")
    found = environ.manager_environment()
    assert found["XDG_RUNTIME_DIR"] == "/run/user/1"
    assert "SOMETHING_ELSE" not in found


def test_the_end_of_an_exclusive_program_is_reported_to_who_prepared_it(tmp_path: Path) -> None:
    """By what the preparation returned."""
    ended = threading.Event()
    processes.start_exclusive(
        [sys.executable, "-c", ""],
        environment=environ.minimal_environment(),
        lock=tmp_path / "lock",
        streams=(tmp_path / "output", tmp_path / "errors"),
        prepare=lambda: ended.set,
    )
    assert ended.wait(60)
