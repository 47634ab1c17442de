"""Finds the minutes to come that change nothing, so that a walk over complete bars skips them.

Every question here is a bound: it may say that something happens in a minute in which the rule that it stands for does
nothing, never the other way round. A minute that is not skipped is stepped as in a live session.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np

from tbot_core.model.types import TICKS_PER_DOLLAR, Leg, ticks_of
from tbot_core.trading.positions import rebalance_rules
from tbot_core.trading.price_grid import PriceLevel, may_reach
from tbot_core.trading.risk.exposure import session_pnl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.contracts.settings import RebalanceSettings
    from tbot_core.model.bars import Array, Bars, Flags
    from tbot_core.trading.decision_engine import DecisionEngine
    from tbot_core.trading.matching import MatchingEngine

_ROUNDING: Final = 1e-12  # of the added amounts: sums of doubles are off by far less


def first_quiet_end(
    decision_engine: DecisionEngine, venue: MatchingEngine, policy: RebalanceSettings, bars: Bars, minutes: range
) -> int:
    """The first of these minutes that may change more than marks; their end if none does.

    The session has one broker, nothing external and no signal in these minutes, and nothing is due in it now.
    """
    manager, levels = decision_engine.position_manager, _levels(decision_engine, venue)
    if levels is None or manager.exits.active(manager.held.values(), bars, minutes.start):
        return minutes.start
    times = [held.plan.time_exit_minute for held in manager.held.values()]
    ends = (manager.flatten_from, *(one for one in times if one is not None))
    stop = max(minutes.start, min(rebalance_rules.next_check(policy, minutes), min(ends) - 1))
    stop = first_reached(levels, bars, range(minutes.start, stop))
    return _first_loss(decision_engine, bars, range(minutes.start, stop))


def mark_at_end(decision_engine: DecisionEngine, bars: Bars, minutes: range) -> None:
    """Value positions as if each of these minutes had been marked: at their last closes."""
    for symbol, held in decision_engine.position_manager.held.items():
        for minute in reversed(minutes):
            close = held.bar_value(bars, "close", minute)
            if not math.isnan(close):
                decision_engine.portfolio.mark(symbol, ticks_of(close))
                break


def first_reached(levels: Iterable[PriceLevel], bars: Bars, minutes: range) -> int:
    """The first of these minutes whose bars may reach one of the levels; their end if none does."""
    found = minutes.stop
    for field, group in groupby(sorted(levels), key=_field):
        rows, ticks, sides = zip(*[(one.row, one.ticks, one.side) for one in group], strict=True)
        prices = bars.field(field)[minutes.start : found].take(rows, axis=1)
        found = _first(may_reach(np.array(ticks), prices, np.array(sides)).any(axis=1), minutes.start)
    return found


def _field(level: PriceLevel) -> str:
    return level.field


def _first(flags: Flags, start: int) -> int:
    # The minute of the first flag, counted from `start`; that after the last one if none is set.
    at = int(flags.argmax()) if len(flags) else 0
    return start + (at if len(flags) and flags[at] else len(flags))


def _levels(decision_engine: DecisionEngine, venue: MatchingEngine) -> list[PriceLevel] | None:
    # The levels at which a price changes something; None if the next minute may do so at any price, or if a stop
    # trails: it follows every few minutes, so that looking ahead costs more than it saves.
    manager, exposure = decision_engine.position_manager, decision_engine.exposure
    if exposure.working or exposure.daily_loss or manager.orders_to_cancel or manager.overfills.confirmed:
        return None
    if any(one.triggered or one.order.leg in {Leg.ENTRY, Leg.EXIT} for one in venue.resting):
        return None
    if not all(manager.exits.is_calm(held) and not held.plan.trailing for held in manager.held.values()):
        return None
    planned = [held.plan.stop_level(held.row) for held in manager.held.values() if held.row is not None]
    return [*planned, *(one.trigger for one in venue.resting)]


def _first_loss(decision_engine: DecisionEngine, bars: Bars, minutes: range) -> int:
    # The first of these minutes at whose marks a loss limit may have an effect; their end if there is none.
    exposure, held = decision_engine.exposure, decision_engine.position_manager.held
    positions = [one for symbol, one in exposure.portfolio.positions.items() if held[symbol].row is not None]
    if not (positions and minutes):
        return minutes.stop
    (level, window_level), windows = decision_engine.loss_levels, session_pnl(exposure)
    rows = [held[one.signal.symbol].row or 0 for one in positions]
    closes = bars.field("close")[minutes.start : minutes.stop].take(rows, axis=1)
    moved = _without_gaps(np.rint(closes * TICKS_PER_DOLLAR) - [one.mark for one in positions])
    amounts = np.array([float(one.side * one.units) for one in positions])
    judged = [] if level is None else [(float(level - sum(windows.values())), amounts)]
    for strategy in exposure.sent.keys() - exposure.window_loss:
        own = np.array([one.signal.strategy == strategy for one in positions])
        judged.append((float(window_level - windows.get(strategy, 0)), own * amounts))
    most = float(np.abs(moved).max()) * float(np.abs(amounts).sum())
    lost = np.zeros(len(minutes), dtype=np.bool_)
    for change, part in judged:
        lost |= (moved * part).sum(axis=1) <= change + 1 + _ROUNDING * (most + abs(change))
    return _first(lost, minutes.start)


def _without_gaps(moved: Array) -> Array:
    # A minute without a bar has the mark of the one before; before the first bar nothing has moved.
    gaps = np.isnan(moved)
    if not gaps.any():
        return moved
    known = np.maximum.accumulate(np.where(gaps, -1, np.arange(len(moved))[:, None]), axis=0)
    filled: Array = np.where(known < 0, 0.0, np.take_along_axis(moved, np.maximum(known, 0), axis=0))
    return filled
