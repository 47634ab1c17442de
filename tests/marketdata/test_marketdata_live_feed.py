"""A live feed becomes minutes: each decided in time, one connection at a time, and gaps filled from the feed itself."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from tbot_core.contracts import (
    Bar,
    DailyBar,
    FeedCoverage,
    FeedMessage,
    FeedQuality,
    HaltStatus,
    Heartbeat,
    LiveSession,
    Quote,
)
from tbot_core.errors import Unavailable
from tbot_core.marketdata.live_feed import FeedGap, LiveFeedAggregator
from tbot_core.marketdata.received_bars import RecordedMinute
from tbot_core.model.reasons import Reason
from tbot_core.model.steady_clock import SteadyClock
from tbot_core.rehearsal.feed import facts_of_the_day
from tbot_core.rehearsal.prices import SimulatedMarket
from tbot_core.rehearsal.random_streams import RandomStream
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop, run_virtual
from tbot_core.rehearsal.world import short_day
from tbot_core.trading.universe import Universe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tbot_core.model.bars import MinuteSlice

_, SESSION = short_day(6)
LEAD_S = 60.0
GONE = Unavailable("gone")


def bar(symbol: str, minute: int, close: float = 10.0) -> Bar:
    """A bar of a minute at one price."""
    start = SESSION.moment(minute)
    return Bar(symbol=symbol, start=start, open=close, high=close, low=close, close=close, volume=100.0)


class Timed:
    """A live feed that sends a script, at seconds after the bell; an exception breaks the connection."""

    session = SESSION
    symbols = ("A", "B")

    def __init__(self, clock: LoopClock, script: Sequence[tuple[float, FeedMessage | Unavailable]]) -> None:
        self.quality = FeedQuality(coverage=FeedCoverage.CONSOLIDATED, quotes=True, halts=True)
        self.past: list[Bar] | None = []
        self.asked: list[tuple[int, int]] = []
        self.connected: list[float] = []
        self._clock = clock
        self._script = list(script)

    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """The rest of the script, then silence."""
        assert tuple(symbols) == self.symbols
        self.connected.append(self._clock.monotonic() - LEAD_S)
        while self._script:
            due, news = self._script[0]
            await asyncio.sleep(max(due + LEAD_S - self._clock.monotonic(), 0.0))
            del self._script[0]
            if isinstance(news, Unavailable):
                raise news
            yield news
        await asyncio.sleep(10_000.0)

    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        """A running session is not asked for them."""
        raise AssertionError(symbols, first, last)

    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        """What it has of the past; None is not to be had."""
        assert tuple(symbols) == self.symbols
        self.asked.append((SESSION.minute(first), SESSION.minute(last)))
        if self.past is None:
            raise Unavailable("no history")
        return [one for one in self.past if first <= one.start < last]


def whole(source: LiveSession) -> Universe:
    """All that a source has."""
    day = facts_of_the_day(SimulatedMarket.flat(200_000, source.symbols, 6), RandomStream(0))
    return Universe(symbols=source.symbols, day=day)


class ReceivedFeed:
    """What came of a feed: each minute with its second after the bell, and the gathering itself."""

    def __init__(self, script: Sequence[tuple[float, FeedMessage | Unavailable]], begins: float = -LEAD_S) -> None:
        self.loop = VirtualLoop()
        self.clock = LoopClock(self.loop, SESSION.open - dt.timedelta(seconds=LEAD_S))
        self.source = Timed(self.clock, script)
        self.minutes: list[tuple[float, MinuteSlice]] = []
        self.gaps: list[FeedGap] = []
        self.filled: list[tuple[list[int], int]] = []
        self.statuses: list[HaltStatus] = []
        self._begins = begins
        self.before: tuple[RecordedMinute, ...] = ()
        self.lost_before: tuple[int, ...] = ()
        self.restored: HaltStatus | None = None
        self.stays_s = 0.0
        self.gathering: LiveFeedAggregator

    def on_gap(self, gap: FeedGap) -> None:
        """Minutes are lost."""
        self.gaps.append(gap)

    def on_filled(self, minutes: Sequence[int], still_open: int) -> None:
        """Minutes of gaps were back-filled; so many are still lost."""
        self.filled.append((list(minutes), still_open))

    def on_status(self, status: HaltStatus) -> None:
        """A halt began or ended."""
        self.statuses.append(status)

    def listen(self) -> ReceivedFeed:
        """Walk the session."""
        run_virtual(self._listen, self.loop)
        return self

    async def _listen(self) -> None:
        await asyncio.sleep(self._begins + LEAD_S)
        self.gathering = LiveFeedAggregator(self.source, whole(self.source), SteadyClock(self.clock), 2.0, self)
        self.gathering.restore_minutes(self.before)
        self.gathering.restore_lost_minutes(self.lost_before)
        if self.restored is not None:
            self.gathering.restore_halt(self.restored, SESSION.open)
        listening = asyncio.ensure_future(self.gathering.run())
        async for minute in self.gathering.minutes():
            self.minutes.append((round(self.clock.monotonic() - LEAD_S, 3), minute))
        await asyncio.sleep(self.stays_s)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


def beats(*script: tuple[float, FeedMessage | Unavailable]) -> list[tuple[float, FeedMessage | Unavailable]]:
    """The script with a heartbeat every five seconds."""
    return sorted([*script, *((float(at), Heartbeat()) for at in range(-55, 370, 5))], key=lambda line: line[0])


def test_a_minute_is_decided_when_all_its_bars_have_come_or_the_grace_is_over() -> None:
    """All bars of the first minute came; one of the second came late and is no part of it."""
    script = beats((60.4, bar("A", 0)), (60.9, bar("B", 0)), (120.5, bar("A", 1)), (122.5, bar("B", 1)))
    received = ReceivedFeed(script).listen()
    assert [at for at, _ in received.minutes] == [60.9, 122.0, 182.0, 242.0, 302.0, 362.0]
    assert not np.isnan(received.minutes[0][1].close).any()
    assert np.isnan(received.minutes[1][1].close).tolist() == [False, True]
    assert [(one.minute, one.row) for one in received.gathering.aggregator.pop_late_bars()] == [(1, 1)]
    assert isinstance(received.source, LiveSession)


def test_f53_a_gap_is_recorded_and_filled_from_the_feed() -> None:
    """Minutes are decided without the bars that are missing; these are asked for once prices come again."""
    received = ReceivedFeed(beats((60.5, bar("A", 0)), (60.5, bar("B", 0)), (240.5, bar("A", 3)), (240.5, bar("B", 3))))
    received.source.past = [bar(symbol, minute) for symbol in "AB" for minute in range(4)]
    received.listen()
    assert [(gap.first, gap.last) for gap in received.gaps] == [(0, 3)]
    assert received.source.asked == [(0, 4)]
    assert np.isnan(received.minutes[1][1].close).all()
    assert {(one.minute, one.row) for one in received.gathering.aggregator.pop_late_bars()} == {
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
    }
    assert received.gathering.lost_minutes == set()
    assert received.filled == [([0, 1, 2, 3], 0)]


def spoken(
    *script: tuple[float, FeedMessage | Unavailable], silent: tuple[float, float]
) -> list[tuple[float, FeedMessage | Unavailable]]:
    """The script with a heartbeat every half second, but for a stretch."""
    often = (at / 2 for at in range(-118, 740))
    kept = ((at, Heartbeat()) for at in often if not silent[0] <= at < silent[1])
    return sorted([*script, *kept], key=lambda line: line[0])


def test_f58_the_minute_whose_end_fell_into_a_lost_connection_is_a_gap_and_filled() -> None:
    """Away for six seconds: prices were never silent for long, and the bars of that minute were lost."""
    bars = [(60.0 * minute + 60.5, bar(symbol, minute)) for minute in (0, 2, 3, 4, 5) for symbol in "AB"]
    received = ReceivedFeed(spoken(*bars, (119.0, GONE), silent=(119.0, 125.0)))
    received.source.past = [bar(symbol, minute) for symbol in "AB" for minute in range(4)]
    received.listen()
    assert received.gaps == [FeedGap(first=1, last=1, words="no connection for 6 s")]
    assert received.source.asked == [(1, 2)]
    assert {(one.minute, one.row) for one in received.gathering.aggregator.pop_late_bars()} == {(1, 0), (1, 1)}
    assert received.gathering.lost_minutes == set()


@pytest.mark.parametrize(("lost", "back", "gaps"), [(118.0, 120.5, [1]), (121.5, 130.0, [1]), (122.5, 179.5, [])])
def test_f58_a_minute_is_lost_with_a_connection_that_was_away_while_its_bars_were_due(
    lost: float, back: float, gaps: list[int]
) -> None:
    """From its end to the end of the grace; away at any other time, the feed had its say."""
    bars = [(60.0 * minute + 60.5, bar("A", minute)) for minute in (0, 1, 2, 3, 4, 5)]
    received = ReceivedFeed(spoken(*bars, (lost, GONE), silent=(lost, back)))
    received.source.past = []
    received.listen()
    assert [(gap.first, gap.last) for gap in received.gaps] == [(minute, minute) for minute in gaps]


def test_f58_a_minute_of_which_all_bars_had_come_is_not_lost_with_the_connection() -> None:
    """Nor is one in which a symbol has not traded while the connection was there: that is no hole."""
    bars = [(60.5, bar("A", 0)), (120.1, bar("A", 1)), (120.2, bar("B", 1)), (180.5, bar("B", 2))]
    received = ReceivedFeed(spoken(*bars, (120.3, GONE), silent=(120.3, 125.0))).listen()
    assert received.gaps == []
    assert received.source.asked == []


def test_f59_a_minute_that_ended_in_a_dead_connection_is_a_gap() -> None:
    """It was open, and it is unknown since when it received nothing: what counts is its last word."""
    bars = [(60.5, bar(symbol, 0)) for symbol in "AB"]
    received = ReceivedFeed(spoken(*bars, (150.0, GONE), silent=(118.0, 151.0))).listen()
    assert received.gaps[0] == FeedGap(first=1, last=1, words="no prices for 90 s, no connection for 34 s")


def test_f58_who_is_connected_only_after_a_minutes_end_has_lost_it() -> None:
    """The first connection was made too late for it."""
    received = ReceivedFeed(spoken((60.5, bar("A", 1)), silent=(-60.0, 61.0)))
    received.source.past = []
    received.listen()
    assert (received.gaps[0].first, received.gaps[0].last) == (0, 0)


def test_f53_one_stretch_is_one_gap_whether_prices_or_the_connection_were_missed() -> None:
    """Silent for long and then away: it begins with the last price, and the price that ends it opens no second one."""
    bars = [(60.0 * minute + 60.5, bar(symbol, minute)) for minute in (0, 3, 4, 5) for symbol in "AB"]
    received = ReceivedFeed(spoken(*bars, (170.0, GONE), silent=(170.0, 200.0)))
    received.source.past = [bar(symbol, minute) for symbol in "AB" for minute in range(4)]
    received.listen()
    assert [(gap.first, gap.last) for gap in received.gaps] == [(1, 2)]
    assert received.source.asked == [(1, 3)]


def test_f53_a_gap_of_prices_says_how_long_they_were_silent_though_the_connection_was_away_for_a_moment() -> None:
    """Heartbeats came all the while: the second without a connection is not why minutes are missing."""
    bars = [(60.0 * minute + 60.5, bar(symbol, minute)) for minute in (0, 2, 3, 4, 5) for symbol in "AB"]
    received = ReceivedFeed(spoken(*bars, (164.0, GONE), silent=(164.0, 165.0))).listen()
    assert received.gaps == [FeedGap(first=1, last=1, words="no prices for 104 s, no connection for 2 s")]


def test_history_is_not_asked_for_a_minute_whose_bars_are_still_waited_for() -> None:
    """It may have them half made; within the grace the feed itself has the first word."""
    bars = [(60.5, bar("A", 0)), (60.5, bar("B", 0)), (121.5, bar("A", 1, 11.0))]
    received = ReceivedFeed(spoken(*bars, (119.5, GONE), silent=(119.5, 120.5)), begins=-59.0)
    received.source.past = [bar(symbol, 1, 12.0) for symbol in "AB"]
    received.listen()
    np.testing.assert_array_equal(received.minutes[1][1].close, [11.0, np.nan])
    assert [one.values[3] for one in received.gathering.aggregator.pop_late_bars()][:1] == [12.0]


def test_minutes_that_back_fill_leaves_open_stay_lost() -> None:
    """It is tried again and again, each time a little later."""
    received = ReceivedFeed(beats((60.5, bar("A", 0)), (240.5, bar("A", 3))))
    received.source.past = None
    received.listen()
    assert received.gathering.lost_minutes == {0, 1, 2, 3}
    assert 3 < len(received.source.asked) < 12


def test_history_is_not_asked_for_before_the_feed_has_it() -> None:
    """A feed may hold bars back for a while."""
    received = ReceivedFeed(beats((60.5, bar("A", 0)), (240.5, bar("A", 3))))
    received.source.quality = FeedQuality(coverage=FeedCoverage.SINGLE_VENUE, history_delay_s=900.0)
    received.listen()
    assert received.source.asked == []
    assert received.gathering.lost_minutes == {0, 1, 2, 3}


def test_who_starts_in_the_midst_of_a_session_has_its_minutes_from_history() -> None:
    """All that have closed, at once; they are marked, since nothing is traded on them."""
    received = ReceivedFeed(beats(), begins=150.0)
    received.source.past = [bar(symbol, minute) for symbol in "AB" for minute in range(2)]
    received.listen()
    assert [at for at, _ in received.minutes][:3] == [150.0, 150.0, 182.0]
    assert not np.isnan(received.minutes[1][1].close).any()
    assert received.gathering.backfilled_minutes == {0, 1}


def test_f58_a_connection_that_breaks_is_made_again_after_pauses_that_grow() -> None:
    """One at a time; once something was said the pauses begin anew."""
    broken: list[tuple[float, FeedMessage | Unavailable]] = [(-50.0, Unavailable("closed")) for _ in range(6)]
    received = ReceivedFeed([*broken, (0.0, Heartbeat()), (1.0, Unavailable("closed"))]).listen()
    pauses = np.diff(received.source.connected).round(1).tolist()
    assert pauses[:7] == [10.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0]


def test_f59_a_connection_that_says_nothing_is_dropped_after_two_intervals() -> None:
    """Though it is open, and whatever its socket says."""
    received = ReceivedFeed([(-59.0, Heartbeat())]).listen()
    gaps = np.diff(received.source.connected)
    assert min(gaps) > 20.0
    assert max(gaps) < 20.0 + 30.0 + 2.0
    assert received.gathering.connections == len(received.source.connected) > 5


def test_halts_are_reported_once_and_quotes_that_are_none_are_counted() -> None:
    """The recorder receives what is new."""
    halt = HaltStatus(symbol="A", halted=True)
    crossed = Quote(symbol="B", bid=2.0, ask=1.0, time=SESSION.open)
    received = ReceivedFeed(beats((1.0, halt), (2.0, halt), (3.0, crossed))).listen()
    assert received.statuses == [halt]
    assert received.gathering.dropped == 1


def test_f40_a_halt_whose_end_was_missed_is_over_when_its_symbol_trades() -> None:
    """The connection was away when its end was said; the bar that comes then shows it, and it is reported."""
    halt = HaltStatus(symbol="A", halted=True)
    script = beats((65.0, halt), (70.0, Unavailable("gone")), (240.5, bar("A", 3)))
    received = ReceivedFeed(script).listen()
    assert received.statuses == [halt, HaltStatus(symbol="A", halted=False, words="it has traded")]


def test_f41_no_price_is_missing_while_the_whole_market_is_halted() -> None:
    """Neither what is said again of it, nor what trades after it, makes a gap of it."""
    halt = HaltStatus(symbol="", halted=True, level=1)
    over = HaltStatus(symbol="", halted=False)
    bars = [(60.5, bar("A", 0)), (60.6, bar("B", 0)), (301.0, bar("A", 4)), (301.1, bar("B", 4))]
    received = ReceivedFeed(beats(*bars, (62.0, halt), (200.0, halt), (250.0, over))).listen()
    assert received.statuses == [halt, over]
    assert received.gaps == []


def test_f41_what_was_silent_before_a_market_wide_halt_is_a_gap() -> None:
    """Only the halt explains silence."""
    halt = HaltStatus(symbol="", halted=True, level=2)
    received = ReceivedFeed(beats((60.5, bar("A", 0)), (200.0, halt), (265.0, bar("A", 4)))).listen()
    assert [(gap.first, gap.last) for gap in received.gaps] == [(0, 2)]


def test_f40_each_connection_leaves_open_what_was_halted_before_it() -> None:
    """Where the feed cannot list it: the silence of a symbol after a reconnect counts as a halt again."""
    received = ReceivedFeed(beats((60.5, bar("A", 0)), (60.6, bar("B", 0)), (61.0, GONE), (120.6, bar("B", 1))))
    received.source.quality = attrs.evolve(received.source.quality, initial_halts=False)
    health = received.listen().gathering.health
    assert health.denial_reason("A", 4, 300.0 + LEAD_S) is Reason.SYMBOL_HALTED
    assert health.denial_reason("B", 4, 302.0 + LEAD_S) is Reason.DATA_STALE


def test_the_fault_of_the_latest_connection_is_known_until_another_one_works() -> None:
    """With what a person can do about it."""
    lost = Unavailable("406 connection limit exceeded.", "Stop the other program.")
    received = ReceivedFeed([(60.5, bar("A", 0)), (300.0, lost)]).listen()
    assert received.gathering.fault == "406 connection limit exceeded. Stop the other program."
    assert ReceivedFeed(beats((60.5, bar("A", 0)), (61.0, lost), (70.0, bar("B", 1)))).listen().gathering.fault == ""


def test_a_fault_of_the_feeds_own_is_not_taken_for_a_lost_connection() -> None:
    """It ends the session aloud."""
    received = ReceivedFeed([(1.0, Heartbeat())])
    received.source.quality = FeedQuality(coverage=FeedCoverage.CONSOLIDATED)

    async def listen() -> None:
        broken = _Broken(received.clock, ())
        await LiveFeedAggregator(broken, whole(broken), SteadyClock(received.clock), 2.0, received).run()

    with pytest.raises(ZeroDivisionError):
        run_virtual(listen, received.loop)


class _Broken(Timed):
    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """A feed with a bug."""
        assert symbols
        yield Heartbeat()
        raise ZeroDivisionError("division by zero")


def test_a_bot_that_comes_again_goes_on_with_the_minutes_that_were_decided() -> None:
    """They are not asked for, and what history says of them changes nothing; only the minutes since are."""
    first = ReceivedFeed(beats((60.5, bar("A", 0, 10.0)), (60.5, bar("B", 0)), (120.5, bar("A", 1, 11.0)))).listen()
    kept = [one for _, one in first.minutes[:2]]
    again = ReceivedFeed(beats(), begins=200.0)
    again.before = tuple(RecordedMinute(minute=one, at=SESSION.moment(one.index + 1)) for one in kept)
    again.source.past = [bar(symbol, minute, 99.0) for symbol in "AB" for minute in range(3)]
    again.listen()
    closes = [one.close.tolist() for _, one in again.minutes[:3]]
    np.testing.assert_array_equal(closes, [[10.0, 10.0], [11.0, np.nan], [99.0, 99.0]])
    assert again.source.asked[0] == (2, 3)
    assert again.gathering.backfilled_minutes == frozenset(range(3))


def test_a_bot_that_comes_again_asks_for_what_was_lost_before_and_never_filled() -> None:
    """The minute stays as it was decided, without that bar; it is back-filled now, and alone reported as filled."""
    first = ReceivedFeed(beats((60.5, bar("A", 0)), (60.5, bar("B", 0)), (120.5, bar("A", 1)))).listen()
    again = ReceivedFeed(beats(), begins=200.0)
    again.before = tuple(RecordedMinute(minute=one, at=SESSION.moment(one.index + 1)) for _, one in first.minutes[:2])
    again.lost_before = (1,)
    again.source.past = [bar(symbol, minute) for symbol in "AB" for minute in range(3)]
    again.listen()
    assert np.isnan(again.minutes[1][1].close).tolist() == [False, True]
    assert [(one.minute, one.row) for one in again.gathering.aggregator.pop_late_bars()] == [(1, 1)]
    assert again.gathering.lost_minutes == set()
    assert again.filled == [([1], 0)]


def test_what_was_not_decided_between_two_minutes_before_is_decided_from_history() -> None:
    """The minutes before and behind it stay as they were."""
    first = ReceivedFeed(beats(*((60.5 + 60 * at, bar(symbol, at)) for at in range(3) for symbol in "AB"))).listen()
    again = ReceivedFeed(beats(), begins=200.0)
    again.before = tuple(RecordedMinute(minute=first.minutes[at][1], at=SESSION.moment(at + 1)) for at in (0, 2))
    again.source.past = [bar(symbol, minute, 99.0) for symbol in "AB" for minute in range(3)]
    again.listen()
    closes = [one.close.tolist() for _, one in again.minutes[:3]]
    np.testing.assert_array_equal(closes, [[10.0, 10.0], [99.0, 99.0], [10.0, 10.0]])
    assert again.gathering.day is again.gathering.universe.day


def test_a_bar_that_is_said_again_changes_nothing() -> None:
    """It neither ends a halt nor counts as late."""
    halt = HaltStatus(symbol="A", halted=True)
    received = ReceivedFeed(beats((60.4, bar("A", 0)), (60.5, halt), (60.6, bar("A", 0)), (60.9, bar("B", 0)))).listen()
    assert received.statuses == [halt]
    assert received.gathering.aggregator.pop_late_bars() == []


def test_a_connection_that_the_feed_ends_is_made_again() -> None:
    """Without an error, as with one."""
    received = ReceivedFeed(())
    received.source = _Ends(received.clock, ())
    received.listen()
    assert np.diff(received.source.connected).round(1).tolist()[:3] == [0.5, 1.0, 2.0]


class _Ends(Timed):
    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """A feed that hangs up after one word."""
        assert symbols
        self.connected.append(self._clock.monotonic() - LEAD_S)
        if len(self.connected) == 1:
            yield Heartbeat()


def test_a_halt_of_before_a_restart_counts_from_its_beginning() -> None:
    """Nothing is reported of it again, except its end."""
    received = ReceivedFeed(beats((70.0, HaltStatus(symbol="A", halted=False))), begins=60.0)
    received.restored = HaltStatus(symbol="A", halted=True)
    received.listen()
    assert received.statuses == [HaltStatus(symbol="A", halted=False)]


def test_silence_after_the_close_is_no_gap() -> None:
    """Prices that come then belong to no minute of the session."""
    bars = [(60.5 + 60 * at, bar(symbol, at)) for at in (*range(7), 11) for symbol in "AB"]
    received = ReceivedFeed(
        sorted([*bars, *((float(at), Heartbeat()) for at in range(-55, 800, 5))], key=lambda line: line[0])
    )
    received.stays_s = 400.0
    received.listen()
    assert received.gaps == []
