"""The hours in which a session is traded: those in both the exchange's and the broker's calendar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import LiveSession, ReportsLeftOut, SupportsSplits
from tbot_core.model.clock import both_times

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import date, datetime

    from tbot_core.contracts import Bar, DailyBar, FeedMessage, FeedQuality, FeedSession, Split
    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.calendar import Session
    from tbot_core.model.day_facts import DayFacts


def common_hours(calendar_hours: Session, broker_hours: Session | None) -> Session | None:
    """The session from the later open to the earlier close; None if they do not overlap."""
    if broker_hours is None:
        return None
    opens, closes = max(calendar_hours.open, broker_hours.open), min(calendar_hours.close, broker_hours.close)
    return attrs.evolve(calendar_hours, open=opens, close=closes) if opens < closes else None


def shortened_hours_text(calendar_hours: Session, common: Session | None) -> str:
    """How the common hours are shorter than those of the calendar, as text."""
    if common is None:
        return "closed"
    late = [f"opens at {both_times(common.open)}"] if common.open > calendar_hours.open else []
    early = [f"closes at {both_times(common.close)}"] if common.close < calendar_hours.close else []
    return ", ".join([*late, *early])


def limit_to_hours(source: FeedSession | LiveSession, session: Session) -> FeedSession | LiveSession:
    """The source limited to the hours of the traded session, if its own are longer.

    Minutes outside them are left out, and the others are counted from the session's own open.
    """
    common = common_hours(source.session, session) or session
    if source.session == common:
        return source
    return _CutLive(source, common) if isinstance(source, LiveSession) else _Cut(source, common)


class _Cut:
    # A feed of whole minutes, from the session's first to its last.
    def __init__(self, source: FeedSession, session: Session) -> None:
        self._source = source
        self.session = session
        self.symbols = source.symbols
        self.day = _known(source.day, session)

    async def minutes(self) -> AsyncIterator[MinuteSlice]:
        early = self._source.session.minute(self.session.open)
        async for minute in self._source.minutes():
            index = minute.index - early
            if index >= 0:
                yield attrs.evolve(minute, index=index)
            if index >= self.session.minutes - 1:
                return  # the next one ends after the close


class _CutLive:
    # A live feed; the aggregator uses the session's hours.
    def __init__(self, source: LiveSession, session: Session) -> None:
        self._source = source
        self.session = session
        self.symbols = source.symbols
        self.left_out = source.left_out if isinstance(source, ReportsLeftOut) else {}

    @property
    def quality(self) -> FeedQuality:
        return self._source.quality

    def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        return self._source.messages(symbols)

    async def daily(self, symbols: Sequence[str], first: date, last: date) -> Sequence[DailyBar]:
        return await self._source.daily(symbols, first, last)

    async def history(self, symbols: Sequence[str], first: datetime, last: datetime) -> Sequence[Bar]:
        return await self._source.history(symbols, first, last)

    async def splits(self, symbols: Sequence[str], first: date, last: date) -> Sequence[Split]:
        return await self._source.splits(symbols, first, last) if isinstance(self._source, SupportsSplits) else ()


def _known(day: DayFacts, session: Session) -> DayFacts:
    # The facts known before the open, with the typical volume of the session's minutes.
    typical = day.typical_volume
    return day if typical is None else attrs.evolve(day, typical_volume=typical[..., : session.minutes])
