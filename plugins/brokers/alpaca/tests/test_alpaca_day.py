"""Whole days of a run at the test venue, in virtual time and over real connections of this machine."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_broker_alpaca import tbot_broker

from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine.run_plan import RunOutcome
from tbot_core.journal import records
from tbot_core.journal.store import Event, read_journal
from tbot_core.model.signals import ExitRules
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import ScriptedStrategy
from tbot_core.rehearsal.broker_day import BrokerDay, addresses, open_day
from tbot_core.rehearsal.prices import CENT, SimulatedMarket
from tbot_core.rehearsal.world import DAY, short_day
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loopback")]

SYMBOLS = ("AAPL", "F", "KO")
SETTINGS = {
    "BROKER_NAME": "ALPACA",
    "FILTERS": "none",
    "EXTENSIONS": "none",
    "TOTAL_ALLOCATION": "0.2",
    "CRITICAL_ALERT_CHANNEL": "console",
    "ROUTINE_ALERT_CHANNEL": "console",
}


@attrs.frozen(kw_only=True, eq=False)
class TradedDay:
    """What is left of a day: the journal, the venue's orders, and what it holds."""

    outcome: RunOutcome
    events: list[Event]
    venue: Any

    def of(self, kind: str) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if event.kind == kind]

    @property
    def posts(self) -> Counter[str]:
        """How often each client order id was posted."""
        posted = [one for one in self.venue.server.requests if (one.method, one.path) == ("POST", "/v2/orders")]
        return Counter(one.document["client_order_id"] for one in posted)


def signals(*cells: tuple[int, int]) -> ActiveStrategy:
    """Long signals, each in a minute and of a symbol's row, with a stop and six minutes to the exit."""
    window = Window(start=1, analysis=0, breakout=8, monitoring=6)
    exits = ExitRules(trigger="intrabar", trailing=False, leave=window.leave, hold=None)
    calls = tuple((minute, row, 1) for minute, row in cells)
    strategy = ScriptedStrategy(window=window, calls=calls, exits=exits, distance=0.02, gain=math.nan)
    return ActiveStrategy(name="signals", rank=0, strategy=strategy, frame=StrategySettings())


@pytest.fixture
def trade(tmp_path: Path) -> Callable[..., TradedDay]:
    """Trades a day of 30 minutes by a script."""

    def traded(script: Callable[[BrokerDay], Awaitable[RunOutcome]], *cells: tuple[int, int]) -> TradedDay:
        home, plugin = tmp_path / "home", tbot_broker()
        home.mkdir()
        calendar, session = short_day(30)
        market = SimulatedMarket.flat(20 * 100 * CENT, SYMBOLS, session.minutes)
        with open_day(plugin, home, market, calendar, DAY) as (day, run):
            texts = SETTINGS | addresses(plugin, day.venue)
            (home / ".env_bot").write_text("".join(f"{name}={text}\n" for name, text in texts.items()))
            venue: Any = day.venue
            for symbol in venue.feed_symbols:  # which do not trade
                venue.venue.market.listings.pop(symbol, None)
            day.entrants.append(signals(*cells))
            outcome = run(script)
        journal = read_journal(outcome.journal)
        try:
            events = list(journal.events())
        finally:
            journal.close()
        return TradedDay(outcome=outcome, events=events, venue=venue)

    return traded


async def whole(day: BrokerDay) -> RunOutcome:
    """From before the bell to the close."""
    return await day.start()


async def slowly(day: BrokerDay) -> RunOutcome:
    """From before the bell to the close, in a market that fills fifty shares of an order every five seconds."""
    venue: Any = day.venue
    fill_whole = venue.trade
    venue.trade = lambda symbol, price: fill_whole(symbol, price, Decimal(50))
    return await day.start()


@pytest.mark.first(0)  # over two seconds
@pytest.mark.measured
def test_a_day_enters_protects_and_exits_within_half_of_the_request_limit(trade: Callable[..., TradedDay]) -> None:
    """Each position has its stop with the fill and is closed at its time; each order is posted once."""
    day = trade(whole, (3, 0), (5, 1), (7, 2))
    assert [one.payload["leg"] for one in day.of(records.INTENDED)] == [*["entry", "stop"] * 3, *["exit"] * 3]
    assert set(day.posts.values()) == {1}
    assert len(day.outcome.summary.trades) == 3
    assert day.outcome.open == ()
    assert day.venue.venue.account.held == {}
    assert max(used.total() for used in day.venue.venue.used.values()) < 100


@pytest.mark.first(0)  # over two seconds
@pytest.mark.measured
def test_a_part_of_an_entry_is_protected_though_the_venue_takes_one_side(trade: Callable[..., TradedDay]) -> None:
    """The rest of the entry is cancelled and the stop follows at once: no wash trade is refused."""
    day = trade(slowly, (3, 0))
    assert [one.payload["leg"] for one in day.of(records.INTENDED)] == ["entry", "stop", "exit"]
    entry, stop, leaving = day.venue.venue.account.orders
    assert (entry.status, entry.filled, stop.quantity, leaving.filled) == ("canceled", 50, 50, 50)
    assert not [words for words in day.venue.venue.refused if "wash trade" in words]
    fill = next(one for one in day.events if one.kind == "fill")
    protected = next(one for one in day.events if one.kind == "acknowledged" and one.cid == stop.client_order_id)
    assert (protected.applied - fill.applied).total_seconds() <= 2


async def without_trade_updates(day: BrokerDay) -> RunOutcome:
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
@pytest.mark.measured
def test_nothing_is_entered_while_the_accounts_stream_is_down(trade: Callable[..., TradedDay]) -> None:
    """Bars and readings come, but no order event does: exit-only with the cause, and no order is sent."""
    day = trade(without_trade_updates, (6, 0), (7, 1))
    assert day.posts == {}
    assert [one.payload["reason"] for one in day.of("decision")] == ["EXIT_ONLY", "EXIT_ONLY"]
    states = [one.payload for one in day.of("state") if one.payload["cause"] == "UNREACHABLE"]
    assert (states[0]["state"], states[-1]["there"]) == ("exit-only", False)
    assert "no stream of order events" in states[0]["words"]
