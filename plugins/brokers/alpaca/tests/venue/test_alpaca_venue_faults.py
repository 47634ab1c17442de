"""Planned faults of the venue happen to the requests, readings and updates that they name, and to no others."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest
from tbot_broker_alpaca.venue import others
from tbot_broker_alpaca.venue.exchange import MORNING
from tbot_broker_alpaca.venue.faults import Act, Endpoint, EventFault, Moment, ReadingFault, RequestFault, When
from tbot_broker_alpaca.venue.scenarios import scenarios
from tbot_broker_alpaca.venue.server import AlpacaServer

from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop
from tbot_core.testing.scripted_server import ServerReply, ServerRequest
from tbot_core.testing.venue import (
    Cover,
    ForeignCancel,
    Held,
    OrderRequest,
    Process,
    Reading,
    ShownCover,
    ShownHeld,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

ORDERS: Final = "/v2/orders"
UNAVAILABLE: Final = ServerReply(status=503)
KEYS: Final = {"apca-api-key-id": "a-key", "apca-api-secret-key": "a-secret"}
ENTRY: Final = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}
STOP: Final = {**ENTRY, "side": "sell", "type": "stop", "stop_price": "19"}
EXIT: Final = {**ENTRY, "side": "sell"}


class Client:
    """A client of a venue in virtual time; `updates` are the trade updates that were sent, with their seconds."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.vendor = AlpacaServer(LoopClock(loop, MORNING))
        self.account, self.faults = self.vendor.account, self.vendor.faults
        self.vendor.market.list_symbol("AAPL", Decimal(20), 1_000_000)
        self.updates: list[tuple[float, str]] = []
        self.faults._send_update = lambda update: self.updates.append((loop.time(), update["event"]))

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The result of a call."""
        return self._loop.run_until_complete(call)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.run(asyncio.sleep(seconds))

    def send(self, method: str, path: str, body: object = None, **query: str) -> ServerReply | None:
        """The answer to a request, None where the connection is cut."""
        content = b"" if body is None else json.dumps(body).encode()
        request = ServerRequest(method=method, path=path, query=query, headers=KEYS, body=content)
        reply: ServerReply | None = self.run(self.vendor.serve(request))
        return reply

    def get(self, path: str, **query: str) -> Any:
        """The document of a reading."""
        reply = self.send("GET", path, **query)
        assert reply is not None
        return reply.document

    def order(self, terms: dict[str, str]) -> ServerReply | None:
        """The answer to an order."""
        return self.send("POST", ORDERS, terms)

    def enter(self) -> None:
        """Hold ten shares."""
        self.order(ENTRY)
        self.run(self._trade())

    async def _trade(self) -> None:
        self.account.trade("AAPL")

    def facts(self, *kinds: type) -> list[Any]:
        """The facts of these kinds."""
        return [one for one in self.vendor.record.facts if isinstance(one, kinds)]


@pytest.fixture
def client() -> Iterator[Client]:
    """A client whose account holds nothing."""
    loop = VirtualLoop()
    yield Client(loop)
    loop.finish()


@pytest.mark.parametrize(
    ("fault", "status", "booked"),
    [
        pytest.param(RequestFault(booked=False, reply=UNAVAILABLE), 503, 0, id="503 before"),
        pytest.param(RequestFault(reply=UNAVAILABLE), 503, 1, id="503 after"),
        pytest.param(RequestFault(booked=False, is_cut=True), None, 0, id="cut before"),
        pytest.param(RequestFault(is_cut=True), None, 1, id="cut after"),
        pytest.param(RequestFault(), 200, 1, id="nothing"),
    ],
)
def test_a_request_fails_before_or_after_it_was_booked(
    client: Client, fault: RequestFault, status: int | None, booked: int
) -> None:
    """The answer and the orders are as planned; the next request of the same kind succeeds."""
    client.faults.add(fault)
    reply = client.order({**ENTRY, "client_order_id": "first"})
    assert (reply and reply.status) == status
    assert len(client.account.orders) == booked
    [request] = client.facts(OrderRequest)
    assert request.failed is (status != 200)
    again = client.order({**ENTRY, "client_order_id": "second"})
    assert again is not None
    assert again.status == 200


def test_a_request_is_booked_after_a_silence(client: Client) -> None:
    """It has no order until then, and its outcome is unknown."""
    client.faults.add(RequestFault(after_s=20.0))
    sending = client._loop.create_task(client.vendor.serve(request_of(ENTRY)))
    client.wait(19)
    assert client.account.orders == []
    client.wait(2)
    assert (len(client.account.orders), sending.done()) == (1, True)
    [request] = client.facts(OrderRequest)
    assert (request.at, request.failed) == (0, True)


def request_of(terms: dict[str, str]) -> ServerRequest:
    """The request of an order."""
    return ServerRequest(method="POST", path=ORDERS, query={}, headers=KEYS, body=json.dumps(terms).encode())


def test_a_fault_is_chosen_by_act_count_and_span(client: Client) -> None:
    """The second and third stop within a minute of the first one, and no other order."""
    when = When(since=Moment.STOP_SENT, lasts_s=60.0, skip=1, times=2)
    client.faults.add(RequestFault(acts=frozenset({Act.STOP}), when=when, booked=False, reply=UNAVAILABLE))
    client.enter()
    found = []
    for _ in range(4):
        reply = client.order({**STOP, "qty": "1"})
        found.append(reply and reply.status)
    assert found == [200, 503, 503, 200]
    assert client.faults.all_met


def test_acts_are_known_by_side_type_and_position(client: Client) -> None:
    """Each order request has its act, also a sale after the position has gone."""
    client.enter()
    client.order({**STOP, "qty": "5"})
    stop = client.account.orders[-1].id
    client.send("PATCH", f"{ORDERS}/{stop}", {"stop_price": "19.5"})
    client.send("DELETE", f"{ORDERS}/{client.account.orders[-1].id}")
    client.order(EXIT)
    client.account.trade("AAPL")
    client.order(EXIT)
    seen = [one.act for one in client.vendor.record.requests]
    assert seen == ["entry", "stop", "replace", "cancel", "exit", "exit"]


def test_a_booked_order_is_hidden_from_lists_and_look_ups(client: Client) -> None:
    """It is refused as a duplicate meanwhile, and found afterwards."""
    client.faults.add(RequestFault(reply=UNAVAILABLE, hidden_s=12.0))
    terms = {**ENTRY, "type": "limit", "limit_price": "19", "client_order_id": "mine"}
    client.order(terms)
    again = client.order(terms)
    assert again is not None
    assert again.status == 422
    lookup: dict[str, Any] = {"path": "/v2/orders:by_client_order_id", "client_order_id": "mine"}
    hidden = client.send("GET", **lookup)
    assert hidden is not None
    assert (hidden.status, client.get(ORDERS)) == (404, [])
    client.wait(12)
    assert client.get(**lookup)["client_order_id"] == "mine"
    assert len(client.get(ORDERS)) == 1


def test_the_venue_cancels_a_stop_by_itself(client: Client) -> None:
    """The record says that it was not the client."""
    client.faults.add(RequestFault(acts=frozenset({Act.STOP}), ends_after_s=20.0))
    client.enter()
    client.order(STOP)
    client.wait(21)
    assert [one.at for one in client.facts(ForeignCancel)] == [20]
    [_, stop] = client.vendor.record.orders
    assert (stop.cancelled, stop.cancelled_by_client, stop.ended_at) == (True, False, 20)


def test_a_cancel_is_answered_and_ignored(client: Client) -> None:
    """The stop works on, and a second cancel ends it by the client's request."""
    client.faults.add(RequestFault(acts=frozenset({Act.CANCEL}), booked=False, reply=ServerReply(status=204)))
    client.enter()
    client.order(STOP)
    stop = client.account.orders[-1]
    assert client.send("DELETE", f"{ORDERS}/{stop.id}") is not None
    assert stop.status == "new"
    client.send("DELETE", f"{ORDERS}/{stop.id}")
    assert client.facts(ForeignCancel) == []
    assert client.vendor.record.orders[-1].cancelled_by_client


def test_a_cancel_of_all_orders_is_the_clients_too(client: Client) -> None:
    """It names no order, and is no cancel by the venue."""
    client.enter()
    client.order(STOP)
    client.send("DELETE", ORDERS)
    assert client.facts(ForeignCancel) == []
    assert client.vendor.record.orders[-1].cancelled_by_client


@pytest.mark.parametrize("late_s", [0.0, 4.0, 30.0])
@pytest.mark.parametrize(
    ("endpoint", "path", "query", "shown"),
    [
        (Endpoint.POSITIONS, "/v2/positions", {}, bool),
        (Endpoint.ORDERS, ORDERS, {"status": "all"}, lambda rows: bool(rows) and rows[0]["status"] == "filled"),
        (Endpoint.ACTIVITIES, "/v2/account/activities", {}, bool),
        (Endpoint.ACCOUNT, "/v2/account", {}, lambda document: document["cash"] == "99800"),
    ],
)
def test_each_endpoint_lags_by_itself(
    client: Client, endpoint: Endpoint, path: str, query: dict[str, str], shown: Any, late_s: float
) -> None:
    """It answers with what was true so long ago, and the others with what is true."""
    client.faults.add(ReadingFault(endpoints=frozenset({endpoint}), late_s=late_s))
    client.wait(60)
    client.enter()
    found = []
    for _ in range(8):
        found.append(shown(client.get(path, **query)))
        client.wait(5)
    assert found.count(False) == -(-late_s // 5)
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("change", "found"),
    [(lambda _rows: [], []), (lambda rows: [{**row, "qty": "NaN"} for row in rows], ["NaN"])],
)
def test_an_answer_is_changed_while_its_fault_lasts(client: Client, change: Any, found: list[str]) -> None:
    """An empty list or a senseless figure, for a span; the record calls it a contradiction."""
    client.enter()
    client.get("/v2/positions")
    client.order(STOP)
    when = When(since=Moment.STOP_ACKNOWLEDGED, lasts_s=180.0, times=None)
    client.faults.add(ReadingFault(endpoints=frozenset({Endpoint.POSITIONS}), when=when, change=change))
    assert [row["qty"] for row in client.get("/v2/positions")] == found
    client.wait(180)
    assert [row["qty"] for row in client.get("/v2/positions")] == ["10"]
    assert [one.agrees for one in client.facts(Reading)] == [True, False, True]


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        (EventFault(copies=0), []),
        (EventFault(copies=2), [(0, "fill"), (0, "fill")]),
        (EventFault(copies=2, between="reviewed"), [(0, "fill"), (0, "reviewed"), (0, "fill")]),
        (EventFault(late_s=12.0), [(12, "fill")]),
    ],
)
def test_updates_are_lost_repeated_or_late(client: Client, fault: EventFault, sent: list[tuple[float, str]]) -> None:
    """Those of a name only; the others are sent once and at once."""
    client.faults.add(attrs.evolve(fault, names=frozenset({"fill"})))
    client.enter()
    client.wait(13)
    assert client.updates == [(0, "pending_new"), (0, "new"), *sent]


def test_a_process_that_has_ended_sends_and_receives_nothing(client: Client) -> None:
    """A request that was on its way arrives; the next process runs from its first answer on."""
    client.faults.act_at(Moment.STOP_SENT, lambda: client.vendor.set_process(runs=False))
    client.enter()
    assert client.order(STOP) is None
    assert client.order(EXIT) is None
    assert [order.type for order in client.account.orders] == ["market", "stop"]
    client.wait(2)
    client.vendor.set_process(runs=True)
    client.wait(3)
    client.get("/v2/positions")
    assert client.facts(Process) == [Process(at=0, runs=True), Process(at=0, runs=False), Process(at=5, runs=True)]


def test_the_record_has_the_facts_of_a_position(client: Client) -> None:
    """What is held and covered, and the first answer that shows a fill and an end."""
    client.enter()
    client.wait(3)
    client.get("/v2/positions")
    client.order(STOP)
    client.wait(4)
    client.send("DELETE", f"{ORDERS}/{client.account.orders[-1].id}")
    client.wait(5)
    client.get(ORDERS)
    ten, symbol = Decimal(10), "AAPL"
    assert client.facts(Held, Cover, ShownHeld, ShownCover) == [
        Held(at=0, symbol=symbol, quantity=ten),
        ShownHeld(at=3, symbol=symbol, quantity=ten),
        Cover(at=3, symbol=symbol, quantity=ten),
        ShownCover(at=3, symbol=symbol, quantity=ten),
        Cover(at=7, symbol=symbol, quantity=Decimal(0)),
        ShownCover(at=12, symbol=symbol, quantity=Decimal(0)),
    ]


@pytest.mark.parametrize(
    ("act", "left"),
    [
        pytest.param(others.close_by_hand, 0, id="a person"),
        pytest.param(lambda account, symbol: others.close_by_hand(account, symbol, Decimal("0.25")), 7, id="a part"),
        pytest.param(others.liquidate, 0, id="the vendor"),
        pytest.param(others.cancel_by_hand, 10, id="only the stop"),
    ],
)
def test_others_cancel_the_stop_that_holds_the_shares_and_sell(client: Client, act: Any, left: int) -> None:
    """The sale is an order that the client did not send, and an activity."""
    client.enter()
    client.order(STOP)
    act(client.account, "AAPL")
    client.account.trade("AAPL")
    held, _ = client.account.held.get("AAPL", (Decimal(0), None))
    assert held == left
    assert len(client.facts(ForeignCancel)) == 1
    foreign = [one for one in client.vendor.record.orders if not one.own]
    assert [one.filled for one in foreign] == ([Decimal(10 - left)] if left < 10 else [])
    assert len(client.get("/v2/account/activities")) == 1 + len(foreign)


def test_scenarios_have_names_of_their_own() -> None:
    """At least sixty run without being asked for; each plans something."""
    found = [*scenarios()]
    assert len({one.name for one in found}) == len(found)
    assert sum(not one.full for one in found) >= 60
