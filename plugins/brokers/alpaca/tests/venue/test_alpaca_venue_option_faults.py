"""Faults of option data, contracts and orders happen as planned, and end."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
from tbot_broker_alpaca.venue.exchange import MORNING
from tbot_broker_alpaca.venue.faults import Act, EventFault, RequestFault
from tbot_broker_alpaca.venue.option_faults import OPTION_FAULTS
from tbot_broker_alpaca.venue.options import Defect
from tbot_broker_alpaca.venue.server import AlpacaServer

from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop
from tbot_core.testing.scripted_server import ServerReply, ServerRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

PUT: Final = "AAPL260116P00020000"
CONTRACTS, SNAPSHOTS = "/v2/options/contracts", "/v1beta1/options/snapshots"
QUOTES: Final = "/v1beta1/options/quotes/latest"
KEYS: Final = {"apca-api-key-id": "a-key", "apca-api-secret-key": "a-secret"}
ENTRY: Final = {"symbol": PUT, "qty": "2", "side": "buy", "type": "market", "time_in_force": "day"}


class Client:
    """A client of a venue in virtual time, and the names of the trade updates that were sent."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.vendor = AlpacaServer(LoopClock(loop, MORNING), basic=False, options_level=2)
        self.vendor.market.list_symbol("AAPL", Decimal(20), 1_000_000)
        self.vendor.market.options.penny_classes["AAPL"] = True
        self.updates: list[str] = []
        self.vendor.faults._send_update = lambda update: self.updates.append(update["event"])

    def plan(self, name: str) -> None:
        """Plan a fault by its name."""
        OPTION_FAULTS[name](self.vendor)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._loop.run_until_complete(asyncio.sleep(seconds))

    def send(self, method: str, path: str, body: object = None, **query: str) -> Any:
        """The answer to a request, None where the connection is cut."""
        content = b"" if body is None else json.dumps(body).encode()
        request = ServerRequest(method=method, path=path, query=query, headers=KEYS, body=content)
        return self._loop.run_until_complete(self.vendor.serve(request))

    def statuses(self, path: str, *times_s: float) -> list[int]:
        """The status of a reading at these seconds after now."""
        found, passed = [], 0.0
        for at in times_s:
            self.wait(at - passed)
            passed = at
            found.append(self.send("GET", path, symbols=PUT).status)
        return found

    def quotes(self) -> tuple[Any, Any]:
        """The quote of the put by its own endpoint and in its snapshot, None where there is none."""
        own = self.send("GET", QUOTES, symbols=PUT).document["quotes"].get(PUT)
        return own, self.send("GET", SNAPSHOTS, symbols=PUT).document["snapshots"][PUT].get("latestQuote")


@pytest.fixture
def client() -> Iterator[Client]:
    """A client whose account may buy calls and puts."""
    loop = VirtualLoop()
    yield Client(loop)
    loop.finish()


@pytest.mark.parametrize(
    ("name", "path", "times", "expected"),
    [
        ("option data: 429 once", SNAPSHOTS, (0, 1), [429, 200]),
        ("option data: 429 for 60 s", f"{SNAPSHOTS}/AAPL", (0, 30, 59, 61), [429, 429, 429, 200]),
        ("option contracts: 429 once", CONTRACTS, (0, 1), [429, 200]),
        ("option contracts: 429 once", SNAPSHOTS, (0, 1), [200, 200]),
        ("option data: 503 for 60 s, from the fill on", SNAPSHOTS, (0, 61), [200, 200]),
    ],
)
def test_readings_fail_for_a_time(
    client: Client, name: str, path: str, times: tuple[float, ...], expected: list[int]
) -> None:
    """Those of one endpoint alone, once or for a minute."""
    client.plan(name)
    assert client.statuses(path, *times) == expected


def test_readings_fail_from_the_fill_on(client: Client) -> None:
    """For a minute after the purchase there are no quotes of what is held."""
    client.plan("option data: 503 for 60 s, from the fill on")
    client.send("POST", "/v2/orders", ENTRY)
    assert client.statuses(QUOTES, 0, 59, 61) == [503, 503, 200]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("quotes: ten minutes old, for 60 s", {"t": "2026-01-05T14:50:00.000000000Z"}),
        ("quotes: crossed, for 60 s", {"bp": 0.49, "ap": 0.46}),
        ("quotes: without a bid, for 60 s", {"bp": 0.0, "bs": 0}),
        ("quotes: missing, for 60 s", None),
    ],
)
def test_quotes_are_wrong_for_a_minute(client: Client, name: str, changed: dict[str, Any] | None) -> None:
    """In snapshots and latest quotes alike; then they are as they were."""
    sound = client.quotes()[0]
    assert (sound["bp"], sound["ap"]) == (0.46, 0.49)
    client.plan(name)
    expected = None if changed is None else {**sound, **changed}
    assert client.quotes() == (expected, expected)
    client.wait(61)
    own, shown = client.quotes()
    assert own == shown
    assert own["bp"] < own["ap"]


def test_what_has_no_quote_is_left_as_it_is(client: Client) -> None:
    """A contract without a quote has none to change, and answers without quotes stay."""
    client.vendor.market.options.defects[PUT] = Defect.EMPTY
    client.plan("quotes: crossed, for 60 s")
    assert client.quotes() == (None, None)
    assert client.send("GET", "/v1beta1/options/trades/latest", symbols=PUT).document["trades"] == {}


def test_a_whole_chain_may_have_no_quotes(client: Client) -> None:
    """Of each contract the latest trade is left, where there was one."""
    client.plan("quotes: missing, for 60 s")
    found = client.send("GET", f"{SNAPSHOTS}/AAPL", limit="1000").document["snapshots"]
    assert found[PUT].keys() == {"latestTrade"}
    assert found["AAPL260109P00016000"] == {}
    assert len(found) == 5 * 34 + 4


def test_a_list_of_contracts_is_empty_once(client: Client) -> None:
    """The next one has them."""
    client.plan("option contracts: empty once")
    found = [client.send("GET", CONTRACTS).document["option_contracts"] for _ in range(2)]
    assert (found[0], len(found[1])) == ([], 34)


def test_contracts_may_have_no_open_interest(client: Client) -> None:
    """The vendor's file does not require the field."""
    client.plan("option contracts: without open interest")
    for row in client.send("GET", CONTRACTS).document["option_contracts"]:
        assert {"open_interest", "open_interest_date"}.isdisjoint(row)
        assert row["symbol"]


def test_contracts_are_gone_once_they_are_listed(client: Client) -> None:
    """The order for one that was listed finds none, and the next list lacks it."""
    client.plan("option contracts: gone once they are listed")
    query = {"expiration_date": "2026-01-16", "type": "put"}
    assert PUT in [row["symbol"] for row in client.send("GET", CONTRACTS, **query).document["option_contracts"]]
    reply = client.send("POST", "/v2/orders", ENTRY)
    assert (reply.status, reply.document["message"]) == (422, f'contract "{PUT}" not found')
    assert client.send("GET", CONTRACTS, **query).document["option_contracts"] == []


def test_what_is_held_has_no_quote(client: Client) -> None:
    """From the purchase on, so that its sale waits."""
    client.plan("quotes: missing once the option is held")
    client.send("POST", "/v2/orders", ENTRY)
    assert client.quotes() == (None, None)
    sale = client.send("POST", "/v2/orders", {**ENTRY, "side": "sell"}).document["id"]
    assert client.send("GET", f"/v2/orders/{sale}").document["status"] == "new"
    assert client.vendor.faults.all_met


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("entry: too little buying power", 403, 40310000), ("entry: the contract expires soon", 422, 42210000)],
)
def test_a_purchase_is_refused_once(client: Client, name: str, status: int, code: int) -> None:
    """It is not booked, and the next one is accepted."""
    client.plan(name)
    reply = client.send("POST", "/v2/orders", ENTRY)
    assert (reply.status, reply.document["code"]) == (status, code)
    assert client.vendor.account.orders == []
    assert client.send("POST", "/v2/orders", ENTRY).status == 200


@pytest.mark.parametrize(
    ("fault", "status", "booked"),
    [
        pytest.param(RequestFault(booked=False, reply=ServerReply(status=503)), 503, 0, id="503 before"),
        pytest.param(RequestFault(reply=ServerReply(status=504)), 504, 1, id="504 after"),
        pytest.param(RequestFault(is_cut=True), None, 1, id="cut after"),
    ],
)
def test_faults_of_orders_apply_to_options(
    client: Client, fault: RequestFault, status: int | None, booked: int
) -> None:
    """A purchase is booked or not, whatever it is answered with."""
    client.vendor.faults.add(fault)
    reply = client.send("POST", "/v2/orders", ENTRY)
    assert (None if reply is None else reply.status) == status
    assert len(client.vendor.account.orders) == booked


def test_faults_know_the_sale_of_an_option_as_an_exit(client: Client) -> None:
    """A fault of exits spares the purchase, and its updates may be sent twice."""
    client.vendor.faults.add(RequestFault(acts=frozenset({Act.EXIT}), booked=False, reply=ServerReply(status=503)))
    client.vendor.faults.add(EventFault(names=frozenset({"fill"}), copies=2))
    assert client.send("POST", "/v2/orders", ENTRY).status == 200
    assert client.send("POST", "/v2/orders", {**ENTRY, "side": "sell"}).status == 503
    assert client.updates == ["pending_new", "new", "fill", "fill"]
