"""Levels, trails and what is due: where and when a position ends."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts.settings import ExitSettings as Policy
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import ExitReason, Side
from tbot_core.trading.exit_plan import ExitPlan, exit_due, make_exit_plan
from tbot_core.trading.price_grid import round_to_grid

NONE = float("nan")
LONG, SHORT = Side.LONG, Side.SHORT


def planned(side: Side = LONG, levels: tuple[float, float, float] = (100.0, 98.0, NONE), **more: Any) -> ExitPlan:
    """A plan; keywords are fields of the shape or of the policy."""
    shape = {name: value for name, value in more.items() if name in {"trigger", "trailing", "leave", "hold"}}
    policy = {name: value for name, value in more.items() if name not in shape}
    return make_exit_plan(side, levels, ExitRules(**shape), Policy(**policy))


@pytest.mark.parametrize(
    ("side", "levels", "stop", "target"),
    [
        (LONG, (100.0, 98.0, 103.0), 980_000, 1_030_000),
        (LONG, (100.0, 98.001, 103.001), 980_100, 1_030_100),  # the stop towards the price, the target beyond
        (SHORT, (100.0, 102.009, 97.009), 1_020_000, 970_000),
        (SHORT, (100.0, 102.0, NONE), 1_020_000, None),
        (LONG, (100.0, NONE, NONE), 980_000, None),  # STOP_LOSS_PCT stands in
        (SHORT, (100.0, NONE, NONE), 1_020_000, None),
        (LONG, (0.5, 0.48765, NONE), 4_877, None),  # under 1 USD the grid is 0.0001
        (LONG, (1.01, 0.99995, NONE), 10_000, None),  # across the dollar
        (SHORT, (0.999, 1.0049, NONE), 10_000, None),
    ],
)
def test_levels_lie_on_the_grid(side: Side, levels: tuple[float, float, float], stop: int, target: int | None) -> None:
    """Stops are rounded towards the price, targets away from it; a signal without a stop gets STOP_LOSS_PCT."""
    found = planned(side, levels)
    assert (found.stop, found.target) == (stop, target)
    assert found.price == round(levels[0] * 10_000)


@pytest.mark.parametrize(("side", "stop", "target"), [(LONG, 98.0, 1_030_000), (SHORT, 102.0, 970_000)])
def test_target_r_stands_in_place_of_the_strategys_target(side: Side, stop: float, target: int) -> None:
    """So many stop distances, whatever target the strategy named."""
    assert planned(side, (100.0, stop, 100.5), target_r=1.5).target == target


def test_trailing_stop_makes_every_stop_trail() -> None:
    """TRAILING_STOP, or the strategy's own shape."""
    assert not planned().trailing
    assert planned(trailing_stop=True).trailing
    assert planned(trailing=True).trailing


@pytest.mark.parametrize(
    ("price", "up", "expected"),
    [
        (1_000_000.0, True, 1_000_000),
        (1_000_000.0000001, True, 1_000_000),  # a binary tail is no step
        (1_000_001.0, True, 1_000_100),
        (1_000_099.0, False, 1_000_000),
        (9_999.5, True, 10_000),
        (10_000.5, True, 10_100),
        (0.2, False, 1),
        (-5.0, False, 1),
    ],
)
def test_the_grid(price: float, up: bool, expected: int) -> None:
    """0.01 USD from 1 USD up, 0.0001 below, at least one step."""
    assert round_to_grid(price, up=up) == expected


@pytest.mark.parametrize(
    ("high", "moved", "stop"),
    [
        (100.09, False, 980_000),  # 98.0882 rounds to 98.09: under 98.098
        (100.10, True, 981_000),  # 98.098 rounds to 98.10: a step of 0.1 % at least
        (101.0, True, 989_800),
        (99.0, False, 980_000),
        (NONE, False, 980_000),
    ],
)
def test_a_trail_moves_in_steps_of_a_thousandth(high: float, moved: bool, stop: int) -> None:
    """It follows the completed bar's high at its own relative distance, once that is 0.1 % more."""
    found = planned(trailing=True)
    if high == high:  # noqa: PLR0124 - NaN: no bar, nothing to follow
        assert found.trail(high, 99.0) is moved
    assert found.stop == stop


@pytest.mark.parametrize(
    ("side", "stop", "extremes", "moved"),
    [
        (LONG, 100.0, (125.12, 125.125), 1_001_000),  # 100.096 rounds to 100.10: exactly 0.1 % is a step
        (SHORT, 150.0, (124.88, 124.875), 1_498_500),  # 149.856 rounds to 149.85
    ],
)
def test_a_thousandth_is_a_step(side: Side, stop: float, extremes: tuple[float, float], moved: int) -> None:
    """A move of exactly 0.1 % counts."""
    for extreme in extremes:
        found = planned(side, (125.0, stop, NONE), trailing=True)
        assert found.trail(extreme, extreme)
        assert found.stop == moved


def test_a_short_trail_is_the_mirror() -> None:
    """It follows lows down, to 999/1000 at least."""
    found = planned(SHORT, (100.0, 102.0, NONE), trailing=True)
    assert not found.trail(101.0, 99.95)
    assert found.trail(101.0, 99.0)
    assert found.stop == 1_009_800
    assert not found.trail(120.0, 99.0)
    assert found.stop == 1_009_800


def test_a_stop_that_does_not_trail_stays() -> None:
    """Without trailing no bar moves it."""
    found = planned()
    assert not found.trail(200.0, 99.0)
    assert found.stop == 980_000


bars = st.lists(st.tuples(st.floats(50.0, 200.0), st.floats(0.0, 20.0)), max_size=30)


@given(bars, st.sampled_from([LONG, SHORT]))
def test_a_trail_never_loosens(walk: list[tuple[float, float]], side: Side) -> None:
    """Whatever price does, a stop only moves towards it, on the grid, in steps of at least 0.1 %."""
    found = planned(side, (100.0, 100.0 - 2 * side, NONE), trailing=True)
    for high, wide in walk:
        before = found.stop
        moved = found.trail(high, high - wide)
        assert side * (found.stop - before) >= 0
        assert moved == (found.stop != before)
        if moved:
            assert abs(found.stop - before) * 1000 >= before
            assert found.stop % 100 == 0


LEAVING = [
    # leave, hold, fill minute, due after minute
    (60, None, 26, 59),
    (None, 30, 26, 55),
    (60, 30, 26, 55),
    (40, 30, 26, 39),
    (None, 1, 26, 26),
    (None, None, 26, 384),
]


@pytest.mark.parametrize(("leave", "hold", "fill", "last"), LEAVING)
def test_the_exit_goes_with_its_bar_not_a_minute_later(
    leave: int | None, hold: int | None, fill: int, last: int
) -> None:
    """A window's end at leave, a holding time of M minutes after bar fill+M-1, the session's end: the first counts."""
    found = planned(leave=leave, hold=hold)
    found.on_entry_fill(fill)
    found.on_entry_fill(fill + 5)  # a second part of the entry does not start the time again
    reason = ExitReason.SESSION_END if leave is hold is None else ExitReason.TIME
    assert exit_due(found, last - 1, 385) is None
    assert exit_due(found, last, 385) is reason


def test_flattening_comes_before_every_other_reason() -> None:
    """After the bar before `flatten_from` everything is closed."""
    found = planned(leave=385, trigger="close")
    assert exit_due(found, 383, 385) is None
    assert exit_due(found, 384, 385) is ExitReason.SESSION_END


@pytest.mark.parametrize(
    ("side", "close", "passed"),
    [
        (LONG, 98.0001, False),
        (LONG, 98.0, True),
        (LONG, 90.0, True),
        (LONG, NONE, False),
        (SHORT, 101.9999, False),
        (SHORT, 102.0, True),
    ],
)
def test_a_stop_is_passed_by_a_close_at_it_or_beyond_it(side: Side, close: float, passed: bool) -> None:
    """A minute without a bar passes no stop."""
    found = planned(side, (100.0, 100.0 - 2 * side, NONE), trigger="close")
    assert (found.stop_passed(close), found.stop_reason) == (passed, ExitReason.STOP)


def test_a_trail_on_closes_says_so() -> None:
    """A close under a stop that has moved is a trailing stop's."""
    found = planned(trigger="close", trailing=True)
    assert found.trail(110.0, 100.0)
    assert (found.stop_passed(99.0), found.stop_reason) == (True, ExitReason.TRAILING_STOP)


def test_settings_have_the_contracts_defaults() -> None:
    """2 % stops, no trail, no R target."""
    assert (Policy().stop_loss_pct, Policy().trailing_stop, Policy().target_r) == (Decimal("0.02"), False, 0)


@pytest.mark.parametrize(
    ("side", "target", "high", "low", "met"),
    [
        (LONG, 103.0, 103.0, 99.0, True),
        (LONG, 103.0, 102.99, 99.0, False),
        (SHORT, 97.0, 101.0, 97.0, True),
        (SHORT, 97.0, 101.0, 97.01, False),
        (LONG, NONE, 200.0, 1.0, False),
        (LONG, 103.0, NONE, NONE, False),
    ],
)
def test_a_target_is_reached_when_a_bar_trades_at_it(
    side: Side, target: float, high: float, low: float, met: bool
) -> None:
    """The high of a long's bar, the low of a short's; without a target or a bar, never."""
    assert planned(side, (100.0, 100.0 - 2 * side, target)).target_reached(high, low) is met


@pytest.mark.parametrize(("side", "target", "stop"), [(Side.LONG, 104.0, 490_000), (Side.SHORT, 96.0, 510_000)])
def test_f43_a_split_moves_every_level(side: Side, target: float, stop: int) -> None:
    """Price, target and stop follow; a stop that had to act on closes rests again, one that was meant to does not."""
    found = planned(side, (100.0, 100.0 - 2 * side, target))
    found.on_close = True
    found.apply_split(Fraction(2))
    assert (found.price, found.stop, found.stop_at_first, found.target) == (500_000, stop, stop, round(target * 5_000))
    assert not found.on_close
    assert found.stop_reason is ExitReason.STOP
    meant = planned(side, (100.0, 100.0 - 2 * side, NONE), trigger="close")
    meant.apply_split(Fraction(2))
    assert meant.on_close


def test_f43_a_trail_goes_on_after_a_split() -> None:
    """The stop that was moved stays moved, and its distance is what it was."""
    found = planned(LONG, (100.0, 98.0, NONE), trailing=True)
    assert found.trail(110.0, 100.0)
    found.apply_split(Fraction(2))
    assert (found.stop, found.stop_reason) == (539_000, ExitReason.TRAILING_STOP)
    assert found.trail(60.0, 55.0)
    assert found.stop == 588_000
