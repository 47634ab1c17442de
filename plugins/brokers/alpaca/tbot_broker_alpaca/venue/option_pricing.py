"""What an option is worth to the venue, and its Greeks: Black and Scholes (1973), never below its intrinsic value.

Prices are in USD a share, rates and volatilities are fractions a year, times are in years of 365 days.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

import attrs

_NORMAL: Final = NormalDist()
_DAYS: Final = 365.0
_SHORTEST: Final = 1e-6
"""Years: an option that has expired is worth what it was a moment before."""


@attrs.frozen(kw_only=True)
class OptionModel:
    """The volatility and the rate at which the venue prices each option, whatever its strike."""

    volatility: float = 0.35
    rate: float = 0.04

    def value(self, price: float, strike: float, years: float, *, call: bool) -> float:
        """The value of an option on a share at `price`."""
        first, second, paid = self._terms(price, strike, years)
        european = price * _NORMAL.cdf(first) - paid * _NORMAL.cdf(second)
        if not call:
            european += paid - price
        return max(european, price - strike if call else strike - price, 0.0)

    def greeks(self, price: float, strike: float, years: float, *, call: bool) -> dict[str, float]:
        """Delta and gamma a dollar, theta a day, vega and rho a hundredth, as the vendor reports them."""
        first, second, paid = self._terms(price, strike, years)
        root, years, density = math.sqrt(max(years, _SHORTEST)), max(years, _SHORTEST), _NORMAL.pdf(first)
        probability = _NORMAL.cdf(second) if call else -_NORMAL.cdf(-second)
        decay = price * density * self.volatility / (2 * root) + self.rate * paid * probability
        return {
            "delta": _NORMAL.cdf(first) - (0 if call else 1),
            "gamma": density / (price * self.volatility * root),
            "rho": paid * years * probability / 100,
            "theta": -decay / _DAYS,
            "vega": price * density * root / 100,
        }

    def _terms(self, price: float, strike: float, years: float) -> tuple[float, float, float]:
        # Both arguments of the normal distribution, and the strike as it is worth now.
        years = max(years, _SHORTEST)
        width = self.volatility * math.sqrt(years)
        first = (math.log(price / strike) + (self.rate + self.volatility**2 / 2) * years) / width
        return first, first - width, strike * math.exp(-self.rate * years)
