"""The steps of the cases of brokers: orders of a case, the events of the broker, and what arrives at its server.

Which request does what is learned from the plugin itself: a step sends an order, and sees what arrives.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypedDict, Unpack
from weakref import WeakKeyDictionary

import attrs

from tbot_core.contracts import BrokerEvent, OrderStatus
from tbot_core.contracts.abilities import POLLING, STREAM, Ability, Methods
from tbot_core.errors import BrokerError
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.types import Leg, Order, OrderType, SignalId, stock
from tbot_core.testing.contract import NotClaimed, demand
from tbot_core.testing.venue import BrokerUnderTest, FailingVenue

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from tbot_core.contracts import AccountSnapshot, Gap, Permit
    from tbot_core.contracts.abilities import SupportsEventStream
    from tbot_core.model.types import Fill
    from tbot_core.testing.scripted_server import ServerRequest

DAWN: Final = datetime(2000, 1, 1, tzinfo=UTC)
PRICE: Final = Decimal(20)
LOW: Final = Decimal("10.01")
"""The limit of an order that does not fill."""

_QUIET: Final = 20
_QUIET_S: Final = 0.02
"""A stream is quiet after so many waits of this length: a machine that stalls for a moment has used one of them."""


class OrderTerms(TypedDict, total=False):
    """The terms of an order in a case."""

    leg: Leg
    buy: bool
    quantity: Decimal
    type: OrderType
    limit_price: Decimal | None
    stop_price: Decimal | None
    protection: tuple[Order, ...]


@attrs.frozen
class RequestRoute:
    """The method of a request, and the beginning of its path."""

    method: str
    path: str


class CountedPermit:
    """A permit that counts how often it was redeemed."""

    def __init__(self) -> None:
        self.redeemed = 0

    def redeem(self) -> None:
        """Count."""
        self.redeemed += 1


def demand_raised(
    kinds: type[BrokerError] | tuple[type[BrokerError], ...], call: Callable[[], object], words: str
) -> BrokerError:
    """The error that the call raises; none, or another one, breaks the promise."""
    try:
        call()
    except kinds as fault:
        return fault
    except BrokerError as fault:
        raise AssertionError(f"{words}: {type(fault).__name__} was raised instead: {fault.message}") from fault
    raise AssertionError(f"{words}: nothing was raised")


def claimed(venue: BrokerUnderTest, ability: Ability[Methods]) -> Methods:
    """The broker as one with an optional method; raises NotClaimed where its capabilities do not declare it."""
    broker = ability.of(venue.broker)
    if broker is None:
        raise NotClaimed(f"the broker's capabilities do not claim {ability.capability}")
    return broker


def failing_venue(venue: BrokerUnderTest) -> FailingVenue:
    """The venue as one that fails; raises NotClaimed for another one."""
    if not isinstance(venue, FailingVenue):
        raise NotClaimed("the venue has no server that fails")
    return venue


def routed(venue: BrokerUnderTest, *, cancels: bool = False) -> tuple[FailingVenue, RequestRoute]:
    """The venue, and the request that places an order, or cancels one."""
    failing = failing_venue(venue)
    submit(venue, resting("kit-0"))
    if cancels:
        venue.wait(venue.broker.cancel("kit-0"))
        reported(venue)
    sent = [request for request in failing.server.requests if request.method != "GET"]
    demand(bool(sent), "an order that is sent must reach the server")
    return failing, RequestRoute(sent[-1].method, sent[-1].path.partition("kit-0")[0])


def reading_paths(failing: FailingVenue) -> list[str]:
    """The paths of the requests of a snapshot, each once."""
    before = len(failing.server.requests)
    snapshot(failing)
    return list(dict.fromkeys(request.path for request in failing.server.requests[before:]))


def polled_path(failing: FailingVenue) -> str:
    """The path of the request of a poll; raises NotClaimed where the broker is not polled, or a poll sends none."""
    claimed(failing, POLLING)
    before = len(failing.server.requests)
    reported(failing)
    sent = failing.server.requests[before:]
    if not sent:
        raise NotClaimed("a poll sends no request")
    return sent[-1].path


def names_order(request: ServerRequest, client_order_id: str) -> bool:
    """Whether a request carries the client order id."""
    return client_order_id.encode() in request.body


def arrived(failing: FailingVenue, client_order_id: str) -> int:
    """How many requests with the client order id in their body arrived."""
    return sum(names_order(request, client_order_id) for request in failing.server.requests)


def market(client_order_id: str, **terms: Unpack[OrderTerms]) -> Order:
    """A market order to buy ten shares, unless its terms say otherwise; `submit` fills the symbol in."""
    order = Order(
        client_order_id=client_order_id,
        signal=SignalId(session=date(2026, 1, 5), strategy="kit", symbol="", minute=0, rule="kit"),
        leg=Leg.ENTRY,
        buy=True,
        quantity=Decimal(10),
        type=OrderType.MARKET,
    )
    return attrs.evolve(order, **terms)


def resting(client_order_id: str) -> Order:
    """A limit order far below the market."""
    return market(client_order_id, type=OrderType.LIMIT, limit_price=LOW)


def stop(price: Decimal) -> Order:
    """A stop that protects what a market order bought."""
    return market("kit-stop", buy=False, leg=Leg.STOP, type=OrderType.STOP, stop_price=price)


def named(venue: BrokerUnderTest, order: Order) -> Order:
    """The order and its legs for the symbol of the venue."""
    signal = attrs.evolve(order.signal, symbol=venue.symbol)
    legs = tuple(named(venue, leg) for leg in order.protection)
    return attrs.evolve(order, instrument=stock(venue.symbol), signal=signal, protection=legs)


def submit(venue: BrokerUnderTest, order: Order, permit: Permit | None = None) -> None:
    """Submit an order for the symbol of the venue; a stream of events is open before."""
    if STREAM.of(venue.broker) is not None and venue not in _streams:
        received(venue)
    order = named(venue, order)
    venue.wait(venue.broker.submit(order, permit or SendPermit(order, never_refuse)))


def traded(venue: BrokerUnderTest, order: Order) -> list[BrokerEvent]:
    """The events of an order that is sent, and filled at the usual price."""
    submit(venue, order)
    venue.trade_at(PRICE)
    return reported(venue)


def reported(venue: BrokerUnderTest) -> list[BrokerEvent]:
    """The events since the last call, polled or received."""
    source = POLLING.of(venue.broker)
    items = received(venue) if source is None else venue.wait(source.poll())
    return [item for item in items if isinstance(item, BrokerEvent)]


def received(venue: BrokerUnderTest) -> list[BrokerEvent | Gap]:
    """What the stream has delivered since the last call, which opens it if it is the first one."""
    if venue not in _streams:
        _streams[venue] = _Stream(claimed(venue, STREAM))
    return venue.wait(_streams[venue].receive())


class _Stream:
    # Collects the events of a broker, of one connection after the other, as the core does, until the event loop of the
    # venue ends.
    def __init__(self, source: SupportsEventStream) -> None:
        self._source = source
        self._items: list[BrokerEvent | Gap] = []
        self._task: asyncio.Task[None] | None = None

    async def receive(self) -> list[BrokerEvent | Gap]:
        # What was collected, once no event has come for a while.
        self._task = self._task or asyncio.create_task(self._collect())
        quiet, seen = 0, 0
        while quiet < _QUIET:
            failed, _ = await asyncio.wait({self._task}, timeout=_QUIET_S)
            for task in failed:
                task.result()
            fresh = any(isinstance(item, BrokerEvent) for item in self._items[seen:])
            quiet, seen = 0 if fresh else quiet + 1, len(self._items)
        items, self._items = self._items, []
        return items

    async def _collect(self) -> None:
        while True:
            with suppress(BrokerError):
                async for item in self._source.events():
                    self._items.append(item)
            await asyncio.sleep(_QUIET_S)


_streams: Final[MutableMapping[BrokerUnderTest, _Stream]] = WeakKeyDictionary()


def fills_of(events: list[BrokerEvent], client_order_id: str) -> list[Fill]:
    """The fills of one order among the events."""
    return [event.fill for event in events if event.fill is not None and event.client_order_id == client_order_id]


def snapshot(venue: BrokerUnderTest) -> AccountSnapshot:
    """The account with all its orders."""
    return venue.wait(venue.broker.snapshot(DAWN))


def listed(venue: BrokerUnderTest) -> Counter[str]:
    """How often each working order is listed."""
    return Counter(order.client_order_id for order in snapshot(venue).orders if order.kind is OrderStatus.WORKING)
