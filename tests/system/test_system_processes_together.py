"""Programs that run at once: every line of each arrives, and none is left behind."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import environ, processes

if TYPE_CHECKING:
    from pathlib import Path

SAYS = "import sys; [print(sys.argv[1], number, flush=True) for number in range(3)]"
WAITS = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
DEAF = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {WAITS}"


def said(*commands: tuple[str, ...]) -> list[bytes]:
    """All lines of these pieces of code, each with its arguments."""
    with processes.run_together(
        [(sys.executable, "-c", *command) for command in commands], environment=environ.minimal_environment()
    ) as lines:
        return list(lines)


def test_every_line_of_each_arrives_in_its_order() -> None:
    """Two that speak at once: nothing is lost, torn or mixed up."""
    lines = said((SAYS, "one"), (SAYS, "two"))
    assert [line for line in lines if line.startswith(b"one")] == [b"one 0", b"one 1", b"one 2"]
    assert [line for line in lines if line.startswith(b"two")] == [b"two 0", b"two 1", b"two 2"]
    assert len(lines) == 6


def test_a_line_that_comes_in_parts_is_one_line() -> None:
    """A line longer than what is read at once is put together."""
    assert said(("print('x' * 200_000)",)) == [b"x" * 200_000]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(3)", "ended with 3"),
        ("import os; os.kill(os.getpid(), 9)", "ended with -9"),
        ("import os, signal; os.close(1); signal.pause()", "still runs, and prints nothing more"),
        ("print('x' * 3_000_000)", "a line without an end"),
    ],
)
def test_one_that_fails_is_said(monkeypatch: pytest.MonkeyPatch, code: str, words: str) -> None:
    """How it ended, after the lines that arrived."""
    monkeypatch.setattr(processes, "_LAST_S", 0.3 if "still" in words else 10.0)
    with pytest.raises(AccessError, match=words):
        said((code,))


@pytest.mark.slow
@pytest.mark.parametrize("code", [WAITS, DEAF])
def test_leaving_early_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Programs that would run on are interrupted, and killed when they do not mind."""
    monkeypatch.setattr(processes, "_LAST_S", 0.3 if code is DEAF else 10.0)
    with processes.run_together(
        [(sys.executable, "-W", "ignore", "-c", code)], environment=environ.minimal_environment()
    ) as lines:
        child = int(next(lines))
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_one_that_is_not_there_ends_the_others(tmp_path: Path) -> None:
    """A sentence names it, and what had been started has ended."""
    path = tmp_path / "child"
    code = f"import os, pathlib; pathlib.Path({str(path)!r}).write_text(str(os.getpid())); {WAITS}"
    commands = [(sys.executable, "-c", code), ("/no/such",)]
    with pytest.raises(AccessError, match="Cannot start /no/such"), processes.run_together(commands, environment={}):
        raise AssertionError("it cannot begin")
    if path.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)
