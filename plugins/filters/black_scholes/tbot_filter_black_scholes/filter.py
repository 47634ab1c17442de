"""The filter: its settings, and the inputs of its model with their sources."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import ExerciseStyle, ModelInput, OptionValuation, OptionVerdict
from tbot_core.contracts.setting import Permits, boolean, choice, fraction, setting
from tbot_core.model.clock import exchange_time
from tbot_filter_black_scholes.pricing import (
    REALISED_SESSIONS,
    NoModelPrice,
    OptionTerms,
    implied_volatility,
    option_price,
    realised_volatility,
)
from tbot_filter_black_scholes.rates import RateTable
from tbot_filter_black_scholes.verdict import check_expiry, judge_quote, quote_middle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from tbot_core.contracts import Check, OptionContract, OptionQuote, OptionRequest
    from tbot_core.contracts.settings import StrategySettings
    from tbot_core.model.day_facts import DayFacts, MarketView
    from tbot_core.model.signals import Signals


STRIKES_EACH_SIDE: Final = 2
LEAST_STRIKES: Final = 2
"""How many neighbouring strikes on each side give the volatility of a chain, and how many must have one in all."""

TABLE_AGE_DAYS: Final = 90
"""The age up to which a rate of the table is used without a warning."""

GIVEN: Final = "given"
"""The source of an input that the request itself holds."""

_YEAR_S: Final = 365 * 86_400


@attrs.frozen(kw_only=True)
class Config:
    """The filter's limit and the inputs of its model."""

    enabled: bool = setting(
        "ENABLE_BSM_FILTER",
        boolean(),
        default="false",
        doc="Whether options' prices are judged.",
        permits=Permits("unless", ("true",), why="Prices of options are no longer judged."),
    )
    max_deviation: float = setting(
        "MAX_BSM_DEVIATION",
        fraction(most="10", of=float),
        default="0.15",
        doc="Largest deviation of an option's price from the model's, as a fraction of that.",
        permits=Permits("larger"),
    )
    risk_free_rate: float = setting(
        "RISK_FREE_RATE",
        fraction(least="-0.1", of=float),
        default="0.045",
        doc="Continuous yearly rate as a fraction.",
    )
    rate_source: str = setting(
        "RISK_FREE_RATE_SOURCE",
        choice("static", "dynamic"),
        default="static",
        doc="Static takes RISK_FREE_RATE, dynamic that of the identity's jurisdiction.",
    )
    exercise: str = setting(
        "BSM_EXERCISE", choice("american", "european"), default="american", doc="Exercise style of the model."
    )
    volatility: str = setting(
        "BSM_VOLATILITY",
        choice("realised", "chain"),
        default="realised",
        doc="Where the model's volatility comes from.",
    )


@attrs.frozen(kw_only=True)
class BlackScholes:
    """The filter; `rates` is the table, `jurisdiction` the code whose rate counts, "" without an identity."""

    config: Config
    rates: RateTable
    jurisdiction: str = ""

    def screen(self, day: DayFacts, symbols: tuple[str, ...], frame: StrategySettings) -> Sequence[Check]:  # noqa: ARG002
        """No comparison: the filter judges options, and before the bell none is chosen."""
        return ()

    def judge(self, signals: Signals, market: MarketView, frame: StrategySettings) -> Sequence[Check]:  # noqa: ARG002
        """No comparison: the signals are of stocks."""
        return ()

    def value_option(self, request: OptionRequest) -> OptionValuation:
        """The model's price with every input and its source, and the verdict on the quote."""
        inputs, limit = [*self._inputs(request)], self.config.max_deviation
        try:
            check_expiry(request.contract, request.at)
            terms, volatility = self._known(request)
            inputs.append(volatility)
            model = option_price(terms, float(volatility.value))
        except NoModelPrice as fault:
            return OptionValuation(
                verdict=OptionVerdict.UNKNOWN,
                reason=str(fault),
                limit=limit,
                inputs=tuple(inputs),
                missing=fault.missing,
            )
        judged = judge_quote(request.quote, model, limit, terms.least_value)
        return OptionValuation(
            verdict=judged.verdict,
            reason=judged.reason,
            limit=limit,
            model=model,
            market=judged.market,
            deviation=judged.deviation,
            implied_volatility=_implied(terms, judged.market),
            inputs=tuple(inputs),
            missing=() if request.quote else ("quote",),
        )

    def rate_at(self, day: date) -> tuple[ModelInput, str]:
        """The risk-free rate of a day, and what an operator should know about it ("" for nothing)."""
        config, code = self.config, self.jurisdiction
        used = f"RISK_FREE_RATE={config.risk_free_rate:g} is used."
        if config.rate_source == "static":
            return self._static("RISK_FREE_RATE"), ""
        if not code:
            words = f"RISK_FREE_RATE_SOURCE=dynamic, but the bot has no identity, so no jurisdiction: {used}"
            source = "RISK_FREE_RATE, since the bot has no identity"
            return self._static(source), f"{words} `tbot secrets set bot_identity` sets it."
        rate = self.rates.at(code, day)
        if rate is None:
            source = f"RISK_FREE_RATE, since the table has no rate of {code}"
            return self._static(source), f"The table of rates has none of {code} for {day}: {used} {_RENEW}"
        source = f"rates.csv, {code} since {rate.day}: {rate.source}"
        age = (day - rate.day).days
        old = f"The rate of {code} in the table, {rate.rate:g}, is of {rate.day}, {age} days old. {_RENEW}"
        return ModelInput(name="rate", value=rate.rate, source=source), old if age > TABLE_AGE_DAYS else ""

    def _static(self, source: str) -> ModelInput:
        return ModelInput(name="rate", value=self.config.risk_free_rate, source=source)

    def _inputs(self, request: OptionRequest) -> Iterator[ModelInput]:
        # Those that need no computation; the volatility comes last.
        if request.spot is not None:
            yield ModelInput(name="spot", value=request.spot, source=request.spot_source or GIVEN)
        expires = exchange_time(request.contract.expires)
        yield ModelInput(name="years", value=_years(request), source=f"to {expires:%Y-%m-%d %H:%M} New York, 365 days")
        yield self._rate(request)
        if request.dividend_yield is None:
            yield ModelInput(name="dividend yield", value=0.0, source="assumed: none is given")
        else:
            yield ModelInput(name="dividend yield", value=request.dividend_yield, source=GIVEN)
        given = request.style is not None
        yield ModelInput(name="style", value=self._style(request).value, source=GIVEN if given else "BSM_EXERCISE")

    def _known(self, request: OptionRequest) -> tuple[OptionTerms, ModelInput]:
        # Terms and volatility; raises NoModelPrice with the names of all that is missing.
        lacking, terms, volatility = dict[str, str](), None, None
        if request.spot is None:
            lacking["spot"] = f"no price of {request.contract.underlying} is known"
        else:
            terms = self._terms(request.contract, request, request.spot)
        try:
            volatility = self._volatility(request)
        except NoModelPrice as fault:
            lacking["volatility"] = str(fault)
        if terms is None or volatility is None:
            raise NoModelPrice("; ".join(lacking.values()), missing=tuple(lacking))
        return terms, volatility

    def _terms(self, contract: OptionContract, request: OptionRequest, spot: float) -> OptionTerms:
        return OptionTerms(
            spot=spot,
            strike=contract.strike,
            years=_years(request),
            rate=float(self._rate(request).value),
            dividend_yield=request.dividend_yield or 0.0,
            right=contract.right,
            style=self._style(request),
        )

    def _rate(self, request: OptionRequest) -> ModelInput:
        if request.rate is not None:
            return ModelInput(name="rate", value=request.rate, source=GIVEN)
        return self.rate_at(exchange_time(request.at).date())[0]

    def _style(self, request: OptionRequest) -> ExerciseStyle:
        return request.style or ExerciseStyle(self.config.exercise)

    def _volatility(self, request: OptionRequest) -> ModelInput:
        if request.volatility is not None:
            return ModelInput(name="volatility", value=request.volatility, source=GIVEN)
        if self.config.volatility == "chain":
            found, strikes = self._chain_volatility(request)
            words = f"median implied of strikes {', '.join(f'{strike:g}' for strike in strikes)}"
            return ModelInput(name="volatility", value=found, source=words)
        found = realised_volatility(request.closes)
        source = f"{REALISED_SESSIONS} daily returns, {request.closes_source or GIVEN}"
        return ModelInput(name="volatility", value=found, source=source)

    def _chain_volatility(self, request: OptionRequest) -> tuple[float, list[float]]:
        # Strikes whose quote or price implies nothing are passed over for the next ones.
        own, below, above = request.contract, dict[float, float](), dict[float, float]()
        for contract, quote in sorted(request.chain, key=lambda one: abs(one[0].strike - own.strike)):
            side = below if contract.strike < own.strike else above
            if contract.strike == own.strike or contract.strike in side or len(side) == STRIKES_EACH_SIDE:
                continue
            if (found := self._quoted_volatility(contract, quote, request)) is not None:
                side[contract.strike] = found
        both = below | above
        if len(both) < LEAST_STRIKES:
            raise NoModelPrice(
                f"{len(both)} neighbouring strikes have an implied volatility, {LEAST_STRIKES} are needed"
            )
        return median(both.values()), sorted(both)

    def _quoted_volatility(self, contract: OptionContract, quote: OptionQuote, request: OptionRequest) -> float | None:
        comparable = (contract.underlying, contract.expiry, contract.right) == (
            request.contract.underlying,
            request.contract.expiry,
            request.contract.right,
        )
        if not comparable or request.spot is None:
            return None
        try:
            return implied_volatility(self._terms(contract, request, request.spot), quote_middle(quote))
        except NoModelPrice:
            return None


def _years(request: OptionRequest) -> float:
    return (request.contract.expires - request.at).total_seconds() / _YEAR_S


def _implied(terms: OptionTerms, market: float | None) -> float | None:
    try:
        return None if market is None else implied_volatility(terms, market)
    except NoModelPrice:
        return None


_RENEW: Final = "`tbot data download rates`, or `tbot data import rates FILE`, renews the table."
