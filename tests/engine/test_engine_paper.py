"""Paper trading: the simulated venue on the path of every broker, in virtual time."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_broker_paper.broker import PaperBroker

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import FeedRequest
from tbot_core.engine import control
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.disk_guard import DiskGuard, DiskReserve
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.errors import BrokerError, JournalError
from tbot_core.execution.trading_state import recall_states
from tbot_core.journal import records
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.store import NO_ROOM_BYTES, Event, NewEvent, open_journal, read_journal
from tbot_core.model.calendar import EarlyClose, ExchangeCalendar
from tbot_core.model.formatting import money_text
from tbot_core.model.types import Leg
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop, run_virtual
from tbot_core.status.event_lines import EventNarrator
from tbot_core.status.instance import status_document
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession

BELL = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)
CALENDAR = ExchangeCalendar(
    overrides={BELL.date() + dt.timedelta(days=days): EarlyClose(close=dt.time(11, 30)) for days in (0, 1, 3, 6)}
)
"""Sessions of two hours."""

HELD = 27
"""A minute after which two positions are held."""


class Killed(BaseException):
    """The process ends here."""


class Paper:
    """An instance that trades on paper from a moment on; `acts` happen after minutes of the session."""

    def __init__(self, home: Path, now: dt.datetime = BELL - dt.timedelta(hours=1)) -> None:
        self.home, self.folder, self.loop = home, home / "control", VirtualLoop()
        self.clock = LoopClock(self.loop, now)
        self.free = 10 * NO_ROOM_BYTES
        self.plan = RunPlan(
            assembly=attrs.evolve(assemble(home, "paper", self.clock), calendar=CALENDAR),
            request=FeedRequest(kind="live", calendar=CALENDAR),
            wall=self.clock,
            once=True,
            watch_s=5.0,
            disk_guard=DiskGuard(lambda: self.free, DiskReserve(path=home / "ballast", size=4096)),
        )

    def trade(
        self,
        acts: Mapping[int, Callable[[], object]] | None = None,
        on_events: Callable[[Sequence[NewEvent]], None] = lambda _entries: None,
    ) -> RunOutcome:
        """Trade one session."""

        def on_minute(_session: TradingSession, index: int) -> None:
            if acts is not None and index in acts:
                acts[index]()

        return run_virtual(lambda: run(self.plan, RunWatcher(on_minute=on_minute, on_events=on_events)), self.loop)

    def kill_at(self, moment: dt.datetime) -> None:
        """Trade until the process is killed at this moment."""

        def kill() -> None:
            raise Killed

        self.loop.call_at((moment - self.clock.now()).total_seconds(), kill)
        with pytest.raises(Killed):
            self.trade()

    def request(self, verb: ControlVerb) -> Callable[[], object]:
        """Write a request."""
        return lambda: control.write_request(self.folder, verb, actor="ann", now=self.clock.now())

    def leave(self, free: int) -> Callable[[], object]:
        """Leave so many bytes free on the disk."""
        return lambda: setattr(self, "free", free)

    def touch(self, name: str) -> Callable[[], object]:
        """Set a file in the control folder."""

        def act() -> None:
            control.prepare_folder(self.folder)
            (self.folder / name).touch(mode=0o666)

        return act

    @property
    def events(self) -> list[Event]:
        """The events of the journal."""
        with closing(read_journal(self.home / "data" / "tbot.sqlite")) as journal:
            return list(journal.events())

    @property
    def causes(self) -> tuple[StateCause, ...]:
        """The causes that the journal leaves in force."""
        return recall_states(self.events).causes

    def entered_after(self, minute: int) -> int:
        """The number of entries sent more than a second after this minute's close."""
        since = BELL + dt.timedelta(minutes=minute + 1, seconds=1)
        legs = {event.cid: event.payload["leg"] for event in self.events if event.kind == records.INTENDED}
        sent = (event for event in self.events if event.kind == records.SENDING and event.applied > since)
        return sum(legs[event.cid] == Leg.ENTRY.value for event in sent)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with the demo's settings."""
    create_demo_instance(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_paper_makes_the_trades_of_a_replay_of_the_same_session(home: Path) -> None:
    """The same simulated day, once as a demo and once in real time: the same trades, and the account is reconciled."""
    assembly = assemble(home, "demo", LoopClock(VirtualLoop(), BELL))
    assembly = attrs.evolve(assembly, calendar=CALENDAR)
    request = FeedRequest(kind="demo", first=BELL.date(), calendar=CALENDAR)
    demo = run_virtual(lambda: run(RunPlan(assembly=assembly, request=request, wall=assembly.clock), RunWatcher()))
    paper = Paper(home)
    outcome = paper.trade()
    assert sorted(map(str, outcome.summary.trades)) == sorted(map(str, demo.summary.trades))
    assert outcome.summary.equity_end == pytest.approx(demo.summary.equity_end, abs=Decimal("0.01"))
    kinds = {event.kind for event in paper.events}
    assert {records.READY, records.STATEMENT, records.SESSION_CLOSED} <= kinds
    assert not {records.STUCK, records.ADJUSTMENT, records.LOST} & kinds


@pytest.mark.slow
@pytest.mark.first(0)
def test_the_next_day_opens_with_the_equity_of_the_last_one(home: Path) -> None:
    """The account is in the venue's books, which the next run reads."""
    first = Paper(home)
    ended = first.trade().summary.equity_end
    second = Paper(home, first.clock.now() + dt.timedelta(hours=15))
    second.trade()
    opened = [event.payload["equity"] for event in second.events if event.kind == records.SESSION_OPENED]
    assert Decimal(opened[1]) == pytest.approx(ended, abs=Decimal("0.01"))


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_restart_half_an_hour_later_enters_nothing_late_and_leaves_nothing_unprotected(home: Path) -> None:
    """The venue gets the missed minutes, so stops fill in them; their signals are SIGNAL_TOO_LATE."""
    killed = Paper(home)
    killed.kill_at(BELL + dt.timedelta(minutes=24, seconds=20))
    again = Paper(home, BELL + dt.timedelta(minutes=58, seconds=20))
    outcome = again.trade()
    assert (outcome.open, outcome.unprotected) == ((), ())
    decisions = [event.payload for event in again.events if event.kind == records.DECISION]
    missed = [one for one in decisions if 23 < one["signal"]["minute"] < 57]
    assert {one["reason"] for one in missed} == {"SIGNAL_TOO_LATE"}
    (gap,) = [event.payload for event in again.events if event.kind == records.GAP]
    assert (gap["from"], gap["to"]) == (24, 57)
    assert any(one["reason"] == "ALLOWED" for one in decisions if one["signal"]["minute"] >= 58)


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_stopped_session_and_its_restart_say_the_same_equity_as_status(home: Path) -> None:
    """The result values positions at the marks of the displays; READY names the present equity, not the opening."""
    first = Paper(home)
    outcome = first.trade({28: first.request(ControlVerb.STOP_KEEP)})
    assert outcome.summary.valued == "marks"
    assert outcome.summary.held == len(outcome.open) > 0
    shown = status_document(home, first.clock.now())
    assert shown["equity"] == money_text(outcome.summary.equity_end) != money_text(fold_events(first.events).equity)
    again = Paper(home, first.clock.now() + dt.timedelta(seconds=90))
    again.trade()
    ready = [event.payload["equity"] for event in again.events if event.kind == records.READY]
    opened = next(event.payload["equity"] for event in again.events if event.kind == records.SESSION_OPENED)
    assert Decimal(ready[0]) == Decimal(opened)
    assert Decimal(ready[1]) == pytest.approx(outcome.summary.equity_end, abs=Decimal(100))
    assert Decimal(ready[1]) != Decimal(opened)


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_session_that_was_interrupted_days_ago_is_closed_first(home: Path) -> None:
    """What was open closes as NO_MARKET at the last price that the venue has seen, and today is traded."""
    killed = Paper(home)
    killed.kill_at(BELL + dt.timedelta(minutes=28, seconds=20))
    later = Paper(home, BELL + dt.timedelta(days=6, hours=-1))
    outcome = later.trade()
    closed = [event.payload["date"] for event in later.events if event.kind == records.SESSION_CLOSED]
    assert closed == ["2026-11-24", "2026-11-30"]
    old = [one for one in outcome.summary.trades if one.exit_time.date() == BELL.date()]
    assert {one.exit_reason.value for one in old} >= {"NO_MARKET"}
    assert outcome.open == ()


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_missing_books_beside_open_positions_are_refused(home: Path) -> None:
    """Without them the venue would have a flat account, and the positions would be gone without a trade."""
    killed = Paper(home)
    killed.kill_at(BELL + dt.timedelta(minutes=28, seconds=20))
    books = home / "data" / "paper.sqlite"
    aside = books.rename(home / "aside")
    again = Paper(home, BELL + dt.timedelta(minutes=29))
    with pytest.raises(JournalError, match=r"books of the broker paper.* are missing, and the journal has positions"):
        again.trade()
    aside.rename(books)
    assert Paper(home, BELL + dt.timedelta(minutes=30)).trade().open == ()


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"no database at all, but long enough to be read as one", b""])
def test_books_that_cannot_be_used_are_named(home: Path, content: bytes) -> None:
    """A file of something else is refused with its path; an empty one is a new account."""
    (home / "data").mkdir()
    (home / "data" / "paper.sqlite").write_bytes(content)
    if content:
        with pytest.raises(BrokerError, match=r"books of the paper broker, .*paper\.sqlite, cannot be used"):
            Paper(home).trade()
    else:
        assert not Paper(home).trade().stopped


@pytest.mark.slow
@pytest.mark.parametrize("means", ["command", "file", "signal"])
@pytest.mark.first(0)  # over 1.5 seconds
def test_after_a_kill_nothing_is_entered_and_only_stops_close(home: Path, means: str) -> None:
    """Time exits wait, so what no stop or target closes is closed by the end of the session."""
    paper = Paper(home)
    acts = {"command": paper.request(ControlVerb.KILL), "file": paper.touch("kill"), "signal": paper.plan.kill.set}
    outcome = paper.trade({HELD: acts[means]})
    assert paper.entered_after(HELD) == 0
    late = [one for one in outcome.summary.trades if one.exit_time > BELL + dt.timedelta(minutes=HELD + 1)]
    assert late
    assert {one.exit_reason.value for one in late} <= {"STOP", "TARGET", "NO_MARKET"}
    cause = {"command": StateCause.KILL_COMMAND, "file": StateCause.KILL_FILE, "signal": StateCause.KILL_SIGNAL}[means]
    assert paper.causes == (cause,)


@pytest.mark.slow
@pytest.mark.first(0)
def test_a_stop_manages_what_is_held_and_ends(home: Path) -> None:
    """No entry, exits by their own rules, then the run ends with nothing open and the stop is done."""
    paper = Paper(home)
    outcome = paper.trade({HELD: paper.request(ControlVerb.STOP)})
    assert (outcome.stopped, outcome.open, paper.causes) == (True, (), ())
    assert paper.entered_after(HELD) == 0
    assert {one.exit_reason.value for one in outcome.summary.trades} & {"TIME", "STOP"}
    assert paper.clock.now() < BELL + dt.timedelta(minutes=120)


@pytest.mark.slow
def test_a_stop_that_flattens_closes_within_the_next_bars(home: Path) -> None:
    """Positions close at the market, and the run ends."""
    paper = Paper(home)
    outcome = paper.trade({HELD: paper.request(ControlVerb.STOP_FLATTEN)})
    assert (outcome.stopped, outcome.open) == (True, ())
    assert "STOPPED" in {one.exit_reason.value for one in outcome.summary.trades}
    assert paper.clock.now() < BELL + dt.timedelta(minutes=HELD + 6)


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_stop_that_keeps_ends_at_once_and_a_start_goes_on(home: Path) -> None:
    """Positions stay with their stops in the venue's books."""
    paper = Paper(home)
    outcome = paper.trade({HELD: paper.request(ControlVerb.STOP_KEEP)})
    assert outcome.stopped
    assert outcome.open
    assert outcome.unprotected == ()
    assert paper.clock.now() < BELL + dt.timedelta(minutes=HELD + 3)
    again = Paper(home, paper.clock.now())
    ended = again.trade()
    assert (ended.stopped, ended.open) == (False, ())
    assert set(outcome.open) <= {one.symbol for one in ended.summary.trades}


@pytest.mark.slow
@pytest.mark.first(0)
def test_f77_a_disk_that_is_low_leaves_exits_only_until_a_minute_after_it_is_not(home: Path) -> None:
    """F77: while it is low and for a minute after, nothing is entered; then trading goes on."""
    paper = Paper(home)
    paper.trade({HELD: paper.leave(NO_ROOM_BYTES - 1), 40: paper.leave(10 * NO_ROOM_BYTES)})
    low = [event for event in paper.events if event.kind == records.STATE and "DISK" in event.payload["cause"]]
    assert [event.payload["there"] for event in low] == [True, False, False]
    assert 59 <= (low[2].applied - low[1].applied).total_seconds() <= 70
    sent = [event.applied for event in paper.events if event.kind == records.DECISION and event.cid]
    assert not [one for one in sent if low[0].applied <= one < low[2].applied]
    assert max(sent) > low[2].applied


@pytest.mark.slow
@pytest.mark.first(0)
def test_f73_a_holiday_has_one_sentence_and_the_next_session_is_traded(home: Path) -> None:
    """F73: on Thanksgiving nothing else happens, also after a stop and another start; then the half day is traded."""
    lines: list[str] = []
    narrator = EventNarrator()

    def on_events(entries: Sequence[NewEvent]) -> None:
        lines.extend(line.text for line in narrator.lines_for(entries))
        if records.HOLIDAY in {entry.kind for entry in entries}:
            first.plan.stop.set()

    first = Paper(home, dt.datetime(2026, 11, 26, 12, 30, tzinfo=dt.UTC))
    assert first.trade(on_events=on_events).stopped
    second = Paper(home, first.clock.now() + dt.timedelta(hours=1))
    assert not second.trade(on_events=on_events).stopped
    assert lines.count("Closed, Thanksgiving Day; next session 2026-11-27") == 1
    kinds = [event.kind for event in second.events]
    assert (kinds.count(records.HOLIDAY), kinds.count(records.SESSION_CLOSED)) == (1, 1)


@pytest.mark.slow
@pytest.mark.first(0)
def test_a_session_of_a_version_without_books_ends_as_stopped(home: Path) -> None:
    """Nothing holds its positions any more; the next session begins with the equity that it had reached."""
    killed = Paper(home)
    killed.kill_at(BELL + dt.timedelta(minutes=28, seconds=20))
    (home / "data" / "paper.sqlite").unlink()
    older = [
        attrs.evolve(one, payload={name: value for name, value in one.payload.items() if name != "books"})
        for one in killed.events
    ]
    for leftover in (home / "data").glob("tbot.sqlite*"):
        leftover.unlink()
    with closing(open_journal(home / "data" / "tbot.sqlite")) as journal:
        journal.append(
            [
                NewEvent(kind=one.kind, payload=one.payload, time=one.applied, cid=one.cid, source=one.source)
                for one in older
            ]
        )
    later = Paper(home, BELL + dt.timedelta(days=1, hours=-1))
    assert later.trade().open == ()
    kinds = [event.kind for event in later.events]
    closed = [event.payload for event in later.events if event.kind == records.SESSION_CLOSED]
    added = kinds[len(older) : kinds.index(records.SESSION_CLOSED) + 1]
    assert added[0] == records.STOPPED
    assert set(added[1:-1]) == {records.ADJUSTMENT}
    assert [one["date"] for one in closed] == ["2026-11-24", "2026-11-25"]
    opened = [event.payload["equity"] for event in later.events if event.kind == records.SESSION_OPENED]
    assert opened[1] == closed[0]["equity"]


@pytest.mark.slow
@pytest.mark.parametrize("call", ["observe", "submit", "close_session"])
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_venue_that_raises_ends_no_session(home: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Its failures are journaled with plugin and call, and the session is closed as ever."""
    inner = getattr(PaperBroker, call)
    failures = 1 if call == "close_session" else 2

    def failing(self: PaperBroker, *arguments: object) -> Any:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise KeyError("books")
        return inner(self, *arguments)

    monkeypatch.setattr(PaperBroker, call, failing)
    paper = Paper(home)
    outcome = paper.trade()
    assert outcome.summary.sessions == 1
    failed = [event.payload for event in paper.events if event.kind == records.PLUGIN_FAILED]
    assert {(one["plugin"], one["call"]) for one in failed} == {("broker/paper", call)}
