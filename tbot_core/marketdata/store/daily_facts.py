"""Facts known before a session opens, computed from daily rows of earlier sessions.

Each session's facts depend only on its look-back and are summed in a fixed order, so they are bit-equal for any
requested range.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts.feed import Split
from tbot_core.marketdata.store.manifest import FIRST_ADJUSTED
from tbot_core.marketdata.store.recorded_facts import MARKET_CAP, RecordedFacts
from tbot_core.model import calendar as exchange
from tbot_core.model.bars import FIELDS, Array, Flags, Index
from tbot_core.model.day_facts import DailyBars, Dates, DayFacts
from tbot_core.model.types import TICKS_PER_DOLLAR

if TYPE_CHECKING:
    from tbot_core.contracts import DailyBar
    from tbot_core.model.calendar import ExchangeCalendar, Session

_VOLUME_SESSIONS: Final = 20

_LEAST_VOLUME_SESSIONS: Final = 5

_ATR_SESSIONS: Final = 14

LOOK_BACK: Final = _VOLUME_SESSIONS + 1

_HOLIDAYS: Final = 14  # with half a day more for each session, as many calendar days as any sessions take


@attrs.frozen(kw_only=True, eq=False)
class DailyAggregates:
    """Daily rows as arrays of shape (sessions, symbols) over consecutive sessions; NaN and 0 bars mean none.

    `kind` tells which prices and volumes are comparable (-1: none stored). `minutes`: each session's length. `shares`:
    how many shares one share of the first session has become.
    """

    minutes: Index
    bars: Index
    kind: Index
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    shares: Array

    def replace_session(self, row: int, bars: Mapping[str, Array]) -> None:
        """Replace the daily rows of a session by those of these minute bars, fields of shape (minutes, symbols)."""
        known = ~np.isnan(bars["close"])
        count = known.sum(axis=0)
        last = len(known) - 1 - known[::-1].argmax(axis=0)
        columns = np.arange(len(count))
        self.bars[row] = count
        self.open[row] = bars["open"][known.argmax(axis=0), columns]
        self.high[row], self.low[row] = np.fmax.reduce(bars["high"]), np.fmin.reduce(bars["low"])
        self.close[row] = bars["close"][last, columns]
        self.volume[row] = np.where(count, np.nansum(bars["volume"], axis=0), np.nan)


@attrs.frozen(kw_only=True)
class ReferenceFacts:
    """Facts that do not come from bars: VIX daily closes, splits, and dated facts about symbols."""

    vix: Mapping[dt.date, float]
    splits: tuple[Split, ...] = ()
    recorded: RecordedFacts = attrs.field(factory=RecordedFacts)


def look_back_sessions(calendar: ExchangeCalendar, day: dt.date, sessions: int = LOOK_BACK) -> tuple[Session, ...]:
    """The sessions before a day on which its facts depend; fewer at the calendar's start."""
    start = max(exchange.FIRST_DAY, day - dt.timedelta(days=sessions * 3 // 2 + _HOLIDAYS))
    return calendar.every_weekday.sessions(start, day - dt.timedelta(days=1))[-sessions:]


def full_enough(bars: Index, minutes: Index) -> Flags:
    """Whether sessions hold at least 90 % of their minutes, and so count for mean volumes."""
    enough: Flags = bars * 10 >= minutes * 9
    return enough


def day_facts(
    daily: DailyAggregates, sessions: Sequence[Session], symbols: tuple[str, ...], sources: ReferenceFacts
) -> DayFacts:
    """Compute the facts of all sessions of `daily`, in the same order; leading axes (sessions, symbols)."""
    adjusted = daily.kind >= FIRST_ADJUSTED
    daily = attrs.evolve(daily, kind=_carried(daily.kind))
    closes = _price_before(daily, daily.close, 1)
    dates = [session.date for session in sessions]
    recorded = dict(sources.recorded.at(dates, symbols))
    return DayFacts(
        previous_close=closes,
        average_volume=_average_volume(daily),
        market_cap=recorded.pop(MARKET_CAP, np.full(closes.shape, np.nan)),
        atr=_atr(daily, closes),
        vix=_vix(sessions, sources),
        restricted=_restricted(daily, closes),
        adjusted=adjusted if adjusted.any() else None,
        date=np.array(dates, dtype="datetime64[D]")[:, None],
        recorded=recorded,
    )


def facts_from_daily_bars(
    bars: Iterable[DailyBar], sessions: Sequence[Session], symbols: tuple[str, ...], sources: ReferenceFacts
) -> DayFacts:
    """Compute the facts of the last session from daily bars of those before it; leading axes (symbols).

    `sessions` are the look-back and the session itself. A day counts as complete; an invalid bar counts as none.
    """
    daily = _raw_aggregates(bars, sessions, symbols, sources)
    return day_facts(daily, sessions, symbols, sources).session(len(sessions) - 1)


def last_daily_bars(
    bars: Iterable[DailyBar], sessions: Sequence[Session], symbols: tuple[str, ...], sources: ReferenceFacts
) -> DailyBars:
    """The bars of all sessions before the last one, from those as they were traded; leading axes (symbols)."""
    daily, last = _raw_aggregates(bars, sessions, symbols, sources), len(sessions) - 1
    return daily_bars(daily, [last], last).each(lambda values: values[0])


def daily_bars(daily: DailyAggregates, rows: Sequence[int], days: int) -> DailyBars:
    """The bars of the `days` sessions before each of these rows; leading axes (rows, symbols)."""
    kind, wanted = _carried(daily.kind), np.array(rows, dtype=np.intp)
    before = wanted[:, None] + np.arange(-days, 0)
    there, before = before >= 0, np.maximum(before, 0)
    comparable = there[..., None] & (kind[before] == kind[wanted][:, None])
    shares = daily.shares[wanted][:, None] / daily.shares[before]

    def windows(name: str) -> Array:
        values = getattr(daily, name)[before]
        values = values * shares if name == "volume" else values / shares
        return np.moveaxis(np.where(comparable, values, np.nan), 1, -1)

    return DailyBars(**{name: windows(name) for name in FIELDS})


def volume_session_flags(daily: DailyAggregates) -> list[Flags]:
    """For each session, flags (earlier sessions, symbols), oldest first: those that its mean volume counts."""
    enough = full_enough(daily.bars, daily.minutes[:, None])
    kind = _carried(daily.kind)
    flags = []
    for row in range(len(kind)):
        start = max(0, row - _VOLUME_SESSIONS)
        flags.append(enough[start:row] & (kind[start:row] == kind[row]))
    return flags


def mean_or_unknown(total: Array, count: Array) -> Array:
    """The mean where at least 5 sessions count, else NaN."""
    mean: Array = np.divide(total, count, out=np.full(total.shape, np.nan), where=count >= _LEAST_VOLUME_SESSIONS)
    return mean


def share_counts(splits: Iterable[Split], days: Dates, symbols: Sequence[str]) -> Array:
    """How many shares one share from before all splits is on each day, shape (days, symbols)."""
    counts, columns = np.ones((len(days), len(symbols))), {symbol: column for column, symbol in enumerate(symbols)}
    for split in splits:
        if split.symbol in columns:
            counts[days >= np.datetime64(split.date, "D"), columns[split.symbol]] *= split.after / split.before
    return counts


def _raw_aggregates(
    bars: Iterable[DailyBar], sessions: Sequence[Session], symbols: tuple[str, ...], sources: ReferenceFacts
) -> DailyAggregates:
    rows = {session.date: row for row, session in enumerate(sessions[:-1])}
    columns = {symbol: column for column, symbol in enumerate(symbols)}
    values = {name: np.full((len(sessions), len(symbols)), np.nan) for name in FIELDS}
    for bar in bars:
        row, column = rows.get(bar.date), columns.get(bar.symbol)
        is_valid = 0 < bar.low <= min(bar.open, bar.close) and max(bar.open, bar.close) <= bar.high < math.inf
        if row is not None and column is not None and is_valid and 0 <= bar.volume < math.inf:
            for name, field in values.items():
                field[row, column] = getattr(bar, name)
    minutes = np.array([session.minutes for session in sessions], dtype=np.intp)
    known = ~np.isnan(values["close"])
    return DailyAggregates(
        minutes=minutes,
        kind=np.zeros(known.shape, dtype=np.intp),
        bars=known * minutes[:, None],
        shares=share_counts(
            sources.splits, np.array([session.date for session in sessions], dtype="datetime64[D]"), symbols
        ),
        **values,
    )


def _average_volume(daily: DailyAggregates) -> Array:
    enough = full_enough(daily.bars, daily.minutes[:, None])
    total = np.zeros(daily.volume.shape)
    count = np.zeros(daily.volume.shape)
    for lag in range(_VOLUME_SESSIONS, 0, -1):
        volume = _volume_before(daily, np.where(enough, daily.volume, np.nan), lag)
        known = ~np.isnan(volume)
        total += np.where(known, volume, 0.0)
        count += known
    return mean_or_unknown(total, count)


def _atr(daily: DailyAggregates, closes: Array) -> Array:
    ranges = np.maximum(daily.high - daily.low, np.maximum(np.abs(daily.high - closes), np.abs(daily.low - closes)))
    total = np.zeros(ranges.shape)
    for lag in range(_ATR_SESSIONS, 0, -1):
        total += _price_before(daily, ranges, lag)
    return total / _ATR_SESSIONS


def _restricted(daily: DailyAggregates, closes: Array) -> Array:
    # In whole ticks, because 0.9 x a price is not exact in floats, and equality counts; for a share of the day before.
    low = np.rint(_comparable(daily, daily.low, 1) * TICKS_PER_DOLLAR)
    before = np.rint(_comparable(daily, closes, 1) * TICKS_PER_DOLLAR)
    known = ~np.isnan(low) & ~np.isnan(before)
    fell: Array = np.where(known, low * 10 <= before * 9, np.nan)
    return fell


def _vix(sessions: Sequence[Session], sources: ReferenceFacts) -> Array:
    values = np.full((len(sessions), 1), np.nan)
    for row, previous in enumerate(sessions[:-1], start=1):
        values[row] = sources.vix.get(previous.date, np.nan)
    return values


def _comparable(daily: DailyAggregates, values: Array, lag: int) -> Array:
    # The values of `lag` sessions before; NaN where their kind differs from the session's.
    moved = np.full(values.shape, np.nan)
    moved[lag:] = np.where(daily.kind[lag:] == daily.kind[:-lag], values[:-lag], np.nan)
    return moved


def _price_before(daily: DailyAggregates, prices: Array, lag: int) -> Array:
    # The prices of `lag` sessions before, for one share of each session.
    found = _comparable(daily, prices, lag)
    found[lag:] *= daily.shares[:-lag] / daily.shares[lag:]
    return found


def _volume_before(daily: DailyAggregates, volumes: Array, lag: int) -> Array:
    found = _comparable(daily, volumes, lag)
    found[lag:] *= daily.shares[lag:] / daily.shares[:-lag]
    return found


def _carried(kind: Index) -> Index:
    # A session without bars takes the kind of the previous one.
    carried = kind.copy()
    for row in range(1, len(carried)):
        carried[row] = np.where(carried[row] < 0, carried[row - 1], carried[row])
    return carried
