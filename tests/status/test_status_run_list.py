"""The runs and backtests of an instance as a list."""

from __future__ import annotations

import datetime as dt
import json
import os
import sqlite3
from contextlib import closing
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli
from tbot_core.errors import UsageError
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.status.day_decisions import day_decisions
from tbot_core.status.run_list import report_file, report_prices, run_list
from tbot_core.status.trades import trades_document
from tbot_core.status.why_text import day_sections

if TYPE_CHECKING:
    from pathlib import Path

TIME = dt.datetime(2018, 1, 16, tzinfo=dt.UTC)
DAYS = ("2018-01-16", "2018-01-18")


def journal(path: Path, *events: tuple[str, dict[str, Any]]) -> None:
    """A journal with these events."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(open_journal(path)) as found:
        found.append([NewEvent(kind=kind, payload=payload, time=TIME) for kind, payload in events])


def facts(days: tuple[str, str], *, simulated: bool, pnl: str) -> str:
    """The facts of a report."""
    found = {"source": "stored bars", "simulated": simulated, "first": days[0], "last": days[1]}
    return f'<meta name="tbot-run" content="{escape(json.dumps({**found, "sessions": 2, "trades": 1, "pnl": pnl}))}">'


def report(home: Path, name: str, age: float = 0, text: str = "") -> None:
    """A report."""
    folder = home / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.html").write_text(f"<!doctype html>{text}")
    os.utime(folder / f"{name}.html", (1e9 - age, 1e9 - age))


def test_a_run_has_its_sessions_trades_and_report(tmp_path: Path) -> None:
    """Summed over its closed sessions, the P&L to the cent as in its report, which is not listed as a backtest too."""
    days = ("2018-01-16", "2018-01-17")
    closed = [(records.SESSION_CLOSED, {"date": day, "trades": 2, "pnl": "1.255"}) for day in days]
    opened = [(records.SESSION_OPENED, {"date": day}) for day in days]
    start = (records.RUN_STARTED, {"run_id": "abc", "mode": "replay", "simulated": True})
    journal(tmp_path / "data" / "runs" / "abc.sqlite", start, *opened, *closed, (records.RUN_FINISHED, {}))
    report(tmp_path, "abc", text=facts(days, simulated=True, pnl="2.52"))
    (found,) = run_list(tmp_path)
    assert (found["mode"], found["sessions"], found["first"], found["last"]) == ("replay", 2, *days)
    assert (found["trades"], Decimal(found["pnl"]), found["report"], found["finished"]) == (
        4,
        Decimal("2.52"),
        "abc",
        True,
    )


def test_a_backtest_has_the_figures_of_its_report(tmp_path: Path) -> None:
    """Also without a trade; a page that says nothing has none; the latest first."""
    report(tmp_path, "first", age=5, text=facts(DAYS, simulated=True, pnl="2.25"))
    report(tmp_path, "second", text=facts(DAYS, simulated=False, pnl="0.00"))
    report(tmp_path, "third", age=9)
    report(tmp_path, "..odd name")
    found = {one["run"]: one for one in run_list(tmp_path)}
    assert list(found) == ["second", "first", "third"]
    shown = [[one[name] for name in ("mode", "first", "last", "pnl", "report")] for one in found.values()]
    assert shown[:2] == [["backtest", *DAYS, "0.00", "second"], ["backtest", *DAYS, "2.25", "first"]]
    assert shown[2] == ["backtest", None, None, None, "third"]
    assert [one["prices"] for one in found.values()] == ["stored bars", "simulated", ""]
    assert [report_prices(tmp_path, name) for name in ("second", "first", "third", "none")] == [
        "stored bars",
        "simulated",
        "",
        "",
    ]


def test_a_journal_that_cannot_be_read_is_listed_with_its_fault(tmp_path: Path) -> None:
    """The others are listed all the same; one without a start has no mode."""
    folder = tmp_path / "data" / "runs"
    journal(folder / "good.sqlite", ("note", {}))
    (folder / "bad.sqlite").write_bytes(b"no database" * 100)
    found = {one["run"]: one for one in run_list(tmp_path)}
    assert found["bad"]["fault"]
    assert (found["good"]["fault"], found["good"]["mode"], found["good"]["report"]) == ("", None, None)


@pytest.mark.parametrize("name", ["missing", "../reports/abc", "", "a" * 90])
def test_only_a_report_of_the_folder_is_found(tmp_path: Path, name: str) -> None:
    """A name with a path in it is none."""
    report(tmp_path, "abc")
    assert report_file(tmp_path, "abc", ".html").name == "abc.html"
    with pytest.raises(UsageError, match="no report"):
        report_file(tmp_path, name, ".html")


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a demo of two sessions; tests only read it."""
    home = tmp_path_factory.mktemp("demo") / "instance"
    assert cli.invoke(["run", "--demo", "--sessions", "2", "--home", str(home), "--json"]) == 0
    return home


def stopped_at(traded: Path, home: Path, kind: str, nth: int) -> None:
    """The demo as it was just before the nth event of a kind."""
    (source,) = (traded / "data" / "runs").glob("*.sqlite")
    path = home / "data" / "runs" / source.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as whole, closing(sqlite3.connect(path)) as copy:
        whole.backup(copy)
        (seq,) = copy.execute(
            "SELECT seq FROM events WHERE kind = ? ORDER BY seq LIMIT 1 OFFSET ?", (kind, nth)
        ).fetchone()
        copy.execute("DELETE FROM events WHERE seq >= ?", (seq,))
        copy.commit()


@pytest.mark.parametrize("nth", [0, 1])
def test_a_session_that_is_not_closed_counts_with_its_closed_trades(traded: Path, tmp_path: Path, nth: int) -> None:
    """To the cent as the list of its trades, alone and after sessions that are closed."""
    stopped_at(traded, tmp_path, records.SESSION_CLOSED, nth)
    (found,) = run_list(tmp_path)
    trades = trades_document(tmp_path)
    assert trades["count"] > 0
    assert (found["trades"], found["pnl"]) == (trades["count"], trades["pnl"])
    assert (found["unclosed"], found["held"], found["sessions"]) == (found["last"], 0, nth + 1)


def test_while_all_that_was_traded_is_open_no_result_is_shown(traded: Path, tmp_path: Path) -> None:
    """The open positions are counted; a session without a trade and a position has a result of nothing."""
    stopped_at(traded, tmp_path, "fill", 1)
    (found,) = run_list(tmp_path)
    assert (found["trades"], found["pnl"], found["held"]) == (0, None, 1)
    (title, *_) = [one.title for one in day_sections(day_decisions(tmp_path))]
    assert title.startswith("0 trades closed, 1 open in the session of")
    stopped_at(traded, tmp_path, records.INTENDED, 0)
    (found,) = run_list(tmp_path)
    assert (found["trades"], found["pnl"], found["held"]) == (0, "0.00", 0)


def test_an_open_session_that_is_damaged_is_the_fault_of_its_run(traded: Path, tmp_path: Path) -> None:
    """It names the session; the list is there all the same."""
    stopped_at(traded, tmp_path, records.SESSION_CLOSED, 1)
    (path,) = (tmp_path / "data" / "runs").glob("*.sqlite")
    with closing(sqlite3.connect(path)) as copy:
        copy.execute("UPDATE events SET payload = '{}' WHERE kind = ?", (records.INTENDED,))
        copy.commit()
    (found,) = run_list(tmp_path)
    assert found["fault"].startswith("The session of 20")
    assert found["pnl"] is None
