"""What a plugin says it reaches for."""

from __future__ import annotations

from typing import Any

import pytest

from tbot_core.contracts.permissions import Host, PluginNeeds

MANY = PluginNeeds(
    secrets={"smtp": PluginNeeds, "alpaca": None},
    hosts={"trading": Host("https://api.example.invalid/v2")},
    subprocess=True,
    orders=True,
)


@pytest.mark.parametrize("needs", [PluginNeeds(), MANY, PluginNeeds(hosts={"api": Host("https://*")})])
def test_a_document_gives_the_same_needs_back(needs: PluginNeeds) -> None:
    """Whatever is written of needs is read as it was."""
    assert PluginNeeds.of(needs.document) == needs


def test_needs_are_said_in_words() -> None:
    """The gravest first, names sorted; no needs are nothing."""
    assert MANY.sentence("x") == "order authority; child processes; secrets alpaca, smtp; hosts api.example.invalid"
    assert PluginNeeds().sentence("x") == "nothing"
    assert MANY.document["secrets"] == ["alpaca", "smtp"]
    given = PluginNeeds(hosts={"api": Host("https://*"), "own": Host("https://a.example")})
    assert given.sentence("hook") == "hosts a.example, the https host that the operator sets in HOST_HOOK_API"
    assert PluginNeeds(own_network=True).sentence("x") == "network connections of its own, to any host"


@pytest.mark.parametrize(
    "wrong",
    [
        {"secrets": "smtp"},
        {"hosts": frozenset({"a"})},
        {"hosts": {"A": Host("https://a.example")}},
        {"hosts": {"a": "https://a.example"}},
        {"own_network": 1},
        {"subprocess": 1},
        {"orders": "yes"},
    ],
)
def test_other_types_are_refused(wrong: dict[str, Any]) -> None:
    """A need that is not what it must be never passes as none."""
    with pytest.raises(TypeError):
        PluginNeeds(**wrong)


@pytest.mark.parametrize("change", [{"secrets": "smtp"}, {"hosts": None}, {"hosts": [[]]}, {"more": True}])
def test_a_foreign_document_is_refused(change: dict[str, Any]) -> None:
    """Lists of words and two switches, nothing else and nothing less."""
    with pytest.raises(TypeError):
        PluginNeeds.of(MANY.document | change)
    with pytest.raises(KeyError):
        PluginNeeds.of({"secrets": []})


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ((), ""),
        ((0,), ""),
        ((200, 200, 0), "at most 200 requests a minute to each host"),
        ((120, 60), "at most 60 to 120 requests a minute to each host"),
    ],
)
def test_the_limit_on_requests_is_said_in_words(limits: tuple[int, ...], words: str) -> None:
    """A host without a limit does not count; limits that differ are a range."""
    hosts = {
        f"host{at}": Host(f"https://api{at}.example.invalid", requests_per_minute=limit)
        for at, limit in enumerate(limits)
    }
    assert PluginNeeds(hosts=hosts).request_limit == words
