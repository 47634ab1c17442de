"""Protective stops: placed if the broker has no brackets, sized, moved, and replaced after rejections; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.contracts import BrokerEventKind, RejectionMeaning
from tbot_core.model.types import UNITS_PER_SHARE, ExitReason, Leg, OrderType, price_of
from tbot_core.trading.commands import ReplaceOrder, SubmitOrder, TradingCommand
from tbot_core.trading.positions import order_factory
from tbot_core.trading.risk.exposure import grid_of, lot_of
from tbot_core.trading.risk.holds import Hold

if TYPE_CHECKING:
    from fractions import Fraction

    from tbot_core.contracts import BrokerCapabilities, BrokerEvent
    from tbot_core.trading.account_book import AccountBook, ManagedPosition, Ticket
    from tbot_core.trading.orders import OrderIdFactory
    from tbot_core.trading.risk.exposure import ExposureBook


class ProtectiveStops:
    """Manages the stops of a session's positions at a broker account."""

    def __init__(
        self,
        book: AccountBook,
        venue: BrokerCapabilities,
        exposure: ExposureBook,
        name: OrderIdFactory,
    ) -> None:
        self._book = book
        self._name = name
        self._venue = venue
        self._exposure = exposure

    def units_to_cover(self, held: ManagedPosition, trimming: int = 0) -> int:
        """The units of a position that a stop at the broker must cover; 0 if the whole stop is emulated.

        Stops of fractional shares are emulated if the broker does not accept them. `trimming`: the units of a trim that
        is about to be placed.
        """
        if held.plan.on_close:
            return 0
        units = held.position.units - held.units_in_trim - trimming
        lot = lot_of(self._exposure, held.position.symbol)
        units = units // lot * lot or units
        return units if OrderType.STOP in self._venue.fractional_types else units - units % UNITS_PER_SHARE

    def protect(self, held: ManagedPosition, *, trimming: int = 0) -> list[TradingCommand]:
        """Place a stop of the open quantity, unless one works; nothing while price steps are unknown."""
        units = self.units_to_cover(held, trimming)
        if held.stop is not None or not self.may_place(held, units):
            return []
        attempt = self._book.signals[held.position.signal].next_attempt(Leg.STOP)
        order = order_factory.stop_order(self._name, held.position, held.plan, attempt, units)
        held.stop_triggered, held.own_stop = False, True
        self._book.add_ticket(order)
        return [SubmitOrder(order=order)]

    def may_place(self, held: ManagedPosition, units: int) -> bool:
        """Whether a stop of so many units can be placed: there are some, and the price steps are known."""
        return bool(units) and not self._exposure.holds.has(held.position.symbol, Hold.RULES_REQUESTED)

    @staticmethod
    def is_in_place(held: ManagedPosition) -> bool:
        """Whether its stop, if one rests at the broker, is known to be at its plan's level."""
        stop = held.stop
        return stop is None or stop.stop_level.ticks == held.plan.resting_stop

    def move_lagging(self, held: ManagedPosition, minute: int) -> list[TradingCommand]:
        """Replace the working order of a stop that lags behind its plan, after a minute.

        The replace is requested once per minute until the broker confirms it, also after it was refused: the old stop
        covers the position meanwhile. Only where the venue cannot replace, the stop is cancelled and placed again.
        """
        stop = self._lagging(held)
        if stop is None or held.is_stop_ending or stop.stop_level.requested_minute == minute:
            return []
        stop.stop_level.requested_minute = minute
        if not self._venue.replaces:
            held.own_stop = stop.outdated = True
            return []
        level, reason = held.plan.stop, held.plan.stop_reason
        stop.stop_level.request(level, reason)
        return [ReplaceOrder(client_order_id=stop.cid, stop_price=price_of(level), reason=reason)]

    def is_late(self, held: ManagedPosition, minute: int) -> bool:
        """Whether a stop should have been moved to its plan's level in an earlier minute."""
        stop = self._lagging(held)
        return stop is not None and stop.stop_level.requested_minute != minute

    def on_stop_event(self, event: BrokerEvent, ticket: Ticket, at: float) -> None:
        """Apply a broker event of a stop, booked `at` a second: a confirmation, a refused replace, or a rejection."""
        held, kind = self._held_by(ticket), event.kind
        if held is not None and kind in {BrokerEventKind.ACKNOWLEDGED, BrokerEventKind.REPLACED}:
            held.had_stop = True
        if kind == BrokerEventKind.TRIGGERED and held is not None:
            self.on_triggered(held)
        elif kind == BrokerEventKind.REJECTED:
            self.on_stop_rejected(ticket)
            if held is not None and event.meaning is RejectionMeaning.INSUFFICIENT_QUANTITY:
                held.reading_after = at

    @staticmethod
    def on_triggered(held: ManagedPosition) -> None:
        """Apply that the stop of a position has triggered, at the latest with its first fill.

        If it is being cancelled for a trim or a top-up, the position is closed in its place: a new stop would wait for
        a new trigger.
        """
        held.stop_triggered = True
        if held.trim_to_units is not None and held.exit_reason is None:
            held.exit_reason = held.plan.stop_reason

    def on_stop_taken(self, held: ManagedPosition, stop: Ticket, at: float) -> None:
        """Apply that somebody else cancelled a position's stop, as booked `at` a second.

        It is placed again once a reading shows what is held, and no order of others. Each but the first counts as a
        rejection.
        """
        held.taken_stops += 1
        stop.outdated = True
        held.reading_after = at + self._venue.list_lag_s
        held.own_stop = True
        if held.taken_stops > 1:
            self._count_refusal(held)

    def _held_by(self, stop: Ticket) -> ManagedPosition | None:
        # The position that has this stop.
        held = self._book.held.get(stop.order.signal)
        return held if held is not None and held.stop is stop else None

    @staticmethod
    def _lagging(held: ManagedPosition) -> Ticket | None:
        # The resting stop if its level is behind its plan's.
        stop = held.stop
        if stop is None or held.stop_triggered:
            return None
        ticks = stop.stop_level.ticks
        return stop if ticks is not None and held.plan.is_ahead_of(ticks) else None

    def apply_split(self, held: ManagedPosition, symbol: str, ratio: Fraction) -> None:
        """Apply a split of a symbol: the levels that are its prices are divided.

        A working stop at such a level, which is unknown now, is placed again.
        """
        if held.position.signal.symbol == symbol:
            held.plan.apply_split(ratio)
        if held.position.symbol != symbol:
            return
        held.plan.round_disaster_stop(grid_of(self._exposure, symbol), ratio)
        held.stop_triggered = False
        if stop := held.stop:
            stop.stop_level.ticks = None
            held.own_stop = stop.outdated = True

    def on_instrument_rules(self, symbol: str) -> None:
        """Apply known price steps: a rejected stop is placed at a valid level, or the position is closed."""
        for held in self._book.held_in(symbol):
            grid, level = grid_of(self._exposure, symbol), held.rejected_stop_price
            if held.plan.is_apart:
                held.plan.round_disaster_stop(grid)
            else:
                held.plan.set_tick_grid(grid)
            if level is not None and level == price_of(held.plan.resting_stop):
                held.exit_reason = held.exit_reason or ExitReason.UNPROTECTED
            held.rejected_stop_price, held.refused_stops = None, 0

    def on_stop_rejected(self, stop: Ticket) -> None:
        """Apply a rejected stop: a separate stop is tried once, then the position is closed."""
        stop.stop_rejected = stop.outdated = True
        held = self._held_by(stop)
        if held is None:
            return
        held.own_stop = True
        if self._exposure.holds.has(stop.order.symbol, Hold.RULES_REQUESTED):
            held.refused_stops += 1
            held.rejected_stop_price = stop.order.stop_price
        else:
            self._count_refusal(held)

    @staticmethod
    def _count_refusal(held: ManagedPosition) -> None:
        # After the second rejected stop the position is closed.
        held.refused_stops += 1
        if held.refused_stops > 1:
            held.exit_reason = held.exit_reason or ExitReason.UNPROTECTED
