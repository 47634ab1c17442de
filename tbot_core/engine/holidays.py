"""Exchange holidays: reported once, in the morning."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from tbot_core.journal import records
from tbot_core.model import clock

if TYPE_CHECKING:
    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.model.calendar import ExchangeCalendar

ANNOUNCE_FROM: Final = dt.time(8)
"""New York time at which a day begins, with or without a session."""


class HolidayAnnouncer:
    """Says that today is a holiday, whichever process looks first; weekends and the owner's free days are none."""

    def __init__(self, recorder: JournalRecorder, calendar: ExchangeCalendar) -> None:
        self._recorder = recorder
        self._calendar = calendar
        last = recorder.journal.last_event(records.HOLIDAY)
        self._seen = None if last is None else dt.date.fromisoformat(last.payload["date"])

    def check(self) -> None:
        """Called while a session is waited for."""
        there = clock.exchange_time(self._recorder.clock.now())
        day = there.date()
        if day == self._seen or there.time() < ANNOUNCE_FROM:
            return
        self._seen = day
        name = self._calendar.holiday(day)
        if name is not None:
            following = self._calendar.next(day).date
            payload = {"date": day.isoformat(), "name": name, "next": following.isoformat()}
            self._recorder.record(records.HOLIDAY, payload)
