"""Rebalancing rules: when positions are checked, and by how much one is above or below its target.

A position's target is the cost of its entry. Both are shares of the same opening equity, so amounts are compared.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import attrs

from tbot_core.model.types import UNITS_PER_SHARE, units_of

if TYPE_CHECKING:
    from tbot_core.contracts.settings import RebalanceSettings
    from tbot_core.trading.portfolio import Portfolio, Position


class Sized(Protocol):
    """The size of a position: its units, the value of one at the last mark, and its target, in atoms."""

    @property
    def units(self) -> int:
        """The units held."""

    @property
    def unit_atoms(self) -> int:
        """The value of one unit at the last mark."""

    @property
    def target_atoms(self) -> int:
        """The target value."""


class Size(NamedTuple):
    """A size that is not that of a booked position."""

    units: int
    unit_atoms: int
    target_atoms: int


@attrs.frozen(kw_only=True)
class CashShare:
    """The cash's share of equity and its target, as fractions of 1."""

    share: Decimal
    target: Decimal

    def exceeds_trigger(self, policy: RebalanceSettings) -> bool:
        """Whether they differ by more than REBALANCE_TRIGGER_PCT percentage points."""
        return 100 * abs(self.share - self.target) > policy.rebalance_trigger_pct


def interval_elapsed(policy: RebalanceSettings, minute: Any) -> Any:
    """Whether a REBALANCE_CHECK_INTERVAL, counted from the open, ends with a minute: one, or an array of them."""
    interval = policy.rebalance_check_interval
    return (minute + 1) * 60 // interval > minute * 60 // interval


def checks_positions(policy: RebalanceSettings, minute: Any) -> Any:
    """Whether positions are compared with their targets at the end of a minute: one, or an array of them."""
    return policy.rebalance_enabled and interval_elapsed(policy, minute)


def next_check(policy: RebalanceSettings, minutes: range) -> int:
    """The first of these minutes in which positions are compared with their targets; the end if there is none."""
    checks = (minute for minute in minutes if interval_elapsed(policy, minute)) if policy.rebalance_enabled else ()
    return next(iter(checks), minutes.stop)


def cash_share(portfolio: Portfolio, allocation: Decimal, strategies: int) -> CashShare:
    """The cash's share at the last marks (0 without equity); the target is 1 - allocation x strategies."""
    equity = portfolio.equity_atoms
    share = Decimal(portfolio.cash_atoms) / equity if equity > 0 else Decimal(0)
    return CashShare(share=round(share, 6), target=1 - allocation * strategies)


def trim_step(units: int, quantity_step: Decimal) -> int:
    """The step in units by which a position of so many is trimmed: whole shares, if it has whole shares."""
    return UNITS_PER_SHARE if units % UNITS_PER_SHARE == 0 else units_of(quantity_step)


def excess_units(policy: RebalanceSettings, position: Sized, step: int) -> int:
    """The units above a position's target, in whole steps; 0 if not above by more than the threshold."""
    over = position.units * position.unit_atoms - position.target_atoms
    if over <= position.target_atoms * policy.rebalance_threshold:
        return 0
    return over // position.unit_atoms // step * step


def missing_atoms(policy: RebalanceSettings, position: Sized) -> int:
    """The atoms by which a position is below its target; 0 if not below by more than the threshold."""
    under = position.target_atoms - position.units * position.unit_atoms
    return under if under > position.target_atoms * policy.rebalance_threshold else 0


def is_losing(position: Position) -> bool:
    """Whether the mark is on the losing side of the average entry price."""
    return position.side * (position.unit_atoms * position.entry_units - position.entry_atoms) < 0
