"""The contract of feeds: numbered cases, and a pytest class that the tests of a broker with capability `feed` inherit.

The venue of the broker's own contract also has `feed_symbols`; its market had sessions before today::

    class TestFeed(FeedContract):
        @pytest.fixture
        def venue(self) -> FakeExchange:
            return FakeExchange()

Tests of what the feed does not declare, or the venue cannot do, are skipped.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from itertools import pairwise, product
from typing import Any, Final, cast

from tbot_core.contracts import (
    Bar,
    BarHistory,
    DailyBar,
    Feed,
    FeedLabel,
    FeedMessage,
    FeedRequest,
    FeedSession,
    FeedSource,
    HaltStatus,
    LiveSession,
    Quote,
    Split,
    SupportsSplits,
)
from tbot_core.errors import BrokerError
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.types import is_symbol
from tbot_core.plugins.number_bounds import FigureOutOfBounds, assert_figures
from tbot_core.testing.contract import ContractCase, ContractTests, NotClaimed, demand
from tbot_core.testing.venue import FeedUnderTest, MovesLiveFeed, SplittingVenue

HEARTBEAT_S: Final = 5.0

_LATE_S: Final = 1.0

UNKNOWN: Final = ("KIT-UNKNOWN", "KITXQ")
"""Symbols that no feed has: of a spelling that many vendors refuse, and of one that all of them accept."""

MANY: Final = tuple(f"ZQ{''.join(letters)}" for letters in product("ABCDEFGHIJ", repeat=3))
"""More symbols than fit into the address of one request; no feed has them."""

_NEAR: Final = 0.01

_LARGE_MOVE: Final = 0.25

_EARLIER: Final = 3

_MINUTE: Final = dt.timedelta(minutes=1)


def f01_it_has_a_session(venue: FeedUnderTest) -> None:
    """A live request gives a label and a session, with sorted symbols; the requested ones are among them."""
    demand(isinstance(venue.broker, FeedSource), "a broker with the capability feed must have the method feed")
    feed = venue.broker.feed(request_of(venue))
    demand(isinstance(feed, Feed), "feed must return a feed: label and sessions")
    demand(isinstance(feed.label, FeedLabel), "the feed must have a label")
    session = session_of(venue)
    demand(isinstance(session, LiveSession | FeedSession), "a session must be a LiveSession or a FeedSession")
    symbols = tuple(session.symbols)
    demand(symbols == tuple(sorted(set(symbols))), "the symbols of a session must be sorted, each once")
    demand(all(map(is_symbol, symbols)), "a symbol must have the form of an exchange symbol, such as BRK.B")
    demand(set(venue.feed_symbols) <= set(symbols), "a session must have the requested symbols that the feed knows")


def f08_messages_follow_the_subscription(venue: FeedUnderTest) -> None:
    """What trades after the first message is reported, and only subscribed symbols are."""
    live, market = _live(venue)
    symbol = venue.feed_symbols[0]

    def is_price(message: FeedMessage) -> bool:
        return isinstance(message, Bar | Quote) and message.symbol == symbol

    seen = venue.wait(_listen(live, (symbol,), lambda: market.trade_on_feed(symbol), is_price))
    demand_figures(seen)
    demand(any(map(is_price, seen)), "a trade after the first message must be reported as a bar or a quote")
    others = [one for one in seen if isinstance(one, Bar | Quote) and one.symbol != symbol]
    demand(not others, "symbols that are not subscribed must not have messages")


def f09_a_quiet_connection_has_heartbeats(venue: FeedUnderTest) -> None:
    """There is a message at least every five seconds, though nothing trades."""
    live, _ = _live(venue)

    async def listen() -> list[float]:
        loop, times = asyncio.get_running_loop(), list[float]()
        async with aclosing(_messages(live, venue.feed_symbols)) as messages:
            async with asyncio.timeout(2 * (HEARTBEAT_S + _LATE_S)):
                async for _ in messages:
                    times.append(loop.time())
                    if times[-1] - times[0] > HEARTBEAT_S:
                        break
        return times

    try:
        times = venue.wait(listen())
    except TimeoutError:
        times = []
    gaps = [later - earlier for earlier, later in pairwise(times)]
    demand(bool(gaps) and max(gaps) <= HEARTBEAT_S + _LATE_S, "there must be a message every five seconds")


def f10_halted_symbols_come_first(venue: FeedUnderTest) -> None:
    """A symbol that is halted already is reported before any price, if the feed declares that it can tell."""
    live, market = _live(venue)
    if not (live.quality.halts and live.quality.initial_halts):
        raise NotClaimed("the feed does not declare that it reports what is halted already")
    symbol = venue.feed_symbols[0]
    market.halt_on_feed(symbol)

    def ends(message: FeedMessage) -> bool:
        return isinstance(message, Bar | Quote | HaltStatus)

    seen = venue.wait(_listen(live, (symbol,), None, ends))
    first = next(filter(ends, seen), None)
    is_halt = isinstance(first, HaltStatus) and (first.symbol, first.halted) == (symbol, True)
    demand(is_halt, "a symbol that is halted already must be reported first")


def f11_a_lost_connection_ends_the_messages(venue: FeedUnderTest) -> None:
    """Where the connection is lost the messages end, or raise BrokerError, and can be opened again."""
    live, market = _live(venue)

    async def listen() -> bool:
        lost = False
        try:
            async with asyncio.timeout(2 * HEARTBEAT_S), aclosing(_messages(live, venue.feed_symbols)) as messages:
                async for _ in messages:
                    if not lost:
                        market.lose_feed()
                        lost = True
        except BrokerError:
            return lost
        except TimeoutError:
            return False
        return lost

    demand(venue.wait(listen()), "a lost connection must end the messages within ten seconds")
    again = venue.wait(_listen(live, venue.feed_symbols, None, lambda _message: True))
    demand(bool(again), "messages must be available over a new connection")


def f12_prices_are_as_they_were_traded(venue: FeedUnderTest) -> None:
    """Bars before a split are not adjusted for it, neither those of days nor those of minutes."""
    if not isinstance(venue, SplittingVenue):
        raise NotClaimed("the venue has no symbol that was split")
    history, earlier = _history(venue, minutes=False)
    split, days = venue.split, [session.date for session in earlier]
    before, after = (earlier[days.index(split.date) + number] for number in (-1, 0))
    pair = venue.wait(history.daily((split.symbol,), before.date, after.date))
    _demand_split([bar.close for bar in pair[:1]], [bar.open for bar in pair[1:]], split, "daily bar")
    history, _ = _history(venue)
    older, newer = (
        venue.wait(history.history((split.symbol,), session.open, session.close)) for session in (before, after)
    )
    _demand_split([bar.close for bar in older], [bar.open for bar in newer], split, "minute bar")


def f04_unknown_symbols_are_left_out(venue: FeedUnderTest) -> None:
    """A symbol that the feed does not have is no error, and takes nothing from the others, however it is spelled."""
    history, earlier = _history(venue, minutes=False)
    day, symbols = earlier[-1].date, (*UNKNOWN, *venue.feed_symbols)
    days = venue.wait(history.daily(symbols, day, day))
    demand({bar.symbol for bar in days} == set(venue.feed_symbols), "an unknown symbol must be left out of daily bars")
    if not _has_minutes(session_of(venue)):
        return
    first, last = earlier[-1].moment(0), earlier[-1].moment(30)
    bars, mixed = _minutes(venue, history, first, last), venue.wait(history.history(symbols, first, last))
    demand(_places(mixed) == _places(bars), "an unknown symbol must be left out of the minute bars")
    for one in UNKNOWN:
        demand(not venue.wait(history.history((one,), first, last)), "an unknown symbol alone must have no bars")


def f05_one_call_spans_several_sessions(venue: FeedUnderTest) -> None:
    """Minute bars of three sessions in one call are those of three calls, whatever the vendor's pages are."""
    history, earlier = _history(venue)
    together = _minutes(venue, history, earlier[0].open, earlier[-1].close)
    single = [bar for session in earlier for bar in _minutes(venue, history, session.open, session.close)]
    regular = [bar for bar in together if any(session.open <= bar.start < session.close for session in earlier)]
    demand(_places(regular) == _places(single), "one call must have the bars of all its sessions")
    for one in earlier:
        demand(
            {bar.symbol for bar in single if one.open <= bar.start < one.close} == set(venue.feed_symbols),
            "each symbol must have bars in each of the three sessions",
        )


def f06_days_have_the_requested_bounds(venue: FeedUnderTest) -> None:
    """One daily bar for each exchange day from first to last, both included, by date within each symbol."""
    history, earlier = _history(venue, minutes=False)
    days = [session.date for session in earlier]
    for first, last in ((days[0], days[-1]), (days[1], days[1])):
        bars = _days(venue, history, first, last)
        _demand_sorted([(bar.symbol, bar.date) for bar in bars])
        wanted = {(symbol, day) for symbol in venue.feed_symbols for day in days if first <= day <= last}
        demand({(bar.symbol, bar.date) for bar in bars} == wanted, "there must be one bar for each symbol and day")
        _demand_sound(bars)


def f03_minutes_are_sorted_and_sound(venue: FeedUnderTest) -> None:
    """Minute bars are in order of time, none twice; each starts on a minute, its prices lie within low and high."""
    history, earlier = _history(venue)
    bars = _minutes(venue, history, earlier[-1].open, earlier[-1].close)
    _demand_sorted([(bar.symbol, bar.start) for bar in bars])
    demand(
        all(bar.start.tzinfo is not None and bar.start.second == bar.start.microsecond == 0 for bar in bars),
        "a minute bar must start on a whole minute, with a time zone",
    )
    _demand_sound(bars)


def f13_a_call_has_a_thousand_symbols(venue: FeedUnderTest) -> None:
    """A call with a thousand symbols has the daily bars of each that the feed knows."""
    history, earlier = _history(venue, minutes=False)
    day = earlier[-1].date
    days = venue.wait(history.daily(tuple(sorted((*MANY, *venue.feed_symbols))), day, day))
    words = "a call with a thousand symbols must have the bars of each that the feed knows"
    demand({bar.symbol for bar in days} == set(venue.feed_symbols), words)


def f07_days_agree_with_their_minutes(venue: FeedUnderTest) -> None:
    """A day's low and high enclose its minutes, and its volume is at least theirs, within one per cent."""
    history, earlier = _history(venue)
    minutes = _minutes(venue, history, earlier[0].open, earlier[-1].close)
    for day in _days(venue, history, earlier[0].date, earlier[-1].date):
        (session,) = (one for one in earlier if one.date == day.date)
        own = [bar for bar in minutes if bar.symbol == day.symbol and session.open <= bar.start < session.close]
        words = f"{day.symbol} on {day.date}: the daily bar must"
        demand(max(bar.high for bar in own) <= day.high * (1 + _NEAR), f"{words} not be below its minutes' high")
        demand(min(bar.low for bar in own) >= day.low * (1 - _NEAR), f"{words} not be above its minutes' low")
        volume = sum(bar.volume for bar in own)
        demand(volume <= day.volume * (1 + _NEAR), f"{words} have the consolidated volume, at least its minutes'")


def f14_splits_have_the_requested_days(venue: FeedUnderTest) -> None:
    """Splits are those of the requested symbols whose first session in the new shares is from first to last."""
    history, earlier = _history(venue, minutes=False)
    if not isinstance(history, SupportsSplits):
        raise NotClaimed("the feed reports no splits")
    days, symbols = [session.date for session in earlier], (*UNKNOWN, *venue.feed_symbols)
    splits = venue.wait(history.splits(symbols, days[0], days[-1]))
    demand_figures(splits)
    demand({split.symbol for split in splits} <= {*venue.feed_symbols}, "a split must be of a requested symbol")
    demand(all(days[0] <= split.date <= days[-1] for split in splits), "a split must be of a requested day")
    demand(len({(split.symbol, split.date) for split in splits}) == len(splits), "a split must not come twice")
    if isinstance(venue, SplittingVenue):
        _demand_reported(venue, history, days)


def f02_minutes_have_the_requested_bounds(venue: FeedUnderTest) -> None:
    """Minute bars start in [first, last): the first minute is included, the last one is not."""
    history, earlier = _history(venue)
    first, last = earlier[-1].moment(5), earlier[-1].moment(65)
    bars = _minutes(venue, history, first, last)
    demand(bool(bars), "the last session must have bars in the sixty minutes from its sixth on")
    demand(all(first <= bar.start < last for bar in bars), "a bar must start in the requested range")
    around = _minutes(venue, history, first - _MINUTE, last + _MINUTE)
    inside = [bar for bar in around if first <= bar.start < last]
    demand(_places(inside) == _places(bars), "a wider range must have the same bars inside the narrower one")


CASES: Final[tuple[ContractCase, ...]] = (
    f01_it_has_a_session,
    f02_minutes_have_the_requested_bounds,
    f03_minutes_are_sorted_and_sound,
    f04_unknown_symbols_are_left_out,
    f05_one_call_spans_several_sessions,
    f06_days_have_the_requested_bounds,
    f07_days_agree_with_their_minutes,
    f08_messages_follow_the_subscription,
    f09_a_quiet_connection_has_heartbeats,
    f10_halted_symbols_come_first,
    f11_a_lost_connection_ends_the_messages,
    f12_prices_are_as_they_were_traded,
    f13_a_call_has_a_thousand_symbols,
    f14_splits_have_the_requested_days,
)
"""The contract, in order of the numbers."""


class FeedContract(ContractTests):
    """The contract of feeds as tests; a subclass, or its module, has a fixture `venue`."""

    cases = CASES

    def test_contract(self, case: ContractCase, venue: FeedUnderTest) -> None:
        """Run one case."""
        case(venue)


def request_of(venue: FeedUnderTest) -> FeedRequest:
    """The request for the live market."""
    demand(
        bool(getattr(venue, "feed_symbols", ())),
        "the venue of a broker with the capability feed must have feed_symbols",
    )
    return FeedRequest(kind="live", symbols=tuple(sorted(venue.feed_symbols)))


def session_of(venue: FeedUnderTest) -> LiveSession | FeedSession:
    """The first session of the feed."""
    feed = venue.broker.feed(request_of(venue))

    async def first() -> LiveSession | FeedSession | None:
        async for session in feed.sessions():
            return session
        return None

    found = venue.wait(first())
    if found is None:
        raise AssertionError("a live request must give today's session, or the next one")
    return found


def demand_figures(answer: Sequence[object]) -> None:
    """Demand numbers that the core accepts: floats within bounds, and not Decimals as the numbers of `.json()` are."""
    words = ""
    try:
        assert_figures(answer)
    except (TypeError, FigureOutOfBounds) as fault:
        words = str(fault)
    demand(not words, f"numbers must be floats within bounds: {words}")


def _live(venue: FeedUnderTest) -> tuple[LiveSession, MovesLiveFeed]:
    found = session_of(venue)
    if not isinstance(found, LiveSession):
        raise NotClaimed("the feed gives whole minutes, not live messages")
    if not isinstance(venue, MovesLiveFeed):
        raise NotClaimed("the venue cannot move its live feed")
    return found, venue


async def _listen(
    live: LiveSession,
    symbols: Sequence[str],
    on_first: Callable[[], None] | None,
    ends: Callable[[FeedMessage], bool],
) -> list[FeedMessage]:
    # The messages to the first one that ends it, at most for some heartbeats; `on_first` is called after the first.
    seen: list[FeedMessage] = []
    try:
        async with asyncio.timeout(2 * HEARTBEAT_S), aclosing(_messages(live, symbols)) as messages:
            async for message in messages:
                seen.append(message)
                if len(seen) == 1 and on_first is not None:
                    on_first()
                if ends(message):
                    break
    except TimeoutError:
        return seen
    return seen


async def _messages(live: LiveSession, symbols: Sequence[str]) -> AsyncGenerator[FeedMessage, None]:
    # The messages; closing them closes the connection.
    messages = live.messages(symbols)
    try:
        async for message in messages:
            yield message
    finally:
        if isinstance(messages, AsyncGenerator):
            await messages.aclose()


def _demand_reported(venue: FeedUnderTest, history: SupportsSplits, days: Sequence[dt.date]) -> None:
    # Demand that the split of the venue is reported exactly where its symbol and its day are requested.
    split, day = cast("SplittingVenue", venue).split, dt.timedelta(days=1)
    others = tuple(symbol for symbol in venue.feed_symbols if symbol != split.symbol)
    for symbols, first, last, is_wanted in (
        (venue.feed_symbols, days[0], days[-1], True),
        ((split.symbol,), split.date, split.date, True),
        ((split.symbol,), split.date - 7 * day, split.date - day, False),
        ((split.symbol,), split.date + day, split.date + 7 * day, False),
        (others, days[0], days[-1], False),
    ):
        splits = venue.wait(history.splits(symbols, first, last))
        ratios = [one.after / one.before for one in splits if (one.symbol, one.date) == (split.symbol, split.date)]
        words = f"the split of {split.symbol} must be reported, with its ratio, where its symbol and day are requested"
        demand(ratios == ([split.after / split.before] if is_wanted else []), f"{words}, and nowhere else")


def _has_minutes(session: LiveSession | FeedSession) -> bool:
    # Whether it declares minute bars of earlier sessions.
    return not isinstance(session, LiveSession) or session.quality.minute_history


def _history(venue: FeedUnderTest, *, minutes: bool = True) -> tuple[BarHistory, list[Session]]:
    # The feed's history, and the three sessions before its own.
    found = session_of(venue)
    if minutes and not _has_minutes(found):
        raise NotClaimed("the feed declares that it has no minute bars of earlier sessions")
    calendar, earlier = ExchangeCalendar(), [found.session]
    while len(earlier) <= _EARLIER:
        earlier.insert(0, calendar.previous(earlier[0].date))
    if not isinstance(found, BarHistory):
        raise NotClaimed("the sessions of the feed have no history")
    return found, earlier[:-1]


def _minutes(venue: FeedUnderTest, history: BarHistory, first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
    return venue.wait(history.history(venue.feed_symbols, first, last))


def _days(venue: FeedUnderTest, history: BarHistory, first: dt.date, last: dt.date) -> Sequence[DailyBar]:
    return venue.wait(history.daily(venue.feed_symbols, first, last))


def _places(bars: Iterable[Bar]) -> list[tuple[str, dt.datetime]]:
    return sorted((bar.symbol, bar.start) for bar in bars)


def _demand_sorted(places: list[tuple[str, Any]]) -> None:
    demand(len(set(places)) == len(places), "a bar must not come twice")
    for symbol in sorted({symbol for symbol, _ in places}):
        own = [at for one, at in places if one == symbol]
        demand(own == sorted(own), "the bars of a symbol must be in order of time")


def _demand_split(before: Sequence[float], after: Sequence[float], split: Split, what: str) -> None:
    # The price before a split is about its ratio of the price afterwards.
    demand(bool(before and after), f"{split.symbol} must have a {what} before and after its split")
    new_shares = split.after / split.before
    words = f"{split.symbol} was split {new_shares:g} for 1, but a {what} fell from {before[-1]:g} to {after[0]:g}"
    traded = abs(before[-1] / after[0] / new_shares - 1) < _LARGE_MOVE
    demand(traded, f"prices must be as they were traded: {words}")


def _demand_sound(bars: Sequence[Bar | DailyBar]) -> None:
    demand_figures(bars)
    for bar in bars:
        inside = bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        demand(bar.low > 0 and inside and math.isfinite(bar.high), "low and high must enclose positive prices")
        demand(0 <= bar.volume < math.inf, "a volume must be a number of at least 0")
