"""The arithmetic of a report: figures of trades, of daily returns and of the time in the market.

Pure functions. A ratio is a float, 0.01 for 1 %; money is `Decimal`, dollars. None: the figure is undefined, for the
reason that each function states. The ratios of daily returns equal those of empyrical-reloaded to 1e-12.
"""

from __future__ import annotations

import bisect
import math
import statistics
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.model.formatting import round_to_cents

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tbot_core.model.types import Trade

_SESSIONS_A_YEAR: Final = 252
_ZERO: Final = Decimal(0)


@attrs.frozen(kw_only=True)
class TradingDay:
    """One session of a run: its hours, and the equity at its open and at its close, in dollars."""

    open: datetime
    close: datetime
    opening: Decimal
    closing: Decimal


@attrs.frozen(kw_only=True)
class TradeFigures:
    """Figures of closed trades, after fees.

    `won` and `lost`: their number; a trade that is shown as 0.00 is neither. `win_rate`: won / all. `profit_factor`:
    profit of the winners / loss of the losers. `expectancy`: the average P&L of a trade. `average_win`, `average_loss`
    (negative), `largest_win`, `largest_loss`: dollars. None: without trades, winners or losers, as the figure needs.
    """

    count: int
    won: int
    lost: int
    pnl: Decimal
    fees: Decimal
    win_rate: float | None
    profit_factor: float | None
    expectancy: Decimal | None
    average_win: Decimal | None
    average_loss: Decimal | None
    largest_win: Decimal | None
    largest_loss: Decimal | None


@attrs.frozen(kw_only=True)
class Exposure:
    """How much of the time, and of the equity, was in the market; both None without a session.

    `time`: minutes with an open position / minutes of all sessions. `equity`: the entry cost of open positions / equity
    at the session's open, as an average over all minutes of all sessions.
    """

    time: float | None
    equity: float | None


def trade_figures(trades: Sequence[Trade]) -> TradeFigures:
    """The figures of these trades."""
    results = [trade.pnl for trade in trades]
    wins, losses = ([pnl for pnl in results if sign * round_to_cents(pnl) > 0] for sign in (1, -1))
    return TradeFigures(
        count=len(results),
        won=len(wins),
        lost=len(losses),
        pnl=sum(results, _ZERO),
        fees=sum((trade.fees for trade in trades), _ZERO),
        win_rate=len(wins) / len(results) if results else None,
        profit_factor=float(sum(wins) / -sum(losses)) if losses else None,
        expectancy=_mean(results),
        average_win=_mean(wins),
        average_loss=_mean(losses),
        largest_win=max(wins, default=None),
        largest_loss=min(losses, default=None),
    )


def daily_returns(days: Iterable[TradingDay]) -> list[float]:
    """The return of each session: equity at its close / equity at its open - 1; a session without equity has none."""
    return [float(day.closing / day.opening - 1) for day in days if day.opening > 0]


def sharpe_ratio(returns: Sequence[float]) -> float | None:
    """Mean / standard deviation (n - 1) of daily returns, times the square root of 252; the risk-free rate is zero.

    None with fewer than two returns, and where all are equal. Source: Sharpe (1994).
    """
    deviation = _deviation(returns)
    return None if deviation is None else _average(returns) / deviation * math.sqrt(_SESSIONS_A_YEAR)


def sortino_ratio(returns: Sequence[float]) -> float | None:
    """Mean of daily returns times 252, divided by the annualised downside deviation; the required return is zero.

    Downside deviation: the root of the mean square of negative returns, over all returns. None with fewer than two
    returns, and without a negative one. Source: Sortino and Price (1994).
    """
    downside = _average([min(one, 0.0) ** 2 for one in returns]) if len(returns) > 1 else 0.0
    return _average(returns) * _SESSIONS_A_YEAR / math.sqrt(downside * _SESSIONS_A_YEAR) if downside else None


def annual_volatility(returns: Sequence[float]) -> float | None:
    """The standard deviation (n - 1) of daily returns, times the square root of 252; None with fewer than two."""
    return statistics.stdev(returns) * math.sqrt(_SESSIONS_A_YEAR) if len(returns) > 1 else None


def drawdowns(equity: Iterable[Decimal]) -> list[float]:
    """The drawdown at each point of an equity curve: equity / highest equity up to there - 1; zero or negative."""
    found, highest = list[float](), _ZERO
    for value in equity:
        highest = max(highest, value)
        found.append(float(value / highest - 1) if highest else 0.0)
    return found


def maximum_drawdown(equity: Iterable[Decimal]) -> float | None:
    """The deepest drawdown of an equity curve, zero or negative; None without a point."""
    return min(drawdowns(equity), default=None)


def exposure(trades: Iterable[Trade], days: Sequence[TradingDay]) -> Exposure:
    """The exposure of these trades in these sessions; a position held overnight counts in the hours of the sessions."""
    total = sum((day.close - day.open).total_seconds() for day in days)
    if not total:
        return Exposure(time=None, equity=None)
    inside = _by_day(trades, days)
    held = sum(_covered((start, end) for start, end, _ in found) for found in inside)
    invested = math.fsum(
        float(one.quantity * one.instrument.multiplier * one.entry_price / day.opening) * (end - start).total_seconds()
        for day, found in zip(days, inside, strict=True)
        if day.opening > 0
        for start, end, one in found
    )
    return Exposure(time=held / total, equity=invested / total)


def _by_day(trades: Iterable[Trade], days: Sequence[TradingDay]) -> list[list[tuple[datetime, datetime, Trade]]]:
    # The part of each trade that lies in each session; the sessions are in order.
    inside: list[list[tuple[datetime, datetime, Trade]]] = [[] for _ in days]
    closes = [day.close for day in days]
    for trade in trades:
        for number in range(bisect.bisect_right(closes, trade.entry_time), len(days)):
            day = days[number]
            if trade.exit_time <= day.open:
                break
            inside[number].append((max(trade.entry_time, day.open), min(trade.exit_time, day.close), trade))
    return inside


def _covered(intervals: Iterable[tuple[datetime, datetime]]) -> float:
    # Seconds in at least one of the intervals.
    seconds, until = 0.0, None
    for start, end in sorted(intervals):
        begin = start if until is None else max(start, until)
        seconds += max((end - begin).total_seconds(), 0.0)
        until = end if until is None else max(until, end)
    return seconds


def _mean(values: Sequence[Decimal]) -> Decimal | None:
    return sum(values, _ZERO) / len(values) if values else None


def _average(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _deviation(returns: Sequence[float]) -> float | None:
    # The standard deviation; None where it is undefined, or zero but for rounding.
    if len(returns) < 2 or all(one == other for one, other in pairwise(returns)):
        return None
    return statistics.stdev(returns)
