"""Near misses: how close a window's candidates came to their triggers, and the comparisons of one minute."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import attrs
import numpy as np

if TYPE_CHECKING:
    from tbot_core.model.bars import Array, Bars, Flags
    from tbot_core.model.day_facts import DayFacts
    from tbot_core.model.signals import Trigger
    from tbot_core.trading.proposals import ActiveStrategy

SHOWN = 3


@attrs.frozen(kw_only=True)
class NearMiss:
    """A symbol that did not trigger: the closest rule, its minute, and the relative distance to it."""

    symbol: str
    rule: str
    side: int
    minute: int
    distance: float


@attrs.frozen(kw_only=True)
class TriggerComparison:
    """A trigger's comparison in one minute for one symbol, and whether it fired; all `conditions` must hold too."""

    rule: str
    side: int
    value: float
    level: float
    above: bool
    fires: bool
    conditions: tuple[TriggerComparison, ...] = ()


def find_near_misses(active: ActiveStrategy, bars: Bars, day: DayFacts, candidates: Flags) -> list[NearMiss]:
    """The candidates that came closest without triggering, closest first; empty without triggers.

    Only minutes count in which all other conditions of the trigger held.
    `bars` and `day` are of one session; `candidates` has the shape (symbols,).
    """
    triggers = active.triggers(bars, day) if candidates.any() else ()
    if not triggers:
        return []
    fired = np.logical_or.reduce([trigger.fires() for trigger in triggers]).any(axis=-1)
    shape = (*fired.shape, bars.close[..., active.window.entry : active.window.entry_end].shape[-1])
    if not shape[-1]:
        return []
    lacking = np.stack([np.broadcast_to(_lacking(trigger), shape) for trigger in triggers])
    lacking[:, fired | ~candidates] = np.inf
    flat = lacking.transpose(1, 0, 2).reshape(len(bars.symbols), -1)
    closest = flat.argmin(axis=-1)
    distance = flat.min(axis=-1)
    found = []
    for row in np.argsort(distance, kind="stable")[:SHOWN]:
        if np.isfinite(distance[row]):
            which, column = divmod(int(closest[row]), shape[-1])
            trigger = triggers[which]
            found.append(
                NearMiss(
                    symbol=bars.symbols[row],
                    rule=trigger.rule,
                    side=trigger.side,
                    minute=active.window.entry + column,
                    distance=float(distance[row]),
                )
            )
    return found


def trigger_comparisons(active: ActiveStrategy, bars: Bars, day: DayFacts, row: int) -> list[TriggerComparison]:
    """The strategy's comparisons for one symbol in the last minute of `bars`; empty outside its entry phase.

    A window that begins before the open has none: it is skipped.
    """
    column = bars.minutes - 1 - active.window.entry
    if not 0 <= column < active.window.breakout:
        return []
    return [_compared(trigger, row, column) for trigger in active.triggers(bars, day)]


def _compared(trigger: Trigger, row: int, column: int) -> TriggerComparison:
    fires = trigger.fires()

    def cell(values: Array | Flags) -> float:
        return float(np.broadcast_to(values, fires.shape)[row, column])

    conditions = tuple(
        TriggerComparison(
            rule=one.name,
            side=trigger.side,
            value=cell(one.value),
            level=cell(one.level),
            above=one.above,
            fires=bool(cell(one.holds())),
        )
        for one in trigger.when
    )
    return TriggerComparison(
        rule=trigger.rule,
        side=trigger.side,
        value=cell(trigger.value),
        level=cell(trigger.level),
        above=trigger.above,
        fires=bool(fires[row, column]),
        conditions=conditions,
    )


def _lacking(trigger: Trigger) -> Array:
    # Infinite where the distance is unknown or the level was reached, and where a further condition did not hold: the
    # level alone would have given no signal there.
    distance = -trigger.beyond()
    near = reduce(np.logical_and, (condition.holds() for condition in trigger.when), distance >= 0)
    return np.where(near, distance, np.inf)
