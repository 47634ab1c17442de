"""The simulated market: bars and daily facts of any session, from a seed and a date."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_broker_paper import path, plan
from tbot_core.model.bars import FIELDS, Array, Flags
from tbot_core.model.day_facts import DailyBars, DayFacts

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from tbot_core.model.calendar import ExchangeCalendar, Session

HISTORY: Final = 20
_ATR_SESSIONS: Final = 14
_MEMORY_SESSIONS: Final = 250
_DECAY: Final = 0.98
_COMPLETE: Final = 0.9
_SHORTS_RESTRICTED: Final = 0.9


@attrs.frozen(kw_only=True, eq=False)
class _Daily:
    # Data of a session for later ones: arrays (symbols), `so_far` (minutes, symbols); `counts`: the session is
    # complete.
    open: Array
    high: Array
    low: Array
    close: Array
    so_far: Array
    counts: Flags


class SimulatedMarket:
    """A market of fictitious companies; the same seed and date give the same session, in any order of requests."""

    def __init__(self, seed: int, calendar: ExchangeCalendar) -> None:
        """Open the market with a seed; `calendar` defines its sessions."""
        self._seed = seed
        self._calendar = calendar
        self._listed = plan.listing(seed)
        self._plans: dict[dt.date, plan.Plan] = {}
        self._daily: dict[dt.date, _Daily] = {}
        self._previous: dict[dt.date, Session] = {}

    def bars(self, session: Session) -> Mapping[str, Array]:
        """Open, high, low, close, volume and vwap of the session, each (minutes, symbols), NaN = no trade."""
        today = self._plan(session)
        # Mean reversion happens overnight.
        opening = np.log(self._listed.price) + self._level(session) - (today.total - today.gap)
        draw = plan.random_for(self._seed, "path", session.date.toordinal())
        return path.draw_session(draw, today, self._listed, opening, session.minutes)

    def day(self, session: Session, daily_bars: int = 0) -> DayFacts:
        """Facts known before the session's open, from the simulated sessions before it.

        Mean and typical volume cover 20 sessions, the ATR 14; VIX is the previous session's close.
        """
        sessions = self._before(session, max(HISTORY, daily_bars))
        found = [self._summary(earlier) for earlier in sessions]
        self._daily = {earlier.date: daily for earlier, daily in zip(sessions, found, strict=True)}
        days = found[-HISTORY:]
        last = days[-1]
        return DayFacts(
            previous_close=last.close,
            average_volume=_mean([daily.so_far[-1] for daily in days], [daily.counts for daily in days]),
            market_cap=np.rint(self._listed.shares * last.close),
            atr=_average_true_range(days[-_ATR_SESSIONS - 1 :]),
            vix=np.array([self._plan(sessions[-1]).vix]),
            restricted=last.low <= _SHORTS_RESTRICTED * days[-2].close,
            typical_volume=_typical(days, session.minutes),
            daily=_bars(found[-daily_bars:]) if daily_bars else None,
        )

    def _plan(self, session: Session) -> plan.Plan:
        if session.date not in self._plans:
            self._plans[session.date] = plan.plan(self._seed, session.date, session.minutes, self._listed)
        return self._plans[session.date]

    def _level(self, session: Session) -> Array:
        # The log distance of the session's close from each share's long-run value: the sum of decayed moves.
        sessions = (*self._before(session, _MEMORY_SESSIONS - 1), session)
        moves = np.array([self._plan(one).total for one in sessions])
        weights = _DECAY ** np.arange(len(sessions) - 1, -1, -1)
        level: Array = (moves * weights[:, None]).sum(axis=0)
        return level

    def _before(self, session: Session, count: int) -> list[Session]:
        sessions: list[Session] = []
        while len(sessions) < count:
            day = (sessions[-1] if sessions else session).date
            if day not in self._previous:
                self._previous[day] = self._calendar.previous(day)
            sessions.append(self._previous[day])
        return sessions[::-1]

    def _summary(self, session: Session) -> _Daily:
        if session.date in self._daily:
            return self._daily[session.date]
        bars = self.bars(session)
        traded = ~np.isnan(bars["close"])
        return _Daily(
            open=bars["open"][traded.argmax(axis=0), np.arange(traded.shape[1])],
            high=np.fmax.reduce(bars["high"]),
            low=np.fmin.reduce(bars["low"]),
            close=bars["close"][-1],
            so_far=np.cumsum(np.where(traded, bars["volume"], 0.0), axis=0),
            counts=traded.mean(axis=0) >= _COMPLETE,
        )


def _bars(days: list[_Daily]) -> DailyBars:
    prices = {name: np.stack([getattr(day, name) for day in days], axis=-1) for name in FIELDS[:-1]}
    return DailyBars(**prices, volume=np.stack([day.so_far[-1] for day in days], axis=-1))


def _mean(rows: list[Array], counts: list[Flags]) -> Array:
    counted = np.array(counts, dtype=np.float64)
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
    # Mean of cumulative volume by minute, (symbols, minutes); a shorter session counts for its own minutes.
    total, count = np.zeros((2, minutes, len(days[0].close)))
    for daily in days:
        until = min(minutes, len(daily.so_far))
        total[:until] += np.where(daily.counts, daily.so_far[:until], 0.0)
        count[:until] += daily.counts
    with np.errstate(invalid="ignore"):
        typical: Array = (total / count).T
    return typical
