"""What a status says of a bot that prepares a session, and of the phase of the day."""

from __future__ import annotations

import datetime as dt
import os
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.cli.commands.status import lines
from tbot_core.instance import Instance
from tbot_core.instance.folder import REHEARSAL_VARIABLE, SIMULATION
from tbot_core.journal import codec, records
from tbot_core.journal.events.risk import StateChanged
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.types import RiskState
from tbot_core.status.instance import status_document
from tbot_core.status.phases import phase_words
from tbot_core.status.runs import run_file, unfinished_sentence
from tbot_core.system import filesystem
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from pathlib import Path

BELL = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)
OPENS = dt.datetime(2026, 11, 23, 4, 0, tzinfo=dt.UTC)
NEW, OLD = "rehearsal-20261123T040000", "rehearsal-20261122T040000"
STARTED = {"run_id": OLD, "mode": "REHEARSAL", "equity": "100005.19", "settings": {}}
SESSION = {
    "date": "2026-11-23",
    "open": "2026-11-23T14:30:00+00:00",
    "close": "2026-11-23T21:00:00+00:00",
    "minutes": 390,
    "symbols": 3,
    "equity": "100005.19",
    "account": "1",
    "windows": {},
}
CLOSED = {"date": "2026-11-23", "trades": 0, "pnl": "0", "equity": "100005.19", "cash": "100005.19", "open": []}
DAY = ((records.RUN_STARTED, STARTED), (records.SESSION_OPENED, SESSION), (records.SESSION_CLOSED, CLOSED))


def facts(day: str, *symbols: str) -> tuple[str, dict[str, Any]]:
    """Facts that a filter has fetched."""
    return records.FACTS, {"session": day, "filter": "finnhub", "facts": {symbol: {} for symbol in symbols}}


def journal(path: Path, *events: tuple[str, dict[str, Any]]) -> None:
    """A journal with these events more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(open_journal(path)) as found:
        found.append([NewEvent(kind=kind, payload=payload, time=BELL) for kind, payload in events])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance in which a rehearsal has run, and nothing else."""
    create_demo_instance(tmp_path)
    journal(tmp_path / "data" / "runs" / f"{OLD}.sqlite", *DAY)
    return tmp_path


def test_a_rehearsal_that_prepares_shows_itself_and_no_figures_of_the_one_before(home: Path) -> None:
    """From the first moment on, with how many companies were asked about, until its session has an event."""
    instance, path = Instance.at(home), home / "data" / "runs" / f"{NEW}.sqlite"
    with filesystem.hold_lock(instance.lock, NEW):
        found = status_document(home, OPENS)
        assert (found["mode"], found["phase"], found["equity"], found["session"]) == (
            "REHEARSAL",
            "preparing",
            None,
            None,
        )
        assert (found["run"], found["positions"], found["running"]) == (None, [], True)
        assert found["preparing"] == {"session": "2026-11-23", "companies": 0}
        assert "now         preparing" in list(lines(found, OPENS))
        journal(path, facts("2026-11-23", "AAA", "BBB"), facts("2026-11-23", "CCC", "BBB"))
        found = status_document(home, OPENS)
        assert (found["run"], found["mode"], found["equity"]) == (NEW, "REHEARSAL", None)
        assert found["preparing"] == {"session": "2026-11-23", "companies": 3}
        journal(path, (records.READY, {"session": "2026-11-23"}))
        found = status_document(home, OPENS - dt.timedelta(minutes=1))
        assert (found["preparing"], found["phase"], found["mode"]) == (None, "market closed", "REHEARSAL")
        journal(path, *DAY[:2])
        found = status_document(home, OPENS)
        assert (found["preparing"], found["equity"], found["run"]) == (None, "100005.19", NEW)
        assert found["phase"] != "preparing"


def test_before_the_first_rehearsal_the_variable_names_the_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a start would trade; nothing has run."""
    create_demo_instance(tmp_path)
    monkeypatch.setenv(REHEARSAL_VARIABLE, "http://127.0.0.1:1")
    found = status_document(tmp_path, BELL)
    assert (found["mode"], found["run"], found["preparing"]) == ("REHEARSAL", None, None)


def test_a_bot_prepares_from_the_bell_to_the_first_event_of_the_session(home: Path) -> None:
    """Figures of a session before it are not shown meanwhile; before the bell it waits, and shows them."""
    journal(home / "data" / "tbot.sqlite", (records.RUN_STARTED, STARTED | {"mode": "paper"}), *DAY[1:])
    with filesystem.hold_lock(Instance.at(home).lock):
        early = status_document(home, BELL - dt.timedelta(minutes=1))
        assert (early["preparing"], early["equity"], early["phase"]) == (None, "100005.19", "market closed")
        found = status_document(home, BELL)
        assert found["preparing"] == {"session": "2026-11-24", "companies": 0}
        assert (found["phase"], found["equity"], found["mode"]) == ("preparing", None, "paper")
        journal(home / "data" / "tbot.sqlite", (records.SESSION_OPENED, SESSION | {"date": "2026-11-24"}))
        assert status_document(home, BELL)["preparing"] is None
    assert status_document(home, BELL)["preparing"] is None
    with filesystem.hold_lock(Instance.at(home).lock, SIMULATION):
        assert status_document(home, BELL + dt.timedelta(days=1))["preparing"] is None


def test_a_stop_that_is_carried_out_ends_the_phase(home: Path) -> None:
    """While the process still runs; the next event of a session that goes on begins it again."""
    path = home / "data" / "tbot.sqlite"
    opened = SESSION | {"date": "2026-11-24"}
    journal(path, (records.RUN_STARTED, STARTED | {"mode": "paper"}), (records.SESSION_OPENED, opened))
    with filesystem.hold_lock(Instance.at(home).lock):
        journal(path, (records.STOPPED, {"open": [], "unconfirmed": ""}))
        assert status_document(home, BELL)["phase"] == "stopped"
        journal(path, (records.VIX, {"strategy": "open", "value": None, "candidates": 1}))
        assert status_document(home, BELL)["phase"] == "open: analysis"


@pytest.mark.parametrize(
    ("state", "running", "words"),
    [
        ("halted", True, "open: entries, but none are sent: the state is halted"),
        ("exit-only", True, "open: entries, but none are sent: the state is exit-only"),
        ("normal", False, "open: entries, but none are sent: no bot is running"),
        ("defense", True, "open: entries"),
    ],
)
def test_a_phase_of_entries_says_why_none_are_sent(state: str, words: str, *, running: bool) -> None:
    """The same words for the command line and the page."""
    assert phase_words({"phase": "open: entries", "state": state, "running": running}) == words


PAPER_DAY = ((records.RUN_STARTED, STARTED | {"mode": "paper"}), *DAY[1:])
KILLED = (records.STATE, {"cause": "KILL_COMMAND", "there": True, "state": "halted", "words": "killed"})


@pytest.mark.parametrize(
    ("account", "newest", "trades", "shown"),
    [
        (PAPER_DAY, "replay", False, "replay"),
        (PAPER_DAY, OLD, False, OLD),
        (PAPER_DAY, "dry-20261123T040000", False, "paper"),
        (PAPER_DAY, OLD, True, "paper"),
        (PAPER_DAY[:2], OLD, False, "paper"),
        ((*PAPER_DAY, KILLED), OLD, False, "paper"),
        ((), OLD, False, OLD),
    ],
    ids=["replay", "rehearsal", "dry run", "a bot trades", "under way", "killed", "never traded"],
)
def test_the_newest_run_is_shown_unless_the_account_has_something_open_or_in_force(
    tmp_path: Path, account: tuple[Any, ...], newest: str, shown: str, *, trades: bool
) -> None:
    """A rehearsal too, with its kind and session; a dry run hides no account."""
    create_demo_instance(tmp_path)
    paper, other = tmp_path / "data" / "tbot.sqlite", tmp_path / "data" / "runs" / f"{newest}.sqlite"
    journal(paper, *account)
    mode = newest.partition("-")[0].upper()
    journal(other, (records.RUN_STARTED, STARTED | {"mode": mode}), *DAY[1:])
    os.utime(paper, (1, 1))
    with filesystem.hold_lock(Instance.at(tmp_path).lock) if trades else nullcontext():
        found = status_document(tmp_path, OPENS)
        listed = run_file(Instance.at(tmp_path)).name
    assert found["run"] == shown
    assert listed == (newest if newest.startswith(("replay", "rehearsal")) and not trades else "paper")
    if shown != "paper":
        assert (found["mode"], found["session"]) == (mode, "2026-11-23")
        assert any(line.startswith("run ") and mode.lower() in line.lower() for line in lines(found, OPENS))


STOP = (records.STOPPED, {"open": ["KO"], "unconfirmed": ""})
RESUMED = (
    records.STATE,
    codec.write(StateChanged(cause=StateCause.UNRECONCILED, there=True, state=RiskState.EXIT_ONLY.word, words="")),
)
FINISHED = (records.RUN_FINISHED, {"equity": "100005.19"})


@pytest.mark.parametrize(
    ("name", "events", "how", "words"),
    [
        (OLD, DAY, "finished", ""),
        (OLD, DAY[:2], "interrupted", " was interrupted in the session of 2026-11-23; "),
        (OLD, (*DAY[:2], STOP), "stopped", " was stopped in the session of 2026-11-23, left open: KO; "),
        (OLD, (*DAY[:2], STOP, RESUMED), "interrupted", " was interrupted in the session of 2026-11-23; "),
        ("abc", (*DAY, FINISHED), "finished", ""),
        ("abc", DAY, "interrupted", " was interrupted; "),
    ],
)
def test_a_run_that_does_not_run_says_how_it_ended(
    tmp_path: Path, name: str, events: tuple[tuple[str, dict[str, Any]], ...], how: str, words: str
) -> None:
    """A rehearsal with its session, a simulation with its last one; a run that goes on has no end."""
    create_demo_instance(tmp_path)
    journal(tmp_path / "data" / "runs" / f"{name}.sqlite", *events)
    found = status_document(tmp_path, BELL)
    assert found["ended"] == {"how": how, "open": ["KO"] if how == "stopped" else []}
    text = "\n".join(lines(found, BELL))
    assert f"; it {'has' if how == 'finished' else 'was'} {how}" in text
    assert f"2026-11-23, {'closed' if records.SESSION_CLOSED in dict(events) else how}, state" in text
    said = unfinished_sentence(run_file(Instance.at(tmp_path)))
    assert said == (f"The REHEARSAL run {name}{words}the same command resumes it." if words else "")
    with filesystem.hold_lock(Instance.at(tmp_path).lock, name):
        assert status_document(tmp_path, BELL)["ended"] is None
