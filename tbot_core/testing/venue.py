"""What a broker is tested with: the object that `Plugin.venue` opens, and that a test gives to `BrokerContract`.

A `BrokerUnderTest` is the least. With a server that fails the cases of `tbot_core.testing.broker_faults` apply, and
with a market for a whole day a rehearsal trades at it.

`venue()` opens one with an event loop of its own. `venue(runner, clock)` opens one in the loop of that
`asyncio.Runner`, whose clock also stamps what happens: that is how a rehearsal trades a day in virtual time.

The venue of an alert channel, a filter or an extension that takes the same two is a `ServedVenue`: a rehearsal at the
real pace serves it beside the broker's, and directs the hosts of the plugin to it.

A `ScenarioVenue` offers scenarios: `tbot rehearse --broker NAME --scenarios` runs each as a day of its own, with one
signal, its stop and its exit, and the faults that the scenario plans at the venue.

A venue records the facts from which a judge measures how long positions were without protection
(`tbot_core.rehearsal.protection`). `at` is in seconds of the venue's clock. What a venue knows is a fact when it
happens. What the bot can know is a fact of its own, when an answer or event with it was delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import attrs

if TYPE_CHECKING:
    from tbot_core.contracts import Bar, Broker, FeedSource, Split
    from tbot_core.testing.scripted_server import ScriptedServer

Result = TypeVar("Result")

Kill = Callable[[float], None]
"""Ends the bot's process as kill -9 does, and starts another one so many seconds later."""

ClaimedState: TypeAlias = Literal["resting", "emulated", "bare", "closed"]


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
    """What moves a venue in a recorded session: it is given the past and the quotes, and what fills."""

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


@attrs.frozen(kw_only=True)
class VenueScenario:
    """A short day with one signal at the end of minute `enters`; what it opens is to be closed `holds` minutes later.

    `plan` plans the faults, at a venue whose day has not begun. The session lasts `minutes`, and flattening begins
    `flattens` minutes before its end. With `rises` prices rise, so that stops trail; a `short` signal is to sell.
    With `foreign` others trade in the account, so that what the bot books without an order of its own is no error.
    Without `trades` it is no error either that nothing is opened. A `full` one runs only where its name is asked for.
    """

    name: str
    plan: Callable[[Any, Kill], None]
    enters: int = 1
    holds: int = 3
    minutes: int = 12
    flattens: int = 5
    rises: bool = False
    short: bool = False
    foreign: bool = False
    trades: bool = True
    full: bool = False


@attrs.frozen(kw_only=True)
class SeenRequest:
    """An order request as it arrived: what it did, and whether it `failed`, as `OrderRequest` does."""

    at: float
    act: str
    symbol: str
    client_order_id: str
    failed: bool


@attrs.frozen(kw_only=True)
class SeenOrder:
    """An order that was booked; `own`: by a request of the bot. `replaces` is the client order id of another one."""

    client_order_id: str
    symbol: str
    act: str
    buy: bool
    own: bool
    arrived_at: float
    replaces: str = ""
    filled: Decimal = Decimal(0)
    ended_at: float | None = None
    cancelled: bool = False
    cancelled_by_client: bool = False


@runtime_checkable
class ScenarioVenue(Protocol):
    """A venue that offers scenarios; times of what it shows are seconds of its clock, by `monotonic`."""

    def scenarios(self) -> Sequence[VenueScenario]:
        """The scenarios, each with a name of its own."""

    def set_process(self, *, runs: bool) -> None:
        """The bot's process has ended, so that nothing arrives or is delivered any more; or another one has begun."""

    @property
    def faults_met(self) -> bool:
        """Whether everything that a scenario planned has happened."""

    def facts(self) -> Sequence[ProtectionFact]:
        """What has happened to positions and their protection, and what the bot was shown of it."""

    def requests_seen(self) -> Sequence[SeenRequest]:
        """The order requests that arrived, in their order."""

    def orders_seen(self) -> Sequence[SeenOrder]:
        """The orders that were booked, in their order."""

    def holdings(self) -> Mapping[str, Decimal]:
        """The positions now, those that were sold short below 0."""

    def cash(self) -> Decimal:
        """The cash now."""


@attrs.frozen(kw_only=True)
class Held:
    """The position of a symbol from now on; short below 0."""

    at: float
    symbol: str
    quantity: Decimal


@attrs.frozen(kw_only=True)
class Cover:
    """The quantity that working stops and exits of a symbol would close, from now on."""

    at: float
    symbol: str
    quantity: Decimal


@attrs.frozen(kw_only=True)
class ShownHeld:
    """The position by the executions that answers and events have shown, from now on; short below 0."""

    at: float
    symbol: str
    quantity: Decimal


@attrs.frozen(kw_only=True)
class ShownCover:
    """What stops and exits would close by what was shown of them, from now on.

    One counts until its end is shown, for what was ordered until a list shows that less was taken.
    """

    at: float
    symbol: str
    quantity: Decimal


@attrs.frozen(kw_only=True)
class Reading:
    """A whole list was delivered; `agrees`: it has of the symbol what the venue had reported to the bot before."""

    at: float
    symbol: str
    subject: Literal["positions", "orders"]
    asked_at: float
    agrees: bool = True


@attrs.frozen(kw_only=True)
class ForeignCancel:
    """The venue or a person cancelled a protective order of the bot."""

    at: float
    symbol: str


@attrs.frozen(kw_only=True)
class OrderRequest:
    """The bot sent an order, a replace or a cancel; `failed`: without an answer, or with 3xx, 429 or 5xx."""

    at: float
    failed: bool


@attrs.frozen(kw_only=True)
class TwoListsNeeded:
    """A stop or exit may have been booked: another is sent after two lists without it, which takes `until` then."""

    at: float
    symbol: str
    until: float


@attrs.frozen(kw_only=True)
class Quoted:
    """The feed delivered a trade or quote of a symbol."""

    at: float
    symbol: str


@attrs.frozen(kw_only=True)
class Halted:
    """A symbol is halted from now on, or trades again."""

    at: float
    symbol: str
    halted: bool


@attrs.frozen(kw_only=True)
class Process:
    """The bot's process got its first answer of the venue, or ended."""

    at: float
    runs: bool


@attrs.frozen(kw_only=True)
class Claim:
    """The bot's journal states how a symbol is protected, from now on."""

    at: float
    symbol: str
    state: ClaimedState


SymbolFact: TypeAlias = (
    Held | Cover | ShownHeld | ShownCover | Reading | ForeignCancel | TwoListsNeeded | Quoted | Halted | Claim
)

ProtectionFact: TypeAlias = SymbolFact | OrderRequest | Process
