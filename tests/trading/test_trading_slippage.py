"""Slippage: by formula, or drawn by key."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from statistics import mean, stdev
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts.settings import SimulationSettings
from tbot_core.model.types import Leg
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import identity
from tbot_core.trading.slippage import Slippage, slipped_price

RANDOM = Slippage(kind="randomized", mean=0.0015, deviation=0.001, seed=0)
RULE = Slippage(kind="rule_based", mean=0.001, deviation=0.0, seed=0)
CLOSE = Fraction(1, 10_000)
"""What part of a tick is the same price, by the errors of floating-point numbers."""


def by_rule(draft: SessionDraft, shares: float = 0.0, minute: int = 25) -> float:
    """The rule-based loss at a signal of that minute."""
    return RULE.fraction(identity(minute=minute), Leg.EXIT, (draft.bars(), 0), shares)


def ranged(minutes: range, width: float = 1.0) -> SessionDraft:
    """Bars with a range of `width` percent of their close in these minutes."""
    draft = SessionDraft()
    for minute in minutes:
        draft.bar(minute, 100.0, high=100.0 + width, low=100.0)
    return draft


def test_the_settings_choose_the_model() -> None:
    """Percent become fractions; a model that is switched off loses nothing."""
    on = Slippage.of(SimulationSettings(seed=7))
    assert attrs.astuple(on) == ("randomized", 0.0015, 0.001, 7)
    off = Slippage.of(SimulationSettings(enable_slippage_model=False))
    assert off.fraction(identity(), Leg.ENTRY, (SessionDraft().bars(), 0), 100.0) == 0.0


@pytest.mark.parametrize(
    ("usual", "now", "shares", "expected"),
    [
        (1.0, 1.0, 0.0, 1.5),
        (1.0, 4.0, 0.0, 4.5),
        (1.0, 0.0, 0.0, 0.5),
        (0.0, 1.0, 0.0, 1.5),  # no usual range to compare with: as usual
        (1.0, 1.0, 500.0, 1.5 * 1.5),
        (1.0, 1.0, 5000.0, 1.5 * 2.0),  # participation is at most 1
    ],
)
def test_the_rule_weighs_range_and_participation(usual: float, now: float, shares: float, expected: float) -> None:
    """Mean x (0.5 + range / median of 20 before) x (1 + participation)."""
    draft = ranged(range(5, 25), usual).bar(25, 100.0, high=100.0 + now, low=100.0)
    assert by_rule(draft, shares) == pytest.approx(0.001 * expected)


def test_the_rule_looks_at_twenty_bars_not_twenty_minutes() -> None:
    """Minutes without a bar do not count: the median is of the last twenty bars before the signal's."""
    draft = ranged(range(26)).gap(6, 25)
    for minute in range(6):
        draft.bar(minute, 100.0, high=102.0, low=100.0)
    assert by_rule(draft) == pytest.approx(0.001 * (0.5 + 0.5))
    wide = ranged(range(46))
    for minute in range(25):
        wide.bar(minute, 100.0, high=150.0, low=100.0)
    assert by_rule(wide, minute=45) == pytest.approx(0.001 * 1.5)


def test_the_rule_knows_no_bar_after_the_signal() -> None:
    """What comes after the signal bar changes nothing."""
    assert by_rule(ranged(range(26))) == by_rule(ranged(range(26)).bar(26, 300.0, high=400.0, low=1.0))


def test_a_first_bar_and_an_unknown_volume_are_the_usual_and_the_worst() -> None:
    """Without bars before the range counts as usual; volume 0 or unknown counts as full participation."""
    assert by_rule(SessionDraft(), minute=0) == pytest.approx(0.001 * 1.5)
    for volume in (0.0, np.nan):
        assert by_rule(SessionDraft().bar(25, 100.0, volume=volume)) == pytest.approx(0.001 * 1.5 * 2)


def test_a_draw_depends_on_its_key_alone() -> None:
    """The same key gives the same draw; each part of the key gives another."""
    market = (SessionDraft().bars(), 0)

    def draw(model: Slippage = RANDOM, leg: Leg = Leg.ENTRY, **parts: Any) -> float:
        return model.fraction(identity(**parts), leg, market, 0.0)

    wide = attrs.evolve(RANDOM, mean=0.05)  # far from 0, where draws would be cut to the same value
    other_day = attrs.evolve(identity(), session=dt.date(2026, 1, 6))
    draws = [
        draw(wide),
        draw(attrs.evolve(wide, seed=1)),
        draw(wide, Leg.STOP),
        draw(wide, symbol="BBB"),
        draw(wide, minute=26),
        draw(wide, strategy="mid"),
        wide.fraction(other_day, Leg.ENTRY, market, 0.0),
    ]
    assert len(set(draws)) == len(draws)
    assert draw(wide) == draws[0]
    assert draw(wide, rule="other") == draws[0]


def test_draws_are_normal_and_never_in_our_favour() -> None:
    """Mean and deviation are the settings', and what lies under 0 is 0."""
    market = (SessionDraft().bars(), 0)
    far = attrs.evolve(RANDOM, mean=0.05, deviation=0.01)
    draws = [far.fraction(identity(minute=minute), Leg.EXIT, market, 0.0) for minute in range(4000)]
    assert mean(draws) == pytest.approx(0.05, abs=0.0005)
    assert stdev(draws) == pytest.approx(0.01, rel=0.05)
    near = attrs.evolve(RANDOM, mean=0.0)
    draws = [near.fraction(identity(minute=minute), Leg.EXIT, market, 0.0) for minute in range(400)]
    assert min(draws) == 0.0
    assert 0.4 < sum(draw == 0.0 for draw in draws) / len(draws) < 0.6


@pytest.mark.parametrize(
    ("ticks", "fraction", "buy", "expected"),
    [
        (1_000_000, 0.0, True, 1_000_000),
        (1_000_000, 0.0015, True, 1_001_500),
        (1_000_000, 0.0015, False, 998_500),
        (333_333, 0.0015, True, 333_833),  # 333,832.9995
        (333_333, 0.0015, False, 332_833),  # 332,833.0005
        (10_001, 0.0015, True, 10_017),  # 10,016.0015
        (10_001, 0.0015, False, 9_985),  # 9,985.9985
        (1, 0.5, False, 1),
        (1, 0.5, True, 2),
        (10_000, 1.5, False, 1),
    ],
)
def test_prices_are_rounded_against_us(ticks: int, fraction: float, buy: bool, expected: int) -> None:
    """A buy rounds up to 0.0001, a sale down, never under one tick."""
    assert slipped_price(ticks, fraction, buy=buy) == expected


@given(st.integers(1, 10**9), st.floats(0.0, 2.0), st.booleans())
def test_slippage_never_helps(ticks: int, fraction: float, buy: bool) -> None:
    """Whatever the fraction, a buy pays at least the price and a sale gets at most it; rounding costs under a tick."""
    got = slipped_price(ticks, fraction, buy=buy)
    assert got >= ticks if buy else 1 <= got <= max(1, ticks)
    exact = ticks * (1 + Fraction(fraction) if buy else 1 - Fraction(fraction))
    lost = got - exact if buy else max(Fraction(1), exact) - got
    assert -CLOSE <= lost < 1 + CLOSE


def test_settings_reach_the_model_exactly() -> None:
    """0.15 percent is 0.0015."""
    assert Slippage.of(SimulationSettings(slippage_mean_pct=Decimal("0.15"))).mean == 0.0015
