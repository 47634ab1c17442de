"""The minute bars of a simulated session: prices and volumes drawn by its plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from tbot_broker_paper.plan import Listing, Plan
    from tbot_core.model.bars import Array

_STEPS: Final = 6
_OWN_SIGMA: Final = 0.00105
_SECTOR_SIGMA: Final = 0.0003
_MARKET_SIGMA: Final = 0.00028
_WANDER: Final = 1.2
_BOUNCE: Final = 0.2
_TAIL: Final = 5
_THIN_CHANCE: Final = 0.004
_THIN_SHARES: Final = 250
_AUCTION: Final = 4.0


def draw_session(
    draw: np.random.Generator, plan: Plan, listed: Listing, opening: Array, minutes: int
) -> dict[str, Array]:
    """The bars of a session: open, high, low, close, volume and vwap, each (minutes, symbols), NaN = no trade.

    `opening` are the log prices at the open. Prices are multiples of 0.01 USD, vwap of 0.0001.
    """
    stir = np.zeros((len(opening), minutes))
    np.add.at(stir, plan.news.symbol, plan.news.stir(minutes))
    stir = np.ascontiguousarray(stir.T)
    sigma = _sigma(draw, minutes, len(opening)) * (1 + 1.1 * stir)
    shocks = draw.standard_t(_TAIL, sigma.shape) * ((_TAIL - 2) / _TAIL) ** 0.5
    path, own = _path(draw, plan, listed, shocks, sigma)
    path += opening
    before = np.concatenate((opening[None], path[:-1]))
    prices = _prices(draw, before, path, own)
    volume = _volume(draw, plan, minutes, (1 + 0.45 * np.abs(shocks)) * (1 + 3.5 * stir))
    return _bars(draw, prices, volume, listed)


def _sigma(draw: np.random.Generator, minutes: int, symbols: int) -> Array:
    # Relative volatility of each minute: U-shaped over the day, with volatility clusters.
    minute = np.arange(minutes)
    shape = 0.8 + 1.5 * np.exp(-minute / 18) + 0.25 * np.exp(-(minutes - 1 - minute) / 20)
    clusters = _drifting(draw, minutes, symbols, 0.96) * 0.3 + _drifting(draw, minutes, 1, 0.985) * 0.2
    return shape[:, None] * np.exp(clusters - 0.065)


def _drifting(draw: np.random.Generator, minutes: int, columns: int, memory: float) -> Array:
    # Autocorrelated standard normal columns (AR(1)).
    steps = draw.standard_normal((minutes, columns))
    steps[1:] *= (1 - memory**2) ** 0.5
    for minute in range(1, minutes):
        steps[minute] += memory * steps[minute - 1]
    return steps


def _path(draw: np.random.Generator, plan: Plan, listed: Listing, shocks: Array, sigma: Array) -> tuple[Array, Array]:
    # Log return from the open to each minute's end, and the volatility of each minute; ends as planned.
    minutes, symbols = sigma.shape
    own = _OWN_SIGMA * plan.heat * listed.volatility * sigma
    moved = np.zeros((symbols, minutes))
    np.add.at(moved, plan.news.symbol, plan.news.moves(minutes))
    rough = np.zeros((symbols, minutes))
    np.add.at(rough, plan.news.symbol, plan.news.roughness(minutes))
    own = np.hypot(own, rough.T)
    typical = sigma.mean(axis=1, keepdims=True)
    market = draw.standard_normal((minutes, 1)) * typical * _MARKET_SIGMA * plan.heat
    sectors = draw.standard_normal((minutes, int(listed.sector.max()) + 1)) * typical * _SECTOR_SIGMA * plan.heat
    noise = own * shocks + listed.beta * market + sectors[:, listed.sector]
    noise_path = np.cumsum(noise, axis=0)
    variance_share = np.cumsum(own**2, axis=0)
    variance_share /= variance_share[-1]
    return noise_path + variance_share * (plan.drift - noise_path[-1]) + moved.T, own


def _prices(draw: np.random.Generator, before: Array, after: Array, sigma: Array) -> Array:
    # Prices within each minute on the cent grid, the open first and the close last; (minutes, steps + 1, symbols).
    minutes, symbols = after.shape
    wander = np.cumsum(draw.standard_normal((minutes, _STEPS, symbols), dtype=np.float32), axis=1)
    share = (np.arange(1, _STEPS + 1, dtype=np.float32) / _STEPS)[:, None]
    wander -= share * wander[:, -1:]
    move = after - before
    inside = np.empty((minutes, _STEPS + 1, symbols))
    wander *= _WANDER / _STEPS**0.5
    # Bid-ask bounce: each print is slightly off, independent of the next.
    wander += _BOUNCE * draw.standard_normal(wander.shape, dtype=np.float32)
    inside[:, 1:] = before[:, None] + share * move[:, None] + wander * sigma[:, None]
    inside[:, 0] = before + 0.05 * move + 0.15 * sigma * draw.standard_normal(after.shape)
    inside[0, 0] = before[0]
    prices: Array = np.rint(np.exp(inside) * 100) / 100
    return prices


def _volume(draw: np.random.Generator, plan: Plan, minutes: int, interest: Array) -> Array:
    # Whole shares of each minute: U-shaped over the day, more when the price moves; the sum is about the planned
    # volume.
    minute = np.arange(minutes)
    shape = 0.75 + 2.4 * np.exp(-minute / 16) + 1.5 * np.exp(-(minutes - 1 - minute) / 18)
    shape[0] *= 1.6
    shape[-1] *= _AUCTION
    rough = shape[:, None] * interest * np.exp(0.5 * draw.standard_normal(interest.shape))
    volume: Array = np.maximum(np.rint(rough * (plan.volume / rough.sum(axis=0))), 1.0)
    return volume


def _bars(draw: np.random.Generator, prices: Array, volume: Array, listed: Listing) -> dict[str, Array]:
    draws = draw.random(volume.shape)
    thin = draws > 1 - _THIN_CHANCE
    volume[thin] = np.ceil((1 - draws[thin]) / _THIN_CHANCE * _THIN_SHARES)
    last = prices[:, -1].copy()
    high, low = prices.max(axis=1), prices.min(axis=1)
    # A thin minute trades at one price.
    first = np.where(thin, last, prices[:, 0])
    high, low = np.where(thin, last, high), np.where(thin, last, low)
    mean = np.rint(prices.mean(axis=1) * 1e4) / 1e4
    fields = {"open": first, "high": high, "low": low, "close": last, "volume": volume, "vwap": mean.clip(low, high)}
    silent = draws < listed.quiet
    silent[0] = silent[-1] = False
    for field in fields.values():
        field[silent] = np.nan
    return fields
