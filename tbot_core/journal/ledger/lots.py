"""Tax lots: shares bought or sold short, and what closed them. Exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import Final

import attrs

_ATOM: Final = Decimal("1e-10")
_UNIT: Final = Decimal("1e-6")


@attrs.frozen(kw_only=True)
class LotMovement:
    """A movement of shares at a price; `quantity` is negative for a sale.

    `key` is the execution id, `fees` are paid in cash. A movement `outside` did not change the account's cash.
    """

    key: str
    time: datetime
    quantity: Decimal
    price: Decimal
    fees: Decimal = Decimal(0)
    outside: bool = False


@attrs.frozen(kw_only=True)
class ShareSplit:
    """A split: every share becomes `after` / `before` shares; the total cost stays."""

    key: str
    before: int
    after: int


@attrs.frozen(kw_only=True)
class Lot:
    """The open part of one movement; a short lot has negative quantity and cost."""

    key: str
    time: datetime
    quantity: Decimal
    cost: Decimal


@attrs.frozen(kw_only=True)
class ClosedLot:
    """A part of a lot that a later movement closed; for a short, cost and proceeds are negative."""

    opened: str
    closed: str
    since: datetime
    until: datetime
    quantity: Decimal
    cost: Decimal
    proceeds: Decimal

    @property
    def gain(self) -> Decimal:
        """Profit before fees."""
        return self.proceeds - self.cost


LotPicker = Callable[[Sequence[Lot]], int]
"""Returns the position of the open lot that is closed first."""


def oldest_lot(_lots: Sequence[Lot]) -> int:
    """The oldest lot first (FIFO)."""
    return 0


METHODS: Final[Mapping[str, LotPicker]] = {"fifo": oldest_lot}
"""The supported methods of LOT_METHOD."""


@attrs.define(kw_only=True)
class SymbolLots:
    """The lots of one symbol, all of one sign: an opposite movement closes them first.

    `cost` is the cost of the open lots, `gain` the profit of the closed ones, before fees.
    """

    pick: LotPicker = oldest_lot
    open: list[Lot] = attrs.field(factory=list)
    closed: list[ClosedLot] = attrs.field(factory=list)
    cost: Decimal = Decimal(0)
    gain: Decimal = Decimal(0)

    @property
    def quantity(self) -> Decimal:
        """Shares held, negative when short."""
        return sum((lot.quantity for lot in self.open), Decimal(0))

    def apply(self, movement: LotMovement) -> None:
        """Close lots of the opposite sign, and open a lot with the rest."""
        left = movement.quantity
        while left and self.open and (self.open[0].quantity < 0) is (left > 0):
            left += self._close(self.pick(self.open), movement, left)
        if left:
            cost = left * movement.price
            self.cost += cost
            self.open.append(Lot(key=movement.key, time=movement.time, quantity=left, cost=cost))

    def split(self, split: ShareSplit) -> None:
        """Multiply the quantities; less than a millionth of a share is dropped.

        The total is rounded, not each lot: three lots of ten shares are ten shares after a one-for-three split.
        """
        before = after = Decimal(0)
        for at, lot in enumerate(self.open):
            before, held = before + lot.quantity, after
            after = (before * split.after / split.before).quantize(_UNIT, ROUND_DOWN)
            self.open[at] = attrs.evolve(lot, quantity=after - held)

    def _close(self, at: int, movement: LotMovement, left: Decimal) -> Decimal:
        # Close a lot against at most `left` of a movement; returns the part of the lot that was closed.
        lot = self.open[at]
        part = lot.quantity if abs(lot.quantity) <= abs(left) else -left
        whole = part == lot.quantity
        # Round the closed part's cost down to an atom; the remainder stays with the rest.
        cost = lot.cost if whole else (lot.cost * part / lot.quantity).quantize(_ATOM, ROUND_DOWN)
        closed = ClosedLot(
            opened=lot.key,
            closed=movement.key,
            since=lot.time,
            until=movement.time,
            quantity=part,
            cost=cost,
            proceeds=part * movement.price,
        )
        self.closed.append(closed)
        self.cost -= cost
        self.gain += closed.gain
        if whole:
            del self.open[at]
        else:
            self.open[at] = attrs.evolve(lot, quantity=lot.quantity - part, cost=lot.cost - cost)
        return part


def lots_of(steps: Sequence[LotMovement | ShareSplit], pick: LotPicker = oldest_lot) -> SymbolLots:
    """The lots that result from these movements and splits."""
    lots = SymbolLots(pick=pick)
    for step in steps:
        if isinstance(step, ShareSplit):
            lots.split(step)
        else:
            lots.apply(step)
    return lots
