"""The simulated market: the bars and facts of any session, from a seed and a date."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_broker_paper import path, plan
from tbot_core.model.bars import Array, DayFacts, Flags

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from tbot_core.model.calendar import ExchangeCalendar, Session

HISTORY: Final = 20
_ATR_SESSIONS: Final = 14
_MEMORY_SESSIONS: Final = 250
_RETAINED: Final = 0.98
_COMPLETE: Final = 0.9
_SHORTS_RESTRICTED: Final = 0.9


@attrs.frozen(kw_only=True, eq=False)
class _Daily:
    # A session's figures for later ones: arrays (symbols), `so_far` (minutes, symbols); `is_complete` flags.
    high: Array
    low: Array
    close: Array
    so_far: Array
    is_complete: Flags


class SimulatedMarket:
    """A market of fictitious companies; the same seed and date always give the same session."""

    def __init__(self, seed: int, calendar: ExchangeCalendar) -> None:
        """Create the market of a seed; `calendar` gives its sessions."""
        self._seed = seed
        self._calendar = calendar
        self._listed = plan.listing(seed)
        self._plans: dict[dt.date, plan.Plan] = {}
        self._daily: dict[dt.date, _Daily] = {}

    def bars(self, session: Session) -> Mapping[str, Array]:
        """Open, high, low, close, volume and vwap of the session, each (minutes, symbols), NaN = no trade."""
        today = self._plan(session)
        # The reversion to the long-run price happens overnight.
        opening = np.log(self._listed.price) + self._level(session) - (today.total - today.gap)
        draw = plan.random_for(self._seed, "path", session.date.toordinal())
        return path.draw_session(draw, today, self._listed, opening, session.minutes)

    def day(self, session: Session) -> DayFacts:
        """The facts known before the open, from the previous simulated sessions.

        Mean and typical volume are over 20 sessions, the ATR over 14; VIX is the previous session's close.
        """
        sessions = self._before(session, HISTORY)
        days = [self._summary(earlier) for earlier in sessions]
        self._daily = {earlier.date: daily for earlier, daily in zip(sessions, days, strict=True)}
        last = days[-1]
        return DayFacts(
            previous_close=last.close,
            average_volume=_mean([daily.so_far[-1] for daily in days], [daily.is_complete for daily in days]),
            market_cap=np.rint(self._listed.shares * last.close),
            atr=_average_true_range(days[-_ATR_SESSIONS - 1 :]),
            vix=np.array([self._plan(sessions[-1]).vix]),
            restricted=last.low <= _SHORTS_RESTRICTED * days[-2].close,
            typical_volume=_typical(days, session.minutes),
        )

    def _plan(self, session: Session) -> plan.Plan:
        if session.date not in self._plans:
            self._plans[session.date] = plan.plan(self._seed, session.date, session.minutes, self._listed)
        return self._plans[session.date]

    def _level(self, session: Session) -> Array:
        # The log distance of the session's close from the long-run price: a decaying sum of past moves.
        sessions = (*self._before(session, _MEMORY_SESSIONS - 1), session)
        moves = np.array([self._plan(one).total for one in sessions])
        weights = _RETAINED ** np.arange(len(sessions) - 1, -1, -1)
        level: Array = (moves * weights[:, None]).sum(axis=0)
        return level

    def _before(self, session: Session, count: int) -> list[Session]:
        found: list[Session] = []
        while len(found) < count:
            found.append(self._calendar.previous((found[-1] if found else session).date))
        return found[::-1]

    def _summary(self, session: Session) -> _Daily:
        if session.date in self._daily:
            return self._daily[session.date]
        bars = self.bars(session)
        traded = ~np.isnan(bars["close"])
        return _Daily(
            high=np.fmax.reduce(bars["high"]),
            low=np.fmin.reduce(bars["low"]),
            close=bars["close"][-1],
            so_far=np.cumsum(np.where(traded, bars["volume"], 0.0), axis=0),
            is_complete=traded.mean(axis=0) >= _COMPLETE,
        )


def _mean(rows: list[Array], is_complete: list[Flags]) -> Array:
    counted = np.array(is_complete, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        mean: Array = np.add.reduce(np.array(rows) * counted) / np.add.reduce(counted)
    return mean


def _average_true_range(days: list[_Daily]) -> Array:
    ranges = [
        np.maximum(today.high, before.close) - np.minimum(today.low, before.close)
        for before, today in itertools.pairwise(days)
    ]
    average: Array = np.add.reduce(np.array(ranges)) / len(ranges)
    return average


def _typical(days: list[_Daily], minutes: int) -> Array:
    # Mean cumulative volume by minute, (symbols, minutes); a short session counts for its own minutes.
    total, count = np.zeros((2, minutes, len(days[0].close)))
    for daily in days:
        until = min(minutes, len(daily.so_far))
        total[:until] += np.where(daily.is_complete, daily.so_far[:until], 0.0)
        count[:until] += daily.is_complete
    with np.errstate(invalid="ignore"):
        typical: Array = (total / count).T
    return typical
