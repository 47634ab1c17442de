"""The account's equity at the open, checked against the previous close."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from tbot_core.journal import records
from tbot_core.journal.events.accounts import AccountMoved
from tbot_core.journal.events.sessions import SessionClosed
from tbot_core.model.types import dollars_of
from tbot_core.trading.risk.account import equity_jumped

if TYPE_CHECKING:
    from datetime import datetime

    from tbot_core.engine.session.session import TradingSession
    from tbot_core.execution.broker_account import BrokerAccount
    from tbot_core.journal.store import Journal


def expected_opening_equity(journal: Journal, venue: BrokerAccount, opens: datetime) -> tuple[Decimal, Decimal] | None:
    """An account's equity at the last close and the net payments since; None if that close was of another account."""
    closed = journal.last_event(records.SESSION_CLOSED)
    if closed is None or closed.facts(SessionClosed).account != venue.account_id:
        return None
    paid = (
        moved.cash
        for event in journal.events(closed.seq, kind=records.ACTIVITY)
        if event.source is not None and event.source[:2] == (venue.name, venue.account_id)
        if (moved := event.facts(AccountMoved)).time <= opens
    )
    return closed.facts(SessionClosed).equity, sum(paid, Decimal(0))


def check_opening_equity(run: TradingSession, journal: Journal, venue: BrokerAccount) -> None:
    """Compare the opening equity with the last close; a jump that no payment explains is recorded, and blocks entries.

    The first believed reading books the payments since then. The close of another account, such as paper trading, is
    not compared.
    """
    exposure, opening = run.decision_engine.exposure, dollars_of(run.decision_engine.portfolio.opening_atoms)
    before = expected_opening_equity(journal, venue, run.session.open)
    if before is not None and not exposure.equity_jump and equity_jumped(opening, *before):
        exposure.record_equity_jump(opening, sum(before, Decimal(0)))
