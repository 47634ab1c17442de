"""Locks and sessions against a model, over any order of attempts, waits, restarts, reboots and changed clocks."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tbot_extension_web.access.login_store import Attempt, LockRule, LoginStore, NewSession

from tbot_core.model.clock import ManualClock

LIMIT, SPAN_S = 3, 900.0
START = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)
RULE = LockRule(limit=LIMIT, span_s=SPAN_S)
NAMES, SOURCES = st.sampled_from(["alice", "bob"]), st.sampled_from(["", "north", "south"])


class TwoClocks(ManualClock):
    """Wall and monotonic time that part."""

    def __init__(self) -> None:
        super().__init__(START)
        self.offset, self.booted_s = dt.timedelta(), 0.0

    def now(self) -> dt.datetime:
        """The wall time."""
        return super().now() + self.offset

    def monotonic(self) -> float:
        """Seconds since the boot."""
        return super().monotonic() - self.booted_s


class LockMachine(RuleBasedStateMachine):
    """The store beside a model that counts by true time; a reboot with a changed clock moves what it knows."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock, self.boot, self.step = TwoClocks(), 1, 100
        self.failures: dict[str, tuple[int, float]] = {}
        self.sessions: set[str] = set()
        self.made = 0

    @property
    def true_s(self) -> float:
        """True time."""
        return ManualClock.monotonic(self.clock)

    @initialize()
    def open(self) -> None:
        """Open the store."""
        self.store = LoginStore(Path(self.folder.name) / "web.sqlite", self.clock, f"boot {self.boot}")

    @rule(name=NAMES, source=SOURCES, right=st.booleans(), with_code=st.booleans())
    def attempt(self, name: str, source: str, *, right: bool, with_code: bool) -> None:
        """Try a login, with a new one-time password or without."""
        self.failures = {it: found for it, found in self.failures.items() if self.true_s - found[1] < SPAN_S}
        self.step += 1
        step = (name, self.step) if with_code and right else None
        result = self.store.attempts.record(Attempt(name=name, source=source, right=right, step=step), RULE)
        locked = {it for it in (name, source) if it and self.failures.get(it, (0, 0.0))[0] >= LIMIT}
        assert result.accepted == (right and not locked)
        if result.accepted:
            self.failures.pop(name, None)
            assert not self.store.attempts.spend((name, self.step)) or not with_code
        elif not right:
            for it in {name, source} - locked - {""} - ({name} if source in locked else set()):
                self.failures[it] = (self.failures.get(it, (0, 0.0))[0] + 1, self.true_s)

    @rule(seconds=st.integers(1, 1000))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(days=st.integers(-900, 900))
    def set_clock(self, days: int) -> None:
        """Set the wall clock; an administrator sets it back before long."""
        self.clock.offset = dt.timedelta(days=days)

    @rule()
    def restart(self) -> None:
        """Start the process again."""
        self.store.close()
        self.open()

    @rule()
    def reboot(self) -> None:
        """Boot the machine with a right clock, at once."""
        self.clock.offset = dt.timedelta()
        if self.wall_was_right():
            self.clock.booted_s = self.true_s
            self.boot += 1
            self.sessions.clear()
        self.restart()

    def wall_was_right(self) -> bool:
        """Whether all failures were stored by a right clock: only then a reboot knows exactly how old they are."""
        rows = self.store.rows("SELECT wall, monotonic FROM attempts")
        now, monotonic = self.clock.now().timestamp(), self.clock.monotonic()
        return all(abs((now - wall) - (monotonic - at)) < 0.001 for wall, at in rows)

    @rule(name=NAMES)
    def unlock(self, name: str) -> None:
        """Forget a name's failures."""
        self.store.attempts.unlock(name)
        self.failures.pop(name, None)

    @rule(user=NAMES)
    def log_in(self, user: str) -> None:
        """Begin a session."""
        self.made += 1
        token = f"{user} {self.made}"
        self.store.sessions.add(token, NewSession(user=user, stamp="s", source="", agent=""))
        self.sessions.add(token)

    @rule(user=NAMES)
    def end_all(self, user: str) -> None:
        """End a user's sessions."""
        self.store.sessions.end_all(user)
        self.sessions = {it for it in self.sessions if not it.startswith(user)}

    @invariant()
    def locks_and_sessions_are_those_of_the_model(self) -> None:
        """At each moment the store locks whom the model locks, for as long, and has its sessions."""
        if not hasattr(self, "store"):
            return
        for it in ("alice", "bob", "north", "south"):
            count, last = self.failures.get(it, (0, 0.0))
            left = last + SPAN_S - self.true_s if count >= LIMIT else 0.0
            found = self.store.attempts.lock_ends_s(it, RULE)
            assert found == pytest.approx(left, abs=0.01) if left > 0 else found is None
        assert {it for it in self.sessions if self.store.sessions.find(it) is not None} == self.sessions
        assert len(self.store.sessions.of_user()) == len(self.sessions)

    def teardown(self) -> None:
        """Close and remove the store."""
        if hasattr(self, "store"):
            self.store.close()
        self.folder.cleanup()


def test_locks_and_sessions_follow_the_model() -> None:
    """Whatever order of events: the store agrees with a model that counts by true time."""
    from hypothesis.stateful import run_state_machine_as_test

    run: Any = run_state_machine_as_test
    run(LockMachine, settings=settings(max_examples=10, stateful_step_count=30))
