"""Readings of an account that contradict what its broker has confirmed.

A broker's lists are behind each other by seconds, in either direction. A holding that differs from the executions that
the broker has confirmed is believed at once if an order, an execution or an account activity of somebody else explains
it, else when readings have shown it for three minutes. Until then nothing is closed or protected anew in its symbol.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.execution.reconciliation import PositionDifference

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tbot_core.contracts import AccountSnapshot
    from tbot_core.model.types import Fill

CONTRADICTED_S: Final = 180.0
"""A contradiction without an explanation is believed when it has lasted so long."""

APART_S: Final = 15.0
"""Of readings that follow each other within this time, one counts."""

_LEAST: Final = 3
_ZERO: Final = Decimal(0)


class Judgment(Enum):
    """What becomes of a holding that a reading shows otherwise than the books.

    `EARLY`: the lists may not have what the broker has just confirmed; it contradicts nothing. `DISPUTED`: it is not
    believed yet. `EXPLAINED`: somebody else traded. `LASTING`: nothing explains it, and it has lasted.
    """

    EARLY = auto()
    DISPUTED = auto()
    EXPLAINED = auto()
    LASTING = auto()


@attrs.define(kw_only=True)
class SymbolReadings:
    """What is known of one symbol's holding; times are seconds of a steady clock.

    `confirmed_at`: when the broker last reported something of an order of ours. `difference`: what contradicts the
    books `since` a reading, shown by `readings` of them, the last one `counted_at`. `others`: what others have traded,
    in signed shares by order, execution or activity, with the second when it was first reported; `booked`: the part of
    it that the books contain.
    """

    confirmed_at: float = float("-inf")
    difference: PositionDifference | None = None
    since: float = 0.0
    counted_at: float = 0.0
    readings: int = 0
    others: dict[str, tuple[Decimal, float]] = attrs.field(factory=dict)
    booked: dict[str, Decimal] = attrs.field(factory=dict)

    def count(self, difference: PositionDifference, requested: float) -> None:
        """Count a reading that contradicts the books; another difference begins anew."""
        if difference != self.difference:
            self.difference, self.since, self.counted_at, self.readings = difference, requested, requested, 1
        elif requested - self.counted_at >= APART_S:
            self.counted_at, self.readings = requested, self.readings + 1

    @property
    def has_lasted(self) -> bool:
        """Whether enough readings have shown the same holding for long enough."""
        return self.readings >= _LEAST and self.counted_at - self.since >= CONTRADICTED_S

    def explains(self, change: Decimal, now: float) -> bool:
        """Whether what others traded, as listed within the last minutes and not booked yet, is this change."""
        fresh = {
            name: shares - self.booked.get(name, _ZERO)
            for name, (shares, listed_at) in self.others.items()
            if now - listed_at <= CONTRADICTED_S
        }
        return any(
            change == sum((shares for name, shares in fresh.items() if name.startswith(kinds)), _ZERO)
            for kinds in (_ORDER, _EXECUTION, _ACTIVITY, (_ORDER, _ACTIVITY), (_EXECUTION, _ACTIVITY))
        )


_ORDER: Final = "order "
_EXECUTION: Final = "execution "
_ACTIVITY: Final = "activity "


class Contradictions:
    """The readings of one account by symbol; `list_lag_s` is how far its lists may be behind."""

    def __init__(self, list_lag_s: float) -> None:
        self._list_lag_s = list_lag_s
        self._symbols: dict[str, SymbolReadings] = {}

    def confirm(self, symbol: str, now: float) -> None:
        """Record that the broker has reported something of an order of ours."""
        self._of(symbol).confirmed_at = now

    def restore(self, symbol: str, order_id: str, shares: Decimal) -> None:
        """Restore an order of somebody else that the books contain, from before a restart."""
        self._of(symbol).booked[f"{_ORDER}{order_id}"] = shares

    def add_reading(self, snapshot: AccountSnapshot, ours: Mapping[str, object], requested: float) -> None:
        """Add what others have traded by a reading; `ours` are our orders by client order id."""
        traded = [
            *((one.symbol, f"{_ORDER}{one.broker_order_id}", one.filled if one.buy else -one.filled)
              for one in snapshot.orders if one.client_order_id not in ours and one.filled),
            *((one.symbol, f"{_ACTIVITY}{one.activity_id}", one.quantity)
              for one in snapshot.activities if one.symbol and one.quantity),
        ]  # fmt: skip
        for symbol, name, shares in traded:
            self._add(symbol, name, shares, requested)
        for fill in snapshot.fills:
            if fill.client_order_id not in ours:
                self.add_execution(fill, requested)

    def add_execution(self, fill: Fill, now: float) -> None:
        """Add an execution of somebody else, which a reading lists or an event reports."""
        shares = fill.quantity if fill.buy else -fill.quantity
        self._add(fill.symbol, f"{_EXECUTION}{fill.execution_id}", shares, now)

    def _add(self, symbol: str, name: str, shares: Decimal, now: float) -> None:
        others = self._of(symbol).others
        if others.get(name, (_ZERO, 0.0))[0] != shares:
            others[name] = shares, now

    def judge(self, difference: PositionDifference, requested: float) -> Judgment:
        """What becomes of a difference that a reading from `requested` on shows in a symbol that tbot has traded."""
        known, change = self._of(difference.symbol), difference.theirs - difference.ours
        if known.explains(change, requested):
            return Judgment.EXPLAINED
        if requested - known.confirmed_at < self._list_lag_s:
            return Judgment.EARLY
        known.count(difference, requested)
        return Judgment.LASTING if known.has_lasted else Judgment.DISPUTED

    def settle(self, symbol: str) -> None:
        """Record that the books have what the account holds of a symbol, with what others have traded."""
        known = self._of(symbol)
        known.difference = None
        known.booked |= {name: shares for name, (shares, _) in known.others.items()}

    def agree_except(self, symbols: Collection[str]) -> None:
        """Record that a reading agrees with the books in all other symbols."""
        for symbol, known in self._symbols.items():
            if symbol not in symbols:
                known.difference = None

    def _of(self, symbol: str) -> SymbolReadings:
        return self._symbols.setdefault(symbol, SymbolReadings())
