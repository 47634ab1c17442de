"""Paper trading on a live feed: its bars become whole minutes, which are recorded and used for simulated fills.

An interrupted session is repeated on the recorded minutes. Quotes and halts of the feed are ignored: they are not
recorded, so they could not be repeated.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tbot_core.contracts import FeedCoverage
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
    from tbot_core.trading.universe import Universe


class PaperFeed:
    """A live session as whole minutes; each is yielded after its end, and recorded before decisions on it.

    Bars are received within `receiving()`. Late bars are inserted into `tape`.
    """

    def __init__(self, source: LiveSession, universe: Universe, trading: SessionContext, config: LiveConfig) -> None:
        """`trading` supplies the wait and the wall clock; `config` the feed's name and the folder for its minutes."""
        self._receiver = FeedReceiver(source, universe, config, trading, SteadyClock(trading.clock))
        self._coverage = source.quality.coverage
        self._wait = trading.wait
        self._receiving: asyncio.Task[None] | None = None
        self.tape: Tape | None = None

    @property
    def session(self) -> Session:
        """The exchange day."""
        return self._receiver.source.session

    @property
    def symbols(self) -> tuple[str, ...]:
        """The subscribed symbols, sorted."""
        return self._receiver.source.symbols

    @property
    def day(self) -> DayFacts:
        """The facts known before the open; in a repeated session, those of the first time."""
        before = self._receiver.previous_recording
        return self._receiver.source.day if before is None else before.day

    @property
    def partial_volume(self) -> frozenset[str]:
        """The symbols whose volumes are a part of the tape; in a repeated session, those of the first time."""
        before = self._receiver.previous_recording
        if before is not None:
            return before.partial_volume
        return frozenset(self.symbols if self._coverage is FeedCoverage.SINGLE_VENUE else ())

    async def minutes(self) -> AsyncIterator[MinuteSlice]:
        """Every minute of the session in order."""
        live_feed = self._receiver.live_feed
        if live_feed is None:
            return
        received = aiter(live_feed.minutes())
        for index in range(self.session.minutes):
            await self._wait(self.session.moment(index + 1))
            minute = await anext(received)
            if self._receiving is not None and self._receiving.done():
                self._receiving.result()
            late = live_feed.aggregator.pop_late_bars()
            if self.tape is not None and late:
                self.tape.amend((one.minute, one.row, one.values) for one in late)
            self._receiver.record_minute(minute, late)
            yield minute

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[None]:
        """Receive the feed within the context."""
        live_feed = self._receiver.live_feed
        self._receiving = None if live_feed is None else asyncio.ensure_future(live_feed.run())
        try:
            yield
        finally:
            if self._receiving is not None:
                self._receiving.cancel()
                await asyncio.gather(self._receiving, return_exceptions=True)


def interrupted_minutes(folder: Path, day: dt.date) -> RecordedSession:
    """The recorded minutes of an interrupted session of another day; raises DataError without a recording."""
    path = received_bars.recorded_file(folder, day)
    if path is None:
        raise DataError(
            f"The session of {day} was interrupted, and its bars are not in {folder}.",
            "Put the file back, or trade on paper in another --home.",
        )
    return received_bars.read_recording(path)
