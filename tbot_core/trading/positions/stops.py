"""The stops of positions: placed where the broker has no brackets, sized, moved, and the handling of rejections.

It performs no I/O.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tbot_core.contracts import BrokerEventKind
from tbot_core.model.types import UNITS_PER_SHARE, ExitReason, Leg, Order, OrderType, price_of
from tbot_core.trading.commands import CancelOrder, ReplaceOrder, SubmitOrder, TradingCommand
from tbot_core.trading.positions import order_factory
from tbot_core.trading.risk.exposure import grid_of, lot_of

if TYPE_CHECKING:
    from fractions import Fraction

    from tbot_core.contracts import BrokerCapabilities
    from tbot_core.trading.positions.cancel_queue import CancelQueue
    from tbot_core.trading.positions.state import ManagedPosition, ManagedState, OrderTicket, PendingReplace
    from tbot_core.trading.risk.exposure import ExposureBook


class ProtectiveStops:
    """Manages the stops of a session's positions at a broker account."""

    def __init__(
        self, files: ManagedState, venue: BrokerCapabilities, standing: ExposureBook, unwanted: CancelQueue
    ) -> None:
        self._files = files
        self._venue = venue
        self._standing = standing
        self._unwanted = unwanted

    def units_to_cover(self, held: ManagedPosition) -> int:
        """The units of a position that a stop at the broker is to cover; 0 if the bot simulates the whole stop.

        The bot simulates stops of fractional shares if the broker does not accept them.
        """
        if held.plan.on_close:
            return 0
        units = held.position.units - self._files.units_in_trim(held)
        lot = lot_of(self._standing, held.position.signal.symbol)
        units = units // lot * lot or units
        return units if OrderType.STOP in self._venue.fractional_types else units - units % UNITS_PER_SHARE

    def protect(self, held: ManagedPosition) -> list[TradingCommand]:
        """A stop for a position, sized to the open quantity; one of another size is renewed.

        None while the accepted price levels are unknown.
        """
        resting, units = held.resting.get(Leg.STOP), self.units_to_cover(held)
        if resting is None and (not units or self._standing.rules_unknown.get(held.position.signal.symbol)):
            return []
        if resting is None:
            attempt = self._files.next_attempt(held, Leg.STOP)
            order = order_factory.stop_order(self._files.name, held.position, held.plan, attempt, units)
            held.resting[Leg.STOP] = order.client_order_id
            self._files.add_ticket(order, held.plan, held.row)
            return [SubmitOrder(order=order)]
        if held.stop_triggered or self._files.tickets[resting].open_units == units:
            return []
        return self.replace_stop(held)

    @staticmethod
    def replace_stop(held: ManagedPosition) -> list[TradingCommand]:
        """Cancel a wrong stop; another is placed once it is proven to have ended."""
        if held.stop_being_replaced:
            return []
        held.manages_own_stop = held.stop_being_replaced = True
        return [CancelOrder(client_order_id=held.resting[Leg.STOP])]

    def trail(self, held: ManagedPosition, high: float, low: float, minute: int) -> list[TradingCommand]:
        """Trail a stop after a completed bar, and replace the working order if it lags.

        The replace is requested once per minute until the broker confirms it. A stop that the broker cannot move, or
        refused to move, is renewed.
        """
        if not (math.isnan(high + low) or held.stop_triggered):
            held.plan.trail(high, low)
        move = self._lagging(held)
        if move is None or held.stop_being_replaced or move.requested_minute == minute:
            return []
        move.requested_minute = minute
        if not self._venue.amend_atomic or move.move_refused:
            return self.replace_stop(held)
        move.request(held.plan.stop)
        stop, level = held.resting[Leg.STOP], price_of(held.plan.stop)
        return [ReplaceOrder(client_order_id=stop, stop_price=level, reason=held.plan.stop_reason)]

    def stop_passed(self, held: ManagedPosition, close: float, minute: int) -> bool:
        """Whether a minute closed beyond the level to which a stop should have been moved in an earlier minute."""
        move = self._lagging(held)
        return move is not None and move.requested_minute != minute and held.plan.stop_passed(close)

    def on_stop_event(self, kind: str, known: OrderTicket) -> None:
        """Apply a broker's report of a stop: its level, that it will not be moved, or that it was rejected."""
        if kind == BrokerEventKind.REPLACED:
            known.reason = known.plan.stop_reason
            known.move.on_moved()
        elif kind == BrokerEventKind.CANCEL_REFUSED:
            known.move.on_refused()
        elif kind == BrokerEventKind.REJECTED:
            self.on_stop_rejected(known.order)

    def _lagging(self, held: ManagedPosition) -> PendingReplace | None:
        # What is known of the level of a resting stop that is behind its plan's.
        stop = held.resting.get(Leg.STOP)
        if stop is None or held.stop_triggered:
            return None
        move = self._files.tickets[stop].move
        return move if move.level is not None and held.plan.is_ahead_of(move.level) else None

    def apply_split(self, held: ManagedPosition, ratio: Fraction) -> None:
        """A split: levels follow, and the working stop, whose level is unknown, is placed again."""
        held.plan.apply_split(ratio)
        held.manages_own_stop, held.stop_triggered = True, False
        if stop := held.resting.get(Leg.STOP):
            held.stop_being_replaced, self._files.tickets[stop].move.level = True, None

    def on_instrument_rules(self, symbol: str) -> None:
        """The accepted price levels are known: a rejected stop is placed at one, or the position is closed."""
        held = self._files.held.get(symbol)
        if held is None:
            return
        held.plan.set_tick_grid(grid_of(self._standing, symbol))
        if held.rejected_stop_price is not None and held.rejected_stop_price == price_of(held.plan.stop):
            held.exit_reason, held.exit_pending = held.exit_reason or ExitReason.UNPROTECTED, True
        held.rejected_stop_price, held.refused_stops = None, 0

    def on_stop_rejected(self, order: Order) -> None:
        """A broker rejected a position's stop: a stop of its own is tried once, then the position is closed."""
        self._files.tickets[order.client_order_id].stop_rejected = True
        held = self._files.held.get(order.symbol)
        if held is None or held.resting.get(Leg.STOP) != order.client_order_id:
            return
        self.replace_bracket(held)
        held.refused_stops += 1
        if self._standing.rules_unknown.get(order.symbol):
            held.rejected_stop_price = order.stop_price
        elif held.refused_stops > 1:
            held.exit_reason, held.exit_pending = held.exit_reason or ExitReason.UNPROTECTED, True

    def replace_bracket(self, held: ManagedPosition) -> None:
        """Protect the whole position by a stop of its own; a working target beside it would sell too much."""
        held.manages_own_stop = True
        held.stop_being_replaced |= Leg.STOP in held.resting
        self._unwanted.cancel_now(cid for leg, cid in held.resting.items() if leg is Leg.TARGET)

    def cancel_all(self, held: ManagedPosition) -> None:
        """Cancel all working orders of a position at once; its own stop is placed when the previous one has ended."""
        held.stop_being_replaced |= Leg.STOP in held.resting
        self._unwanted.cancel_now(reversed(held.resting.values()))
