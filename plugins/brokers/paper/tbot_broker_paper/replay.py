"""Stored bars as a feed of sessions."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from tbot_broker_paper.sessions import RowSession
from tbot_core.marketdata.store.selection import select_symbols
from tbot_core.marketdata.store.store import BarStore
from tbot_core.model.bars import FIELDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tbot_core.contracts import FeedLabel, FeedRequest, FeedSession
    from tbot_core.marketdata.store.store import BarBlock
    from tbot_core.model.calendar import ExchangeCalendar

_COLUMNS: Final = (*FIELDS, "vwap")


class ReplayFeed:
    """The sessions of a range that have stored bars, in order."""

    def __init__(self, request: FeedRequest, calendar: ExchangeCalendar) -> None:
        """Select the range; raises DataError when it has no bars, ValueError for a request without a range."""
        if request.first is None or request.last is None or request.bars is None:
            message = "A replay needs its first and last day, and the folder of the bars."
            raise ValueError(message)
        self._range = first, last = request.first, request.last
        self._store = BarStore(folder=request.bars, calendar=calendar)
        self._extra = request.extra_facts
        self._selection = select_symbols(self._store, first, last, request.symbols, extra=self._extra)

    @property
    def label(self) -> FeedLabel:
        """A label for real prices; notes describe adjustments and limitations."""
        return self._selection.label

    async def sessions(self) -> AsyncIterator[FeedSession]:
        """Iterate over the sessions in order; holds one month in memory at a time."""
        for block, index in self._in_order():
            yield RowSession(
                session=block.sessions[index],
                symbols=self._selection.symbols,
                day=block.day.session(index),
                fields={name: block.bars.field(name)[:, index] for name in _COLUMNS},
                partial_volume=self._selection.partial_volume,
            )

    def _in_order(self) -> Iterator[tuple[BarBlock, int]]:
        blocks = self._store.blocks(*self._range, self._selection.symbols, extra=self._extra)
        for _, months in itertools.groupby(blocks, key=lambda block: block.month):
            found = [(block, index) for block in months for index in range(len(block.sessions))]
            yield from sorted(found, key=lambda pair: pair[0].sessions[pair[1]].date)
