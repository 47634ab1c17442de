"""Short sales over a whole day at the test venue: what is checked, how they are entered, protected and covered."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.journal import records
from tbot_core.model.types import Side
from tbot_core.rehearsal.prices import CENT, STEPS_A_MINUTE

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loopback")]

AAPL, F, KO = range(3)
SPREAD = Decimal("0.01")


async def squeezed(day: Any) -> Any:
    """A day on which F rises beyond its stop at minute 8."""
    day.venue.venue.market.half_spread = SPREAD
    path = day.market.paths["F"]
    path.move(8 * STEPS_A_MINUTE, path.prices[0] + 50 * CENT)
    return await day.start()


@pytest.mark.first(0)  # over two seconds
def test_shorts_are_sold_at_a_limit_and_covered_at_the_stop_and_at_the_time_exit(trade: Callable[..., Any]) -> None:
    """Limits below the bid, stops above the entry, whole shares; the worst case is 1.03 times the ask."""
    day = trade(squeezed, (3, AAPL), (5, F), side=Side.SHORT)
    day.assert_sound()
    found = [
        (one.symbol, "buy" if one.buy else "sell", one.type, one.limit or one.stop, one.filled)
        for one in day.venue.venue.account.orders
    ]
    assert found == [
        ("AAPL", "sell", "limit", Decimal("19.96"), 125),
        ("AAPL", "buy", "stop", Decimal("20.40"), 0),
        ("F", "sell", "limit", Decimal("19.96"), 125),
        ("F", "buy", "stop", Decimal("20.40"), 125),
        ("AAPL", "buy", "market", None, 125),
    ]
    trades = {one.symbol: (one.side, one.exit_reason.name, one.pnl < 0) for one in day.outcome.summary.trades}
    assert trades == {"AAPL": (Side.SHORT, "TIME", True), "F": (Side.SHORT, "STOP", True)}
    first = day.of(records.DECISION)[0].payload["limits"]
    [power] = [one for one in first if one["reason"] == "BUYING_POWER"]
    assert Decimal(power["order"]) == 125 * Decimal("20.01") * Decimal("1.03")


async def gapped(day: Any) -> Any:
    """A day on which AAPL jumps over its stop and the limit that the venue gave to it."""
    day.venue.venue.account.buy_stop_collar = Decimal("0.04")
    path = day.market.paths["AAPL"]
    path.move(8 * STEPS_A_MINUTE, path.prices[0] + 200 * CENT)
    return await day.start()


@pytest.mark.first(0)  # over two seconds
def test_a_short_beyond_the_limit_of_its_stop_is_covered_at_the_market(trade: Callable[..., Any]) -> None:
    """The stop became a stop-limit order and cannot fill: it is cancelled after that minute, and the short covered."""
    day = trade(gapped, (3, AAPL), side=Side.SHORT)
    _, stop, cover = day.venue.venue.account.orders
    assert (stop.status, stop.filled) == ("canceled", 0)
    assert (cover.buy, cover.type, cover.filled) == (True, "market", 125)
    (made,) = day.outcome.summary.trades
    assert (made.exit_reason.name, made.exit_price) == ("STOP", Decimal(22))
    assert (made.exit_time - day.watched.session.open).total_seconds() < 9.5 * 60
    assert day.venue.venue.account.held == {}


async def borrowed_out(day: Any) -> Any:
    """A day before whose bell KO is hard to borrow, and F becomes so at minute 4."""
    listings = day.venue.venue.market.listings
    listings["KO"].easy_to_borrow = False
    life = day.start()
    await day.until(4)
    listings["F"].easy_to_borrow = False
    return await life


@pytest.mark.first(0)  # over two seconds
def test_what_is_hard_to_borrow_is_denied_and_not_sent(trade: Callable[..., Any]) -> None:
    """READY names what cannot be sold short before the bell; what became so is dropped when it would be sent."""
    day = trade(borrowed_out, (3, AAPL), (5, F), (6, KO), side=Side.SHORT)
    day.assert_sound()
    (ready,) = day.of(records.READY)
    assert ready.payload["not_shortable"] == {"NOT_SHORTABLE": ["KO"]}
    assert [one.payload["reason"] for one in day.of(records.DECISION)] == ["ALLOWED", "ALLOWED", "NOT_SHORTABLE"]
    (dropped,) = day.of(records.DROPPED)
    assert dropped.payload["words"] == "NOT_SHORTABLE: the broker does not lend it easily"
    assert {one.symbol for one in day.venue.venue.account.orders} == {"AAPL"}


async def forbidden(day: Any) -> Any:
    """A day whose account may not sell short."""
    day.venue.venue.account.shorting_enabled = False
    return await day.start()


@pytest.mark.first(0)  # over two seconds
def test_an_account_that_may_not_sell_short_sends_nothing(trade: Callable[..., Any]) -> None:
    """READY says so before the bell, and each short signal is denied with the account's reason."""
    day = trade(forbidden, (3, AAPL), side=Side.SHORT)
    (ready,) = day.of(records.READY)
    assert ready.payload["not_shortable"] == {"SHORTING_NOT_ALLOWED": ["AAPL", "F", "KO"]}
    assert [one.payload["reason"] for one in day.of(records.DECISION)] == ["SHORTING_NOT_ALLOWED"]
    assert day.posts == {}
