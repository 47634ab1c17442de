"""The runs and backtests of an instance as a list: when, which sessions, how many trades, and what came of them."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tbot_core.errors import JournalError, TbotError, UsageError
from tbot_core.instance import Instance
from tbot_core.journal import records
from tbot_core.model.formatting import money_text
from tbot_core.reports.html.scripts import HEAD_BYTES, says_simulated
from tbot_core.status import runs
from tbot_core.system import file_streams, filesystem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tbot_core.status import Document
    from tbot_core.status.runs import RunFile

MOST_BACKTESTS: Final = 100
"""How many of the latest backtests are listed."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


def run_list(home: Path | None) -> list[Document]:
    """Each run with a journal and each backtest with a report, the latest first.

    `report` is the name of its report, None without one; `fault` why a journal cannot be read. `simulated`: whether
    its prices are simulated, None where that is not known.
    """
    instance = Instance.at(home)
    listed = [_of_journal(instance, one) for one in runs.run_files(instance)]
    known = {one["report"] for one in listed}
    backtests = [_of_report(path) for path in _reports(instance) if path.stem not in known]
    return sorted([*listed, *backtests[:MOST_BACKTESTS]], key=lambda one: str(one["changed"]), reverse=True)


def report_file(home: Path | None, name: str, suffix: str) -> Path:
    """The file of a report, `.html` or `.csv`, by its name; raises UsageError if there is none."""
    path = Instance.at(home).reports / f"{name}{suffix}"
    if _NAME.fullmatch(name) is None or not filesystem.exists(path):
        raise UsageError(f"There is no report {name[:80]}.", "The list of runs names those that have one.")
    return path


def _of_journal(instance: Instance, file: RunFile) -> Document:
    found: Document = {**runs.run_document(file), "mode": None, "report": None, "fault": "", **_no_figures()}
    try:
        with runs.open_run_file(file) as journal:
            started = journal.last_event(records.RUN_STARTED)
            opened = [one.payload["date"] for one in journal.events(kind=records.SESSION_OPENED)]
            closed = [one.payload for one in journal.events(kind=records.SESSION_CLOSED)]
            finished = journal.last_event(records.RUN_FINISHED) is not None
    except (JournalError, TbotError) as fault:
        return found | {"fault": fault.message}
    run: Mapping[str, Any] = {} if started is None else started.payload
    name = str(run.get("run_id", file.name))
    return found | {
        "mode": run.get("mode"),
        "simulated": run.get("simulated"),
        "finished": finished,
        "report": name if _NAME.fullmatch(name) and filesystem.exists(instance.reports / f"{name}.html") else None,
        "first": min(opened, default=None),
        "last": max(opened, default=None),
        "sessions": len(opened),
        "trades": sum(one["trades"] for one in closed),
        "pnl": money_text(sum((Decimal(one["pnl"]) for one in closed), Decimal(0))),
    }


def _no_figures() -> Document:
    return {"simulated": None, "finished": False, **dict.fromkeys(("first", "last", "sessions", "trades", "pnl"))}


def _reports(instance: Instance) -> list[Path]:
    # The reports, the latest first.
    if not filesystem.is_folder(instance.reports):
        return []
    pages = [path for path in filesystem.entries(instance.reports) if path.suffix == ".html"]
    return sorted((path for path in pages if _NAME.fullmatch(path.stem)), key=filesystem.modified, reverse=True)


def _of_report(path: Path) -> Document:
    # A backtest keeps no journal: its figures are those of the trades beside its report.
    changed = dt.datetime.fromtimestamp(filesystem.modified(path), dt.UTC).isoformat()
    found = {"run": path.stem, "changed": changed, "dry": False, "rehearsal": False, "mode": "backtest"}
    simulated = says_simulated(file_streams.read_start(path, HEAD_BYTES))
    table = path.with_suffix(".csv")
    if not filesystem.exists(table):
        return {**found, **_no_figures(), "simulated": simulated, "report": path.stem, "fault": ""}
    rows = list(csv.DictReader(io.StringIO(filesystem.read_text(table))))
    days = [one["session"] for one in rows]
    figures = {
        "simulated": simulated,
        "finished": True,
        "first": min(days, default=None),
        "last": max(days, default=None),
        "sessions": None,
        "trades": len(rows),
        "pnl": money_text(sum((Decimal(one["pnl"]) for one in rows), Decimal(0))),
    }
    return {**found, **figures, "report": path.stem, "fault": ""}
