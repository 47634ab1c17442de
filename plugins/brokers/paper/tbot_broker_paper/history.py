"""The past of the simulated market: its daily and minute bars, on any days."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import numpy as np

from tbot_broker_paper.companies import SYMBOLS
from tbot_core.contracts import Bar, DailyBar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tbot_broker_paper.market import SimulatedMarket
    from tbot_core.model.bars import Array
    from tbot_core.model.calendar import ExchangeCalendar, Session

_PRICES: Final = ("open", "high", "low", "close", "volume", "vwap")
_ONE_DAY: Final = dt.timedelta(days=1)


class SimulatedHistory:
    """The bars of past sessions; every exchange day has some, and they equal those of the session when it is traded."""

    def __init__(self, market: SimulatedMarket, calendar: ExchangeCalendar) -> None:
        """Serve the sessions of this market."""
        self._market = market
        self._calendar = calendar

    def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> list[DailyBar]:
        """The daily bars of the exchange days from `first` to `last`, both included; unlisted symbols have none."""
        sessions = self._calendar.sessions(first, last)
        days = [(session.date, self._market.bars(session)) for session in sessions]
        return [_daily_bar(symbol, day, fields, column) for symbol, column in _listed(symbols) for day, fields in days]

    def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> list[Bar]:
        """The minute bars that start in [first, last); unlisted symbols have none."""
        sessions = self._calendar.sessions(first.date() - _ONE_DAY, last.date())
        parts = [
            (session, self._market.bars(session))
            for session in sessions
            if session.open < last and first < session.close
        ]
        bars = (
            bar
            for _, column in _listed(symbols)
            for session, fields in parts
            for bar in _minute_bars(session, fields, column)
        )
        return [bar for bar in bars if first <= bar.start < last]


def _listed(symbols: Sequence[str]) -> Iterator[tuple[str, int]]:
    return ((symbol, SYMBOLS.index(symbol)) for symbol in symbols if symbol in SYMBOLS)


def _daily_bar(symbol: str, day: dt.date, fields: Mapping[str, Array], column: int) -> DailyBar:
    values = {name: fields[name][:, column] for name in _PRICES}
    traded = ~np.isnan(values["close"])
    return DailyBar(
        symbol=symbol,
        date=day,
        open=float(values["open"][traded][0]),
        high=float(values["high"][traded].max()),
        low=float(values["low"][traded].min()),
        close=float(values["close"][traded][-1]),
        volume=float(values["volume"][traded].sum()),
    )


def _minute_bars(session: Session, fields: Mapping[str, Array], column: int) -> Iterator[Bar]:
    rows = np.array([fields[name][:, column] for name in _PRICES]).T
    for minute in np.flatnonzero(~np.isnan(rows[:, _PRICES.index("close")])).tolist():
        values = dict(zip(_PRICES, rows[minute].tolist(), strict=True))
        yield Bar(symbol=SYMBOLS[column], start=session.moment(minute), **values)
