"""Which symbols a session may trade when there are more than are allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from tbot_core.contracts import FeedCoverage, FeedQuality
from tbot_core.model.day_facts import DayFacts
from tbot_core.trading.universe import (
    FEED_LIMIT,
    OWN_LIMIT,
    Universe,
    UniverseLimit,
    left_out_symbols,
    limit_universe,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def day(volumes: Sequence[float], prices: Sequence[float]) -> DayFacts:
    """The facts of some symbols, with the volume of each minute."""
    count = len(volumes)
    return DayFacts(
        previous_close=np.array(prices),
        average_volume=np.array(volumes),
        market_cap=np.full(count, 1e9),
        atr=np.ones(count),
        vix=np.array([18.0]),
        restricted=np.arange(count) % 2 == 0,
        typical_volume=np.arange(count * 3, dtype=np.float64).reshape(count, 3),
    )


@pytest.mark.parametrize(
    ("universe_max", "subscriptions", "limit"),
    [
        (500, 0, UniverseLimit(max_symbols=500, limited_by=OWN_LIMIT)),
        (500, 30, UniverseLimit(max_symbols=30, limited_by=FEED_LIMIT)),
        (20, 30, UniverseLimit(max_symbols=20, limited_by=OWN_LIMIT)),
        (30, 30, UniverseLimit(max_symbols=30, limited_by=OWN_LIMIT)),
    ],
)
def test_the_narrower_limit_counts(universe_max: int, subscriptions: int, limit: UniverseLimit) -> None:
    """A feed without one leaves it to UNIVERSE_MAX."""
    quality = FeedQuality(coverage=FeedCoverage.CONSOLIDATED, subscriptions=subscriptions)
    assert UniverseLimit.of(universe_max, quality) == limit


def test_the_largest_by_dollar_volume_stay_with_their_facts() -> None:
    """It is price x volume that counts, and the VIX stays everybody's."""
    facts = day([10.0, 1000.0, 100.0, 1.0], [50.0, 1.0, 20.0, 9.0])
    found = limit_universe(("A", "B", "C", "D"), facts, UniverseLimit(max_symbols=2, limited_by=OWN_LIMIT))
    assert (found.symbols, found.cut, found.limit, found.limited_by) == (("B", "C"), ("A", "D"), 2, OWN_LIMIT)
    assert found.day.previous_close.tolist() == [1.0, 20.0]
    assert found.day.restricted.tolist() == [False, True]
    assert found.day.vix.tolist() == [18.0]
    assert found.day.typical_volume is not None
    assert found.day.typical_volume.tolist() == [[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]


def test_the_facts_of_what_is_left_out_stay_too() -> None:
    """First of those that the limit cut, then of the denied ones by reason; without any there are none."""
    facts = day([1.0, 2.0, 3.0, 4.0], [10.0] * 4)
    limit = UniverseLimit(max_symbols=1, limited_by=OWN_LIMIT)
    found = limit_universe(("A", "B", "C", "D"), facts, limit, (), ["VOLUME_LOW", "PRICE_LOW", "", ""])
    assert left_out_symbols(found.cut, found.denied) == ("C", "A", "B")
    assert found.left_out_day is not None
    assert found.left_out_day.average_volume.tolist() == [3.0, 1.0, 2.0]
    assert limit_universe(("A",), facts.symbols([0]), limit).left_out_day is None
    required = limit_universe(("A", "B"), facts.symbols([0, 1]), limit, ("A", "B"))
    assert (required.cut, required.left_out_day) == ((), None)


def test_ties_go_by_symbol_and_what_is_unknown_goes_first() -> None:
    """So that the same day cuts the same symbols on every machine."""
    facts = day([5.0, np.nan, 5.0, 5.0], [2.0, 2.0, 2.0, 2.0])
    assert limit_universe(("A", "B", "C", "D"), facts, UniverseLimit(max_symbols=2, limited_by=OWN_LIMIT)).symbols == (
        "A",
        "C",
    )
    assert limit_universe(("A", "B", "C", "D"), facts, UniverseLimit(max_symbols=3, limited_by=OWN_LIMIT)).cut == ("B",)


def test_a_universe_within_its_limit_is_left_as_it_is() -> None:
    """Nothing is cut, and no limit is named."""
    facts = day([1.0, 2.0], [1.0, 1.0])
    found = limit_universe(("A", "B"), facts, UniverseLimit(max_symbols=2, limited_by=OWN_LIMIT))
    assert (found.symbols, found.cut, found.limited_by, found.day is facts) == (("A", "B"), (), "", True)


def test_what_is_worked_is_never_cut() -> None:
    """Though it is the smallest, and though the worked alone are more than the limit."""
    facts = day([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert limit_universe(
        ("A", "B", "C"), facts, UniverseLimit(max_symbols=1, limited_by=OWN_LIMIT), {"A"}
    ).symbols == ("A",)
    assert limit_universe(
        ("A", "B", "C"), facts, UniverseLimit(max_symbols=1, limited_by=OWN_LIMIT), {"A", "B"}
    ).symbols == ("A", "B")


def test_required_symbols_come_first_then_what_nothing_denies() -> None:
    """A denied symbol is cut before all others, whatever its volume, and is named with its reason."""
    facts = day([9.0, 1.0, 5.0, 7.0, 3.0], [1.0] * 5)
    symbols, limit = ("A", "B", "C", "D", "E"), UniverseLimit(max_symbols=3, limited_by=OWN_LIMIT)
    found = limit_universe(symbols, facts, limit, {"B"}, ["VOLUME_LOW", "", "", "", "MARKET_CAP_LOW"])
    assert (found.symbols, found.cut) == (("B", "C", "D"), ())
    assert found.denied == {"VOLUME_LOW": ("A",), "MARKET_CAP_LOW": ("E",)}
    wider = limit_universe(symbols, facts, attrs.evolve(limit, max_symbols=4), {"B"}, ["LOW", "", "", "", "LOW"])
    assert (wider.symbols, wider.denied) == (("A", "B", "C", "D"), {"LOW": ("E",)})
    required = limit_universe(symbols, facts, limit, {"A", "B"}, ["VOLUME_LOW", "", "", "", ""])
    assert (required.symbols, required.cut, required.denied) == (("A", "B", "D"), ("C", "E"), {})


def test_unknown_facts_have_one_value_for_each_symbol() -> None:
    """None is known, and the VIX has no symbol."""
    found = DayFacts.unknown(2)
    assert np.isnan([found.previous_close, found.average_volume, found.market_cap, found.atr, found.restricted]).all()
    assert (found.previous_close.shape, found.vix.shape, found.typical_volume) == ((2,), (1,), None)


def test_a_universe_counts_what_its_source_has_and_what_is_left_out() -> None:
    """The most frequent reason first, and no reason without a symbol; nothing where the source was not asked."""
    universe = Universe(symbols=("AAA",), day=DayFacts.unknown(1), cut=("BBB",), denied={"VOLUME_LOW": ("CCC", "DDD")})
    assert universe.counts is None
    counts = attrs.evolve(universe, not_offered={"not tradable": 0}, limit=1, limited_by=OWN_LIMIT).counts
    assert counts is not None
    assert (counts.listed, [*counts.left_out.items()]) == (4, [("VOLUME_LOW", 2), ("UNIVERSE_TRUNCATED", 1)])
    assert (
        counts.text
        == "1 of 4 symbols subscribed (UNIVERSE_MAX, 1; symbols left out: VOLUME_LOW 2, UNIVERSE_TRUNCATED 1)"
    )
    whole = Universe(symbols=("AAA",), day=DayFacts.unknown(1), not_offered={}).counts
    assert whole is not None
    assert whole.text == "1 of 1 symbol subscribed"
