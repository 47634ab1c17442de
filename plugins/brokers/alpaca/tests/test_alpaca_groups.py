"""Cases of the acceptance groups G and A that need a whole run: whole days at the venue, over real connections.

Each passes where positions, cash and fills of the venue are those of the books and of the bot, no order was posted
twice, and no position was without an order that closes it for more than five seconds while the venue took orders.
"""

from __future__ import annotations

import ast
import asyncio
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest
from tbot_broker_alpaca.venue import open_venue

from tbot_core.errors import Rejected
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.journal import records
from tbot_core.model.types import Instrument, InstrumentKind
from tbot_core.testing import broker_faults
from tbot_core.testing.scripted_server import ServerFault, ServerReply, ServerRequest, SocketFault
from tbot_core.testing.trades import order as order_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_broker_alpaca.venue import AlpacaExchange

pytestmark = pytest.mark.usefixtures("loopback")

ORDERS: Final = "/v2/orders"
MINUTES: Final = 18
GROUPS: Final = {*(f"g{number:02}" for number in range(1, 15)), *(f"a{number:02}" for number in range(1, 17))}


@pytest.fixture
def venue() -> Iterator[AlpacaExchange]:
    """A fresh account."""
    with open_venue() as exchange:
        yield exchange


async def lost_post(day: Any, fault: ServerFault) -> Any:
    """The post of the entry meets a fault."""
    life = day.start()
    await day.until(3)
    day.venue.server.fail(fault, method="POST", path=ORDERS)
    return await life


@pytest.mark.parametrize(
    "fault",
    [
        ServerFault.LOST_REPLY,
        pytest.param(ServerFault.GATEWAY_TIMEOUT, marks=pytest.mark.full),
        pytest.param(ServerFault.NO_REPLY, marks=pytest.mark.full),
    ],
)
@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_g01_an_entry_whose_reply_is_lost_is_found(trade: Callable[..., Any], fault: ServerFault) -> None:
    """One order and no second post: it is found, protected and closed at its time."""
    day = trade(lambda day: lost_post(day, fault), (3, 0), minutes=MINUTES)
    day.assert_sound()
    assert [one.payload["leg"] for one in day.of(records.INTENDED)] == ["entry", "stop", "exit"]
    assert len(day.posts) == 3
    assert len(day.outcome.summary.trades) == 1


@pytest.mark.full
def test_g02_an_entry_that_was_lost_is_looked_up_before_anything_else(trade: Callable[..., Any]) -> None:
    """The venue says that it has no such order, and only then the entry counts as absent; it is not sent again."""
    day = trade(lambda day: lost_post(day, ServerFault.LOST_REQUEST), (3, 0), minutes=MINUTES)
    day.assert_sound()
    assert day.venue.venue.account.orders == []
    [entry] = day.posts
    asked = [one for one in day.venue.server.requests if one.path == f"{ORDERS}:by_client_order_id"]
    assert {one.query["client_order_id"] for one in asked} == {entry}
    assert len(asked) < 60


async def repeated_updates(day: Any) -> Any:
    """The exit is filled in three parts, whose trade updates come twice, then out of order."""
    life, account = day.start(), day.venue.venue.account
    await day.until(12)
    account.depth = Decimal(int(account.held["AAPL"][0]) // 3 + 1)
    day.venue.server.fail_sockets(SocketFault.TWICE, times=100)
    day.venue.server.fail_sockets(SocketFault.OUT_OF_ORDER, times=100)
    return await life


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_g03_parts_of_a_fill_count_once_in_any_order(trade: Callable[..., Any]) -> None:
    """Three parts are three executions, though each is reported twice or too late; nothing is left."""
    day = trade(repeated_updates, (3, 0), minutes=MINUTES)
    day.assert_sound()
    leaving = day.venue.venue.account.orders[-1]
    parts = [one.payload for one in day.of("fill") if one.cid == leaving.client_order_id]
    assert len(parts) == 3
    assert sum(Decimal(one["quantity"]) for one in parts) == leaving.quantity


async def cut_at_the_post(day: Any) -> Any:
    """The account's stream is cut as the entry arrives, and refused for twenty seconds: the fill is not reported."""
    server: Any = day.venue.server
    life, serve, arrived = day.start(), server._on_socket, asyncio.Event()

    async def only_the_feed(connection: Any) -> None:
        if connection.request.path.startswith("/stream"):
            connection.transport.abort()
        else:
            await serve(connection)

    def cut(request: ServerRequest) -> ServerReply | None:
        if request.method == "POST" and server._on_socket is serve:
            server._on_socket = only_the_feed
            arrived.set()
            for one in server.sockets:
                if one.request.path.startswith("/stream"):
                    one.transport.abort()
        return None

    day.venue.venue.before = cut
    await arrived.wait()
    await day.clock.sleep(2)
    day.venue.trade("AAPL", Decimal(20))
    await day.clock.sleep(20)
    day.venue.venue.before, server._on_socket = lambda _request: None, serve
    return await life


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_g04_a11_a_fill_while_the_stream_was_cut_is_protected(trade: Callable[..., Any]) -> None:
    """A look-up finds it before any other order is sent, and it is protected within five seconds."""
    day = trade(cut_at_the_post, (3, 0), (6, 1), minutes=MINUTES)
    day.assert_sound()
    entry, stop = day.venue.venue.account.orders[:2]
    assert (entry.symbol, entry.type, stop.symbol, stop.type) == ("AAPL", "limit", "AAPL", "stop")
    assert len(day.outcome.summary.trades) == 2


async def stopped_out_at_the_cancel(day: Any) -> Any:
    """The stop fills just before its cancel arrives, which makes way for the exit."""
    life, left = day.start(), ["AAPL"]

    def fall(request: ServerRequest) -> ServerReply | None:
        if request.method == "DELETE" and left:
            day.venue.trade(left.pop(), Decimal("19.5"))
        return None

    day.venue.venue.before = fall
    return await life


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_g05_a_fill_wins_against_its_cancel(trade: Callable[..., Any]) -> None:
    """The refused cancel ends nothing, the fill closes the position, and no exit is sent for shares that are gone."""
    day = trade(stopped_out_at_the_cancel, (3, 0), minutes=MINUTES)
    day.assert_sound()
    assert [(one.type, one.status) for one in day.venue.venue.account.orders] == [
        ("limit", "filled"),
        ("stop", "filled"),
    ]
    assert not day.of("cancelled")


async def restarted(day: Any) -> Any:
    """The process dies with a position and its stop, and is started again two minutes later."""
    life = day.start()
    await day.until(8)
    await day.crash(life)
    await day.until(10)
    return await day.start()


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_g06_a05_a_restart_adopts_order_and_position(trade: Callable[..., Any]) -> None:
    """Nothing is sent again, and the exit comes at its time.

    Cancel-all and close-all, whose 207 may hide a row that failed, are never asked for: each order is cancelled alone.
    """
    day = trade(restarted, (3, 0), minutes=MINUTES)
    day.assert_sound()
    assert [one.payload["leg"] for one in day.of(records.INTENDED)] == ["entry", "stop", "exit"]
    assert len(day.outcome.summary.trades) == 1
    [removed] = [one.path for one in day.venue.server.requests if one.method == "DELETE"]
    assert re.fullmatch(r"/v2/orders/[0-9a-f-]{36}", removed)


async def unreadable_positions(day: Any) -> Any:
    """The positions cannot be read from the start on, for seven minutes of the session."""
    day.venue.server.fail(ServerFault.SERVER_ERROR, path="/v2/positions", times=None)
    life = day.start()
    await day.until(7)
    day.status()
    day.venue.server.recover()
    return await life


@pytest.mark.full
def test_g07_nothing_is_traded_before_the_positions_are_known(trade: Callable[..., Any]) -> None:
    """Signals are denied, status says why, and entries are made once the positions have been read."""
    day = trade(unreadable_positions, (3, 0), minutes=MINUTES)
    day.assert_sound()
    assert day.posts == {}
    [shown] = day.shown
    assert "exit-only" in shown


def test_g09_the_pause_of_a_429_is_passed_on(venue: AlpacaExchange) -> None:
    """A reading is repeated after the pause that the venue asks for; the days with 429 are those of the fault days."""
    broker_faults.g17_too_many_readings_pass_the_pause_on(venue)


async def without_an_answer(day: Any) -> Any:
    """Nothing is answered any more for two minutes, with a position and its stop."""
    life = day.start()
    await day.until(8)
    day.venue.server.fail(ServerFault.NO_REPLY, times=None)
    await day.until(10)
    day.status()
    day.venue.server.recover()
    return await life


@pytest.mark.full
def test_g12_g13_a_server_that_never_answers_holds_nothing_up(
    trade: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run goes on, minute by minute; afterwards the exit comes at its time. No file or message shows a key."""
    day = trade(without_an_answer, (3, 0), minutes=MINUTES)
    day.assert_sound()
    assert len(day.outcome.summary.trades) == 1
    [shown] = day.shown
    assert "exit-only since" in shown
    written = [one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()]
    texts = [*written, *(text.encode() for text in (shown, *capsys.readouterr()))]
    assert len(texts) > 3
    assert not [text for text in texts if b"venue-key" in text or b"venue-secret" in text]


def test_a09_a_credit_is_not_ordered(venue: AlpacaExchange) -> None:
    """Alpaca takes a negative price as a credit: an option is ordered alone, and at a price above 0."""
    put = Instrument(
        symbol="AAA260116P00020000", kind=InstrumentKind.PUT, underlying="AAA", multiplier=100, leverage=Decimal(-4)
    )
    for price in ("-1.25", "0"):
        order = attrs.evolve(order_of(limit="1", quantity="1"), instrument=put, limit_price=Decimal(price))
        with pytest.raises(Rejected):
            venue.wait(venue.broker.submit(order, SendPermit(order, never_refuse)))
    assert [one for one in venue.server.requests if one.method == "POST"] == []


def test_every_case_of_the_groups_has_a_test() -> None:
    """G1 to G14 and A1 to A16, by the ids in the names of the tests."""
    found = set[str]()
    for path in Path(__file__).parent.rglob("test_*.py"):
        for one in ast.walk(ast.parse(path.read_text())):
            if isinstance(one, ast.FunctionDef) and (named := re.match(r"test_((?:[ag]\d\d_)+)", one.name)):
                found |= set(named[1].split("_"))
    assert sorted(GROUPS - found) == []
