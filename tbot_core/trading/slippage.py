"""Slippage of simulated fills.

Limit prices are not slipped. A random draw depends only on its key (seed, session, strategy, symbol, signal minute,
leg), so that the order of events and the number of workers do not change it.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from statistics import NormalDist
from typing import TYPE_CHECKING

import attrs
import numpy as np

if TYPE_CHECKING:
    from tbot_core.contracts.settings import SimulationSettings
    from tbot_core.model.bars import Bars
    from tbot_core.model.types import Leg, SignalId

_NORMAL = NormalDist()
_BARS_BEFORE = 20


@attrs.frozen(kw_only=True)
class Slippage:
    """A slippage model: `kind` none, rule_based or randomized; mean and deviation as fractions of the price."""

    kind: str
    mean: float
    deviation: float
    seed: int

    @classmethod
    def of(cls, simulation: SimulationSettings) -> Slippage:
        """The model of the settings."""
        return cls(
            kind=simulation.slippage_simulation_type if simulation.enable_slippage_model else "none",
            mean=float(simulation.slippage_mean_pct) / 100,
            deviation=float(simulation.slippage_stddev_pct) / 100,
            seed=simulation.seed,
        )

    def fraction(self, signal: SignalId, leg: Leg, market: tuple[Bars, int], shares: float) -> float:
        """The lost fraction of the price, 0 or more; `market` is the bars and the symbol's row in them.

        rule_based: mean x (0.5 + range of the signal bar / median range of the 20 bars before) x (1 + participation);
        a range is (high - low) / close, participation is `shares` / the signal bar's volume, at most 1.
        """
        if self.kind == "none":
            return 0.0
        if self.kind == "randomized":
            return max(0.0, self.mean + self.deviation * _NORMAL.inv_cdf(self._uniform(signal, leg)))
        bars, row = market
        return (
            self.mean
            * (0.5 + _relative_range(bars, row, signal.minute))
            * (1 + _participation(bars, row, signal.minute, shares))
        )

    def _uniform(self, signal: SignalId, leg: Leg) -> float:
        key = f"{self.seed}/{signal.session.isoformat()}/{signal.strategy}/{signal.symbol}/{signal.minute}/{leg}"
        drawn = int.from_bytes(blake2b(key.encode(), digest_size=8).digest())
        return ((drawn >> 12) + 0.5) / 2**52  # 52 bits and a half are exact: never 0, never 1


def slipped_price(ticks: int, fraction: float, *, buy: bool) -> int:
    """A price in ticks moved against us by a fraction of itself, rounded to a tick against us."""
    moved = round(ticks * (1 + fraction if buy else 1 - fraction), 6)
    return math.ceil(moved) if buy else max(1, math.floor(moved))


def _relative_range(bars: Bars, row: int, minute: int) -> float:
    high, low, close = (bars.field(name)[: minute + 1, row] for name in ("high", "low", "close"))
    ranges = (high - low) / close
    before = ranges[:-1][~np.isnan(ranges[:-1])][-_BARS_BEFORE:]
    usual = float(np.median(before)) if len(before) else 0.0
    return float(ranges[-1]) / usual if usual > 0 else 1.0


def _participation(bars: Bars, row: int, minute: int, shares: float) -> float:
    volume = float(bars.field("volume")[minute, row])
    return min(1.0, shares / volume) if volume > 0 else 1.0
