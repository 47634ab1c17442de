"""What a session on a live feed may not do, and when a loss counts: the rules by themselves."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tbot_core.clock import ManualClock
from tbot_core.runner.guarding import DataGuard, out_of_hours
from tbot_core.testing.trades import session

if TYPE_CHECKING:
    from tbot_core.conditions import Conditions
    from tbot_core.gathering import Gathering
    from tbot_core.runner.session import SessionRun
    from tbot_core.steadiness import SteadyClock


def guard(clock: ManualClock, desk: Any = None) -> DataGuard:
    """A guard of a session on data that are well."""
    well = SimpleNamespace(objection=lambda *_asked: None, unmarked=lambda *_asked: ())
    posts = [SimpleNamespace(desk=desk)]
    run = SimpleNamespace(session=session(), desk=desk, posts=posts, positions=[], tape=SimpleNamespace(closed=30))
    return DataGuard(
        cast("Gathering", SimpleNamespace(health=well)),
        cast("SessionRun", run),
        cast("Conditions", None),
        cast("SteadyClock", clock),
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-0.1, "the exchange is closed"),
        (0.0, "nothing is sent in the first 30 s of a session"),
        (29.9, "nothing is sent in the first 30 s of a session"),
        (30.0, ""),
        (23_399.9, ""),
        (23_400.0, "the exchange is closed"),
    ],
)
def test_nothing_is_sent_in_the_first_half_minute(seconds: float, words: str) -> None:
    """Entry or exit, before 09:30:30 and after the close it stays; between them both may leave."""
    assert out_of_hours(session(), session().open + timedelta(seconds=seconds)) == words


def test_a_breach_counts_when_two_marks_two_seconds_apart_agree() -> None:
    """One mark alone latches nothing, nor does one that was mended between."""
    clock = ManualClock(session().open + timedelta(minutes=30))
    desk = SimpleNamespace(
        breached=True, review=lambda: ["latched"], portfolio=SimpleNamespace(positions={}), custody=None
    )
    guarding = guard(clock, desk)
    assert guarding._mark() == []
    clock.advance(1.9)
    assert guarding._mark() == []
    desk.breached = False
    assert guarding._mark() == []
    desk.breached = True
    clock.advance(1.0)
    assert guarding._mark() == []
    clock.advance(2.0)
    assert guarding._mark() == ["latched"]
