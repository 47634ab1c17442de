"""Selects the broker that enters a signal: each instrument has one owner, which moves only under known exposure.

An entry may move to another broker only if all orders at the failed one had ended and its account was just read, or if
a person has confirmed the exposure there. Otherwise the others only reduce. Leases do not move back by themselves.
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import attrs

from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
from tbot_core.engine.session.requests import amount_of
from tbot_core.execution.circuit_breaker import CircuitBreaker, CircuitState
from tbot_core.journal import records
from tbot_core.journal.events.failover import CircuitChanged, FailoverChanged, FailoverConfirmed
from tbot_core.journal.projections.failover import FailoverBlocker, Leases, RouteFailure
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Leg, Order, RiskState, atoms_of, dollars_of
from tbot_core.trading.commands import Decision
from tbot_core.trading.risk.states import FailoverPhase, StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from tbot_core.engine.control import ControlRequest
    from tbot_core.engine.session.broker_session import BrokerSession, StandbyBroker
    from tbot_core.engine.session.session import SessionContext
    from tbot_core.journal.store import Event
    from tbot_core.model.clock import Clock
    from tbot_core.trading.proposals import Proposal
    from tbot_core.trading.risk.exposure import ReservedEntry

MOST_USD: Final = Decimal(10) ** 12
"""The largest plausible amount; a larger one is a typing error."""

_CLOSED: Final = CircuitState.CLOSED


@attrs.define(kw_only=True, eq=False)
class BrokerRoute:
    """A broker of the session with its circuit breaker; `recorded_state` is the state in the journal.

    `broke_at` is the number of the event that recorded the present outage; 0 without one.
    """

    supervisor: BrokerSupervisor
    circuit: CircuitBreaker
    recorded_state: CircuitState = _CLOSED
    broke_at: int = 0
    confirmed: bool = False

    @property
    def name(self) -> str:
        """The broker's name."""
        return self.supervisor.broker_session.name

    @property
    def healthy(self) -> bool:
        """Whether entries may move here: the broker is proven to respond, and its account is known."""
        known = (
            self.supervisor.reconciler.has_read_account
            and self.supervisor.trading_state.local_state < RiskState.EXIT_ONLY
        )
        return self.circuit.closed and known

    def note_outage(self, number: int) -> None:
        """Note the number of an event that recorded its state: of an outage the first one counts."""
        self.broke_at = 0 if self.circuit.closed else self.broke_at or number

    def current_break(self, now: datetime) -> RouteFailure:
        """What is known about its outage."""
        return RouteFailure(
            broker=self.name,
            since=self.circuit.since or now,
            read=self.supervisor.reconciler.read_at,
            in_flight=self.supervisor.broker_session.in_flight,
            confirmed=self.confirmed,
        )


class FailoverRouter:
    """The EntryRouter of a session's brokers, the primary first.

    `drilled`: whether a recent drill of these brokers passed; without one nothing moves.
    """

    def __init__(self, routes: Sequence[BrokerRoute], now: Callable[[], datetime], *, drilled: bool = True) -> None:
        self._routes = tuple(routes)
        self._primary = self._routes[0]
        self._trading_state = self._primary.supervisor.trading_state
        self._recorder = self._primary.supervisor.broker_session.execution.recorder
        self._now = now
        self._drilled = drilled
        self._recorded: FailoverChanged | None = None
        self.leases = Leases(primary=self._primary.name)

    def restore(self, past: Sequence[Event]) -> None:
        """Apply the state before a restart: leases, outages that continue, and confirmed amounts."""
        named = {route.name: route for route in self._routes}
        for event in past:
            self.leases.apply(event)
            match event.kind:
                case records.FAILOVER:
                    self._recorded = event.facts(FailoverChanged)
                case records.CIRCUIT:
                    self._restore_circuit(event.facts(CircuitChanged), named, event.seq)
                case records.FAILOVER_CONFIRMED:
                    self._restore_confirmation(event.facts(FailoverConfirmed), named)

    def _restore_circuit(self, changed: CircuitChanged, named: Mapping[str, BrokerRoute], number: int) -> None:
        # The state of a circuit breaker by the event with this number; a broker may not be in this session.
        if (route := named.get(changed.of)) is None:
            return
        route.recorded_state = CircuitState(changed.state)
        route.circuit.restore(route.recorded_state, changed.since)
        route.note_outage(number)
        if route.circuit.closed:
            self._clear_confirmation(route)

    @staticmethod
    def _restore_confirmation(confirmed: FailoverConfirmed, named: Mapping[str, BrokerRoute]) -> None:
        # The exposure that a person stated; it ended with the outage.
        route = named.get(confirmed.of)
        if route is not None and not route.circuit.closed:
            route.confirmed = True
            route.supervisor.broker_session.decision_engine.exposure.stated_atoms = atoms_of(confirmed.amount)

    def run_once(self) -> None:
        """Called often: record changes of the circuit breakers, and their consequences."""
        now = self._now()
        for route in self._routes:
            route.circuit.close_if_proven(now, clean=route.supervisor.trading_state.is_clean)
            if route.circuit.state is not route.recorded_state:
                route.recorded_state = route.circuit.state
                changed = CircuitChanged(of=route.name, state=route.recorded_state.value, since=route.circuit.since)
                self._recorder.record(changed)
                route.note_outage(self._recorder.journal.head[0])
                if route.circuit.closed:
                    self._clear_confirmation(route)
        self._record(self._failover_state(now))

    def broker_for(self, symbol: str) -> BrokerSession:
        """The broker that would enter an instrument now."""
        return self.route(symbol)[0].supervisor.broker_session

    def is_responsive(self, broker_session: BrokerSession) -> bool:
        """Whether it makes sense to wait for a response of a broker."""
        return self._route_of(broker_session.name).circuit.state is not CircuitState.OPEN

    def preview(self, proposal: Proposal, ahead: Sequence[ReservedEntry] = ()) -> Decision:
        """The decision of the broker that would enter now, as if those `ahead` were sent; limits do not count it."""
        route, blocker = self.route(proposal.instrument.symbol)
        if blocker is not None and proposal.reason is Reason.ALLOWED:
            return Decision(proposal=proposal, reason=Reason.REDUCE_ONLY, detail=blocker.value)
        return attrs.evolve(route.supervisor.broker_session.decision_engine.preview(proposal, ahead), broker=route.name)

    def decide(self, proposal: Proposal) -> Decision:
        """Decide a signal at the broker that may enter it; the instrument's lease moves there first."""
        symbol = proposal.instrument.symbol
        route, blocker = self.route(symbol)
        if blocker is not None and proposal.reason is Reason.ALLOWED:
            return Decision(proposal=proposal, reason=Reason.REDUCE_ONLY, detail=blocker.value)
        decision = route.supervisor.broker_session.decision_engine.decide([proposal])[0]
        owner = self._route_of(self.leases.of(symbol).broker)
        if decision.order is not None and owner is not route:
            moved = self.leases.move(symbol, route.name, owner.current_break(self._now()))
            self._recorder.record(moved)
            self.leases.apply_move(moved, self._now())
        return attrs.evolve(decision, broker=route.name)

    def denial_reason(self, supervisor: BrokerSupervisor, order: Order) -> str:
        """Why an entry may not be sent from here; checked in the second barrier and again before its first byte."""
        if order.leg is not Leg.ENTRY:
            return ""
        route, blocker = self.route(order.symbol)
        if route.supervisor is not supervisor:
            blocker = FailoverBlocker.ELSEWHERE
        return "" if blocker is None else blocker.value

    def route(self, symbol: str) -> tuple[BrokerRoute, FailoverBlocker | None]:
        """The broker that may enter an instrument now, and what forbids it."""
        owner, now = self._route_of(self.leases.of(symbol).broker), self._now()
        if owner.circuit.closed:
            return owner, None if owner is self._primary else self._primary_blocker(now)
        to = self._next_healthy(owner)
        if to is None:
            return owner, FailoverBlocker.NO_OTHER
        blocker = self._drill_blocker or self.leases.may_move(owner.current_break(now), now)
        if to is not self._primary:
            blocker = blocker or self._primary_blocker(now)
        return to, blocker

    @property
    def broken_route(self) -> BrokerRoute | None:
        """The first broker of the session that is not proven to respond."""
        return next((route for route in self._routes if not route.circuit.closed), None)

    def confirm_exposure(self, request: ControlRequest) -> str:
        """Count an amount as exposure at the broker that failed, for the rest of that outage; returns the objection."""
        broken = self.broken_route
        if broken is None:
            return "Every broker responds: there is nothing to confirm."
        if request.order <= broken.broke_at:
            return f"The request was made before {broken.name} failed: check the account, and confirm again."
        amount = amount_of(request)
        if amount is None or amount > MOST_USD:
            return f"{request.arguments.get('amount', '')!r} is not an amount in USD."
        exposure = broken.supervisor.broker_session.decision_engine.exposure
        reserved = dollars_of(exposure.reserved)
        if amount < reserved:
            known = f"The worst case known at {broken.name} is {reserved} USD, including external positions there"
            return f"{known}, and {amount} USD is less."
        self._recorder.record(FailoverConfirmed(of=broken.name, amount=amount, reserved=reserved, actor=request.actor))
        broken.confirmed, exposure.stated_atoms = True, atoms_of(amount)
        return ""

    @property
    def _drill_blocker(self) -> FailoverBlocker | None:
        return None if self._drilled else FailoverBlocker.NO_DRILL

    def _route_of(self, name: str) -> BrokerRoute:
        return next(route for route in self._routes if route.name == name)

    def _next_healthy(self, broken: BrokerRoute) -> BrokerRoute | None:
        return next((route for route in self._routes if route is not broken and route.healthy), None)

    def _primary_blocker(self, now: datetime) -> FailoverBlocker | None:
        # What forbids entries at other brokers while the primary has failed.
        return (
            None if self._primary.circuit.closed else self._drill_blocker or self._primary.current_break(now).objection
        )

    def _failover_state(self, now: datetime) -> FailoverChanged:
        # The failover state of the primary; an outage of another broker concerns only what was entered there.
        broken = self._primary
        if broken.circuit.closed:
            return FailoverChanged(of=broken.name, to="", phase=FailoverPhase.OVER, why="")
        to, phase, why = (
            self._next_healthy(broken),
            FailoverPhase.DOWN,
            cast("FailoverBlocker | None", FailoverBlocker.NO_OTHER),
        )
        if to is not None:
            blocker = self._primary_blocker(now)
            phase = FailoverPhase.ENTRIES if blocker is None else FailoverPhase.REDUCE_ONLY
            why = blocker or self.leases.may_move(broken.current_break(now), now)
        return FailoverChanged(
            of=broken.name,
            to="" if to is None else to.name,
            phase=phase,
            why="" if why is None else why.name,
        )

    def _record(self, found: FailoverChanged) -> None:
        # Record a changed failover state, and set the causes.
        phase, recorded = found.phase, self._recorded
        down, broken = phase is FailoverPhase.DOWN, phase in {FailoverPhase.ENTRIES, FailoverPhase.REDUCE_ONLY}
        if phase is FailoverPhase.ENTRIES:
            self._trading_state.set_clean_elsewhere(self._route_of(found.to).supervisor.trading_state)
        was = recorded is not None and recorded.phase is not FailoverPhase.OVER
        if found != recorded and (phase is not FailoverPhase.OVER or was):
            self._recorder.record(found)
            self._recorded = found
            self._trading_state.set_failed_over(away=phase is FailoverPhase.ENTRIES)
        self._trading_state.set_cause(
            StateCause.BROKERS_DOWN, ", ".join(route.name for route in self._routes) if down else ""
        )
        self._trading_state.set_cause(StateCause.PRIMARY_DOWN, found.of if broken else "")

    def _clear_confirmation(self, route: BrokerRoute) -> None:
        # A person's confirmation ends with the outage.
        route.confirmed = False
        route.supervisor.broker_session.decision_engine.exposure.stated_atoms = 0


def monitor_brokers(context: SessionContext) -> tuple[SessionContext, tuple[CircuitBreaker, ...]]:
    """The context with a circuit breaker for each broker; unchanged and without any if there is no standby."""
    if not context.standbys:
        return context, ()
    circuits = tuple(CircuitBreaker() for _ in range(1 + len(context.standbys)))
    standbys = tuple(
        attrs.evolve(standby, venue=attrs.evolve(standby.venue, circuit=circuit))
        for standby, circuit in zip(context.standbys, circuits[1:], strict=True)
    )
    venue = attrs.evolve(context.venue, circuit=circuits[0])
    return attrs.evolve(context, venue=venue, standbys=standbys), circuits


def guard_standbys(
    standbys: Sequence[StandbyBroker],
    denial_reason: Callable[[int, Order], str],
    on_read_result: Callable[[int, str], None],
) -> tuple[StandbyBroker, ...]:
    """The standbys with the session's order check and read callback; both receive the broker's index."""
    return tuple(
        attrs.evolve(
            one,
            venue=attrs.evolve(
                one.venue, denial_reason=partial(denial_reason, index), on_read_result=partial(on_read_result, index)
            ),
        )
        for index, one in enumerate(standbys, 1)
    )


def make_failover(
    supervisors: Sequence[BrokerSupervisor],
    circuits: Sequence[CircuitBreaker],
    clock: Clock,
    past: Sequence[Event],
    *,
    drilled: bool,
) -> FailoverRouter | None:
    """The failover router of a session, None without a standby; `past` are the session's events."""
    if not circuits:
        return None
    supervisors[0].share_state_with(supervisors[1:])
    routes = [
        BrokerRoute(supervisor=supervisor, circuit=circuit)
        for supervisor, circuit in zip(supervisors, circuits, strict=True)
    ]
    router = FailoverRouter(routes, clock.now, drilled=drilled)
    router.restore(past)
    return router
