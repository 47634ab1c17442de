"""The feed session: subscribed symbols, their bars as minutes, and a file of the received bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import FeedSession, LiveSession, SupportsPartialVolume
from tbot_core.errors import TbotError
from tbot_core.journal.events.feeds import UniverseCut
from tbot_core.marketdata.live_feed import LiveFeedAggregator
from tbot_core.marketdata.received_bars import RecordedMinute, RecordedSession, RecordingHeader, SessionRecorder
from tbot_core.model.calendar import Session
from tbot_core.model.day_facts import DayFacts
from tbot_core.system import log
from tbot_core.trading.universe import Universe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tbot_core.engine.session.config import LiveConfig
    from tbot_core.marketdata.bar_aggregator import BarAmendment
    from tbot_core.marketdata.live_feed import FeedObserver
    from tbot_core.model.bars import MinuteSlice, Quotes
    from tbot_core.model.clock import Clock

_log = log.logger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class SessionFeed:
    """The feed of a session, and its symbols with the facts known before the open.

    `universe` holds the subscribed symbols of a live feed, and those cut by a limit. `source`: None for a session that
    has ended, of which no minute comes.
    """

    session: Session
    universe: Universe
    source: FeedSession | LiveSession | None = None


class FeedReceiver:
    """A session's bars as minutes; `live_feed` aggregates a live feed, None for another source.

    Received bars are stored beside the journal; if that fails, the session continues without the recording.
    """

    def __init__(
        self, feed: SessionFeed, config: LiveConfig, wall: Clock, clock: Clock, observer: FeedObserver
    ) -> None:
        """`wall` times the recording; `clock`: the session's own. A live feed reports to `observer`."""
        self._wall, self._clock = wall, clock
        self._session, self._universe, source = feed.session, feed.universe, feed.source
        self.live_feed: LiveFeedAggregator | None = None
        self._source: FeedSession | None
        coverage = source.quality.coverage if isinstance(source, LiveSession) else ""
        self._recording = _opened(config, _header(feed, config.feed, coverage))
        if isinstance(source, LiveSession):
            kept = () if self.previous_recording is None else self.previous_recording.records
            self._source = self.live_feed = LiveFeedAggregator(source, feed.universe, clock, config.grace_s, observer)
            self.live_feed.restore_minutes(kept)
        else:
            self._source = source

    @property
    def partial_volume(self) -> frozenset[str]:
        """The symbols whose volumes are a part of the tape."""
        return partial_volume_of(self._source)

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
        return UniverseCut.of(self._universe) if self._universe.cut else None

    async def minutes(self) -> AsyncIterator[MinuteSlice]:
        """The source's minutes, each after its end: stored and simulated ones come early."""
        if self._source is not None:
            async for minute in self._source.minutes():
                await self._clock.sleep_until(self._session.moment(minute.index + 1))
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


def partial_volume_of(source: object) -> frozenset[str]:
    """The symbols of a feed whose volumes are a part of the tape; VOLUME_LIMIT does not apply to them."""
    return source.partial_volume if isinstance(source, SupportsPartialVolume) else frozenset()


def universe_of(source: FeedSession | LiveSession) -> Universe:
    """All symbols of a source; nothing is known of those of a live feed."""
    day = DayFacts.unknown(len(source.symbols)) if isinstance(source, LiveSession) else source.day
    return Universe(symbols=source.symbols, day=day)


def empty_minute(like: MinuteSlice, index: int) -> MinuteSlice:
    """A minute that was never received: no bar for any symbol."""
    empty = like.close * float("nan")
    return attrs.evolve(like, index=index, open=empty, high=empty, low=empty, close=empty, volume=empty, vwap=empty)


def _header(feed: SessionFeed, name: str, coverage: str) -> RecordingHeader:
    universe = feed.universe
    return RecordingHeader(
        session=feed.session,
        symbols=universe.symbols,
        day=universe.day,
        source=name,
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
