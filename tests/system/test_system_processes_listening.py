"""A child that receives lines: it reads them, may die, may never read, and always ends with its parent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import environ, processes, stalls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    Spoken: TypeAlias = Callable[[bytes | None], None]

READS_INPUT = """
import sys
from pathlib import Path
from tbot_core.system import processes
found = b""
while (said := processes.read_stdin(10.0)) != b"":
    found += said or b""
Path(sys.argv[1]).write_bytes(found)
"""


def listening(*args: str) -> tuple[str, ...]:
    """The command of a child that runs this."""
    return (sys.executable, "-c", *args)


def test_a_child_receives_what_is_sent_until_the_end(tmp_path: Path) -> None:
    """Everything arrives in order, and the child ends by itself once there is no more."""
    with processes.listening_process(
        listening(READS_INPUT, str(tmp_path / "heard")), environment=environ.minimal_environment()
    ) as send:
        assert [send(word) for word in (b"one ", b"two ", b"three")] == [True] * 3
    assert (tmp_path / "heard").read_bytes() == b"one two three"


def test_a_child_that_never_reads_delays_no_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not take in is lost; when it does not end either it is killed."""
    monkeypatch.setattr(processes, "_LAST_S", 0.1)
    with processes.listening_process(
        listening("import signal; signal.pause()"), environment=environ.minimal_environment()
    ) as send:
        assert all(send(b"x" * 65_536) for _ in range(10))


def test_sending_to_a_child_that_is_gone_reports_so() -> None:
    """Sending to a child that closed its input reports that there is no listener."""
    code = "import os; os.close(0)"
    with processes.listening_process(listening(code), environment=environ.minimal_environment()) as send:
        while send(b"."):
            pass
        assert not send(b".")


def test_a_program_that_is_not_there_is_said() -> None:
    """A sentence names it."""
    with (
        pytest.raises(AccessError, match="Cannot start /no/such"),
        processes.listening_process(("/no/such",), environment={}),
    ):
        raise AssertionError("it cannot begin")


def test_silence_is_distinguished_from_an_end(tmp_path: Path) -> None:
    """A reader without data in time gets a time-out, which is not that the other side is gone."""
    code = """
import sys
from pathlib import Path
from tbot_core.system import processes
part = Path(sys.argv[1]).with_suffix(".part")
part.write_text(repr(processes.read_stdin(0.01)))
part.rename(sys.argv[1])
"""
    with processes.listening_process(
        listening(code, str(tmp_path / "said")), environment=environ.minimal_environment()
    ) as send:
        while send(b"") and not (tmp_path / "said").exists():
            pass
    assert (tmp_path / "said").read_text() == "None"


def test_what_is_received_comes_from_standard_input(spoken: Spoken) -> None:
    """As much as has been said, then silence, which is not the end, and the end."""
    spoken(b"..")
    assert processes.read_stdin(0.0) == b".."
    assert processes.read_stdin(0.0) is None
    spoken(None)
    assert processes.read_stdin(0.0) == b""


def test_stacks_are_written_when_the_process_stalls(tmp_path: Path) -> None:
    """Files and lines of the process that stands still, and no value of any variable; in time, nothing."""
    code = """
import sys, pathlib
from tbot_core.system import stalls
def stands_still():
    secret = "canary-in-a-local"
    while b"in stands_still" not in path.read_bytes():
        pass
path = pathlib.Path(sys.argv[1])
with stalls.dump_stacks_if_stalled(path, 30.0) as rearm:
    rearm()
assert not path.stat().st_size
with stalls.dump_stacks_if_stalled(path, 0.05) as rearm:
    rearm()
    stands_still()
"""
    path = tmp_path / "stalled.txt"
    finished = processes.run_program(
        listening(code, str(path)), timeout_s=30.0, environment=environ.minimal_environment()
    )
    assert finished.code == 0, finished.errors
    text = path.read_text()
    assert "in stands_still" in text
    assert "canary-in-a-local" not in text
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_of_stacks_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """A folder that is not there is named."""
    with (
        pytest.raises(AccessError, match="Cannot open"),
        stalls.dump_stacks_if_stalled(tmp_path / "no" / "x", 1.0),
    ):
        raise AssertionError("it cannot begin")
