"""Drills: what one says, and for how long it counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest

from tbot_core.journal import codec, records
from tbot_core.journal.projection import TypedEvent
from tbot_core.journal.projections.failover_drills import (
    DRILL_VALID_FOR,
    DrillStep,
    FailoverDrill,
    drill_objection,
    latest_drill,
)

NOW = datetime(2026, 3, 3, 15, 0, tzinfo=UTC)
BROKERS = ("alpha", "beta")


@attrs.frozen
class Said(TypedEvent):
    """An event."""

    kind: str
    payload: records.Payload
    applied: datetime
    cid: str | None = None


def drill(*passed: bool, days: float = 0.0, brokers: tuple[str, ...] = BROKERS) -> FailoverDrill:
    """A drill of so many steps, held so many days ago."""
    steps = tuple(DrillStep(what=f"step {number}", passed=one) for number, one in enumerate(passed))
    return FailoverDrill(brokers=brokers, settings="abc", time=NOW - timedelta(days=days), steps=steps)


def test_the_last_drill_of_the_same_brokers_in_their_order_counts() -> None:
    """One of other brokers, or of the same in another order, says nothing of these."""
    held = [drill(False, days=3), drill(True, days=2), drill(True, brokers=("beta", "alpha"))]
    told = [Said(records.DRILL, codec.write(one.event), one.time) for one in held]
    assert latest_drill([*told, Said(records.READY, {}, NOW)], BROKERS) == held[1]
    assert latest_drill(told, ("alpha",)) is None


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (None, "no failover drill was run with these brokers"),
        (drill(True, False, days=1), "the drill of 2026-03-02 failed"),
        (drill(True, days=DRILL_VALID_FOR.days), ""),
        (drill(True, days=DRILL_VALID_FOR.days + 0.01), "the last drill, of 2026-02-01, is older than 30 days"),
    ],
)
def test_a_drill_counts_for_thirty_days_when_every_step_was_passed(held: FailoverDrill | None, words: str) -> None:
    """The words say what is missing."""
    assert drill_objection(held, NOW) == words
