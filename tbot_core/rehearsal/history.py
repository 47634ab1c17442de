"""All that is known of a seed when it is over: what is true at the venue, what was written down, what the bot held."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.execution.throttling import RequestPriority
from tbot_core.journal import records
from tbot_core.journal.projections.book import broker_events
from tbot_core.journal.store import Event
from tbot_core.model.types import Leg, SignalId, units_of
from tbot_core.rehearsal.bot import BotProcess, BotProcessResult
from tbot_core.rehearsal.operator import OperatorActions
from tbot_core.rehearsal.world import World
from tbot_core.trading.orders import BROKER_EVENT_KINDS, OrderRecord
from tbot_core.trading.proposals import TradingRules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
    from tbot_core.journal.store import Journal
    from tbot_core.rehearsal.network import NetworkPath
    from tbot_core.rehearsal.venue_facts import VenueFact


@attrs.frozen(kw_only=True)
class FinalVenueState:
    """What the last life knew of a venue at its end: what is held there, what is foreign, and its orders."""

    held: dict[str, int]
    foreign: dict[str, Decimal]
    orders: dict[str, OrderRecord]


@attrs.define(kw_only=True)
class RehearsalHistory:
    """All that is known of a seed when it is over; what the last life held is None when it did not end in order.

    `elsewhere`: what was left at the venues that entries may go to when the first is broken. `failures`: the errors
    that ended a life; `torn`: what is wrong with the journal's chain; `stopped`: a stop has ended the session, so that
    what is told later was not waited for.
    """

    world: World
    name: str
    rules: TradingRules
    people: OperatorActions = attrs.field(factory=OperatorActions)
    lives: list[BotProcessResult] = attrs.field(factory=list)
    events: list[Event] = attrs.field(factory=list)
    held: dict[str, int] | None = None
    foreign: dict[str, Decimal] = attrs.field(factory=dict)
    orders: dict[str, OrderRecord] = attrs.field(factory=dict)
    elsewhere: dict[str, FinalVenueState] = attrs.field(factory=dict)
    unguarded: list[str] = attrs.field(factory=list)
    turns: list[RequestWait] = attrs.field(factory=list)
    births: list[float] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)
    torn: str = ""
    stopped: bool = False

    @property
    def parts(self) -> Iterator[RehearsalHistory]:
        """The story of each venue by itself: its events, and what was left there."""
        yield attrs.evolve(self, events=cast("list[Event]", list(broker_events(self.events))), elsewhere={})
        for name, left in self.elsewhere.items():
            mine = cast("list[Event]", list(broker_events(self.events, name)))
            yield attrs.evolve(self, name=name, events=mine, elsewhere={}, **attrs.asdict(left, recurse=False))

    @property
    def way(self) -> NetworkPath:
        """The way to the venue."""
        return self.world.way(self.name)

    @property
    def facts(self) -> list[VenueFact]:
        """What is true at the venue."""
        return self.way.exchange.floor.books.facts

    @property
    def struck(self) -> set[str]:
        """The faults that did strike."""
        return {name for name, count in self.world.faults.injected.items() if count}

    def end(self, life: BotProcess) -> None:
        """Take in what the last life knew at its end."""
        closed = cast("Journal", life.journal).last_event(records.SESSION_CLOSED) is not None
        self.stopped = life.session is not None and life.session.requests.is_stopping and not closed
        if life.session is not None and not self.stopped:
            first, *others = map(_left, life.session.supervisors)
            self.held, self.foreign, self.orders = first.held, first.foreign, first.orders
            self.elsewhere = {
                keeper.broker_session.name: left
                for keeper, left in zip(life.session.supervisors[1:], others, strict=True)
            }

    def intents(self) -> dict[str, tuple[SignalId, Leg, int]]:
        """Signal, leg and units of every order that was written down."""
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
        """The orders that add to a position."""
        intended = (event for event in self.events if event.kind == records.INTENDED and event.cid is not None)
        return {event.cid or "" for event in intended if records.order_of("", event.payload).tops_up}

    @property
    def untold(self) -> set[str]:
        """Orders of which an execution was taken back or corrected while nobody listened."""
        told = {event.source[2] for event in self.events if event.source is not None}
        return {
            event.client_order_id
            for _, event in self.way.exchange.floor.timed_events
            if event.kind in {BrokerEventKind.BUSTED, BrokerEventKind.CORRECTED} and event.event_id not in told
        }

    def settled(self) -> Iterator[float]:
        """Seconds from each doubt about an order to the word that ended it."""
        since: dict[str, Event] = {}
        for event in self.events:
            if event.cid is None:
                continue
            if event.kind == records.NO_ANSWER:
                since.setdefault(event.cid, event)
            elif event.kind in BROKER_EVENT_KINDS and event.cid in since:
                yield max(0.0, (event.applied - since.pop(event.cid).applied).total_seconds())


def _left(keeper: BrokerSupervisor) -> FinalVenueState:
    post = keeper.broker_session
    return FinalVenueState(
        held=post.decision_engine.portfolio.holdings,
        foreign=dict(keeper.reconciler.external),
        orders=dict(post.execution.orders),
    )


@attrs.frozen(kw_only=True)
class RequestWait:
    """A request that was let go: since when it had waited, until when, and how many a minute its venue allows.

    `paced` is the same for those that wait for each other.
    """

    paced: Any
    urgency: RequestPriority
    began: float
    ended: float
    per_minute: int
