"""Whole days at the test venue: what a run trades, protects and leaves out, and how many requests it makes."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.journal import records

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loopback")]


async def whole(day: Any) -> Any:
    """From before the bell to the close."""
    return await day.start()


async def slowly(day: Any) -> Any:
    """From before the bell to the close, in a market that fills fifty shares of an order every five seconds."""
    venue: Any = day.venue
    fill_whole = venue.trade
    venue.trade = lambda symbol, price: fill_whole(symbol, price, Decimal(50))
    return await day.start()


@pytest.mark.first(0)  # over two seconds
def test_a_day_enters_protects_and_exits_within_half_of_the_request_limit(trade: Callable[..., Any]) -> None:
    """Each position has its stop with the fill and is closed at its time; each order is posted once."""
    day = trade(whole, (3, 0), (5, 1), (7, 2))
    assert [one.payload["leg"] for one in day.of(records.INTENDED)] == [*["entry", "stop"] * 3, *["exit"] * 3]
    assert set(day.posts.values()) == {1}
    assert len(day.outcome.summary.trades) == 3
    assert day.outcome.open == ()
    assert day.venue.venue.account.held == {}
    assert max(used.total() for used in day.venue.venue.used.values()) < 100


@pytest.mark.first(0)  # over two seconds
def test_a_part_of_an_entry_is_protected_though_the_venue_takes_one_side(trade: Callable[..., Any]) -> None:
    """The rest of the entry is cancelled and the stop follows at once: no wash trade is refused."""
    day = trade(slowly, (3, 0))
    assert [one.payload["leg"] for one in day.of(records.INTENDED)] == ["entry", "stop", "exit"]
    entry, stop, leaving = day.venue.venue.account.orders
    assert (entry.status, entry.filled, stop.quantity, leaving.filled) == ("canceled", 50, 50, 50)
    assert not [words for words in day.venue.venue.refused if "wash trade" in words]
    fill = next(one for one in day.events if one.kind == "fill")
    protected = next(one for one in day.events if one.kind == "acknowledged" and one.cid == stop.client_order_id)
    assert (protected.applied - fill.applied).total_seconds() <= 2


async def onto_a_feed_that_is_refused(day: Any) -> Any:
    """From before the bell, and again from a crash with a position, with a feed that the plan does not have."""
    life = day.start()
    await day.until(6)
    await day.crash(life)
    settings = day.home / ".env_bot"
    settings.write_text(f"{settings.read_text()}ALPACA_DATA_FEED=sip\n")
    return await day.start()


@pytest.mark.first(0)  # over two seconds
def test_a_run_with_a_position_does_not_end_for_a_feed_that_is_refused(trade: Callable[..., Any]) -> None:
    """It reports NOT READY with the sentence, manages the position without the feed, and closes it."""
    day = trade(onto_a_feed_that_is_refused, (3, 0))
    assert [one.payload["leg"] for one in day.of(records.INTENDED)] == ["entry", "stop", "exit"]
    assert "ALPACA_DATA_FEED=sip" in str(day.of(records.NOT_READY)[-1].payload)
    day.assert_sound()


async def late(day: Any) -> Any:
    """From ten minutes after the bell on."""
    await day.until(10.3)
    return await day.start()


@pytest.mark.first(0)  # over two seconds
def test_a_signal_from_before_a_late_start_is_too_late_and_not_judged_by_quotes_of_now(
    trade: Callable[..., Any],
) -> None:
    """It is decided, and not entered."""
    day = trade(late, (3, 0))
    assert [one.payload["reason"] for one in day.of("decision")] == ["SIGNAL_TOO_LATE"]
    assert day.posts == {}


async def without_trade_updates(day: Any) -> Any:
    """A day on which the account's stream is down for ten minutes, and the feed works."""
    server: Any = day.venue.server
    serve, life = server._on_socket, day.start()
    await day.until(2)

    async def only_the_feed(connection: Any) -> None:
        if connection.request.path.startswith("/stream"):
            connection.transport.abort()
        else:
            await serve(connection)

    server._on_socket = only_the_feed
    await server.drop_sockets()
    await day.until(12)
    server._on_socket = serve
    return await life


@pytest.mark.first(0)  # over two seconds
def test_nothing_is_entered_while_the_accounts_stream_is_down(trade: Callable[..., Any]) -> None:
    """Bars and readings come, but no order event does: exit-only with the cause, and no order is sent."""
    day = trade(without_trade_updates, (6, 0), (7, 1))
    assert day.posts == {}
    assert [one.payload["reason"] for one in day.of("decision")] == ["EXIT_ONLY", "EXIT_ONLY"]
    states = [one.payload for one in day.of("state") if one.payload["cause"] == "UNREACHABLE"]
    assert (states[0]["state"], states[-1]["there"]) == ("exit-only", False)
    assert "no stream of order events" in states[0]["words"]
