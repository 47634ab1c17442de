"""Events: risk states, requests of people, and protection."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Self

from tbot_core.journal.codec import EMPTY, EventFacts, Facts, FillFacts, fact
from tbot_core.model.types import Instrument, SignalId
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from tbot_core.trading.risk.exposure import RiskChange


class StateChanged(EventFacts):
    """A cause was set (`there`) or cleared; `state` is the risk state from then on."""

    kind = "state"

    cause: StateCause
    there: bool
    state: str
    words: str


class RiskChanged(EventFacts):
    """A limit changed the risk state, or set a latch: what, and the value against its limit."""

    kind = "risk"

    what: str
    cause: str
    value: Decimal
    limit: Decimal

    @classmethod
    def of(cls, change: RiskChange) -> Self:
        """The event of a change."""
        return cls(what=change.what, cause=change.cause, value=change.value, limit=change.limit)


class RequestExecuted(EventFacts):
    """A person's request took effect; `withdrawn`: the request that withdrew it before.

    `order` is its place among those of its folder; `flaw`: what is wrong with its file.
    """

    kind = "request"

    name: str
    verb: str
    actor: str
    made: dt.datetime
    arguments: Mapping[str, str] = fact(default=EMPTY, always=True)
    order: int = 0
    flaw: str = ""
    withdrawn: str = ""


class RequestRefused(EventFacts):
    """A person's request was refused."""

    kind = "request_refused"

    name: str
    words: str


class ArmingTerms(Facts):
    """What an arming is bound to; `settings` and `plugins` are hashes of the deciding settings and of plugins.lock."""

    mode: str
    account: str
    settings: str
    plugins: str


class LiveTerms(EventFacts):
    """The terms of live trading that an arming would be bound to."""

    kind = "live_terms"

    mode: str
    account: str
    settings: str
    plugins: str


class Armed(EventFacts):
    """Live trading was armed for sessions."""

    kind = "armed"

    actor: str
    sessions: tuple[dt.date, ...]
    terms: ArmingTerms


class ArmingKept(EventFacts):
    """An arming stays after a restart: so many in this session."""

    kind = "arming_kept"

    restarts: int


class Disarmed(EventFacts):
    """Live trading was disarmed."""

    kind = "disarmed"

    why: str


class ProtectionChanged(EventFacts):
    """How a position is protected `since` a moment, and its seconds before without a stop and with an emulated one.

    `lot` says by its signal which one of a fund it is, "" for a symbol with one position.
    """

    kind = "protection"

    symbol: str
    state: str
    since: dt.datetime
    bare_s: str
    emulated_s: str
    lot: str = ""


class PositionLeft(FillFacts):
    """A position that is not closed, why, and the attempts by leg; as if it had been bought at its last mark.

    `account` and `at` (its broker) are those of one at an account that no session trades. `instrument`: what is held,
    None for the signal's own stock.
    """

    signal: SignalId
    side: str
    words: str
    attempts: Mapping[str, int] = fact(default=EMPTY, always=True)
    account: str = ""
    at: str = ""
    instrument: Instrument | None = None


class ClosingLate(PositionLeft):
    """A position is closed later than it should be."""

    kind = "closing_late"


class PositionStuck(PositionLeft):
    """A position was not closed by the end of the session."""

    kind = "stuck"


class PositionsReleased(EventFacts):
    """A person confirmed that the positions at an account of broker `of` are gone."""

    kind = "released"

    of: str
    account: str
    actor: str
