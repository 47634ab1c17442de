"""Names of distributions that are almost those of others."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.plugins.typosquats import edit_distance, existing, lookalikes, ours

ROOT = Path(__file__).parents[2]
LETTERS = st.text("abcd-", max_size=8)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("tbot-broker-alpaca", "tbot-broker-alpaca", 0),
        ("tbot-broker-alpacca", "tbot-broker-alpaca", 1),
        ("tbot-broker-aplaca", "tbot-broker-alpaca", 2),
        ("abcde", "xbcyz", 3),
        ("abc", "abcdefg", 3),
        ("", "ab", 2),
    ],
)
def test_the_distance_counts_single_changes(one: str, other: str, expected: int) -> None:
    """Insertions, deletions and replacements count one each, and beyond two it is three."""
    assert edit_distance(one, other) == expected


@given(LETTERS, LETTERS)
def test_the_distance_is_the_same_both_ways(one: str, other: str) -> None:
    """No name is nearer to another than that one is to it, and only equal names are at nought."""
    assert edit_distance(one, other) == edit_distance(other, one)
    assert (edit_distance(one, other) == 0) == (one == other)


@given(LETTERS, st.integers(0, 8), st.integers(0, 8))
def test_two_changes_are_always_near(text: str, added: int, dropped: int) -> None:
    """A name with a letter put in and one taken out looks like itself."""
    more = f"{text[:added]}x{text[added:]}"
    assert edit_distance(text, f"{more[:dropped]}{more[dropped + 1 :]}") <= 2


def test_almost_the_name_of_a_known_one_is_found() -> None:
    """A stranger near the project's or the lock's names is paired with each; spelling of separators does not matter."""
    assert lookalikes(["tbot_broker.Alpacca", "acme-streak"]) == (("tbot-broker-alpacca", "tbot-broker-alpaca"),)
    assert lookalikes(["acme-streek"], ["Acme_Streak"]) == (("acme-streek", "acme-streak"),)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("tbot-strategy-bad", "tbot-strategy-mid", False),
        ("tbot-strategy-mod", "tbot-strategy-mid", False),
        ("tbot-strategy-rnid", "tbot-strategy-mid", True),
        ("tbot-strategy-m1d", "tbot-strategy-mid", True),
        ("tbotstrategy-mid", "tbot-strategy-mid", True),
        ("tbot-strategy-oben", "tbot-strategy-open", True),
        ("tbot-strategy-oven", "tbot-strategy-open", True),
        ("tbot-strategy-omen2", "tbot-strategy-open", False),
        ("tbot-strategy-clothe", "tbot-strategy-close", False),
        ("tbot-broker-aplaca", "tbot-broker-alpaca", True),
        ("tbot-broker-alcapca", "tbot-broker-alpaca", True),
        ("tbot-broker-alpine", "tbot-broker-alpaca", False),
    ],
)
def test_short_words_are_near_only_where_they_look_the_same(one: str, other: str, *, expected: bool) -> None:
    """Two letters may differ in a last part of six, one in four or five; of a shorter one only the look counts."""
    assert (lookalikes([one]) == ((one, other),)) is expected


def test_known_names_look_like_no_other() -> None:
    """The project's own names, and those of the lock, are never suspects, however near to each other."""
    assert lookalikes(ours()) == ()
    assert lookalikes(["acme-one", "acme-two"], ["acme-one", "acme-two"]) == ()


def test_only_distributions_that_exist_are_advised() -> None:
    """Those of the workspace; a stranger could publish a reserved name, so it is never recommended."""
    stated = [tomllib.loads(path.read_text("utf-8")) for path in ROOT.glob("plugins/*/*/pyproject.toml")]
    assert existing() == {"tbot-core", *(one["project"]["name"] for one in stated)}
    assert {"tbot-broker-ibkr", "tbot-extension-accounting"} <= ours() - existing()


def test_each_plugin_whose_settings_are_known_is_one_of_the_projects() -> None:
    """Kind and name give the distribution that a setting needs."""
    assert {f"tbot-{one.kind}-{one.name.replace('_', '-')}" for one in known_plugins()} < ours()
