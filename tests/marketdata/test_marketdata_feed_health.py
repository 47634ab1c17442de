"""The health of a feed: when it is stale, when a symbol is, what is halted, and what may be entered."""

from __future__ import annotations

import datetime as dt

import attrs
import numpy as np
import pytest

from tbot_core.contracts import Bar, FeedCoverage, FeedQuality, HaltStatus, Quote
from tbot_core.engine.live.data_guard import marks_age_s
from tbot_core.marketdata.feed_health import FeedHealth
from tbot_core.model.reasons import Reason

START = dt.datetime(2026, 3, 3, 14, 30, tzinfo=dt.UTC)
WITH_HALTS = FeedQuality(coverage=FeedCoverage.CONSOLIDATED, quotes=True, halts=True)
SILENT = FeedQuality(coverage=FeedCoverage.SINGLE_VENUE, quotes=True)


def health(*symbols: str, quality: FeedQuality = WITH_HALTS) -> FeedHealth:
    """A feed that begins at second 0."""
    return FeedHealth(symbols, quality, 0.0)


def bar(symbol: str) -> Bar:
    """Any bar."""
    return Bar(symbol=symbol, start=START, open=1.0, high=1.0, low=1.0, close=1.0, volume=1.0)


def quote(symbol: str, bid: float = 9.99, ask: float = 10.01, at: float = 0.0) -> Quote:
    """A quote that became so that many seconds after the bell."""
    return Quote(symbol=symbol, bid=bid, ask=ask, time=START + dt.timedelta(seconds=at))


def test_f59_a_feed_without_any_message_for_ten_seconds_is_stale() -> None:
    """Whatever it was that it said last; a heartbeat is enough."""
    feed = health("A")
    assert feed.assess(10.0).silence == ""
    assert feed.assess(10.1).silence == "no message for 10 s"
    feed.on_message(10.1)
    assert feed.assess(20.0).silence == ""
    assert feed.last_message_at == 10.1


def test_f52_a_feed_is_stale_when_no_leader_sends_data() -> None:
    """The socket lives and says heartbeats; of SPY, QQQ and IWM those count that are subscribed."""
    feed = health("A", "QQQ", "SPY")
    for second in range(0, 122, 5):
        feed.on_message(float(second))
        feed.on_bar(bar("A"), float(second), 0)
    assert feed.assess(120.0).silence == ""
    assert feed.assess(121.0).silence == "none of QQQ, SPY for 120 s"
    feed.on_quote(quote("SPY"), 121.0)
    assert feed.assess(121.0).silence == ""


def test_f52_without_leaders_all_symbols_stand_for_them() -> None:
    """A feed that says nothing of anything for two minutes is stale, though its socket lives."""
    feed = health("A", "B")
    feed.on_message(121.0)
    assert feed.assess(121.0).silence == "none of 2 symbols for 120 s"


def test_silence_before_the_bell_does_not_count() -> None:
    """An early connection receives no price until the exchange trades."""
    feed = health("A", "B")
    feed.on_message(300.0)
    assert feed.assess(300.0).silence
    feed.start(300.0)
    seen = feed.assess(300.0)
    assert (seen.silence, seen.stale) == ("", frozenset())


def test_a_quiet_symbol_is_not_stale() -> None:
    """A fresh quote without a trade is quiet; neither for three minutes is stale, and blocks that symbol alone."""
    feed = health("A", "B", "C", "D", "E", "F")
    for one in "BCDEF":
        feed.on_bar(bar(one), 100.0, 1)
    feed.on_quote(quote("A"), 10.0)
    feed.on_message(180.0)
    assert feed.assess(190.0).stale == frozenset()
    seen = feed.assess(190.1)
    assert (seen.stale, seen.crowd) == (frozenset("A"), False)
    assert feed.denial_reason("A", 3, 190.1) is Reason.DATA_STALE
    assert feed.denial_reason("B", 3, 190.1) is None
    assert feed.denial_reason("elsewhere", 3, 190.1) is Reason.DATA_STALE


def test_over_a_fifth_of_the_universe_stale_is_a_crowd() -> None:
    """One of five is not, one of four is; what is halted is not counted."""
    five, feed = health(*"ABCDE"), health(*"ABCD")
    for one in "BCDE":
        five.on_bar(bar(one), 100.0, 1)
        feed.on_bar(bar(one), 100.0, 1)
    assert (five.assess(200.0).crowd, feed.assess(200.0).crowd) == (False, True)
    feed.on_status(HaltStatus(symbol="A", halted=True), 200.0, 3)
    assert feed.assess(200.0).stale == frozenset()
    assert not health().assess(0.0).crowd


def test_f54_quotes_out_of_order_are_dropped() -> None:
    """The newest by the feed's own time stands; symbols that were not subscribed are none."""
    feed = health("A")
    assert feed.on_quote(quote("A", 9.99, 10.01, at=5), 5.0)
    assert not feed.on_quote(quote("A", 8.99, 9.01, at=4), 5.1)
    assert not feed.on_quote(quote("Z"), 5.1)
    feed.on_bar(bar("Z"), 5.1, 0)
    assert feed.mid("A", 6.0, widest=0.01) == pytest.approx(10.0)


@pytest.mark.parametrize(("bid", "ask"), [(10.01, 9.99), (0.0, 10.0), (10.0, 0.0), (float("nan"), 10.0)])
def test_f56_a_crossed_or_one_sided_quote_is_none(bid: float, ask: float) -> None:
    """It also takes away the one that stood: what was good before says nothing of now."""
    feed = health("A")
    assert feed.on_quote(quote("A"), 0.0)
    assert not feed.on_quote(quote("A", bid, ask, at=1), 1.0)
    assert feed.mid("A", 1.0, widest=0.01) is None
    shown = feed.quotes(1.0)
    assert shown is not None
    assert np.isnan(shown.ask).all()


def test_quotes_have_their_age_and_marks_a_narrow_spread() -> None:
    """A feed without quotes has none at all, which is not the same as none of a symbol."""
    feed = health("A", "B")
    feed.on_quote(quote("A", 9.9, 10.1), 0.0)
    shown = feed.quotes(4.0)
    assert shown is not None
    assert (shown.bid[0], shown.ask[0], shown.age_s[0]) == (9.9, 10.1, 4.0)
    assert feed.mid("A", 4.0, widest=0.01) is None
    assert feed.mid("A", 4.0, widest=0.03) == pytest.approx(10.0)
    assert feed.mid("A", 61.0, widest=0.03) is None
    assert health("A", quality=FeedQuality(coverage=FeedCoverage.CONSOLIDATED)).quotes(0.0) is None
    nothing = health().quotes(0.0)
    assert nothing is not None
    assert nothing.bid.shape == (0,)


def test_the_age_of_the_marks_is_that_of_the_oldest_price() -> None:
    """A wide quote values nothing, no quote does where only bars count, and a symbol without a price has no age."""
    feed = health("A", "B", "C")
    feed.on_bar(bar("A"), 2.0, 0)
    feed.on_bar(bar("B"), 3.0, 0)
    feed.on_quote(quote("A", at=5), 5.0)
    feed.on_quote(quote("B", 9.0, 11.0, at=6), 6.0)
    assert feed.bar_times == {"A": 2.0, "B": 3.0}
    assert marks_age_s(feed, (), 10.0, quoted=True) == 0.0
    assert marks_age_s(feed, ("A",), 100.0, quoted=True) == 95.0
    assert marks_age_s(feed, ("A", "B"), 10.0, quoted=True) == 7.0
    assert marks_age_s(feed, ("A",), 10.0, quoted=False) == 8.0
    assert marks_age_s(feed, ("A", "C"), 10.0, quoted=True) is None
    assert marks_age_s(feed, ("A", "Z"), 10.0, quoted=True) is None


def test_marks_older_than_two_intervals_are_named() -> None:
    """A bar or a good quote is a mark; a symbol without data has none."""
    feed = health("A", "B")
    feed.on_bar(bar("A"), 50.0, 0)
    feed.on_quote(quote("B"), 60.0)
    assert feed.stale_marks(["A", "B"], 170.0) == []
    assert feed.stale_marks(["A", "B", "C"], 175.0) == ["A", "C"]


def test_f40_a_halted_symbol_is_not_entered_until_two_full_bars_after_it_resumes() -> None:
    """The minute of the resumption is no full bar; said twice, a halt is no news."""
    feed = health("A", "B")
    assert feed.on_status(HaltStatus(symbol="A", halted=True), 10.0, 0)
    assert not feed.on_status(HaltStatus(symbol="A", halted=True), 20.0, 0)
    assert feed.assess(20.0).halted == frozenset("A")
    assert feed.denial_reason("A", 0, 20.0) is Reason.SYMBOL_HALTED
    assert feed.denial_reason("B", 0, 20.0) is None
    assert feed.on_status(HaltStatus(symbol="A", halted=False), 100.0, 1)
    assert not feed.on_status(HaltStatus(symbol="A", halted=False), 101.0, 1)
    assert feed.assess(101.0).halted == frozenset()
    assert [feed.denial_reason("A", minute, 101.0) for minute in (1, 2, 3)] == [
        Reason.SYMBOL_HALTED,
        Reason.SYMBOL_HALTED,
        None,
    ]


def test_f40_where_halts_are_not_reported_silence_counts_as_one() -> None:
    """Of a feed that lives; it blocks entries and keeps no exit back."""
    feed = health("A", "B", quality=SILENT)
    feed.on_bar(bar("B"), 170.0, 2)
    feed.on_message(181.0)
    assert feed.denial_reason("A", 2, 181.0) is Reason.SYMBOL_HALTED
    assert feed.assess(181.0).halted == frozenset()


def test_f40_silence_since_the_subscription_is_a_halt_where_a_feed_reports_later_ones_only() -> None:
    """Until the symbol's first bar of the connection; after that its silence is none, but a reconnect forgets it."""
    feed = health("A", "B", quality=attrs.evolve(WITH_HALTS, initial_halts=False))
    feed.on_quote(quote("B"), 1.0)
    for second in range(0, 245, 5):
        feed.on_message(float(second), is_first=not second)
    assert [feed.denial_reason(one, 2, 182.0) for one in "AB"] == [Reason.SYMBOL_HALTED] * 2
    feed.on_bar(attrs.evolve(bar("B"), start=START + dt.timedelta(minutes=2)), 182.0, 2)
    feed.on_bar(attrs.evolve(bar("A"), start=START + dt.timedelta(minutes=3)), 240.0, 3)
    assert [feed.denial_reason("A", minute, 240.0) for minute in (3, 4, 5)] == [
        Reason.SYMBOL_HALTED,
        Reason.SYMBOL_HALTED,
        None,
    ]
    assert feed.denial_reason("A", 7, 421.0) is Reason.DATA_STALE
    feed.on_message(421.0, is_first=True)
    assert feed.denial_reason("A", 7, 421.0) is Reason.SYMBOL_HALTED


def spoken(first: dt.datetime, minutes: range) -> FeedHealth:
    """A feed that reports no halts; A is silent from minute 4 on, B is not."""
    feed = health("A", "B", quality=SILENT)
    for minute in minutes:
        for second in range(60 * minute, 60 * minute + 61, 5):
            feed.on_message(float(second))
        for symbol in "AB" if minute < 4 else "B":
            start = first + dt.timedelta(minutes=minute)
            feed.on_bar(attrs.evolve(bar(symbol), start=start), 60.0 * (minute + 1), minute)
    return feed


@pytest.mark.parametrize("word", ["bar", "quote"])
def test_f40_two_full_bars_are_waited_for_after_a_silence_that_is_taken_for_a_halt(word: str) -> None:
    """Whichever its first word is, in minute 10: bars 11 and 12 are full ones."""
    feed = spoken(START, range(10))
    assert feed.denial_reason("A", 9, 600.0) is Reason.SYMBOL_HALTED
    if word == "bar":
        feed.on_bar(attrs.evolve(bar("A"), start=START + dt.timedelta(minutes=10)), 660.0, 10)
    else:
        feed.on_quote(quote("A", at=630.0), 630.0)
    assert [feed.denial_reason("A", minute, 60.0 * (minute + 1)) for minute in (10, 11, 12)] == [
        Reason.SYMBOL_HALTED,
        Reason.SYMBOL_HALTED,
        None,
    ]
    assert feed.denial_reason("B", 10, 660.0) is None
    assert feed.assess(660.0).halted == frozenset()


def test_f40_a_belated_bar_counts_as_data_of_the_minute_in_which_it_arrives() -> None:
    """It was kept back by whatever kept the symbol silent."""
    feed = spoken(START, range(10))
    feed.on_bar(attrs.evolve(bar("A"), start=START + dt.timedelta(minutes=4)), 610.0, 4)
    assert feed.denial_reason("A", 10, 660.0) is Reason.SYMBOL_HALTED


def test_f40_the_silence_of_the_feed_itself_is_no_halt() -> None:
    """While nothing is received it is unknown what trades; nor is a silence short of three minutes one."""
    feed = spoken(START, range(6))
    feed.on_message(660.0)
    feed.on_bar(attrs.evolve(bar("A"), start=START + dt.timedelta(minutes=10)), 660.0, 10)
    assert feed.denial_reason("A", 10, 660.0) is None
    feed = spoken(START, range(6))
    feed.on_bar(attrs.evolve(bar("A"), start=START + dt.timedelta(minutes=6)), 420.0, 6)
    assert feed.denial_reason("A", 6, 420.0) is None


def test_f40_where_halts_are_reported_silence_is_none() -> None:
    """Its data are stale, and good again with the first word."""
    feed = health("A", "B")
    feed.on_bar(bar("A"), 600.0, 9)
    assert feed.denial_reason("A", 9, 600.0) is None


def test_f41_a_market_wide_halt_ends_five_minutes_after_reopening_and_the_third_level_not_at_all() -> None:
    """Every symbol is halted with it."""
    feed = health("A", "B")
    feed.on_status(HaltStatus(symbol="", halted=True, level=1), 10.0, 0)
    assert feed.assess(10.0).halted == frozenset("AB")
    assert feed.denial_reason("A", 0, 10.0) is Reason.MARKET_HALTED
    feed.on_status(HaltStatus(symbol="", halted=False), 900.0, 15)
    for symbol in "AB":
        feed.on_bar(bar(symbol), 1190.0, 19)
    assert feed.denial_reason("A", 19, 1199.0) is Reason.MARKET_HALTED
    assert feed.denial_reason("A", 20, 1200.0) is None
    feed.on_status(HaltStatus(symbol="", halted=True, level=2), 1300.0, 21)
    assert feed.on_status(HaltStatus(symbol="", halted=True, level=3), 1310.0, 21)
    assert not feed.on_status(HaltStatus(symbol="", halted=False), 5000.0, 80)
    assert feed.denial_reason("A", 100, 9000.0) is Reason.MARKET_HALTED


def test_f40_what_trades_is_not_halted() -> None:
    """The end of a halt may have been missed: a bar of a later minute ends it, its own minute's or a bygone one not."""
    feed = health("A", "B")
    feed.on_status(HaltStatus(symbol="A", halted=True), 70.0, 1)
    assert feed.on_bar(bar("A"), 121.0, 1) == []
    assert feed.on_bar(bar("B"), 241.0, 3) == []
    assert feed.assess(241.0).halted == frozenset("A")
    (over,) = feed.on_bar(bar("A"), 241.0, 3)
    assert over == HaltStatus(symbol="A", halted=False, words="it has traded")
    assert feed.assess(241.0).halted == frozenset()
    assert [feed.denial_reason("A", minute, 250.0) for minute in (4, 5)] == [Reason.SYMBOL_HALTED, None]


def test_f41_a_market_that_trades_is_not_halted_unless_its_day_is_over() -> None:
    """A bar of whichever symbol says so; against the third level it says nothing."""
    feed = health("A", "B")
    feed.on_status(HaltStatus(symbol="", halted=True, level=2), 70.0, 1)
    assert (feed.is_market_halted, feed.halted_to_close) == (True, False)
    assert [one.symbol for one in feed.on_bar(bar("B"), 241.0, 3)] == [""]
    assert not feed.is_market_halted
    feed.on_status(HaltStatus(symbol="", halted=True, level=3), 300.0, 5)
    assert feed.on_bar(bar("B"), 481.0, 7) == []
    assert (feed.is_market_halted, feed.halted_to_close) == (True, True)


def test_f41_the_silence_of_a_halt_counts_against_no_symbol() -> None:
    """After it symbols and leaders are waited for from its end on."""
    feed = health("A", "SPY")
    feed.on_status(HaltStatus(symbol="", halted=True, level=1), 10.0, 0)
    feed.on_status(HaltStatus(symbol="", halted=False), 900.0, 15)
    feed.on_message(1019.0)
    seen = feed.assess(1019.0)
    assert (seen.silence, seen.stale, seen.crowd) == ("", frozenset(), False)
    feed.on_message(1081.0)
    seen = feed.assess(1081.0)
    assert (seen.silence, seen.stale, seen.crowd) == ("none of SPY for 120 s", frozenset({"A", "SPY"}), True)


def test_f57_prices_that_differ_too_far_keep_a_symbol_back_until_they_agree() -> None:
    """A quote may differ by 1 %, and what comes and goes is reported once, with both prices."""
    feed = health("A", "B")
    feed.on_quote(quote("A"), 1.0)
    assert feed.compare_prices({"A": 9.91, "B": 7.0}, 2.0) == []
    (apart,) = feed.compare_prices({"A": 9.89}, 2.0)
    assert (apart.symbol, apart.feed, apart.theirs, apart.is_apart) == ("A", 10.0, 9.89, True)
    assert feed.compare_prices({"A": 9.80}, 3.0) == []
    assert feed.denial_reason("A", 0, 3.0) is Reason.FEEDS_APART
    assert feed.denial_reason("B", 0, 3.0) is None
    (gone,) = feed.compare_prices({"A": 10.0}, 4.0)
    assert (gone.is_apart, feed.denial_reason("A", 0, 4.0)) == (False, None)


def test_f57_each_broker_is_compared_by_itself() -> None:
    """Only where it would be entered a symbol has to be priced as the feed does, and lately."""
    feed = health("A")
    feed.on_quote(quote("A"), 1.0)
    assert feed.is_price_unconfirmed("A", 2.0, "beta")
    assert [one.is_apart for one in feed.compare_prices({"A": 9.0}, 2.0, "beta")] == [True]
    assert feed.compare_prices({"A": 10.0}, 2.0) == []
    assert feed.denial_reason("A", 0, 2.0) is None
    assert feed.denial_reason("A", 0, 2.0, "beta") is Reason.FEEDS_APART
    assert (feed.is_price_unconfirmed("A", 62.0, "beta"), feed.is_price_unconfirmed("A", 62.1, "beta")) == (False, True)


def test_f57_the_close_of_a_minute_may_differ_by_more() -> None:
    """It was said some seconds ago; after a minute it is not compared any more."""
    feed = health("A")
    feed.on_bar(bar("A"), 1.0, 0)
    assert feed.compare_prices({"A": 1.019}, 2.0) == []
    assert [one.is_apart for one in feed.compare_prices({"A": 1.03}, 60.0)] == [True]
    assert feed.compare_prices({"A": 1.0}, 62.0) == []
    assert feed.denial_reason("A", 0, 62.0) is Reason.FEEDS_APART


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_f57_a_price_that_is_none_says_nothing(price: float) -> None:
    """Neither that both agree nor that they do not."""
    feed = health("A")
    feed.on_quote(quote("A"), 1.0)
    assert feed.compare_prices({"A": price}, 2.0) == []
    assert feed.denial_reason("A", 0, 2.0) is None
