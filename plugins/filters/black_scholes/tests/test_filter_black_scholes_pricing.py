"""Prices against published values, 50-digit arithmetic and a fine grid; volatilities; what has no price."""

from __future__ import annotations

import math
import random
from decimal import Decimal, localcontext
from typing import Any

import attrs
import pytest
import QuantLib as ql  # type: ignore[import-untyped]  # noqa: N813
from hypothesis import assume, given
from hypothesis import strategies as st
from tbot_filter_black_scholes.pricing import (
    NoModelPrice,
    OptionTerms,
    implied_volatility,
    option_price,
    realised_volatility,
)

from tbot_core.contracts import ExerciseStyle, OptionRight

PUT, CALL = OptionRight.PUT, OptionRight.CALL
AMERICAN, EUROPEAN = ExerciseStyle.AMERICAN, ExerciseStyle.EUROPEAN
ROOT_OF_TWO_PI = Decimal("2.50662827463100050241576528481104525300698674060993831662992")


def _terms(**given_terms: Any) -> OptionTerms:
    usual = {"spot": 100.0, "strike": 100.0, "years": 1.0, "rate": 0.05, "dividend_yield": 0.02}
    return OptionTerms(**{**usual, "right": PUT, "style": EUROPEAN, **given_terms})


def _normal(x: Decimal) -> Decimal:
    # The standard normal distribution by its series of positive terms (Marsaglia, 2004).
    term = total = abs(x)
    factor = 1
    while term > total * Decimal("1e-55"):
        factor += 2
        term *= x * x / factor
        total += term
    upper = Decimal("0.5") + total * (-x * x / 2).exp() / ROOT_OF_TWO_PI
    return upper if x >= 0 else 1 - upper


def _closed_form(terms: OptionTerms, volatility: float) -> Decimal:
    # Merton (1973), equations of a European option with a continuous dividend yield, in 60 digits.
    with localcontext() as context:
        context.prec = 60
        spot, strike, years = Decimal(terms.spot), Decimal(terms.strike), Decimal(terms.years)
        rate, dividends, sigma = Decimal(terms.rate), Decimal(terms.dividend_yield), Decimal(volatility)
        width = sigma * years.sqrt()
        d1 = ((spot / strike).ln() + (rate - dividends + sigma * sigma / 2) * years) / width
        sign = 1 if terms.right is CALL else -1
        held, paid = spot * (-dividends * years).exp(), strike * (-rate * years).exp()
        return sign * (held * _normal(sign * d1) - paid * _normal(sign * (d1 - width)))


def _contracts(count: int, style: ExerciseStyle) -> list[tuple[OptionTerms, float]]:
    # Contracts of whole days around the money, drawn with a fixed seed.
    draw = random.Random(8)
    return [
        (
            _terms(
                strike=draw.uniform(60, 150),
                years=draw.randrange(7, 730) / 365,
                rate=draw.uniform(-0.01, 0.1),
                dividend_yield=draw.uniform(0, 0.06),
                right=draw.choice([PUT, CALL]),
                style=style,
            ),
            draw.uniform(0.05, 1.2),
        )
        for _ in range(count)
    ]


def _by_library(terms: OptionTerms, volatility: float, engine: Any) -> float:
    # The library's own way: dates, and rates that are not scaled.
    start, day_count = ql.Date(2, 1, 2150), ql.Actual365Fixed()
    end = start + round(terms.years * 365)
    process = ql.BlackScholesMertonProcess(
        ql.QuoteHandle(ql.SimpleQuote(terms.spot)),
        ql.YieldTermStructureHandle(ql.FlatForward(start, terms.dividend_yield, day_count)),
        ql.YieldTermStructureHandle(ql.FlatForward(start, terms.rate, day_count)),
        ql.BlackVolTermStructureHandle(ql.BlackConstantVol(start, ql.NullCalendar(), volatility, day_count)),
    )
    payoff = ql.PlainVanillaPayoff(ql.Option.Call if terms.right is CALL else ql.Option.Put, terms.strike)
    american = terms.style is AMERICAN
    option = ql.VanillaOption(payoff, ql.AmericanExercise(start, end) if american else ql.EuropeanExercise(end))
    option.setPricingEngine(engine(process))
    price: float = option.NPV()
    return price


@pytest.mark.parametrize(
    ("source", "terms", "volatility", "price", "digits"),
    [
        ("Hull, 9th edition, example 15.6", {"spot": 42.0, "strike": 40.0, "right": CALL}, 0.2, 4.76, 2),
        ("Hull, 9th edition, example 15.6", {"spot": 42.0, "strike": 40.0}, 0.2, 0.81, 2),
        (
            "Hull, 9th edition, example 17.1",
            {"spot": 930.0, "strike": 900.0, "years": 2 / 12, "rate": 0.08, "dividend_yield": 0.03, "right": CALL},
            0.2,
            51.83,
            2,
        ),
        (
            "Haug, 2nd edition, 1.1.1",
            {"spot": 60.0, "strike": 65.0, "years": 0.25, "rate": 0.08, "right": CALL},
            0.3,
            2.1334,
            4,
        ),
        (
            "Haug, 2nd edition, 1.1.2",
            {"spot": 100.0, "strike": 95.0, "rate": 0.1, "dividend_yield": 0.05},
            0.2,
            2.4648,
            4,
        ),
    ],
)
def test_european_prices_are_the_published_ones(
    source: str, terms: dict[str, Any], volatility: float, price: float, digits: int
) -> None:
    """Textbook examples agree to their last printed digit."""
    usual = {"years": 0.5, "rate": 0.1, "dividend_yield": 0.0}
    assert round(option_price(_terms(**usual | terms), volatility), digits) == price, source


def test_european_prices_agree_with_exact_arithmetic() -> None:
    """Within 1e-10 of the closed form in 60 digits, on 500 contracts."""
    worst = max(
        abs(Decimal(option_price(terms, volatility)) - _closed_form(terms, volatility))
        for terms, volatility in _contracts(500, EUROPEAN)
    )
    assert worst < Decimal("1e-10")


def test_european_prices_agree_with_the_librarys_analytic_engine() -> None:
    """Within 1e-10 of QuantLib with dates and unscaled rates, on 500 contracts."""
    for terms, volatility in _contracts(500, EUROPEAN):
        assert option_price(terms, volatility) == pytest.approx(
            _by_library(terms, volatility, ql.AnalyticEuropeanEngine), abs=1e-10
        )


@pytest.mark.first(4)
@pytest.mark.parametrize("number", range(20))
def test_american_prices_agree_with_a_fine_grid(number: int) -> None:
    """Within 1e-3 of finite differences with 4,000 steps of time and 1,000 of price, on 20 contracts."""
    terms, volatility = _contracts(20, AMERICAN)[number]
    grid = _by_library(terms, volatility, lambda process: ql.FdBlackScholesVanillaEngine(process, 4000, 1000))
    assert option_price(terms, volatility) == pytest.approx(grid, abs=1e-3)


def test_an_american_put_has_its_known_price() -> None:
    """At 100 with a year, 5 %, a yield of 2 % and a volatility of 20 %: 6.66070 by a tree of very many steps."""
    assert option_price(_terms(style=AMERICAN), 0.2) == pytest.approx(6.66070, abs=5e-5)


def test_what_the_library_cannot_price_is_refused() -> None:
    """Its error becomes a refusal: at a rate just below 0 and a volatility of 500 % its search finds no boundary."""
    terms = _terms(style=AMERICAN, right=CALL, dividend_yield=0.0, rate=-1e-5)
    with pytest.raises(NoModelPrice, match="the model fails: root not bracketed"):
        option_price(terms, 5.0)
    assert implied_volatility(terms, option_price(terms, 0.3)) == pytest.approx(0.3)


RATES = st.floats(-0.05, 0.15)
YIELDS = st.floats(0, 0.1)
STRIKES = st.floats(50, 200)
YEARS = st.floats(1 / 365, 3)
VOLATILITIES = st.floats(0.05, 2)


@given(strike=STRIKES, years=YEARS, rate=RATES, dividend_yield=YIELDS, volatility=VOLATILITIES)
def test_f7_put_call_parity_holds(volatility: float, **terms: float) -> None:
    """A European call less the put is the spot without its dividends less the discounted strike."""
    call, put = (option_price(_terms(right=right, **terms), volatility) for right in (CALL, PUT))
    held = 100 * math.exp(-terms["dividend_yield"] * terms["years"])
    paid = terms["strike"] * math.exp(-terms["rate"] * terms["years"])
    assert call - put == pytest.approx(held - paid, abs=1e-9)


@pytest.mark.parametrize("rate", [sign * 10.0**power for sign in (-1, 1) for power in range(-12, -4)])
def test_a_rate_near_zero_has_a_price(rate: float) -> None:
    """An American price at a tiny rate of either sign is that at 0, within 1e-3."""
    for right in OptionRight:
        for years in (7 / 365, 1.0, 10.0):
            terms = _terms(style=AMERICAN, right=right, years=years, dividend_yield=0.0, rate=0.0)
            for volatility in (0.3, 1.0):
                price = option_price(attrs.evolve(terms, rate=rate), volatility)
                assert price == pytest.approx(option_price(terms, volatility), abs=1e-3 + 200 * abs(rate) * years)


@given(
    strike=STRIKES,
    years=YEARS,
    rate=RATES,
    dividend_yield=YIELDS,
    volatility=VOLATILITIES,
    right=st.sampled_from(OptionRight),
    style=st.sampled_from(ExerciseStyle),
)
def test_f7_the_implied_volatility_gives_the_price_again(volatility: float, **terms: Any) -> None:
    """Where a price has time value, its implied volatility gives it again, and is the one that it was made with."""
    what = _terms(**terms)
    price = option_price(what, volatility)
    assume(price > what.least_value + 0.01)
    found = implied_volatility(what, price)
    assert option_price(what, found) == pytest.approx(price, abs=1e-6)
    slope = (option_price(what, volatility * 1.01) - price) / (volatility * 0.01)
    if slope > 1:
        assert found == pytest.approx(volatility, abs=1e-5)


@given(
    strike=STRIKES,
    years=YEARS,
    rate=RATES,
    dividend_yield=YIELDS,
    volatility=VOLATILITIES,
    right=st.sampled_from(OptionRight),
)
def test_early_exercise_is_never_worth_less_than_nothing(volatility: float, **terms: Any) -> None:
    """An American option is worth at least the European one and an exercise now."""
    american = _terms(style=AMERICAN, **terms)
    price = option_price(american, volatility)
    assert price >= option_price(attrs.evolve(american, style=EUROPEAN), volatility) - 1e-6
    assert price >= american.least_value - 1e-6


def test_a_price_does_not_depend_on_the_day_it_is_asked_for() -> None:
    """The library's global date is neither read nor set."""
    before = ql.Settings.instance().evaluationDate
    expected = option_price(_terms(style=AMERICAN), 0.2)
    try:
        ql.Settings.instance().evaluationDate = ql.Date(1, 1, 2100)
        assert option_price(_terms(style=AMERICAN), 0.2) == expected
        assert ql.Settings.instance().evaluationDate == ql.Date(1, 1, 2100)
    finally:
        ql.Settings.instance().evaluationDate = before


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["spot", "strike", "years"])
def test_terms_without_a_price_are_refused(name: str, value: float) -> None:
    """What must be a number above 0 is refused by name, never priced."""
    with pytest.raises(NoModelPrice, match=f"the {'time to expiry' if name == 'years' else name}"):
        _terms(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("years", 10.1),
        *(("rate", value) for value in (-0.11, 1.1, math.nan)),
        *(("dividend_yield", value) for value in (-0.01, 1.1, math.nan)),
        ("spot", 1.1e7),
    ],
)
def test_terms_outside_their_bounds_are_refused(name: str, value: float) -> None:
    """Each bound of the terms holds."""
    with pytest.raises(NoModelPrice, match=name.replace("_", " ") if name != "years" else "time to expiry"):
        _terms(**{name: value})


@pytest.mark.parametrize("volatility", [0.0, 0.0009, 5.1, -0.2, math.nan, math.inf])
def test_a_volatility_outside_its_bounds_is_refused(volatility: float) -> None:
    """A volatility of 0, below it, above 500 % or that is not a number prices nothing."""
    with pytest.raises(NoModelPrice, match=r"is not from 0\.001 to 5"):
        option_price(_terms(), volatility)


@pytest.mark.parametrize("volatility", [0.001, 5.0])
@pytest.mark.parametrize("years", [1 / 365, 10.0])
@pytest.mark.parametrize("strike", [1.0, 100.0, 10_000.0])
@pytest.mark.parametrize("style", ExerciseStyle)
def test_every_corner_of_the_bounds_has_a_price(
    style: ExerciseStyle, strike: float, years: float, volatility: float
) -> None:
    """At the bounds a price is finite and not below what the option is worth at least."""
    for rate in (-0.1, 0.0, 1.0):
        for dividend_yield in (0.0, 1.0):
            for right in OptionRight:
                given_terms = {"rate": rate, "dividend_yield": dividend_yield, "right": right, "years": years}
                terms = _terms(strike=strike, style=style, **given_terms)
                price = option_price(terms, volatility)
                assert math.isfinite(price)
                assert price >= terms.least_value - 1e-6


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_what_is_no_price_implies_no_volatility(price: float) -> None:
    """Zero, a negative price and what is not a number are refused."""
    with pytest.raises(NoModelPrice, match="the price"):
        implied_volatility(_terms(), price)


@pytest.mark.parametrize(
    ("style", "strike", "price"), [(AMERICAN, 120.0, 20.0), (AMERICAN, 120.0, 19.0), (EUROPEAN, 120.0, 16.0)]
)
def test_a_price_without_time_value_implies_no_volatility(style: ExerciseStyle, strike: float, price: float) -> None:
    """At or below what the option is worth at least there is none, and the refusal names that value."""
    with pytest.raises(NoModelPrice, match="has no time value: the model's lowest price is"):
        implied_volatility(_terms(style=style, strike=strike), price)


def test_a_price_above_every_model_price_implies_no_volatility() -> None:
    """A put above its strike is refused with the model's highest price."""
    with pytest.raises(NoModelPrice, match="no volatility implies the price 120: at 5 it is 9"):
        implied_volatility(_terms(), 120.0)


def test_the_realised_volatility_is_that_of_the_last_20_returns() -> None:
    """Returns of 1 % up and down: their standard deviation times the root of 252; older closes do not count."""
    closes = [100.0 if number % 2 else 101.0 for number in range(21)]
    step = math.log(1.01)
    expected = step * math.sqrt(20 / 19) * math.sqrt(252)
    assert realised_volatility(closes) == pytest.approx(expected, rel=1e-12)
    assert realised_volatility([1.0, 50.0, *closes]) == realised_volatility(closes)


@pytest.mark.parametrize(
    ("closes", "words"),
    [
        ([100.0] * 20, "21 daily closes are needed, 20 are known"),
        ([100.0] * 21, "the realised volatility 0 is not one of a traded stock"),
        ([*[100.0, 101.0] * 10, math.nan], "a daily close is not a price"),
        ([*[100.0, 101.0] * 10, 0.0], "a daily close is not a price"),
        ([*[1.0, 1000.0] * 10, 1.0], "is not one of a traded stock"),
    ],
)
def test_closes_without_a_volatility_are_refused(closes: list[float], words: str) -> None:
    """Too few closes, one that is no price, and closes that do not vary are refused with the reason."""
    with pytest.raises(NoModelPrice, match=words):
        realised_volatility(closes)
