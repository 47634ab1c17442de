"""Failover drills recorded in the journal, and how long one is valid.

Pure: events and times are passed in. A drill is valid for the same brokers in the same order.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.journal import records
from tbot_core.journal.events import failover as events
from tbot_core.journal.events.failover import FailoverDrilled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tbot_core.journal.projection import JournalEvent

DRILL_VALID_FOR: Final = timedelta(days=30)
"""How long a passed drill is valid."""


@attrs.frozen(kw_only=True)
class DrillStep:
    """One step of a drill, and its result."""

    what: str
    passed: bool
    words: str = ""


@attrs.frozen(kw_only=True)
class FailoverDrill:
    """A drill: brokers, settings hash, time and steps."""

    brokers: tuple[str, ...]
    settings: str
    time: datetime
    steps: tuple[DrillStep, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every step passed."""
        return all(step.passed for step in self.steps)

    @property
    def event(self) -> FailoverDrilled:
        """The journal's event of it."""
        steps = tuple(events.DrillStep(**attrs.asdict(step)) for step in self.steps)
        return FailoverDrilled(brokers=self.brokers, settings=self.settings, passed=self.passed, steps=steps)


def latest_drill(events: Iterable[JournalEvent], brokers: Sequence[str]) -> FailoverDrill | None:
    """The last drill of these brokers; None without one."""
    latest = None
    for event in events:
        if event.kind == records.DRILL and (drilled := event.facts(FailoverDrilled)).brokers == tuple(brokers):
            steps = tuple(DrillStep(**step.values) for step in drilled.steps)
            latest = FailoverDrill(brokers=drilled.brokers, settings=drilled.settings, time=event.applied, steps=steps)
    return latest


def drill_objection(drill: FailoverDrill | None, now: datetime) -> str:
    """Why the drill forbids entries at another broker; "" when it allows them."""
    if drill is None:
        return "no failover drill was run with these brokers"
    if not drill.passed:
        return f"the drill of {drill.time:%Y-%m-%d} failed"
    if now - drill.time > DRILL_VALID_FOR:
        return f"the last drill, of {drill.time:%Y-%m-%d}, is older than {DRILL_VALID_FOR.days} days"
    return ""
