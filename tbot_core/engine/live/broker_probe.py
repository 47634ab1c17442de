"""Probes whether a broker responds as failover needs it, without orders."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from tbot_core.contracts.abilities import HOURS
from tbot_core.engine.session.broker_login import log_out
from tbot_core.errors import BrokerError
from tbot_core.journal.projections.failover import DrillStep
from tbot_core.model.formatting import format_money

if TYPE_CHECKING:
    from tbot_core.contracts import Broker
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock

CLOSE_S: Final = 10.0
"""How long a log-out may take; one that fails does not change the result."""

_SINCE: Final = timedelta(days=1)


async def probe_broker(name: str, broker: Broker, session: Session, clock: Clock) -> DrillStep:
    """Log in, read the account and request the hours of the next session; no order is sent."""
    what = f"{name} answers"
    try:
        account = await broker.connect()
        held = len((await broker.snapshot(clock.now() - _SINCE)).holdings)
        tells = HOURS.of(broker)
        hours = session if tells is None else await tells.hours(session.date)
    except BrokerError as fault:
        return DrillStep(what=what, passed=False, words=fault.message)
    finally:
        await log_out({name: broker}, CLOSE_S)
    kind = {True: "margin", False: "cash", None: "of unknown type, treated as a cash account"}[account.margin]
    words = f"account {account.account_id}, {kind}, equity {format_money(account.equity)}, {held} held"
    if account.live is not None:
        words += f"; {'live' if account.live else 'no live'} money: {account.evidence or 'no evidence'}"
    if hours is None:
        return DrillStep(what=what, passed=False, words=f"{words}; it reports that it is closed on {session.date}")
    return DrillStep(what=what, passed=True, words=words)
