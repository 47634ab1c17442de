"""Turns a live feed into a session of closed minutes: connects, reconnects, and back-fills gaps.

A minute is closed when every symbol's bar has been received, or BAR_GRACE after its end. There is one connection at a
time. After a loss, it reconnects with growing pauses and requests missed bars from the feed's history.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from tbot_core.contracts import Bar, FeedCoverage, FeedMessage, HaltStatus, LiveSession, Quote
from tbot_core.errors import BrokerError
from tbot_core.marketdata.bar_aggregator import BarAggregator, BarArrival
from tbot_core.marketdata.feed_health import MINUTE_S, SILENT_S, FeedHealth
from tbot_core.system import log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from datetime import datetime

    from tbot_core.marketdata.received_bars import RecordedMinute
    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock
    from tbot_core.model.day_facts import DayFacts
    from tbot_core.trading.universe import Universe

_DEAD_S: Final = 2 * SILENT_S
"""A connection without a message for this long is dropped, even if its socket is open."""

_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_POLL_S: Final = 1.0
_FILL_AGAIN_S: Final = (2.0, 5.0, 10.0, 30.0)
_QUIET_S: Final = MINUTE_S + SILENT_S
_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class FeedGap:
    """Minutes of the session whose bars may be missing, both included, and why.

    The feed sent no prices, or the connection was down.
    """

    first: int
    last: int
    words: str


class FeedObserver(Protocol):
    """What a live feed reports to: its gaps and halts are to be recorded."""

    def on_gap(self, gap: FeedGap) -> None:
        """Minutes are lost."""

    def on_filled(self, minutes: Sequence[int], still_open: int) -> None:
        """Minutes of gaps were back-filled, sorted; so many others of gaps are still lost."""

    def on_status(self, status: HaltStatus) -> None:
        """A halt began or ended."""


class LiveFeedAggregator:
    """A feed session from a live feed; `run` keeps it connected while another task iterates `minutes`.

    `lost_minutes` are in a gap and not yet back-filled, `backfilled_minutes` closed before the start. `fault`: why the
    latest connection failed, "" once it works.
    """

    def __init__(
        self,
        source: LiveSession,
        universe: Universe,
        clock: Clock,
        grace_s: float,
        observer: FeedObserver,
    ) -> None:
        self.source = source
        self.universe = universe
        self.aggregator = BarAggregator(universe.symbols, source.session.minutes)
        self.health = FeedHealth(universe.symbols, source.quality, clock.monotonic())
        self.lost_minutes: set[int] = set()
        self.backfilled_minutes: frozenset[int] = frozenset()
        self.dropped = 0
        self.connections = 0
        self.fault = ""
        self._observer = observer
        self._gaps = set[int]()  # reported, and not yet back-filled
        self._clock = clock
        self._grace = timedelta(seconds=grace_s)
        self._received = asyncio.Event()
        self._price_at = self._message_at = clock.monotonic()
        self._pauses = 0
        self._before: Sequence[RecordedMinute] = ()
        self._lost_before = frozenset[int]()

    @property
    def session(self) -> Session:
        """The exchange day."""
        return self.source.session

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that are subscribed, sorted."""
        return self.universe.symbols

    @property
    def day(self) -> DayFacts:
        """Facts known before the open."""
        return self.universe.day

    @property
    def partial_volume(self) -> frozenset[str]:
        """The symbols whose volumes are a part of the tape."""
        return frozenset(self.symbols if self.source.quality.coverage is FeedCoverage.SINGLE_VENUE else ())

    async def minutes(self) -> AsyncIterator[MinuteSlice]:
        """Iterate over closed minutes in order; those that ended before the start come at once, from history."""
        closed = min(max(self.session.minute(self._clock.now()), 0), self.session.minutes)
        self.backfilled_minutes = frozenset(range(closed))
        known = {record.minute.index for record in self._before}
        self.lost_minutes.update(self.backfilled_minutes - known)
        await self._fill()
        for one in self._before:
            while self.aggregator.next_minute < one.minute.index:
                yield self.aggregator.close_minute()
            self.aggregator.restore_minute(one.minute, one.late)
            yield self.aggregator.close_minute()
        self.lost_minutes |= self._lost_before  # after the decided minutes were restored
        while self.aggregator.next_minute < self.session.minutes:
            await self._wait()
            yield self.aggregator.close_minute()

    async def run(self) -> None:
        """Listen and fill gaps until cancelled."""
        tasks = [asyncio.ensure_future(self._listen()), asyncio.ensure_future(self._fill_gaps())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def restore_halt(self, status: HaltStatus, at: datetime) -> None:
        """Restore a halt that began or ended before a restart."""
        now = self._clock.monotonic() - max((self._clock.now() - at).total_seconds(), 0.0)
        self.health.on_status(status, now, self.session.minute(at))

    def restore_minutes(self, before: Sequence[RecordedMinute]) -> None:
        """Restore the minutes that were closed before a restart, unchanged."""
        self._before = before

    def restore_lost_minutes(self, minutes: Iterable[int]) -> None:
        """Request again the minutes that were lost before a restart."""
        self._lost_before = frozenset(minutes)
        self._gaps = {*self._lost_before}

    async def _wait(self) -> None:
        # Wait until the next minute can be closed: it has ended, and it is complete or its grace period is over.
        end = self.session.moment(self.aggregator.next_minute + 1)
        while (now := self._clock.now()) < end + self._grace and not (now >= end and self.aggregator.is_next_complete):
            self._received.clear()
            until = end if now < end else end + self._grace
            await _wait_for(self._received, min((until - now).total_seconds(), _POLL_S))

    async def _listen(self) -> None:
        self._message_at = self._clock.monotonic()  # `minutes` requests earlier bars from the history
        while True:
            self.connections += 1
            connection = asyncio.ensure_future(self._receive_all())
            try:
                await self._watch(connection)
            finally:
                connection.cancel()
                await asyncio.gather(connection, return_exceptions=True)
            pause = _PAUSES_S[min(self._pauses, len(_PAUSES_S) - 1)]
            self._pauses += 1
            await self._clock.sleep(pause)

    async def _watch(self, connection: asyncio.Future[None]) -> None:
        # Return when the connection ends, or is dead although open.
        since = self._clock.monotonic()
        while not connection.done():
            await asyncio.wait({connection}, timeout=_POLL_S)
            if self._clock.monotonic() - max(since, self.health.last_message_at) > _DEAD_S:
                _log.warning("feed.dead", silent_s=_DEAD_S)
                return
        failure = connection.exception()
        if isinstance(failure, BrokerError):
            self.fault = str(failure)
            _log.warning("feed.lost", reason=failure.message)
        elif failure is not None:
            raise failure

    async def _receive_all(self) -> None:
        new = True
        async for message in self.source.messages(self.symbols):
            self._pauses, self.fault = 0, ""
            if new:
                self._reconnected(self._clock.monotonic())
            self._receive(message, is_first=new)
            new = False

    def _receive(self, message: FeedMessage, *, is_first: bool) -> None:
        now = self._message_at = self._clock.monotonic()
        self.health.on_message(now, is_first=is_first)  # a heartbeat says no more
        match message:
            case Bar():
                self._price(now)
                arrival = self.aggregator.add_bar(message, self.session.minute(message.start))
                if arrival in {BarArrival.FIRST, BarArrival.LATE}:
                    for over in self.health.on_bar(message, now, self.session.minute(message.start)):
                        self._observer.on_status(over)
                if arrival is not BarArrival.FIRST:
                    _log.info("bar", arrival=arrival.value, symbol=message.symbol, start=message.start.isoformat())
                self._received.set()
            case Quote():
                self._price(now)
                self.dropped += not self.health.on_quote(message, now)
            case HaltStatus():
                self._status(message, now)

    def _status(self, status: HaltStatus, now: float) -> None:
        shut = self.health.is_market_halted
        if not self.health.on_status(status, now, self.session.minute(self._clock.now())):
            return
        if not status.symbol:  # no prices are missing while the market is halted
            if not shut:
                self._price(now)
            self._price_at = now
        self._observer.on_status(status)

    def _reconnected(self, now: float) -> None:
        # First message of a new connection. Minutes that ended since the last message of the previous one, and that
        # lack a bar, are lost.
        away = now - self._message_at
        silent = now - self._price_at > _QUIET_S and not self.health.is_market_halted
        reach = now - self._price_at + MINUTE_S if silent else away + self._grace.total_seconds()
        missing = [one for one in self._ended(reach) if not self.aggregator.is_complete(one)]
        if missing:
            quiet = f"no prices for {now - self._price_at:.0f} s, " if silent else ""
            self._price_at = now
            self._mark_lost(missing[0], missing[-1], f"{quiet}no connection for {away:.0f} s")

    def _price(self, now: float) -> None:
        # A price was received; after more than a minute of silence the minutes in between are a gap.
        silent, self._price_at = now - self._price_at, now
        since_the_bell = (self._clock.now() - self.session.open).total_seconds()
        if min(silent, since_the_bell) <= _QUIET_S:
            return
        if ended := self._ended(silent + MINUTE_S):
            self._mark_lost(ended[0], ended[-1], f"no prices for {silent:.0f} s")

    def _ended(self, seconds: float) -> range:
        # The minutes that ended within the last seconds.
        present = self._clock.now()
        first = max(self.session.minute(max(present - timedelta(seconds=seconds), self.session.open)), 0)
        return range(first, min(self.session.minute(present), self.session.minutes))

    def _mark_lost(self, first: int, last: int, words: str) -> None:
        self.lost_minutes.update(range(first, last + 1))
        self._gaps.update(range(first, last + 1))
        self._observer.on_gap(FeedGap(first=first, last=last, words=words))

    async def _fill_gaps(self) -> None:
        tries = 0
        while True:
            tries = 0 if not self.lost_minutes or await self._fill() else tries + 1
            await self._clock.sleep(_FILL_AGAIN_S[min(tries, len(_FILL_AGAIN_S) - 1)])

    async def _fill(self) -> bool:
        # Request the lost bars; returns whether no minute is lost any more.
        delay = max(timedelta(seconds=self.source.quality.history_delay_s), self._grace)
        wanted = sorted(
            minute for minute in self.lost_minutes if self.session.moment(minute + 1) + delay <= self._clock.now()
        )
        if not wanted:
            return not self.lost_minutes
        first, last = self.session.moment(wanted[0]), self.session.moment(wanted[-1] + 1)
        try:
            bars = await self.source.history(self.symbols, first, last)
        except BrokerError as fault:
            _log.warning("feed.not_filled", reason=fault.message)
            return False
        for bar in bars:
            self.aggregator.add_bar(bar, self.session.minute(bar.start), filled=True)
        self.lost_minutes.difference_update(wanted)
        if closed := [minute for minute in wanted if minute in self._gaps]:
            self._gaps.difference_update(closed)
            self._observer.on_filled(closed, len(self._gaps))
        return not self.lost_minutes


async def _wait_for(received: asyncio.Event, seconds: float) -> None:
    # Wait for the event, at most so many seconds.
    with suppress(TimeoutError):
        async with asyncio.timeout(max(seconds, 0.0)):
            await received.wait()
