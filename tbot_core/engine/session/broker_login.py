"""The accounts of a session: each broker logged in to, or known from before a restart."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from tbot_core.errors import BrokerError
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.throttling import RateLimitedBroker
from tbot_core.model.types import Account
from tbot_core.system import log
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from tbot_core.contracts import Broker
    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.journal.projection import JournalEvent


@attrs.frozen(kw_only=True)
class BrokerLogin:
    """An account; `absent` is the fault of a broker that cannot be logged in to, though the session goes on there."""

    account: Account
    login_fault: str = ""

    def venue(self, broker: Broker, name: str) -> BrokerAccount:
        """The account as orders are sent to it."""
        known, failed = self.account.account_id, bool(self.login_fault)
        return BrokerAccount(broker=broker, name=name, account_id=known, not_logged_in=failed)


async def log_in(broker: Broker, name: str, opened: JournalEvent | None) -> BrokerLogin:
    """Log in. Where that fails and the session was opened before a restart, the account is what it was then.

    Raises BrokerError where nothing is known of it.
    """
    known = None if opened is None else opened.payload.get("accounts", {}).get(name)
    try:
        account = await broker.connect()
    except BrokerError as fault:
        if known is None:
            raise
        account = Account(account_id=known["account"], equity=Decimal(known["equity"]), cash=Decimal(0))
        return BrokerLogin(account=account, login_fault=fault.message)
    return BrokerLogin(account=account if known is None else attrs.evolve(account, equity=Decimal(known["equity"])))


_log = log.logger(__name__)


class LoginMonitor:
    """The login at one broker of a session.

    More than one attempt would look like an attack, and may lock the account: a person has to fix the key. Readings
    continue on their schedule, and the first that succeeds ends it.
    """

    def __init__(self, venue: BrokerAccount, conditions: TradingStateController) -> None:
        self._broker = venue.broker
        self._account_id = venue.account_id
        self._conditions = conditions
        self._tried = False
        self._stranger = ""

    def update_cause(self) -> None:
        """Make a cause of a key that is refused, and take it back once something was answered."""
        words = self._refusal
        self._tried = self._tried and bool(words)
        self._conditions.set_cause(StateCause.LOGIN, words)

    async def retry(self) -> None:
        """Log in once more where the key was refused; another account than ours is no login."""
        self.update_cause()
        if not self._refusal or self._tried:
            return
        self._tried = True
        try:
            account = await self._broker.connect()
        except BrokerError as fault:
            _log.error("broker.login_needed", reason=fault.message)
            return
        if account.account_id != self._account_id:
            self._stranger = f"it logged in to {account.account_id}, but the session trades {self._account_id}"
        self.update_cause()

    @property
    def _refusal(self) -> str:
        return self._stranger or (self._broker.login_rejection if isinstance(self._broker, RateLimitedBroker) else "")
