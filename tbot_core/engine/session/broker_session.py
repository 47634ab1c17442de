"""The brokers of a session, those that may take over, and the routing of entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import attrs

from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.model.types import Leg, OrderState
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.orders import ENDED, ClientOrderIds, OrderRecord
from tbot_core.trading.proposals import TradingRules

if TYPE_CHECKING:
    from tbot_core.trading.commands import Decision
    from tbot_core.trading.proposals import Proposal


EVENT_POLL_S: Final = 0.25
"""How often the events of a stream are processed: the stop of a fill is sent within a second."""

_PROTECTION: Final = frozenset({Leg.STOP, Leg.TARGET})
_TAKEN: Final = frozenset({OrderState.NEW, OrderState.PARTIALLY_FILLED})


@attrs.frozen(kw_only=True, eq=False)
class StandbyBroker:
    """A broker that may take over: the rules there, the way to it, how its orders are named, what its account holds.

    `tag` marks the orders that go there.
    """

    rules: TradingRules
    venue: BrokerAccount
    naming: ClientOrderIds
    equity_atoms: int
    tag: str = ""


@attrs.frozen(kw_only=True, eq=False)
class BrokerSession:
    """One broker of a session: its decisions, positions and orders."""

    name: str
    decision_engine: DecisionEngine
    execution: ExecutionEngine

    @property
    def journal_tag(self) -> str:
        """The key of its events in the journal: "" for the primary."""
        return self.execution.recorder.broker

    @property
    def account_id(self) -> str:
        """The account that its orders go to."""
        return self.execution.venue.account_id

    def pause_s(self, poll_s: float) -> float:
        """The pause between two polls here, where SLEEP_TIME is `poll_s`: as long as that only without a stream."""
        return min(poll_s, EVENT_POLL_S) if self.execution.venue.broker.rules.streams else poll_s

    @property
    def in_flight(self) -> int:
        """How many orders there are not known to have ended, or are open though the books call them over."""
        beyond = self.execution.open_beyond_books
        return sum(1 for cid, one in self.execution.orders.items() if cid in beyond or not one.terminal)

    @property
    def is_idle(self) -> bool:
        """Whether there are neither positions nor working orders, except lost orders."""
        held = bool(self.decision_engine.position_manager.held or self.decision_engine.portfolio.unassigned_units)
        return not (held or self._alive)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is on its way: no entry and no exit, and each position has the stop that it is to have."""
        custody = self.decision_engine.position_manager
        alive = self._alive
        protecting = (one for one in alive if one.order.leg in _PROTECTION and one.state in _TAKEN)
        rest = {one.order.client_order_id for one in protecting} - self.execution.open_beyond_books.keys()
        stops = [
            held.resting.get(Leg.STOP) for held in custody.held.values() if custody.protection.units_to_cover(held)
        ]
        steady = all(held.is_steady for held in custody.held.values())
        return steady and not custody.orders_to_cancel and len(rest) == len(alive) and rest.issuperset(stops)

    @property
    def has_lookups(self) -> bool:
        """Whether a broker is being asked what has become of an order that is not given up as lost."""
        execution = self.execution
        return any(execution.orders[cid].state is not OrderState.LOST for cid in execution.lookups)

    @property
    def ended_orders(self) -> int:
        """How many orders that had left are over; what one of them has filled besides may be told late."""
        return sum(1 for one in self.execution.orders.values() if one.state in ENDED)

    @property
    def open_symbols(self) -> set[str]:
        """The symbols of what is held here, and of what works."""
        return {*self.decision_engine.portfolio.positions, *(one.order.symbol for one in self._alive)}

    @property
    def _alive(self) -> list[OrderRecord]:
        # What works by the books, or by the broker's word beyond them.
        beyond = self.execution.open_beyond_books
        return [
            one
            for cid, one in self.execution.orders.items()
            if cid in beyond or not (one.terminal or one.state is OrderState.LOST)
        ]


class EntryRouter(Protocol):
    """Says which of several brokers enters a signal."""

    def preview(self, proposal: Proposal) -> Decision:
        """What would be decided now, where it would be; nothing counts for it."""

    def decide(self, proposal: Proposal) -> Decision:
        """Decide a signal where it may be entered; an instrument that is to be entered elsewhere moves there first."""

    def broker_for(self, symbol: str) -> BrokerSession:
        """Where an instrument would be entered now."""

    def is_responsive(self, post: BrokerSession) -> bool:
        """Whether it is worth waiting for what a broker says."""
