"""Says whether a session is ready: once that it is, and until then every ten minutes that it is not, and why.

Before the bell READY is taken back where something speaks against it that lasts, and said again when nothing has done
so for a while: what comes and goes is called ready the more slowly the more often it was taken back.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from tbot_core.journal import records
from tbot_core.model.types import RiskState
from tbot_core.trading.risk.states import KINDS, StateCause

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tbot_core.engine.live.feed_connection import FeedConnection
    from tbot_core.engine.live.market_session import LiveTradingSession
    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.model.calendar import Session

AGAIN: Final = timedelta(minutes=10)
"""How often a session that is not ready is reported, until it is."""

LASTS: Final = timedelta(seconds=30)
"""How long a ready session must have an objection before it is reported, and how long the first account reading may
take.
"""

HOLDS: Final = (timedelta(0), LASTS, AGAIN)
"""How long there must be no objection before READY: the first, the second, and each later session."""

LOOK_S: Final = 1.0


class ReadinessAnnouncer:
    """The READY and NOT READY reports of a run's sessions."""

    def __init__(self, recorder: JournalRecorder) -> None:
        self._recorder = recorder
        self._told: datetime | None = None

    def announce_not_ready(self, session: Session, reasons: list[str]) -> None:
        """Report that a session is not ready: at once, then at most every ten minutes."""
        now = self._recorder.clock.now()
        if self._told is None or now - self._told >= AGAIN:
            self._told = now
            payload = {"session": session.date.isoformat(), "reasons": reasons}
            self._recorder.record(records.NOT_READY, payload)

    async def announce_ready(
        self, market: LiveTradingSession, line: FeedConnection | None, said: Callable[[], records.Payload]
    ) -> None:
        """Look at a session until it is ready and its bell has rung; `said` is what READY says then."""
        clock, session = self._recorder.clock, market.run.session
        reading_until, ready, taken_back = clock.now() + LASTS, False, 0
        against, well = _Spell(), _Spell()
        while not (ready and clock.now() >= session.open):
            await clock.sleep(LOOK_S)  # by then the account is being read
            now = clock.now()
            reasons = _reasons(market, line, reading=now <= reading_until)
            well.look(now, on=not (reasons or _against(market)) and (line is None or line.is_connected))
            against.look(now, on=ready and bool(reasons))
            if not ready and well.lasts(now, HOLDS[min(taken_back, len(HOLDS) - 1)]):
                ready = True
                self._recorder.record(records.READY, said())
            elif against.lasts(now, LASTS):
                ready, taken_back = False, taken_back + 1
                self._told = None  # READY was the last word: whoever relies on it hears at once that it is over
            if not ready and reasons:
                self.announce_not_ready(session, reasons)


class _Spell:
    # Since when something has been so without a break.
    def __init__(self) -> None:
        self._since: datetime | None = None

    def look(self, now: datetime, *, on: bool) -> None:
        self._since = (self._since or now) if on else None

    def lasts(self, now: datetime, span: timedelta) -> bool:
        return self._since is not None and now - self._since >= span


def _against(market: LiveTradingSession) -> list[StateCause]:
    # Why nothing would be entered; empty where nothing keeps it from that.
    return [cause for cause in market.trading_state.causes if KINDS[cause].state >= RiskState.EXIT_ONLY]


def _reasons(market: LiveTradingSession, line: FeedConnection | None, *, reading: bool) -> list[str]:
    # The same in words, with what the feed's connection has against it.
    told = [_told(market, cause) for cause in _against(market) if not (reading and cause is StateCause.UNRECONCILED)]
    return [*told, *([line.disconnect_reason] if line is not None and line.disconnect_reason else [])]


def _told(market: LiveTradingSession, cause: StateCause) -> str:
    # What is left behind is said to the share.
    more = market.abandoned_positions.description if cause is StateCause.LEFT_BEHIND else ""
    return f"{cause.value}: {more}" if more else cause.value
