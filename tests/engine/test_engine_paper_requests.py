"""Requests to paper trading: what they do between two minutes, and that a session that is repeated does it again."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core import cli
from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import FeedRequest
from tbot_core.engine import control
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.disk_guard import DiskGuard
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.execution.trading_state import recall_states
from tbot_core.journal import records
from tbot_core.journal.disk_reserve import NO_ROOM_BYTES, DiskReserve
from tbot_core.journal.store import Event, Journal, read_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Leg
from tbot_core.status.event_text import EventNarrator
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession
    from tbot_core.journal.store import NewEvent

BELL = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)
HELD = 27
"""A minute after which two positions are held."""


class Dead(KeyboardInterrupt):
    """The process is no more."""


class Paper:
    """Paper trading on a clock that is moved by whoever waits on it; `acts` happen after minutes of the session."""

    def __init__(self, home: Path, now: dt.datetime = BELL - dt.timedelta(hours=1)) -> None:
        self.folder = home / "control"
        self.journal = home / "data" / "tbot.sqlite"
        self.clock = ManualClock(now)
        self.free = 10 * NO_ROOM_BYTES
        self.plan = RunPlan(
            assembly=assemble(home, "paper", self.clock),
            request=FeedRequest(kind="live"),
            wall=self.clock,
            once=True,
            watch_s=20.0,
            disk_guard=DiskGuard(lambda: self.free, DiskReserve(path=home / "ballast", size=4096)),
        )

    def trade(
        self,
        acts: Mapping[int, Callable[[], object]] | None = None,
        wrote: Callable[[Sequence[NewEvent]], None] | None = None,
    ) -> RunOutcome:
        """Trade one session."""

        def minute(_session: TradingSession, index: int) -> None:
            if acts is not None and index in acts:
                acts[index]()

        return asyncio.run(run(self.plan, RunWatcher(on_minute=minute, on_events=wrote or (lambda _entries: None))))

    def ask(self, verb: ControlVerb) -> Callable[[], object]:
        """Somebody drops a request."""
        return lambda: control.write_request(self.folder, verb, actor="ann", now=self.clock.now())

    def leave(self, free: int) -> Callable[[], object]:
        """The disk is filled, or emptied, until so many bytes are free."""
        return lambda: setattr(self, "free", free)

    def touch(self, name: str) -> Callable[[], object]:
        """Somebody sets a file that anybody may write and that says nothing."""

        def act() -> None:
            control.prepare_folder(self.folder)
            (self.folder / name).touch(mode=0o666)

        return act

    @property
    def events(self) -> list[Event]:
        """What the journal holds."""
        journal: Journal = read_journal(self.journal)
        found = list(journal.events())
        journal.close()
        return found

    @property
    def causes(self) -> tuple[StateCause, ...]:
        """What the journal leaves at work."""
        return recall_states(self.events).causes


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with the demo's settings."""
    create_demo_instance(tmp_path)
    return tmp_path


def entered_after(paper: Paper, minute: int) -> int:
    """How many entries were sent later than this minute's close."""
    bell = BELL + dt.timedelta(minutes=minute + 1)
    legs = {event.cid: event.payload["leg"] for event in paper.events if event.kind == records.INTENDED}
    sent = (event for event in paper.events if event.kind == records.SENDING and event.applied > bell)
    return sum(legs[event.cid] == Leg.ENTRY.value for event in sent)


@pytest.mark.slow
@pytest.mark.parametrize("means", ["command", "file", "signal"])
def test_after_a_kill_nothing_is_entered_and_only_stops_close(home: Path, means: str) -> None:
    """Whichever way it came: time exits wait, so what no stop closes is closed by the market's end."""
    paper = Paper(home)
    acts = {"command": paper.ask(ControlVerb.KILL), "file": paper.touch("kill"), "signal": paper.plan.kill.set}
    outcome = paper.trade({HELD: acts[means]})
    assert entered_after(paper, HELD) == 0
    late = [one for one in outcome.summary.trades if one.exit_time > BELL + dt.timedelta(minutes=HELD + 1)]
    assert late
    assert {one.exit_reason.value for one in late} <= {"STOP", "TARGET", "NO_MARKET"}
    cause = {"command": StateCause.KILL_COMMAND, "file": StateCause.KILL_FILE, "signal": StateCause.KILL_SIGNAL}[means]
    assert paper.causes == (cause,)


@pytest.mark.slow
def test_a_kill_survives_the_day_and_is_taken_back_by_its_command(home: Path) -> None:
    """The next day nothing is entered until `--clear`; a signal's kill goes with it."""
    first = Paper(home)
    first.trade({HELD: first.plan.kill.set, HELD + 1: first.ask(ControlVerb.KILL)})
    day = dt.timedelta(days=1)
    second = Paper(home, first.clock.now() + day - dt.timedelta(hours=9))
    outcome = second.trade({320: second.ask(ControlVerb.KILL_CLEAR)})
    assert second.causes == ()
    assert {one.strategy for one in outcome.summary.trades} <= {"close"}
    opened = [event.payload["state"] for event in second.events if event.kind == records.SESSION_OPENED]
    assert opened == ["normal", "halted"]


@pytest.mark.slow
def test_a_stop_manages_what_is_held_and_ends(home: Path) -> None:
    """No entry, exits by their own rules, then the run ends with nothing open and the stop is done."""
    paper = Paper(home)
    outcome = paper.trade({HELD: paper.ask(ControlVerb.STOP)})
    assert (outcome.stopped, outcome.open, paper.causes) == (True, (), ())
    assert entered_after(paper, HELD) == 0
    assert {one.exit_reason.value for one in outcome.summary.trades} & {"TIME", "STOP"}
    assert paper.clock.now() < BELL + dt.timedelta(minutes=120)
    assert not list(paper.folder.iterdir())


@pytest.mark.slow
def test_a_stop_file_stops_each_start_until_it_is_removed(home: Path) -> None:
    """It is obeyed whatever it holds; the next start ends at once, and trades when the file has gone."""
    paper = Paper(home)
    assert paper.trade({HELD: paper.touch("stop")}).stopped
    again = Paper(home, paper.clock.now())
    assert again.trade().stopped
    assert again.clock.now() - paper.clock.now() < dt.timedelta(minutes=1)
    (again.folder / "stop").unlink()
    later = Paper(home, again.clock.now())
    assert not later.trade().stopped
    assert later.causes == ()


@pytest.mark.slow
def test_a_stop_that_flattens_closes_within_the_next_bars(home: Path) -> None:
    """What is held goes at the market, and the run ends."""
    paper = Paper(home)
    outcome = paper.trade({HELD: paper.ask(ControlVerb.STOP_FLATTEN)})
    assert (outcome.stopped, outcome.open) == (True, ())
    assert "STOPPED" in {one.exit_reason.value for one in outcome.summary.trades}
    assert paper.clock.now() < BELL + dt.timedelta(minutes=HELD + 6)


@pytest.mark.slow
def test_a_stop_that_keeps_ends_at_once_and_names_what_has_no_stop(home: Path) -> None:
    """Positions stay with their stops, and the same command goes on managing them."""
    paper = Paper(home)
    outcome = paper.trade({HELD: paper.ask(ControlVerb.STOP_KEEP)})
    assert outcome.stopped
    assert outcome.open
    assert outcome.unprotected == ()
    assert paper.clock.now() == BELL + dt.timedelta(minutes=HELD + 1)
    again = Paper(home, paper.clock.now())
    assert not again.trade().stopped
    assert set(outcome.open) <= {
        event.payload["signal"]["symbol"] for event in again.events if event.cid and "signal" in event.payload
    }


@pytest.mark.slow
def test_a_stop_that_is_cancelled_ends_nothing(home: Path) -> None:
    """Taken back while positions are held, also one that flattens: trading goes on."""
    paper = Paper(home)
    outcome = paper.trade({HELD: paper.ask(ControlVerb.STOP_FLATTEN), HELD + 1: paper.ask(ControlVerb.STOP_CANCEL)})
    assert not outcome.stopped
    assert {one.strategy for one in outcome.summary.trades} >= {"open", "mid"}


@pytest.mark.slow
def test_a_kill_that_flattens_closes_what_is_held_and_waits(home: Path) -> None:
    """Everything is closed, nothing is entered, and the run goes on."""
    paper = Paper(home)
    outcome = paper.trade({HELD: paper.ask(ControlVerb.KILL_FLATTEN)})
    assert not outcome.stopped
    assert entered_after(paper, HELD) == 0
    assert outcome.summary.trades[-1].exit_time < BELL + dt.timedelta(minutes=HELD + 6)


@pytest.mark.slow
def test_defense_comes_and_goes_by_its_command(home: Path) -> None:
    """While it is on the session says so, and its end is written down as well."""
    paper = Paper(home)
    paper.trade({5: paper.ask(ControlVerb.DEFENSE_ON), 100: paper.ask(ControlVerb.DEFENSE_OFF)})
    states = [event.payload["state"] for event in paper.events if event.kind == records.STATE]
    assert states == ["defense", "normal"]


@pytest.mark.slow
def test_a_request_bears_the_time_at_which_it_was_received(home: Path) -> None:
    """It counts from the minute that is waited for, and the journal knows both."""
    paper = Paper(home)

    def later() -> None:
        paper.clock.advance(7.0)
        control.write_request(paper.folder, ControlVerb.DEFENSE_ON, actor="ann", now=paper.clock.now())

    paper.trade({5: later})
    (asked,) = [event for event in paper.events if event.kind == records.REQUEST]
    minute = BELL + dt.timedelta(minutes=6)
    assert (asked.applied, asked.received) == (minute, minute + dt.timedelta(seconds=7))
    assert asked.payload["made"] == asked.received.isoformat()


@pytest.mark.slow
def test_defense_is_said_as_long_as_the_setting_holds_it(home: Path) -> None:
    """Taken back by its command, the state that is written down is still the one that counts."""
    settings = home / ".env_bot"
    settings.write_text(settings.read_text() + "DEFENSE_MODE_ACTIVE=true\n")
    paper = Paper(home)
    paper.trade({5: paper.ask(ControlVerb.DEFENSE_ON), 100: paper.ask(ControlVerb.DEFENSE_OFF)})
    states = [event.payload["state"] for event in paper.events if event.kind == records.STATE]
    assert states == ["defense", "defense"]


@pytest.mark.slow
def test_what_is_no_request_is_written_down_once_and_not_obeyed(home: Path) -> None:
    """A permit with loose modes and an unknown verb do nothing, also when the session is repeated."""
    paper = Paper(home)

    def loose() -> None:
        name = control.write_request(paper.folder, ControlVerb.KILL_CLEAR, actor="ann", now=paper.clock.now())
        (paper.folder / name).chmod(0o644)
        (paper.folder / "odd.json").write_text("{}")
        (paper.folder / "odd.json").chmod(0o600)

    paper.trade({HELD: loose, HELD + 2: paper.ask(ControlVerb.STOP_KEEP)})
    again = Paper(home, paper.clock.now())
    assert not again.trade().stopped
    assert Counter(event.kind for event in again.events)[records.REQUEST_REFUSED] == 2


@pytest.mark.slow
@pytest.mark.parametrize("verb", [ControlVerb.DISARM, ControlVerb.ARM, ControlVerb.FAILOVER_CONFIRM])
def test_a_refused_request_keeps_no_session_from_being_repeated(home: Path, verb: ControlVerb) -> None:
    """What paper trading does not do is refused once, with a sentence, and is over."""
    paper = Paper(home)
    paper.trade({HELD: paper.ask(verb), HELD + 2: paper.ask(ControlVerb.STOP_KEEP)})
    again = Paper(home, paper.clock.now())
    assert not again.trade().stopped
    assert Counter(event.kind for event in again.events)[records.REQUEST_REFUSED] == 1


@pytest.mark.slow
def test_a_folder_that_cannot_be_used_leaves_exits_only(home: Path) -> None:
    """Who cannot see a kill enters nothing; once the folder can be read again trading goes on."""
    paper = Paper(home)
    paper.folder.mkdir()

    def spoil() -> None:
        paper.folder.rmdir()
        paper.folder.write_text("a file")

    paper.trade({HELD: spoil, HELD + 40: paper.folder.unlink})
    causes = [(event.payload["cause"], event.payload["there"]) for event in paper.events if event.kind == records.STATE]
    assert causes == [("CONTROL_LOST", True), ("CONTROL_LOST", False)]


@pytest.mark.slow
def test_f77_a_disk_that_is_low_leaves_exits_only_until_a_minute_after_it_is_not(home: Path) -> None:
    """F77: while it is low and for a minute after, nothing is entered; then trading goes on."""
    paper = Paper(home)
    paper.trade({HELD: paper.leave(NO_ROOM_BYTES - 1), 40: paper.leave(10 * NO_ROOM_BYTES)})
    told = [event for event in paper.events if event.kind == records.STATE]
    assert [(event.payload["there"], event.payload["words"]) for event in told] == [
        (True, "50 MB are free, 50 MB are needed"), (False, ""), (False, "over"),
    ]  # fmt: skip
    assert (told[2].applied - told[1].applied).total_seconds() == 60
    sent = [event.applied for event in paper.events if event.kind == records.DECISION and event.cid]
    assert not [one for one in sent if told[0].applied <= one < told[2].applied]
    assert max(sent) > told[2].applied


@pytest.mark.slow
def test_f73_a_holiday_has_one_sentence_and_the_next_session_is_traded(home: Path) -> None:
    """F73: on Thanksgiving nothing else happens, also after a stop and another start; then the half day is traded."""
    lines: list[str] = []
    narrator = EventNarrator()

    def wrote(entries: Sequence[NewEvent]) -> None:
        lines.extend(line.text for line in narrator.lines_for(entries))
        if records.HOLIDAY in {entry.kind for entry in entries}:
            first.plan.stop.set()

    first = Paper(home, dt.datetime(2026, 11, 26, 12, 30, tzinfo=dt.UTC))
    assert first.trade(wrote=wrote).stopped
    second = Paper(home, first.clock.now() + dt.timedelta(hours=1))
    assert not second.trade(wrote=wrote).stopped
    assert lines.count("Closed, Thanksgiving Day; next session 2026-11-27") == 1
    kinds = [event.kind for event in second.events]
    assert (kinds.count(records.HOLIDAY), kinds.count(records.SESSION_CLOSED)) == (1, 1)


FULL, EMPTIED = 12, 14
"""Minutes after which the disk is low, and is not any more."""

PLOT = {
    26: ControlVerb.KILL,
    28: ControlVerb.KILL_CLEAR,
    40: ControlVerb.DISARM,  # which paper trading refuses
    60: ControlVerb.DEFENSE_ON,
    70: ControlVerb.DEFENSE_OFF,
    76: ControlVerb.STOP_FLATTEN,
    77: ControlVerb.STOP_CANCEL,
    307: ControlVerb.KILL,
    308: ControlVerb.KILL_CLEAR,
    310: ControlVerb.STOP,
}
TOLD = {records.REQUEST, records.STATE, records.CANCEL_REQUESTED}


def plot(paper: Paper) -> dict[int, Callable[[], object]]:
    """Requests all over a session, each made once, however often its minute is passed."""
    made: set[int] = set()

    def once(minute: int) -> None:
        if minute not in made:
            made.add(minute)
            paper.ask(PLOT[minute])()

    disk = {FULL: paper.leave(0), EMPTIED: paper.leave(10 * NO_ROOM_BYTES)}
    return disk | {minute: partial(once, minute) for minute in PLOT}


def named(home: Path) -> Paper:
    """Paper trading whose orders bear the same ids wherever its instance lies."""
    create_demo_instance(home)
    (home / "data").mkdir()
    (home / "data" / "install.id").write_text("one\n")
    return Paper(home)


def said(paper: Paper) -> list[tuple[Any, ...]]:
    """The journal's events but for those that tell of processes; a request without its name and moment."""
    process = {records.RUN_STARTED, records.RUN_FINISHED, records.GAP, records.STOPPED}
    private = {"name", "made"}
    return [
        (event.kind, event.applied, {name: value for name, value in event.payload.items() if name not in private})
        for event in paper.events
        if event.kind not in process
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """What a session with those requests says."""
    home = tmp_path_factory.mktemp("undisturbed")
    paper = named(home)
    assert paper.trade(plot(paper)).open == ()
    return said(paper)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 18, 2))
def test_killed_at_a_request_a_session_goes_on_as_if_it_had_lived(
    tmp_path: Path, undisturbed: list[tuple[Any, ...]], number: int
) -> None:
    """A process that dies between a request and what follows from it is taken up, and both are done once."""
    paper = named(tmp_path)
    left = number

    def wrote(entries: Sequence[NewEvent]) -> None:
        nonlocal left
        left -= any(entry.kind in TOLD for entry in entries)
        if not left:
            raise Dead

    acts = plot(paper)
    with pytest.raises(Dead):
        paper.trade(acts, wrote)
    paper.plan = attrs.evolve(paper.plan, assembly=assemble(tmp_path, "paper", paper.clock))
    assert paper.trade(acts).open == ()
    assert said(paper) == undisturbed
    assert cli.invoke(["audit", "verify", "--home", str(tmp_path)]) == 0
