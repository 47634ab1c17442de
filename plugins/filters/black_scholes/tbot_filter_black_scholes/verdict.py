"""The verdict on a quote, given the model's price: a pure function, with a reason for each refusal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import OptionVerdict
from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import format_percent
from tbot_filter_black_scholes.pricing import NO_TIME_VALUE, NoModelPrice

if TYPE_CHECKING:
    from datetime import datetime

    from tbot_core.contracts import OptionContract, OptionQuote

FRESH_S: Final = 10.0
"""The age in seconds up to which a quote counts."""

WORTHLESS: Final = 0.005
"""The model's price in USD below which a deviation from it means nothing."""

# A ratio of prices is compared on 12 decimals, so that exactly 15 % is not more than 15 %.
_DECIMALS: Final = 12


@attrs.frozen(kw_only=True)
class QuoteVerdict:
    """The verdict, why, the middle of the quote, and its deviation from the model; None where there is none."""

    verdict: OptionVerdict
    reason: str
    market: float | None = None
    deviation: float | None = None


def judge_quote(quote: OptionQuote | None, model: float, limit: float, least_value: float = 0.0) -> QuoteVerdict:
    """Whether the middle of a quote deviates from the model's price by more than `limit`, as a fraction of it.

    `least_value`: what the option is worth without volatility; a middle at or below it has no time value. A quote that
    does not count, and a model's price below half a cent, give the verdict UNKNOWN.
    """
    if quote is None:
        return QuoteVerdict(verdict=OptionVerdict.UNKNOWN, reason="there is no quote")
    try:
        market = quote_middle(quote)
    except NoModelPrice as fault:
        return QuoteVerdict(verdict=OptionVerdict.UNKNOWN, reason=str(fault))
    if market <= least_value + NO_TIME_VALUE:
        least = f"the lower bound of the option's value (intrinsic value) is {least_value:.6g}"
        words = f"the middle of the quote, {market:g}, has no time value: {least}"
        return QuoteVerdict(verdict=OptionVerdict.UNKNOWN, reason=words, market=market)
    if model < WORTHLESS:
        words = f"the model's price, {model:.4f}, is below {WORTHLESS:g}: a deviation from it means nothing"
        return QuoteVerdict(verdict=OptionVerdict.UNKNOWN, reason=words, market=market)
    deviation = round((market - model) / model, _DECIMALS)
    side = "below" if deviation < 0 else "above"
    away, most = format_percent(abs(deviation), 1), format_percent(limit, 1)
    words = f"the middle of the quote is {away} {side} the model, at most {most} is allowed"
    verdict = OptionVerdict.REJECTED if abs(deviation) > limit else OptionVerdict.ACCEPTED
    return QuoteVerdict(verdict=verdict, reason=words, market=market, deviation=deviation)


def quote_middle(quote: OptionQuote) -> float:
    """The middle of a two-sided, uncrossed and fresh quote; raises NoModelPrice for another one."""
    bid, ask = _side("bid", quote.bid), _side("ask", quote.ask)
    if bid > ask:
        raise NoModelPrice(f"the quote is crossed: bid {bid:g}, ask {ask:g}")
    if not 0 <= quote.age_s <= FRESH_S:
        raise NoModelPrice(f"the quote is {quote.age_s:g} s old, at most {FRESH_S:g} s are allowed")
    return (bid + ask) / 2


def check_expiry(contract: OptionContract, at: datetime) -> None:
    """Raise NoModelPrice if the contract has expired, or expires on the day of `at` in New York."""
    if at >= contract.expires:
        raise NoModelPrice(f"the contract expired on {contract.expiry}")
    if exchange_time(at).date() >= exchange_time(contract.expires).date():
        raise NoModelPrice("the contract expires today, which is not judged")


def _side(name: str, price: float | None) -> float:
    if price is None:
        raise NoModelPrice(f"the quote has no {name}")
    if not (math.isfinite(price) and price > 0):
        raise NoModelPrice(f"the {name} {price:g} is not a price above 0")
    return price
