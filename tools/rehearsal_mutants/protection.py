"""Mutants of what rests for a position and of what closes it; each function says what to plant, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.engine.live.protection import Protection, ProtectionMonitor
from tbot_core.execution.reconciler import Reconciler
from tbot_core.model.types import Leg, Order, quantity_of
from tbot_core.rehearsal.patching import Swaps, current_attribute
from tbot_core.trading.positions import order_factory
from tbot_core.trading.positions.exits import ExitEvaluator, ExitSubmitter
from tbot_core.trading.positions.manager import PositionManager
from tbot_core.trading.positions.stops import ProtectiveStops

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tbot_core.execution.order_lookup import OrderLookup
    from tbot_core.model.types import Fill
    from tbot_core.trading.orders import OrderRecord
    from tbot_core.trading.portfolio import Position
    from tbot_core.trading.positions.state import ManagedPosition


def exit_for_all_that_was_entered() -> Swaps:
    """An exit is for what was entered, not for what is left."""
    return ((order_factory, "exit_order", _whole(order_factory.exit_order)),)


def stop_for_all_that_was_entered() -> Swaps:
    """A stop of its own is for what was entered, not for what is left."""
    return ((order_factory, "stop_order", _whole(order_factory.stop_order)),)


def stop_kept_whatever_is_held() -> Swaps:
    """A stop that rests is left as it is when more or less is held."""
    protect = current_attribute(ProtectiveStops, "protect")

    def once(self: Any, held: ManagedPosition, entries: Sequence[str] = ()) -> list[Any]:
        return [] if Leg.STOP in held.resting else list(protect(self, held, entries))

    return ((ProtectiveStops, "protect", once),)


def ended_stop_forgotten() -> Swaps:
    """A stop that has ended unasked is thought to rest on."""
    ended = current_attribute(PositionManager, "_on_order_ended")

    def unless_stop(self: Any, order: Order) -> None:
        if order.leg is not Leg.STOP:
            ended(self, order)

    return ((PositionManager, "_on_order_ended", unless_stop),)


def orphan_protection_left() -> Swaps:
    """What rests for a position that is closed stays at the broker."""
    closed = current_attribute(PositionManager, "_on_closed")

    def leave(self: Any, position: Position, fill: Fill) -> None:
        closed(self, position, fill)
        for one in [*self._cancels]:
            self._cancels.on_ended(one)

    return ((PositionManager, "_on_closed", leave),)


def exit_beside_what_rests() -> Swaps:
    """An exit waits for nothing to end."""
    return ((PositionManager, "_blocking_orders", lambda _self, _held: []),)


def exit_each_minute_anew() -> Swaps:
    """An exit that works keeps no other one back."""
    place = current_attribute(ExitSubmitter, "place_exit")

    def forget(self: Any, held: ManagedPosition, minute: int) -> Any:
        placed = place(self, held, minute)
        held.exit_order_id = None
        return placed

    return ((ExitSubmitter, "place_exit", forget),)


def waiting_exit_keeps_the_stop_away() -> Swaps:
    """An exit that a kill, a freeze or a halt holds back is not given up: nothing rests until it may leave."""
    return ((ExitEvaluator, "cancel_blocked_exit", lambda _self, _held: None),)


def exit_beside_a_target() -> Swaps:
    """The target of a bracket is in no exit's way, and goes on resting beside it."""
    in_the_way = current_attribute(PositionManager, "_blocking_orders")

    def without(self: Any, held: ManagedPosition) -> list[str]:
        return [one for one in in_the_way(self, held) if one != held.resting.get(Leg.TARGET)]

    return ((PositionManager, "_blocking_orders", without),)


def _whole(make: Callable[..., Order]) -> Callable[..., Order]:
    def whole(name: order_factory.OrderIdFactory, position: Position, *rest: Any) -> Order:
        return attrs.evolve(make(name, position, *rest), quantity=quantity_of(position.entry_units))

    return whole


def stop_in_doubt_left_in_doubt() -> Swaps:
    """A stop or exit whose outcome is unknown is looked up as rarely as an entry."""

    async def settle(_self: Any) -> None:
        return

    return ((Reconciler, "must_settle", lambda _self: False), (Reconciler, "settle_due", settle))


def stop_in_doubt_taken_for_resting() -> Swaps:
    """A position counts as protected by any stop that was sent for it."""

    def protection(_self: Any, position: ManagedPosition) -> Protection:
        return Protection.RESTING if Leg.STOP in position.resting else Protection.BARE

    return ((ProtectionMonitor, "_protection", protection),)


def one_list_lets_a_stop_be_sent_anew() -> Swaps:
    """Where ids may repeat, a stop or exit is given up by the first list without it, however far lists are behind."""

    def given_up(self: Any, record: OrderRecord, lookup: OrderLookup, source: str, requested: float) -> bool:
        urgent = self._is_urgent(record) and not record.confirmed
        return (urgent and source == "list") or is_given_up(self, record, lookup, source, requested)

    is_given_up = current_attribute(Reconciler, "_is_given_up")
    return ((Reconciler, "_is_given_up", given_up),)
