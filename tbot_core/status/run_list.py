"""The runs and backtests of an instance as a list: when, which sessions, how many trades, and what came of them."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tbot_core.errors import JournalError, TbotError, UsageError
from tbot_core.instance import Instance
from tbot_core.journal import records
from tbot_core.journal.events.sessions import SessionOpened
from tbot_core.model.formatting import money_text
from tbot_core.reports.html import HEAD_BYTES, read_facts
from tbot_core.reports.timeline import read_timeline
from tbot_core.status import runs
from tbot_core.system import filesystem, large_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tbot_core.journal.store import Journal
    from tbot_core.status import Document
    from tbot_core.status.runs import RunFile

_MOST_BACKTESTS: Final = 100
"""How many of the latest backtests are listed."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


def run_list(home: Path | None) -> list[Document]:
    """Each run with a journal and each backtest with a report, the latest first.

    `report` is the name of its report, None without one; `fault` why a journal cannot be read. `prices`: "simulated" if
    some are, else their source, "" where that is not known. `trades` and `pnl` (USD) are those of the closed trades,
    also of a session that is not closed: `unclosed` is its date, `held` how many positions it has open. `pnl` is None
    where all that was traded is still open.
    """
    instance = Instance.at(home)
    listed = [_of_journal(instance, run_file) for run_file in runs.run_files(instance)]
    known = {one["report"] for one in listed}
    backtests = [_of_report(path) for path in _reports(instance) if path.stem not in known]
    found = [one | {"prices": _prices(one)} for one in (*listed, *backtests[:_MOST_BACKTESTS])]
    return sorted(found, key=lambda one: str(one["changed"]), reverse=True)


def report_prices(home: Path | None, name: str) -> str:
    """Whose prices a report is of, as in the list; "" where it is not there or does not say."""
    try:
        return _prices(_facts(report_file(home, name, ".html")))
    except UsageError:
        return ""


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
            openings = journal.events(kind=records.SESSION_OPENED)
            opened = [event.facts(SessionOpened).date.isoformat() for event in openings]
            closed = [event.payload for event in journal.events(kind=records.SESSION_CLOSED)]
            finished = journal.last_event(records.RUN_FINISHED) is not None
            unclosed = _unclosed(journal)
    except (JournalError, TbotError) as fault:
        return found | {"fault": fault.message}
    run: Mapping[str, Any] = {} if started is None else started.payload
    name = str(run.get("run_id", file.name))
    report = instance.reports / f"{name}.html"
    has_report = _NAME.fullmatch(name) is not None and filesystem.exists(report)
    facts = _facts(report) if has_report and finished else {}
    return found | {
        "mode": run.get("mode"),
        "source": run.get("source"),
        "simulated": run.get("simulated"),
        "finished": finished,
        "report": name if has_report else None,
        "first": min(opened, default=None),
        "last": max(opened, default=None),
        "sessions": len(opened),
        **_sums([*closed, *([unclosed] if unclosed else [])]),
        **({"pnl": facts["pnl"]} if facts.get("pnl") else {}),
        "unclosed": unclosed.get("date"),
        "held": unclosed.get("held", 0),
    }


def _unclosed(journal: Journal) -> Document:
    # The last session with its closed trades if it is not closed, because it runs or was stopped; {} else. Those before
    # it are closed: a start closes what was left open.
    opened, closed = (journal.last_event(kind) for kind in (records.SESSION_OPENED, records.SESSION_CLOSED))
    if opened is None or (closed is not None and closed.seq > opened.seq):
        return {}
    date = opened.facts(SessionOpened).date.isoformat()
    events = list(journal.events(opened.seq - 1))
    try:
        story = read_timeline(events)
    except (JournalError, LookupError, TypeError, ValueError, ArithmeticError) as fault:
        message = f"The session of {date} is not as tbot wrote it, after event {opened.seq}."
        raise JournalError(message, "`tbot audit verify` names the damage.") from fault
    trades, held = story.chapters[0].trades, len(story.book.portfolio.positions)
    pnl = None if held and not trades else sum((trade.pnl for trade in trades), Decimal(0))
    return {"date": date, "trades": len(trades), "pnl": pnl, "held": held}


def _sums(sessions: Sequence[Mapping[str, Any]]) -> Document:
    # Of all sessions; the P&L is not known where it is known of none of them.
    known = [Decimal(session["pnl"]) for session in sessions if session["pnl"] is not None]
    pnl = money_text(sum(known, Decimal(0))) if known else None
    return {"trades": sum(session["trades"] for session in sessions), "pnl": pnl}


def _no_figures() -> Document:
    unknown = ("source", "simulated", "first", "last", "sessions", "trades", "pnl", "unclosed")
    return {"finished": False, "held": 0, **dict.fromkeys(unknown)}


def _reports(instance: Instance) -> list[Path]:
    # The reports, the latest first.
    if not filesystem.is_folder(instance.reports):
        return []
    pages = [path for path in filesystem.entries(instance.reports) if path.suffix == ".html"]
    return sorted((path for path in pages if _NAME.fullmatch(path.stem)), key=filesystem.modified, reverse=True)


def _of_report(path: Path) -> Document:
    # A backtest keeps no journal: its figures are those in its report.
    changed = dt.datetime.fromtimestamp(filesystem.modified(path), dt.UTC).isoformat()
    found = {"run": path.stem, "changed": changed, "dry": False, "rehearsal": False, "mode": "backtest", "fault": ""}
    return {**found, **_no_figures(), **_facts(path), "finished": True, "report": path.stem}


def _facts(path: Path) -> Document:
    return read_facts(large_files.read_start(path, HEAD_BYTES)) or {}


def _prices(found: Mapping[str, Any]) -> str:
    return "simulated" if found.get("simulated") else str(found.get("source") or "")
