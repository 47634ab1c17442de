"""When and where a position ends: the levels of a trade, its trail, and what is due after a minute has closed.

Levels hang on market prices (the signal bar's close and completed bars), never on a slipped fill, so that every
clock sees the same ones. Protective levels are rounded towards the price: never more risk than was said.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs

from tbot_core.model.types import TICKS_PER_DOLLAR, ExitReason, Side, ticks_of
from tbot_core.trading.matching import tick_of

if TYPE_CHECKING:
    from fractions import Fraction

    from tbot_core.contracts.settings import ExitSettings as ExitPolicy
    from tbot_core.model.signals import ExitRules

STOPS = frozenset({ExitReason.STOP, ExitReason.TRAILING_STOP, ExitReason.UNPROTECTED})
"""What protection is called when it acts."""

NEAR = 4
"""A position of which less than one part in so many is left, by time or by price, is near its exit."""

TRAIL_STEP = 1001
"""A trailing stop moves by at least 0.1 %: to 1001/1000 of where it is (a short's to 999/1000)."""


@attrs.define(kw_only=True)
class ExitPlan:
    """The levels of one trade in ticks; `stop` and `extreme` move while a trailing stop follows.

    `price` is the signal bar's close, `stop_at_first` the stop as planned: their ratio is the trail's distance.
    `rests`: the stop is meant to rest at the broker, whatever became of it. `leave`: the minute from which the exit
    order goes; with `hold` it is set when the entry fills. `grid`: the step of prices that the broker has told.
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
    extreme: int = attrs.field(init=False)
    stop_at_first: int = attrs.field(init=False)
    stop_rests: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.stop_rests = not self.on_close
        self.extreme = self.price
        self.stop_at_first = self.stop

    @property
    def is_expired(self) -> bool:
        """Whether its time was over before its session began: nothing is known of the stop it had."""
        return self.time_exit_minute == 0

    def on_entry_fill(self, minute: int) -> None:
        """Start the holding time at the entry's first fill bar."""
        if self.max_hold_minutes is not None:
            due = minute + self.max_hold_minutes
            self.time_exit_minute = due if self.time_exit_minute is None else min(self.time_exit_minute, due)
            self.max_hold_minutes = None

    def apply_split(self, ratio: Fraction) -> None:
        """Every share became so many: the levels follow, rounded as ever, and the stop rests again where it did."""
        long, moved = self.side is Side.LONG, self.stop != self.stop_at_first
        self.price, self.extreme = (round(level / ratio) for level in (self.price, self.extreme))
        first, self.stop = (
            round_to_grid(float(level / ratio), up=long, grid=self.tick_grid)
            for level in (self.stop_at_first, self.stop)
        )
        self.stop_at_first = first if moved else self.stop
        if self.target is not None:
            self.target = round_to_grid(float(self.target / ratio), up=long, grid=self.tick_grid)
        self.on_close = not self.stop_rests

    def set_tick_grid(self, grid: int) -> None:
        """Prices go in other steps now: levels are moved to them, a stop towards the price."""
        long, moved = self.side is Side.LONG, self.stop != self.stop_at_first
        self.tick_grid = grid
        first, self.stop = (round_to_grid(level, up=long, grid=grid) for level in (self.stop_at_first, self.stop))
        self.stop_at_first = first if moved else self.stop
        if self.target is not None:
            self.target = round_to_grid(self.target, up=long, grid=grid)

    def trail(self, high: float, low: float) -> bool:
        """Take in a completed bar's extremes; whether the stop has moved."""
        if not self.trailing:
            return False
        long = self.side is Side.LONG
        seen = ticks_of(high if long else low)
        self.extreme = max(self.extreme, seen) if long else min(self.extreme, seen)
        level = round_to_grid(self.extreme * self.stop_at_first / self.price, up=long, grid=self.tick_grid)
        moved = _a_step(self.side, self.stop, level)
        if moved:
            self.stop = level
        return moved

    def is_ahead_of(self, level: int) -> bool:
        """Whether the stop is a trail's step or more ahead of a level at which one rests."""
        return _a_step(self.side, level, self.stop)

    def stop_passed(self, close: float) -> bool:
        """Whether a minute closed at the stop or beyond it; NaN, no bar, did not."""
        return not math.isnan(close) and self.side * (ticks_of(close) - self.stop) <= 0

    def target_reached(self, high: float, low: float) -> bool:
        """Whether a bar traded at the target; NaN, no bar, did not."""
        if self.target is None or math.isnan(high + low):
            return False
        return ticks_of(high) >= self.target if self.side is Side.LONG else ticks_of(low) <= self.target

    @property
    def stop_reason(self) -> ExitReason:
        """What a fill of the stop is called."""
        return ExitReason.TRAILING_STOP if self.stop != self.stop_at_first else ExitReason.STOP


def make_exit_plan(side: Side, levels: tuple[float, float, float], shape: ExitRules, policy: ExitPolicy) -> ExitPlan:
    """The plan of a signal; `levels` = its price, stop and target in dollars, NaN = none.

    A signal without a stop gets STOP_LOSS_PCT: no position is without protection. TARGET_R and TRAILING_STOP
    override the strategy's own.
    """
    price, stop, target = levels
    long = side is Side.LONG
    close = ticks_of(price)
    if math.isnan(stop):
        stop = price * (1 - side * float(policy.stop_loss_pct))
    stop_ticks = round_to_grid(stop * TICKS_PER_DOLLAR, up=long)
    if policy.target_r:
        target = price + side * policy.target_r * abs(price - stop)
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


def immediate_exit_plan(side: Side, mark: int) -> ExitPlan:
    """The plan of a position whose time was over before its session began."""
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


def exit_due(plan: ExitPlan, minute: int, close: float, flatten_from: int) -> ExitReason | None:
    """What ends a position after `minute` has closed: the session's end, its time, or a close beyond its stop.

    `close` is the minute's close, NaN = no bar; `flatten_from` the minute from which the session is flattened.
    """
    if minute + 1 >= flatten_from:
        return ExitReason.SESSION_END
    if plan.time_exit_minute is not None and minute + 1 >= plan.time_exit_minute:
        return ExitReason.TIME
    if plan.on_close and plan.stop_passed(close):
        return plan.stop_reason
    return None


def near_exit(plan: ExitPlan, price: int, entered: int, closed: int, flatten_from: int) -> bool:
    """Whether less than a quarter is left of a position's time, or of its way to its target or down to its stop.

    `entered` and `closed` are minutes: of its entry, and the latest that has closed. The way to the stop is the
    distance that it had at first, which a trailing one keeps.
    """
    ends = flatten_from if plan.time_exit_minute is None else min(plan.time_exit_minute, flatten_from)
    if NEAR * (ends - closed - 1) < ends - entered:
        return True
    if NEAR * plan.side * (price - plan.stop) < plan.side * (plan.price - plan.stop_at_first):
        return True
    return plan.target is not None and NEAR * plan.side * (plan.target - price) < plan.side * (plan.target - plan.price)


def closing_reason(reason: ExitReason | None, words: str) -> ExitReason | None:
    """Why a fill closes a position: its order's reason, unless the venue says in `words` that no market was left."""
    return ExitReason.NO_MARKET if words == ExitReason.NO_MARKET else reason


def round_to_grid(ticks: float, *, up: bool, grid: int = 0) -> int:
    """A price in fractional ticks on the instrument's grid, rounded up or down; at least one grid step.

    `grid`: the step that a broker has told, where that is coarser than the exchange's own.
    """
    step = max(tick_of(int(ticks)), grid)
    steps = round(ticks / step, 6)  # six decimals of a step absorb the binary tail of a price that lies on the grid
    return max(1, math.ceil(steps) if up else math.floor(steps)) * step


def _a_step(side: Side, before: int, level: int) -> bool:
    # Whether a stop at a level would be closer to the price than before, by the least that a trail moves.
    return level * 1000 >= before * TRAIL_STEP if side is Side.LONG else level * 1000 <= before * (2000 - TRAIL_STEP)
