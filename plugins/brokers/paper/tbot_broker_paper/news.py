"""Simulated news: price moves of single symbols over minutes or hours, part of which reverts."""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np

from tbot_core.model.bars import Array, Index

_LAST_START: Final = 12
_ROUGHNESS: Final = 0.3


@attrs.frozen(kw_only=True)
class _Kind:
    # The frequency of a kind of news in a session, and the ranges of its effect; minutes, log returns, fractions.
    most: int
    chance: float
    start: tuple[float, float]
    rise: tuple[float, float]
    hold: tuple[float, float]
    decay: tuple[float, float]
    size: tuple[float, float]
    fade: tuple[float, float]
    follows: float = 0.5


_KINDS: Final = (
    # After the open: lasting and failed breakouts of the opening range.
    _Kind(
        most=6,
        chance=0.85,
        start=(11, 24),
        rise=(4, 11),
        hold=(0, 20),
        decay=(10, 110),
        size=(0.027, 0.052),
        fade=(-0.5, 1.0),
    ),
    # Late in the morning: a move that overshoots and mostly reverts.
    _Kind(
        most=6,
        chance=0.8,
        start=(58, 76),
        rise=(5, 14),
        hold=(1, 6),
        decay=(6, 40),
        size=(0.023, 0.04),
        fade=(-0.25, 1.2),
    ),
    # A trend day: one direction for hours, a pause in the afternoon.
    _Kind(
        most=2,
        chance=0.8,
        start=(2, 40),
        rise=(170, 250),
        hold=(20, 60),
        decay=(20, 60),
        size=(0.045, 0.08),
        fade=(0.05, 0.4),
        follows=0.7,
    ),
    # Late in the day: the day's move continues or reverts.
    _Kind(
        most=5,
        chance=0.8,
        start=(292, 306),
        rise=(4, 14),
        hold=(1, 12),
        decay=(10, 50),
        size=(0.009, 0.022),
        fade=(-0.4, 0.8),
        follows=0.8,
    ),
    # At any time.
    _Kind(
        most=12,
        chance=0.7,
        start=(0, 370),
        rise=(1, 9),
        hold=(0, 12),
        decay=(8, 120),
        size=(0.004, 0.02),
        fade=(-0.3, 0.9),
    ),
)


@attrs.frozen(kw_only=True, eq=False)
class News:
    """The news of a session, one row each.

    Times are in minutes after the open; `size` is a log return, `fade` the fraction of it that reverts from `turn` on.
    """

    symbol: Index
    start: Array
    rise: Array
    turn: Array
    decay: Array
    size: Array
    fade: Array

    def moves(self, minutes: int) -> Array:
        """The log return of each by the end of each minute; shape (news, minutes)."""
        now = np.arange(1, minutes + 1, dtype=np.float64)
        return self._move_at(now)

    def roughness(self, minutes: int) -> Array:
        """The volatility that each adds in each minute, more while it moves faster; shape (news, minutes)."""
        steps = np.diff(self._move_at(np.arange(minutes + 1, dtype=np.float64)), axis=1)
        # The noise of the whole move does not depend on its duration.
        rough: Array = _ROUGHNESS * np.sqrt(np.abs(steps * self.size[:, None]))
        return rough

    def stir(self, minutes: int) -> Array:
        """The trading interest that each raises in each minute, 0 to about 1; shape (news, minutes)."""
        since = np.arange(minutes, dtype=np.float64) + 1 - self.start[:, None]
        fresh = np.exp(-np.maximum(since - self.rise[:, None].clip(max=30), 0) / 12)
        loud = (np.abs(self.size) / 0.03).clip(max=1.5) / (self.rise / 8).clip(min=1)
        stir: Array = np.where(since > 0, fresh, 0.0) * loud[:, None]
        return stir

    def lasting(self, minutes: int, symbols: int) -> Array:
        """The log return of all news that remains at the close; shape (symbols)."""
        left = np.zeros(symbols)
        np.add.at(left, self.symbol, self._move_at(np.array([float(minutes)]))[:, 0])
        return left

    def _move_at(self, now: Array) -> Array:
        started = ((now - self.start[:, None]) / self.rise[:, None]).clip(0, 1)
        faded = ((now - self.turn[:, None]) / self.decay[:, None]).clip(0, 1)
        moved: Array = self.size[:, None] * (1 - (1 - started) ** 2 - self.fade[:, None] * faded * (2 - faded))
        return moved


def draw_news(draw: np.random.Generator, minutes: int, drift: Array) -> News:
    """Draw the news of a session; some kinds tend to follow the symbol's `drift`."""
    order = draw.permutation(len(drift))
    rows = [_draw_kind(draw, kind) for kind in _KINDS]
    start, rise, hold, decay, size, fade, lucky, follows = np.concatenate(rows, axis=1)
    # At most one per symbol: the sum of two moves would look like neither.
    symbol = order[: len(start)]
    started = (lucky > 0) & (start < minutes - _LAST_START)
    with_it = np.where(drift[symbol] >= 0, 1.0, -1.0)
    size *= np.where(follows > 0, with_it, -with_it)
    return News(
        symbol=symbol[started],
        start=start[started],
        rise=rise[started],
        turn=(start + rise + hold)[started],
        decay=decay[started],
        size=size[started],
        fade=fade[started],
    )


def _draw_kind(draw: np.random.Generator, kind: _Kind) -> Array:
    ranges = np.array([kind.start, kind.rise, kind.hold, kind.decay, kind.size, kind.fade])
    parts = draw.uniform(ranges[:, :1], ranges[:, 1:], (len(ranges), kind.most))
    luck = draw.random((2, kind.most))
    signs = np.stack((kind.chance - luck[0], kind.follows - luck[1]))
    return np.concatenate((parts, signs))
