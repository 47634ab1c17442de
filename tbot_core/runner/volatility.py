"""The VIX's close of the session before: the feed's own, else that of an enabled broker, else the stored one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np

from tbot_core.bars import Day
from tbot_core.barstore.facts import look_back
from tbot_core.calendar import ExchangeCalendar
from tbot_core.contracts import FeedSession, LiveSession, TellsVix
from tbot_core.errors import BrokerError, DataError
from tbot_core.seams import log

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Sequence

    from tbot_core.bars import Minute
    from tbot_core.calendar import Session
    from tbot_core.contracts import Bar, FeedQuality, News

_log = log.logger(__name__)


@attrs.frozen(kw_only=True, eq=False)
class Places:
    """Where the VIX may be known, besides the feed: the brokers that are enabled, and the folder of the bar store."""

    calendar: ExchangeCalendar
    brokers: tuple[object, ...]
    bars: Path

    async def inform(self, source: FeedSession | LiveSession) -> FeedSession | LiveSession:
        """The session with the VIX's close of the exchange day before it; unknown where nobody has just that."""
        if not np.isnan(source.day.vix).all():
            return source
        before = look_back(self.calendar, source.session.date)[-1].date
        value = await self._of_a_broker(before)
        value = self._stored(before) if value is None else value
        if value is None or not (0 < value < math.inf):
            return source
        day = attrs.evolve(source.day, vix=np.full(source.day.vix.shape, value))
        if isinstance(source, LiveSession):
            return _InformedLive(inner=source, day=day)
        return _Informed(inner=source, day=day)

    async def _of_a_broker(self, before: dt.date) -> float | None:
        for broker in self.brokers:
            if not isinstance(broker, TellsVix):
                continue
            try:
                value = await broker.vix_close(before)
            except BrokerError as silence:
                _log.warning("vix.not_told", reason=silence.message)
                continue
            if value is not None:
                return value
        return None

    def _stored(self, before: dt.date) -> float | None:
        from tbot_core.barstore import reference

        try:
            known = reference.sources(self.bars).vix
        except DataError as fault:
            _log.warning("vix.not_read", reason=fault.message)
            return None
        return known.get(before)


def known_vix(day: Day) -> float | None:
    """The VIX of a session's facts; None where it is unknown."""
    value = float(day.vix.ravel()[0]) if day.vix.size else math.nan
    return None if math.isnan(value) else value


@attrs.frozen(kw_only=True, eq=False)
class _Informed:
    """A session of whole minutes with other facts of the day."""

    inner: FeedSession
    day: Day

    @property
    def session(self) -> Session:
        """The exchange day."""
        return self.inner.session

    @property
    def symbols(self) -> tuple[str, ...]:
        """The session's symbols, sorted."""
        return self.inner.symbols

    def minutes(self) -> AsyncIterator[Minute]:
        """Every minute of the session in order."""
        return self.inner.minutes()


@attrs.frozen(kw_only=True, eq=False)
class _InformedLive:
    """A session of a running market with other facts of the day."""

    inner: LiveSession
    day: Day

    @property
    def session(self) -> Session:
        """The exchange day."""
        return self.inner.session

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that may be subscribed, sorted."""
        return self.inner.symbols

    @property
    def quality(self) -> FeedQuality:
        """What it declares of itself."""
        return self.inner.quality

    def news(self, symbols: Sequence[str]) -> AsyncIterator[News]:
        """Whatever comes as it comes."""
        return self.inner.news(symbols)

    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        """The bars of the past."""
        return await self.inner.history(symbols, first, last)
