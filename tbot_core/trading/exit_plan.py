"""Exit plans: the levels of a trade, its trailing stop, and the exit that is due after a closed minute.

Levels depend on market prices (the signal bar's close and completed bars), never on fills, so that they are the same
in live trading, replay and backtest. Protective levels are rounded towards the price, so that the risk never grows.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.model.exit_rules import ExitRules
from tbot_core.model.types import TICKS_PER_DOLLAR, ExitReason, Side, ticks_of
from tbot_core.trading.price_grid import (
    PriceLevel,
    default_stop,
    is_trail_step,
    round_to_grid,
    target_at,
    trailed_level,
)

if TYPE_CHECKING:
    from fractions import Fraction

    from tbot_core.contracts.settings import ExitSettings as ExitPolicy

STOPS = frozenset({ExitReason.STOP, ExitReason.TRAILING_STOP, ExitReason.UNPROTECTED})
"""The exit reasons of protective exits."""

DISASTER_DISTANCE: Final = Decimal("1.5")
"""How much farther the stop that rests for a proxy is than the stop that is emulated on the signal's bars."""

NEAR = 4
"""A position is near its exit when less than 1/NEAR of its time or of its price distance is left."""


@attrs.define(kw_only=True)
class ExitPlan:
    """The levels of one trade in ticks; a trailing stop moves `stop` and `extreme`.

    They are prices of the signal's symbol, and `side` is the signal's, whatever is traded. `is_apart`: something else
    is traded, so that stop and target are emulated on the signal's bars; `disaster_stop` is the level of the stop that
    rests at the broker meanwhile, a price of what is traded, None for none.
    `price` is the signal bar's close, `stop_at_first` the planned stop; their ratio is the distance of the trail.
    `stop_rests`: a stop is planned to rest at the broker. `on_close`: none can rest, and it is emulated on closed bars.
    `time_exit_minute`: the minute from which the exit order is sent; the entry's fill sets it from `max_hold_minutes`.
    `tick_grid`: the broker's price step in ticks, 0 if none is known.
    """

    side: Side
    price: int
    stop: int
    target: int | None
    trailing: bool
    on_close: bool
    time_exit_minute: int | None
    max_hold_minutes: int | None
    tick_grid: int = 0
    is_apart: bool = False
    disaster_stop: int | None = None
    extreme: int = attrs.field(init=False)
    stop_at_first: int = attrs.field(init=False)
    stop_rests: bool = attrs.field(init=False)
    _trailed_stop: int | None = attrs.field(default=None, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.stop_rests = not self.on_close
        self.extreme = self.price
        self.stop_at_first = self.stop

    def trade_apart(self, disaster_stop: int | None = None) -> None:
        """Emulate the levels, which are not prices of what is traded; without a disaster stop no stop rests."""
        self.is_apart, self.disaster_stop = True, disaster_stop
        if disaster_stop is None:
            self.on_close, self.stop_rests = True, False

    @property
    def resting_stop(self) -> int:
        """The level of the stop that rests at the broker, a price of what is traded."""
        return self.stop if self.disaster_stop is None else self.disaster_stop

    @property
    def resting_reason(self) -> ExitReason:
        """The exit reason of a fill of the stop that rests at the broker."""
        return self.stop_reason if self.disaster_stop is None else ExitReason.STOP

    def round_disaster_stop(self, grid: int, ratio: Fraction | int = 1) -> None:
        """Divide the disaster stop by a split's ratio, and round it to the instrument's price step in ticks, up."""
        if self.disaster_stop is not None:
            self.disaster_stop = round_to_grid(float(self.disaster_stop / ratio), up=True, grid=grid)

    @property
    def is_expired(self) -> bool:
        """Whether the position was due to close before this session; its stop is not known."""
        return self.time_exit_minute == 0

    def on_entry_fill(self, minute: int) -> None:
        """Start the holding time at the entry's first fill bar."""
        if self.max_hold_minutes is not None:
            rules = ExitRules(leave=self.time_exit_minute, hold=self.max_hold_minutes)
            self.time_exit_minute = rules.time_exit(minute)
            self.max_hold_minutes = None

    def apply_split(self, ratio: Fraction) -> None:
        """Divide the levels by a split's ratio, rounded as before; a stop that rested at the broker rests again."""
        long, moved = self.side is Side.LONG, self.stop != self.stop_at_first
        self.price, self.extreme = (round(level / ratio) for level in (self.price, self.extreme))
        first, self.stop = (
            round_to_grid(float(level / ratio), up=long, grid=self.tick_grid)
            for level in (self.stop_at_first, self.stop)
        )
        self.stop_at_first = first if moved else self.stop
        if self.target is not None:
            self.target = round_to_grid(float(self.target / ratio), up=long, grid=self.tick_grid)
        self.on_close, self._trailed_stop = not self.stop_rests, None

    def set_tick_grid(self, grid: int) -> None:
        """Round the levels to a new price step in ticks, a stop towards the price."""
        long, moved = self.side is Side.LONG, self.stop != self.stop_at_first
        self.tick_grid, self._trailed_stop = grid, None
        first, self.stop = (round_to_grid(level, up=long, grid=grid) for level in (self.stop_at_first, self.stop))
        self.stop_at_first = first if moved else self.stop
        if self.target is not None:
            self.target = round_to_grid(self.target, up=long, grid=grid)

    def trail(self, high: float, low: float) -> bool:
        """Update the trailing stop with a completed bar's extremes, NaN without a bar; returns whether it moved."""
        if not (self.trailing and self.may_trail(high, low)):
            return False
        seen = ticks_of(high if self.side is Side.LONG else low)
        self.extreme = max(self.extreme, seen) if self.side is Side.LONG else min(self.extreme, seen)
        level = int(trailed_level(self.extreme, self.stop_at_first, self.price, self.side, self.tick_grid))
        moved = bool(is_trail_step(self.side, self.stop, level))
        if moved:
            self.stop = level
        self._trailed_stop = self.stop
        return moved

    def may_trail(self, high: float, low: float) -> bool:
        """Whether a bar may move the trailing stop: it has a new extreme, or the levels changed since the last bar."""
        if math.isnan(high + low):
            return False
        seen = ticks_of(high if self.side is Side.LONG else low)
        return self.side * (seen - self.extreme) > 0 or not self.is_trailed

    @property
    def is_trailed(self) -> bool:
        """Whether a trailing stop is where the bars before have it; True for one that does not trail."""
        return not self.trailing or self._trailed_stop == self.stop

    @property
    def has_trailed(self) -> bool:
        """Whether a bar was compared with it."""
        return self._trailed_stop is not None

    def stop_level(self, row: int) -> PriceLevel:
        """The level that a close must reach to pass the stop; `row` is the symbol's row in the bars."""
        return PriceLevel("close", row, self.stop, -self.side)

    def is_ahead_of(self, level: int) -> bool:
        """Whether the stop is at least one trailing step closer to the price than the `level` at which it rests."""
        return self.disaster_stop is None and bool(is_trail_step(self.side, level, self.stop))

    def stop_passed(self, close: float) -> bool:
        """Whether a minute closed at the stop or beyond it; False for NaN (no bar)."""
        return not math.isnan(close) and self.side * (ticks_of(close) - self.stop) <= 0

    def target_reached(self, high: float, low: float) -> bool:
        """Whether a bar traded at the target; False for NaN (no bar)."""
        if self.target is None or math.isnan(high + low):
            return False
        return ticks_of(high) >= self.target if self.side is Side.LONG else ticks_of(low) <= self.target

    @property
    def stop_reason(self) -> ExitReason:
        """The exit reason of a fill of the stop."""
        return ExitReason.TRAILING_STOP if self.stop != self.stop_at_first else ExitReason.STOP


def make_exit_plan(side: Side, levels: tuple[float, float, float], shape: ExitRules, policy: ExitPolicy) -> ExitPlan:
    """The plan of a signal; `levels` = its price, stop and target in dollars, NaN = none.

    A signal without a stop gets one at STOP_LOSS_PCT. TARGET_R and TRAILING_STOP override the strategy's values.
    """
    price, stop, target = levels
    long = side is Side.LONG
    close = ticks_of(price)
    if math.isnan(stop):
        stop = default_stop(price, side, float(policy.stop_loss_pct))
    stop_ticks = round_to_grid(stop * TICKS_PER_DOLLAR, up=long)
    if policy.target_r:
        target = target_at(price, stop, side, policy.target_r)
    return ExitPlan(
        side=side,
        price=close,
        stop=stop_ticks,
        target=None if math.isnan(target) else round_to_grid(target * TICKS_PER_DOLLAR, up=long),
        trailing=shape.trailing or policy.trailing_stop,
        on_close=shape.trigger == "close",
        time_exit_minute=shape.leave,
        max_hold_minutes=shape.hold,
    )


def disaster_level(plan: ExitPlan, leverage: Decimal, reference: int, grid: int = 0) -> int:
    """The level in ticks of the stop that rests for a bought proxy: DISASTER_DISTANCE times as far as it should get.

    That is by the plan's stop distance times its leverage, from `reference`, a price of the proxy in ticks.
    """
    distance = Decimal(abs(plan.price - plan.stop_at_first)) / plan.price * abs(leverage) * DISASTER_DISTANCE
    return round_to_grid(float(reference * (1 - distance)), up=True, grid=grid)


def immediate_exit_plan(side: Side, mark: int) -> ExitPlan:
    """The plan of a carried position: exit at once; `mark` is its price in ticks."""
    return ExitPlan(
        side=side,
        price=mark,
        stop=mark,
        target=None,
        trailing=False,
        on_close=True,
        time_exit_minute=0,
        max_hold_minutes=None,
    )


def exit_due(plan: ExitPlan, minute: int, flatten_from: int) -> ExitReason | None:
    """The reason to close a position after `minute` at any price: the session's end, or its time.

    `flatten_from` is the minute from which all positions are closed.
    """
    if minute + 1 >= flatten_from:
        return ExitReason.SESSION_END
    if plan.time_exit_minute is not None and minute + 1 >= plan.time_exit_minute:
        return ExitReason.TIME
    return None


def near_exit(plan: ExitPlan, price: int, entered: int, closed: int, flatten_from: int) -> bool:
    """Whether less than a quarter is left of a position's time, or of its distance to the target or the stop.

    `entered` is the minute of the entry, `closed` the latest closed minute. The distance to the stop is compared with
    the planned one, for a trailing stop too.
    """
    ends = flatten_from if plan.time_exit_minute is None else min(plan.time_exit_minute, flatten_from)
    if NEAR * (ends - closed - 1) < ends - entered:
        return True
    if NEAR * plan.side * (price - plan.stop) < plan.side * (plan.price - plan.stop_at_first):
        return True
    return plan.target is not None and NEAR * plan.side * (plan.target - price) < plan.side * (plan.target - plan.price)


def closing_reason(reason: ExitReason | None, words: str) -> ExitReason | None:
    """The exit reason of a fill: its order's, or NO_MARKET if the venue reports that in `words`."""
    return ExitReason.NO_MARKET if words == ExitReason.NO_MARKET else reason
