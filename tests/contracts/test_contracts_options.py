"""Options models: what a valuation may hold."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tbot_core import contracts
from tbot_core.contracts import OptionsModel, OptionValuation, OptionVerdict


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
