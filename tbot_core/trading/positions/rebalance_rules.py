"""When positions are held against their share of equity, by how much one has outgrown its own, or lacks of it.

A position's target is what its entry cost, as a share of the session's opening equity; that equity stands on both
sides, so amounts are compared.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from tbot_core.contracts.settings import RebalanceSettings
    from tbot_core.trading.portfolio import Portfolio, Position


@attrs.frozen(kw_only=True)
class CashShare:
    """The cash's share of equity and what it should be, both of 1."""

    share: Decimal
    target: Decimal

    def exceeds_trigger(self, policy: RebalanceSettings) -> bool:
        """Whether the two are further apart than REBALANCE_TRIGGER_PCT percentage points."""
        return 100 * abs(self.share - self.target) > policy.rebalance_trigger_pct


def interval_elapsed(policy: RebalanceSettings, minute: int) -> bool:
    """Whether REBALANCE_CHECK_INTERVAL, counted from the opening bell, is over at the end of a minute."""
    interval = policy.rebalance_check_interval
    return (minute + 1) * 60 // interval > minute * 60 // interval


def checks_positions(policy: RebalanceSettings, minute: int) -> bool:
    """Whether positions are held against their share at the end of a minute."""
    return policy.rebalance_enabled and interval_elapsed(policy, minute)


def cash_share(portfolio: Portfolio, allocation: Decimal, strategies: int) -> CashShare:
    """The cash's share at the last marks against 1 - TOTAL_ALLOCATION for each strategy; without equity it is 0."""
    equity = portfolio.equity_atoms
    share = Decimal(portfolio.cash_atoms) / equity if equity > 0 else Decimal(0)
    return CashShare(share=round(share, 6), target=1 - allocation * strategies)


def excess_units(policy: RebalanceSettings, position: Position, step: int) -> int:
    """The units, in whole steps, beyond a position's target, where it exceeds that by more than the threshold."""
    over = position.units * position.mark - position.target_atoms
    if over <= position.target_atoms * policy.rebalance_threshold:
        return 0
    return over // position.mark // step * step


def missing_atoms(policy: RebalanceSettings, position: Position) -> int:
    """The atoms that a position's worth lies under its target, where that is more than the threshold."""
    under = position.target_atoms - position.units * position.mark
    return under if under > position.target_atoms * policy.rebalance_threshold else 0


def is_losing(position: Position) -> bool:
    """Whether the price lies on the losing side of what was paid on average."""
    return position.side * (position.mark * position.entry_units - position.entry_atoms) < 0
