"""Risk states and their causes: the most severe state that any cause requires applies.

A cause is cleared by the code that raised it; its kind defines how long its effect lasts after that. Pure: times are
parameters.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import attrs

from tbot_core.model.types import RiskState

RECONCILED: Final = timedelta(seconds=60)
"""Reconciliation must have been clean for this long before exit-only ends."""

QUIET: Final = timedelta(minutes=15)
"""Defense lasts this long after its last cause."""


class CauseEnd(StrEnum):
    """What ends the effect of a cleared cause."""

    WITHDRAWAL = "a request to clear it"
    RECONCILE = "a clean reconciliation for 60 s"
    QUIET = "15 minutes without it"
    SESSION = "the end of the session"


@attrs.frozen
class CauseEffect:
    """The state that a cause requires, and what ends the effect after it is cleared."""

    state: RiskState
    end: CauseEnd


class StateCause(StrEnum):
    """The causes of a risk state other than normal; the values are shown to people."""

    KILL_FILE = "the file control/kill exists"
    KILL_COMMAND = "tbot kill"
    KILL_SIGNAL = "a kill signal"
    STOP_FILE = "the file control/stop exists"
    STOP_COMMAND = "tbot stop"
    STOP_SIGNAL = "a stop signal"
    UNKNOWN = "the account is unknown"
    OUTCOME_UNKNOWN = "the outcome of a stop or exit is unknown"
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
    JOURNAL_OLDER = "the journal is older than its head in the audit log"
    REJECTS = "MAX_REJECTS_IN_ROW"
    RESTRICTED = "the broker restricts the account"
    LOGIN = "the broker requires a new login"
    PLUGIN_LOST = "a plugin fails, so no entries until it works"
    BROKER_PLUGIN = "the broker's plugin fails, so no entries until it works"
    UNREACHABLE = "the broker does not respond"
    EVENTS_MISSED = "the broker's order events do not arrive"
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
_UNVERIFIED = CauseEffect(RiskState.EXIT_ONLY, CauseEnd.RECONCILE)
_CAUTIOUS = CauseEffect(RiskState.DEFENSE, CauseEnd.QUIET)
_SESSION = CauseEffect(RiskState.DEFENSE, CauseEnd.SESSION)

KINDS: Final = {
    StateCause.KILL_FILE: _HALTED,
    StateCause.KILL_COMMAND: _HALTED,
    StateCause.KILL_SIGNAL: _HALTED,
    StateCause.STOP_FILE: _STOPPING,
    StateCause.STOP_COMMAND: _STOPPING,
    StateCause.STOP_SIGNAL: _STOPPING,
    StateCause.UNKNOWN: _UNVERIFIED,
    StateCause.OUTCOME_UNKNOWN: _UNVERIFIED,
    StateCause.UNRECONCILED: CauseEffect(RiskState.EXIT_ONLY, CauseEnd.WITHDRAWAL),
    StateCause.CONTROL_LOST: _STOPPING,
    StateCause.NOT_ARMED: _STOPPING,
    StateCause.MISMATCH: _UNVERIFIED,
    StateCause.SURPLUS: _UNVERIFIED,
    StateCause.FEEDS_STALE: _UNVERIFIED,
    StateCause.CLOCK_JUMP: _UNVERIFIED,
    StateCause.STALLED: _UNVERIFIED,
    StateCause.CLOCK_SKEW: _UNVERIFIED,
    StateCause.DISK_LOW: _UNVERIFIED,
    StateCause.JOURNAL: _UNVERIFIED,
    StateCause.JOURNAL_OLDER: _UNVERIFIED,
    StateCause.REJECTS: _UNVERIFIED,
    StateCause.RESTRICTED: _UNVERIFIED,
    StateCause.LOGIN: _UNVERIFIED,
    StateCause.PLUGIN_LOST: _UNVERIFIED,
    StateCause.BROKER_PLUGIN: _UNVERIFIED,
    StateCause.UNREACHABLE: _UNVERIFIED,
    StateCause.EVENTS_MISSED: _UNVERIFIED,
    StateCause.MAINTENANCE: _UNVERIFIED,
    StateCause.LEFT_BEHIND: _STOPPING,
    StateCause.BROKERS_DOWN: _UNVERIFIED,
    StateCause.PRIMARY_DOWN: _CAUTIOUS,
    StateCause.UNIVERSE_STALE: _CAUTIOUS,
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
"""Kills and stops by a person; they hold whatever the state of the account."""

LOCAL: Final = frozenset(
    {
        StateCause.UNKNOWN,
        StateCause.OUTCOME_UNKNOWN,
        StateCause.UNRECONCILED,
        StateCause.MISMATCH,
        StateCause.SURPLUS,
        StateCause.REJECTS,
        StateCause.RESTRICTED,
        StateCause.LOGIN,
        StateCause.BROKER_PLUGIN,
        StateCause.UNREACHABLE,
        StateCause.EVENTS_MISSED,
        StateCause.MAINTENANCE,
    }
)
"""Causes that concern one account; after a failover they apply to that account only."""


class FailoverPhase(StrEnum):
    """The phase of a failover."""

    ENTRIES = "entries go on"
    REDUCE_ONLY = "the others only reduce"
    DOWN = "no broker answers"
    OVER = "over"


@attrs.define(kw_only=True)
class TradingState:
    """The causes of one account, each with its time. `lingering` causes are cleared, but their effect has not ended.

    `clean_since`: since when reconciliation has been clean, None while it is not. `failed_over`: entries go to another
    broker; `clean_elsewhere_since`: since when that broker's reconciliation has been clean.
    """

    active: dict[StateCause, datetime] = attrs.field(factory=dict)
    lingering: dict[StateCause, datetime] = attrs.field(factory=dict)
    clean_since: datetime | None = None
    failed_over: bool = False
    clean_elsewhere_since: datetime | None = None

    def raise_cause(self, cause: StateCause, now: datetime) -> bool:
        """Raise a cause; returns whether it was not active before."""
        fresh = cause not in self.active
        self.active.setdefault(cause, now)
        self.lingering.pop(cause, None)
        return fresh

    def clear_cause(self, cause: StateCause, now: datetime) -> bool:
        """Clear a cause, which lingers as its kind defines; returns whether it was active."""
        if self.active.pop(cause, None) is None:
            return False
        if KINDS[cause].end is not CauseEnd.WITHDRAWAL:
            self.lingering[cause] = now
        return True

    def on_reconciled(self, now: datetime, *, clean: bool) -> None:
        """Record whether a reading of the account agreed with the journal."""
        if not clean:
            self.clean_since = None
        elif self.clean_since is None:
            self.clean_since = now

    def expire_causes(self, now: datetime) -> tuple[StateCause, ...]:
        """Remove and return the lingering causes whose effect has ended."""
        over = tuple(cause for cause, since in self.lingering.items() if self._over(cause, since, now))
        for cause in over:
            del self.lingering[cause]
        return over

    def open_session(self) -> None:
        """Start a session: remove the causes that last to the end of a session."""
        self.lingering = {cause: since for cause, since in self.lingering.items() if not _of_session(cause)}
        self.active = {cause: since for cause, since in self.active.items() if not _of_session(cause)}

    @property
    def causes(self) -> tuple[StateCause, ...]:
        """All active and lingering causes, the most severe first."""
        return tuple(sorted((*self.active, *self.lingering), key=lambda cause: (-KINDS[cause].state, cause)))

    @property
    def shared_causes(self) -> tuple[StateCause, ...]:
        """The causes that apply to entries at any broker, the most severe first."""
        return tuple(cause for cause in self.causes if not (self.failed_over and cause in LOCAL))

    @property
    def state(self) -> RiskState:
        """The most severe state of `shared_causes`: the one for entries at any broker."""
        return max((KINDS[cause].state for cause in self.shared_causes), default=RiskState.NORMAL)

    @property
    def local_state(self) -> RiskState:
        """The most severe state of all causes: the one of this account."""
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
