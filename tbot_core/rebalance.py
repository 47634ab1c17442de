"""When positions are held against their share of equity, and by how much one has outgrown its own.

A position's target is what its entry cost, as a share of the session's opening equity; that equity stands on both
sides, so amounts are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tbot_core.policy import Rebalance
    from tbot_core.portfolio import Position


def checks(policy: Rebalance, minute: int) -> bool:
    """Whether a check falls at the end of a minute: every REBALANCE_CHECK_INTERVAL from the opening bell on."""
    interval = policy.rebalance_check_interval
    return policy.rebalance_enabled and (minute + 1) * 60 // interval > minute * 60 // interval


def excess(policy: Rebalance, position: Position, step: int) -> int:
    """The units, in whole steps, beyond a position's target, where it exceeds that by more than the threshold."""
    over = position.units * position.mark - position.entry_atoms
    if over <= position.entry_atoms * policy.rebalance_threshold:
        return 0
    return over // position.mark // step * step
