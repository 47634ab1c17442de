"""The account at a broker that a session trades, and what its reports change."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from tbot_core.execution.broker_port import BrokerPort, port_of
from tbot_core.execution.circuit_breaker import CircuitBreaker
from tbot_core.execution.send_permit import SendRefusal, never_refuse
from tbot_core.execution.sole_install import SoleInstallCheck
from tbot_core.journal.events.accounts import CashSettled
from tbot_core.model.types import Account, atoms_of, dollars_of
from tbot_core.plugins.network.request_limits import RetryPolicy

if TYPE_CHECKING:
    from tbot_core.journal.store import JournalRecorder
    from tbot_core.trading.decision_engine import DecisionEngine


@attrs.frozen(kw_only=True)
class BrokerAccount:
    """The broker, its name, its account id, and the last check before an order is sent.

    `retry_policy`: retries of requests that may be repeated. `on_read_result` receives each reading's result, "" for
    success, else the error; without it a failed reading allows exits only for the session. `not_logged_in`: the login
    has not succeeded yet. `circuit`: the circuit breaker of its connection, where another broker may take over; None
    without one. `sole_install` refuses a start beside another tbot install; None at a simulated venue.
    """

    broker: BrokerPort = attrs.field(converter=port_of)
    name: str
    account_id: str
    denial_reason: SendRefusal = never_refuse
    retry_policy: RetryPolicy = attrs.field(factory=RetryPolicy)
    on_read_result: Callable[[str], None] | None = None
    not_logged_in: bool = False
    circuit: CircuitBreaker | None = None
    sole_install: SoleInstallCheck | None = None


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


def recall_settled_cash(decision_engine: DecisionEngine, recorded: CashSettled, account_id: str) -> None:
    """Restore the settled cash journaled before a restart, if it is of this account and session."""
    if (recorded.account, recorded.session) == (account_id, decision_engine.position_manager.session.date):
        decision_engine.exposure.funds.restore_settled(atoms_of(recorded.settled))
