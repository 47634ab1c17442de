"""Exchange holidays: reported once, in the morning."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from tbot_core.journal import records
from tbot_core.journal.events.sessions import HolidayReported
from tbot_core.model import clock

if TYPE_CHECKING:
    from tbot_core.journal.store import JournalRecorder
    from tbot_core.model.calendar import ExchangeCalendar

ANNOUNCE_FROM: Final = dt.time(8)
"""The New York time from which a day's holiday is reported."""


class HolidayAnnouncer:
    """Reports an exchange holiday once, also across restarts; weekends and the owner's closures are not reported."""

    def __init__(self, recorder: JournalRecorder, calendar: ExchangeCalendar) -> None:
        self._recorder = recorder
        self._calendar = calendar
        last = recorder.journal.last_event(records.HOLIDAY)
        self._reported = None if last is None else last.facts(HolidayReported).date

    def check(self) -> None:
        """Report a holiday if it is due; called while waiting for a session."""
        local = clock.exchange_time(self._recorder.clock.now())
        day = local.date()
        if day == self._reported or local.time() < ANNOUNCE_FROM:
            return
        self._reported = day
        name = self._calendar.holiday(day)
        if name is not None:
            following = self._calendar.next(day).date
            self._recorder.record(HolidayReported(date=day, name=name, next=following))
