"""The login at a broker and its end. After a restart the journal knows the account where the login fails."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from tbot_core.errors import AccountRefused, BrokerError, SettingsError
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.model.types import Account
from tbot_core.system import log
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from tbot_core.contracts import Broker
    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.journal.projection import JournalEvent


class SupportsClose(Protocol):
    """A broker, or what has only its bars."""

    def close(self) -> Coroutine[Any, Any, None]:
        """Log out."""


@attrs.frozen(kw_only=True)
class BrokerLogin:
    """An account; `login_fault` is the reason of a failed login, "" after a successful one."""

    account: Account
    login_fault: str = ""

    def venue(self, broker: Broker, name: str) -> BrokerAccount:
        """The account as orders are sent to it."""
        known, failed = self.account.account_id, bool(self.login_fault)
        return BrokerAccount(broker=broker, name=name, account_id=known, not_logged_in=failed)


async def log_in(broker: Broker, name: str, opened: JournalEvent | None) -> BrokerLogin:
    """Log in. If that fails after a restart of an opened session, the account is taken from `opened`.

    Raises BrokerError if login fails and the account is not known, and SettingsError for an account of another mode.
    """
    known = None if opened is None else opened.payload.get("accounts", {}).get(name)
    try:
        account = await broker.connect()
    except AccountRefused as fault:
        raise SettingsError(fault.message, fault.remedy) from fault
    except BrokerError as fault:
        if known is None:
            raise
        account = Account(account_id=known["account"], equity=Decimal(known["equity"]), cash=Decimal(0))
        return BrokerLogin(account=account, login_fault=fault.message)
    return BrokerLogin(account=account if known is None else attrs.evolve(account, equity=Decimal(known["equity"])))


_log = log.logger(__name__)


async def log_in_within(limit_s: float, broker: Broker, name: str, opened: JournalEvent | None) -> BrokerLogin | str:
    """As `log_in`, with a time limit; returns the reason of a login that fails or takes longer."""
    try:
        async with asyncio.timeout(limit_s):
            return await log_in(broker, name, opened)
    except BrokerError as fault:
        return fault.message
    except TimeoutError:
        return f"the login was not answered within {limit_s:g} s"


async def log_out(brokers: Mapping[str, SupportsClose], timeout_s: float) -> None:
    """Close all brokers concurrently; one that fails or has not ended after `timeout_s` is logged with its name."""
    closing = {name: asyncio.ensure_future(one.close()) for name, one in brokers.items()}
    await asyncio.wait(closing.values(), timeout=timeout_s)
    for name, task in closing.items():
        if not task.done():
            task.cancel()
            _log.warning("broker.not_closed", broker=name, reason=f"no answer within {timeout_s:g} s")
        elif not task.cancelled() and (fault := task.exception()) is not None:
            _log.warning("broker.not_closed", broker=name, reason=str(fault))


class LoginMonitor:
    """The login at one broker of a session.

    Only one attempt is made: more would look like an attack and may lock the account. A person has to fix the key.
    Readings continue on their schedule, and the first that succeeds clears the cause.
    """

    def __init__(self, venue: BrokerAccount, trading_state: TradingStateController) -> None:
        self._broker = venue.broker
        self._account_id = venue.account_id
        self._trading_state = trading_state
        self._tried = False
        self._wrong_account = ""

    def update_cause(self) -> None:
        """Set the cause while the key is refused, and clear it after the first response."""
        words = self._refusal
        self._tried = self._tried and bool(words)
        self._trading_state.set_cause(StateCause.LOGIN, words)

    async def retry(self) -> None:
        """Log in once more if the key was refused; a login to another account is a failure."""
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
            self._wrong_account = f"it logged in to {account.account_id}, but the session trades {self._account_id}"
        self.update_cause()

    @property
    def _refusal(self) -> str:
        return self._wrong_account or self._broker.login_rejection
