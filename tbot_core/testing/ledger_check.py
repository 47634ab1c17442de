"""Checks that the cash and shares of a journal's ledger match its closed sessions."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from tbot_core.errors import JournalError
from tbot_core.journal import records
from tbot_core.journal.ledger import CASH, Ledger
from tbot_core.journal.store import Event, read_journal
from tbot_core.model.types import atoms_of, dollars_of

if TYPE_CHECKING:
    from pathlib import Path


def unbalanced(path: Path) -> str:
    """The first closed session whose cash or open symbols differ from the ledger; "" if all match.

    Files that a test has damaged on purpose, and files without a run, are skipped.
    """
    try:
        journal = read_journal(path)
    except JournalError:
        return ""
    try:
        if journal.last_event(records.RUN_STARTED) is None:
            return ""
        return next(filter(None, map(_Audit().apply, journal.events())), "")
    except JournalError:
        return ""
    finally:
        journal.close()


class _Audit:
    def __init__(self) -> None:
        self._ledger = Ledger()
        self._adjusted = False

    def apply(self, event: Event) -> str:
        """The difference between a session's closing event and the ledger, "" for any other event."""
        self._ledger.apply(event)
        self._adjusted |= event.kind == records.ADJUSTMENT
        if event.kind != records.SESSION_CLOSED or self._adjusted:
            return ""
        cash, symbols = Decimal(event.payload["cash"]), list(self._ledger.holdings)
        primary = self._ledger.balances.get(CASH, Decimal(0))  # a session's cash is that of its primary account
        if cash != primary or event.payload["open"] != symbols:
            return (
                f"{event.payload['date']} closed with {cash} USD and {event.payload['open']}, "
                f"the ledger has {dollars_of(atoms_of(primary))} USD and {symbols}"
            )
        return ""
