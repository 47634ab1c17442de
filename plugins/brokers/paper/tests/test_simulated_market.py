"""The simulated market: the same for everyone who asks, valid, alive, and something for each strategy to trade."""

from __future__ import annotations

import datetime as dt
import itertools
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tbot_broker_paper import plan
from tbot_broker_paper.broker import DEMO_FIRST_DAY
from tbot_broker_paper.companies import COMPANIES, SECTORS, SYMBOLS
from tbot_broker_paper.market import HISTORY, SimulatedMarket

from tbot_core.errors import DataError
from tbot_core.model.bars import Bars
from tbot_core.model.calendar import ExchangeCalendar, Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.model.bars import Array, Flags
    from tbot_core.model.day_facts import DayFacts

CALENDAR = ExchangeCalendar()
HALF_DAY = dt.date(2026, 11, 27)
AFTER_A_HALF_DAY = dt.date(2026, 12, 7)


def _session(day: dt.date) -> Session:
    session = CALENDAR.session(day)
    assert session is not None
    return session


@cache
def _sessions(count: int) -> tuple[Session, ...]:
    found = [_session(DEMO_FIRST_DAY)]
    while len(found) < count:
        found.append(CALENDAR.next(found[-1].date))
    return tuple(found)


@cache
def _market(seed: int) -> SimulatedMarket:
    return SimulatedMarket(seed, CALENDAR)


@cache
def _traded(seed: int, session: Session) -> tuple[Mapping[str, Array], DayFacts]:
    return _market(seed).bars(session), _market(seed).day(session)


def _bytes(market: SimulatedMarket, session: Session) -> list[bytes]:
    day = market.day(session)
    facts = (day.previous_close, day.average_volume, day.market_cap, day.atr, day.vix, day.restricted)
    return [field.tobytes() for field in (*market.bars(session).values(), *facts)]


@pytest.mark.slow
def test_a_seed_and_a_date_give_a_session() -> None:
    """Two markets of one seed agree to the byte, whatever either was asked before."""
    first, _, third = _sessions(3)
    asked_before, fresh = SimulatedMarket(7, CALENDAR), SimulatedMarket(7, CALENDAR)
    _bytes(asked_before, first)
    _bytes(asked_before, _session(HALF_DAY))
    assert _bytes(asked_before, third) == _bytes(fresh, third)


@pytest.mark.slow
def test_another_seed_gives_another_market() -> None:
    """Nothing of a session is shared by two seeds, and nothing by two dates."""
    one, other = _sessions(2)
    a, b, c = (_bytes(SimulatedMarket(seed, CALENDAR), session) for seed, session in ((1, one), (2, one), (1, other)))
    for left, right in ((a, b), (a, c)):
        assert all(x != y for x, y in zip(left[:-1], right[:-1], strict=True))


@pytest.mark.parametrize("day", [DEMO_FIRST_DAY, HALF_DAY])
def test_bars_are_bars(day: dt.date) -> None:
    """High and low hold the other prices, which lie on the cent; volumes are whole shares; holes are whole bars."""
    session = _session(day)
    bars = _market(0).bars(session)
    holes = np.isnan(bars["close"])
    assert all(field.shape == (session.minutes, len(SYMBOLS)) for field in bars.values())
    assert all(field.flags.c_contiguous and (np.isnan(field) == holes).all() for field in bars.values())
    seen = {name: field[~holes] for name, field in bars.items()}
    for name in ("open", "close", "vwap"):
        assert (seen["low"] <= seen[name]).all()
        assert (seen[name] <= seen["high"]).all()
    for name in ("open", "high", "low", "close"):
        assert (np.rint(seen[name] * 100) / 100 == seen[name]).all()
    assert (seen["volume"] >= 1).all()
    assert (np.rint(seen["volume"]) == seen["volume"]).all()


@pytest.mark.slow
def test_a_few_minutes_are_quiet() -> None:
    """Some bars are missing and some are thin, but few; the first and the last minute always trade."""
    bars = _traded(0, _sessions(1)[0])[0]
    holes = np.isnan(bars["close"])
    assert 0.001 < holes.mean() < 0.03
    assert not holes[0].any()
    assert not holes[-1].any()
    assert 0 < (bars["volume"] <= 250).mean() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_volume_is_u_shaped(seed: int) -> None:
    """The first and the last half hour are busier than the middle, and the last minute more so."""
    volume = np.nansum(_traded(seed, _sessions(1)[0])[0]["volume"], axis=1)
    middle = volume[120:270].mean()
    assert volume[:30].mean() > 2 * middle
    assert volume[-30:].mean() > 1.3 * middle
    assert volume[-1] > 2 * middle


def test_returns_have_fat_tails_and_clusters() -> None:
    """One-minute returns are fatter than normal ones, and a big move follows a big one more than a small one."""
    close = _traded(0, _sessions(1)[0])[0]["close"]
    returns = np.diff(np.log(close), axis=0)
    scaled = returns / np.nanstd(returns, axis=0)
    assert np.nanmean(scaled**4) > 4
    size = np.nan_to_num(np.abs(scaled))
    assert np.corrcoef(size[:-1].ravel(), size[1:].ravel())[0, 1] > 0.1


def test_symbols_move_together_and_sectors_more_so() -> None:
    """Half-hour returns correlate across the market, and more inside a sector."""
    moves = []
    for session in _sessions(3):
        close = _traded(0, session)[0]["close"]
        moves.append(np.diff(np.log(close[::30]), axis=0))
    alike = np.corrcoef(np.nan_to_num(np.concatenate(moves)).T)
    sector = np.array([SECTORS.index(company.sector) for company in COMPANIES])
    same = sector[:, None] == sector
    mine = alike[same & ~np.eye(len(sector), dtype=bool)].mean()
    assert mine > alike[~same].mean() > 0.02


def test_a_day_begins_where_the_last_one_ended() -> None:
    """The previous close is yesterday's last price; gaps are mostly small, some are not, none is absurd."""
    gaps = []
    for yesterday, today in zip(_sessions(5)[:-1], _sessions(5)[1:], strict=True):
        previous, (bars, day) = _traded(0, yesterday)[0], _traded(0, today)
        assert (day.previous_close == previous["close"][-1]).all()
        gaps.append(np.abs(bars["open"][0] / day.previous_close - 1))
    assert np.median(gaps) < 0.01
    assert 0.008 < np.max(gaps) < 0.09


@pytest.mark.slow
def test_facts_are_those_of_the_sessions_before() -> None:
    """Volumes, ATR and the short-sale restriction follow from the simulated bars of earlier sessions."""
    sessions = [_session(AFTER_A_HALF_DAY)]
    while len(sessions) <= HISTORY:
        sessions.insert(0, CALENDAR.previous(sessions[0].date))
    market, today = _market(3), sessions[-1]
    history, day = [market.bars(session) for session in sessions[:-1]], market.day(today)
    totals = [np.nansum(bars["volume"], axis=0) for bars in history]
    assert np.allclose(day.average_volume, np.mean(totals, axis=0))
    high = np.array([np.nanmax(bars["high"], axis=0) for bars in history])
    low = np.array([np.nanmin(bars["low"], axis=0) for bars in history])
    close = np.array([bars["close"][-1] for bars in history])
    reach = np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1])
    assert np.allclose(day.atr, reach[-14:].mean(axis=0))
    assert (day.restricted == (low[-1] <= 0.9 * close[-2])).all()
    assert day.typical_volume is not None
    assert day.typical_volume.shape == (len(SYMBOLS), today.minutes)
    long_days = [np.nancumsum(bars["volume"], axis=0)[300] for bars in history if len(bars["volume"]) > 300]
    assert len(long_days) < HISTORY
    assert np.allclose(day.typical_volume[:, 300], np.mean(long_days, axis=0))


@pytest.mark.slow
def test_days_before_are_those_of_the_simulated_bars() -> None:
    """Each field of more sessions than the other facts need, which stay as they are; a later day changes none."""
    sessions = [_session(AFTER_A_HALF_DAY)]
    while len(sessions) <= 25:
        sessions.insert(0, CALENDAR.previous(sessions[0].date))
    market, today = _market(3), sessions[-1]
    found, plain = market.day(today, 25), _market(3).day(today)
    assert (plain.daily, found.daily is None) == (None, False)
    assert found.average_volume.tolist() == plain.average_volume.tolist()
    assert found.daily is not None
    for place, session in enumerate(sessions[:-1]):
        bars = market.bars(session)
        assert np.array_equal(found.daily.open[:, place], [row[~np.isnan(row)][0] for row in bars["open"].T])
        assert np.array_equal(found.daily.high[:, place], np.nanmax(bars["high"], axis=0))
        assert np.array_equal(found.daily.low[:, place], np.nanmin(bars["low"], axis=0))
        assert np.array_equal(found.daily.close[:, place], bars["close"][-1])
        assert np.array_equal(found.daily.volume[:, place], np.nansum(bars["volume"], axis=0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_names_pass_the_usual_filters(seed: int) -> None:
    """Prices of 5 to 100 USD, capitalisation of 2 to 10 billion, a million shares a day; VIX has a plausible value."""
    bars, day = _traded(seed, _sessions(1)[0])
    assert ((np.nanmin(bars["low"], axis=0) > 8) & (np.nanmax(bars["high"], axis=0) < 100)).all()
    assert ((day.market_cap > 2e9) & (day.market_cap < 1e10)).mean() > 0.95
    assert (day.average_volume >= 1e6).all()
    assert (day.atr > 0).all()
    assert day.vix.shape == (1,)
    assert 10 < day.vix[0] < 40


def test_vix_wanders() -> None:
    """Over the seeds it lies mostly between 15 and 28, and now and then under 15."""
    sessions = [(session.date, session.minutes) for session in _sessions(3)]
    values = np.array([plan.plan(seed, *one, plan.listing(seed)).vix for seed in range(20) for one in sessions])
    assert 0.0 < (values < 15).mean() < 0.2
    assert ((values >= 15) & (values <= 28)).mean() > 0.75


@pytest.mark.first(4)
@pytest.mark.parametrize("seed", range(20))
def test_every_strategy_finds_its_trigger(seed: int) -> None:
    """Within three sessions: breakouts of the opening range, overshoots from VWAP, late highs or lows and turns."""
    found = {"breakout": 0, "reversion": 0, "late": 0}
    for session in _sessions(3):
        fields, day = _traded(seed, session)
        bars = Bars(fields, SYMBOLS)
        found["breakout"] += _rows(_breakouts(bars))
        found["reversion"] += _rows(_overshoots(bars))
        found["late"] += _rows(_late(bars)) if day.vix[0] >= 15 else 0
    assert all(count >= 2 for count in found.values()), found


def _rows(fired: Flags) -> int:
    return int(fired.any(axis=-1).sum())


def _breakouts(bars: Bars) -> Flags:
    close = bars.close[:, 20:30]
    return (close > bars.highest(0, 20)[:, None] * 1.02) | (close < bars.lowest(0, 20)[:, None] * 0.98)


def _overshoots(bars: Bars) -> Flags:
    return np.abs(bars.close[:, 75:85] / bars.vwap[:, 75:85] - 1) >= 0.02


def _late(bars: Bars) -> Flags:
    close = bars.close[:, 305:310]
    high, low = bars.high_so_far[:, 304:305], bars.low_so_far[:, 304:305]
    moved, turned = close / bars.first_open[:, None] - 1, close / bars.close[:, 300:305] - 1
    fade = (np.abs(moved) > 0.05) & (moved * turned < 0)
    return ((close > high) | (close < low) | fade) & ((high - low) / bars.first_open[:, None] >= 0.01)


@pytest.mark.slow
@pytest.mark.first(0)  # a statistic of many sessions
def test_overshoots_mostly_come_back() -> None:
    """Forty minutes after a morning overshoot the price has, more often than not, moved towards its VWAP."""
    back: list[bool] = []
    for seed, session in itertools.product(range(12), _sessions(3)):
        bars = Bars(_market(seed).bars(session), SYMBOLS)
        row, minute = np.nonzero(_overshoots(bars)[:, -1:])
        start, vwap, later = bars.close[row, minute + 84], bars.vwap[row, minute + 84], bars.close[row, minute + 124]
        back.extend((np.sign(vwap - start) * (later - start) > 0).tolist())
    assert len(back) > 150
    assert np.mean(back) > 0.5


def test_the_market_is_as_old_as_the_calendar() -> None:
    """A session whose history the calendar does not cover is refused in a sentence."""
    with pytest.raises(DataError, match="outside of the exchange calendar"):
        _market(0).bars(_session(dt.date(2008, 3, 3)))


def test_companies_are_many_and_different() -> None:
    """Forty symbols, sorted, each once, five letters, in eight sectors."""
    assert len(SYMBOLS) == len(set(SYMBOLS)) == 40
    assert tuple(sorted(SYMBOLS)) == SYMBOLS
    assert all(len(symbol) == 5 and symbol.isupper() for symbol in SYMBOLS)
    assert len({company.name for company in COMPANIES}) == 40
    assert len(SECTORS) == 8
