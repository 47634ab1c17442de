"""What a broker is tested with: the object that `Plugin.venue` opens, and that a test gives to `BrokerContract`.

A `BrokerUnderTest` is the least. With a server that fails the cases of `tbot_core.testing.broker_faults` apply, and
with a market for a whole day a rehearsal trades at it.

`venue()` opens one with an event loop of its own. `venue(runner, clock)` opens one in the loop of that
`asyncio.Runner`, whose clock also stamps what happens: that is how a rehearsal trades a day in virtual time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from decimal import Decimal

    from tbot_core.contracts import Bar, Broker
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
