"""Applies a broker's reports of an account, and journals the settled cash for restarts."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tbot_core.journal.events.accounts import CashSettled
from tbot_core.model.types import atoms_of, dollars_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.model.types import Account
    from tbot_core.trading.decision_engine import DecisionEngine


def update_account(
    decision_engine: DecisionEngine, recorder: JournalRecorder, account: Account, *, crossed: bool = False
) -> None:
    """Apply an account report; for a cash account the settled cash is journaled when it changes.

    A reading after a restart cannot tell settled cash from the proceeds of later sales. `crossed`: the report may be
    older or newer than the books; then settled cash is left to the next reading.
    """
    funds = decision_engine.exposure.funds
    before = funds.settled_atoms
    decision_engine.update_account(account, crossed=crossed)
    if not account.margin and funds.settled_atoms is not None and funds.settled_atoms != before:
        session = decision_engine.position_manager.session.date
        settled = dollars_of(funds.settled_atoms)
        recorder.record(CashSettled(account=account.account_id, session=session, settled=settled))


def may_lag_broker(decision_engine: DecisionEngine) -> bool:
    """Whether a fill may be missing in the books: an order is open, or the account was not read since the start.

    An account report then does not tell the settled cash.
    """
    return decision_engine.exposure.account_unread or any(
        not ticket.terminal for ticket in decision_engine.book.tickets.values()
    )


def recall_settled_cash(decision_engine: DecisionEngine, payload: Mapping[str, Any], account_id: str) -> None:
    """Restore the settled cash journaled before a restart, if it is of this account and session."""
    if (payload["account"], payload["session"]) == (
        account_id,
        decision_engine.position_manager.session.date.isoformat(),
    ):
        decision_engine.exposure.funds.restore_settled(atoms_of(Decimal(payload["settled"])))
