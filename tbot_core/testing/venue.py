"""What a broker's `Plugin.venue` may be beyond a `BrokerUnderTest`: a server that fails, and a market for a whole day.

`venue()` opens one with an event loop of its own. `venue(runner, clock)` opens one in the loop of that
`asyncio.Runner`, whose clock also stamps what happens: that is how a rehearsal trades a day in virtual time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tbot_core.testing.broker import BrokerUnderTest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from tbot_core.contracts import Bar
    from tbot_core.testing.scripted_server import ScriptedServer


@runtime_checkable
class FailingVenue(BrokerUnderTest, Protocol):
    """A broker at a scripted server, which fails as a test says."""

    @property
    def server(self) -> ScriptedServer:
        """The server that plays the vendor, entered."""


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
