"""Blocks the entries of a live session while it is not armed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.engine.control import ControlRequest, ControlVerb
from tbot_core.errors import DataError
from tbot_core.execution.reconciliation import ReconciliationStatus
from tbot_core.journal import records
from tbot_core.journal.events import risk as events
from tbot_core.journal.events.risk import Armed, ArmingKept, Disarmed, LiveTerms
from tbot_core.journal.projection import JournalEvent
from tbot_core.journal.projections.approvals import (
    MOST_RESTARTS,
    ArmingGrant,
    ArmingTerms,
    armed_of,
    next_sessions,
    recall_arming,
)
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.plugins import lock
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from datetime import date

    from tbot_core.engine.assembly import Assembly
    from tbot_core.engine.session.requests import RequestAction
    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.journal.codec import EventFacts
    from tbot_core.journal.store import JournalRecorder
    from tbot_core.trading.risk.exposure import ExposureBook

_LIVE: Final = "live"
_REMEDY: Final = "Read what `tbot arm` prints and arm again; after a change of settings restart the bot first."
UNMATCHED: Final = "it was restarted, and the account has not been reconciled yet"


@attrs.frozen(kw_only=True, eq=False)
class LiveContext:
    """The arming terms of a live session, its calendar, and the journal's earlier events."""

    terms: ArmingTerms
    calendar: ExchangeCalendar
    events: Sequence[JournalEvent] = ()


def live_context(assembly: Assembly, account: str) -> LiveContext:
    """The arming context of a live session of an assembly at an account."""
    settings = assembly.settings
    plugins = lock.lock_fingerprint(settings.instance.home)
    terms = ArmingTerms(mode=settings.mode, account=account, settings=settings.fingerprint, plugins=plugins)
    return LiveContext(terms=terms, calendar=assembly.calendar)


def record_terms(assembly: Assembly, recorder: JournalRecorder) -> None:
    """Record the terms of a start before its login, with the account of the last live session, or "".

    Then the status knows that trading is live before the first session. Paper trading has none to record, but ends
    those of live trading, and its arming: going back to live does not arm again.
    """
    armed, disarmed, last = map(recorder.journal.last_event, (records.ARMED, records.DISARMED, records.LIVE_TERMS))
    known = {} if last is None else last.payload
    terms = live_context(assembly, known.get("account", "")).terms
    changed = attrs.asdict(terms) != known if terms.mode == _LIVE else known.get("mode") == _LIVE
    if changed:
        recorder.record(LiveTerms(**attrs.asdict(terms)))
    if armed is not None and (disarmed is None or disarmed.seq < armed.seq) and terms.mode != _LIVE:
        recorder.record(Disarmed(why=armed_of(armed.facts(Armed)).terms.changed(terms)))


def armed_event(grant: ArmingGrant) -> Armed:
    """The journal's event of an arming."""
    terms = events.ArmingTerms(**attrs.asdict(grant.terms))
    return Armed(actor=grant.actor, sessions=grant.sessions, terms=terms)


class ArmingGuard:
    """The arming of one live session.

    While it is not armed, StateCause.NOT_ARMED is set and the gate denies with Reason.NOT_ARMED.
    """

    def __init__(
        self,
        live: LiveContext,
        day: date,
        recorder: JournalRecorder,
        trading_state: TradingStateController,
        exposure: ExposureBook,
    ) -> None:
        self._live = live
        self._day = day
        self._recorder = recorder
        self._trading_state = trading_state
        self._exposure = exposure
        self._arming = recall_arming(live.events)
        self._unmatched = False
        self._latched = False

    @property
    def handlers(self) -> dict[ControlVerb, RequestAction]:
        """The handlers of its requests."""
        return {ControlVerb.ARM: self.arm, ControlVerb.DISARM: self.disarm}

    @property
    def awaits_match(self) -> bool:
        """Whether an arming waits, after a restart, for the account to be matched."""
        return self._unmatched

    def restore(self, *, restarted: bool) -> None:
        """Restore an arming before trading; after a restart it applies again when the account is matched."""
        self._latched = self._loss_latch
        if self._arming.terms != self._live.terms:
            self._recorder.record(LiveTerms(**attrs.asdict(self._live.terms)))
        armed = self._arming.armed
        changed = "" if armed is None else armed.terms.changed(self._live.terms)
        if changed:
            self._disarm(changed)
        self._unmatched = restarted and not self._arming.denial_reason(self._live.terms, self._day)
        if self._unmatched and self._arming.restarts >= MOST_RESTARTS:
            self._disarm(f"the session was restarted more than {MOST_RESTARTS} times")
        self._impose()

    def update(self, verdict: ReconciliationStatus | None) -> None:
        """Drop an arming that is no longer valid; `verdict` is the last reconciliation status."""
        if self._loss_latch and not self._latched and self._arming.armed is not None:
            self._disarm("a loss latch is set")
        self._latched = self._loss_latch
        if self._unmatched and verdict is ReconciliationStatus.MATCHED:
            self._write(ArmingKept(restarts=self._arming.restarts + 1))
            self._unmatched = False
        elif self._unmatched and verdict is ReconciliationStatus.ADOPTED:
            self._disarm("it was restarted, and the account differed from the journal")
        self._impose()

    def arm(self, request: ControlRequest) -> str:
        """Arm as requested; returns "", or the reason of a refusal."""
        count = request.arguments.get("sessions", "1")
        if not count.isdecimal():
            return f"{count!r} is not a number of sessions."
        try:
            days = next_sessions(self._live.calendar, request.made, int(count))
        except ValueError as fault:
            return f"{fault}."
        except (DataError, OverflowError):
            return f"It was made at {request.made.isoformat()}, a date without sessions in the calendar."
        if refusal := self._refusal(request, days):
            return refusal
        armed = ArmingGrant(terms=self._live.terms, sessions=days, actor=request.actor)
        self._write(armed_event(armed))
        self._unmatched = False
        self._impose()
        return ""

    def _refusal(self, request: ControlRequest, days: Sequence[date]) -> str:
        if self._day not in days:
            return f"It was made for {days[0]} to {days[-1]}; this is the session of {self._day}."
        if differs := self._live.terms.requested(request.arguments).changed(self._live.terms):
            return f"It was made under other terms than those of the running bot: {differs}. {_REMEDY}"
        if self._trading_state.is_active(StateCause.JOURNAL_OLDER):
            return f"Not while {StateCause.JOURNAL_OLDER.value}: `tbot audit accept` comes first."
        return ""

    def disarm(self, request: ControlRequest) -> str:
        """Disarm as requested."""
        self._disarm(f"requested by {request.actor}")
        return ""

    @property
    def _loss_latch(self) -> bool:
        return self._exposure.daily_loss or self._exposure.losing_run

    def _disarm(self, why: str) -> None:
        # Block entries before the event is written: a full disk must not keep an entry possible.
        self._unmatched = False
        event = self._recorder.entry(Disarmed(why=why))
        self._arming.apply(event)
        self._impose()
        self._recorder.write(event)

    def _write(self, facts: EventFacts) -> None:
        event = self._recorder.entry(facts)
        self._recorder.write(event)
        self._arming.apply(event)

    def _impose(self) -> None:
        words = UNMATCHED if self._unmatched else self._arming.denial_reason(self._live.terms, self._day)
        self._exposure.armed = not words
        self._trading_state.set_cause(StateCause.NOT_ARMED, words)
