"""The rules of prices that hold for one price and for arrays of them, so that a backtest has no rules of its own.

Prices are in ticks (1e-4 USD), as numbers or arrays. A side is 1 to buy and -1 to sell. Only operators are used whose
results are bit-equal for numbers and arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from tbot_core.model.types import TICKS_PER_DOLLAR

if TYPE_CHECKING:
    from decimal import Decimal

Ticks: TypeAlias = Any
"""One price in ticks, or an array of them."""

Sides: TypeAlias = Any
"""1 to buy, -1 to sell: one side, or an array of them."""

TRAIL_STEP: Final = 1000
"""A trailing stop moves by at least one part in so many of where it is: 0.1 %."""

_TAIL: Final = 5e-7  # of a step: absorbs the binary tail of a price that lies on the grid


class PriceLevel(NamedTuple):
    """A level that prices of a row may reach: the field of the bars, the row, ticks, and the side as in `may_reach`."""

    field: str
    row: int
    ticks: int
    side: int


def tick_of(ticks: Ticks) -> Ticks:
    """The price grid in ticks: 0.01 USD from 1 USD up, 0.0001 below (Rule 612 of Regulation NMS)."""
    return 1 + 99 * (ticks >= TICKS_PER_DOLLAR)


def grid_level(ticks: Ticks, away: Sides, grid: int = 0) -> Ticks:
    """Round prices in fractional ticks to the grid, up where `away` is 1, down where it is -1; at least one step.

    `grid`: the broker's price step in ticks for a single instrument; the coarser of it and the exchange's counts.
    """
    step: Any = max(tick_of(ticks), grid) if grid else tick_of(ticks)
    steps: Any = -away * ((_TAIL - away * ticks / step) // 1)
    return (steps + (steps < 1) * (1 - steps)) * step


def round_to_grid(ticks: float, *, up: bool, grid: int = 0) -> int:
    """Round one price in fractional ticks up or down to the instrument's grid; the result is at least one step."""
    return int(grid_level(ticks, 1 if up else -1, grid))


def within_limit(price: Ticks, limit: Ticks, side: Sides) -> Any:
    """Whether a price is at an order's limit or better."""
    return side * (price - limit) <= 0


def traded_through(extreme: Ticks, limit: Ticks, side: Sides) -> Any:
    """Whether a bar traded beyond a limit by one tick of the grid on that side.

    `extreme` is the bar's low for an order to buy, its high for one to sell.
    """
    return side * (limit - extreme) >= tick_of(limit - (side > 0))


def may_reach(level: Ticks, prices: Any, side: Sides) -> Any:
    """Whether prices in dollars may be at a level or beyond it: above it for side 1, below it for -1; False for NaN.

    A quick question before the exact one: True for a price up to one tick short of the level, too.
    """
    return side * (prices * TICKS_PER_DOLLAR - level) >= -1


def trailed_level(extreme: Ticks, first: Ticks, price: Ticks, side: Sides, grid: int = 0) -> Ticks:
    """The level of a trailing stop: as far from the best price `extreme` as the `first` stop was from `price`."""
    return grid_level(extreme * 1.0 * first / price, side, grid)


def is_trail_step(side: Sides, before: Ticks, level: Ticks) -> Any:
    """Whether `level` is closer to the price than `before` by at least the smallest step of a trailing stop."""
    return side * (level * TRAIL_STEP - before * (TRAIL_STEP + side)) >= 0


def limit_level(reference: Ticks, side: Sides, limit_pct: float, grid: int = 0) -> Ticks:
    """An entry's limit: the reference moved by ENTRY_LIMIT_PCT, rounded towards it."""
    return grid_level(reference * (1 + side * limit_pct), -side, grid)


def band_level(reference: Ticks, band: float, grid: int = 0) -> Ticks:
    """The worst price of a market entry: the upper edge of PRICE_BAND_PCT, also for a short."""
    return grid_level(reference * (1 + band), -1, grid)


def beyond_band(distance: Ticks, last: Ticks, band: Decimal) -> Any:
    """Whether a distance from the last trade's price is more than the fraction `band` of it."""
    part, whole = band.as_integer_ratio()
    return distance * whole > last * part


def default_stop(price: Ticks, side: Sides, stop_loss_pct: float) -> Ticks:
    """The stop, in the unit of the price, of a signal that states none."""
    return price * (1 - side * stop_loss_pct)


def target_at(price: Ticks, stop: Ticks, side: Sides, target_r: float) -> Ticks:
    """The target, in the unit of the price, at `target_r` times the distance of the stop."""
    return price + side * target_r * abs(price - stop)
