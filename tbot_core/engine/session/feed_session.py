"""The feed session: subscribed symbols, their bars as minutes, and a file of the received bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.contracts import LiveSession
from tbot_core.errors import TbotError
from tbot_core.journal import records
from tbot_core.journal.projections import carryover
from tbot_core.journal.projections.book import fold_events
from tbot_core.marketdata.live_feed import LiveFeedAggregator
from tbot_core.marketdata.received_bars import RecordedMinute, RecordedSession, RecordingHeader, SessionRecorder
from tbot_core.system import log
from tbot_core.trading.universe import Universe, UniverseLimit, limit_universe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import FeedSession
    from tbot_core.engine.session.config import LiveConfig
    from tbot_core.engine.session.session import SessionContext
    from tbot_core.journal.store import Event
    from tbot_core.marketdata.bar_aggregator import BarAmendment
    from tbot_core.model.bars import DayFacts, MinuteSlice, Quotes
    from tbot_core.model.clock import Clock

_log = log.logger(__name__)


class FeedReceiver:
    """A session's source as minutes, `source`; `gathering` is what makes them of a live feed, None of another.

    `universe` says which symbols are heard of a live feed, and which a limit has cut. What was received is kept beside
    the journal; that it cannot be is no reason to stop.
    """

    def __init__(  # noqa: PLR0913, PLR0917  a source, and whoever it is heard for
        self,
        given: FeedSession | LiveSession,
        day: DayFacts,
        floor: LiveConfig,
        trading: SessionContext,
        clock: Clock,
        past: Sequence[Event],
    ) -> None:
        """`day` is what is known before the bell; `clock` is the session's own; `past` are the journal's events."""
        self._wall = trading.clock
        self.live_feed: LiveFeedAggregator | None = None
        self.source: FeedSession
        if isinstance(given, LiveSession):
            self.universe = _universe(given, day, trading.rules.universe_max, past)
            self._recording = _opened(floor, _header(given, self.universe, floor.feed, given.quality.coverage))
            kept = () if self.previous_recording is None else self.previous_recording.records
            self.source = self.live_feed = LiveFeedAggregator(given, self.universe, clock, floor.grace_s, kept)
        else:
            self.universe = Universe(symbols=given.symbols, day=day)
            self._recording = _opened(floor, _header(given, self.universe, floor.feed, ""))
            self.source = given

    @property
    def previous_recording(self) -> RecordedSession | None:
        """What was stored of the session before a restart."""
        return None if self._recording is None else self._recording.previous

    @property
    def truncation(self) -> dict[str, Any] | None:
        """What is written down of a universe that was cut; None for one that was not."""
        cut = self.universe.cut
        return None if not cut else records.universe_payload(self.universe)

    def record_minute(self, minute: MinuteSlice, late: Sequence[BarAmendment], quotes: Quotes | None = None) -> None:
        """Write down a minute that has been dealt with, as it was received, and the quotes that it was decided on."""
        gathering = self.live_feed
        revised = () if gathering is None else tuple(gathering.aggregator.pop_revisions())
        if self._recording is None:
            return
        counts = {} if gathering is None else {key.value: count for key, count in gathering.aggregator.counts.items()}
        kept = RecordedMinute(
            minute=minute,
            late=tuple(late),
            revised=revised,
            filled=gathering is not None and minute.index in gathering.backfilled_minutes,
            at=self._wall.now(),
            counts=counts,
            quotes=quotes,
        )
        try:
            self._recording.append(kept)
        except TbotError as fault:
            _log.error("received.not_kept", reason=fault.message)
            self._recording = None


def empty_minute(like: MinuteSlice, index: int) -> MinuteSlice:
    """A minute that was never received: no bar of any symbol."""
    nothing = like.close * float("nan")
    return attrs.evolve(
        like, index=index, open=nothing, high=nothing, low=nothing, close=nothing, volume=nothing, vwap=nothing
    )


def _universe(given: LiveSession, day: DayFacts, universe_max: int, past: Sequence[Event]) -> Universe:
    limit = UniverseLimit.of(universe_max, given.quality)
    crowded = limit.max_symbols and len(given.symbols) > limit.max_symbols
    return limit_universe(given.symbols, day, limit, _worked(past) if crowded else ())


def _header(given: FeedSession | LiveSession, universe: Universe, source: str, coverage: str) -> RecordingHeader:
    return RecordingHeader(
        session=given.session,
        symbols=universe.symbols,
        day=universe.day,
        source=source,
        coverage=coverage,
        cut=universe.cut,
    )


def _opened(floor: LiveConfig, header: RecordingHeader) -> SessionRecorder | None:
    if floor.received is None:
        return None
    try:
        return SessionRecorder.open(floor.received, header)
    except TbotError as fault:
        _log.error("received.not_kept", reason=fault.message)
        return None


def _worked(past: Sequence[Event]) -> frozenset[str]:
    # The symbols that are held or in play: whatever the limit, they are heard.
    book = fold_events(carryover.events_since_close(past))
    living = (record.order.symbol for record in book.orders.values() if not record.terminal)
    held = (one.fill.symbol for one in carryover.carried_positions(past))
    return frozenset({*book.portfolio.positions, *living, *held})
