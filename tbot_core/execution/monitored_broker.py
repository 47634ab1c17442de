"""A broker wrapper that reports every answer and failure to the circuit breaker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from tbot_core.contracts import abilities
from tbot_core.errors import BrokerError, Rejected, Unavailable, Withdrawn
from tbot_core.execution.circuit_breaker import CircuitBreaker, RequestKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
    from datetime import datetime

    from tbot_core.contracts import (
        AccountSnapshot,
        Broker,
        BrokerCapabilities,
        BrokerEvent,
        Gap,
        Permit,
    )
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Account, Order

Answer = TypeVar("Answer")
Methods = TypeVar("Methods")


def offered(ability: abilities.Ability[Methods], broker: object) -> Methods:
    """The broker with an optional method; raises Unavailable if its capabilities do not declare it."""
    found = ability.of(broker)
    if found is None:
        raise Unavailable(f"The broker does not offer {ability.method} (capability {ability.capability}).")
    return found


def _asks(
    ability: abilities.Ability[Any], kind: RequestKind = RequestKind.READING, *, monitored: bool = True
) -> Callable[..., Coroutine[Any, Any, Any]]:
    # The method that asks an optional method of the broker. Prices, hours and notices may have another connection than
    # the account, so they are not monitored.
    async def method(self: MonitoredBroker, *arguments: object) -> Any:
        response = getattr(offered(ability, self._broker), ability.method)(*arguments)
        return await (self._monitored(kind, response) if monitored else response)

    return method


class MonitoredBroker:
    """Wraps a `contracts.Broker`; a failure counts from the start of its request, not from its time-out.

    The optional methods raise Unavailable where the broker does not declare them.
    """

    def __init__(self, broker: Broker, circuit: CircuitBreaker, clock: Clock) -> None:
        self.broker = self._broker = broker
        self._circuit = circuit
        self._clock = clock

    @property
    def capabilities(self) -> BrokerCapabilities:
        """The broker's capabilities."""
        return self._broker.capabilities

    async def connect(self) -> Account:
        """Log in."""
        return await self._monitored(RequestKind.READING, self._broker.connect())

    async def account(self) -> Account:
        """Current cash, equity and buying power."""
        return await self._monitored(RequestKind.READING, self._broker.account())

    async def submit(self, order: Order, permit: Permit) -> None:
        """Submit an order."""
        await self._monitored(RequestKind.TRADE, self._broker.submit(order, permit))

    async def cancel(self, client_order_id: str) -> None:
        """Request a cancel."""
        await self._monitored(RequestKind.TRADE, self._broker.cancel(client_order_id))

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Change a resting order."""
        await self._monitored(
            RequestKind.TRADE, offered(abilities.REPLACE, self._broker).replace(client_order_id, order)
        )

    async def events(self) -> AsyncIterator[BrokerEvent | Gap]:
        """The events of the broker's stream; an end without an error is a failure too."""
        try:
            async for item in offered(abilities.STREAM, self._broker).events():
                self._circuit.record_answer(RequestKind.STREAM, self._clock.now())
                yield item
        except BrokerError:
            self._circuit.record_failure(RequestKind.STREAM, self._clock.now())
            raise
        self._circuit.record_failure(RequestKind.STREAM, self._clock.now())

    poll = _asks(abilities.POLLING, RequestKind.STREAM)

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """A snapshot of the account."""
        return await self._monitored(RequestKind.READING, self._broker.snapshot(since))

    find = _asks(abilities.ORDER_LOOKUP)
    open_orders = _asks(abilities.OPEN_ORDERS)
    instruments = _asks(abilities.INSTRUMENTS)
    prices = _asks(abilities.PRICES, monitored=False)
    maintenance = _asks(abilities.MAINTENANCE, monitored=False)
    hours = _asks(abilities.HOURS, monitored=False)

    @property
    def clock_ahead_s(self) -> Sequence[float]:
        """How far this machine's clock was ahead at the latest responses."""
        return offered(abilities.SERVER_TIME, self._broker).clock_ahead_s

    async def close(self) -> None:
        """Log out."""
        await self._broker.close()

    async def _monitored(self, request: RequestKind, response: Awaitable[Answer]) -> Answer:
        started_at = self._clock.now()
        try:
            answer = await response
        except Withdrawn:  # nothing was sent
            raise
        except Rejected:
            self._circuit.record_answer(request, self._clock.now())
            raise
        except BrokerError:
            self._circuit.record_failure(request, started_at)
            raise
        self._circuit.record_answer(request, self._clock.now())
        return answer
