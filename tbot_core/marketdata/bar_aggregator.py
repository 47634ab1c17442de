"""Collects the bars of a running session, and builds closed minutes from them.

A minute contains the bars received before it was closed, each as first received. Later bars are kept as amendments:
strategies see them from then on, and nothing is traded on them. A VWAP outside the bar's range (`bars.VWAP_BEYOND`) is
discarded.
"""

from __future__ import annotations

import math
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.model.bars import FIELDS, VWAP_BEYOND, Array, MinuteSlice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import Bar

_COLUMNS: Final = (*FIELDS, "vwap")


class BarArrival(StrEnum):
    """How a received bar relates to earlier ones."""

    FIRST = "first"
    LATE = "late"
    FILLED = "back-filled"
    REVISED = "revised"
    DUPLICATE = "duplicate"
    OUTSIDE = "outside"


@attrs.frozen(kw_only=True, eq=False)
class BarAmendment:
    """A bar that came after its minute was closed, or that revises an earlier one.

    `row` is the symbol's; `values` are in the order of the tape.
    """

    minute: int
    row: int
    values: Array
    arrival: BarArrival


class BarAggregator:
    """Builds the minutes of one session; `next_minute` is the next to be closed.

    `counts`: number of bars by arrival.
    """

    def __init__(self, symbols: tuple[str, ...], minutes: int) -> None:
        self.next_minute = 0
        self.minutes = minutes
        self.counts: Counter[BarArrival] = Counter()
        self._rows = {symbol: row for row, symbol in enumerate(symbols)}
        self._symbols = symbols
        self._first = np.full((minutes, len(symbols), len(_COLUMNS)), np.nan)
        self._waiting: list[BarAmendment] = []
        self._revised: list[BarAmendment] = []

    @property
    def is_next_complete(self) -> bool:
        """Whether every symbol's bar of the next minute has been received."""
        return self.next_minute < self.minutes and self.is_complete(self.next_minute)

    def is_complete(self, minute: int) -> bool:
        """Whether every symbol's bar of a minute has been received."""
        return not bool(np.isnan(self._close(minute)).any())

    def add_bar(self, bar: Bar, minute: int, *, filled: bool = False) -> BarArrival:
        """Add a bar of a minute of the session; `filled`: it was requested after a gap."""
        arrival = self._classify(bar, minute, filled=filled)
        self.counts[arrival] += 1
        return arrival

    def close_minute(self) -> MinuteSlice:
        """Close and return the next minute; its further bars are late."""
        minute = self.next_minute
        self.next_minute += 1
        rows = self._first[minute].T.copy()
        return MinuteSlice(index=minute, **dict(zip(_COLUMNS, rows, strict=True)))

    def pop_late_bars(self) -> list[BarAmendment]:
        """The bars received after their minute was closed, since the last call."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def pop_revisions(self) -> list[BarAmendment]:
        """The revisions of earlier bars since the last call; they are only recorded."""
        revised, self._revised = self._revised, []
        return revised

    def restore_minute(self, minute: MinuteSlice, late: Sequence[BarAmendment]) -> None:
        """Restore the next minute as it was closed before a restart, and the bars that were late by then."""
        self._first[minute.index] = np.array([getattr(minute, name) for name in _COLUMNS]).T
        for one in late:
            self._first[one.minute, one.row] = one.values
        self._waiting += late

    def _classify(self, bar: Bar, minute: int, *, filled: bool) -> BarArrival:
        row = self._rows.get(bar.symbol)
        values = np.array([*(getattr(bar, name) for name in FIELDS), math.nan if bar.vwap is None else bar.vwap])
        if row is None or not 0 <= minute < self.minutes or not _sane(values):
            return BarArrival.OUTSIDE
        if not bar.low * (1 - VWAP_BEYOND) <= values[-1] <= bar.high * (1 + VWAP_BEYOND):
            values[-1] = math.nan
        known = self._first[minute, row]
        if np.isnan(known[0]):
            self._first[minute, row] = values
            if minute >= self.next_minute:
                return BarArrival.FIRST
            arrival = BarArrival.FILLED if filled else BarArrival.LATE
            self._waiting.append(BarAmendment(minute=minute, row=row, values=values, arrival=arrival))
            return arrival
        if np.array_equal(known, values, equal_nan=True):
            return BarArrival.DUPLICATE
        self._revised.append(BarAmendment(minute=minute, row=row, values=values, arrival=BarArrival.REVISED))
        return BarArrival.REVISED

    def _close(self, minute: int) -> Array:
        closes: Array = self._first[minute, :, _COLUMNS.index("close")]
        return closes


def _sane(values: Array) -> bool:
    # Whether the values form a valid bar: finite, positive prices, high and low enclose open and close.
    opened, high, low, close, volume, vwap = (float(value) for value in values)
    finite = all(math.isfinite(value) for value in (opened, high, low, close, volume))
    return (
        finite
        and 0 < low <= min(opened, close)
        and max(opened, close) <= high
        and volume >= 0
        and not math.isinf(vwap)
        and not vwap <= 0
    )
