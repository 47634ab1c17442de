"""The history of a rehearsed seed: the venue's facts, the journal's events, and the bot's final state."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.execution.broker_port import BrokerPort
from tbot_core.journal import records
from tbot_core.journal.projections.book import broker_events
from tbot_core.journal.store import Event, Journal, NewEvent
from tbot_core.model.types import Leg, SignalId, units_of
from tbot_core.plugins.network.request_limits import RequestPriority
from tbot_core.rehearsal.bot import BotProcess, BotProcessResult
from tbot_core.rehearsal.operator import OperatorActions
from tbot_core.rehearsal.patching import Swaps, current_attribute
from tbot_core.rehearsal.world import World
from tbot_core.trading.orders import OrderRecord
from tbot_core.trading.proposals import TradingRules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
    from tbot_core.rehearsal.network import NetworkPath
    from tbot_core.rehearsal.venue_matching import VenueFact
    from tbot_core.rehearsal.virtual_loop import VirtualLoop


@attrs.frozen(kw_only=True)
class FinalVenueState:
    """The last process's final state of a venue: signed units held, external holdings, and its orders."""

    held: dict[str, int]
    external: dict[str, Decimal]
    orders: dict[str, OrderRecord]


@attrs.define(kw_only=True)
class RehearsalHistory:
    """The history of a seed; `held` is None if the last process did not end normally.

    `on_close`: the strategies whose stop is emulated on closed bars by plan. `lives` are the results of the bot's
    processes. `elsewhere`: the final states of the standby venues. `unguarded`: findings of the exposure monitor;
    `turns`: waits for the rate limit; `births` and `deaths`: when each process's session began and when it crashed;
    `finished`: when the last one ended normally.
    `failures`: the errors that ended a process; `torn`: the fault of the journal's chain; `stopped`: a stop ended the
    session, so that later events were not awaited.
    """

    world: World
    name: str
    rules: TradingRules
    people: OperatorActions = attrs.field(factory=OperatorActions)
    on_close: frozenset[str] = frozenset()
    lives: list[BotProcessResult] = attrs.field(factory=list)
    events: list[Event] = attrs.field(factory=list)
    held: dict[str, int] | None = None
    external: dict[str, Decimal] = attrs.field(factory=dict)
    orders: dict[str, OrderRecord] = attrs.field(factory=dict)
    elsewhere: dict[str, FinalVenueState] = attrs.field(factory=dict)
    unguarded: list[str] = attrs.field(factory=list)
    turns: list[RequestWait] = attrs.field(factory=list)
    births: list[float] = attrs.field(factory=list)
    deaths: list[float] = attrs.field(factory=list)
    finished: float = float("inf")
    failures: list[str] = attrs.field(factory=list)
    torn: str = ""
    stopped: bool = False

    @property
    def parts(self) -> Iterator[RehearsalHistory]:
        """The history of each venue: its events and final state."""
        yield attrs.evolve(self, events=cast("list[Event]", list(broker_events(self.events))), elsewhere={})
        for name, left in self.elsewhere.items():
            events = cast("list[Event]", list(broker_events(self.events, name)))
            yield attrs.evolve(self, name=name, events=events, elsewhere={}, **attrs.asdict(left, recurse=False))

    @property
    def way(self) -> NetworkPath:
        """The network path to the venue."""
        return self.world.way(self.name)

    @property
    def facts(self) -> list[VenueFact]:
        """The venue's facts."""
        return self.way.exchange.matching.books.facts

    @property
    def written(self) -> list[tuple[float, NewEvent]]:
        """The events of all processes, each with the second of the world."""
        return [one for life in self.lives for one in life.written]

    @property
    def struck(self) -> set[str]:
        """The faults that were injected."""
        return {name for name, count in self.world.faults.injected.items() if count}

    def end(self, life: BotProcess) -> None:
        """Record the final state of the last process."""
        self.finished = self.world.loop.time()
        closed = cast("Journal", life.journal).last_event(records.SESSION_CLOSED) is not None
        self.stopped = life.session is not None and life.session.requests.is_stopping and not closed
        if life.session is not None and not self.stopped:
            first, *others = map(_final_state, life.session.supervisors)
            self.held, self.external, self.orders = first.held, first.external, first.orders
            self.elsewhere = {
                supervisor.broker_session.name: left
                for supervisor, left in zip(life.session.supervisors[1:], others, strict=True)
            }

    def intents(self) -> dict[str, tuple[SignalId, Leg, int]]:
        """Signal, leg and units of every journaled order."""
        return {
            event.cid: (
                records.signal_of(event.payload["signal"]),
                Leg(event.payload["leg"]),
                units_of(Decimal(event.payload["quantity"])),
            )
            for event in self.events
            if event.kind == records.INTENDED and event.cid is not None
        }

    @property
    def top_ups(self) -> set[str]:
        """The ids of the top-up orders."""
        intended = (event for event in self.events if event.kind == records.INTENDED and event.cid is not None)
        return {event.cid or "" for event in intended if records.order_of("", event.payload).tops_up}

    @property
    def untold(self) -> set[str]:
        """Orders with a bust or a correction that the bot did not receive."""
        reported = {event.source[2] for event in self.events if event.source is not None}
        return {
            event.client_order_id
            for _, event in self.way.exchange.matching.timed_events
            if event.kind in {BrokerEventKind.BUSTED, BrokerEventKind.CORRECTED} and event.event_id not in reported
        }

    def settled(self) -> Iterator[float]:
        """Seconds from each request without an answer to the event that resolved the order."""
        since: dict[str, Event] = {}
        for event in self.events:
            if event.cid is None:
                continue
            if event.kind == records.NO_ANSWER:
                since.setdefault(event.cid, event)
            elif event.kind in frozenset(BrokerEventKind) and event.cid in since:
                yield max(0.0, (event.applied - since.pop(event.cid).applied).total_seconds())


def _final_state(supervisor: BrokerSupervisor) -> FinalVenueState:
    session = supervisor.broker_session
    return FinalVenueState(
        held=session.decision_engine.portfolio.holdings,
        external=dict(supervisor.reconciler.external),
        orders=session.decision_engine.book.records(),
    )


@attrs.frozen(kw_only=True)
class RequestWait:
    """A request's wait for the rate limit, in seconds of the world, and the venue's limit per minute.

    `paced` is the same object for requests that share a budget.
    """

    paced: Any
    urgency: RequestPriority
    began: float
    ended: float
    per_minute: int


def record_waits(loop: VirtualLoop, turns: list[RequestWait]) -> Swaps:
    """Replacements that record each wait for the rate limit, in seconds of the loop."""
    turn = current_attribute(BrokerPort, "_wait_turn")

    async def wait(self: Any, urgency: RequestPriority, what: str) -> None:
        began = loop.time()
        await turn(self, urgency, what)
        limit = self.capabilities.requests_per_minute
        turns.append(RequestWait(paced=self, urgency=urgency, began=began, ended=loop.time(), per_minute=limit))

    return ((BrokerPort, "_wait_turn", wait),)
