"""The VIX as live sessions saw it when a strategy's entries began (VIX_SOURCE=live): as a journal says it."""

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

    from tbot_core.journal.projections.book import JournalEvent
    from tbot_core.model.bars import DayFacts

RecordedVix: TypeAlias = "dict[tuple[str, str], float]"
"""Points by a session's date and a strategy; NaN where it was unknown."""


def recorded_vix(events: Iterable[JournalEvent]) -> RecordedVix:
    """What these events say."""
    seen = (event.payload for event in events if event.kind == records.VIX)
    return {(one["session"], one["strategy"]): math.nan if one["value"] is None else one["value"] for one in seen}


def recorded_vix_in(path: Path) -> RecordedVix:
    """What the journal at a path says; nothing where there is none."""
    if not filesystem.exists(path):
        return {}
    journal = read_journal(path)
    try:
        return recorded_vix(journal.events(kind=records.VIX))
    finally:
        journal.close()


def with_recorded_vix(day: DayFacts, dates: Sequence[date], strategy: str, known: RecordedVix) -> DayFacts:
    """The facts of sessions as a strategy saw them: with the VIX that was told, where one was."""
    rows = {row: known[key] for row, day_ in enumerate(dates) if (key := (day_.isoformat(), strategy)) in known}
    if not rows:
        return day
    points = day.vix.reshape(len(dates), -1).copy()
    for row, value in rows.items():
        points[row] = value
    return attrs.evolve(day, vix=np.reshape(points, day.vix.shape))
