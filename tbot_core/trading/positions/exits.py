"""Exits: why and when a position is closed, and the orders that close it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.types import UNITS_PER_SHARE, ExitReason, Leg, OrderType, RiskState, Side, price_of
from tbot_core.trading import exit_plan
from tbot_core.trading.commands import SubmitOrder, TradingCommand
from tbot_core.trading.positions import order_factory
from tbot_core.trading.risk.exposure import lot_of
from tbot_core.trading.risk.holds import NO_EXIT, UNCLEAR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tbot_core.contracts import BrokerCapabilities
    from tbot_core.model.bars import Bars
    from tbot_core.model.calendar import Session
    from tbot_core.trading.account_book import AccountBook, ManagedPosition
    from tbot_core.trading.orders import OrderIdFactory
    from tbot_core.trading.positions.stops import ProtectiveStops
    from tbot_core.trading.proposals import TradingRules
    from tbot_core.trading.risk.exposure import ExposureBook


class ExitEvaluator:
    """Decides the exits of a session's positions; `flatten_from` is the minute from which all are closed.

    While `flattening` is set all are closed. `keeps_positions`: whether the process will end and keep its positions.
    """

    def __init__(
        self, rules: TradingRules, exposure: ExposureBook, protection: ProtectiveStops, flatten_from: int
    ) -> None:
        self.flattening = False
        self.keeps_positions: Callable[[], bool] = lambda: False
        self._rules = rules
        self._exposure = exposure
        self._protection = protection
        self.flatten_from = flatten_from

    def flatten(self, *, on: bool = True) -> None:
        """Close all positions from now on; False ends that."""
        self.flattening = on

    def keep_positions_while(self, keeps: Callable[[], bool]) -> None:
        """Keep positions without a stop while this is true, since the process will end."""
        self.keeps_positions = keeps

    def active(self, positions: Iterable[ManagedPosition], bars: Bars, minute: int) -> list[ManagedPosition]:
        """The positions that a minute may change or bring an order for, perhaps too many.

        Each of the others is settled, `exit_reason` is None for it, and its stop neither trails nor lags. One question
        for all positions, because most minutes bring nothing.
        """
        if self._exposure.daily_loss or self.flattening or minute + 1 >= self.flatten_from:
            return list(positions)
        found, closes, highs, lows = [], bars.field("close"), bars.field("high"), bars.field("low")
        for held in positions:
            plan, row = held.plan, held.row
            if (
                not self.is_calm(held)
                or exit_plan.exit_due(plan, minute, self.flatten_from) is not None
                or (row is not None and plan.stop_passed(closes.item(minute, row)))
                or (
                    plan.trailing
                    and row is not None
                    and plan.may_trail(highs.item(minute, row), lows.item(minute, row))
                )
            ):
                found.append(held)
        return found

    def is_calm(self, held: ManagedPosition) -> bool:
        """Whether a position stays as it is until its time, or until a price at one of its levels."""
        plan = held.plan
        return (
            held.is_settled
            and held.exit is None
            and (plan.target is None or held.target is not None)
            and plan.is_trailed
            and self._protection.is_in_place(held)
        )

    def exit_reason(self, held: ManagedPosition, bars: Bars, minute: int) -> ExitReason | None:
        """Why a position must be closed after a minute; None if it must not, or must wait and its stop was not hit."""
        close = held.bar_value(bars, "close", minute)
        reason = held.exit_reason or self._due_reason(held, bars, minute, close)
        if reason is None or not self.must_wait(reason):
            return reason
        return held.plan.stop_reason if self._emulated_stop_hit(held, close, minute) else None

    def must_wait(self, reason: ExitReason | None) -> bool:
        """Whether the exit must wait because of a kill; stops and flattening continue."""
        return (
            self._exposure.current_state is RiskState.HALTED and not self.flattening and reason not in exit_plan.STOPS
        )

    def exits_blocked(self, symbol: str) -> bool:
        """Whether exits of a symbol are blocked: it is halted, or its quantity or trading rules are unclear."""
        return self._exposure.account_unread or self._exposure.holds.has(symbol, *NO_EXIT)

    def cancel_blocked_exit(self, held: ManagedPosition) -> None:
        """Cancel an exit or trim that was not sent and must wait now, and place the stop again.

        It is decided again later. An exit after a triggered stop continues as a stop, since a new stop would trigger at
        once. The exit of a carried position waits: its stop is not known.
        """
        reason, symbol = held.exit_reason, held.position.symbol
        if reason is None and held.trim_to_units is None:
            return
        # Unknown trading rules do not count here: a stop could not be placed either.
        still = self._is_unclear(symbol)
        if held.trim_to_units is not None and (still or self.must_wait(ExitReason.REBALANCE)):
            held.trim_to_units, held.own_stop = None, True
        if reason is None or held.exit is not None or held.plan.is_expired:
            return
        if self._closes_fraction(held) and self._stays_unprotected(symbol):
            held.exit_reason = None
            return
        if reason in exit_plan.STOPS or not (still or self.must_wait(reason)):
            return
        if held.stop_triggered:
            held.exit_reason = held.plan.stop_reason
        else:
            held.exit_reason, held.own_stop = None, True

    def is_unprotected_fraction(self, held: ManagedPosition) -> bool:
        """Whether a position of less than one share has no stop and must not be held without one.

        False if the broker does not sell fractions, or if exits are blocked and no stop was triggered.
        """
        if held.position.units >= UNITS_PER_SHARE or held.exit_reason is not None or held.stop is not None:
            return False
        if not held.stop_triggered and self._stays_unprotected(held.position.symbol):
            return False
        sold = OrderType.MARKET in self._rules.venue.fractional_types
        return sold and order_factory.would_be_unprotected(self._rules, held.position.units)

    @staticmethod
    def close_unprotected(held: ManagedPosition) -> None:
        """Close such a position; the exit reason is the stop's if the stop was triggered, else UNPROTECTED."""
        held.exit_reason = held.plan.stop_reason if held.stop_triggered else ExitReason.UNPROTECTED

    def _closes_fraction(self, held: ManagedPosition) -> bool:
        # Whether it is closed as an unprotected fraction, not because of a rejected stop.
        return held.exit_reason is ExitReason.UNPROTECTED and order_factory.would_be_unprotected(
            self._rules, held.position.units
        )

    def _stays_unprotected(self, symbol: str) -> bool:
        # Whether an unprotected fraction is not closed now.
        return self.keeps_positions() or self.must_wait(None) or self._is_unclear(symbol)

    def _is_unclear(self, symbol: str) -> bool:
        # Whether nothing is closed and stops continue: the quantity is unclear, or the symbol is not traded.
        return self._exposure.account_unread or self._exposure.holds.has(symbol, *UNCLEAR)

    def _due_reason(self, held: ManagedPosition, bars: Bars, minute: int, close: float) -> ExitReason | None:
        if self._exposure.daily_loss:
            return ExitReason.DAILY_LOSS
        if (reason := exit_plan.exit_due(held.plan, minute, self.flatten_from)) is not None:
            return reason
        if self._emulated_stop_hit(held, close, minute):
            return held.plan.stop_reason
        if self.flattening:
            return ExitReason.STOPPED
        rests = held.target is not None or (held.is_bracketed and not held.plan.is_apart)
        if held.plan.target is None or rests:
            return None
        high, low = held.bar_value(bars, "high", minute), held.bar_value(bars, "low", minute)
        return ExitReason.TARGET if held.plan.target_reached(high, low) else None

    def _emulated_stop_hit(self, held: ManagedPosition, close: float, minute: int) -> bool:
        # Whether this close is beyond an emulated stop, beyond the level of one that lags, or beyond its collar.
        if not held.plan.stop_passed(close):
            return False
        rests = held.stop is not None and not held.plan.is_apart
        if (held.plan.on_close or not rests) and not held.plan.is_expired:
            return True
        return rests and (self._protection.is_late(held, minute) or self._is_beyond_collar(held, close))

    def _is_beyond_collar(self, held: ManagedPosition, close: float) -> bool:
        # Whether this close is beyond the limit of a stop to buy that the broker may have made a stop-limit order.
        collar = self._rules.venue.buy_stop_collar
        if not collar or held.position.side is not Side.SHORT:
            return False
        return close > float(price_of(held.plan.stop) * (1 + collar))


SENT_AGAIN = 3
"""Minutes before the close from which a working exit is sent again each minute."""


class ExitSubmitter:
    """Creates the exits of one session's positions at a broker account."""

    def __init__(
        self,
        book: AccountBook,
        venue: BrokerCapabilities,
        exposure: ExposureBook,
        session: Session,
        name: OrderIdFactory,
    ) -> None:
        self._book = book
        self._name = name
        self._venue = venue
        self._exposure = exposure
        self._session = session

    def place_exit(self, held: ManagedPosition, minute: int) -> SubmitOrder:
        """Close the rest of a position at the market, after a minute."""
        lot = lot_of(self._exposure, held.position.symbol)
        units = held.position.units // lot * lot or held.position.units
        attempt = self._book.signals[held.position.signal].next_attempt(Leg.EXIT)
        order = order_factory.exit_order(self._name, held.position, units, held.exit_reason, attempt)
        held.exit_placed_minute = minute
        self._book.add_ticket(order)
        return SubmitOrder(order=order)

    def resend_exit(self, held: ManagedPosition, minute: int) -> list[TradingCommand]:
        """Cancel an exit that still works shortly before the close; it is sent again when its end is reported.

        Does nothing at a simulated broker, which cannot lose it.
        """
        early = held.exit_placed_minute == minute or minute + 1 < self._session.minutes - SENT_AGAIN
        if held.exit is None or self._venue.simulated or early:
            return []
        held.exit.outdated = True
        return []
