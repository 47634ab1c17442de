"""What a session on a live feed may not do, and when a loss counts: the rules by themselves."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from tbot_core.clock import ManualClock
from tbot_core.model import Leg
from tbot_core.runner.guarding import DataGuard
from tbot_core.testing.trades import order, session

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


def test_nothing_is_sent_in_the_first_half_minute() -> None:
    """Entry or exit, before 09:30:30 it stays; after that both may leave."""
    clock = ManualClock(session().open + timedelta(seconds=29))
    guarding = guard(clock)
    legs = [order(leg, f"AAA {leg.value}") for leg in (Leg.ENTRY, Leg.EXIT)]
    assert [guarding.refusal(one) for one in legs] == ["nothing is sent in the first 30 s of a session"] * 2
    clock.advance(1.0)
    assert [guarding.refusal(one) for one in legs] == ["", ""]


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
