"""Options models: what a valuation may hold."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import pytest

from tbot_core import contracts
from tbot_core.contracts import (
    OptionContract,
    OptionListing,
    OptionPriceSteps,
    OptionRight,
    OptionsModel,
    OptionValuation,
    OptionVerdict,
    SupportsOptionContracts,
    SupportsOptionQuotes,
)


@pytest.mark.parametrize("name", ["limit", "model", "market", "deviation", "implied_volatility"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1, "1", True])
def test_the_numbers_of_a_valuation_are_finite_floats(name: str, value: Any) -> None:
    """NaN, infinity and what is not a float are refused by name: they would pass a comparison unnoticed."""
    given: dict[str, Any] = {"verdict": OptionVerdict.UNKNOWN, "reason": "none", "limit": 0.1, name: value}
    with pytest.raises(ValueError, match=f"{name} must be a finite float or None, not"):
        OptionValuation(**given)


@pytest.mark.parametrize("verdict", OptionVerdict)
def test_a_verdict_has_a_deviation(verdict: OptionVerdict) -> None:
    """Only UNKNOWN may have none."""
    assert OptionValuation(verdict=verdict, reason="is", limit=0.1, deviation=0.0).verdict is verdict
    if verdict is OptionVerdict.UNKNOWN:
        assert OptionValuation(verdict=verdict, reason="is", limit=0.1).deviation is None
    else:
        with pytest.raises(ValueError, match=f"the verdict {verdict} has no deviation"):
            OptionValuation(verdict=verdict, reason="is", limit=0.1)


def test_an_options_model_is_known_by_its_method() -> None:
    """Any object with `value_option` is one; the names are public in `tbot_core.contracts`."""
    assert isinstance(type("Theirs", (), {"value_option": print})(), OptionsModel)
    assert not isinstance(object(), OptionsModel)
    assert contracts.OptionRight("put") is contracts.OptionRight.PUT


PUT = OptionContract(
    underlying="AAPL",
    expiry=dt.date(2024, 1, 19),
    expires=dt.datetime(2024, 1, 19, 21, tzinfo=dt.UTC),
    strike=150.0,
    right=OptionRight.PUT,
)


@pytest.mark.parametrize(
    "changed",
    [
        {"symbol": "AAPL"},
        {"symbol": "AAPL  240119P00150000"},
        {"symbol": "AAPL240119C00150000"},
        {"symbol": "AAPL240126P00150000"},
        {"symbol": "AAPL240119P00152500"},
        {"multiplier": 0},
        {"open_interest": -1},
        {"price_steps": "nickel"},
    ],
)
def test_a_listing_is_one_contract(changed: dict[str, Any]) -> None:
    """A symbol of other terms, a multiplier of 0 and an open interest below 0 are refused."""
    terms: dict[str, Any] = {"symbol": "AAPL240119P00150000", "contract": PUT, "is_standard": True, "tradable": True}
    made = OptionListing(**terms)
    assert (made.multiplier, made.open_interest, made.price_steps) == (100, None, OptionPriceSteps.STANDARD)
    assert OptionListing(**terms | {"symbol": "AAPL1240119P00150000"}).contract is PUT
    with pytest.raises(ValueError, match=r"OCC symbol|not the symbol of a put|no contract has|nickel"):
        OptionListing(**terms | changed)


def test_a_broker_of_options_is_known_by_its_methods() -> None:
    """Each method is a protocol of its own."""
    broker = type("Theirs", (), {"option_contracts": print})()
    assert isinstance(broker, SupportsOptionContracts)
    assert not isinstance(broker, SupportsOptionQuotes)
