"""The plan of a simulated session, made before its minutes are drawn: gaps, drifts, news, volume.

It is a function of seed and date. It has the session's whole log return of each symbol, so that a close follows from
the plans of earlier sessions, without drawing their minutes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import numpy as np

from tbot_broker_paper.companies import COMPANIES, SECTORS
from tbot_broker_paper.news import News, draw_news
from tbot_core.model.bars import Array, Index

if TYPE_CHECKING:
    import datetime as dt

    Random: TypeAlias = np.random.Generator

FULL_DAY: Final = 390
_SYMBOLS: Final = len(COMPANIES)
_KEY_BITS: Final = 64
_PURPOSES: Final = {"listing": 0, "plan": 1, "path": 2, "mood": 3}
_REGIME_DAYS: Final = 12
_ORDINARY_VIX: Final = 20.5
_WIDEST_GAP: Final = 0.06
_WIDEST_DRIFT: Final = 0.085


def random_for(seed: int, purpose: str, number: int) -> Random:
    """The random generator of a seed, a purpose and a number (a date's ordinal); equal arguments give equal draws."""
    key = (seed % 2**_KEY_BITS, number * len(_PURPOSES) + _PURPOSES[purpose])
    return np.random.Generator(np.random.Philox(key=np.array(key, dtype=np.uint64)))


@attrs.frozen(kw_only=True, eq=False)
class Listing:
    """The constant properties of the symbols; arrays of shape (symbols).

    `price` is the long-run price in dollars; `shares` are outstanding; `turnover` is the usual volume of a full day in
    shares; `beta` the share in the market's moves; `volatility` the size of the symbol's own moves, 1 is usual; `quiet`
    the probability of a minute without a trade.
    """

    price: Array
    shares: Array
    turnover: Array
    beta: Array
    volatility: Array
    quiet: Array
    sector: Index


def listing(seed: int) -> Listing:
    """The properties that a seed gives to the companies."""
    draw = random_for(seed, "listing", 0)
    price = np.exp(draw.uniform(np.log(17), np.log(62), _SYMBOLS))
    shares = np.rint(np.exp(draw.uniform(np.log(3.6e9), np.log(6.3e9), _SYMBOLS)) / price / 1e5) * 1e5
    turnover = np.maximum(shares * draw.uniform(0.012, 0.035, _SYMBOLS), draw.uniform(1.7e6, 2.6e6, _SYMBOLS))
    return Listing(
        price=price,
        shares=shares,
        turnover=turnover,
        beta=draw.uniform(0.6, 1.5, _SYMBOLS),
        volatility=draw.uniform(0.7, 1.3, _SYMBOLS),
        quiet=draw.uniform(0.0005, 0.02, _SYMBOLS) * (2.5e6 / turnover).clip(0.2, 1.0),
        sector=np.array([SECTORS.index(company.sector) for company in COMPANIES]),
    )


@attrs.frozen(kw_only=True, eq=False)
class Plan:
    """One session of the simulated market; log returns, arrays of shape (symbols) unless said otherwise.

    `gap` is the overnight return without the reversion to the long-run price, `drift` the session's without news,
    `total` the sum of gap, drift and lasting news. `volume` is in shares. `heat` is the session's volatility, 1 is
    usual. `vix` is its close.
    """

    gap: Array
    drift: Array
    news: News
    total: Array
    volume: Array
    heat: float
    vix: float


def plan(seed: int, day: dt.date, minutes: int, listed: Listing) -> Plan:
    """Draw the plan of a session."""
    draw = random_for(seed, "plan", day.toordinal())
    mood, jitter = _regime(seed, day), draw.standard_normal(2)
    heat = float(np.exp(0.25 * mood + 0.08 * jitter[0]))
    length = (minutes / FULL_DAY) ** 0.5
    market, sector = draw.standard_normal(2), draw.standard_normal((2, len(SECTORS)))
    own = draw.standard_t(4, (2, _SYMBOLS)) * listed.volatility
    night = 0.0035 * listed.beta * market[0] + 0.002 * sector[0][listed.sector] + 0.005 * own[0]
    gap = (heat * night).clip(-_WIDEST_GAP, _WIDEST_GAP)
    day_move = 0.006 * listed.beta * market[1] + 0.005 * sector[1][listed.sector] + 0.0085 * own[1]
    drift = (heat * length * day_move).clip(-_WIDEST_DRIFT, _WIDEST_DRIFT)
    news = draw_news(draw, minutes, drift)
    total = gap + drift + news.lasting(minutes, _SYMBOLS)
    busy = np.exp(0.1 * draw.standard_normal() + 0.2 * draw.standard_normal(_SYMBOLS)) * (1 + 7 * np.abs(total))
    fear = _ORDINARY_VIX * np.exp(0.14 * mood + 0.07 * jitter[1] - 0.05 * market[1])
    return Plan(
        gap=gap,
        drift=drift,
        news=news,
        total=total,
        volume=listed.turnover * busy * length**1.6,
        heat=heat,
        vix=round(float(fear), 2),
    )


def _regime(seed: int, day: dt.date) -> float:
    # The slow component of volatility, about -2 to 2: values some days apart, interpolated smoothly.
    knot, rest = divmod(day.toordinal(), _REGIME_DAYS)
    before, after = (random_for(seed, "mood", number).standard_normal() for number in (knot, knot + 1))
    share = (1 - np.cos(np.pi * rest / _REGIME_DAYS)) / 2
    return float(before + (after - before) * share)
