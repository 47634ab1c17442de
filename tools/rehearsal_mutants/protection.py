"""Mutants of what rests for a position and of what closes it; each function says what to plant, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.engine.live.protection import Protection, ProtectionMonitor
from tbot_core.execution.position_differences import PositionDifferences
from tbot_core.execution.reconciler import Reconciler
from tbot_core.model.types import Leg, Order, quantity_of
from tbot_core.rehearsal.patching import Swaps, current_attribute
from tbot_core.trading.account_book import ManagedPosition, Ticket
from tbot_core.trading.orders import OrderEvent
from tbot_core.trading.positions import order_factory
from tbot_core.trading.positions.desired import Desired
from tbot_core.trading.positions.exits import SENT_AGAIN, ExitEvaluator, ExitSubmitter
from tbot_core.trading.positions.manager import PositionManager
from tbot_core.trading.positions.stops import ProtectiveStops
from tbot_core.trading.risk.holds import Hold

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    from tbot_core.model.types import Fill
    from tbot_core.trading.order_lookup import OrderLookup
    from tbot_core.trading.orders import OrderIdFactory
    from tbot_core.trading.portfolio import Position


def exit_for_all_that_was_entered() -> Swaps:
    """An exit is for what was entered, not for what is left."""
    return ((order_factory, "exit_order", _whole(order_factory.exit_order)),)


def stop_for_all_that_was_entered() -> Swaps:
    """A stop of its own is for what was entered, not for what is left."""
    return ((order_factory, "stop_order", _whole(order_factory.stop_order)),)


def stop_kept_whatever_is_held() -> Swaps:
    """A stop that rests is left as it is when more or less is held."""
    desired = current_attribute(PositionManager, "_desired")

    def as_it_rests(self: Any, held: ManagedPosition) -> Desired:
        found: Desired = desired(self, held)
        return attrs.evolve(found, stop=None) if found.stop else found

    return ((PositionManager, "_desired", as_it_rests),)


def oversized_stop_kept() -> Swaps:
    """A stop that rests for more than is held stays."""
    desired = current_attribute(PositionManager, "_desired")

    def unless_larger(self: Any, held: ManagedPosition) -> Desired:
        found: Desired = desired(self, held)
        enough = found.stop and held.stop is not None and held.stop.open_units >= found.stop
        return attrs.evolve(found, stop=None) if enough else found

    return ((PositionManager, "_desired", unless_larger),)


def confirmed_replace_takes_the_newest_level() -> Swaps:
    """Of two replaces under way, the confirmation of the first counts for the last."""

    def on_answer(self: Any, event: OrderEvent) -> None:
        if event is OrderEvent.REPLACE and self.stop_level.pending:
            self.stop_level.pending.insert(0, self.stop_level.pending.pop())
        answered(self, event)

    answered = current_attribute(Ticket, "on_answer")
    return ((Ticket, "on_answer", on_answer),)


def stop_sent_again_for_more_than_held() -> Swaps:
    """A stop or exit in doubt is sent again though its position is smaller by now."""

    def may_send_again(self: Any, order: Order) -> bool:
        return order.signal in self.held and order.leg is not Leg.TARGET and bool(self.is_current(order))

    return ((PositionManager, "may_send_again", may_send_again),)


def cancelled_stop_placed_without_waiting() -> Swaps:
    """The first reading after others cancelled a stop is enough to place it again, however far lists are behind."""
    taken = current_attribute(ProtectiveStops, "on_stop_taken")

    def at_once(self: Any, held: ManagedPosition, stop: Ticket, at: float) -> None:
        taken(self, held, stop, at)
        held.reading_after = at

    return ((ProtectiveStops, "on_stop_taken", at_once),)


def foreign_close_noticed_on_the_wrong_side() -> Swaps:
    """What others trade makes a position wait for a reading only where it enlarges it."""
    notice = current_attribute(PositionManager, "on_foreign_fill")
    turned = lambda self, fill, at: notice(self, attrs.evolve(fill, buy=not fill.buy), at)  # noqa: E731
    return ((PositionManager, "on_foreign_fill", turned),)


def protection_cancelled_on_a_missing_position() -> Swaps:
    """What rests for a position is cancelled when a holding is missed for long, though nothing explains it."""
    change = current_attribute(PositionDifferences, "_book_external_change")

    def explained(self: Any, symbol: str, fill: Fill, units: Decimal, **_unexplained: bool) -> None:
        change(self, symbol, fill, units)

    return ((PositionDifferences, "_book_external_change", explained),)


def no_first_stop_while_disputed() -> Swaps:
    """While readings contradict the books, a position gets no stop, not even its first one."""
    may_place = current_attribute(PositionManager, "_may_place_stop")

    def undisputed(self: Any, held: ManagedPosition) -> bool:
        disputed = self._exposure.holds.has(held.position.symbol, Hold.DISPUTED)
        return not disputed and bool(may_place(self, held))

    return ((PositionManager, "_may_place_stop", undisputed),)


def trim_beside_a_stop_for_all() -> Swaps:
    """The stop beside a trim is for all that is held, not for what the trim leaves."""
    protect = current_attribute(ProtectiveStops, "protect")

    def for_all(self: Any, held: ManagedPosition, **_trimming: int) -> list[Any]:
        return list(protect(self, held))

    return ((ProtectiveStops, "protect", for_all),)


def exit_sent_again_two_minutes_before_the_close() -> Swaps:
    """An exit that works is sent again from two minutes before the close, not from three."""
    resend = current_attribute(ExitSubmitter, "resend_exit")

    def later(self: Any, held: ManagedPosition, minute: int) -> list[Any]:
        return [] if minute < self._session.minutes - SENT_AGAIN else list(resend(self, held, minute))

    return ((ExitSubmitter, "resend_exit", later),)


def ended_stop_forgotten() -> Swaps:
    """A stop that has ended unasked is thought to rest on."""
    ended = current_attribute(PositionManager, "_on_order_ended")

    def unless_stop(self: Any, ticket: Ticket) -> None:
        if ticket.order.leg is not Leg.STOP:
            ended(self, ticket)

    return ((PositionManager, "_on_order_ended", unless_stop),)


def orphan_protection_left() -> Swaps:
    """What rests for a position that is closed stays at the broker."""
    belongs = current_attribute(PositionManager, "_belongs")

    def leave(self: Any, ticket: Ticket, desired: Mapping[str, Desired]) -> bool:
        return ticket.order.signal not in self.held or bool(belongs(self, ticket, desired))

    return ((PositionManager, "_belongs", leave),)


def exit_beside_what_rests() -> Swaps:
    """An exit waits for nothing to end, and nothing is cancelled for it."""
    nothing: Swaps = ((PositionManager, "_blocking_orders", lambda _self, _held: []),)
    return (*nothing, (PositionManager, "_is_closing", lambda _self, _held: False))


def exit_each_minute_anew() -> Swaps:
    """An exit that works keeps no other one back."""
    place = current_attribute(ExitSubmitter, "place_exit")

    def forget(self: Any, held: ManagedPosition, minute: int) -> Any:
        placed = place(self, held, minute)
        self._book.tickets[placed.order.client_order_id].works = False
        return placed

    return ((ExitSubmitter, "place_exit", forget),)


def waiting_exit_keeps_the_stop_away() -> Swaps:
    """An exit that a kill, a freeze or a halt holds back is not given up: nothing rests until it may leave."""
    return ((ExitEvaluator, "cancel_blocked_exit", lambda _self, _held: None),)


def exit_beside_a_target() -> Swaps:
    """The target of a bracket is in no exit's way, and goes on resting beside it."""
    in_the_way = current_attribute(PositionManager, "_blocking_orders")
    includes = current_attribute(Desired, "includes")

    def without(self: Any, held: ManagedPosition) -> list[Ticket]:
        return [ticket for ticket in in_the_way(self, held) if ticket is not held.target]

    def with_target(self: Any, ticket: Ticket, held: ManagedPosition) -> bool:
        return ticket is held.target or bool(includes(self, ticket, held))

    return ((PositionManager, "_blocking_orders", without), (Desired, "includes", with_target))


def _whole(make: Callable[..., Order]) -> Callable[..., Order]:
    def whole(name: OrderIdFactory, position: Position, *rest: Any) -> Order:
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
        return Protection.RESTING if position.stop is not None else Protection.BARE

    return ((ProtectionMonitor, "_protection", protection),)


def one_list_lets_a_stop_be_sent_anew() -> Swaps:
    """Where ids may repeat, a stop or exit is given up by the first list without it, however far lists are behind."""

    def given_up(self: Any, ticket: Ticket, lookup: OrderLookup, source: str, requested: float) -> bool:
        urgent = self._is_urgent(ticket) and not ticket.record.confirmed
        return (urgent and source == "list") or is_given_up(self, ticket, lookup, source, requested)

    is_given_up = current_attribute(Reconciler, "_is_given_up")
    return ((Reconciler, "_is_given_up", given_up),)
