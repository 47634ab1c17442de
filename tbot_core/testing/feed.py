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
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from tbot_core.contracts import Bar, Feed, FeedLabel, FeedSession, FeedSource, HaltStatus, LiveSession, Quote
from tbot_core.errors import BrokerError
from tbot_core.model.types import is_symbol
from tbot_core.testing.contract import ContractCase, ContractTests, NotClaimed, demand
from tbot_core.testing.feed_history import (
    demand_figures,
    f02_minutes_have_the_requested_bounds,
    f03_minutes_are_sorted_and_sound,
    f04_unknown_symbols_are_left_out,
    f05_one_call_spans_several_sessions,
    f06_days_have_the_requested_bounds,
    f07_days_agree_with_their_minutes,
    f12_prices_are_as_they_were_traded,
    f13_a_call_has_a_thousand_symbols,
    f14_splits_have_the_requested_days,
    request_of,
    session_of,
)
from tbot_core.testing.venue import FeedUnderTest, MovesLiveFeed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tbot_core.contracts import FeedMessage

HEARTBEAT_S: Final = 5.0
_LATE_S: Final = 1.0


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
        async for one in messages:
            yield one
    finally:
        if isinstance(messages, AsyncGenerator):
            await messages.aclose()
