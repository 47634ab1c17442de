"""Sizing: the quantity and the worst price of an entry."""

from __future__ import annotations

import functools
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from tbot_core.contracts.capabilities import BrokerCapabilities
from tbot_core.contracts.settings import EntrySettings
from tbot_core.model.types import (
    UNITS_PER_SHARE,
    Instrument,
    InstrumentKind,
    Order,
    OrderType,
    Side,
    ticks_of,
    units_of,
)
from tbot_core.trading.price_grid import band_level, limit_level

if TYPE_CHECKING:
    from tbot_core.trading.portfolio import Position

Ratio: TypeAlias = tuple[int, int]
"""A fraction, 0 or more, as numerator and denominator."""

SHORT_MARGIN: Final[Ratio] = (103, 100)
"""A short's worst case for the buying power: at least 1.03 times the ask."""


@attrs.frozen(kw_only=True)
class SizedEntry:
    """A sized entry of an instrument before the risk checks: its units, and its prices in ticks.

    `price` is the limit of a limit order, and the upper edge of PRICE_BAND_PCT for a market order, also for a short,
    whose exposure grows with the price. `last` is the price of the last trade, None if `reference` is that price.
    `ask` is that of the quote, None if the source has no quotes.
    """

    instrument: Instrument
    type: OrderType
    price: int
    units: int
    reference: int
    last: int | None = None
    ask: int | None = None

    @property
    def limit(self) -> int | None:
        """The limit in ticks; None at the market."""
        return self.price if self.type is OrderType.LIMIT else None

    @property
    def worst(self) -> int:
        """The price at which it is sized and counted: a short sold at its limit or better may fill above it."""
        return max(self.price, self.reference)

    @property
    def last_price(self) -> int:
        """The price of the last trade."""
        return self.reference if self.last is None else self.last

    @property
    def distance(self) -> int:
        """How far the order's price is from the last trade.

        A market order has no limit: its price is the worst one within the band around its reference.
        """
        aimed = self.reference if self.type is OrderType.MARKET else self.price
        return abs(aimed - self.last_price)

    @property
    def worst_atoms(self) -> int:
        """The notional of the whole order at the worst price."""
        return self.instrument.atoms(self.units, self.worst)

    def power_atoms(self, side: Side) -> int:
        """The buying power that it uses in the worst case."""
        worst = self.worst
        if side is Side.LONG:
            return self.instrument.atoms(self.units, worst)
        ask = self.reference if self.ask is None else self.ask
        margin: int = short_margin(ask)
        return self.instrument.atoms(self.units, max(worst, margin))


@attrs.frozen(kw_only=True)
class Sizer:
    """Sizes entries by the settings and the broker's capabilities.

    `grid` and `lot` are an instrument's steps of price (ticks) and quantity (units).
    """

    entries: EntrySettings
    rules: BrokerCapabilities
    price_band: Decimal
    fixed_units: int = 0
    grid: int = 0
    lot: int = 1

    def price(self, reference: int, side: Side) -> int:
        """The limit in ticks: the reference moved by ENTRY_LIMIT_PCT, up by PRICE_BAND_PCT for a market order.

        It is rounded towards the reference.
        """
        if self._type is OrderType.MARKET:
            return int(band_level(reference, self._distance, self.grid))
        return int(limit_level(reference, side, self._distance, self.grid))

    def plan(self, instrument: Instrument, reference: int, side: Side, budget_atoms: int) -> SizedEntry:
        """The entry that a budget in atoms allows at the worst price; 0 units if below the smallest quantity.

        `reference` is a price of the instrument, and `side` that of the position in it.
        """
        price = self.price(reference, side)
        worst, step = instrument.atoms(1, max(price, reference)), self.step(self._type, side, instrument.kind)
        units = units_for(budget_atoms, worst, step, self.fixed_units)
        return SizedEntry(instrument=instrument, type=self._type, price=price, units=units, reference=reference)

    def addition(self, position: Position, reference: int, budget_atoms: int, *, whole: bool) -> SizedEntry:
        """The top-up that a budget in atoms allows; `whole`: the position has whole shares and keeps them."""
        instrument, price = position.instrument, self.price(reference, position.side)
        step = max(self.step(self._type, position.side, instrument.kind), UNITS_PER_SHARE if whole else 1)
        units = units_for(budget_atoms, instrument.atoms(1, max(price, reference)), step)
        return SizedEntry(instrument=instrument, type=self._type, price=price, units=units, reference=reference)

    def plan_of(self, order: Order, reference: int, side: Side) -> SizedEntry:
        """The sized entry of a recorded order."""
        limit = order.limit_price
        price = self.price(reference, side) if limit is None else ticks_of(float(limit))
        return SizedEntry(
            instrument=order.instrument,
            type=order.type,
            price=price,
            units=units_of(order.quantity),
            reference=reference,
        )

    def step(self, kind: OrderType, side: Side, traded: InstrumentKind = InstrumentKind.STOCK) -> int:
        """The step of an entry's quantity in units: that of the broker and the instrument, else whole shares.

        `side` is that of the position. Puts are traded in whole contracts.
        """
        whole = side is Side.SHORT or not self.entries.fractional or kind not in self.rules.fractional_types
        whole |= traded is InstrumentKind.PUT
        return max(self.lot, UNITS_PER_SHARE if whole else self._smallest_step)

    @functools.cached_property
    def _type(self) -> OrderType:
        return OrderType(self.entries.entry_order_type)

    @functools.cached_property
    def _distance(self) -> float:
        # How far an entry's price may be from the reference, as a fraction of it.
        return float(self.price_band if self._type is OrderType.MARKET else self.entries.entry_limit_pct)

    @functools.cached_property
    def _smallest_step(self) -> int:
        return units_of(self.rules.quantity_step)


def units_for(budget_atoms: int, worst: int, step: int, fixed_units: int = 0) -> int:
    """The units, in whole steps, that a budget in atoms allows at the worst cost of one, else the fixed ones."""
    return (fixed_units or max(0, budget_atoms) // worst) // step * step


def short_margin(ask: Any) -> Any:
    """The price in ticks that a short's buying power is at least counted at; `ask` is a number or an array."""
    part, whole = SHORT_MARGIN
    return ask * part // whole


def fraction_of(atoms: int, fraction: Decimal) -> int:
    """A fraction of an amount in atoms, rounded towards zero."""
    return share_of(atoms, fraction.as_integer_ratio())


def share_of(atoms: int, ratio: Ratio) -> int:
    """The same for a fraction as numerator and denominator."""
    part, whole = ratio
    return atoms * part // whole if atoms >= 0 else -(-atoms * part // whole)
