"""Seeds from their beginning to their end: what must hold, holds, and a seed is always the same story."""

from __future__ import annotations

import pytest

from tbot_core.rehearsal.rehearsal import rehearse, shrink_faults

SEEDS = range(4)


@pytest.mark.slow
def test_the_first_seeds_violate_nothing() -> None:
    """Orders, fills, faults and deaths, and no invariant is broken."""
    verdicts = [rehearse(seed) for seed in SEEDS]
    assert [(seed, one.violations) for seed, one in zip(SEEDS, verdicts, strict=True) if one.violations] == []
    assert sum(one.orders for one in verdicts) > 0
    assert sum(one.fills for one in verdicts) > 0
    assert sum(one.deaths for one in verdicts) > 0
    assert len({fault for one in verdicts for fault in one.faults}) > 3


@pytest.mark.slow
def test_a_seed_is_the_same_story_every_time() -> None:
    """The same seed gives the same trace, another seed another one, and the same seed with fewer faults another."""
    whole = rehearse(3)
    assert rehearse(3) == whole
    assert rehearse(4).trace_hash != whole.trace_hash
    assert rehearse(3, ()).on == ()


def test_both_legs_of_a_bracket_fill_and_nothing_is_violated() -> None:
    """F38: a bot whose stop and target rest together has closed twice what it held, and makes good for it."""
    verdict = rehearse(70, ("F38",), live=False)
    assert verdict.faults["F38"] == 1
    assert verdict.violations == ()


@pytest.mark.slow
def test_a_process_that_dies_once_its_session_is_closed_does_not_trade_it_again() -> None:
    """The last append took effect, and the process that is started then has nothing left to do."""
    verdict = rehearse(4750, ())
    assert verdict.deaths == 2
    assert verdict.violations == ()


@pytest.mark.slow
def test_a_seed_without_a_violation_is_shrunk_to_itself() -> None:
    """Nothing is taken away that was not to blame."""
    whole = rehearse(1, ("F2",))
    assert shrink_faults(1, whole) == whole
