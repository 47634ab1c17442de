"""What a journal says of a run that was interrupted, and which minutes nobody watched."""

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

# A run that is repeated does not say these again: they tell of the process, not of the market.
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
    """A session of paper trading that was opened and not closed, and the settings it was opened under."""

    session: Session
    after: int
    run: Mapping[str, Any]
    started: int


def resume_run(path: Path, identity: str) -> tuple[Journal, SessionBook]:
    """The run's journal, and the book of its closed sessions; a finished run, and another bot's, is begun anew.

    One that was damaged or changed is kept beside it as X.damaged, and said in a line of the log.
    """
    if filesystem.exists(path):
        journal = open_journal(path)
        started = journal.last_event(records.RUN_STARTED)
        ours = started is None or started.payload["identity"] == identity
        if ours and journal.last_event(records.RUN_FINISHED) is None:
            journal.check()
            after = last_close_event(journal)
            book = fold_events(event for event in journal.events() if event.seq <= after)
            journal.expect_repeat(after, leaving_out=frozenset({records.STOPPED}))
            return journal, book
        _lay_aside(journal)
    for leftover in integrity.journal_files(path):
        filesystem.remove(leftover)
    return open_journal(path), SessionBook()


def _lay_aside(journal: Journal) -> None:
    # A journal that is about to be begun anew: where it is not whole it is kept, since somebody may want to know why.
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
        _log.warning("journal.begun_anew", reason=reason, kept=kept.name)


def last_close_event(journal: Journal) -> int:
    """The number of the event that closed the last session; 0 when none was."""
    closed = journal.last_event(records.SESSION_CLOSED)
    return 0 if closed is None else closed.seq


def interrupted_date(journal: Journal) -> str | None:
    """The date of the session that was opened and not closed; None when there is none."""
    opened = journal.last_event(records.SESSION_OPENED)
    return None if opened is None or opened.seq < last_close_event(journal) else str(opened.payload["date"])


def interrupted_session(journal: Journal) -> InterruptedSession | None:
    """The interrupted session, or None when every session that was opened is closed."""
    opened, run = journal.last_event(records.SESSION_OPENED), journal.last_event(records.RUN_STARTED)
    if opened is None or run is None or opened.seq < last_close_event(journal):
        return None
    bells = {name: datetime.fromisoformat(opened.payload[name]) for name in ("open", "close")}
    session = Session(date=bells["open"].date(), **bells)
    return InterruptedSession(session=session, after=opened.seq - 1, run=run.payload, started=run.seq)


def check_same_settings(found: InterruptedSession, settings: Settings, identity: str) -> None:
    """Raises JournalError when settings or identity are no longer those of the session: its orders would differ.

    Settings are kept back for it, but the content of a table is not.
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
    # What makes the settings others; older journals do not say which tables they were.
    then, now = found.run.get("tables", settings.tables), settings.tables
    changed = [name for name in sorted({*then, *now}) if then.get(name, "") != now.get(name, "")]
    if changed:
        return f"other tables ({', '.join(str(settings.instance.table(name)) for name in changed)}) than those"
    return "other settings than those"


def prepare_repeat(journal: Journal, found: InterruptedSession, now: datetime) -> None:
    """Make ready to repeat the interrupted session up to now; minutes that nobody watched are written down."""
    last = max(event.applied for event in journal.events(found.after) if event.kind not in _OF_THE_PROCESS)
    decided = any(event.applied == last for event in journal.events(found.after, kind=records.DECISION))
    first = max(found.session.minute(last) - (0 if decided else 1), 0)
    until = min(found.session.minute(now) - 1, found.session.minutes)
    _write_gap(journal, found.session, (first, max(first, until)), now)
    journal.expect_repeat(found.after, leaving_out=_OF_THE_PROCESS)


def note_unwatched_minutes(journal: Journal, session: Session, first: int, now: datetime) -> None:
    """Write down the minutes from `first` on that have closed unwatched, but for the latest one, if there are any."""
    until = min(session.minute(now) - 1, session.minutes)
    if first < until:
        _write_gap(journal, session, (first, until), now)


def late_minutes(journal: Journal, session: Session) -> frozenset[int]:
    """The minutes of a session whose signals came too late: nobody watched when they closed."""
    gaps = (event.payload for event in journal.events(kind=records.GAP))
    day = session.date.isoformat()
    return frozenset(minute for gap in gaps if gap["session"] == day for minute in range(gap["from"], gap["to"]))


def _write_gap(journal: Journal, session: Session, minutes: tuple[int, int], now: datetime) -> None:
    payload = {"session": session.date.isoformat(), "from": minutes[0], "to": minutes[1]}
    journal.append([NewEvent(kind=records.GAP, payload=payload, time=max(session.open, now))])
