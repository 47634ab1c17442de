"""The books of a session: its hours, symbols and bars, its brokers, and the routing of entries between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import attrs

from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.model.bars import Tape
from tbot_core.model.calendar import Session
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.types import Leg, OrderState
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.orders import ENDED, ClientOrderIds
from tbot_core.trading.proposals import TradingRules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.trading.account_book import Ticket
    from tbot_core.trading.commands import Decision
    from tbot_core.trading.proposals import Proposal
    from tbot_core.trading.risk.exposure import ReservedEntry


EVENT_POLL_S: Final = 0.25
"""How often the events of a stream are processed, so that the stop of a fill is sent within a second."""

_PROTECTION: Final = frozenset({Leg.STOP, Leg.TARGET})
_ACCEPTED: Final = frozenset({OrderState.NEW, OrderState.PARTIALLY_FILLED})


@attrs.frozen(kw_only=True, eq=False)
class StandbyBroker:
    """A broker that may take over; `naming` makes its client order ids, `tag` marks its orders."""

    rules: TradingRules
    venue: BrokerAccount
    naming: ClientOrderIds
    equity_atoms: int
    tag: str = ""


@attrs.define(kw_only=True, eq=False)
class BrokerSession:
    """One broker of a session: its decisions, positions and orders.

    `is_awaited`: False while the first account reading of a standby is pending; nothing waits for its answers then.
    """

    name: str
    decision_engine: DecisionEngine
    execution: ExecutionEngine
    is_awaited: bool = True

    @property
    def journal_tag(self) -> str:
        """The key of its events in the journal: "" for the primary."""
        return self.execution.recorder.broker

    @property
    def account_id(self) -> str:
        """The account that orders are sent to."""
        return self.execution.venue.account_id

    def pause_s(self, poll_s: float) -> float:
        """The pause between two polls: `poll_s` (SLEEP_TIME), at most EVENT_POLL_S with a stream."""
        return min(poll_s, EVENT_POLL_S) if self.execution.venue.broker.capabilities.streams else poll_s

    @property
    def in_flight(self) -> int:
        """The number of orders not known to have ended, or open at the broker although the books call them ended."""
        return sum(1 for ticket in self.execution.tickets.values() if ticket.is_open)

    @property
    def is_idle(self) -> bool:
        """Whether there are neither positions nor working orders, except lost orders."""
        held = bool(self.decision_engine.position_manager.held or self.decision_engine.portfolio.unassigned_units)
        return not (held or self._working)

    @property
    def is_settled(self) -> bool:
        """Whether no entry, exit or cancel is in progress and each position has its stop."""
        manager = self.decision_engine.position_manager
        working = self._working
        resting = {
            ticket.order.client_order_id
            for ticket in working
            if ticket.order.leg in _PROTECTION and ticket.state in _ACCEPTED and ticket.orphan is None
        }
        covered = [held.stop for held in manager.held.values() if manager.protection.units_to_cover(held)]
        stops = [None if stop is None else stop.cid for stop in covered]
        steady = all(held.is_steady for held in manager.held.values())
        return steady and not manager.orders_to_cancel and len(resting) == len(working) and resting.issuperset(stops)

    @property
    def has_lookups(self) -> bool:
        """Whether an order that is not given up as lost is being looked up at the broker."""
        tickets = self.execution.tickets.values()
        return any(ticket.must_look_up and ticket.state is not OrderState.LOST for ticket in tickets)

    @property
    def ended_orders(self) -> int:
        """The number of sent orders that have ended; their last fills may be reported late."""
        return sum(1 for ticket in self.execution.tickets.values() if ticket.state in ENDED)

    @property
    def open_symbols(self) -> set[str]:
        """The symbols with a position or a working order."""
        return {*self.decision_engine.portfolio.symbols, *(ticket.order.symbol for ticket in self._working)}

    @property
    def _working(self) -> list[Ticket]:
        # Orders that work by the books, or by the broker's report beyond them.
        tickets = self.execution.tickets.values()
        return [one for one in tickets if one.is_open and (one.state is not OrderState.LOST or one.orphan is not None)]


@attrs.frozen(kw_only=True, eq=False)
class SessionBooks:
    """What the parts of a session share: its hours, its symbols with the facts known before the open, bars and brokers.

    The first of `broker_sessions` is the primary broker.
    """

    session: Session
    symbols: tuple[str, ...]
    day: DayFacts
    tape: Tape
    broker_sessions: tuple[BrokerSession, ...]

    @property
    def decision_engine(self) -> DecisionEngine:
        """The decision engine of the primary broker."""
        return self.broker_sessions[0].decision_engine

    @property
    def execution(self) -> ExecutionEngine:
        """The execution engine of the primary broker."""
        return self.broker_sessions[0].execution

    @property
    def fills_on_bars(self) -> bool:
        """Whether the primary broker is a venue that fills from closed bars."""
        return self.execution.venue.broker.capabilities.simulated

    @property
    def open_symbols(self) -> set[str]:
        """The symbols with a position or a working order at any broker."""
        return set().union(*(broker.open_symbols for broker in self.broker_sessions))

    @property
    def positions(self) -> list[str]:
        """The symbols with a position at any broker, sorted."""
        held = (broker.decision_engine.portfolio.symbols for broker in self.broker_sessions)
        return sorted(set[str]().union(*held))


class EntryRouter(Protocol):
    """Selects the broker that enters a signal."""

    def preview(self, proposal: Proposal, ahead: Sequence[ReservedEntry] = ()) -> Decision:
        """The decision that the selected broker would make now, as if those `ahead` were sent; nothing is counted."""

    def decide(self, proposal: Proposal) -> Decision:
        """Decide a signal at the broker that may enter it; the instrument's lease moves there first."""

    def broker_for(self, symbol: str) -> BrokerSession:
        """The broker that would enter an instrument now."""

    def is_responsive(self, broker_session: BrokerSession) -> bool:
        """Whether it makes sense to wait for a response of a broker."""
