"""The steps of `tbot_core.testing.broker_faults`: orders of a case, what arrives at its server, and what is read.

Which request does what is learned from the plugin itself: a step sends an order, and sees what arrives.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import OrderStatus
from tbot_core.contracts.abilities import POLLING
from tbot_core.errors import BrokerError
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.types import Leg, Order, OrderType, SignalId
from tbot_core.testing.contract import NotClaimed, demand
from tbot_core.testing.venue import BrokerUnderTest, FailingVenue

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.contracts import AccountSnapshot, BrokerEvent, Permit
    from tbot_core.model.types import Fill
    from tbot_core.testing.scripted_server import ServerRequest

DAWN: Final = datetime(2000, 1, 1, tzinfo=UTC)
PRICE: Final = Decimal(20)
LOW: Final = Decimal("10.01")
"""The limit of an order that does not fill."""


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
    sent = [one for one in failing.server.requests if one.method != "GET"]
    demand(bool(sent), "an order that is sent must reach the server")
    return failing, RequestRoute(sent[-1].method, sent[-1].path.partition("kit-0")[0])


def reading_paths(failing: FailingVenue) -> list[str]:
    """The paths of the requests of a snapshot, each once."""
    before = len(failing.server.requests)
    snapshot(failing)
    return list(dict.fromkeys(one.path for one in failing.server.requests[before:]))


def polled_path(failing: FailingVenue) -> str:
    """The path of the request of a poll; raises NotClaimed where a poll sends none."""
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
    return sum(names_order(one, client_order_id) for one in failing.server.requests)


def resting(client_order_id: str) -> Order:
    """A limit order far below the market."""
    return attrs.evolve(market(client_order_id), type=OrderType.LIMIT, limit_price=LOW)


def market(client_order_id: str) -> Order:
    """A market order for ten shares; `submit` fills the symbol in."""
    return Order(
        client_order_id=client_order_id,
        signal=SignalId(session=date(2026, 1, 5), strategy="kit", symbol="", minute=0, rule="kit"),
        leg=Leg.ENTRY,
        symbol="",
        buy=True,
        quantity=Decimal(10),
        type=OrderType.MARKET,
    )


def submit(venue: BrokerUnderTest, order: Order, permit: Permit | None = None) -> None:
    """Submit an order for the symbol of the venue."""
    named = attrs.evolve(order, symbol=venue.symbol, signal=attrs.evolve(order.signal, symbol=venue.symbol))
    venue.wait(venue.broker.submit(named, permit or SendPermit(named, never_refuse)))


def traded(venue: BrokerUnderTest, client_order_id: str) -> list[BrokerEvent]:
    """The events of a market order that is sent and filled."""
    submit(venue, market(client_order_id))
    venue.trade_at(PRICE)
    return reported(venue)


def reported(venue: BrokerUnderTest) -> list[BrokerEvent]:
    """The events since the last call."""
    source = POLLING.of(venue.broker)
    if source is None:
        raise NotClaimed("the broker pushes its events, and this case polls them")
    return list(venue.wait(source.poll()))


def fills_of(events: list[BrokerEvent], client_order_id: str) -> list[Fill]:
    """The fills of one order among the events."""
    return [one.fill for one in events if one.fill is not None and one.client_order_id == client_order_id]


def snapshot(venue: BrokerUnderTest) -> AccountSnapshot:
    """The account with all its orders."""
    return venue.wait(venue.broker.snapshot(DAWN))


def listed(venue: BrokerUnderTest) -> Counter[str]:
    """How often each working order is listed."""
    return Counter(one.client_order_id for one in snapshot(venue).orders if one.kind is OrderStatus.WORKING)
