"""Stored bars as a source of sessions."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from tbot_broker_paper.sessions import RowSession
from tbot_core.bars import FIELDS
from tbot_core.barstore.store import BarStore
from tbot_core.contracts import FeedLabel
from tbot_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tbot_core.barstore.store import Block
    from tbot_core.calendar import ExchangeCalendar
    from tbot_core.contracts import FeedRequest, FeedSession

_COLUMNS: Final = (*FIELDS, "vwap")
_NO_QUOTES: Final = "Stored bars have no quotes: NO_QUOTE, SPREAD_WIDE and the age of quotes do not apply."
_PARTIAL: Final = "Volumes are a part of the tape: VOLUME_LIMIT is off."
_ADJUSTED: Final = "Prices are adjusted ({}): price filters compare what was not traded at these prices."


class ReplayFeed:
    """The sessions of a range that have stored bars, in order."""

    def __init__(self, request: FeedRequest, calendar: ExchangeCalendar) -> None:
        """Look the range up; raises DataError where it has no bars, ValueError for a request that names no range."""
        if request.first is None or request.last is None or request.bars is None:
            message = "A replay needs its first and last day, and the folder of the bars."
            raise ValueError(message)
        self._range = first, last = request.first, request.last
        self._store = BarStore(folder=request.bars, calendar=calendar)
        self._typical_volume = request.typical_volume
        stored = self._store.symbols(first, last)
        self._symbols = tuple(sorted(set(request.symbols))) or stored
        absent = [symbol for symbol in self._symbols if symbol not in stored]
        if len(absent) == len(self._symbols):
            message = f"No bars of {', '.join(absent[:5]) or 'any symbol'} are stored from {first} to {last}."
            raise DataError(message, "See `tbot data list`; import bars with `tbot data import PATH`.")
        self._kinds = self._store.kinds(first, last, self._symbols)
        self._label = self._read_label(absent)

    @property
    def label(self) -> FeedLabel:
        """Real prices; notes say how they are adjusted and what they lack."""
        return self._label

    @property
    def partial_volume(self) -> bool:
        """Whether the volumes of some bars are a part of the tape."""
        return any(volume == "partial" for _, volume in self._kinds)

    async def sessions(self) -> AsyncIterator[FeedSession]:
        """The sessions in order; a month is in memory at a time."""
        for block, index in self._in_order():
            yield RowSession(
                session=block.sessions[index],
                symbols=self._symbols,
                day=block.day.session(index),
                fields={name: block.bars.field(name)[:, index] for name in _COLUMNS},
            )

    def _in_order(self) -> Iterator[tuple[Block, int]]:
        blocks = self._store.blocks(*self._range, self._symbols, typical_volume=self._typical_volume)
        for _, months in itertools.groupby(blocks, key=lambda block: block.month):
            found = [(block, index) for block in months for index in range(len(block.sessions))]
            yield from sorted(found, key=lambda pair: pair[0].sessions[pair[1]].date)

    def _read_label(self, absent: list[str]) -> FeedLabel:
        notes = [_NO_QUOTES]
        adjusted = sorted({adjustment for adjustment, _ in self._kinds if adjustment != "raw"})
        if adjusted:
            notes.append(_ADJUSTED.format(", ".join(adjusted)))
        if self.partial_volume:
            notes.append(_PARTIAL)
        if absent:
            notes.append(f"No bars are stored of {', '.join(absent)}.")
        return FeedLabel(
            name="stored bars",
            simulated=False,
            quotes=False,
            notes=tuple(notes),
            data_hash=self._store.data_hash(*self._range, self._symbols, typical_volume=self._typical_volume),
        )
