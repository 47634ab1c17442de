"""Options: the chain and the quotes that a broker reports, and the valuation by a filter that prices options."""

from __future__ import annotations

import math
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import attrs

from tbot_core.model.option_symbols import OptionPriceSteps, OptionRight, parse_occ_symbol

if TYPE_CHECKING:
    from collections.abc import Sequence


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
class OptionListing:
    """A contract of a chain, as its broker lists it.

    `symbol`: its OCC symbol without padding. `multiplier`: premium and strike are for so many shares. `is_standard`:
    its deliverable is 100 shares of the underlying and nothing else; false where that is not known. `open_interest`: in
    contracts, at the end of `open_interest_date`; None: unknown. `tradable`: the broker takes orders for it now.
    `price_steps`: those of its class; STANDARD where they are not known, since their prices are valid in each class.

    Raises ValueError for a symbol that contradicts the contract, and for a multiplier or open interest that none is.
    """

    symbol: str
    contract: OptionContract
    is_standard: bool
    tradable: bool
    multiplier: int = 100
    open_interest: int | None = None
    open_interest_date: date | None = None
    price_steps: OptionPriceSteps = attrs.field(default=OptionPriceSteps.STANDARD, converter=OptionPriceSteps)

    def __attrs_post_init__(self) -> None:
        named, contract = parse_occ_symbol(self.symbol), self.contract
        terms = (contract.expiry, contract.right, contract.strike)
        if named.text != self.symbol or (named.expiry, named.right, float(named.strike)) != terms:
            words = f"{contract.right} of {contract.strike:g} until {contract.expiry}"
            raise ValueError(f"{self.symbol} is not the symbol of a {words}")
        if self.multiplier < 1 or (self.open_interest or 0) < 0:
            words = f"a multiplier of {self.multiplier} and an open interest of {self.open_interest}"
            raise ValueError(f"{self.symbol}: no contract has {words}")


@attrs.frozen(kw_only=True)
class OptionQuoteReport:
    """The latest quote of a contract, as its broker reports it.

    Prices in USD per share; None: that side has no quote. A crossed quote, and one of any age, is reported as it is.
    Sizes in contracts. `time`: when the quote was made, UTC. `feed`: the vendor's name of its source. `is_modified`:
    the vendor has changed the prices, as for a free feed; such a quote is never used for live orders.
    """

    symbol: str
    bid: float | None
    ask: float | None
    bid_size: int
    ask_size: int
    time: datetime
    feed: str
    is_modified: bool


@runtime_checkable
class SupportsOptionContracts(Protocol):
    """A broker that lists the contracts of an underlying (`option_contracts`)."""

    async def option_contracts(
        self, underlying: str, right: OptionRight, first_expiry: date, last_expiry: date
    ) -> Sequence[OptionListing]:
        """The contracts that expire from `first_expiry` to `last_expiry`, both included, by expiry, strike and symbol.

        All of them: adjusted and mini contracts, and those that are not tradable, are listed as what they are. Empty
        only where there are none. Raises `Unavailable` for a chain of which a part could not be read.
        """


@runtime_checkable
class SupportsOptionQuotes(Protocol):
    """A broker that reports quotes of options (`option_quotes`)."""

    async def option_quotes(self, symbols: Sequence[str]) -> Sequence[OptionQuoteReport]:
        """The latest quotes of these contracts, at most 1,000 OCC symbols without padding; one without is left out."""


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
