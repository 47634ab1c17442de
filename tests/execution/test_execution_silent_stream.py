"""A stream that is connected and silent: entries are looked up, what it kept back is noticed, and entries wait."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import (
    AccountSnapshot,
    BrokerCapabilities,
    BrokerEvent,
    Gap,
    OrderStatus,
    OrderStatusReport,
    Permit,
)
from tbot_core.errors import BrokerError, Rejected, RejectionMeaning, Unavailable
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.reconciler import Reconciler
from tbot_core.execution.trading_state import TradingStateController
from tbot_core.journal.store import Journal, JournalRecorder, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Account, Order, OrderState, atoms_of
from tbot_core.testing.trades import fill, proposal, rules, session
from tbot_core.trading.commands import CancelOrder
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.order_lookup import IN_FLIGHT_S, WATCHED_S
from tbot_core.trading.risk.states import StateCause, TradingState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from tbot_core.execution.event_stream import EventStream
    from tbot_core.trading.orders import OrderRecord

ENTRY = "AAA entry 1"
ACCOUNT = Account(account_id="A1", equity=Decimal(100_000), cash=Decimal(100_000))


class Silent:
    """A broker that takes orders and streams nothing about them; `found` is what it knows of one."""

    capabilities = BrokerCapabilities(query_by_cid=True, streams=True)

    def __init__(self) -> None:
        self.found: dict[str, OrderStatusReport] = {}
        self.connections = self.lookups = 0
        self.cancels: list[str] = []
        self.knows = True

    async def events(self) -> AsyncIterator[BrokerEvent | Gap]:
        """A connection on which nothing comes."""
        self.connections += 1
        yield Gap(words="connected")
        await asyncio.Event().wait()

    async def submit(self, order: Order, permit: Permit) -> None:
        """Take an order."""
        permit.redeem()
        self.report(order, "acknowledged")

    def report(self, order: Order, kind: str, at: datetime | None = None, filled: str = "0") -> None:
        """Set what is known of an order, which was filled at a time."""
        fills = () if at is None else (attrs.evolve(fill(order, "100", filled), time=at),)
        self.found[order.client_order_id] = OrderStatusReport(
            client_order_id=order.client_order_id,
            broker_order_id="b1",
            kind=kind,
            symbol=order.symbol,
            buy=order.buy,
            quantity=order.quantity,
            time=session().open if at is None else at,
            filled=Decimal(filled),
            average_price=Decimal(100),
            fills=fills,
        )

    async def cancel(self, client_order_id: str) -> None:
        """Take a request for an order that it knows."""
        self.cancels.append(client_order_id)
        if not self.knows:
            raise Rejected("404 order not found", meaning=RejectionMeaning.UNKNOWN_ORDER)

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """What it knows of an order."""
        self.lookups += 1
        return self.found.get(client_order_id) if self.knows else None

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """What it knows of all orders."""
        assert since < session().open
        return AccountSnapshot(account=ACCOUNT, orders=tuple(self.found.values()) if self.knows else ())


class Bench:
    """A session at a silent broker."""

    def __init__(self, journal: Journal, broker_at: Silent | None = None) -> None:
        self.broker, self.clock = broker_at or Silent(), ManualClock(session().open)
        self.journal = journal
        broker: Any = self.broker
        given = rules(venue=self.broker.capabilities)
        self.desk = DecisionEngine(
            given, session(), atoms_of(Decimal(100_000)), lambda one, leg, n: f"{one.symbol} {leg.value} {n}"
        )
        self.desk.exposure.blocking_causes = {}
        recorder = JournalRecorder(journal=journal, clock=self.clock)
        self.execution = ExecutionEngine(
            recorder, BrokerAccount(broker=broker, name="told", account_id="A1"), self.desk
        )
        states = TradingStateController(recorder, lambda _state: None, TradingState())
        self.reconciler = Reconciler(self.execution, self.desk, states)

    @property
    def stream(self) -> EventStream:
        """The stream of the broker."""
        assert self.execution.stream is not None
        return self.execution.stream

    async def connect(self) -> asyncio.Task[None]:
        """Open the stream."""
        task = asyncio.ensure_future(self.stream.run())
        await self.settle()
        return task

    @staticmethod
    async def settle() -> None:
        """Let other tasks run."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def enter(self) -> Order:
        """Send the entry of AAA."""
        await self.execution.execute(MinuteCommands(decisions=self.desk.decide([proposal()])))
        return self.execution.tickets[ENTRY].order

    async def later(self, seconds: float) -> None:
        """Let time pass, then make a round."""
        await self.clock.sleep(seconds)
        await self.reconciler.run_once()
        await self.settle()

    @property
    def causes(self) -> set[StateCause]:
        """What blocks entries."""
        return {*(self.desk.exposure.blocking_causes or {})}

    @property
    def record(self) -> OrderRecord:
        """The entry."""
        return self.execution.tickets[ENTRY].record

    @property
    def state(self) -> OrderState:
        """The state of the entry."""
        return self.record.state


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench at the bell."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        yield Bench(journal)


async def closed(task: asyncio.Task[None]) -> None:
    """End the stream."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_an_acknowledgement_that_only_a_lookup_has_shows_that_the_stream_is_silent(bench: Bench) -> None:
    """The stream is opened again, entries wait, and the account is read."""

    async def live() -> None:
        task = await bench.connect()
        await bench.clock.sleep(5)
        await bench.enter()
        bench.execution.rejections.on_reading()
        await bench.later(IN_FLIGHT_S + 0.1)
        assert bench.state is OrderState.NEW
        assert bench.causes == {StateCause.EVENTS_MISSED}
        assert bench.broker.connections == 2
        assert bench.execution.rejections.must_read
        await closed(task)

    asyncio.run(live())


def test_a_working_entry_is_looked_up_though_its_stream_is_connected(bench: Bench) -> None:
    """A fill is known at the latest so many seconds later, and its stop is placed."""

    async def live() -> None:
        task = await bench.connect()
        await bench.clock.sleep(5)
        entry = await bench.enter()
        acknowledged = BrokerEvent(kind="acknowledged", event_id="1", client_order_id=ENTRY)
        bench.execution.apply_events([acknowledged])
        await bench.reconciler.run_once()
        asked = bench.broker.lookups
        await bench.later(WATCHED_S - 1)
        assert bench.broker.lookups == asked
        bench.broker.report(entry, "fill", bench.clock.now() - timedelta(seconds=1.5), str(entry.quantity))
        await bench.later(1)
        assert bench.state is OrderState.FILLED
        assert bench.causes == {StateCause.EVENTS_MISSED}
        await closed(task)

    asyncio.run(live())


class Listing(Silent):
    """A silent broker that lists its open orders, the fault aside that it is given."""

    capabilities = BrokerCapabilities(query_by_cid=True, streams=True, lists_open=True)

    def __init__(self) -> None:
        super().__init__()
        self.lists = 0
        self.fault: BrokerError | None = None
        self.meanwhile: Callable[[], object] = lambda: None

    async def open_orders(self) -> Sequence[OrderStatusReport]:
        """The orders that work."""
        self.lists += 1
        if self.fault is not None:
            raise self.fault
        listed = [one for one in self.found.values() if one.kind is OrderStatus.WORKING]
        self.meanwhile()
        return listed


async def entered(bench: Bench, count: int) -> list[Order]:
    """So many entries that work, by the broker's word on the stream."""
    symbols = [letter * 3 for letter in "ABCDEFGH"[:count]]
    await bench.execution.execute(MinuteCommands(decisions=bench.desk.decide([proposal(one) for one in symbols])))
    found = [record.order for record in bench.execution.tickets.values()]
    events = [
        BrokerEvent(kind="acknowledged", event_id=one.client_order_id, client_order_id=one.client_order_id)
        for one in found
    ]
    bench.execution.apply_events(events)
    await bench.reconciler.run_once()
    return found


@pytest.fixture
def listing(tmp_path: Path) -> Iterator[Bench]:
    """A bench at a broker that lists its open orders."""
    with closing(open_journal(tmp_path / "listing.sqlite")) as journal:
        yield Bench(journal, Listing())


@pytest.mark.parametrize("count", [1, 3])
def test_working_entries_are_watched_by_one_request_for_all(listing: Bench, count: int) -> None:
    """Every few seconds, whatever their number; what a list shows of a part is booked."""

    async def live() -> None:
        task = await listing.connect()
        entries, broker = await entered(listing, count), listing.broker
        assert isinstance(broker, Listing)
        assert len(entries) == count
        before = broker.lookups
        for _ in range(24):
            await listing.later(0.5)
        assert (broker.lists, broker.lookups) == (5, before)
        broker.report(entries[0], "acknowledged", listing.clock.now(), "1")
        await listing.later(WATCHED_S)
        assert listing.execution.tickets[entries[0].client_order_id].record.filled == 1
        await closed(task)

    asyncio.run(live())


def test_an_entry_that_is_not_listed_any_more_is_looked_up_at_once(listing: Bench) -> None:
    """A lost fill of any of them is known within the same seconds as that of a single one."""

    async def live() -> None:
        task = await listing.connect()
        await listing.clock.sleep(5)
        entries, broker = await entered(listing, 3), listing.broker
        assert isinstance(broker, Listing)
        last, before = entries[-1], broker.lookups
        filled_at = listing.clock.now()
        broker.report(last, "fill", filled_at, str(last.quantity))
        while listing.execution.tickets[last.client_order_id].state is not OrderState.FILLED:
            await listing.later(0.5)
        assert (listing.clock.now() - filled_at).total_seconds() <= WATCHED_S + 0.5
        assert broker.lookups == before + 1
        assert listing.causes == {StateCause.EVENTS_MISSED}
        await closed(task)

    asyncio.run(live())


def test_entries_are_looked_up_one_by_one_where_the_list_fails(listing: Bench) -> None:
    """A fault of one kind of request hides no fill."""

    async def live() -> None:
        task = await listing.connect()
        entries, broker = await entered(listing, 2), listing.broker
        assert isinstance(broker, Listing)
        broker.fault, before = Unavailable("no list"), broker.lookups
        await listing.later(WATCHED_S)
        assert broker.lookups == before + len(entries)
        await closed(task)

    asyncio.run(live())


def test_an_entry_that_ends_while_the_list_is_read_is_not_touched_by_it(listing: Bench) -> None:
    """The list shows it as working, and is older than its end: it is no orphan order."""

    async def live() -> None:
        task = await listing.connect()
        (entry,), broker = await entered(listing, 1), listing.broker
        assert isinstance(broker, Listing)
        told = fill(entry, "100", str(entry.quantity))
        event = BrokerEvent(kind="fill", event_id="f", client_order_id=entry.client_order_id, fill=told)

        def fills() -> None:
            broker.report(entry, "fill", listing.clock.now(), str(entry.quantity))
            listing.execution.apply_events([event])

        broker.meanwhile = fills
        await listing.later(WATCHED_S)
        assert listing.execution.tickets[entry.client_order_id].state is OrderState.FILLED
        assert listing.execution.tickets[entry.client_order_id].orphan is None
        await closed(task)

    asyncio.run(live())


@pytest.mark.parametrize("before", [0.0, 3.0], ids=["under way", "before the connection"])
def test_a_fill_that_may_still_arrive_says_nothing_against_the_stream(bench: Bench, before: float) -> None:
    """It happened a moment ago, or before the connection was opened."""

    async def live() -> None:
        entry = await bench.enter()
        bench.execution.apply_events([BrokerEvent(kind="acknowledged", event_id="1", client_order_id=ENTRY)])
        await bench.clock.sleep(5)
        task = await bench.connect()
        await bench.reconciler.run_once()
        await bench.clock.sleep(WATCHED_S)
        at = bench.clock.now() - timedelta(seconds=WATCHED_S + before if before else 0)
        bench.broker.report(entry, "fill", at, str(entry.quantity))
        await bench.later(0.1)
        assert bench.state is OrderState.FILLED
        assert (bench.causes, bench.broker.connections) == (set(), 1)
        await closed(task)

    asyncio.run(live())


def test_a_fill_without_an_id_is_left_to_the_stream_for_a_second(bench: Bench) -> None:
    """Only the stream knows its execution: it is booked once, by that id; without it a second look-up books it."""

    async def live() -> None:
        task = await bench.connect()
        entry = await bench.enter()
        bench.execution.apply_events([BrokerEvent(kind="acknowledged", event_id="1", client_order_id=ENTRY)])
        await bench.reconciler.run_once()
        half = entry.quantity / 2
        for filled, streamed in ((half, True), (entry.quantity, False)):
            await bench.clock.sleep(WATCHED_S)
            bench.broker.report(entry, "acknowledged" if streamed else "fill", filled=str(filled))
            await bench.later(0)
            executions = bench.execution.tickets[ENTRY].record.executions
            assert sum(one.quantity for one in executions.values()) == filled - half
            if streamed:
                told = attrs.evolve(fill(entry, "100", str(half)), execution_id="of the stream")
                event = BrokerEvent(kind="fill", event_id="2", client_order_id=ENTRY, fill=told)
                bench.execution.apply_events([event])
            await bench.later(1)
            assert bench.execution.tickets[ENTRY].record.filled == filled
        assert [name == "of the stream" for name in bench.execution.tickets[ENTRY].record.executions] == [True, False]
        await closed(task)

    asyncio.run(live())


def test_a_stream_that_is_not_connected_misses_nothing(bench: Bench) -> None:
    """What readings have then is what they are for."""
    assert not bench.stream.missed(bench.clock.now())


@pytest.mark.parametrize("repeats", [0, 3])
def test_an_order_that_the_broker_does_not_know_is_cancelled_once_and_again_when_found(
    bench: Bench, repeats: int
) -> None:
    """The answer to the cancel is NOT_FOUND: the order is looked up, and no cancel is repeated until it is found."""

    async def live() -> None:
        await bench.enter()
        bench.execution.apply_events([BrokerEvent(kind="acknowledged", event_id="1", client_order_id=ENTRY)])
        bench.broker.knows = False
        cancel = MinuteCommands(actions=[CancelOrder(client_order_id=ENTRY)])
        await bench.execution.execute(cancel)
        assert bench.state is OrderState.UNKNOWN
        assert [event.kind for event in bench.journal.events(kind="not_found")] == ["not_found"]
        for _ in range(repeats):
            await bench.execution.execute(cancel)
            await bench.later(60)
        assert bench.broker.cancels == [ENTRY]
        bench.broker.knows = True
        await bench.later(60)
        await bench.execution.process_broker_events()
        assert bench.record.open_quantity
        assert bench.broker.cancels == [ENTRY, ENTRY]

    asyncio.run(live())


def test_a_doubted_order_that_stays_unknown_is_cancelled_once(bench: Bench) -> None:
    """An order whose outcome was unknown before is asked to end once; its doubt ends by lookups alone."""

    async def live() -> None:
        await bench.enter()
        bench.execution.mark_unknown("time-out", ENTRY)
        bench.broker.knows = False
        cancel = MinuteCommands(actions=[CancelOrder(client_order_id=ENTRY)])
        for _ in range(3):
            await bench.execution.execute(cancel)
        assert bench.broker.cancels == [ENTRY]
        assert not list(bench.journal.events(kind="cancel_refused"))

    asyncio.run(live())
