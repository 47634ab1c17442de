"""Prices of options by the Black-Scholes-Merton model, and the volatilities that it takes and implies.

All numbers are floats: prices in USD per share, rates, dividend yields and volatilities a year as fractions of 1, rates
and yields continuously compounded. What has no price raises `NoModelPrice`; no function returns NaN.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import stdev
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import ExerciseStyle, OptionRight

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOWEST_VOLATILITY: Final = 0.001
HIGHEST_VOLATILITY: Final = 5.0
"""The bounds of a volatility, given or implied."""

REALISED_SESSIONS: Final = 20
"""The daily returns of a realised volatility."""

SESSIONS_A_YEAR: Final = 252

NO_TIME_VALUE: Final = 1e-9
"""The time value in USD up to which there is none."""

_MOST_YEARS: Final = 10.0
_MOST_PRICE: Final = 1e7
_RATES: Final = (-0.1, 1.0)
_ACCURACY: Final = 1e-10
_FIRST_BRACKET: Final = 0.5


class NoModelPrice(ValueError):
    """The model has no price, or no volatility, for this; the text says why, without a full stop.

    `missing`: the inputs that are not known, where that is why.
    """

    def __init__(self, words: str, *, missing: tuple[str, ...] = ()) -> None:
        super().__init__(words)
        self.missing = missing


@attrs.frozen(kw_only=True)
class OptionTerms:
    """What a price depends on besides volatility. Raises NoModelPrice for a number outside its bounds.

    `spot` and `strike`: above 0, at most 10,000,000 USD. `years`: time to expiry, above 0, at most 10. `rate`: -0.1 to
    1. `dividend_yield`: 0 to 1.
    """

    spot: float
    strike: float
    years: float
    rate: float
    dividend_yield: float
    right: OptionRight
    style: ExerciseStyle

    def __attrs_post_init__(self) -> None:
        """Check the bounds; a comparison with NaN is false, so that it is refused too."""
        for name, value in (("spot", self.spot), ("strike", self.strike)):
            if not 0 < value <= _MOST_PRICE:
                raise NoModelPrice(f"the {name} {value:g} is not above 0 and at most {_MOST_PRICE:,.0f}")
        if not 0 < self.years <= _MOST_YEARS:
            raise NoModelPrice(f"the time to expiry, {self.years:g} years, is not above 0 and at most {_MOST_YEARS:g}")
        if not _RATES[0] <= self.rate <= _RATES[1]:
            raise NoModelPrice(f"the rate {self.rate:g} is not from {_RATES[0]:g} to {_RATES[1]:g}")
        if not 0 <= self.dividend_yield <= 1:
            raise NoModelPrice(f"the dividend yield {self.dividend_yield:g} is not from 0 to 1")

    @property
    def least_value(self) -> float:
        """What the option is worth at least: its discounted gain at expiry, and if American that of an exercise now."""
        sign = 1.0 if self.right is OptionRight.CALL else -1.0
        forward = self.spot * math.exp(-self.dividend_yield * self.years)
        held = sign * (forward - self.strike * math.exp(-self.rate * self.years))
        exercised = sign * (self.spot - self.strike) if self.style is ExerciseStyle.AMERICAN else 0.0
        return max(held, exercised, 0.0)


def option_price(terms: OptionTerms, volatility: float) -> float:
    """The model's price at a volatility from 0.001 to 5; raises NoModelPrice for another one."""
    if not LOWEST_VOLATILITY <= volatility <= HIGHEST_VOLATILITY:
        bounds = f"{LOWEST_VOLATILITY:g} to {HIGHEST_VOLATILITY:g}"
        raise NoModelPrice(f"the volatility {volatility:g} is not from {bounds}")
    return _pricer(terms)(volatility)


def implied_volatility(terms: OptionTerms, price: float) -> float:
    """The volatility from 0.001 to 5 at which the model's price is `price`, to 1e-10; raises NoModelPrice if none is.

    Of a price without time value there is none: at or below what the option is worth without volatility.
    """
    if not 0 < price <= _MOST_PRICE:
        raise NoModelPrice(f"the price {price:g} is not above 0 and at most {_MOST_PRICE:,.0f}")
    pricer = _pricer(terms)
    least = max(pricer(LOWEST_VOLATILITY), terms.least_value)
    if price <= least + NO_TIME_VALUE:
        raise NoModelPrice(f"the price {price:g} has no time value: the model's lowest price is {least:.6g}")
    # Far beyond the volatility sought the engine of early exercise may fail, so the bracket grows from below.
    lower, upper = LOWEST_VOLATILITY, _FIRST_BRACKET
    while (highest := pricer(upper)) < price:
        if upper == HIGHEST_VOLATILITY:
            raise NoModelPrice(f"no volatility implies the price {price:g}: at {upper:g} it is {highest:.6g}")
        lower, upper = upper, min(2 * upper, HIGHEST_VOLATILITY)
    try:
        found: float = (
            _quantlib()
            .Brent()
            .solve(lambda volatility: pricer(volatility) - price, _ACCURACY, (lower + upper) / 2, lower, upper)
        )
    except RuntimeError as fault:
        raise NoModelPrice(f"the implied volatility of {price:g} does not converge: {fault}") from fault
    return found


def realised_volatility(closes: Sequence[float]) -> float:
    """The standard deviation of the last 20 daily log returns, a year of 252 sessions; closes are oldest first.

    Raises NoModelPrice for fewer than 21 closes, one that is not a price, and closes that do not vary.
    """
    if len(closes) <= REALISED_SESSIONS:
        raise NoModelPrice(f"{REALISED_SESSIONS + 1} daily closes are needed, {len(closes)} are known")
    last = closes[-REALISED_SESSIONS - 1 :]
    if not all(0 < close <= _MOST_PRICE for close in last):
        raise NoModelPrice("a daily close is not a price")
    returns = [math.log(after / before) for before, after in pairwise(last)]
    found = stdev(returns) * math.sqrt(SESSIONS_A_YEAR)
    if not LOWEST_VOLATILITY <= found <= HIGHEST_VOLATILITY:
        raise NoModelPrice(f"the realised volatility {found:g} is not one of a traded stock")
    return found


def _quantlib() -> Any:
    # Not imported with the package: listing plugins needs none of it.
    import QuantLib  # type: ignore[import-untyped]  # it has neither stubs nor py.typed

    return QuantLib


def _pricer(terms: OptionTerms) -> Callable[[float], float]:
    # The price as a function of volatility. The library counts time in whole days: with constant inputs a price depends
    # on their products with time only, so all options last one year, and rate, yield and variance are scaled to it. Its
    # dates lie far ahead, since it calls an option expired by the date of today.
    ql = _quantlib()
    day_count = ql.Actual365Fixed()
    start = ql.Date(1, 1, 2150)
    end = start + 365
    volatility = ql.SimpleQuote(0.2)
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(terms.spot)),
        ql.YieldTermStructureHandle(ql.FlatForward(start, terms.dividend_yield * terms.years, day_count)),
        ql.YieldTermStructureHandle(ql.FlatForward(start, terms.rate * terms.years, day_count)),
        ql.BlackVolTermStructureHandle(
            ql.BlackConstantVol(start, ql.NullCalendar(), ql.QuoteHandle(volatility), day_count)
        ),
    )
    payoff = ql.PlainVanillaPayoff(ql.Option.Call if terms.right is OptionRight.CALL else ql.Option.Put, terms.strike)
    if terms.style is ExerciseStyle.AMERICAN:
        option = ql.VanillaOption(payoff, ql.AmericanExercise(start, end))
        option.setPricingEngine(ql.QdFpAmericanEngine(process))
    else:
        option = ql.VanillaOption(payoff, ql.EuropeanExercise(end))
        option.setPricingEngine(ql.AnalyticEuropeanEngine(process))

    def price(yearly: float) -> float:
        try:
            volatility.setValue(yearly * math.sqrt(terms.years))
            found: float = option.NPV()
        except RuntimeError as fault:
            raise NoModelPrice(f"the model fails: {fault}") from fault
        if not math.isfinite(found):
            raise NoModelPrice("the model gives no finite price")
        return max(found, 0.0)

    return price
