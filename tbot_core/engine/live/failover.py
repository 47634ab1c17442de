"""Which of several brokers enters a signal: each instrument has one owner, and what broke is known before it moves.

An entry may go elsewhere only while everything at the broker that broke is at its end and was read just before, or
while a person has said what may be open there. Else the others only reduce. Nothing moves back by itself.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
from tbot_core.engine.session.requests import amount_of
from tbot_core.execution.circuit_breaker import CircuitBreaker, CircuitState
from tbot_core.execution.monitored_broker import MonitoredBroker
from tbot_core.journal import records
from tbot_core.journal.projections.leases import FailoverBlocker, FailoverPhase, Leases, RouteFailure
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Leg, RiskState, atoms_of, dollars_of
from tbot_core.trading.commands import Decision
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tbot_core.engine.control import ControlRequest
    from tbot_core.engine.session.broker_session import BrokerSession, StandbyBroker
    from tbot_core.engine.session.session import SessionContext
    from tbot_core.execution.broker_account import BrokerAccount
    from tbot_core.journal.projection import JournalEvent
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Order
    from tbot_core.trading.proposals import Proposal

MOST_USD: Final = Decimal(10) ** 12
"""The largest plausible amount; a larger one is a typing error."""

_CLOSED: Final = CircuitState.CLOSED


@attrs.define(kw_only=True, eq=False)
class BrokerRoute:
    """A broker of the session and the circuit of the way to it; `told` is the state that the journal has."""

    supervisor: BrokerSupervisor
    circuit: CircuitBreaker
    recorded_state: CircuitState = _CLOSED
    confirmed: bool = False

    @property
    def name(self) -> str:
        """The broker's name."""
        return self.supervisor.broker_session.name

    @property
    def healthy(self) -> bool:
        """Whether entries may be moved here: the broker is proven to respond, and the account is known."""
        known = (
            self.supervisor.reconciler.has_read_account
            and self.supervisor.trading_state.local_state < RiskState.EXIT_ONLY
        )
        return self.circuit.closed and known

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
    """The brokers of a session, the primary first; a `session.EntryRouter`.

    `drilled`: whether a drill of these brokers was passed lately, without which nothing moves.
    """

    def __init__(self, ways: Sequence[BrokerRoute], now: Callable[[], datetime], *, drilled: bool = True) -> None:
        self._ways = tuple(ways)
        self._primary = self._ways[0]
        self._conditions = self._primary.supervisor.trading_state
        self._recorder = self._primary.supervisor.broker_session.execution.recorder
        self._now = now
        self._drilled = drilled
        self._told: Mapping[str, Any] = {"phase": FailoverPhase.OVER.value}
        self.leases = Leases(primary=self._primary.name)

    def restore(self, past: Sequence[JournalEvent]) -> None:
        """Apply the state before a restart: leases, outages that continue, and confirmed amounts."""
        named = {way.name: way for way in self._ways}
        for event in past:
            payload = event.payload
            self.leases.apply(event)
            way = named.get(payload.get("of", ""))
            if event.kind == records.FAILOVER:
                self._told = payload
            elif event.kind == records.CIRCUIT and way is not None:
                way.recorded_state = way.circuit.state = CircuitState(payload["state"])
                way.circuit.since = None if payload["since"] is None else datetime.fromisoformat(payload["since"])
            elif event.kind == records.FAILOVER_CONFIRMED and way is not None:
                way.confirmed, stated = True, atoms_of(Decimal(payload["amount"]))
                way.supervisor.broker_session.decision_engine.exposure.stated_atoms = stated
            if way is not None and way.circuit.closed:
                self._forget(way)
        for way in self._ways:
            if not way.circuit.closed:  # nobody has heard of it since the restart
                way.circuit.state = CircuitState.OPEN

    def run_once(self) -> None:
        """Called often: record changes of the circuit breakers, and their consequences."""
        now = self._now()
        for way in self._ways:
            way.circuit.close_if_proven(now, clean=way.supervisor.trading_state.is_clean)
            if way.circuit.state is not way.recorded_state:
                way.recorded_state = way.circuit.state
                since = None if way.circuit.since is None else way.circuit.since.isoformat()
                payload = {"of": way.name, "state": way.recorded_state.value, "since": since}
                self._recorder.record(records.CIRCUIT, payload)
                if way.circuit.closed:
                    self._forget(way)
        self._say(self._standing(now))

    def broker_for(self, symbol: str) -> BrokerSession:
        """Where an instrument would be entered now."""
        return self.route(symbol)[0].supervisor.broker_session

    def is_responsive(self, post: BrokerSession) -> bool:
        """Whether it makes sense to wait for a response of a broker."""
        return self._way(post.name).circuit.state is not CircuitState.OPEN

    def preview(self, proposal: Proposal) -> Decision:
        """A preview of the decisions, at the broker that would enter; nothing is counted."""
        way, against = self.route(proposal.signal.symbol)
        if against is not None and proposal.reason is Reason.ALLOWED:
            return Decision(proposal=proposal, reason=Reason.REDUCE_ONLY, detail=against.value)
        return attrs.evolve(way.supervisor.broker_session.decision_engine.preview(proposal), broker=way.name)

    def decide(self, proposal: Proposal) -> Decision:
        """Decide a signal where it may be entered; the lease of what is entered elsewhere moves there before."""
        symbol = proposal.signal.symbol
        way, against = self.route(symbol)
        if against is not None and proposal.reason is Reason.ALLOWED:
            return Decision(proposal=proposal, reason=Reason.REDUCE_ONLY, detail=against.value)
        decision = way.supervisor.broker_session.decision_engine.decide([proposal])[0]
        owner = self._way(self.leases.of(symbol).broker)
        if decision.order is not None and owner is not way:
            moved = self.leases.move_payload(symbol, way.name, owner.current_break(self._now()))
            self._recorder.record(records.LEASE, moved)
            self.leases.apply_move(moved, self._now())
        return attrs.evolve(decision, broker=way.name)

    def denial_reason(self, keeper: BrokerSupervisor, order: Order) -> str:
        """Why an entry may not be sent from here; checked in the second barrier and again before its first byte."""
        if order.leg is not Leg.ENTRY:
            return ""
        way, against = self.route(order.symbol)
        if way.supervisor is not keeper:
            against = FailoverBlocker.ELSEWHERE
        return "" if against is None else against.value

    def route(self, symbol: str) -> tuple[BrokerRoute, FailoverBlocker | None]:
        """Where an instrument may be entered now, and what forbids it."""
        owner, now = self._way(self.leases.of(symbol).broker), self._now()
        if owner.circuit.closed:
            return owner, None if owner is self._primary else self._against_primary(now)
        to = self._next(owner)
        if to is None:
            return owner, FailoverBlocker.NO_OTHER
        against = self._undrilled or self.leases.may_move(owner.current_break(now), now)
        if to is not self._primary:
            against = against or self._against_primary(now)
        return to, against

    @property
    def broken_route(self) -> BrokerRoute | None:
        """The first broker of the session that is not proven to respond."""
        return next((way for way in self._ways if not way.circuit.closed), None)

    def confirm_exposure(self, request: ControlRequest) -> str:
        """Count an amount as exposure at the broker that failed, for the rest of that outage; returns the objection."""
        broken = self.broken_route
        if broken is None:
            return "Every broker responds: there is nothing to confirm."
        if broken.circuit.since is not None and request.made < broken.circuit.since:
            return f"The request was made before {broken.name} failed: check the account, and confirm again."
        amount = amount_of(request)
        if amount is None or amount > MOST_USD:
            return f"{request.arguments.get('amount', '')!r} is not an amount in USD."
        standing = broken.supervisor.broker_session.decision_engine.exposure
        reserved = dollars_of(standing.reserved)
        if amount < reserved:
            known = f"The worst case known at {broken.name} is {reserved} USD, including external positions there"
            return f"{known}, and {amount} USD is less."
        payload = {"of": broken.name, "amount": str(amount), "reserved": str(reserved), "actor": request.actor}
        self._recorder.record(records.FAILOVER_CONFIRMED, payload)
        broken.confirmed, standing.stated_atoms = True, atoms_of(amount)
        return ""

    @property
    def _undrilled(self) -> FailoverBlocker | None:
        return None if self._drilled else FailoverBlocker.NO_DRILL

    def _way(self, name: str) -> BrokerRoute:
        return next(way for way in self._ways if way.name == name)

    def _next(self, broken: BrokerRoute) -> BrokerRoute | None:
        return next((way for way in self._ways if way is not broken and way.healthy), None)

    def _against_primary(self, now: datetime) -> FailoverBlocker | None:
        # What forbids entries elsewhere for the sake of the primary, while it is broken.
        return None if self._primary.circuit.closed else self._undrilled or self._primary.current_break(now).objection

    def _standing(self, now: datetime) -> records.Payload:
        # How things stand with the primary; a break of another broker concerns what was entered there alone.
        broken = self._primary
        if broken.circuit.closed:
            return {"of": broken.name, "to": "", "phase": FailoverPhase.OVER.value, "why": ""}
        to, phase, why = (
            self._next(broken),
            FailoverPhase.DOWN,
            cast("FailoverBlocker | None", FailoverBlocker.NO_OTHER),
        )
        if to is not None:
            against = self._against_primary(now)
            phase = FailoverPhase.ENTRIES if against is None else FailoverPhase.REDUCE_ONLY
            why = against or self.leases.may_move(broken.current_break(now), now)
        return {
            "of": broken.name,
            "to": "" if to is None else to.name,
            "phase": phase.value,
            "why": "" if why is None else why.name,
        }

    def _say(self, found: records.Payload) -> None:
        # Write down how things stand, where that is new, and make causes of it.
        phase = FailoverPhase(found["phase"])
        down, broken = phase is FailoverPhase.DOWN, phase in {FailoverPhase.ENTRIES, FailoverPhase.REDUCE_ONLY}
        if phase is FailoverPhase.ENTRIES:
            self._conditions.set_clean_elsewhere(self._way(found["to"]).supervisor.trading_state)
        was = self._told["phase"] != FailoverPhase.OVER.value
        if {key: self._told.get(key, "") for key in found} != found and (phase is not FailoverPhase.OVER or was):
            self._recorder.record(records.FAILOVER, found)
            self._told = found
            self._conditions.set_failed_over(away=phase is FailoverPhase.ENTRIES)
        self._conditions.set_cause(StateCause.BROKERS_DOWN, ", ".join(way.name for way in self._ways) if down else "")
        self._conditions.set_cause(StateCause.PRIMARY_DOWN, found["of"] if broken else "")

    def _forget(self, way: BrokerRoute) -> None:
        # What a person said of a break ends with it.
        way.confirmed = False
        way.supervisor.broker_session.decision_engine.exposure.stated_atoms = 0


def monitor_brokers(trading: SessionContext) -> tuple[SessionContext, tuple[CircuitBreaker, ...]]:
    """The trading with a circuit for the way to each of its brokers; without another broker there is none."""
    if not trading.standbys:
        return trading, ()
    circuits = tuple(CircuitBreaker() for _ in range(1 + len(trading.standbys)))

    def heard(venue: BrokerAccount, circuit: CircuitBreaker) -> BrokerAccount:
        return attrs.evolve(venue, broker=MonitoredBroker(venue.broker, circuit, trading.clock))

    standbys = tuple(
        attrs.evolve(one, venue=heard(one.venue, circuit))
        for one, circuit in zip(trading.standbys, circuits[1:], strict=True)
    )
    return attrs.evolve(trading, venue=heard(trading.venue, circuits[0]), standbys=standbys), circuits


def guard_standbys(
    standbys: Sequence[StandbyBroker], refusal: Callable[[int, Order], str], sight: Callable[[int, str], None]
) -> tuple[StandbyBroker, ...]:
    """The other brokers, whose orders and readings a session judges as it does those of the primary, by their place."""
    return tuple(
        attrs.evolve(
            one,
            venue=attrs.evolve(one.venue, denial_reason=partial(refusal, place), on_read_result=partial(sight, place)),
        )
        for place, one in enumerate(standbys, 1)
    )


def make_failover(
    keepers: Sequence[BrokerSupervisor],
    circuits: Sequence[CircuitBreaker],
    clock: Clock,
    past: Sequence[JournalEvent],
    *,
    drilled: bool,
) -> FailoverRouter | None:
    """Who moves entries between the brokers of a session, where there is another one; `past` are its events."""
    if not circuits:
        return None
    keepers[0].share_state_with(keepers[1:])
    ways = [BrokerRoute(supervisor=keeper, circuit=circuit) for keeper, circuit in zip(keepers, circuits, strict=True)]
    made = FailoverRouter(ways, clock.now, drilled=drilled)
    made.restore(past)
    return made
