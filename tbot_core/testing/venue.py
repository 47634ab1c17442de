"""What a broker is tested with: the object that `Plugin.venue` opens, and that a test gives to `BrokerContract`.

A `BrokerUnderTest` is the least. With a server that fails the cases of `tbot_core.testing.broker_faults` apply, and
with a market for a whole day a rehearsal trades at it.

`venue()` opens one with an event loop of its own. `venue(runner, clock)` opens one in the loop of that
`asyncio.Runner`, whose clock also stamps what happens: that is how a rehearsal trades a day in virtual time.

The venue of an alert channel, a filter or an extension that takes the same two is a `ServedVenue`: a rehearsal at the
real pace serves it beside the broker's, and directs the hosts of the plugin to it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import attrs

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from tbot_core.contracts import Bar, Broker, FeedSource, Split
    from tbot_core.testing.scripted_server import ScriptedServer

Result = TypeVar("Result")


class BrokerUnderTest(Protocol):
    """A broker and the market that it trades at."""

    @property
    def broker(self) -> Broker:
        """The broker: connected, its session open."""

    @property
    def symbol(self) -> str:
        """A symbol that trades at 20 USD at the start of the test."""

    def trade_at(self, price: Decimal) -> None:
        """Let the symbol trade, in quantity, only at this price."""

    def wait(self, call: Coroutine[Any, Any, Result]) -> Result:
        """The result of a call to the broker, awaited in its event loop."""


@runtime_checkable
class FailingVenue(BrokerUnderTest, Protocol):
    """A broker at a scripted server, which fails as a test says."""

    @property
    def server(self) -> ScriptedServer:
        """The server that plays the vendor, entered."""


@runtime_checkable
class PartlyFillingVenue(Protocol):
    """A venue that can fill a part of an order."""

    def trade_some(self, price: Decimal, quantity: Decimal) -> None:
        """Let the symbol trade in this quantity only: working orders that match are filled up to it."""


@runtime_checkable
class SharedVenue(Protocol):
    """A venue at which a second client can log in to the same account, as after a restart."""

    def another_client(self) -> Broker:
        """A new object of the plugin."""


@runtime_checkable
class TradingVenue(FailingVenue, Protocol):
    """A venue that trades a day: several symbols, and their bars as the vendor's feed has them."""

    @property
    def secrets(self) -> Mapping[str, object]:
        """The credentials that the server accepts, by category, as the plugin's Context has them."""

    def list_symbol(self, symbol: str, previous_close: Decimal, average_volume: int, cash: Decimal) -> None:
        """Let a symbol be traded, from this price on, in an account with this cash."""

    def trade(self, symbol: str, price: Decimal) -> None:
        """Let a symbol trade, in quantity, at this price only: orders that match are filled."""

    async def publish(self, bars: Sequence[Bar]) -> None:
        """Let minutes close: the feed sends their bars, and has them in its history from now on."""


@attrs.frozen(kw_only=True)
class WorkingOrder:
    """An order that can fill at a venue: what is left of it, and the price of a stop.

    `client_order_id` is that of the broker's contract: an order that was replaced has the id of the first one.
    """

    client_order_id: str
    remaining: Decimal
    stop_price: Decimal | None


class Recording(Protocol):
    """What moves a venue in a recorded session: it is given the past and the quotes, and told what fills."""

    def add_past(self, bars: Sequence[Bar]) -> None:
        """Have these minutes of past sessions in the history of the feed, in place of any others of their symbols."""

    def quote(self, symbol: str, price: Decimal, half_spread: Decimal) -> None:
        """Let the last price be this one, and bid and ask be half a spread away from it; nothing fills."""

    def working(self) -> Sequence[WorkingOrder]:
        """The orders that can fill, in the order of their arrival."""

    def fill(self, client_order_id: str, price: Decimal, quantity: Decimal) -> None:
        """Fill so much of an order that works."""

    def expire(self, client_order_id: str) -> None:
        """End an order that works."""


@runtime_checkable
class RecordedVenue(TradingVenue, Protocol):
    """A venue that can trade a recorded session."""

    @property
    def recorded(self) -> Recording:
        """What moves it then, in place of `trade`."""


class LoopbackServer(Protocol):
    """A server on this machine, as `ScriptedServer` and `ScriptedMailServer` are."""

    @property
    def url(self) -> str:
        """Its address, as in http://127.0.0.1:8080, for HTTP or mail."""

    @property
    def socket_url(self) -> str:
        """The address of its WebSockets; the same one without any."""


@runtime_checkable
class ServedVenue(Protocol):
    """A venue that a rehearsal by a person reaches; it accepts the credentials of any instance."""

    @property
    def server(self) -> LoopbackServer:
        """The server that plays the vendor, entered in the given event loop."""


@runtime_checkable
class ReceivingVenue(Protocol):
    """A venue that shows what has reached it: `tbot rehearse --serve` prints it as it comes."""

    def received(self) -> Sequence[str]:
        """A line for each message that has arrived, oldest first."""


@runtime_checkable
class ReportingVenue(Protocol):
    """A venue that reports what it has received: a rehearsal prints it at its end."""

    def summary(self) -> Sequence[str]:
        """What it has received and refused since it was opened, a line each."""


class FeedUnderTest(Protocol):
    """A broker that supplies bars, and the market that it trades at."""

    @property
    def broker(self) -> FeedSource:
        """The broker."""

    @property
    def feed_symbols(self) -> tuple[str, ...]:
        """One symbol or more that traded in each of the three sessions before the feed's own."""

    def wait(self, call: Coroutine[Any, Any, Result]) -> Result:
        """The result of a call to the broker, awaited in its event loop."""


@runtime_checkable
class MovesLiveFeed(Protocol):
    """A venue whose live feed a test can move; each call has its effect on the feed's messages soon afterwards."""

    def trade_on_feed(self, symbol: str) -> None:
        """Let the symbol trade, so that the feed sends a bar or a quote of it."""

    def halt_on_feed(self, symbol: str) -> None:
        """Halt the symbol."""

    def lose_feed(self) -> None:
        """Close the feed's connection from the vendor's side."""


@runtime_checkable
class SplittingVenue(Protocol):
    """A venue at which a symbol was split a few sessions ago."""

    @property
    def split(self) -> Split:
        """The split; its date is one of the last two sessions before today."""
