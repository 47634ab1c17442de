"""Events: failover between brokers."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from tbot_core.journal.codec import EventFacts, Facts, fact
from tbot_core.trading.risk.states import FailoverPhase


class CircuitChanged(EventFacts):
    """The circuit breaker of broker `of` changed."""

    kind = "circuit"

    of: str
    state: str
    since: dt.datetime | None


class FailoverChanged(EventFacts):
    """The failover from the primary `of` to another broker changed; `why` names what forbids entries there."""

    kind = "failover"

    of: str
    to: str = fact(default="", always=True)
    phase: FailoverPhase
    why: str = fact(default="", always=True)


class FailoverConfirmed(EventFacts):
    """A person stated the exposure at the failed broker `of`; `reserved`: what tbot knew of it."""

    kind = "failover_confirmed"

    of: str
    amount: Decimal
    reserved: Decimal
    actor: str


class LeaseMoved(EventFacts):
    """Entries in a symbol go to another broker from now on; `since`: when the first one failed."""

    kind = "lease"

    symbol: str
    origin: str = fact(key="from")
    to: str
    epoch: int
    since: dt.datetime


class StandbyAbsent(EventFacts):
    """A standby broker does not trade in this run."""

    kind = "standby_absent"

    of: str
    words: str


class DrillStep(Facts):
    """One step of a drill, and its result."""

    what: str
    passed: bool
    words: str


class FailoverDrilled(EventFacts):
    """A failover drill of brokers under settings, named by their hash."""

    kind = "drill"

    brokers: tuple[str, ...]
    settings: str
    passed: bool
    steps: tuple[DrillStep, ...]
