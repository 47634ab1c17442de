"""Entries that wait for a person on paper: confirmed they are judged anew, else they are not sent."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import FeedRequest
from tbot_core.engine import control
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.journal import records
from tbot_core.journal.projections import approvals
from tbot_core.journal.store import Event, NewEvent, read_journal
from tbot_core.model.calendar import EarlyClose, ExchangeCalendar
from tbot_core.model.clock import ManualClock
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop, run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession

MORNING = dt.datetime(2026, 11, 24, 13, 30, tzinfo=dt.UTC)
CALENDAR = ExchangeCalendar(overrides={MORNING.date(): EarlyClose(close=dt.time(11, 30))})
"""A session of two hours."""


class Person:
    """Paper trading that asks, and somebody who answers what waits after each minute by `verb`, as far as `picks`."""

    def __init__(
        self, home: Path, verb: ControlVerb | None, picks: Callable[[int], bool] = lambda _number: True
    ) -> None:
        self.home = home
        self.verb = verb
        self.picks = picks
        self.answered: list[str] = []
        self.extra: dict[int, ControlVerb] = {}
        self.loop = VirtualLoop()
        self.clock = LoopClock(self.loop, MORNING)
        self.plan = self.planned()

    def planned(self) -> RunPlan:
        """A plan of one session."""
        assembly = attrs.evolve(assemble(self.home, "paper", self.clock), calendar=CALENDAR)
        request = FeedRequest(kind="live", calendar=CALENDAR)
        return RunPlan(assembly=assembly, request=request, wall=self.clock, once=True, watch_s=5.0)

    def trade(self, wrote: Callable[[Sequence[NewEvent]], None] = lambda _entries: None) -> RunOutcome:
        """Trade one session."""
        watcher = RunWatcher(on_minute=self._minute, on_events=wrote)
        return run_virtual(lambda: run(self.plan, watcher), self.loop)

    def _minute(self, _session: TradingSession, index: int) -> None:
        if index in self.extra:
            control.write_request(self.home / "control", self.extra.pop(index), actor="ann", now=self.clock.now())
        for one in approvals.recall_confirmations(self.events).open_entries(self.clock.now()):
            name = one["id"]
            if name not in self.answered:
                self.answered.append(name)
                if self.verb is not None and self.picks(len(self.answered)):
                    made = self.clock.now() + dt.timedelta(microseconds=len(self.answered))
                    control.write_request(
                        self.home / "control", self.verb, actor="ann", now=made, arguments={"id": name}
                    )

    @property
    def events(self) -> list[Event]:
        """What the journal holds."""
        journal = read_journal(self.home / "data" / "tbot.sqlite")
        found = list(journal.events())
        journal.close()
        return found

    def of(self, kind: str) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if event.kind == kind]

    @property
    def reasons(self) -> dict[str, str]:
        """What became of the signals that were asked about, by their ids."""
        return {
            name: payload["reason"] for name, payload in approvals.recall_confirmations(self.events).decided.items()
        }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance whose entries wait for a person, and whose orders bear the same ids wherever it lies."""
    return asking(tmp_path)


def asking(folder: Path) -> Path:
    """Make such an instance in a folder."""
    create_demo_instance(folder)
    settings = folder / ".env_bot"
    settings.write_text(f"{settings.read_text()}TRADE_CONFIRMATION_REQUIRED=true\n")
    (folder / "data").mkdir()
    (folder / "data" / "install.id").write_text("one\n")
    return folder


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_confirmed_entry_is_judged_anew_and_sent(home: Path) -> None:
    """In the minute in which it was confirmed, without being too late; exits do not wait."""
    person = Person(home, ControlVerb.CONFIRM)
    outcome = person.trade()
    assert len(outcome.summary.trades) >= 2
    assert outcome.open == ()
    assert "ALLOWED" in person.reasons.values()
    assert "SIGNAL_TOO_LATE" not in person.reasons.values()
    asked = {str(event.payload["signal"]): event for event in person.of(records.CONFIRMATION_ASKED)}
    allowed = [event for event in person.of(records.DECISION) if event.payload["reason"] == "ALLOWED"]
    assert {event.cid for event in allowed} >= {
        event.cid for event in person.of(records.INTENDED) if event.payload["leg"] == "entry"
    }
    for event in allowed:
        assert asked[str(event.payload["signal"])].seq < event.seq
        assert event.payload["confirmed"] >= event.payload["signal"]["minute"]
        assert event.payload["words"] == "confirmed by ann"
        assert Decimal(event.payload["sizing"]["quantity"]) <= Decimal(
            asked[str(event.payload["signal"])].payload["quantity"]
        )


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_what_nobody_confirms_expires(home: Path) -> None:
    """Nothing is entered, and each entry that waited ends in its reason."""
    person = Person(home, None)
    assert person.trade().summary.trades == ()
    assert len(person.reasons) == len(person.of(records.CONFIRMATION_ASKED)) >= 2
    assert set(person.reasons.values()) == {"CONFIRMATION_EXPIRED"}


@pytest.mark.slow
@pytest.mark.first(0)  # what expires is entered as little: above
def test_what_a_person_rejects_is_not_sent(home: Path) -> None:
    """The decision says who."""
    person = Person(home, ControlVerb.REJECT)
    assert person.trade().summary.trades == ()
    assert set(person.reasons.values()) == {"CONFIRMATION_REJECTED"}
    words = {payload["words"] for payload in approvals.recall_confirmations(person.events).decided.values()}
    assert words == {"rejected by ann"}


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_confirmed_entry_passes_the_whole_gate_again(home: Path) -> None:
    """Killed between the question and the answer: confirmed it is denied."""
    person = Person(home, ControlVerb.CONFIRM)
    person.extra = {20: ControlVerb.KILL}
    person.picks = lambda _number: True
    assert person.trade().summary.trades == ()
    assert set(person.reasons.values()) <= {"HALTED", "CONFIRMATION_EXPIRED"}


def test_a_simulation_asks_nobody(home: Path) -> None:
    """In a replay or a demo entries count as approved at once."""
    assembly = assemble(home, "demo", ManualClock(MORNING))
    assert assembly.settings.entries.trade_confirmation_required
    rules = assembly.rules(assembly.broker().capabilities)
    assert not rules.entries.trade_confirmation_required
