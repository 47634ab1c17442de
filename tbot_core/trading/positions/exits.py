"""Exits of positions: why and when a position is closed, and the orders that close it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.model.types import ExitReason, Leg, OrderType, RiskState
from tbot_core.trading import exit_plan
from tbot_core.trading.commands import CancelOrder, SubmitOrder, TradingCommand
from tbot_core.trading.positions import order_factory
from tbot_core.trading.risk.exposure import lot_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.contracts import BrokerCapabilities
    from tbot_core.model.bars import Bars
    from tbot_core.model.calendar import Session
    from tbot_core.trading.positions.state import ManagedPosition, ManagedState
    from tbot_core.trading.positions.stops import ProtectiveStops
    from tbot_core.trading.proposals import TradingRules
    from tbot_core.trading.risk.exposure import ExposureBook


_NOBODY: Final = frozenset[str]()


class ExitEvaluator:
    """Exit decisions of a session's positions; `flatten_from` is the minute from which every one is closed.

    While `stopping` is set all of them are. `halted` symbols keep their stops. `keeping`: the process will end with its
    positions as they are.
    """

    def __init__(
        self, rules: TradingRules, standing: ExposureBook, protection: ProtectiveStops, flatten_from: int
    ) -> None:
        self.flattening, self.halted = False, _NOBODY
        self.keeps_positions: Callable[[], bool] = lambda: False
        self._rules = rules
        self._standing = standing
        self._protection = protection
        self._flatten_from = flatten_from

    def exit_reason(self, held: ManagedPosition, bars: Bars, minute: int) -> ExitReason | None:
        """Why a position is to be closed after a minute; None if it is not, or if only its stop continues."""
        close = held.bar_value(bars, "close", minute)
        reason = held.exit_reason or self._wanted(held, bars, minute, close)
        if reason is None or not self.must_wait(reason):
            return reason
        return held.plan.stop_reason if self._stopped(held, close, minute) else None

    def must_wait(self, reason: ExitReason | None) -> bool:
        """Whether exits are suspended by a kill: then only stops and flattening continue."""
        return (
            self._standing.current_state is RiskState.HALTED and not self.flattening and reason not in exit_plan.STOPS
        )

    def exits_blocked(self, symbol: str) -> bool:
        """Whether exits are suspended: the symbol is halted, or its quantity or trading rules are unclear."""
        return self._unclear(symbol) or bool(self._standing.rules_unknown.get(symbol))

    def cancel_blocked_exit(self, held: ManagedPosition) -> None:
        """Give up what has not left and must wait now: the stop that made way for it is to rest again.

        It is decided anew when nothing waits any more. What the stop has begun goes on like a stop, since a new one
        would act at once, and what was left over from another session waits: nobody knows the stop that it had.
        """
        reason, symbol = held.exit_reason, held.position.signal.symbol
        # Where it is not known what may be traded, no stop could be placed either: that is not looked at here.
        still = self._unclear(symbol)
        if held.trim_to_units is not None and (still or self.must_wait(ExitReason.REBALANCE)):
            held.trim_to_units = None
            self._protection.replace_bracket(held)
        if reason is None or held.exit_order_id is not None or held.plan.is_expired:
            return
        if self._forsaken(held) and self._kept(symbol):
            held.exit_reason, held.exit_pending = None, False
            return
        if reason in exit_plan.STOPS or not (still or self.must_wait(reason)):
            return
        if held.stop_triggered:
            held.exit_reason, held.exit_pending = held.plan.stop_reason, True
        else:
            held.exit_reason, held.exit_pending = None, False
            self._protection.replace_bracket(held)

    def is_unprotected_fraction(self, held: ManagedPosition) -> bool:
        """Whether a position has come to less than a share, without a stop, where that may not be held like that.

        One that nobody buys or sells a fraction of is left as it is. Where nothing is closed, only what its stop has
        begun goes on.
        """
        if held.exit_reason is not None or Leg.STOP in held.resting:
            return False
        if not held.stop_triggered and self._kept(held.position.signal.symbol):
            return False
        sold = OrderType.MARKET in self._rules.venue.fractional_types
        return sold and order_factory.would_be_unprotected(self._rules, held.position.units)

    @staticmethod
    def close_unprotected(held: ManagedPosition) -> None:
        """Close it: the rest of a stop like a stop, anything else because it is unprotected."""
        held.exit_reason = held.plan.stop_reason if held.stop_triggered else ExitReason.UNPROTECTED
        held.exit_pending = True

    def _forsaken(self, held: ManagedPosition) -> bool:
        # Whether it is closed for being less than a share without a stop: no refused stop comes to that.
        return held.exit_reason is ExitReason.UNPROTECTED and order_factory.would_be_unprotected(
            self._rules, held.position.units
        )

    def _kept(self, symbol: str) -> bool:
        # Whether what nothing but its being bare would close stays: in a kill, and where all is to be kept.
        return self.keeps_positions() or self.must_wait(None) or self._unclear(symbol)

    def _unclear(self, symbol: str) -> bool:
        # Whether nothing is closed, and what protects goes on: nobody knows what is held, or it is not traded.
        standing = self._standing
        return (
            standing.account_unread
            or symbol in self.halted
            or symbol in standing.frozen
            or symbol in standing.disputed_symbols
        )

    def _wanted(self, held: ManagedPosition, bars: Bars, minute: int, close: float) -> ExitReason | None:
        if self._standing.daily_loss:
            return ExitReason.DAILY_LOSS
        if (reason := exit_plan.exit_due(held.plan, minute, close, self._flatten_from)) is not None:
            return reason
        if self._stopped(held, close, minute):
            return held.plan.stop_reason
        if self.flattening:
            return ExitReason.STOPPED
        high, low = (held.bar_value(bars, name, minute) for name in ("high", "low"))
        emulated = held.manages_own_stop and Leg.TARGET not in held.resting
        return ExitReason.TARGET if emulated and held.plan.target_reached(high, low) else None

    def _stopped(self, held: ManagedPosition, close: float, minute: int) -> bool:
        # Whether a stop that the bot keeps itself, since none rests, acts on this close.
        emulated = held.plan.on_close or Leg.STOP not in held.resting
        acts = emulated and not held.plan.is_expired and held.plan.stop_passed(close)
        return acts or self._protection.stop_passed(held, close, minute)


SENT_AGAIN = 3
"""Minutes before the close from which a working exit is resent, in each minute."""


class ExitSubmitter:
    """Creates the exits of one session's positions at a broker account."""

    def __init__(
        self, files: ManagedState, venue: BrokerCapabilities, standing: ExposureBook, session: Session
    ) -> None:
        self._files = files
        self._venue = venue
        self._standing = standing
        self._session = session

    def place_exit(self, held: ManagedPosition, minute: int) -> SubmitOrder:
        """Close the rest of a position at the market, after a minute."""
        lot = lot_of(self._standing, held.position.signal.symbol)
        units = held.position.units // lot * lot or held.position.units
        attempt = self._files.next_attempt(held, Leg.EXIT)
        order = order_factory.exit_order(self._files.name, held.position, units, held.exit_reason, attempt)
        held.exit_pending, held.exit_order_id, held.exit_placed_minute = False, order.client_order_id, minute
        self._files.add_ticket(order, held.plan, held.row)
        return SubmitOrder(order=order)

    def resend_exit(self, held: ManagedPosition, minute: int) -> list[TradingCommand]:
        """Cancel an exit that still works shortly before the close; it is resent once that is proven.

        A venue that is simulated here cannot have lost it.
        """
        early = held.exit_placed_minute == minute or minute + 1 < self._session.minutes - SENT_AGAIN
        if held.exit_order_id is None or self._venue.simulated or early:
            return []
        held.exit_pending = True
        return [CancelOrder(client_order_id=held.exit_order_id, exit_symbol=held.position.signal.symbol)]
