"""Whether the brokers of an instance answer as failover needs it: asked one after the other, and nothing is sent."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from tbot_core.contracts import KeepsHours
from tbot_core.errors import BrokerError
from tbot_core.journal.projections.failover_drills import Step
from tbot_core.model.formatting import money

if TYPE_CHECKING:
    from tbot_core.contracts import Broker
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock

_SINCE: Final = timedelta(days=1)


async def answers(name: str, broker: Broker, session: Session, clock: Clock) -> Step:
    """Log in, read the account, and compare the hours of the next session; nothing of it is an order."""
    what = f"{name} answers"
    try:
        account = await broker.connect()
        held = len((await broker.snapshot(clock.now() - _SINCE)).holdings)
        theirs = await broker.hours(session.date) if isinstance(broker, KeepsHours) else session
    except BrokerError as fault:
        return Step(what=what, passed=False, words=fault.message)
    finally:
        await broker.close()
    kind = {True: "margin", False: "cash", None: "of unknown kind, taken for cash"}[account.margin]
    words = f"account {account.account_id}, {kind}, equity {money(account.equity)}, {held} held"
    if theirs is None:
        return Step(what=what, passed=False, words=f"{words}; it says that it is closed on {session.date}")
    return Step(what=what, passed=True, words=words)
