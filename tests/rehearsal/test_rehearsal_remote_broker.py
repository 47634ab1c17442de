"""A venue in another process: the same words reach the bot as over the wire of the simulation, at the same seconds."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import subprocess
import sys
import tempfile
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import attrs
import pytest

from tbot_core.contracts import BrokerEvent, SupportsOrderLookup
from tbot_core.errors import Rejected, Unavailable, Withdrawn
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.types import Leg, Order, OrderType, SignalId
from tbot_core.rehearsal.remote_broker import RemoteBroker, VenueServer, dump_line, load_line
from tbot_core.rehearsal.small_world import SmallWorld
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop
from tbot_core.system import sockets
from tbot_core.trading.orders import OrderRecord

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

Value = TypeVar("Value")
DRIVER = Path(__file__).with_name("venue_server_driver.py")
BELL_S = 120.0


def order(cid: str = "o1", *, limit: Decimal | None = None) -> Order:
    """An order to buy ten shares, at the market or at a limit."""
    return Order(
        client_order_id=cid,
        signal=SignalId(session=dt.date(2026, 3, 3), strategy="test", symbol="A", minute=0, rule="test"),
        leg=Leg.ENTRY,
        buy=True,
        quantity=Decimal(10),
        type=OrderType.MARKET if limit is None else OrderType.LIMIT,
        limit_price=limit,
    )


class Client:
    """A bot's side: a loop in virtual time, and the broker in it."""

    def __init__(self, line: sockets.SocketConnection) -> None:
        self.loop = VirtualLoop()
        self.loop.pass_time(BELL_S)
        start = SmallWorld().matching.start
        self.broker = RemoteBroker(line, LoopClock(self.loop, start))

    def wait(self, asked: Coroutine[Any, Any, Value]) -> Value:
        """What is answered, in virtual time."""
        return self.loop.run_until_complete(asked)

    def submit(self, one: Order) -> None:
        """Send an order with a permit that holds."""
        self.wait(self.broker.submit(one, SendPermit(one, never_refuse)))

    def events_within(self, seconds: float = 1.0) -> list[BrokerEvent]:
        """What the stream has sent once so much time has passed."""
        self.wait(asyncio.sleep(seconds))
        return list(self.wait(self.broker.poll()))


@pytest.fixture
def client() -> Iterator[Client]:
    """A bot that is logged in at a venue in another process."""
    with tempfile.TemporaryDirectory(prefix="tbot") as folder:
        path = Path(folder) / "venue"
        command = [sys.executable, "-W", "error", str(DRIVER), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert cast("IO[bytes]", process.stdout).readline() == b"ready\n"
            with closing(sockets.connect(path, 30.0)) as line:
                client = Client(line)
                client.wait(client.broker.connect())
                yield client
                client.loop.finish()
        assert process.returncode == 0


@pytest.mark.slow
def test_an_order_over_a_connection_lives_as_it_does_in_one_process(client: Client) -> None:
    """Sent, acknowledged, changed, found, filled, listed and cancelled: the account and its readings are all there."""
    broker = client.broker
    assert isinstance(broker, SupportsOrderLookup)
    assert broker.capabilities.query_by_cid
    assert client.wait(broker.account()).cash == 50_000
    client.submit(order())
    client.submit(order("o2", limit=Decimal(15)))
    assert [event.kind for event in client.events_within()] == ["acknowledged", "fill", "acknowledged"]
    client.wait(broker.replace("o2", order("o2", limit=Decimal(16))))
    found = client.wait(broker.find("o2"))
    assert found is not None
    assert found.kind == "acknowledged"
    client.wait(broker.cancel("o2"))
    assert [event.kind for event in client.events_within()] == ["replaced", "cancelled"]
    snapshot = client.wait(broker.snapshot(SmallWorld().matching.start))
    assert [one.quantity for one in snapshot.holdings] == [10]
    assert {one.client_order_id: one.kind for one in snapshot.orders} == {"o1": "fill", "o2": "cancelled"}
    client.wait(broker.close())
    with pytest.raises(Unavailable, match="not connected"):
        client.wait(broker.poll())


@pytest.mark.slow
def test_a_refusal_comes_over_a_connection_in_the_venues_own_words(client: Client) -> None:
    """What is refused raises as it does without a connection, and what is withdrawn never leaves."""
    with pytest.raises(Rejected, match="42210003"):
        client.submit(attrs.evolve(order(), quantity=Decimal("0.5")))
    with pytest.raises(Withdrawn):
        client.wait(client.broker.submit(order(), SendPermit(order(), lambda _: "killed")))
    assert client.wait(client.broker.find("o1")) is None


@pytest.mark.slow
def test_requests_are_under_way_at_the_same_time(client: Client) -> None:
    """Ten questions at once take as long as one, and one that is not awaited any more harms none."""

    async def ask() -> list[object]:
        forgotten = asyncio.ensure_future(client.broker.account())
        await asyncio.sleep(0)
        forgotten.cancel()
        return await asyncio.gather(*(client.broker.account() for _ in range(10)))

    before = client.loop.time()
    assert len(client.wait(ask())) == 10
    assert client.loop.time() - before < 0.2


def test_a_venue_that_has_hung_up_is_distinguished_from_one_that_is_slow() -> None:
    """A connection without a listener is refused."""

    class Gone:
        def send(self, data: bytes) -> None:
            assert data

        def receive(self) -> None:
            return None

    with pytest.raises(Unavailable, match="hung up"):
        RemoteBroker(Gone(), LoopClock(VirtualLoop(), SmallWorld().matching.start))


def test_a_counter_serves_until_its_client_has_gone_and_answers_no_other_question() -> None:
    """What came of a question comes with an answer at a later second; what no broker is asked is an error."""
    stage = SmallWorld()
    counter = VenueServer(stage.way, stage.loop, stage.clock)

    class SentEvents:
        def __init__(self) -> None:
            self.ask = [
                dump_line((BELL_S, 0, "hello", ())),
                dump_line((BELL_S, 1, "connect", ())),
                dump_line((BELL_S + 1, 1, "", ())),
            ]
            self.answers: list[Any] = []

        def send(self, data: bytes) -> None:
            self.answers.append(load_line(data))

        def receive(self) -> bytes | None:
            return self.ask.pop(0) if self.ask else None

    line = SentEvents()
    counter.serve(line)
    rules, start = line.answers[0]
    assert (rules, start) == (stage.broker.capabilities, stage.matching.start)
    answers, next_at = line.answers[1]
    assert not answers
    assert BELL_S < next_at < BELL_S + 1
    ((number, account),), nothing = line.answers[2]
    assert (number, account.account_id, nothing) == (1, "SIM-1", None)
    with pytest.raises(ValueError, match="not asked for capabilities"):
        counter.answer(dump_line((BELL_S + 1, 2, "capabilities", ())))
    stage.close()


@pytest.mark.parametrize(
    "value",
    [
        None,
        1.5,
        "text",
        (Decimal("1.50"), dt.date(2026, 3, 3), dt.datetime(2026, 3, 3, tzinfo=dt.UTC)),
        {"o1": OrderRecord(order=order("o1", limit=Decimal("15.01")), executions={}, corrected={"a": Decimal(1)})},
        SmallWorld().broker.capabilities,
    ],
)
def test_a_value_arrives_as_it_was_sent(value: object) -> None:
    """Numbers stay exact, moments aware, and values of the contract themselves."""
    assert load_line(dump_line(value)) == value


def test_a_fault_arrives_as_the_one_that_was_sent() -> None:
    """Its kind, its words and how long to wait."""
    fault = load_line(dump_line(Unavailable("429", "Wait.", retry_after_s=3.0)))
    assert (type(fault), fault.message, fault.remedy, fault.retry_after_s) == (Unavailable, "429", "Wait.", 3.0)


def test_nothing_else_can_be_sent_or_received() -> None:
    """No line makes an object that is not of the contract."""
    with pytest.raises(TypeError, match="object cannot be serialized"):
        dump_line(object())
    with pytest.raises(KeyError):
        load_line(json.dumps({"is": "Popen", "of": {}}).encode())
