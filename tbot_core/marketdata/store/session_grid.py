"""Maps times to sessions and their minutes."""

from __future__ import annotations

import datetime as dt
from calendar import monthrange
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from tbot_core.model.bars import Flags, Index
    from tbot_core.model.calendar import ExchangeCalendar, Session

MINUTE_US: Final = 60_000_000
_SECOND_US: Final = 1_000_000


def month_sessions(calendar: ExchangeCalendar, month: str) -> tuple[Session, ...]:
    """The calendar's sessions of a month such as "2018-02"."""
    first = dt.date.fromisoformat(f"{month}-01")
    return calendar.sessions(first, first.replace(day=monthrange(first.year, first.month)[1]))


def times_of(frame: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The times `ts` of rows in microseconds since 1970 UTC."""
    return frame["ts"].to_numpy().view(np.int64)


class SessionGrid:
    """Sessions in order, at least one; times are microseconds since 1970 UTC."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.opens = np.array([int(session.open.timestamp()) * _SECOND_US for session in sessions], dtype=np.int64)
        self.lengths = np.array([session.minutes for session in sessions], dtype=np.int64)
        self.dates = np.array([session.date for session in sessions], dtype="datetime64[D]")

    def place(self, moments: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[Index, Index, Flags]:
        """Return each time's session (row) and minute, and whether it is in regular hours."""
        rows = self.rows(moments)
        minutes = (moments - self.opens[rows]) // MINUTE_US
        inside: Flags = (rows >= 0) & (minutes < self.lengths[rows])
        return rows, minutes, inside

    def rows(self, moments: np.ndarray[Any, np.dtype[np.int64]]) -> Index:
        """Return the last session that opened at or before each time; -1 for none."""
        return np.searchsorted(self.opens, moments, side="right") - 1
