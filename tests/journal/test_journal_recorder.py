"""The recorder stamps events, writes them down, and tells of them when they are durable."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.journal import records
from tbot_core.journal.events.risk import ArmingKept, Disarmed
from tbot_core.journal.recorder import JournalRecorder
from tbot_core.journal.store import Journal, NewEvent, open_journal
from tbot_core.model.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NOW = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)


@attrs.define(eq=False)
class Bench:
    """A recorder, its journal, and what was told of."""

    journal: Journal
    told: list[list[str]] = attrs.field(factory=list)
    recorder: JournalRecorder = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Listen to the recorder."""
        self.recorder = JournalRecorder(journal=self.journal, clock=ManualClock(NOW), on_events=self._tell)

    @property
    def written(self) -> list[str]:
        """The kinds of the journal's events."""
        return [event.kind for event in self.journal.events()]

    def _tell(self, entries: Sequence[NewEvent]) -> None:
        assert self.written[-len(entries) :] == [one.kind for one in entries]
        self.told.append([one.kind for one in entries])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An empty journal."""
    with closing(open_journal(tmp_path / "run.sqlite")) as journal:
        yield Bench(journal)


def test_an_event_is_told_of_once_it_is_written(bench: Bench) -> None:
    """With the moment of the recorder's clock."""
    bench.recorder.record(Disarmed(why="a person"))
    (event,) = bench.journal.events()
    assert (event.kind, event.payload, event.applied) == (records.DISARMED, {"why": "a person"}, NOW)
    assert bench.told == [[records.DISARMED]]


def test_nobody_needs_to_listen(bench: Bench) -> None:
    """A recorder without a listener writes all the same."""
    JournalRecorder(journal=bench.journal, clock=ManualClock(NOW)).record(Disarmed(why=""))
    assert bench.written == [records.DISARMED]


def test_a_transaction_is_written_as_a_whole(bench: Bench) -> None:
    """Also what another recorder of the same journal writes meanwhile, which was made of this one."""
    other = attrs.evolve(bench.recorder, broker="beta")
    with bench.recorder.transaction():
        bench.recorder.record(Disarmed(why=""))
        other.record(ArmingKept(restarts=1))
        assert (bench.written, bench.told) == ([], [])
    assert bench.told == [[records.DISARMED, records.ARMING_KEPT]]
    assert [event.payload for event in bench.journal.events()] == [{"why": ""}, {"restarts": 1, "broker": "beta"}]


def test_a_transaction_that_fails_writes_nothing(bench: Bench) -> None:
    """What comes after it is written as ever."""

    def fail() -> None:
        with bench.recorder.transaction():
            bench.recorder.record(Disarmed(why=""))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (bench.written, bench.told) == ([], [])
    bench.recorder.record(ArmingKept(restarts=1))
    assert bench.told == [[records.ARMING_KEPT]]
