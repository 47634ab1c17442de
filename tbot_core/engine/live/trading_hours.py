"""The hours in which a session is traded: those in both the exchange's and the broker's calendar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import LiveSession
from tbot_core.model.clock import both_times

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    from tbot_core.contracts import Bar, FeedMessage, FeedQuality, FeedSession
    from tbot_core.model.bars import DayFacts, MinuteSlice
    from tbot_core.model.calendar import Session


def common_hours(ours: Session, theirs: Session | None) -> Session | None:
    """The session from the later open to the earlier close; None if no time is left."""
    if theirs is None:
        return None
    opens, closes = max(ours.open, theirs.open), min(ours.close, theirs.close)
    return attrs.evolve(ours, open=opens, close=closes) if opens < closes else None


def shortened_hours_text(ours: Session, agreed: Session | None) -> str:
    """How the common hours are shorter than ours, as text."""
    if agreed is None:
        return "closed"
    late = [f"opens at {both_times(agreed.open)}"] if agreed.open > ours.open else []
    early = [f"closes at {both_times(agreed.close)}"] if agreed.close < ours.close else []
    return ", ".join([*late, *early])


def limit_to_hours(source: FeedSession | LiveSession, session: Session) -> FeedSession | LiveSession:
    """The source limited to the hours of the traded session, if its own are longer.

    Minutes outside them are left out, and the others are counted from the session's own open.
    """
    agreed = common_hours(source.session, session) or session
    if source.session == agreed:
        return source
    return _CutLive(source, agreed) if isinstance(source, LiveSession) else _Cut(source, agreed)


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
    # A live feed; whatever makes minutes of it has the session's hours.
    def __init__(self, source: LiveSession, session: Session) -> None:
        self._source = source
        self.session = session
        self.symbols = source.symbols
        self.day = _known(source.day, session)

    @property
    def quality(self) -> FeedQuality:
        return self._source.quality

    def news(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        return self._source.news(symbols)

    async def history(self, symbols: Sequence[str], first: datetime, last: datetime) -> Sequence[Bar]:
        return await self._source.history(symbols, first, last)


def _known(day: DayFacts, session: Session) -> DayFacts:
    # The facts known before the open, with the typical volume of the session's minutes.
    typical = day.typical_volume
    return day if typical is None else attrs.evolve(day, typical_volume=typical[..., : session.minutes])
