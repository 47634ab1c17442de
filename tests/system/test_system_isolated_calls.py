"""What only shows or reports a run: its failures stay with it."""

from __future__ import annotations

import time

import pytest

from tbot_core.system import log
from tbot_core.system.isolated_calls import FAILURES, WITHIN_S, IsolatedCalls


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The present second."""
        return self.now


def fail() -> None:
    """Fail as a display may."""
    raise KeyError("an order")


def test_a_failure_is_named_in_the_log_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """The name and the line that failed are in the log, and the caller goes on."""
    log.configure("info", "json", None)
    IsolatedCalls(Clock()).call("display", fail)
    log.close()
    logged = capsys.readouterr().err
    assert "observer.failed" in logged
    assert "display" in logged
    assert "in fail" in logged
    assert "KeyError: 'an order'" in logged


def test_an_exit_by_a_display_is_a_failure_too() -> None:
    """SystemExit ends no run; an interruption by the operator does."""

    def leave() -> None:
        raise SystemExit(3)

    def interrupt() -> None:
        raise KeyboardInterrupt

    class Panic(BaseException):
        """A panic of a native library."""

    def panic() -> None:
        raise Panic

    IsolatedCalls(Clock()).call("display", leave)
    IsolatedCalls(Clock()).call("display", panic)
    with pytest.raises(KeyboardInterrupt):
        IsolatedCalls(Clock()).call("display", interrupt)


def test_three_failures_in_ten_minutes_disable_one_name() -> None:
    """The name is reported once with its last failure and called no more; other names are called as before."""
    clock, reported, done = Clock(), list[tuple[str, BaseException]](), list[int]()
    calls = IsolatedCalls(clock, lambda name, fault: reported.append((name, fault)))
    for _ in range(FAILURES):
        assert not reported
        calls.call("display", fail)
        clock.now += WITHIN_S / 2
    calls.call("display", lambda: done.append(1))
    calls.call("gauges", lambda: done.append(2))
    assert [(name, type(fault)) for name, fault in reported] == [("display", KeyError)]
    assert done == [2]


def test_failures_far_apart_disable_nothing() -> None:
    """Three failures in more than ten minutes leave the name enabled."""
    clock, reported = Clock(), list[str]()
    calls = IsolatedCalls(clock, lambda name, _fault: reported.append(name))
    for _ in range(2 * FAILURES):
        calls.call("display", fail)
        clock.now += WITHIN_S / 2 + 1
    assert reported == []


def test_a_call_that_hangs_is_interrupted() -> None:
    """A display that blocks is a failure after its limit, and the caller goes on."""
    reported = list[BaseException]()
    calls = IsolatedCalls(Clock(), lambda _name, fault: reported.append(fault))

    def hang() -> None:
        while True:
            pass

    began = time.monotonic()
    for _ in range(FAILURES):
        calls.call("display", hang, 0.01)
    assert time.monotonic() - began < 5
    assert [type(fault).__name__ for fault in reported] == ["CallTimedOut"]
