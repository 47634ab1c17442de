"""The feed of a live session: limited to the hours that are traded, and the state of its connection.

The hours are those in both the exchange's and the broker's calendar. A feed that does not respond is requested again,
while the session goes on without it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import attrs

from tbot_core.contracts import FeedCoverage, FeedQuality, LiveSession, ReportsLeftOut, SupportsSplits
from tbot_core.errors import BrokerError, TbotError, Unavailable
from tbot_core.model.clock import both_times

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from datetime import date, datetime

    from tbot_core.contracts import Bar, DailyBar, FeedMessage, FeedSession, Split
    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock
    from tbot_core.model.day_facts import DayFacts

Answer = TypeVar("Answer")

SILENT: Final = "the feed does not respond"
AT_ONCE_S: Final = 1.0
AGAIN_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""The delays after failed requests; the last one repeats."""


class FeedRetry(Generic[Answer]):
    """Sends the request when created; `retry_until_answered` repeats it after a failure."""

    def __init__(self, request: Callable[[], Coroutine[Any, Any, Answer]], clock: Clock) -> None:
        self._request = request
        self._clock = clock
        self._response = asyncio.ensure_future(request())

    async def first_answer(self) -> Answer | TbotError:
        """The response to the first request, or its fault; Unavailable if none came within a second."""
        try:
            await asyncio.wait([self._response], timeout=AT_ONCE_S)
        except asyncio.CancelledError:
            self._response.cancel()
            raise
        if not self._response.done():
            return Unavailable("no message received yet")
        fault = self._response.exception()
        return self._response.result() if fault is None else _fault(fault)

    async def retry_until_answered(self, failed: Callable[[TbotError], None]) -> Answer:
        """The response, after as many requests as needed; `failed` is called with each fault."""
        failures = 0
        while True:
            try:
                return await self._response
            except Exception as fault:  # noqa: BLE001  -- the border of a feed
                failed(_fault(fault))
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError  # the feed replaced the cancellation by its own error
            await self._clock.sleep(AGAIN_S[min(failures, len(AGAIN_S) - 1)])
            failures += 1
            self._response = asyncio.ensure_future(self._request())


def _fault(raised: BaseException) -> TbotError:
    # A feed may raise anything; no error may stop the management of positions.
    return raised if isinstance(raised, TbotError) else Unavailable(f"{type(raised).__name__}: {raised}")


_SILENT_QUALITY: Final = FeedQuality(coverage=FeedCoverage.CONSOLIDATED, halts=True)
"""With this quality a silent feed is only stale: no symbol counts as halted."""

OPEN_TIMEOUT_S: Final = 15.0
"""A connection that has not failed for this long counts as established, with or without messages."""


class FeedConnection:
    """A live session of a feed, with the state of its connection.

    `source` is None while the feed does not respond: then there are no messages and no bars, because of `silence`.
    """

    def __init__(
        self, session: Session, clock: Clock, source: LiveSession | None, silence: TbotError | None = None
    ) -> None:
        self._session = session
        self._source = source
        self.silence = silence or Unavailable(SILENT)
        self._clock = clock
        self._since: float | None = None
        self._received = False
        self._fault = ""

    @property
    def session(self) -> Session:
        """The exchange day."""
        return self._session

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that may be subscribed, sorted."""
        return () if self._source is None else self._source.symbols

    @property
    def quality(self) -> FeedQuality:
        """The declared quality of the feed."""
        return _SILENT_QUALITY if self._source is None else self._source.quality

    @property
    def is_connected(self) -> bool:
        """Whether it is connected: a message was received, or nothing failed for OPEN_TIMEOUT_S."""
        since = self._since
        return since is not None and (self._received or self._clock.monotonic() - since >= OPEN_TIMEOUT_S)

    @property
    def disconnect_reason(self) -> str:
        """Why it is not connected; "" if it is, and while nothing has failed yet."""
        return "" if self.is_connected or not self._fault else f"no connection to the feed: {self._fault}"

    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """The messages of the feed about these symbols."""
        self._since, self._received, failure = self._clock.monotonic(), False, ""
        try:
            async for one in self._answering.messages(symbols):
                self._received = True
                yield one
            failure = "it was closed"
        except BrokerError as fault:
            failure = str(fault)
            raise
        finally:
            if failure or self.is_connected:
                self._fault = failure
            self._since = None

    async def daily(self, symbols: Sequence[str], first: date, last: date) -> Sequence[DailyBar]:
        """The daily bars of these symbols."""
        return await self._answering.daily(symbols, first, last)

    async def history(self, symbols: Sequence[str], first: datetime, last: datetime) -> Sequence[Bar]:
        """The bars of these symbols that start in [first, last)."""
        return await self._answering.history(symbols, first, last)

    @property
    def _answering(self) -> LiveSession:
        if self._source is None:
            raise Unavailable(self.silence.message)
        return self._source


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
