"""Lots: what was bought or sold short, and which of it a later trade has closed. Exact to the last unit and atom."""

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
    """Shares that came or went at a price: `quantity` is negative where they went.

    `key` names what moved them, `fees` are paid in cash. What moved `outside` did not move the account's cash.
    """

    key: str
    time: datetime
    quantity: Decimal
    price: Decimal
    fees: Decimal = Decimal(0)
    outside: bool = False


@attrs.frozen(kw_only=True)
class ShareSplit:
    """Every share becomes `after` / `before` shares at the same cost in all."""

    key: str
    before: int
    after: int


@attrs.frozen(kw_only=True)
class Lot:
    """What is left of one movement: shares sold short are negative, and so is then their cost, which was received."""

    key: str
    time: datetime
    quantity: Decimal
    cost: Decimal


@attrs.frozen(kw_only=True)
class ClosedLot:
    """A part of a lot that a later movement has closed: what it cost, and what it brought; a short's are negative."""

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
"""Which of the open lots is closed first, by its place."""


def oldest_lot(_lots: Sequence[Lot]) -> int:
    """The oldest."""
    return 0


METHODS: Final[Mapping[str, LotPicker]] = {"fifo": oldest_lot}
"""The methods of LOT_METHOD that are known here."""


@attrs.define(kw_only=True)
class SymbolLots:
    """The lots of one symbol: all of one sign, since what goes the other way closes them first.

    `cost` is what the open ones have cost, `gain` what the closed ones have earned, before fees.
    """

    pick: LotPicker = oldest_lot
    open: list[Lot] = attrs.field(factory=list)
    closed: list[ClosedLot] = attrs.field(factory=list)
    cost: Decimal = Decimal(0)
    gain: Decimal = Decimal(0)

    @property
    def quantity(self) -> Decimal:
        """Shares that are held, negative where they were sold short."""
        return sum((lot.quantity for lot in self.open), Decimal(0))

    def apply(self, movement: LotMovement) -> None:
        """Close what goes the other way, and open a lot with the rest."""
        left = movement.quantity
        while left and self.open and (self.open[0].quantity < 0) is (left > 0):
            left += self._close(self.pick(self.open), movement, left)
        if left:
            cost = left * movement.price
            self.cost += cost
            self.open.append(Lot(key=movement.key, time=movement.time, quantity=left, cost=cost))

    def split(self, split: ShareSplit) -> None:
        """Multiply what is held; what is less than a millionth of a share then is not held any more.

        The whole is rounded, and not each lot: three lots of ten shares are ten after one for three.
        """
        before = after = Decimal(0)
        for at, lot in enumerate(self.open):
            before, held = before + lot.quantity, after
            after = (before * split.after / split.before).quantize(_UNIT, ROUND_DOWN)
            self.open[at] = attrs.evolve(lot, quantity=after - held)

    def _close(self, at: int, movement: LotMovement, left: Decimal) -> Decimal:
        # Close a lot against so much of a movement; returns the part of the lot that is closed.
        lot = self.open[at]
        part = lot.quantity if abs(lot.quantity) <= abs(left) else -left
        whole = part == lot.quantity
        # A part whose cost is no whole number of atoms leaves the rest of the atom to what stays.
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
    """The lots that these movements and splits leave, oldest first."""
    lots = SymbolLots(pick=pick)
    for step in steps:
        if isinstance(step, ShareSplit):
            lots.split(step)
        else:
            lots.apply(step)
    return lots
