"""The file in which a venue that fills from bars keeps its books, checked against the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.engine import resume
from tbot_core.engine.session.open_positions import open_at_end
from tbot_core.errors import JournalError
from tbot_core.execution.reconciliation import outside_fill
from tbot_core.journal import codec, records
from tbot_core.journal.events.accounts import Adjustment
from tbot_core.journal.events.sessions import RunStopped, SessionClosed
from tbot_core.journal.projections import carryover
from tbot_core.journal.projections.book import session_book
from tbot_core.journal.store import Journal, NewEvent
from tbot_core.model.types import dollars_of, quantity_of
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tbot_core.contracts import SimulatedVenue
    from tbot_core.journal.codec import EventFacts

KEY: Final = "books"
"""The key of the file's name in RUN_STARTED; runs of older versions kept no books."""


def keep_books(broker: SimulatedVenue, name: str, path: Path, journal: Journal, now: datetime) -> None:
    """Let the venue keep its books in a file; a new account begins with the equity of the journal.

    A session that an older version left open, without books, ends as STOPPED. Raises JournalError if the file is
    missing beside a journal with open positions.
    """
    if not filesystem.exists(path):
        started = journal.last_event(records.RUN_STARTED)
        if started is not None and KEY not in started.payload:
            _end_session_without_books(journal, now)
        elif held := open_at_end(journal).open:
            raise JournalError(
                f"The books of the broker {name}, {path}, are missing, and the journal has positions in "
                f"{', '.join(held)}.",
                "Put the file back from a backup, or trade in another --home.",
            )
    closed = journal.last_event(records.SESSION_CLOSED)
    broker.keep_books(path, None if closed is None else closed.facts(SessionClosed).equity)


def _end_session_without_books(journal: Journal, now: datetime) -> None:
    # Nothing holds its simulated positions: they end at their last known price, as closed outside of tbot.
    found = resume.interrupted_session(journal)
    if found is None:
        return

    def write(facts: EventFacts) -> None:
        journal.append([NewEvent(kind=facts.kind, payload=codec.write(facts), time=now)])

    since = carryover.events_since_close(list(journal.events()))
    held = session_book(since).portfolio.positions
    write(RunStopped(open=tuple(sorted(held)), unconfirmed=""))
    for number, position in enumerate(held.values()):
        shares = quantity_of(position.units) * -position.side
        write(Adjustment.of(outside_fill(position, shares, number, now)))
    book = session_book(carryover.events_since_close(list(journal.events())))
    write(
        SessionClosed(
            date=found.session.date,
            equity=book.equity,
            cash=dollars_of(book.portfolio.cash_atoms),
            pnl=dollars_of(book.portfolio.pnl_atoms),
            trades=len(book.trades),
            open=(),
            account=book.session.get("account", ""),
        )
    )
