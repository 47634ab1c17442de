"""The plugin and its venue in one event loop, as tests and rehearsals open them: see `tbot_core.testing.venue`."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, Unpack

from tbot_broker_alpaca import Credentials, tbot_broker
from tbot_broker_alpaca.venue.recorded import VenueRecording
from tbot_broker_alpaca.venue.scenarios import scenarios
from tbot_broker_alpaca.venue.server import AlpacaServer
from tbot_core.contracts import Bar, Split
from tbot_core.model.clock import Clock, ManualClock
from tbot_core.system.secret import Secret
from tbot_core.testing.scripted_server import ScriptedServer, context

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Mapping, Sequence

    from tbot_core.testing.venue import ProtectionFact, SeenOrder, SeenRequest, VenueScenario

Result = TypeVar("Result")
MORNING: Final = dt.datetime(2026, 1, 5, 15, 0, tzinfo=dt.UTC)
"""Half an hour after the open."""

_PRICE: Final = Decimal(20)
_VOLUME: Final = 1_000_000


class VenueOptions(TypedDict, total=False):
    """How the venue differs from a paper account on the basic plan: see `AlpacaServer`."""

    live: bool
    basic: bool
    limit: int
    options_level: int


class AlpacaExchange:
    """The broker at the venue, where two symbols trade until a rehearsal lists those of its market.

    `halt` and `revoke` are those of `venue`.
    """

    symbol = "AAA"
    feed_symbols = ("AAA", "BBB")

    def __init__(self, runner: asyncio.Runner, clock: Clock, **options: Unpack[VenueOptions]) -> None:
        self._runner, self._clock, self._plugin = runner, clock, tbot_broker()
        self.venue = AlpacaServer(clock, **options)
        self.halt, self.revoke = self.venue.halt, self.venue.revoke
        mode = "live" if options.get("live") else "paper"
        key, secret = Secret("venue-key"), Secret("venue-secret")
        credentials = Credentials(api_key=key, api_secret=secret, mode=mode)
        self.secrets: Mapping[str, object] = {"broker": credentials}
        for symbol in self.feed_symbols:
            self.venue.market.list_symbol(symbol, _PRICE, _VOLUME)
        day = self.venue.market.calendar.previous(self.venue.market.session.date).date
        self.split = Split(symbol="BBB", date=day, before=1, after=4)
        self.venue.market.splits.append(self.split)
        self.recorded = VenueRecording(self.venue)
        self._soon = set[asyncio.Task[None]]()
        runner.run(self.server.__aenter__())
        self.broker = self.another_client()

    @property
    def server(self) -> ScriptedServer:
        """The server that plays the vendor."""
        return self.venue.server

    def another_client(self) -> Any:
        """A new object of the plugin, at the same account."""
        needs = self._plugin.needs
        given = context(self.server, hosts=needs.hosts, secrets=self.secrets, clock=self._clock, timeout_s=2.0)
        return self._plugin.create(self._plugin.config(), given)

    def wait(self, call: Coroutine[Any, Any, Result]) -> Result:
        """The result of a call."""
        return self._runner.run(call)

    def trade_at(self, price: Decimal) -> None:
        """Let the symbol trade at this price."""
        self.trade(self.symbol, price)

    def trade_some(self, price: Decimal, quantity: Decimal) -> None:
        """Let the symbol trade in this quantity only."""
        self.trade(self.symbol, price, quantity)

    def list_symbol(self, symbol: str, previous_close: Decimal, average_volume: int, cash: Decimal) -> None:
        """Let a symbol be traded, in an account with this cash; the venue's own symbols trade no longer."""
        for own in self.feed_symbols:
            self.venue.market.listings.pop(own, None)
        self.venue.market.list_symbol(symbol, previous_close, average_volume)
        self.venue.account.cash = self.venue.account.last_equity = cash

    def trade(self, symbol: str, price: Decimal, most: Decimal | None = None) -> None:
        """Let a symbol trade at this price: its orders fill, and the feed has a trade and a quote."""
        self.venue.market.listings[symbol].price = price
        self.venue.account.trade(symbol, most)
        self.venue.publish_trade(symbol)

    async def publish(self, bars: Sequence[Bar]) -> None:
        """Let minutes close."""
        self.venue.record.quoted(self.venue.streams.publish(self.venue.market.close_minutes(bars)))

    def summary(self) -> list[str]:
        """What the venue has received and refused, and how near its rate limits were."""
        return self.venue.summary()

    def scenarios(self) -> list[VenueScenario]:
        """The scenarios of the venue."""
        return [*scenarios()]

    def set_process(self, *, runs: bool) -> None:
        """The bot's process has ended, or another one has begun."""
        self.venue.set_process(runs=runs)

    @property
    def faults_met(self) -> bool:
        """Whether everything that was planned has happened."""
        return self.venue.faults.all_met

    def facts(self) -> Sequence[ProtectionFact]:
        """What has happened to positions and their protection, and what the bot was shown of it."""
        return self.venue.record.facts

    def requests_seen(self) -> Sequence[SeenRequest]:
        """The order requests that arrived."""
        return self.venue.record.requests

    def orders_seen(self) -> Sequence[SeenOrder]:
        """The orders that were booked."""
        return self.venue.record.orders

    def holdings(self) -> dict[str, Decimal]:
        """The positions now."""
        return {symbol: quantity for symbol, (quantity, _) in self.venue.account.held.items()}

    def cash(self) -> Decimal:
        """The cash now."""
        return self.venue.account.cash

    def trade_on_feed(self, symbol: str) -> None:
        """Let a minute of the symbol close."""
        start = self._clock.now().replace(second=0, microsecond=0)
        prices = dict.fromkeys(("open", "high", "low", "close"), float(self.venue.market.listings[symbol].price))
        self._later(self.publish([Bar(symbol=symbol, start=start, volume=100.0, **prices)]))

    def halt_on_feed(self, symbol: str) -> None:
        """Halt the symbol."""
        self.halt(symbol)

    def lose_feed(self) -> None:
        """Let the vendor's machine go away while messages are received."""
        self._later(self.server.drop_sockets())

    def close(self) -> None:
        """Close both ends."""
        self.wait(self.broker.close())
        self.wait(self.server.__aexit__(None, None, None))

    def _later(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(call)
        self._soon.add(task)
        task.add_done_callback(self._soon.discard)


@contextmanager
def open_venue(
    runner: asyncio.Runner | None = None, clock: Clock | None = None, **options: Unpack[VenueOptions]
) -> Iterator[AlpacaExchange]:
    """A fresh account, and the broker logged in to it; a rehearsal brings its own event loop and clock."""
    with asyncio.Runner() as own:
        exchange = AlpacaExchange(runner or own, clock or ManualClock(MORNING), **options)
        try:
            yield exchange
        finally:
            exchange.close()
