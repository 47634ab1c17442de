"""Drills: what one says, and for how long it counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest

from tbot_core.journal import records
from tbot_core.journal.projections.failover_drills import COUNTS, Drill, Step, latest, objection

NOW = datetime(2026, 3, 3, 15, 0, tzinfo=UTC)
BROKERS = ("alpha", "beta")


@attrs.frozen
class Said:
    """An event."""

    kind: str
    payload: records.Payload
    applied: datetime
    cid: str | None = None


def drill(*passed: bool, days: float = 0.0, brokers: tuple[str, ...] = BROKERS) -> Drill:
    """A drill of so many steps, held so many days ago."""
    steps = tuple(Step(what=f"step {number}", passed=one) for number, one in enumerate(passed))
    return Drill(brokers=brokers, settings="abc", time=NOW - timedelta(days=days), steps=steps)


def test_the_last_drill_of_the_same_brokers_in_their_order_counts() -> None:
    """One of other brokers, or of the same in another order, says nothing of these."""
    held = [drill(False, days=3), drill(True, days=2), drill(True, brokers=("beta", "alpha"))]
    told = [Said(records.DRILL, one.payload(), one.time) for one in held]
    assert latest([*told, Said(records.READY, {}, NOW)], BROKERS) == held[1]
    assert latest(told, ("alpha",)) is None


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (None, "failover was never tried with these brokers"),
        (drill(True, False, days=1), "the drill of 2026-03-02 was not passed"),
        (drill(True, days=COUNTS.days), ""),
        (drill(True, days=COUNTS.days + 0.01), "the last drill, of 2026-02-01, is older than 30 days"),
    ],
)
def test_a_drill_counts_for_thirty_days_when_every_step_was_passed(held: Drill | None, words: str) -> None:
    """The words say what is missing."""
    assert objection(held, NOW) == words
