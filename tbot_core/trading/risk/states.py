"""What the bot may do and why: causes that come and go, and the risk state that they add up to.

A cause is withdrawn by whatever raised it; how long it holds on after that is its own. Pure: moments are passed in.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import attrs

from tbot_core.model.types import RiskState

RECONCILED: Final = timedelta(seconds=60)
"""A clean reconcile must have held this long before exits-only ends."""

QUIET: Final = timedelta(minutes=15)
"""Defense lasts this long after its last cause."""


class CauseEnd(StrEnum):
    """What ends the effect of a cause that has been withdrawn."""

    WITHDRAWAL = "a request to clear it"
    RECONCILE = "a clean reconciliation for 60 s"
    QUIET = "15 minutes without it"
    SESSION = "the end of the session"


@attrs.frozen
class CauseEffect:
    """What a cause does to the state, and what ends that."""

    state: RiskState
    end: CauseEnd


class StateCause(StrEnum):
    """Everything that takes the bot out of its normal state; the value is what people read."""

    KILL_FILE = "the file control/kill exists"
    KILL_COMMAND = "tbot kill"
    KILL_SIGNAL = "a kill signal"
    STOP_FILE = "the file control/stop exists"
    STOP_COMMAND = "tbot stop"
    STOP_SIGNAL = "a stop signal"
    UNKNOWN = "the account is unknown"
    NOT_ARMED = "not armed"
    UNRECONCILED = "the account has not been read since the start"
    CONTROL_LOST = "the control folder cannot be read"
    MISMATCH = "the broker's positions differ from the journal"
    SURPLUS = "a fill that belongs to no position"
    FEEDS_STALE = "every feed is stale"
    CLOCK_JUMP = "the clock jumped"
    STALLED = "the event loop was blocked"
    CLOCK_SKEW = "the clock differs from the broker's"
    DISK_LOW = "the disk is nearly full"
    JOURNAL = "the journal or the audit log lost data"
    REJECTS = "MAX_REJECTS_IN_ROW"
    RESTRICTED = "the broker restricts the account"
    LOGIN = "the broker requires a new login"
    PLUGIN_LOST = "a plugin of the order path stopped working"
    UNREACHABLE = "the broker does not respond"
    MAINTENANCE = "announced maintenance of the broker"
    LEFT_BEHIND = "a position is held in an account that this session does not trade"
    BROKERS_DOWN = "no broker responds"
    PRIMARY_DOWN = "the primary broker is down"
    UNIVERSE_STALE = "over 20 % of the universe is stale"
    HALF_LOSS = "half of DAILY_LOSS_LIMIT used"
    DEVIATIONS = "MAX_FILL_DEVIATION_PCT in a row"
    DEFENSE_COMMAND = "tbot defense on"
    DEFENSE_SETTING = "DEFENSE_MODE_ACTIVE"


_HALTED = CauseEffect(RiskState.HALTED, CauseEnd.WITHDRAWAL)
_STOPPING = CauseEffect(RiskState.EXIT_ONLY, CauseEnd.WITHDRAWAL)
_DOUBT = CauseEffect(RiskState.EXIT_ONLY, CauseEnd.RECONCILE)
_WARY = CauseEffect(RiskState.DEFENSE, CauseEnd.QUIET)
_SESSION = CauseEffect(RiskState.DEFENSE, CauseEnd.SESSION)

KINDS: Final = {
    StateCause.KILL_FILE: _HALTED,
    StateCause.KILL_COMMAND: _HALTED,
    StateCause.KILL_SIGNAL: _HALTED,
    StateCause.STOP_FILE: _STOPPING,
    StateCause.STOP_COMMAND: _STOPPING,
    StateCause.STOP_SIGNAL: _STOPPING,
    StateCause.UNKNOWN: _DOUBT,
    StateCause.UNRECONCILED: CauseEffect(RiskState.EXIT_ONLY, CauseEnd.WITHDRAWAL),
    StateCause.CONTROL_LOST: _STOPPING,
    StateCause.NOT_ARMED: _STOPPING,
    StateCause.MISMATCH: _DOUBT,
    StateCause.SURPLUS: _DOUBT,
    StateCause.FEEDS_STALE: _DOUBT,
    StateCause.CLOCK_JUMP: _DOUBT,
    StateCause.STALLED: _DOUBT,
    StateCause.CLOCK_SKEW: _DOUBT,
    StateCause.DISK_LOW: _DOUBT,
    StateCause.JOURNAL: _DOUBT,
    StateCause.REJECTS: _DOUBT,
    StateCause.RESTRICTED: _DOUBT,
    StateCause.LOGIN: _DOUBT,
    StateCause.PLUGIN_LOST: _DOUBT,
    StateCause.UNREACHABLE: _DOUBT,
    StateCause.MAINTENANCE: _DOUBT,
    StateCause.LEFT_BEHIND: _STOPPING,
    StateCause.BROKERS_DOWN: _DOUBT,
    StateCause.PRIMARY_DOWN: _WARY,
    StateCause.UNIVERSE_STALE: _WARY,
    StateCause.HALF_LOSS: _SESSION,
    StateCause.DEVIATIONS: _SESSION,
    StateCause.DEFENSE_COMMAND: CauseEffect(RiskState.DEFENSE, CauseEnd.WITHDRAWAL),
    StateCause.DEFENSE_SETTING: CauseEffect(RiskState.DEFENSE, CauseEnd.WITHDRAWAL),
}

KILLS_AND_STOPS: Final = frozenset(
    {
        StateCause.KILL_FILE,
        StateCause.KILL_COMMAND,
        StateCause.KILL_SIGNAL,
        StateCause.STOP_FILE,
        StateCause.STOP_COMMAND,
        StateCause.STOP_SIGNAL,
    }
)
"""What a person brings about: it holds whatever an account may turn out to be like."""

LOCAL: Final = frozenset(
    {
        StateCause.UNKNOWN,
        StateCause.UNRECONCILED,
        StateCause.MISMATCH,
        StateCause.SURPLUS,
        StateCause.REJECTS,
        StateCause.RESTRICTED,
        StateCause.LOGIN,
        StateCause.UNREACHABLE,
        StateCause.MAINTENANCE,
    }
)
"""Causes that concern one account: while entries go elsewhere, they bind that account alone."""


@attrs.define(kw_only=True)
class TradingState:
    """The causes at work. `standing` have not been withdrawn; `lingering` have, and hold on until their end.

    `clean_since` is when reconciliation last began to agree, None while it does not. `away`: entries go to another
    broker than the one whose account these causes are of; `vouched` is since when that one agrees.
    """

    active: dict[StateCause, datetime] = attrs.field(factory=dict)
    lingering: dict[StateCause, datetime] = attrs.field(factory=dict)
    clean_since: datetime | None = None
    failed_over: bool = False
    clean_elsewhere_since: datetime | None = None

    def raise_cause(self, cause: StateCause, now: datetime) -> bool:
        """A cause is there; whether it was not before."""
        fresh = cause not in self.active
        self.active.setdefault(cause, now)
        self.lingering.pop(cause, None)
        return fresh

    def clear_cause(self, cause: StateCause, now: datetime) -> bool:
        """A cause is gone, and lingers as long as its kind says; whether it was there."""
        if self.active.pop(cause, None) is None:
            return False
        if KINDS[cause].end is not CauseEnd.WITHDRAWAL:
            self.lingering[cause] = now
        return True

    def on_reconciled(self, now: datetime, *, clean: bool) -> None:
        """A reading of the broker agreed with the journal, or it did not."""
        if not clean:
            self.clean_since = None
        elif self.clean_since is None:
            self.clean_since = now

    def expire_causes(self, now: datetime) -> tuple[StateCause, ...]:
        """Take out the causes that have lingered to their end, and say which."""
        over = tuple(cause for cause, since in self.lingering.items() if self._over(cause, since, now))
        for cause in over:
            del self.lingering[cause]
        return over

    def open_session(self) -> None:
        """A new session: what held to the last one's end is over."""
        self.lingering = {cause: since for cause, since in self.lingering.items() if not _of_session(cause)}
        self.active = {cause: since for cause, since in self.active.items() if not _of_session(cause)}

    @property
    def causes(self) -> tuple[StateCause, ...]:
        """All causes at work, the gravest first."""
        return tuple(sorted((*self.active, *self.lingering), key=lambda cause: (-KINDS[cause].state, cause)))

    @property
    def shared_causes(self) -> tuple[StateCause, ...]:
        """The causes that bind wherever something may be entered, the gravest first."""
        return tuple(cause for cause in self.causes if not (self.failed_over and cause in LOCAL))

    @property
    def state(self) -> RiskState:
        """The gravest state that a cause asks for, wherever something may be entered."""
        return max((KINDS[cause].state for cause in self.shared_causes), default=RiskState.NORMAL)

    @property
    def local_state(self) -> RiskState:
        """The gravest state that a cause asks for at the account itself."""
        if not (self.active or self.lingering):
            return RiskState.NORMAL
        return max(KINDS[cause].state for cause in (*self.active, *self.lingering))

    def _over(self, cause: StateCause, since: datetime, now: datetime) -> bool:
        match KINDS[cause].end:
            case CauseEnd.QUIET:
                return now - since >= QUIET
            case CauseEnd.RECONCILE:
                clean = self.clean_elsewhere_since if self.failed_over and cause not in LOCAL else self.clean_since
                return clean is not None and now - max(since, clean) >= RECONCILED
            case _:
                return False


def _of_session(cause: StateCause) -> bool:
    return KINDS[cause].end is CauseEnd.SESSION
