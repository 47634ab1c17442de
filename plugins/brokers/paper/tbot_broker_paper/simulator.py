"""The simulated market as a feed, for demonstrations and for paper trading without data."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import TYPE_CHECKING, Final

import numpy as np

from tbot_broker_paper.companies import SYMBOLS
from tbot_broker_paper.history import SimulatedHistory
from tbot_broker_paper.market import SimulatedMarket
from tbot_broker_paper.sessions import RowSession, SimulatedSession
from tbot_core.contracts import FeedLabel
from tbot_core.errors import DataError
from tbot_core.model.calendar import ExchangeCalendar

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator

    from tbot_core.contracts import FeedRequest, FeedSession
    from tbot_core.model.calendar import Override, Session
    from tbot_core.model.clock import Clock

GENERATION: Final = 1
"""Increased whenever the same seed gives other prices."""

_NOTES: Final = (
    "Prices, volumes, capitalisation and VIX are simulated; companies and symbols are fictitious.",
    "There are no quotes: NO_QUOTE, SPREAD_WIDE and the age of quotes do not apply.",
)


class SimulatedFeed:
    """Simulated sessions from a first exchange day on; it never waits."""

    def __init__(self, request: FeedRequest, first: Session, calendar: ExchangeCalendar) -> None:
        """Serve `request.sessions` sessions; raises DataError for an unlisted symbol."""
        self._symbols = tuple(sorted(request.symbols)) or SYMBOLS
        _must_be_listed(self._symbols)
        self._first = first
        self._count = request.sessions
        self._calendar = calendar
        self._extra = request.extra_facts
        self._market = _market(request.seed, calendar.weekdays, tuple(sorted(calendar.overrides.items())))
        self._seed = request.seed

    @property
    def label(self) -> FeedLabel:
        """A label for simulated prices; the hash covers seed, first day, number of sessions and symbols."""
        what = ["simulated market", GENERATION, self._seed, self._first.date.isoformat(), self._count, self._symbols]
        return FeedLabel(
            name="simulated market",
            simulated=True,
            quotes=False,
            notes=_NOTES,
            data_hash=hashlib.sha256(json.dumps(what).encode()).hexdigest(),
        )

    async def sessions(self) -> AsyncIterator[FeedSession]:
        """Iterate over the sessions in order; each is drawn on request."""
        session = self._first
        for number in range(self._count):
            if number:
                session = self._calendar.next(session.date)
            yield self.session(session)

    def session(self, session: Session) -> SimulatedSession:
        """The bars and facts of one session."""
        columns = np.array([SYMBOLS.index(symbol) for symbol in self._symbols])
        fields = {name: np.ascontiguousarray(rows[:, columns]) for name, rows in self._market.bars(session).items()}
        day = self._market.day(session, self._extra.daily_bars).symbols(columns)
        rows = RowSession(session=session, symbols=self._symbols, day=day, fields=fields)
        return SimulatedSession(rows=rows, past=SimulatedHistory(self._market, self._calendar))


class LiveSimulatedFeed:
    """The simulated session of today, after its close the next one; its minutes come at once, and the core waits."""

    def __init__(self, request: FeedRequest, calendar: ExchangeCalendar, clock: Clock) -> None:
        """Raises DataError for an unlisted symbol."""
        self._calendar, self._clock = calendar, clock
        self._market = SimulatedFeed(request, calendar.current(clock.now()), calendar)

    @property
    def label(self) -> FeedLabel:
        """That of simulated prices."""
        return self._market.label

    async def sessions(self) -> AsyncIterator[FeedSession]:
        """The one session."""
        yield self._market.session(self._calendar.current(self._clock.now()))


@functools.lru_cache(maxsize=4)
def _market(seed: int, weekdays: frozenset[int], overrides: tuple[tuple[dt.date, Override], ...]) -> SimulatedMarket:
    # Kept: the 20 sessions before the first one take half a second to draw.
    return SimulatedMarket(seed, ExchangeCalendar(weekdays=weekdays, overrides=dict(overrides)))


def _must_be_listed(symbols: tuple[str, ...]) -> None:
    strangers = [symbol for symbol in symbols if symbol not in SYMBOLS]
    if strangers:
        message = f"The simulated market does not list {', '.join(strangers)}."
        raise DataError(message, f"It lists {', '.join(SYMBOLS)}; real symbols need stored bars or DATA_SOURCE.")
