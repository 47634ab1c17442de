"""Requests that lie in the folder: what is obeyed, what is refused and said to be, and what becomes of their files."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.session.requests import RequestHandler
from tbot_core.execution.trading_state import TradingStateController, recall_states
from tbot_core.journal import records
from tbot_core.journal.store import Journal, JournalRecorder, NewEvent, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.model.types import RiskState

NOON = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)


class Bench:
    """Whoever obeys the requests of a folder, after what a journal holds."""

    def __init__(self, journal: Journal, folder: Path) -> None:
        self.journal, self.folder = journal, folder
        recorder = JournalRecorder(journal=journal, clock=ManualClock(NOON))
        past = tuple(journal.events())
        self.conditions = TradingStateController(recorder, self._impose, recall_states(past))
        self.requests = RequestHandler(recorder, self.conditions, past)

    def _impose(self, _state: RiskState) -> None:
        # Nobody trades here.
        pass

    @property
    def flattening(self) -> bool:
        """Whether all positions are to be closed."""
        return self.requests.flattening

    def ask(self, verb: ControlVerb, *, order: int = 0, ahead: timedelta = timedelta()) -> Path:
        """Somebody drops a request in this order, with a clock that is so far ahead of noon; its file."""
        made = NOON + ahead
        return self.folder / control.write_request(self.folder, verb, actor="ann", now=made, order=order)

    def look(self) -> None:
        """Obey what lies there."""
        self.requests.poll(self.folder)

    @property
    def refusals(self) -> list[str]:
        """The words with which requests were refused."""
        return [event.payload["words"] for event in self.journal.events(kind=records.REQUEST_REFUSED)]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as found:
        yield found


@pytest.fixture
def bench(journal: Journal, tmp_path: Path) -> Bench:
    """Nothing was asked yet."""
    return Bench(journal, tmp_path / "control")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_kill_that_could_not_be_read_is_obeyed_once_it_can(bench: Bench, *, restarted: bool) -> None:
    """Its file is not taken away without effect, whoever looks at it then."""
    path = bench.ask(ControlVerb.KILL)
    whole = path.read_bytes()
    path.write_bytes(b"")
    bench.look()
    bench.look()
    assert (len(bench.refusals), bench.conditions.causes, path.exists()) == (1, (), True)
    path.write_bytes(whole)
    bench = Bench(bench.journal, bench.folder) if restarted else bench
    bench.look()
    assert (bench.conditions.causes, path.exists()) == ((StateCause.KILL_COMMAND,), False)


def test_a_permit_that_was_refused_stays_refused(bench: Bench) -> None:
    """A mode that is set right later does not give what was denied: it has to be asked for again."""
    bench.conditions.raise_cause(StateCause.KILL_COMMAND)
    path = bench.ask(ControlVerb.KILL_CLEAR)
    path.chmod(0o666)
    bench.look()
    path.chmod(0o600)
    bench.look()
    assert (bench.conditions.causes, path.exists(), len(bench.refusals)) == ((StateCause.KILL_COMMAND,), False, 1)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("ahead", [timedelta(), timedelta(days=1), timedelta(days=-1)], ids=str)
@pytest.mark.parametrize(
    ("done", "undone", "cause"),
    [
        (ControlVerb.KILL_FLATTEN, ControlVerb.KILL_CLEAR, StateCause.KILL_COMMAND),
        (ControlVerb.STOP, ControlVerb.STOP_CANCEL, StateCause.STOP_COMMAND),
        (ControlVerb.DEFENSE_ON, ControlVerb.DEFENSE_OFF, StateCause.DEFENSE_COMMAND),
    ],
)
def test_a_permit_that_was_made_before_does_not_undo_what_came_later(
    bench: Bench, done: ControlVerb, undone: ControlVerb, cause: StateCause, ahead: timedelta, *, restarted: bool
) -> None:
    """A copy of an old request under another name is refused, also after a restart; a new one is not.

    What counts is what stood when it was made, not the clock, which may have been set by a day since.
    """
    bench.ask(done, order=5, ahead=-ahead)
    bench.look()
    again = Bench(bench.journal, bench.folder) if restarted else bench
    again.requests.restore(tuple(bench.journal.events()), flattens=False)
    old = bench.ask(undone, order=4, ahead=ahead)
    again.look()
    assert (again.conditions.causes, old.exists()) == ((cause,), False)
    assert again.refusals == [f"it was made before the {done.value} that it would undo."]
    assert again.flattening is (done is ControlVerb.KILL_FLATTEN)
    bench.ask(undone, order=6, ahead=-2 * ahead)
    again.look()
    assert (again.conditions.causes, again.flattening) == ((), False)


WITHDRAWN = [
    (ControlVerb.KILL, ControlVerb.KILL_CLEAR),
    (ControlVerb.KILL_FLATTEN, ControlVerb.KILL_CLEAR),
    (ControlVerb.STOP_KEEP, ControlVerb.STOP_CANCEL),
    (ControlVerb.DEFENSE_ON, ControlVerb.DEFENSE_OFF),
]


@pytest.mark.parametrize(("done", "undone"), WITHDRAWN)
def test_what_was_withdrawn_before_a_start_changes_nothing(
    bench: Bench, done: ControlVerb, undone: ControlVerb
) -> None:
    """Both requests are recorded, the first with what withdrew it; no state is raised, also after a restart."""
    path, later = bench.ask(done, order=1, ahead=timedelta(days=1)), bench.ask(undone, order=2)
    bench.look()
    told = [event.payload for event in bench.journal.events()]
    assert [(one["verb"], one.get("withdrawn")) for one in told] == [(done.value, later.name), (undone.value, None)]
    again = Bench(bench.journal, bench.folder)
    again.requests.restore(tuple(bench.journal.events())[:1], flattens=False)
    for one in (bench, again):
        assert (one.conditions.causes, one.flattening, one.requests.keeps_positions) == ((), False, False)
    assert (path.exists(), later.exists()) == (False, False)


@pytest.mark.parametrize("flaw", ["made before", "open to others"])
def test_a_kill_stands_where_its_clearing_does_not_count(bench: Bench, flaw: str) -> None:
    """It is raised, and the clearing refused; a kill after a clearing stands too."""
    bench.ask(ControlVerb.KILL, order=2)
    clearing = bench.ask(ControlVerb.KILL_CLEAR, order=1 if flaw == "made before" else 3)
    if flaw == "open to others":
        clearing.chmod(0o666)
    bench.look()
    assert bench.conditions.causes == (StateCause.KILL_COMMAND,)


def test_a_clearing_that_was_executed_withdraws_no_later_kill(bench: Bench) -> None:
    """Its file may still be there: only what is executed now counts."""
    first = bench.ask(ControlVerb.KILL_CLEAR, order=5)
    whole = first.read_bytes()
    bench.look()
    first.write_bytes(whole)
    first.chmod(0o600)
    bench.ask(ControlVerb.KILL, order=4)
    bench.look()
    assert bench.conditions.causes == (StateCause.KILL_COMMAND,)


def test_a_request_is_obeyed_once(bench: Bench) -> None:
    """Also where its file could not be taken away before a restart."""
    path = bench.ask(ControlVerb.KILL)
    whole = path.read_bytes()
    bench.look()
    bench.conditions.clear_cause(StateCause.KILL_COMMAND)
    path.write_bytes(whole)
    path.chmod(0o600)
    again = Bench(bench.journal, bench.folder)
    again.look()
    assert (again.conditions.causes, path.exists()) == ((), False)


def test_a_crash_never_parts_a_request_from_what_comes_of_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are one transaction: a restart obeys what was not written, and nothing is written and not obeyed."""
    path = bench.ask(ControlVerb.KILL)
    appended: list[list[str]] = []

    def die(entries: Sequence[NewEvent]) -> None:
        appended.append([entry.kind for entry in entries])
        raise ZeroDivisionError

    monkeypatch.setattr(bench.journal, "append", die)
    with pytest.raises(ZeroDivisionError):
        bench.look()
    monkeypatch.undo()
    assert appended == [[records.REQUEST, records.STATE]]
    again = Bench(bench.journal, bench.folder)
    again.look()
    assert (again.conditions.causes, path.exists()) == ((StateCause.KILL_COMMAND,), False)


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (ControlVerb.FAILOVER_CONFIRM, "Nothing to confirm"),
        (ControlVerb.ARM, "Only live trading can be armed"),
        (ControlVerb.DISARM, "Only live trading can be armed"),
        (ControlVerb.CONFIRM, "This session does not support confirm"),
    ],
)
def test_what_nobody_here_can_obey_is_refused(bench: Bench, verb: ControlVerb, words: str) -> None:
    """The reason is reported, in the journal too; no success is reported."""
    bench.ask(verb)
    bench.look()
    assert [words in one for one in bench.refusals] == [True]


def test_a_stop_that_keeps_positions_is_forgotten_once_it_is_taken_back(bench: Bench) -> None:
    """The file `stop` that comes later is a stop that manages what is held, also after a restart."""
    for verb in (ControlVerb.STOP_KEEP, ControlVerb.STOP_CANCEL):
        bench.ask(verb)
        bench.look()
    (bench.folder / "stop").touch()
    bench.look()
    again = Bench(bench.journal, bench.folder)
    again.requests.restore(tuple(bench.journal.events()), flattens=False)
    assert [(one.requests.is_stopping, one.requests.keeps_positions) for one in (bench, again)] == [(True, False)] * 2


@pytest.mark.parametrize(
    ("asked", "closes"),
    [
        ((ControlVerb.STOP_FLATTEN, ControlVerb.KILL, ControlVerb.KILL_CLEAR), True),
        ((ControlVerb.KILL_FLATTEN, ControlVerb.STOP, ControlVerb.STOP_CANCEL), True),
        ((ControlVerb.KILL_FLATTEN, ControlVerb.STOP_FLATTEN, ControlVerb.KILL_CLEAR), True),
        ((ControlVerb.KILL_FLATTEN, ControlVerb.STOP_FLATTEN, ControlVerb.KILL_CLEAR, ControlVerb.STOP_CANCEL), False),
        ((ControlVerb.STOP_FLATTEN, ControlVerb.STOP_CANCEL), False),
        ((ControlVerb.KILL_FLATTEN, ControlVerb.KILL_CLEAR), False),
    ],
)
def test_what_is_held_is_closed_as_long_as_anybody_asks_for_it(
    bench: Bench, asked: tuple[ControlVerb, ...], closes: bool
) -> None:
    """A kill and a stop each take back their own closing alone, also after a restart."""
    for verb in asked:
        bench.ask(verb)
        bench.look()
    again = Bench(bench.journal, bench.folder)
    again.requests.restore(tuple(bench.journal.events()), flattens=False)
    assert [bench.flattening, again.flattening] == [closes] * 2


@pytest.mark.parametrize(
    ("steps", "stands"),
    [
        ((ControlVerb.STOP, "signal", "kept"), (True, False, False)),
        ((ControlVerb.STOP_FLATTEN, "signal", "kept"), (True, False, True)),
        (("signal", ControlVerb.STOP_FLATTEN, "kept"), (True, False, True)),
        ((ControlVerb.STOP_KEEP, "signal", "kept"), (False, False, False)),
        ((ControlVerb.STOP_FLATTEN, ControlVerb.STOP_KEEP, "kept"), (False, False, False)),
        ((ControlVerb.STOP_KEEP, ControlVerb.STOP, "kept"), (True, False, False)),
        ((ControlVerb.STOP_FLATTEN, ControlVerb.KILL_FLATTEN, "signal", "kept"), (True, False, True)),
        ((ControlVerb.STOP_FLATTEN, ControlVerb.KILL_FLATTEN, "signal", "all"), (False, False, True)),
        ((ControlVerb.STOP_FLATTEN, "signal", "all"), (False, False, False)),
        ((ControlVerb.STOP_FLATTEN, "signal", ControlVerb.STOP_CANCEL), (False, False, False)),
        ((ControlVerb.STOP, "signal"), (True, True, False)),
        ((ControlVerb.STOP_FLATTEN, "signal"), (True, True, False)),
        ((ControlVerb.KILL_FLATTEN, ControlVerb.STOP_KEEP), (True, True, False)),
        ((ControlVerb.KILL_FLATTEN, ControlVerb.STOP_KEEP, ControlVerb.STOP_CANCEL), (False, False, True)),
        ((ControlVerb.STOP_FLATTEN, ControlVerb.STOP), (True, False, False)),
        ((ControlVerb.STOP_KEEP, ControlVerb.STOP_FLATTEN), (True, False, True)),
    ],
)
def test_a_stop_is_over_for_each_source_by_itself(
    bench: Bench, steps: tuple[ControlVerb | str, ...], stands: tuple[bool, bool, bool]
) -> None:
    """Whether one stands, keeps and closes; a restart after any of the steps finds what the process had before it."""
    for step in steps:
        if isinstance(step, ControlVerb):
            bench.ask(step)
            bench.look()
        elif step == "signal":
            bench.conditions.raise_cause(StateCause.STOP_SIGNAL)
            bench.requests.on_signal(flattens=False)
        else:
            bench.requests.on_stop_done(kept=step == "kept")
        again = Bench(bench.journal, bench.folder)
        again.requests.restore(tuple(bench.journal.events()), flattens=False)
        assert _stands(again) == _stands(bench)
    assert _stands(bench) == stands


def _stands(bench: Bench) -> tuple[bool, bool, bool]:
    return bench.requests.is_stopping, bench.requests.keeps_positions, bench.flattening


def test_stops_of_two_sources_that_keep_are_over_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction: after a crash both of them go on, or none does."""
    bench.ask(ControlVerb.STOP_KEEP)
    bench.look()
    bench.conditions.raise_cause(StateCause.STOP_SIGNAL)
    bench.requests.on_signal(flattens=False)
    appended: list[int] = []
    monkeypatch.setattr(bench.journal, "append", lambda entries: appended.append(len(entries)))
    bench.requests.on_stop_done(kept=True)
    assert appended == [2]
