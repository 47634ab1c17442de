"""A session with bars in arrays, served minute by minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from tbot_core.model.bars import Array, DayFacts, MinuteSlice
from tbot_core.model.calendar import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@attrs.frozen(kw_only=True, eq=False)
class RowSession:
    """A feed's session; `fields` maps open, high, low, close, volume and vwap to (minutes, symbols) arrays.

    `partial_volume`: the symbols whose volumes are a part of the tape.
    """

    session: Session
    symbols: tuple[str, ...]
    day: DayFacts
    fields: Mapping[str, Array]
    partial_volume: frozenset[str] = frozenset()

    async def minutes(self) -> AsyncIterator[MinuteSlice]:
        """Iterate over the minutes in order, as views of the rows."""
        for index in range(self.session.minutes):
            yield MinuteSlice(index=index, **{name: rows[index] for name, rows in self.fields.items()})
