"""Takes in what a broker says of an account, and keeps in the journal what a restart could not find out again."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tbot_core.journal import records
from tbot_core.model.types import atoms_of, dollars_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.model.types import Account
    from tbot_core.trading.decision_engine import DecisionEngine
    from tbot_core.trading.orders import OrderRecord


def update_account(desk: DecisionEngine, recorder: JournalRecorder, account: Account, *, crossed: bool = False) -> None:
    """Let a desk take in an account; what had settled of its cash is written down, where it is bound to that.

    A reading after a restart can't tell it: what a person has sold in between is cash then like any other. `crossed`:
    the account may be of another moment than the books; the next reading says what has settled.
    """
    funds = desk.exposure.funds
    before = funds.settled_atoms
    desk.update_account(account, crossed=crossed)
    if not account.margin and funds.settled_atoms is not None and funds.settled_atoms != before:
        session = desk.position_manager.session.date
        recorder.record(
            records.SETTLED, records.settled_payload(account.account_id, session, dollars_of(funds.settled_atoms))
        )


def may_lag_broker(desk: DecisionEngine, orders: Iterable[OrderRecord]) -> bool:
    """Whether something may have traded that the books do not know: an order is open, or nobody has read the account.

    Money that comes without holdings, which could be held against the books, says nothing then of what had settled.
    """
    return desk.exposure.account_unread or not all(one.terminal for one in orders)


def recall_settled_cash(desk: DecisionEngine, payload: Mapping[str, Any], account_id: str) -> None:
    """Take in what was written of settled cash before a restart, where it is of this account and session."""
    if (payload["account"], payload["session"]) == (account_id, desk.position_manager.session.date.isoformat()):
        desk.exposure.funds.restore_settled(atoms_of(Decimal(payload["settled"])))
