"""The VIX at the start of a strategy's entries in live sessions (VIX_SOURCE=live), from the journal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import attrs
import numpy as np

from tbot_core.journal import records
from tbot_core.journal.store import read_journal
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date
    from pathlib import Path

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.model.day_facts import DayFacts

RecordedVix: TypeAlias = "dict[tuple[str, str], float]"
"""Points by session date and strategy; NaN where unknown."""


def recorded_vix(events: Iterable[JournalEvent]) -> RecordedVix:
    """Read the values from events."""
    seen = (event.payload for event in events if event.kind == records.VIX)
    return {(one["session"], one["strategy"]): math.nan if one["value"] is None else one["value"] for one in seen}


def recorded_vix_in(path: Path) -> RecordedVix:
    """Read the values from the journal at a path; empty without a file."""
    if not filesystem.exists(path):
        return {}
    journal = read_journal(path)
    try:
        return recorded_vix(journal.events(kind=records.VIX))
    finally:
        journal.close()


def with_recorded_vix(day: DayFacts, dates: Sequence[date], strategy: str, known: RecordedVix) -> DayFacts:
    """Replace the VIX of the sessions for which a strategy's value was recorded."""
    if not known:
        return day
    rows = {row: known[key] for row, day_ in enumerate(dates) if (key := (day_.isoformat(), strategy)) in known}
    if not rows:
        return day
    points = day.vix.reshape(len(dates), -1).copy()
    for row, value in rows.items():
        points[row] = value
    return attrs.evolve(day, vix=np.reshape(points, day.vix.shape))
