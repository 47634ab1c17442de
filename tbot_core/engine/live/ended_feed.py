"""The feed of a session that has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.journal.projections.carryover import signalled_symbols as signalled
from tbot_core.model.calendar import Session
from tbot_core.model.day_facts import DayFacts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tbot_core.journal.store import Event
    from tbot_core.model.bars import MinuteSlice


@attrs.frozen(kw_only=True, eq=False)
class EndedFeed:
    """The feed of a session that has ended: it has the symbols of its signals, and sends nothing."""

    session: Session
    symbols: tuple[str, ...]
    day: DayFacts

    @classmethod
    def of(cls, session: Session, since: Sequence[Event]) -> EndedFeed:
        """The feed of a session, from the events since the last close."""
        found = signalled(since)
        return cls(session=session, symbols=found, day=DayFacts.unknown(len(found)))

    async def minutes(self) -> AsyncIterator[MinuteSlice]:
        """No minutes."""
        nothing: tuple[MinuteSlice, ...] = ()
        for minute in nothing:
            yield minute
