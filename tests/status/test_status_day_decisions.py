"""A session as a whole: what the window of each strategy did, counted from its journal."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli
from tbot_core.errors import DataError, UsageError
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.reasons import Reason
from tbot_core.status.day_decisions import day_decisions
from tbot_core.status.why_text import day_sections

if TYPE_CHECKING:
    from pathlib import Path

OPEN = dt.datetime(2026, 12, 1, 14, 30, tzinfo=dt.UTC)
WINDOW = {"start": 0, "analysis": 5, "breakout": 10, "monitoring": 400}
NEAR = {"distance": 0.0125, "minute": 9, "rule": "breakout", "side": -1, "symbol": "XYZ"}


def event(kind: str, minute: int = 0, **payload: Any) -> NewEvent:
    """An event of the session."""
    at = OPEN + dt.timedelta(minutes=minute)
    return NewEvent(kind=kind, payload=payload, time=at)


def started() -> NewEvent:
    """The start of a run with a few settings."""
    return event(
        records.RUN_STARTED,
        -60,
        run_id="paper",
        mode="paper",
        source="a feed",
        simulated=False,
        equity="1000",
        settings={"MAX_TRADES": "4", "MIN_PRICE": "5"},
        data_hash="",
        settings_hash="",
        notes=[],
        request={"kind": "live", "symbols": [], "seed": 0},
        identity="",
    )


def opened(date: str = "2026-12-01") -> NewEvent:
    """A session with one window."""
    return event(
        records.SESSION_OPENED,
        date=date,
        open=OPEN.isoformat(),
        close=(OPEN + dt.timedelta(minutes=390)).isoformat(),
        minutes=390,
        symbols=3,
        equity="1000",
        buying_power="1000",
        account="A",
        primary="paper",
        state="normal",
        windows={"open": WINDOW},
    )


def decision(symbol: str, reason: str, minute: int = 6) -> NewEvent:
    """A signal with its result."""
    signal = {"session": "2026-12-01", "strategy": "open", "symbol": symbol, "minute": minute, "rule": "breakout"}
    return event(records.DECISION, minute, signal=signal, reason=reason, side="long", value=None, limit=None)


def recorded(home: Path, *events: NewEvent) -> Path:
    """An instance whose journal has these events."""
    (home / "data").mkdir(parents=True)
    (home / ".env_bot").write_text("BROKER_NAME=PAPER\n")
    with closing(open_journal(home / "data" / "tbot.sqlite")) as journal:
        journal.append(events)
    return home


def ended(*near: dict[str, Any], triggers: int = 0) -> NewEvent:
    """The end of the window."""
    found: dict[str, Any] = {"near_misses": near, "bad_prints": ["BAD"]}
    return event(records.WINDOW_CLOSED, 15, strategy="open", candidates=2, triggers=triggers, **found)


SCREENED = event(records.SCREENED, strategy="open", candidates=2, reasons={"PRICE_LOW": 1})
UNIVERSE = event(records.UNIVERSE, kept=3, limit=3, by="UNIVERSE_MAX", cut=["B", "A"], denied={"WATCH_ONLY": ["C"]})


def test_a_window_counts_what_was_denied_with_the_sentence_of_each_reason(tmp_path: Path) -> None:
    """Before the bell and at the signal, the most frequent first, and the settings of the run that change it."""
    two = (decision("XYZ", "MAX_TRADES", 7), decision("ABC", "MAX_TRADES", 8))
    home = recorded(tmp_path / "bot", started(), UNIVERSE, opened(), SCREENED, decision("XYZ", "ALLOWED"), *two)
    found = day_decisions(home)
    (window,) = found["windows"]
    assert (window["candidates"], window["triggers"], window["signals"], window["allowed"]) == (2, 3, 3, 1)
    assert window["near_misses"] is None
    assert [(one["reason"], one["count"], one["sentence"], one["settings"]) for one in window["denials"]] == [
        ("MAX_TRADES", 2, Reason.MAX_TRADES.sentence, ["MAX_TRADES"])
    ]
    assert [one["reason"] for one in window["before_bell"]] == ["PRICE_LOW"]
    assert [(one["symbol"], one["allowed"], one["denied"]) for one in found["symbols"]] == [
        ("XYZ", 1, 1),
        ("ABC", 0, 1),
    ]
    assert {one["reason"]: one["symbols"] for one in found["left_out"]} == {
        "UNIVERSE_TRUNCATED": ["A", "B"],
        "WATCH_ONLY": ["C"],
    }
    assert (found["session"], found["in_session"], found["watched"]) == ("2026-12-01", True, 3)
    notes = next(one.notes for one in day_sections(found) if "left out" in one.title)
    assert [note.rpartition(". ")[2] for note in notes] == ["Symbols: A, B.", "Symbols: C."]


def test_a_day_without_a_trade_says_what_denied_most_and_what_came_near(tmp_path: Path) -> None:
    """In the words of the run's own advice; the text has the distance and the time of the near miss."""
    vix = event(records.VIX, 5, strategy="open", value=14.5, candidates=1)
    home = recorded(tmp_path / "bot", started(), opened(), SCREENED, vix, decision("XYZ", "MAX_TRADES"), ended(NEAR))
    found = day_decisions(home)
    assert found["advice"][0].startswith("No trade. Denied most by MAX_TRADES, 1 time (MAX_TRADES); PRICE_LOW")
    text = [line for one in day_sections(found) for line in (one.title, *one.notes, *one.lines)]
    assert "0 trades in the session of 2026-12-01" in text
    assert "open: analysis from 09:30, entries 09:35 to 09:45, over at 16:00" in text
    assert "  2 candidates before the bell, VIX 14.50." in text
    assert "  Near miss: XYZ 1.25\N{NO-BREAK SPACE}% from breakout short at 09:40." in text
    assert "  BAD_PRINT, first bar ignored: BAD." in text


def test_only_the_asked_session_counts(tmp_path: Path) -> None:
    """Not the day before, nor what is recorded after its end."""
    later = event(records.DECISION, 10, **decision("XYZ", "ALLOWED").payload)
    home = recorded(tmp_path / "bot", started(), opened(), opened("2026-12-02"), later)
    found = day_decisions(home, date="2026-12-01")
    assert (found["sessions"], found["symbols"]) == (["2026-12-01", "2026-12-02"], [])
    text = [line for one in day_sections(found) for line in one.notes]
    assert "  No trigger yet." in text
    with pytest.raises(UsageError, match="no session on 2026-12-03"):
        day_decisions(home, date="2026-12-03")


def test_a_run_without_a_session_is_an_error(tmp_path: Path) -> None:
    """It says when to ask again."""
    with pytest.raises(DataError, match="has no session yet"):
        day_decisions(recorded(tmp_path / "bot", started()))


def test_why_without_a_symbol_explains_the_session(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the command line; a time needs a symbol."""
    home = str(recorded(tmp_path / "bot", started(), opened(), SCREENED, ended()))
    assert cli.invoke(["why", "--home", home]) == 0
    assert "No trigger." in capsys.readouterr().out
    assert cli.invoke(["why", "--at", "10:00", "--home", home]) == 2
    assert "`tbot why SYMBOL --at 10:00`" in capsys.readouterr().err
