"""A filter as an options model: guarded, and only where it is one."""

from __future__ import annotations

from typing import Any

import pytest

from tbot_core.contracts import OptionValuation, OptionVerdict
from tbot_core.errors import PluginError
from tbot_core.plugins.call_guard import CallGuard
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.guarded import guard_plugin
from tbot_core.testing.filter import option_request

ENTRY = EntryPointInfo(kind="filter", name="acme", target="acme", dist="acme", version="1")
VALUATION = OptionValuation(verdict=OptionVerdict.UNKNOWN, reason="none", limit=0.1)


def _guarded(*, strict: bool = False, **methods: Any) -> Any:
    whole = {"screen": lambda *_: [], "judge": lambda *_: []} | methods
    made = type("Theirs", (), {name: staticmethod(one) for name, one in whole.items()})()
    return guard_plugin(ENTRY, made, CallGuard(strict=strict))


def test_a_filter_without_the_method_is_no_options_model() -> None:
    """It is asked nothing."""
    assert _guarded().options_model is None


def test_an_options_model_answers_through_its_guard() -> None:
    """The valuation comes back unchanged."""
    assert _guarded(value_option=lambda _request: VALUATION).options_model.value_option(option_request()) is VALUATION


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("method", "words"),
    [
        (lambda _request: 1 / 0, "ZeroDivisionError"),
        (
            lambda _request: {"verdict": "accepted"},
            "Its value_option returned an object of type dict instead of an Opt",
        ),
        (lambda _request: OptionValuation(verdict=OptionVerdict.REJECTED, reason="", limit=0.1), "has no deviation"),
    ],
)
def test_an_options_model_that_fails_is_an_error(method: Any, words: str, strict: bool) -> None:
    """What it raises, and an answer of another type, is a PluginError with its words."""
    with pytest.raises(PluginError, match=words):
        _guarded(strict=strict, value_option=method).options_model.value_option(option_request())
