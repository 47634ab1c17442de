"""A child that is asked and answers: everything passes, an end is reported, and limits are set for the child alone."""

from __future__ import annotations

import os
import resource
import sys

import pytest

from tbot_core.errors import AccessError
from tbot_core.system import environ, processes
from tbot_core.system.processes import WorkerProcess

ECHO = "import os\nwhile part := os.read(0, 65536): os.write(1, part)"


def test_what_is_said_comes_back_whole() -> None:
    """More than a pipe holds, in pieces, arrives in order."""
    partner = WorkerProcess((sys.executable, "-c", ECHO), environment=environ.minimal_environment())
    for data in (b"a", b"b" * 50_000, b""):
        partner.write(data)
        assert partner.read(len(data)) == data
    partner.end()


def test_an_end_is_reported_with_its_code() -> None:
    """Waiting for a child that has ended returns how it ended; so does sending to it."""
    partner = WorkerProcess((sys.executable, "-c", "raise SystemExit(5)"), environment=environ.minimal_environment())
    with pytest.raises(AccessError, match="ended with code 5"):
        partner.read(1)
    with pytest.raises(AccessError, match="ended with code 5"):
        partner.write(b"x" * 10_000_000)
    partner.end()


def test_a_program_that_is_not_there_is_said() -> None:
    """A sentence names it."""
    with pytest.raises(AccessError, match="Cannot start /no/such"):
        WorkerProcess(("/no/such",), environment={})


def test_what_is_printed_is_no_answer() -> None:
    """In the child, answers go where nothing else goes, and nothing more can be read from standard input."""
    kept = os.dup(0), os.dup(1), os.dup(2)
    asked, answered, printed = os.pipe(), os.pipe(), os.pipe()
    try:
        os.dup2(asked[0], 0)
        os.dup2(answered[1], 1)
        os.dup2(printed[1], 2)
        receive, say = processes.open_child_pipe()
        os.write(1, b"print")
        os.write(asked[1], b"question")
        question, nothing = receive(8), os.read(0, 8)
        say(b"answer")
    finally:
        for number, handle in enumerate(kept):
            os.dup2(handle, number)
            os.close(handle)
    assert (question, nothing) == (b"question", b"")
    assert (os.read(answered[0], 100), os.read(printed[0], 100)) == (b"answer", b"print")
    for handle in (*asked, *answered, *printed):
        os.close(handle)


@pytest.mark.parametrize(("hard", "expected"), [(resource.RLIM_INFINITY, None), (10, 10)])
def test_limits_are_never_raised(monkeypatch: pytest.MonkeyPatch, hard: int, expected: int | None) -> None:
    """Memory and files are limited to what the child may have, and to what it might have before."""
    found: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (0, hard))
    monkeypatch.setattr(resource, "setrlimit", found.__setitem__)
    hardened: list[str] = []
    processes.confine(lambda: hardened.append("yes"))
    assert hardened == ["yes"]
    for what, most in ((resource.RLIMIT_AS, processes.MEMORY_BYTES), (resource.RLIMIT_NOFILE, processes.FILES)):
        assert found[what] == (expected or most, expected or most)
