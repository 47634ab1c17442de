"""The optional abilities of brokers: what a broker declares and what it has are the same."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tbot_core.contracts import BrokerCapabilities
from tbot_core.contracts.abilities import ABILITIES, POLLING, PRICES, REPLACE, STREAM, Ability, undeclared_differences


class Declaring:
    """A broker with these capabilities and these methods."""

    def __init__(self, capabilities: BrokerCapabilities, *methods: str) -> None:
        self.capabilities = capabilities
        for name in methods:
            setattr(self, name, print)


class Failing:
    """A broker whose property fails, as one that reads a document too early."""

    @property
    def clock_ahead_s(self) -> object:
        """Its skew, which is not known."""
        raise ValueError("no date")


def declared(one: Ability[object], *, there: bool = True) -> BrokerCapabilities:
    """Capabilities that declare this ability, or not, and events as polling requires."""
    terms: dict[str, Any] = {one.capability: there}
    if one is POLLING:
        terms = {"streams": not there}
    if one is REPLACE:
        terms = {"replace": "new_id" if there else "cancel_and_new"}
    return BrokerCapabilities(**terms)


def others(one: Ability[object], capabilities: BrokerCapabilities) -> list[str]:
    """The method by which events are received, if another ability is tested."""
    source = POLLING if capabilities.polls else STREAM
    return [] if one in {POLLING, STREAM} else [source.method]


@pytest.mark.parametrize("one", ABILITIES, ids=[one.method for one in ABILITIES])
def test_an_ability_is_what_the_broker_declares(one: Ability[object]) -> None:
    """The declaration decides; a method alone offers nothing, nor does an object without capabilities."""
    broker = Declaring(declared(one), one.method)
    assert one.of(broker) is broker
    assert one.of(Declaring(declared(one, there=False), one.method)) is None
    assert one.of(object()) is None


@pytest.mark.parametrize("one", ABILITIES, ids=[one.method for one in ABILITIES])
def test_what_is_declared_and_what_is_there_are_compared(one: Ability[object]) -> None:
    """A declared ability needs its method, and a method needs its declaration; both phrases name both."""
    for there, has, words in (
        (True, True, []),
        (False, False, []),
        (True, False, [f"it declares the capability {one.capability}, but has no method {one.method}"]),
        (False, True, [f"it has a method {one.method}, but does not declare the capability {one.capability}"]),
    ):
        capabilities = declared(one, there=there)
        methods = [*others(one, capabilities), *([one.method] if has else [])]
        found = [*undeclared_differences(Declaring(capabilities, *methods), capabilities)]
        assert [phrase for phrase in found if f"method {one.method}" in phrase] == words


def test_a_property_that_fails_is_there() -> None:
    """What fails when it is read exists: its failure is reported when it is used."""
    found = [*undeclared_differences(Failing(), BrokerCapabilities(server_time=True))]
    assert found == ["it declares the capability polls, but has no method poll"]


def test_the_matrix_has_every_capability_as_text() -> None:
    """Flags are yes or no, lists their members or none, and other values as they are written."""
    matrix = BrokerCapabilities(prices=True, fractional_types=frozenset({"stop", "limit"})).matrix
    assert [*matrix] == sorted(one.name for one in attrs.fields(BrokerCapabilities))
    assert (matrix["prices"], matrix["hours"]) == ("yes", "no")
    assert (matrix["fractional_types"], matrix["day_trade_rules"]) == ("limit, stop", "none")
    assert matrix["lookup_window_s"] == "600.0"
    assert PRICES.capability in matrix
