"""The runs and backtests of an instance as a list."""

from __future__ import annotations

import datetime as dt
import os
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.errors import UsageError
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.reports import trades_csv
from tbot_core.reports.html.scripts import head
from tbot_core.status.run_list import report_file, run_list

if TYPE_CHECKING:
    from pathlib import Path

TIME = dt.datetime(2018, 1, 16, tzinfo=dt.UTC)
COLUMNS = ",".join(trades_csv.COLUMNS)
ROW = "2018-01-16,open,AAA,paper,long,1,t,1,t,2,TIME,0.01"


def journal(path: Path, *events: tuple[str, dict[str, Any]]) -> None:
    """A journal with these events."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(open_journal(path)) as found:
        found.append([NewEvent(kind=kind, payload=payload, time=TIME) for kind, payload in events])


def report(home: Path, name: str, rows: tuple[str, ...] | None, age: float = 0, text: str = "") -> None:
    """A report with its trades."""
    folder = home / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.html").write_text(f"<!doctype html>{text}")
    os.utime(folder / f"{name}.html", (1e9 - age, 1e9 - age))
    if rows is not None:
        (folder / f"{name}.csv").write_text("\n".join([COLUMNS, *rows, ""]))


def test_a_run_has_its_sessions_trades_and_report(tmp_path: Path) -> None:
    """Summed over its closed sessions; a report of its id is not listed as a backtest too."""
    days = ("2018-01-16", "2018-01-17")
    closed = [(records.SESSION_CLOSED, {"date": day, "trades": 2, "pnl": "1.255"}) for day in days]
    opened = [(records.SESSION_OPENED, {"date": day}) for day in days]
    start = (records.RUN_STARTED, {"run_id": "abc", "mode": "replay", "simulated": True})
    journal(tmp_path / "data" / "runs" / "abc.sqlite", start, *opened, *closed, (records.RUN_FINISHED, {}))
    report(tmp_path, "abc", ())
    (found,) = run_list(tmp_path)
    assert (found["mode"], found["sessions"], found["first"], found["last"]) == ("replay", 2, *days)
    assert (found["trades"], Decimal(found["pnl"]), found["report"], found["finished"]) == (
        4,
        Decimal("2.51"),
        "abc",
        True,
    )


def test_a_backtest_has_the_figures_of_its_trades(tmp_path: Path) -> None:
    """From the table beside its report; without one only its report; the latest first. The report names its prices."""
    report(tmp_path, "first", (f"{ROW},3.50", f"{ROW.replace('16', '18')},-1.25"), age=5, text=head("", simulated=True))
    report(tmp_path, "second", None, text=head("", simulated=False))
    report(tmp_path, "third", (), age=9)
    report(tmp_path, "..odd name", ())
    found = {one["run"]: one for one in run_list(tmp_path)}
    assert list(found) == ["second", "first", "third"]
    first = found["first"]
    assert (first["mode"], first["trades"], first["pnl"]) == ("backtest", 2, "2.25")
    assert (first["first"], first["last"], first["report"]) == ("2018-01-16", "2018-01-18", "first")
    assert (found["second"]["trades"], found["third"]["first"]) == (None, None)
    assert [one["simulated"] for one in found.values()] == [False, True, None]


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
    report(tmp_path, "abc", ())
    assert report_file(tmp_path, "abc", ".html").name == "abc.html"
    with pytest.raises(UsageError, match="no report"):
        report_file(tmp_path, name, ".html")
