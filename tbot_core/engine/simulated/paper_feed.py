"""Paper trading on a live feed: its bars become whole minutes that the simulated venue fills from, and are kept.

A session that was interrupted is repeated on the minutes that were kept, as they were decided. What the feed says
besides bars, its quotes and halts, is not looked at: it is not kept, so it could not be repeated.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tbot_core.engine.session.feed_session import FeedReceiver
from tbot_core.errors import DataError
from tbot_core.marketdata import received_bars
from tbot_core.model.steady_clock import SteadyClock

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tbot_core.contracts import LiveSession
    from tbot_core.engine.session.config import LiveConfig
    from tbot_core.engine.session.session import SessionContext
    from tbot_core.marketdata.received_bars import RecordedSession
    from tbot_core.model.bars import DayFacts, MinuteSlice, Tape
    from tbot_core.model.calendar import Session


class PaperFeed:
    """A live session as one of whole minutes; each comes when it has ended, and is kept before anybody decides on it.

    `listening()` is what brings its bars. Bars that came late are put in their place in `tape`.
    """

    def __init__(self, given: LiveSession, day: DayFacts, trading: SessionContext, floor: LiveConfig) -> None:
        """`trading` waits and has the wall clock; `floor` names the feed, and says where its minutes are kept."""
        self._hearing = FeedReceiver(given, day, floor, trading, SteadyClock(trading.clock), ())
        self._wait = trading.wait
        self._listening: asyncio.Task[None] | None = None
        self.tape: Tape | None = None

    @property
    def session(self) -> Session:
        """The exchange day."""
        return self._hearing.source.session

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that are heard, sorted."""
        return self._hearing.source.symbols

    @property
    def day(self) -> DayFacts:
        """What is known before the bell; in a session that is repeated, what was known then."""
        before = self._hearing.previous_recording
        return self._hearing.source.day if before is None else before.day

    async def minutes(self) -> AsyncIterator[MinuteSlice]:
        """Every minute of the session in order."""
        gathering = self._hearing.live_feed
        if gathering is None:
            return
        coming = aiter(gathering.minutes())
        for index in range(self.session.minutes):
            await self._wait(self.session.moment(index + 1))
            minute = await anext(coming)
            if self._listening is not None and self._listening.done():
                self._listening.result()
            late = gathering.aggregator.pop_late_bars()
            if self.tape is not None and late:
                self.tape.amend((one.minute, one.row, one.values) for one in late)
            self._hearing.record_minute(minute, late)
            yield minute

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[None]:
        """Hear the feed meanwhile."""
        gathering = self._hearing.live_feed
        self._listening = None if gathering is None else asyncio.ensure_future(gathering.run())
        try:
            yield
        finally:
            if self._listening is not None:
                self._listening.cancel()
                await asyncio.gather(self._listening, return_exceptions=True)


def interrupted_minutes(folder: Path, day: dt.date) -> RecordedSession:
    """The minutes of a session of another day that was interrupted; raises DataError where they were not kept."""
    path = received_bars.recorded_file(folder, day)
    if path is None:
        raise DataError(
            f"The session of {day} was interrupted, and its bars are not in {folder}.",
            "Put the file back, or trade on paper in another --home.",
        )
    return received_bars.read_recording(path)
