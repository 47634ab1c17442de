"""Rebalancing rules: when positions are checked, and by how much one is above or below its target.

A position's target is the cost of its entry. Both are shares of the same opening equity, so amounts are compared.
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
    """The cash's share of equity and its target, as fractions of 1."""

    share: Decimal
    target: Decimal

    def exceeds_trigger(self, policy: RebalanceSettings) -> bool:
        """Whether they differ by more than REBALANCE_TRIGGER_PCT percentage points."""
        return 100 * abs(self.share - self.target) > policy.rebalance_trigger_pct


def interval_elapsed(policy: RebalanceSettings, minute: int) -> bool:
    """Whether a REBALANCE_CHECK_INTERVAL, counted from the open, ends with a minute."""
    interval = policy.rebalance_check_interval
    return (minute + 1) * 60 // interval > minute * 60 // interval


def checks_positions(policy: RebalanceSettings, minute: int) -> bool:
    """Whether positions are compared with their targets at the end of a minute."""
    return policy.rebalance_enabled and interval_elapsed(policy, minute)


def cash_share(portfolio: Portfolio, allocation: Decimal, strategies: int) -> CashShare:
    """The cash's share at the last marks (0 without equity); the target is 1 - allocation x strategies."""
    equity = portfolio.equity_atoms
    share = Decimal(portfolio.cash_atoms) / equity if equity > 0 else Decimal(0)
    return CashShare(share=round(share, 6), target=1 - allocation * strategies)


def excess_units(policy: RebalanceSettings, position: Position, step: int) -> int:
    """The units above a position's target, in whole steps; 0 if not above by more than the threshold."""
    over = position.units * position.mark - position.target_atoms
    if over <= position.target_atoms * policy.rebalance_threshold:
        return 0
    return over // position.mark // step * step


def missing_atoms(policy: RebalanceSettings, position: Position) -> int:
    """The atoms by which a position is below its target; 0 if not below by more than the threshold."""
    under = position.target_atoms - position.units * position.mark
    return under if under > position.target_atoms * policy.rebalance_threshold else 0


def is_losing(position: Position) -> bool:
    """Whether the mark is on the losing side of the average entry price."""
    return position.side * (position.mark * position.entry_units - position.entry_atoms) < 0
