"""The mode of an instance, and whether its live trading is armed, for the status document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts.settings.trading import calendar_of
from tbot_core.engine.control import ControlVerb
from tbot_core.errors import DataError
from tbot_core.journal import records
from tbot_core.journal.projections.approvals import ArmingState, ArmingTerms, next_sessions

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from tbot_core.instance import Settings
    from tbot_core.journal.store import Event
    from tbot_core.model.calendar import ExchangeCalendar
    from tbot_core.status import Document
    from tbot_core.status.risk_state import RiskStatus

_MODE_KINDS = frozenset({records.RUN_STARTED, records.LIVE_TERMS})


def latest_mode(events: Sequence[Event]) -> str | None:
    """The mode of the last start, known before its first session too; None without one, or before a paper session."""
    return next((event.payload["mode"] for event in reversed(events) if event.kind in _MODE_KINDS), None)


def arming_document(state: ArmingState, settings: Settings, now: dt.datetime, risk: RiskStatus) -> Document:
    """Until when live trading is armed, or why it is not; other modes need no arming.

    `arming_from` and `arming_waits`: the first and the last session of an arming that waits for the first one to begin.
    It blocks nothing now.
    """
    terms, calendar = state.terms, calendar_of(settings.trading)
    if terms is None or terms.mode != "live":
        return _document(None, (), "", blocked=False)
    reason = state.denial_reason(terms, next_sessions(calendar, now, 1)[0])
    waits = _waiting(terms, calendar, now, risk) if reason else ()
    armed = None if reason or state.armed is None else state.armed.sessions[-1]
    return _document(armed, waits, reason, blocked=(bool(reason) and not waits) or risk.latched)


def _document(armed: dt.date | None, waits: Sequence[dt.date], reason: str, *, blocked: bool) -> Document:
    return {
        "armed_until": None if armed is None else armed.isoformat(),
        "arming_from": waits[0].isoformat() if waits else None,
        "arming_waits": waits[-1].isoformat() if waits else None,
        "not_armed": reason,
        "entries_blocked": blocked,
    }


def _waiting(terms: ArmingTerms, calendar: ExchangeCalendar, now: dt.datetime, risk: RiskStatus) -> Sequence[dt.date]:
    # The sessions of a requested arming, from the next session on, which will apply it; none if it would be refused.
    found: Sequence[dt.date] = ()
    for request in risk.seen.requests:
        if request.verb is ControlVerb.DISARM:
            found = ()
        elif request.verb is ControlVerb.ARM and not terms.requested(request.arguments).changed(terms):
            try:
                days = next_sessions(calendar, request.made, int(request.arguments.get("sessions", "1")))
            except (DataError, OverflowError, ValueError):
                continue
            first = next_sessions(calendar, now, 1)[0]
            found = days[days.index(first) :] if first in days else ()
    return found
