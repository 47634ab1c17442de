"""Runs in processes of their own: interrupted, killed, doubled, and resumed by the same command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.journal.store import read_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TBOT = (sys.executable, "-c", "import sys; from tbot_core.__main__ import main; sys.exit(main())")
SLOW = ("--speed", "3000")


def arguments(home: Path, *more: str) -> list[str]:
    """The command of a demo of two sessions."""
    return [*TBOT, "run", "--demo", "--sessions", "2", "--home", str(home), *more]


def document(home: Path, **environment: str) -> bytes:
    """The JSON of a run to its end."""
    done = subprocess.run(
        arguments(home, "--json"), capture_output=True, check=True, timeout=60, env=os.environ | environment
    )
    return done.stdout


class Child:
    """A slow demo, and the lines that it prints."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            arguments(home, *SLOW), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def until(self, words: str) -> None:
        """Read its lines until one holds the words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if words in line:
                return
        pytest.fail(f"the run ended without saying {words!r}: {self.process.communicate()}")

    def end(self, number: int) -> tuple[int, str]:
        """Send the signal; its exit code, and what else it printed."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out + err


@pytest.fixture
def child(
    tmp_path: Path,
    signals_enabled: None,  # noqa: ARG001  -- wanted for its effect
    trials: Callable[[Path], None],
) -> Iterator[Child]:
    """A demo that has just had its first fill."""
    trials(tmp_path / "home")
    found = Child(tmp_path / "home")
    found.until("  [OPEN] ")
    yield found
    if found.process.poll() is None:
        found.process.kill()
    found.process.communicate()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, trials: Callable[[Path], None]) -> bytes:
    """The JSON of the same demo, run without interruption, without its report's path."""
    home = tmp_path_factory.mktemp("undisturbed")
    trials(home)
    return _without_report(document(home))


def _without_report(text: bytes) -> bytes:
    return b"\n".join(line for line in text.splitlines() if b'"report"' not in line)


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_stops_in_order_and_the_same_command_resumes(
    child: Child, tmp_path: Path, undisturbed: bytes, number: int
) -> None:
    """Ctrl-C, SIGTERM and SIGHUP exit 130 with a whole journal, and the resumed run says what it would have."""
    code, said = child.end(number)
    assert code == 130
    assert "the same command resumes" in said
    assert "Traceback" not in said
    assert cli.invoke(["audit", "verify", "--home", str(tmp_path / "home")]) == 0
    assert _without_report(document(tmp_path / "home")) == undisturbed


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f84_a_killed_run_resumes_to_the_same_result(child: Child, tmp_path: Path, undisturbed: bytes) -> None:
    """SIGKILL at any time loses nothing: the journal's chain holds, and the same command ends with the same JSON."""
    child.end(signal.SIGKILL)
    assert cli.invoke(["audit", "verify", "--home", str(tmp_path / "home")]) == 0
    assert _without_report(document(tmp_path / "home")) == undisturbed
    (file,) = (tmp_path / "home" / "data" / "runs").glob("*.sqlite")
    journal = read_journal(file)
    assert [event.kind for event in journal.events()].count("run_started") == 1
    journal.close()


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f83_a_second_instance_names_the_first(
    child: Child, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While one run holds the instance, another exits 1 and names its process; status shows it running."""
    home = str(tmp_path / "home")
    assert cli.invoke(["run", "--demo", "--home", home]) == 1
    assert f"process {child.process.pid}" in capsys.readouterr().err
    cli.invoke(["status", "--home", home])
    assert f"running, process {child.process.pid}" in capsys.readouterr().out
    assert cli.invoke(["kill", "--home", home]) == 1
    assert f"Process {child.process.pid} runs a simulation here, which accepts no requests" in capsys.readouterr().err
    assert not (tmp_path / "home" / "control").exists()


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_hash_seeds_change_no_byte(tmp_path: Path, trials: Callable[[Path], None]) -> None:
    """Under two PYTHONHASHSEEDs the same command writes the same bytes."""
    trials(tmp_path)
    one = document(tmp_path, PYTHONHASHSEED="1")
    assert document(tmp_path, PYTHONHASHSEED="4242") == one
