"""Creates orders: an entry with its protection, a top-up, a stop, an exit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.model.types import (
    UNITS_PER_SHARE,
    ExitReason,
    Instrument,
    Leg,
    Order,
    OrderType,
    Side,
    SignalId,
    price_of,
    quantity_of,
)

if TYPE_CHECKING:
    from tbot_core.contracts import BrokerCapabilities
    from tbot_core.trading.exit_plan import ExitPlan
    from tbot_core.trading.orders import OrderIdFactory
    from tbot_core.trading.portfolio import Position
    from tbot_core.trading.proposals import TradingRules
    from tbot_core.trading.risk.sizing import SizedEntry

REASONS = {Leg.STOP: ExitReason.STOP, Leg.TARGET: ExitReason.TARGET}
"""The exit reason of a protective order's fill, unless it was moved."""


def uses_bracket(venue: BrokerCapabilities, units: int) -> bool:
    """Whether an entry of this size is sent as a bracket: the broker supports it, for fractional shares too."""
    whole = units % UNITS_PER_SHARE == 0
    return venue.brackets and (whole or venue.fractional_types.issuperset({OrderType.STOP, OrderType.LIMIT}))


def would_be_unprotected(rules: TradingRules, units: int) -> bool:
    """Whether a position of this size cannot have a stop at the broker, and the settings do not permit that."""
    permitted = rules.entries.fractional_unprotected or OrderType.STOP in rules.venue.fractional_types
    return 0 < units < UNITS_PER_SHARE and not permitted


def entry_order(
    name: OrderIdFactory, signal: SignalId, planned: SizedEntry, plan: ExitPlan, *, venue: BrokerCapabilities
) -> Order:
    """The entry; if the broker supports brackets, with its stop and target.

    Of a proxy it has no target: that of its plan is a price of the signal's stock.
    """
    instrument = planned.instrument
    buy = instrument.side(plan.side) is Side.LONG
    brackets = uses_bracket(venue, planned.units)
    of = signal, instrument
    protection = []
    if brackets and not plan.on_close:
        protection.append(_draft(name, of, Leg.STOP, planned.units, buy=not buy, ticks=plan.resting_stop))
    if brackets and plan.target is not None and not plan.is_apart:
        protection.append(_draft(name, of, Leg.TARGET, planned.units, buy=not buy, ticks=plan.target))
    return _draft(name, of, Leg.ENTRY, planned.units, buy=buy, ticks=planned.limit, protection=tuple(protection))


def stop_order(name: OrderIdFactory, position: Position, plan: ExitPlan, attempt: int, units: int) -> Order:
    """A stop for `units` of a position, at the level of its plan that rests at the broker."""
    buy = position.side is Side.SHORT
    draft = _draft(name, _of(position), Leg.STOP, units, buy=buy, ticks=plan.resting_stop, attempt=attempt)
    return attrs.evolve(draft, reason=plan.resting_reason)


def exit_order(name: OrderIdFactory, position: Position, units: int, reason: ExitReason | None, attempt: int) -> Order:
    """A market order that closes `units` of a position."""
    buy = position.side is Side.SHORT
    return _draft(name, _of(position), Leg.EXIT, units, buy=buy, attempt=attempt, reason=reason)


def overfill_order(name: OrderIdFactory, order: Order, units: int, attempt: int) -> Order:
    """A market order that reverses an overfill of signed `units` of what an order trades."""
    of = order.signal, order.instrument
    return _draft(name, of, Leg.EXIT, abs(units), buy=units < 0, attempt=attempt, reason=ExitReason.EXCESS)


def trim_order(name: OrderIdFactory, position: Position, units: int, attempt: int) -> Order:
    """A market order that trims a position by `units`."""
    buy = position.side is Side.SHORT
    reason = ExitReason.REBALANCE
    draft = _draft(name, _of(position), Leg.EXIT, units, buy=buy, attempt=attempt, reason=reason)
    return attrs.evolve(draft, tag=reason.value)


def top_up_order(name: OrderIdFactory, position: Position, planned: SizedEntry, attempt: int) -> Order:
    """An entry that adds to a position; its fill replaces the protection of the whole position."""
    reason = ExitReason.REBALANCE
    buy, ticks = position.side is Side.LONG, planned.limit
    draft = _draft(name, _of(position), Leg.ENTRY, planned.units, buy=buy, ticks=ticks, attempt=attempt, reason=reason)
    return attrs.evolve(draft, tag=reason.value)


def _of(position: Position) -> tuple[SignalId, Instrument]:
    return position.signal, position.instrument


def _draft(  # noqa: PLR0913  the parameters of an order
    name: OrderIdFactory,
    of: tuple[SignalId, Instrument],
    leg: Leg,
    units: int,
    *,
    buy: bool,
    ticks: int | None = None,
    protection: tuple[Order, ...] = (),
    attempt: int = 1,
    reason: ExitReason | None = None,
) -> Order:
    price = None if ticks is None else price_of(ticks)
    signal, instrument = of
    priced = OrderType.STOP if leg is Leg.STOP else OrderType.LIMIT
    return Order(
        client_order_id=name(signal, leg, attempt),
        signal=signal,
        leg=leg,
        instrument=instrument,
        buy=buy,
        quantity=quantity_of(units),
        type=OrderType.MARKET if price is None else priced,
        limit_price=price if priced is OrderType.LIMIT else None,
        stop_price=price if priced is OrderType.STOP else None,
        protection=protection,
        reason=reason or REASONS.get(leg),
    )
