"""Whole days with faults that an operator must see: a silent stream, too many requests, a taken feed, a lost key.

In each nothing is ordered twice, no position is without an order that closes it for more than five seconds while the
venue takes orders, venue, journal and bot agree at the end, and `tbot status` names what is wrong.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from tbot_core.journal import records
from tbot_core.testing.scripted_server import ServerReply, ServerRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loopback")]

STORM_S: Final = 120.0
ORDERS: Final = "/v2/orders"


def posts(request: ServerRequest) -> bool:
    """Whether a request places an order."""
    return (request.method, request.path) == ("POST", ORDERS)


async def silent_stream(day: Any) -> Any:
    """The account's stream is connected and silent for two minutes, from the acknowledgement of the first entry on."""
    account, streams = day.venue.venue.account, day.venue.venue.streams
    update, life = streams.update, day.start()

    def last(data: dict[str, Any]) -> None:
        update(data)
        streams.silent = streams.silent or data["event"] == "new"

    account._tell = last
    await day.until(5)
    day.status()
    await day.until(6)
    account._tell, streams.silent = update, False
    return await life


@pytest.mark.first(0)  # over two seconds
def test_fills_are_protected_while_the_accounts_stream_is_silent(trade: Callable[..., Any]) -> None:
    """Orders are looked up, entries wait, and the stream is opened again; afterwards entries are traded as before."""
    day = trade(silent_stream, (3, 0), (4, 1), (7, 2), minutes=20)
    day.assert_sound()
    assert [one.payload["reason"] for one in day.of("decision")] == ["ALLOWED", "EXIT_ONLY", "ALLOWED"]
    assert len(day.outcome.summary.trades) == 2
    [shown] = day.shown
    assert "exit-only since 09:34:" in shown
    assert "the broker's order events do not arrive (alpaca): its stream was connected and silent" in shown
    assert "the state lasts until readings of the account have agreed for 60 s" in shown


async def storm(day: Any, number: int) -> Any:
    """Both hosts answer 429 for two minutes, from the arrival of an order on: of the first, the second or the third."""
    venue, begun, left, life = day.venue.venue, asyncio.Event(), [number], day.start()

    def too_many(request: ServerRequest) -> ServerReply | None:
        left[0] -= posts(request)
        if left[0] > 0:
            return None
        begun.set()
        day.answers = False
        reset = (int(day.clock.now().timestamp()) // 60 + 1) * 60
        headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(reset), "retry-after": "5"}
        document = {"code": 42910000, "message": "too many requests."}
        return ServerReply(status=429, document=document, headers=headers)

    venue.before = too_many
    await begun.wait()
    await day.clock.sleep(20)
    day.status()
    await day.clock.sleep(STORM_S - 22)
    day.status()
    await day.clock.sleep(2)
    venue.before, day.answers = lambda _request: None, True
    return await life


@pytest.mark.parametrize(
    ("number", "trades"),
    [
        pytest.param(2, 1, id="the stop"),
        pytest.param(1, 0, id="the entry", marks=pytest.mark.full),
        pytest.param(3, 1, id="the exit", marks=pytest.mark.full),
    ],
)
@pytest.mark.first(0)  # over two seconds
def test_a_storm_of_429_delays_an_order_and_doubles_none(trade: Callable[..., Any], number: int, trades: int) -> None:
    """An entry is dropped; a stop or exit is sent again until it is taken, at most five seconds after the storm."""
    day = trade(lambda day: storm(day, number), (3, 0), minutes=20)
    day.assert_sound()
    assert len(day.outcome.summary.trades) == trades
    assert any("429" in one.payload["words"] for one in [*day.of(records.DROPPED), *day.of(records.NO_ANSWER)])
    early, late = day.shown
    assert "it asked to wait" in early
    assert "exit-only since" in late
    assert "429" in late
    assert "The vendor's limit of requests is reached: stop other programs that use this key, or wait." in late


def taken(first: float, last: float) -> Callable[[Any], Awaitable[Any]]:
    """Another program has the data connection between two minutes."""

    async def script(day: Any) -> Any:
        streams = day.venue.venue.streams
        streams.taken = first < 0
        life = day.start()
        await day.until(first)
        streams.taken = True
        streams.drop_feeds()
        await day.until(first + 1)
        day.status()
        await day.until(last)
        streams.taken = False
        return await life

    return script


@pytest.mark.full
@pytest.mark.parametrize("first", [pytest.param(4.5, id="in the session"), pytest.param(-2.0, id="before it")])
def test_a_data_connection_that_another_program_has_is_named(trade: Callable[..., Any], first: float) -> None:
    """Nothing is entered without prices, what is held keeps its stop, and the other program is to be stopped."""
    day = trade(taken(first, 6), (3, 0), (8, 1), minutes=20)
    day.assert_sound()
    assert {one.client_order_id for one in day.venue.venue.account.orders} == set(day.posts)
    assert len(day.outcome.summary.trades) == (2 if first > 0 else 1)
    [shown] = day.shown
    assert ("every feed is stale" if first > 0 else "NOT READY for the session of 2026-03-03") in shown
    assert "406 connection limit exceeded. Another program uses the one data connection of this key: stop it" in shown


def revoked(status: int, words: str, back: float | None) -> Callable[[Any], Awaitable[Any]]:
    """The key is not accepted any more, until a minute or for good, with this answer."""

    async def script(day: Any) -> Any:
        venue, life = day.venue.venue, day.start()
        await day.until(4.5)
        venue.before = lambda _request: ServerReply(status=status, document={"code": 40110000, "message": words})
        venue.revoke()
        day.answers = False
        await day.until(6)
        day.status()
        if back is not None:
            await day.until(back)
            venue.before, day.answers, venue.streams.revoked = lambda _request: None, True, False
        return await life

    return script


def assert_named(shown: str) -> None:
    """The lost key is the first condition, and it says what a person can do."""
    first = next(line for line in shown.splitlines() if "ATTENTION" in line)
    assert "exit-only since 09:34:30 New York, the broker requires a new login (alpaca): " in first
    assert "Meanwhile no position is opened; stops stay at the broker, and exits are tried." in first
    assert "`tbot secrets edit broker`" in first


@pytest.mark.first(0)  # over two seconds
def test_a_key_that_is_lost_and_given_back_ends_in_a_whole_day(trade: Callable[..., Any]) -> None:
    """The position keeps its stop for ten minutes, and is closed at its time."""
    day = trade(revoked(401, "request is not authorized", 14.5), (3, 0), (5, 1), minutes=20)
    day.assert_sound()
    assert len(day.outcome.summary.trades) == 1
    assert_named(day.shown[0])


@pytest.mark.full
def test_a_key_that_stays_lost_leaves_a_position_with_its_stop(trade: Callable[..., Any]) -> None:
    """The session ends with the position named as STUCK; the books have what the venue holds."""
    day = trade(revoked(403, "forbidden.", None), (3, 0), (5, 1), minutes=20)
    day.assert_sound(held={"AAPL"})
    assert [one.payload["symbol"] for one in day.of(records.STUCK)] == ["AAPL"]
    assert day.outcome.stuck == ("AAPL",)
    assert [one.type for one in day.venue.venue.account.open_orders] == ["stop"]
    assert_named(day.shown[0])
