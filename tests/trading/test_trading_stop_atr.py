"""STOP_ATR: stops measured in daily ranges, in the one helper that strategies share."""

from __future__ import annotations

import numpy as np
import pytest

from tbot_core.model.signals import TriggerHits


def hits(*sides: int) -> TriggerHits:
    """One hit a row."""
    count = len(sides)
    return TriggerHits(
        cells=(np.arange(count),),
        minute=np.full(count, 25),
        side=np.array(sides),
        strength=np.zeros(count),
        rule=np.zeros(count, dtype=np.intp),
        rules=("up",),
    )


@pytest.mark.parametrize(
    ("side", "distance", "stop"),
    [
        (1, 3.0, 97.0),
        (-1, 3.0, 103.0),
        (1, np.nan, 98.0),  # unknown: STOP_LOSS_PCT
        (1, 0.0, 98.0),  # off
        (1, 99.9999, 0.0001),
        (1, 100.0, 98.0),  # a stop at zero protects nothing
        (-1, 100.0, 102.0),
    ],
)
def test_a_distance_stands_in_place_of_the_fraction(side: int, distance: float, stop: float) -> None:
    """Where it is known, positive and smaller than the price; else the fraction of the price counts."""
    found = hits(side, side).stop_at(np.array([100.0, 100.0]), 0.02, np.array([distance, np.nan]))
    assert found.tolist() == [stop, 100.0 - side * 2.0]
    assert hits(side).stop_at(np.array([100.0]), 0.02).tolist() == [100.0 - side * 2.0]
