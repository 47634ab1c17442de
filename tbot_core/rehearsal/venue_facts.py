"""The facts of a simulated venue, and the cash and holdings that follow from them.

Money is in atoms and quantities in units, so that sums are exact. The invariants compare a bot's journal with them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime
from itertools import takewhile
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypedDict

import attrs

from tbot_core.contracts import AccountActivity, PositionReport
from tbot_core.model.types import Fill, atoms_of, dollars_of, quantity_of, ticks_of, units_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOW: Final = datetime.max.replace(tzinfo=UTC)


@attrs.frozen(kw_only=True)
class VenueFact:
    """An event at a venue.

    `kind`: accepted, rejected, replaced, cancelled, expired, execution, busted, corrected, or an activity's kind.
    `ours`: it concerns an order of the bot. `units` and `atoms` are the changes of holding and cash; `quantity` is the
    ordered quantity in units.
    """

    at: datetime
    kind: str
    ours: bool = False
    client_order_id: str = ""
    broker_order_id: str = ""
    symbol: str = ""
    quantity: int = 0
    units: int = 0
    atoms: int = 0
    fill: Fill | None = None
    words: str = ""

    @property
    def line(self) -> str:
        """The fact as one line of a trace."""
        fill = "" if self.fill is None else f" {self.fill.execution_id}@{self.fill.price}"
        return (
            f"{self.at.isoformat()} {self.kind} {self.client_order_id or '-'} {self.broker_order_id or '-'} "
            f"{self.symbol or '-'} {self.quantity} {self.units} {self.atoms}{fill} {self.words}".rstrip()
        )


class FactFields(TypedDict, total=False):
    """The fields of a fact besides its time and kind."""

    ours: bool
    client_order_id: str
    broker_order_id: str
    symbol: str
    quantity: int
    units: int
    atoms: int
    fill: Fill | None
    words: str


class VenueBooks:
    """Cash in atoms and holdings in units; only facts change them."""

    def __init__(self, cash: int) -> None:
        """Begin without holdings; `cash` is in atoms."""
        self.first_cash = cash
        self.cash = cash
        self.units: dict[str, int] = {}
        self.facts: list[VenueFact] = []

    def write(self, fact: VenueFact) -> None:
        """Add a fact, and apply it to cash and holdings."""
        self.facts.append(fact)
        self.cash += fact.atoms
        if fact.units:
            held = self.units.pop(fact.symbol, 0) + fact.units
            if held:
                self.units[fact.symbol] = held

    def units_at(self, moment: datetime) -> dict[str, int]:
        """The holdings in units at a moment, by symbol."""
        units = Counter(self.units)
        for fact in self._since(moment):
            units[fact.symbol] -= fact.units
        return {symbol: count for symbol, count in sorted(units.items()) if count}

    def cash_at(self, moment: datetime) -> int:
        """The cash in atoms at a moment."""
        return self.cash - sum(fact.atoms for fact in self._since(moment))

    def count(self, moment: datetime) -> int:
        """The number of facts until a moment."""
        return bisect_right(self.facts, moment, key=attrgetter("at"))

    def _since(self, moment: datetime) -> Iterator[VenueFact]:
        # The facts after a moment, the latest first.
        return takewhile(lambda fact: fact.at > moment, reversed(self.facts))

    def holdings(self, moment: datetime = _NOW) -> tuple[PositionReport, ...]:
        """The holdings at a moment, by symbol; those of now without one."""
        return tuple(
            PositionReport(symbol=symbol, quantity=quantity_of(units))
            for symbol, units in self.units_at(moment).items()
        )

    def activities(self, since: datetime, until: datetime) -> tuple[AccountActivity, ...]:
        """The changes of cash or holdings without an order between two moments."""
        return tuple(
            AccountActivity(
                activity_id=f"a{number}",
                kind=fact.kind,
                time=fact.at,
                symbol=fact.symbol,
                quantity=quantity_of(fact.units),
                cash=dollars_of(fact.atoms),
                words=fact.words,
            )
            for number, fact in enumerate(self.facts)
            if since <= fact.at <= until and (fact.units or fact.atoms) and fact.fill is None
        )


def fill_effect(fill: Fill) -> tuple[int, int]:
    """The changes of holding (units) and cash (atoms) by an execution."""
    units = units_of(fill.quantity) * (1 if fill.buy else -1)
    return units, -units * ticks_of(float(fill.price)) - atoms_of(fill.fees)
