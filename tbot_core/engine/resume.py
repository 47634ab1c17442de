"""An interrupted run, read from its journal, and the minutes that closed while tbot was not running."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.errors import JournalError
from tbot_core.journal import integrity, records
from tbot_core.journal.events.sessions import MinutesMissed, RunStarted, SessionOpened
from tbot_core.journal.projections.book import SessionBook, fold_events
from tbot_core.journal.store import Journal, JournalRecorder, open_journal
from tbot_core.model.calendar import Session
from tbot_core.system import filesystem, log

if TYPE_CHECKING:
    from pathlib import Path


_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class InterruptedSession:
    """A session that was opened and not closed, and the payload of the event that started its run."""

    session: Session
    run: Mapping[str, Any]


def resume_run(path: Path, identity: str) -> tuple[Journal, SessionBook]:
    """The run's journal and the book of its closed sessions; a finished run, or another bot's, starts anew.

    The journal commits once a session, so an interrupted session is not in it, and is run anew.

    A replaced journal that was damaged or changed is kept as X.damaged and logged.
    """
    if filesystem.exists(path):
        journal = open_journal(path)
        started = journal.last_event(records.RUN_STARTED)
        own = started is None or started.facts(RunStarted).identity == identity
        if own and journal.last_event(records.RUN_FINISHED) is None:
            journal.check()
            if last_close_event(journal) == journal.head[0]:
                return journal, fold_events(journal.events())
        _close_replaced(journal)
    for leftover in integrity.journal_files(path):
        filesystem.remove(leftover)
    return open_journal(path), SessionBook()


def _close_replaced(journal: Journal) -> None:
    # Close a journal that is replaced; a damaged one is kept for analysis.
    try:
        journal.verify()
    except JournalError as fault:
        reason = fault.message
    else:
        reason = ""
    finally:
        journal.close()
    if reason:
        kept = journal.path.with_name(f"{journal.path.name}.damaged")
        filesystem.write_atomic(kept, filesystem.read_bytes(journal.path))
        _log.warning("journal.replaced", reason=reason, kept=kept.name)


def last_close_event(journal: Journal) -> int:
    """The number of the event that closed the last session; 0 if none was closed."""
    closed = journal.last_event(records.SESSION_CLOSED)
    return 0 if closed is None else closed.seq


def interrupted_date(journal: Journal) -> str | None:
    """The date of the session that was opened and not closed; None without one."""
    opened = journal.last_event(records.SESSION_OPENED)
    if opened is None or opened.seq < last_close_event(journal):
        return None
    return opened.facts(SessionOpened).date.isoformat()


def interrupted_session(journal: Journal) -> InterruptedSession | None:
    """The interrupted session; None if every opened session is closed."""
    opened, run = journal.last_event(records.SESSION_OPENED), journal.last_event(records.RUN_STARTED)
    if opened is None or run is None or opened.seq < last_close_event(journal):
        return None
    hours = opened.facts(SessionOpened)
    session = Session(date=hours.open.date(), open=hours.open, close=hours.close)
    return InterruptedSession(session=session, run=run.payload)


def note_missed_minutes(recorder: JournalRecorder, session: Session, first: int, until: int) -> None:
    """Record the missed minutes from `first` to before `until`, if there are any."""
    if first < until:
        recorder.record(MinutesMissed(session=session.date, first=first, until=min(until, session.minutes)))
