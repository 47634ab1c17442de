"""The verdict on a quote at the edges of its limit, and every quote and contract that has none."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta

import pytest
from tbot_filter_black_scholes.pricing import NoModelPrice
from tbot_filter_black_scholes.verdict import check_expiry, judge_quote, quote_middle

from tbot_core.contracts import OptionContract, OptionQuote, OptionRight, OptionVerdict

CLOSE = datetime(2024, 6, 21, 20, 0, tzinfo=UTC)
CONTRACT = OptionContract(
    underlying="SPY", expiry=date(2024, 6, 21), expires=CLOSE, strike=100.0, right=OptionRight.PUT
)


@pytest.mark.parametrize(
    ("middle", "verdict", "deviation", "words"),
    [
        (2.0, OptionVerdict.ACCEPTED, 0.0, "0.0\N{NO-BREAK SPACE}% above the model"),
        (
            2.3,
            OptionVerdict.ACCEPTED,
            0.15,
            "15.0\N{NO-BREAK SPACE}% above the model, at most 15.0\N{NO-BREAK SPACE}% is allowed",
        ),
        (2.3002, OptionVerdict.REJECTED, 0.1501, "15.0\N{NO-BREAK SPACE}% above"),
        (1.7, OptionVerdict.ACCEPTED, -0.15, "15.0\N{NO-BREAK SPACE}% below"),
        (1.6998, OptionVerdict.REJECTED, -0.1501, "15.0\N{NO-BREAK SPACE}% below"),
        (9.0, OptionVerdict.REJECTED, 3.5, "350.0\N{NO-BREAK SPACE}% above"),
    ],
)
def test_a_deviation_up_to_the_limit_is_accepted(
    middle: float, verdict: OptionVerdict, deviation: float, words: str
) -> None:
    """Exactly the limit passes in both directions; the deviation is signed, and the reason names it."""
    found = judge_quote(OptionQuote(bid=middle - 0.05, ask=middle + 0.05), 2.0, 0.15)
    assert found.verdict is verdict
    assert found.market == pytest.approx(middle)
    assert found.deviation == pytest.approx(deviation)
    assert words in found.reason


@pytest.mark.parametrize(
    ("quote", "words"),
    [
        (None, "there is no quote"),
        (OptionQuote(), "the quote has no bid"),
        (OptionQuote(ask=2.0), "the quote has no bid"),
        (OptionQuote(bid=2.0), "the quote has no ask"),
        (OptionQuote(bid=0.0, ask=2.0), "the bid 0 is not a price above 0"),
        (OptionQuote(bid=-1.0, ask=2.0), "the bid -1 is not a price above 0"),
        (OptionQuote(bid=1.0, ask=0.0), "the ask 0 is not a price above 0"),
        (OptionQuote(bid=math.nan, ask=2.0), "the bid nan is not a price above 0"),
        (OptionQuote(bid=2.0, ask=math.inf), "the ask inf is not a price above 0"),
        (OptionQuote(bid=2.1, ask=2.0), "the quote is crossed: bid 2.1, ask 2"),
        (OptionQuote(bid=2.0, ask=2.1, age_s=10.1), "the quote is 10.1 s old, at most 10 s are allowed"),
        (OptionQuote(bid=2.0, ask=2.1, age_s=-1.0), "the quote is -1 s old"),
        (OptionQuote(bid=2.0, ask=2.1, age_s=math.nan), "the quote is nan s old"),
    ],
)
def test_f6_a_quote_that_does_not_count_has_no_verdict(quote: OptionQuote | None, words: str) -> None:
    """Empty, one-sided, zero, crossed and stale quotes are refused with their reason, and give no number."""
    found = judge_quote(quote, 2.0, 0.15)
    assert (found.verdict, found.market, found.deviation) == (OptionVerdict.UNKNOWN, None, None)
    assert words in found.reason


def test_a_locked_and_just_fresh_quote_counts() -> None:
    """Bid and ask may be equal, and a quote may be 10 s old."""
    assert quote_middle(OptionQuote(bid=2.0, ask=2.0, age_s=10.0)) == 2.0


def test_a_quote_without_time_value_has_no_verdict() -> None:
    """A middle at what the option is worth without volatility is refused: no volatility explains it."""
    found = judge_quote(OptionQuote(bid=4.9, ask=5.1), 5.2, 0.15, 5.0)
    assert (found.verdict, found.deviation) == (OptionVerdict.UNKNOWN, None)
    least = "the lower bound of the option's value (intrinsic value) is 5"
    assert found.reason == f"the middle of the quote, 5, has no time value: {least}"


def test_a_worthless_model_price_has_no_verdict() -> None:
    """Below half a cent a deviation from the model's price means nothing."""
    quote = OptionQuote(bid=0.01, ask=0.02)
    found = judge_quote(quote, 0.0049, 0.15)
    assert (found.verdict, found.deviation) == (OptionVerdict.UNKNOWN, None)
    assert "the model's price, 0.0049, is below 0.005" in found.reason
    assert judge_quote(quote, 0.005, 0.15).verdict is OptionVerdict.REJECTED


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (CLOSE, "the contract expired on 2024-06-21"),
        (CLOSE + timedelta(days=30), "the contract expired on 2024-06-21"),
        (CLOSE - timedelta(hours=1), "the contract expires today"),
        (datetime(2024, 6, 21, 4, 0, tzinfo=UTC), "the contract expires today"),
    ],
)
def test_f6_expired_contracts_and_those_of_the_day_are_refused(at: datetime, words: str) -> None:
    """From midnight in New York on its last day a contract has no verdict."""
    with pytest.raises(NoModelPrice, match=words):
        check_expiry(CONTRACT, at)


def test_a_contract_of_tomorrow_is_judged() -> None:
    """A minute before that midnight it has one."""
    check_expiry(CONTRACT, datetime(2024, 6, 21, 3, 59, tzinfo=UTC))
