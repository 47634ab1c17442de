"""`tbot drift`: a recorded comparison is shown, and one that was not recorded is computed from what was received."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tbot_core import cli
from tbot_core.engine.bootstrap import assemble
from tbot_core.instance import Instance
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.instance.journal_chain import open_instance_journal
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import SignalDecided
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.marketdata.bar_aggregator import BarAmendment, BarArrival
from tbot_core.marketdata.received_bars import RecordedMinute, RecordingHeader, SessionRecorder
from tbot_core.marketdata.received_files import received_folder
from tbot_core.model.bars import FIELDS, MinuteSlice, Quotes
from tbot_core.model.clock import SystemClock
from tbot_core.model.reasons import Reason
from tbot_core.testing.sessions import day
from tbot_core.testing.trades import proposal, session
from tbot_core.trading.commands import Decision

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SESSION = session()
DAY = SESSION.date.isoformat()
SETTINGS = {"STRATEGY_SEQUENCE": "open", "OPEN_ANALYSIS_TIME": "2", "OPEN_BREAKOUT_TIME": "4", "FILTERS": "none"}


@pytest.fixture
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A paper instance with a session that ended, in which nothing was traded; it has the decisions of a parameter."""
    home, document = tmp_path / "x", tmp_path / "in.json"
    document.write_text(json.dumps({"env_bot": SETTINGS | {"BROKER_NAME": "PAPER", "STRAT_OPEN_BUFFER": "0.002"}}))
    cli.invoke(["init", "--from-json", str(document), "--home", str(home)])
    fingerprint = assemble(home, "paper", SystemClock()).settings.fingerprint
    opened = {"date": DAY, "symbols": 1, "equity": "100000.00", "minutes": SESSION.minutes, "account": "PAPER"}
    say(
        home,
        (records.RUN_STARTED, {"mode": "paper", "equity": "100000", "settings_hash": fingerprint}),
        (records.SESSION_OPENED, opened),
        *((records.DECISION, codec.write(SignalDecided.of(one))) for one in getattr(request, "param", ())),
        (records.SESSION_CLOSED, {"date": DAY, "equity": "100000.00", "cash": "100000.00", "open": []}),
    )
    return home


def say(home: Path, *said: tuple[str, dict[str, Any]]) -> None:
    """Events in the instance's journal."""
    with closing(open_instance_journal(Instance.at(home))) as journal:
        journal.append([NewEvent(kind=kind, payload=payload, time=SESSION.open) for kind, payload in said])


def rehearse(home: Path, *said: tuple[str, dict[str, Any]]) -> Path:
    """The journal of a rehearsal with these events."""
    path = Instance.at(home).runs / "rehearsal-20260303T143000.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(open_journal(path)) as journal:
        journal.append([NewEvent(kind=kind, payload=payload, time=SESSION.open) for kind, payload in said])
    return path


def receive(received: Path, flaw: str = "late") -> None:
    """The bars of ten minutes: a rise in the fourth; its quotes are fresh.

    The second bar came late; or it was revised or filled in, or is not there.
    """
    header = RecordingHeader(session=SESSION, symbols=("AAA",), day=day(1, previous_close=20.0), source="acme")
    recorder = SessionRecorder.open(received, header)
    for index in range(10):
        price = np.array([20.0 if index < 3 else 20.08])
        bar = dict.fromkeys(FIELDS, price) | {"volume": np.array([5e5]), "vwap": price}
        values = np.array([*(bar[name][0] for name in FIELDS), price[0]])
        arrival = BarArrival.REVISED if flaw == "revised" else BarArrival.LATE
        amended = () if index != 2 else (BarAmendment(minute=1, row=0, values=values, arrival=arrival),)
        quotes = Quotes(bid=price - 0.01, ask=price + 0.01, age_s=np.array([1.0]))
        minute = MinuteSlice(index=index, **bar)
        record = RecordedMinute(
            minute=minute,
            late=amended if flaw == "late" else (),
            revised=amended if flaw == "revised" else (),
            filled=flaw == "filled" and index == 1,
            at=SESSION.moment(index + 1),
            quotes=quotes if index else None,
        )
        if flaw != "absent" or index != 1:
            recorder.append(record)


def drift(home: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What the command prints."""
    capsys.readouterr()
    assert cli.invoke(["drift", *words, "--home", str(home)]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_the_shadow_run_trades_on_what_was_received(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last session is compared: an entry at the ask's limit is expected, and the session had no signal."""
    receive(home / "data" / "received")
    found = json.loads(drift(home, capsys, "--json"))
    assert (found["date"], found["minutes"], found["of_minutes"], found["note"]) == (DAY, 10, SESSION.minutes, "")
    (trade,) = found["trades"]
    assert (trade["symbol"], trade["minute"], trade["words"]) == ("AAA", 3, "no signal in the session")
    assert trade["expected"]["entry_price"] == "20.0800"
    assert "0 of 1 expected trades made, 1 missing" in drift(home, capsys, DAY)


@pytest.mark.parametrize(
    "home", [[Decision(proposal=proposal("AAA", 4), reason=Reason.SIGNAL_TOO_LATE)]], indirect=True
)
@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ("late", "came late (LATE)"),
        ("revised", "was revised"),
        ("filled", "was filled in after a start"),
        ("absent", "was not recorded"),
    ],
)
def test_a_signal_in_another_minute_names_the_bar_that_moved_it(
    home: Path, capsys: pytest.CaptureFixture[str], flaw: str, words: str
) -> None:
    """The latest bar before it that came late, was revised or filled in, or is not in the recording."""
    receive(home / "data" / "received", flaw)
    (trade,) = json.loads(drift(home, capsys, "--json"))["trades"]
    moved = f"signal at minute 3 expected, 4: its bar of minute 1 {words}"
    assert trade["words"] == f"SIGNAL_TOO_LATE: {Reason.SIGNAL_TOO_LATE.sentence}, {moved}"


def test_what_was_recorded_at_the_days_end_is_shown(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was made with that day's settings, and needs no bars."""
    empty = {"both": 0, "missing": 0, "extra": 0, "entry_bps": None, "exit_bps": None, "pnl": "0.00"}
    say(home, (records.DRIFT, {"date": DAY, "note": "", "trades": [], **empty, "expected_pnl": "1.00"}))
    assert "P&L 0.00, expected +1.00." in drift(home, capsys)


def test_the_last_sessions_are_compared_one_by_one_and_together(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that ended, in order, with their sums; one whose bars are gone is named, and the exit code is 1."""
    receive(home / "data" / "received")
    fill = {"quantity": "1", "entry_price": "10.0000", "exit_price": None, "exit_reason": None, "pnl": "1.00"}
    trade = {"strategy": "open", "symbol": "AAA", "side": "long", "minute": 3, "expected": fill, "real": fill}
    trade |= {"entry_bps": 2.0, "exit_bps": None, "words": ""}
    sums = {"both": 1, "missing": 0, "extra": 0, "entry_bps": 2.0, "exit_bps": None, "pnl": "1.00"}
    later = {"date": "2026-03-04", "note": "", "trades": [trade], **sums, "expected_pnl": "1.50"}
    for day_ in ("2026-03-03", "2026-03-04"):
        opened = {"date": day_, "symbols": 1, "equity": "100000.00", "minutes": SESSION.minutes, "account": "PAPER"}
        ended: dict[str, Any] = {"date": day_, "equity": "100000.00", "cash": "100000.00", "open": []}
        say(home, (records.SESSION_OPENED, opened), (records.SESSION_CLOSED, ended))
    say(home, (records.DRIFT, later))
    capsys.readouterr()
    assert cli.invoke(["drift", "--last", "9", "--json", "--home", str(home)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["date"] for one in found["sessions"]] == [DAY, "2026-03-03", "2026-03-04"]
    assert ["fault" in one for one in found["sessions"]] == [False, True, False]
    assert [found[name] for name in ("both", "missing", "entry_bps", "exit_bps", "pnl")] == [1, 1, 2.0, None, "1.00"]
    said = drift(home, capsys, "--last", "1")
    assert said.splitlines()[0].startswith("1 session, 2026-03-04 to 2026-03-04: 1 of 1 expected trades made")
    assert "Give DATE or --last" in drift(home, capsys, DAY, "--last", "2", code=2)
    assert cli.invoke(["drift", "--last", "2", "--home", str(home)]) == 1
    assert "Session 2026-03-03: not compared. What was received on 2026-03-03 is not in" in capsys.readouterr().out


def test_without_bars_session_or_date_the_reason_is_given(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 without bars and before the first close, 2 for a day that was not traded."""
    assert f"What was received on {DAY} is not in" in drift(home, capsys, code=1)
    assert "has no session on 2026-01-06 that ended" in drift(home, capsys, "2026-01-06", code=2)


def test_before_the_first_close_there_is_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], paper_instance: Callable[[Path], Path]
) -> None:
    """An instance that has not traded says what was looked for, that replays do not count, and what does."""
    home = tmp_path / "y"
    paper_instance(home)
    said = drift(home, capsys, code=1)
    assert "No session of paper or live trading has ended in" in said
    assert "do not count" not in said
    for name in ("a1", "b2", "dry-1", "rehearsal-1"):
        (home / "data" / "runs").mkdir(parents=True, exist_ok=True)
        open_journal(home / "data" / "runs" / f"{name}.sqlite").close()
    said = drift(home, capsys, code=1)
    assert "2 replays and demos do not count: their fills are simulated." in said
    assert "`tbot run` trades on paper" in said
    (home / "data" / "tbot.sqlite").unlink()
    (home / "data" / "journal.head").unlink(missing_ok=True)
    assert "No session of paper or live trading has ended in" in drift(home, capsys, code=1)


def test_a_word_for_a_day_is_no_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], paper_instance: Callable[[Path], Path]
) -> None:
    """It is refused as one, also where no session has ended: exit 2."""
    paper_instance(tmp_path / "y")
    assert "Invalid date 'yesterday'" in drift(tmp_path / "y", capsys, "yesterday", code=2)


def test_a_rehearsal_is_compared_and_shown_while_commands_reach_it(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TBOT_REHEARSAL set its run is the default, before its close without the advice to delete it."""
    started = {"mode": "rehearsal", "equity": "100000", "settings_hash": "other"}
    opened = {"date": DAY, "symbols": 1, "equity": "100000.00", "minutes": SESSION.minutes, "account": "A"}
    opened |= {"open": SESSION.open.isoformat()}
    path = rehearse(home, (records.RUN_STARTED, started), (records.SESSION_OPENED, opened))
    receive(received_folder(path))
    monkeypatch.setenv(REHEARSAL_VARIABLE, "http://127.0.0.1:1")
    shown = drift(home, capsys, code=1)
    assert f"No session of the run {path.stem} has ended in" in shown
    assert "after the close" in shown
    assert "Delete" not in shown
    cli.invoke(["status", "--home", str(home)])
    assert "feed        acme: " in capsys.readouterr().out
    rehearse(home, (records.SESSION_CLOSED, {"date": DAY, "equity": "100000.00", "cash": "100000.00", "open": []}))
    assert "no signal in the session" in drift(home, capsys)


def test_settings_that_have_changed_since_are_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shadow run uses the current ones."""
    receive(home / "data" / "received")
    say(home, (records.RUN_STARTED, {"mode": "paper", "equity": "100000", "settings_hash": "other"}))
    assert "Note: The settings have changed since the run" in drift(home, capsys)
