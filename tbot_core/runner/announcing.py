"""Says whether a session is ready: once that it is, and until then every ten minutes that it is not, and why.

Before the bell READY is taken back where something speaks against it that lasts, and said again when that is over.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from tbot_core.journal import records
from tbot_core.model import RiskState
from tbot_core.states import KINDS, Cause

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tbot_core.calendar import Session
    from tbot_core.recorder import Recorder
    from tbot_core.runner.line import Line
    from tbot_core.runner.market import MarketSession

AGAIN: Final = timedelta(minutes=10)
"""So often it is said that all is not ready, until it is."""

LASTS: Final = timedelta(seconds=30)
"""So long something must speak against a session that was ready; and so long the account may be read at first."""

LOOK_S: Final = 1.0


class Announcer:
    """What is said of a run's sessions before they are traded."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._told: datetime | None = None

    def deny(self, session: Session, reasons: list[str]) -> None:
        """Say that a session is not ready: at once, then no more often than every ten minutes."""
        now = self._recorder.clock.now()
        if self._told is None or now - self._told >= AGAIN:
            self._told = now
            payload = {"session": session.date.isoformat(), "reasons": reasons}
            self._recorder.note(records.NOT_READY, payload)

    async def announce(self, market: MarketSession, line: Line | None, said: Callable[[], records.Payload]) -> None:
        """Look at a session until it is ready and its bell has rung; `said` is what READY says then."""
        clock, session = self._recorder.clock, market.run.session
        reading_until, against_since, ready = clock.now() + LASTS, None, False
        while not (ready and clock.now() >= session.open):
            await clock.sleep(LOOK_S)  # by then the account is being read
            now = clock.now()
            reasons = _reasons(market, line, reading=now <= reading_until)
            if not ready and not _against(market) and (line is None or line.there):
                ready, self._told = True, None
                self._recorder.note(records.READY, said())
            if not ready and reasons:
                self.deny(session, reasons)
            against_since = (against_since or now) if ready and reasons else None
            if against_since is not None and now - against_since >= LASTS:
                ready = False
                self.deny(session, reasons)


def _against(market: MarketSession) -> list[Cause]:
    # Why nothing would be entered; empty where nothing keeps it from that.
    return [cause for cause in market.conditions.causes if KINDS[cause].state >= RiskState.EXIT_ONLY]


def _reasons(market: MarketSession, line: Line | None, *, reading: bool) -> list[str]:
    # The same in words, with what the feed's connection has against it.
    told = [_told(market, cause) for cause in _against(market) if not (reading and cause is Cause.UNRECONCILED)]
    return [*told, *([line.words] if line is not None and line.words else [])]


def _told(market: MarketSession, cause: Cause) -> str:
    # What is left behind is said to the share.
    more = market.leftovers.words if cause is Cause.LEFT_BEHIND else ""
    return f"{cause.value}: {more}" if more else cause.value
