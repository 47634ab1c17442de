"""The mode of an instance, and whether its live trading is armed, for the status document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts.settings.calendar import calendar_of
from tbot_core.engine.control import ControlVerb
from tbot_core.errors import DataError
from tbot_core.journal import records
from tbot_core.journal.projections.arming import next_sessions

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from tbot_core.instance import Settings
    from tbot_core.journal.projections.arming import ArmingState, ArmingTerms
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

    `arming_waits`: the last session of an arming that waits for the next session to begin. It blocks nothing now.
    """
    terms, calendar = state.terms, calendar_of(settings.trading)
    if terms is None or terms.mode != "live":
        return {"armed_until": None, "arming_waits": None, "not_armed": "", "entries_blocked": False}
    reason = state.denial_reason(terms, next_sessions(calendar, now, 1)[0])
    waits = _waiting(terms, calendar, now, risk) if reason else None
    armed = None if reason else state.armed
    return {
        "armed_until": None if armed is None else armed.sessions[-1].isoformat(),
        "arming_waits": None if waits is None else waits.isoformat(),
        "not_armed": reason,
        "entries_blocked": (bool(reason) and waits is None) or risk.latched,
    }


def _waiting(terms: ArmingTerms, calendar: ExchangeCalendar, now: dt.datetime, risk: RiskStatus) -> dt.date | None:
    # The last session of a requested arming that the next session will apply; None if it would be refused.
    found = None
    for request in risk.seen.requests:
        if request.verb is ControlVerb.DISARM:
            found = None
        elif request.verb is ControlVerb.ARM and request.arguments.get("settings", terms.settings) == terms.settings:
            try:
                days = next_sessions(calendar, request.made, int(request.arguments.get("sessions", "1")))
            except (DataError, OverflowError, ValueError):
                continue
            found = days[-1] if next_sessions(calendar, now, 1)[0] in days else None
    return found
