"""The stream of order events: what is received, what a lost connection leads to, and when the next one is opened."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing, suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts import BrokerCapabilities, BrokerEvent, BrokerEventKind, Gap
from tbot_core.errors import BrokerError, Unavailable
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.broker_port import BrokerPort
from tbot_core.execution.circuit_breaker import CircuitBreaker, CircuitState
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.event_stream import FIRST_PAUSE_S, LONGEST_PAUSE_S, EventStream
from tbot_core.journal.store import JournalRecorder, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import atoms_of
from tbot_core.testing.trades import fill, order, rules, session
from tbot_core.trading.decision_engine import DecisionEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ROUNDS = 60


def event(number: int, kind: str = "acknowledged") -> BrokerEvent:
    """An event of the stream."""
    return BrokerEvent(kind=kind, event_id=str(number), client_order_id="x")


class Streaming:
    """A broker whose connections are lists of items; an exception is raised, and the end of the last list waits."""

    capabilities = BrokerCapabilities(streams=True)

    def __init__(self, *connections: list[Any]) -> None:
        self.connections = [*connections]
        self.opened_at: list[float] = []
        self.clock = PausingClock()

    async def events(self) -> AsyncIterator[BrokerEvent | Gap]:
        """The next connection."""
        self.opened_at.append(self.clock.monotonic())
        for item in self.connections.pop(0):
            if isinstance(item, BaseException):
                raise item
            yield item
        if not self.connections:
            await asyncio.Event().wait()


class PausingClock(ManualClock):
    """A clock whose sleeps let other tasks run."""

    def __init__(self) -> None:
        super().__init__(session().open)

    async def sleep(self, seconds: float) -> None:
        """Let the time pass, and the other tasks run."""
        await super().sleep(seconds)
        await asyncio.sleep(0)


async def received(stream: EventStream) -> list[BrokerEvent]:
    """What a stream has received after some rounds of its task."""
    task = asyncio.ensure_future(stream.run())
    for _ in range(ROUNDS):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return stream.receive()


def listening(broker: Streaming) -> tuple[EventStream, list[int]]:
    """The stream of a broker, and a list that grows with each demand for a reading."""
    demands = list[int]()
    return EventStream(broker, broker.clock, 2.0, lambda: demands.append(1)), demands


def test_events_keep_their_order() -> None:
    """Fills, cancels and busts come as the broker sent them, each once."""
    sent = [event(1), event(2, "fill"), event(3, "busted"), event(4, "cancelled")]
    stream, demands = listening(Streaming([*sent]))
    assert asyncio.run(received(stream)) == sent
    assert stream.receive() == []
    assert demands == []


def test_a_gap_demands_a_reading() -> None:
    """What happened before a gap was not received; the events after it are."""
    stream, demands = listening(Streaming([Gap(words="connected"), event(1), Gap(words="reconnected")]))
    assert asyncio.run(received(stream)) == [event(1)]
    assert len(demands) == 2


@pytest.mark.parametrize("end", [[], [Unavailable("connection reset")]], ids=["ends", "raises"])
def test_another_connection_is_opened_after_a_pause(end: list[Any]) -> None:
    """An end demands a reading, whatever it was; the events of the next connection are received."""
    broker = Streaming([event(1), *end], [event(2)])
    stream, demands = listening(broker)
    assert asyncio.run(received(stream)) == [event(1), event(2)]
    assert demands == [1]
    assert broker.opened_at[1] - broker.opened_at[0] == FIRST_PAUSE_S


def test_the_pause_grows_and_starts_anew() -> None:
    """It doubles up to the longest while nothing is received, and is short again after an item."""
    broker = Streaming(*([[Unavailable("no way")]] * 8), [event(1), Unavailable("again")], [event(2)])
    stream, _ = listening(broker)
    assert asyncio.run(received(stream))[-1] == event(2)
    pauses = [later - earlier for earlier, later in zip(broker.opened_at, broker.opened_at[1:], strict=False)]
    assert pauses[:8] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert pauses[8] == FIRST_PAUSE_S


def test_without_a_connection_the_broker_is_silent() -> None:
    """The reason is named, what was received before is not lost, and there is no error before the first attempt."""
    stream, _ = listening(Streaming([event(1), Unavailable("connection reset")], []))
    assert stream.receive() == []
    assert asyncio.run(received(stream)) == [event(1)]
    with pytest.raises(Unavailable, match="no stream of order events: connection reset"):
        stream.receive()


def test_a_plugin_that_blocks_the_loop_loses_its_connection() -> None:
    """A step is bounded in time, as in every other call."""

    class Blocking(Streaming):
        async def events(self) -> AsyncIterator[BrokerEvent | Gap]:
            """Blocks, the first time."""
            self.opened_at.append(0.0)
            if len(self.opened_at) == 1:
                until = time.monotonic() + 5.0
                while time.monotonic() < until:
                    pass
            yield event(1)
            await asyncio.Event().wait()

    stream = EventStream(blocking := Blocking([]), blocking.clock, 0.05, lambda: None)
    assert asyncio.run(received(stream)) == [event(1)]
    assert len(blocking.opened_at) == 2


def test_the_circuit_hears_of_the_stream() -> None:
    """Three connections that are lost without an item open it, an end as well as an error; an item is an answer."""
    circuit, clock = CircuitBreaker(), ManualClock(session().open)

    async def connect(*items: Any) -> None:
        broker: Any = Streaming([*items], [])
        with suppress(BrokerError):
            async for _ in BrokerPort(broker).for_session(clock, circuit).events():
                pass

    asyncio.run(connect(event(1)))
    assert circuit.closed
    asyncio.run(connect())
    asyncio.run(connect(Unavailable("reset")))
    assert circuit.state is CircuitState.OPEN


def test_the_engine_books_what_the_stream_received(tmp_path: Path) -> None:
    """A poll of a streaming broker returns the stream's events, without those whose numbers are invalid."""
    bad = BrokerEvent(
        kind=BrokerEventKind.FILL, event_id="9", client_order_id="x", fill=fill(order(), "NaN", execution="9")
    )
    broker: Any = Streaming([Gap(words="connected"), event(1, "pending_review"), bad])
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        recorder = JournalRecorder(journal=journal, clock=broker.clock)
        desk = DecisionEngine(rules(venue=broker.capabilities), session(), atoms_of(Decimal(1000)), lambda *_: "x")
        execution = ExecutionEngine(recorder, BrokerAccount(broker=broker, name="told", account_id="A"), desk)

        async def live() -> None:
            assert execution.stream is not None
            task = asyncio.ensure_future(execution.stream.run())
            for _ in range(ROUNDS):
                await asyncio.sleep(0)
            await execution.process_broker_events()
            task.cancel()

        asyncio.run(live())
        assert [one.kind for one in journal.events(kind="pending_review")] == ["pending_review"]
        assert not list(journal.events(kind="fill"))
    assert execution.rejections.must_read
