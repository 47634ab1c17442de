"""How much to buy and at which limit: from a signal's price to the planned order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import VenueRules
from tbot_core.exits import on_grid
from tbot_core.model import UNITS_PER_SHARE, OrderType, Side, units_of
from tbot_core.policy import Entries

if TYPE_CHECKING:
    from decimal import Decimal


SHORT_MARGIN = (103, 100)
"""A short's worst case for the buying power: at least 1.03 times the reference."""


@attrs.frozen(kw_only=True)
class Planned:
    """An entry before the gate: its limit (for a market order the price it is planned at) in ticks, and its units."""

    type: OrderType
    limit: int
    units: int
    reference: int

    @property
    def worst_atoms(self) -> int:
        """The notional with the whole order filled at its limit."""
        return self.units * self.limit

    def power_atoms(self, side: Side) -> int:
        """What it takes of the buying power at worst."""
        if side is Side.LONG:
            return self.worst_atoms
        part, whole = SHORT_MARGIN
        return self.units * max(self.limit, self.reference * part // whole)


@attrs.frozen(kw_only=True)
class Sizer:
    """Sizes entries by the settings and by what the venue can do."""

    entries: Entries
    rules: VenueRules
    fixed_units: int = 0

    def limit(self, reference: int, side: Side) -> int:
        """The entry's limit in ticks: the reference moved by ENTRY_LIMIT_PCT, rounded so that it is never exceeded."""
        moved = reference * (1 + side * self.entries.entry_limit_pct)
        return on_grid(float(moved), up=side is Side.SHORT)

    def plan(self, reference: int, side: Side, budget_atoms: int) -> Planned:
        """The entry that a budget in atoms allows at its limit; 0 units when that is under the smallest quantity."""
        kind = OrderType(self.entries.entry_order_type)
        limit = self.limit(reference, side)
        step = self._step(kind, side)
        units = self.fixed_units or max(0, budget_atoms) // limit
        return Planned(type=kind, limit=limit, units=units // step * step, reference=reference)

    def _step(self, kind: OrderType, side: Side) -> int:
        whole = side is Side.SHORT or not self.entries.fractional or kind not in self.rules.fractional_types
        return UNITS_PER_SHARE if whole else units_of(self.rules.quantity_step)


def share(atoms: int, fraction: Decimal) -> int:
    """A fraction of an amount in atoms, rounded down."""
    return int(atoms * fraction)
