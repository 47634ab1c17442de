"""Options models: what the core asks of a filter that prices options, and the valuation that it returns."""

from __future__ import annotations

import math
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import attrs


class OptionRight(StrEnum):
    """What the holder of an option may do: buy the underlying at the strike, or sell it."""

    CALL = "call"
    PUT = "put"


class ExerciseStyle(StrEnum):
    """When an option may be exercised: on every day until its expiry, or at its expiry only."""

    AMERICAN = "american"
    EUROPEAN = "european"


class OptionVerdict(StrEnum):
    """The verdict on a quote; UNKNOWN denies an entry as REJECTED does."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


@attrs.frozen(kw_only=True)
class OptionContract:
    """A contract: strike in USD per share; `expires` is the close of trading on its last day, in UTC."""

    underlying: str
    expiry: date
    expires: datetime
    strike: float
    right: OptionRight


@attrs.frozen(kw_only=True)
class OptionQuote:
    """A quote in USD per share; None: that side has no quote. `age_s`: seconds since it was made."""

    bid: float | None = None
    ask: float | None = None
    age_s: float = 0.0


@attrs.frozen(kw_only=True)
class ModelInput:
    """One input of a model: a number in the unit that its name implies, or a word, and where it comes from."""

    name: str
    value: float | str
    source: str


@attrs.frozen(kw_only=True)
class OptionRequest:
    """What is known about a contract at the moment `at` (UTC); None is unknown.

    `quote`: that of the contract. `spot`: price of the underlying in USD, from `spot_source`. `closes`: its daily
    closes, oldest first, from `closes_source`. `chain`: quotes of other strikes of the same expiry and right, and of
    the same moment. `volatility`, `rate`, `dividend_yield` (a year, as fractions of 1) and `style` replace what the
    model would use.
    """

    contract: OptionContract
    at: datetime
    quote: OptionQuote | None = None
    spot: float | None = None
    spot_source: str = ""
    closes: tuple[float, ...] = ()
    closes_source: str = ""
    chain: tuple[tuple[OptionContract, OptionQuote], ...] = ()
    volatility: float | None = None
    rate: float | None = None
    dividend_yield: float | None = None
    style: ExerciseStyle | None = None


def _finite(_instance: Any, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (isinstance(value, float) and math.isfinite(value)):
        message = f"{attribute.name} must be a finite float or None, not {value!r}"
        raise ValueError(message)


@attrs.frozen(kw_only=True)
class OptionValuation:
    """A model's answer: prices in USD per share, None where there is none; numbers are finite.

    `market`: middle of the quote. `deviation`: (market - model) / model; above `limit` in either direction the verdict
    is REJECTED. `implied_volatility`: the volatility at which the model's price is `market`. `reason`: why the verdict
    is what it is, as a sentence without a full stop. `inputs`: what was used. `missing`: what would be needed.
    """

    verdict: OptionVerdict
    reason: str
    limit: float = attrs.field(validator=_finite)
    model: float | None = attrs.field(default=None, validator=_finite)
    market: float | None = attrs.field(default=None, validator=_finite)
    deviation: float | None = attrs.field(default=None, validator=_finite)
    implied_volatility: float | None = attrs.field(default=None, validator=_finite)
    inputs: tuple[ModelInput, ...] = ()
    missing: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        """Raises ValueError for a verdict without the deviation that it is about."""
        if self.verdict is not OptionVerdict.UNKNOWN and self.deviation is None:
            message = f"the verdict {self.verdict} has no deviation"
            raise ValueError(message)


@runtime_checkable
class OptionsModel(Protocol):
    """A filter that prices options: it judges entries in options, and `tbot options price` shows its valuations."""

    def value_option(self, request: OptionRequest) -> OptionValuation:
        """The model's price and its verdict on the quote.

        Pure: the same request gives the same valuation. What cannot be judged has the verdict UNKNOWN, with the reason;
        an error is a failure of the plugin.
        """
