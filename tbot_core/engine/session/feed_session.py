"""The feed session: subscribed symbols, their bars as minutes, and a file of the received bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import LiveSession
from tbot_core.errors import TbotError
from tbot_core.journal.events.feeds import UniverseCut
from tbot_core.marketdata.live_feed import LiveFeedAggregator
from tbot_core.marketdata.received_bars import RecordedMinute, RecordedSession, RecordingHeader, SessionRecorder
from tbot_core.model.day_facts import DayFacts
from tbot_core.system import log
from tbot_core.trading.universe import Universe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tbot_core.contracts import FeedSession
    from tbot_core.engine.session.config import LiveConfig
    from tbot_core.engine.session.session import SessionContext
    from tbot_core.marketdata.bar_aggregator import BarAmendment
    from tbot_core.model.bars import MinuteSlice, Quotes
    from tbot_core.model.clock import Clock

_log = log.logger(__name__)


class FeedReceiver:
    """A session's bars as minutes, in `source`; `live_feed` aggregates a live feed, None for another source.

    `universe` holds the subscribed symbols of a live feed, and those cut by a limit. Received bars are stored beside
    the journal; if that fails, the session continues without the recording.
    """

    def __init__(
        self,
        source: FeedSession | LiveSession,
        universe: Universe | None,
        config: LiveConfig,
        trading: SessionContext,
        clock: Clock,
    ) -> None:
        """`universe`: symbols, and facts known before the open, None for the source's; `clock`: the session's own."""
        self._wall, self._clock = trading.clock, clock
        self.live_feed: LiveFeedAggregator | None = None
        self.source: FeedSession
        self.universe = universe = universe or universe_of(source)
        coverage = source.quality.coverage if isinstance(source, LiveSession) else ""
        self._recording = _opened(config, _header(source, universe, config.feed, coverage))
        if isinstance(source, LiveSession):
            kept = () if self.previous_recording is None else self.previous_recording.records
            self.source = self.live_feed = LiveFeedAggregator(source, universe, clock, config.grace_s, kept)
        else:
            self.source = source

    @property
    def previous_recording(self) -> RecordedSession | None:
        """The recording from before a restart; None without one."""
        return None if self._recording is None else self._recording.previous

    @property
    def first_unrecorded(self) -> int:
        """The first minute that was not recorded before a restart."""
        before = self.previous_recording
        return before.records[-1].minute.index + 1 if before is not None and before.records else 0

    @property
    def truncation(self) -> UniverseCut | None:
        """The event of a universe that was cut; None otherwise."""
        return UniverseCut.of(self.universe) if self.universe.cut else None

    async def minutes(self) -> AsyncIterator[MinuteSlice]:
        """The source's minutes, each after its end: stored and simulated ones come early."""
        async for minute in self.source.minutes():
            await self._clock.sleep_until(self.source.session.moment(minute.index + 1))
            yield minute

    def record_minute(self, minute: MinuteSlice, late: Sequence[BarAmendment], quotes: Quotes | None = None) -> None:
        """Record a processed minute as it was received, with the quotes used for its decisions."""
        live_feed = self.live_feed
        revised = () if live_feed is None else tuple(live_feed.aggregator.pop_revisions())
        if self._recording is None:
            return
        counts = {} if live_feed is None else {key.value: count for key, count in live_feed.aggregator.counts.items()}
        kept = RecordedMinute(
            minute=minute,
            late=tuple(late),
            revised=revised,
            filled=live_feed is not None and minute.index in live_feed.backfilled_minutes,
            at=self._wall.now(),
            counts=counts,
            quotes=quotes,
        )
        try:
            self._recording.append(kept)
        except TbotError as fault:
            _log.error("received.not_recorded", reason=fault.message)
            self._recording = None


def universe_of(source: FeedSession | LiveSession) -> Universe:
    """All symbols of a source; nothing is known of those of a live feed."""
    day = DayFacts.unknown(len(source.symbols)) if isinstance(source, LiveSession) else source.day
    return Universe(symbols=source.symbols, day=day)


def empty_minute(like: MinuteSlice, index: int) -> MinuteSlice:
    """A minute that was never received: no bar for any symbol."""
    empty = like.close * float("nan")
    return attrs.evolve(like, index=index, open=empty, high=empty, low=empty, close=empty, volume=empty, vwap=empty)


def _header(source: FeedSession | LiveSession, universe: Universe, feed: str, coverage: str) -> RecordingHeader:
    return RecordingHeader(
        session=source.session,
        symbols=universe.symbols,
        day=universe.day,
        source=feed,
        coverage=coverage,
        cut=universe.cut,
        denied=universe.denied,
        left_out_day=universe.left_out_day,
        watch_only=tuple(sorted(universe.watch_only)),
    )


def _opened(config: LiveConfig, header: RecordingHeader) -> SessionRecorder | None:
    if config.received is None:
        return None
    try:
        return SessionRecorder.open(config.received, header)
    except TbotError as fault:
        _log.error("received.not_recorded", reason=fault.message)
        return None
