"""An interrupted run, read from its journal, and the minutes that closed while tbot was not running."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.errors import JournalError
from tbot_core.journal import integrity, records
from tbot_core.journal.projections.book import SessionBook, fold_events
from tbot_core.journal.store import Journal, NewEvent, open_journal
from tbot_core.model.calendar import Session
from tbot_core.system import filesystem, log

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.instance import Settings

_log = log.logger(__name__)

# A repeated run does not write these again: they describe the process, not the market.
_OF_THE_PROCESS = frozenset(
    {
        records.HOLIDAY,
        records.SETTINGS,
        records.RUN_STARTED,
        records.RUN_FINISHED,
        records.GAP,
        records.STOPPED,
        records.REQUEST_REFUSED,
        records.SILENCE,
    }
)


@attrs.frozen(kw_only=True)
class InterruptedSession:
    """A paper session that was opened and not closed, and the settings it was opened with.

    `after`: the last event before it; `started`: the event that started its run, with the payload `run`.
    """

    session: Session
    after: int
    run: Mapping[str, Any]
    started: int


def resume_run(path: Path, identity: str) -> tuple[Journal, SessionBook]:
    """The run's journal and the book of its closed sessions; a finished run, or another bot's, starts anew.

    A replaced journal that was damaged or changed is kept as X.damaged and logged.
    """
    if filesystem.exists(path):
        journal = open_journal(path)
        started = journal.last_event(records.RUN_STARTED)
        own = started is None or started.payload["identity"] == identity
        if own and journal.last_event(records.RUN_FINISHED) is None:
            journal.check()
            after = last_close_event(journal)
            book = fold_events(event for event in journal.events() if event.seq <= after)
            journal.expect_repeat(after, leaving_out=frozenset({records.STOPPED}))
            return journal, book
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
    return None if opened is None or opened.seq < last_close_event(journal) else str(opened.payload["date"])


def interrupted_session(journal: Journal) -> InterruptedSession | None:
    """The interrupted session; None if every opened session is closed."""
    opened, run = journal.last_event(records.SESSION_OPENED), journal.last_event(records.RUN_STARTED)
    if opened is None or run is None or opened.seq < last_close_event(journal):
        return None
    moments = {name: datetime.fromisoformat(opened.payload[name]) for name in ("open", "close")}
    session = Session(date=moments["open"].date(), **moments)
    return InterruptedSession(session=session, after=opened.seq - 1, run=run.payload, started=run.seq)


def check_same_settings(found: InterruptedSession, settings: Settings, identity: str) -> None:
    """Raise JournalError if settings, tables or identity differ from those of the session: its orders would differ.

    The session continues with its recorded settings, but the content of tables is not recorded.
    """
    for what, then, now in (
        (_other_settings(found, settings), found.run["settings_hash"], settings.fingerprint),
        ("another bot identity than that", found.run["identity"], identity),
    ):
        if then != now:
            raise JournalError(
                f"The session of {found.session.date} was interrupted under {what} of now.",
                "Put it back until the session has closed, or trade in another --home.",
            )


def _other_settings(found: InterruptedSession, settings: Settings) -> str:
    # Which settings differ; older journals do not name the tables.
    then, now = found.run.get("tables", settings.tables), settings.tables
    changed = [name for name in sorted({*then, *now}) if then.get(name, "") != now.get(name, "")]
    if changed:
        return f"other tables ({', '.join(str(settings.instance.table(name)) for name in changed)}) than those"
    return "other settings than those"


def prepare_repeat(journal: Journal, found: InterruptedSession, now: datetime) -> None:
    """Prepare to repeat the interrupted session up to now, and record its missed minutes."""
    last = max(event.applied for event in journal.events(found.after) if event.kind not in _OF_THE_PROCESS)
    decided = any(event.applied == last for event in journal.events(found.after, kind=records.DECISION))
    first = max(found.session.minute(last) - (0 if decided else 1), 0)
    until = min(found.session.minute(now) - 1, found.session.minutes)
    _write_gap(journal, found.session, (first, max(first, until)), now)
    journal.expect_repeat(found.after, leaving_out=_OF_THE_PROCESS)


def note_unwatched_minutes(journal: Journal, session: Session, first: int, now: datetime) -> None:
    """Record the missed minutes from `first` on, except the latest closed one, if there are any."""
    until = min(session.minute(now) - 1, session.minutes)
    if first < until:
        _write_gap(journal, session, (first, until), now)


def late_minutes(journal: Journal, session: Session) -> frozenset[int]:
    """The minutes of a session whose signals are too late: they closed while tbot was not running."""
    gaps = (event.payload for event in journal.events(kind=records.GAP))
    day = session.date.isoformat()
    return frozenset(minute for gap in gaps if gap["session"] == day for minute in range(gap["from"], gap["to"]))


def _write_gap(journal: Journal, session: Session, minutes: tuple[int, int], now: datetime) -> None:
    payload = {"session": session.date.isoformat(), "from": minutes[0], "to": minutes[1]}
    journal.append([NewEvent(kind=records.GAP, payload=payload, time=max(session.open, now))])
