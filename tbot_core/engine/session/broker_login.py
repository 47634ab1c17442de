"""The accounts of a session: each broker logged in to, or known from before a restart."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from tbot_core.errors import BrokerError
from tbot_core.model.types import Account

if TYPE_CHECKING:
    from tbot_core.contracts import Broker
    from tbot_core.journal.projections.book import JournalEvent


@attrs.frozen(kw_only=True)
class BrokerLogin:
    """An account; `absent` is the fault of a broker that cannot be logged in to, though the session goes on there."""

    account: Account
    absent: str = ""


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
        return BrokerLogin(account=account, absent=fault.message)
    return BrokerLogin(account=account if known is None else attrs.evolve(account, equity=Decimal(known["equity"])))
