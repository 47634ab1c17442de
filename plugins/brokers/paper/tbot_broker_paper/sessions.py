"""Sessions with bars in arrays, served minute by minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from tbot_broker_paper.history import SimulatedHistory
from tbot_core.model.bars import Array, MinuteSlice
from tbot_core.model.calendar import Session
from tbot_core.model.day_facts import DayFacts

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Sequence

    from tbot_core.contracts import Bar, DailyBar


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


@attrs.frozen(kw_only=True, eq=False)
class SimulatedSession:
    """A session of the simulated market in `rows`, and the sessions before it in `past`."""

    rows: RowSession
    past: SimulatedHistory

    @property
    def session(self) -> Session:
        """The exchange day."""
        return self.rows.session

    @property
    def symbols(self) -> tuple[str, ...]:
        """The session's symbols, sorted."""
        return self.rows.symbols

    @property
    def day(self) -> DayFacts:
        """The facts known before the open."""
        return self.rows.day

    def minutes(self) -> AsyncIterator[MinuteSlice]:
        """The minutes in order."""
        return self.rows.minutes()

    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        """The daily bars of the exchange days from `first` to `last`."""
        return self.past.daily(symbols, first, last)

    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        """The minute bars that start in [first, last)."""
        return self.past.history(symbols, first, last)
