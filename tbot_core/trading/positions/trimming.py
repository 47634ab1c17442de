"""Trims positions to their share of equity: working orders are cancelled, then a part is sold beside a new stop.

It performs no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.types import UNITS_PER_SHARE, Leg, units_of
from tbot_core.trading.commands import CancelOrder, SubmitOrder, TradingCommand
from tbot_core.trading.positions import order_factory, rebalance_rules
from tbot_core.trading.risk.exposure import lot_of

if TYPE_CHECKING:
    from tbot_core.trading.positions.state import ManagedPosition, ManagedState
    from tbot_core.trading.positions.stops import ProtectiveStops
    from tbot_core.trading.proposals import TradingRules
    from tbot_core.trading.risk.exposure import ExposureBook


class PositionTrimmer:
    """Manages the sizes of a session's positions."""

    def __init__(
        self, files: ManagedState, rules: TradingRules, standing: ExposureBook, protection: ProtectiveStops
    ) -> None:
        self._files = files
        self._rules = rules
        self._standing = standing
        self._protection = protection

    def weigh(self, held: ManagedPosition) -> None:
        """A position above its share of equity is trimmed to it, once all its working orders have ended."""
        position, signal = held.position, held.position.signal
        if any(one.signal == signal for one in self._standing.working.values()):
            return
        whole = position.units % UNITS_PER_SHARE == 0
        step = UNITS_PER_SHARE if whole else units_of(self._rules.venue.quantity_step)
        step = max(step, lot_of(self._standing, signal.symbol))
        keep = position.units - rebalance_rules.excess_units(self._rules.rebalance, position, step)
        if keep < position.units and not order_factory.would_be_unprotected(
            self._rules, keep
        ):  # what is bare would be closed as well
            held.own, held.keep = True, keep

    @staticmethod
    def bare(held: ManagedPosition) -> list[TradingCommand]:
        """Cancel the working orders of a position to trim: no more may be for sale than is held."""
        if held.keep is None or held.leaving is not None:
            return []
        held.renewing |= Leg.STOP in held.resting
        return [CancelOrder(client_order_id=one) for one in reversed(held.resting.values())]

    def trim(self, held: ManagedPosition) -> list[TradingCommand]:
        """With no working order: a stop for the remaining part, and the order that sells the rest."""
        position = held.position
        if held.resting or held.keep is None:
            return []
        beyond, held.keep = position.units - held.keep, None
        if beyond <= 0:
            return self._covered(held)
        order = order_factory.trim_order(self._files.name, position, beyond, self._files.attempt(held, Leg.EXIT))
        held.trim = order.client_order_id
        self._files.know(order, held.plan, held.row)
        return [*self._covered(held), SubmitOrder(order=order)]

    def _covered(self, held: ManagedPosition) -> list[TradingCommand]:
        return [] if held.plan.on_close else self._protection.protect(held)
