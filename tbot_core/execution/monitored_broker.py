"""A broker wrapper that reports every answer and failure to the circuit breaker."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tbot_core.contracts import SupportsInstrumentInfo, SupportsOrderLookup, SupportsPrices, SupportsRejectionMeaning
from tbot_core.errors import BrokerError, Rejected, Unavailable, Withdrawn
from tbot_core.execution.circuit_breaker import CircuitBreaker, RequestKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence
    from datetime import datetime

    from tbot_core.contracts import (
        AccountSnapshot,
        Broker,
        BrokerCapabilities,
        BrokerEvent,
        Instrument,
        OrderStatusReport,
        Permit,
        RejectionMeaning,
    )
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Account, Order

Answer = TypeVar("Answer")


class MonitoredBroker:
    """Wraps a `contracts.Broker`; a failure counts from the start of its request, not from its time-out.

    Calls that need no connection go to `broker` directly.
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
        await self._monitored(RequestKind.TRADE, self._broker.replace(client_order_id, order))

    async def poll(self) -> Sequence[BrokerEvent]:
        """The events since the last call."""
        return await self._monitored(RequestKind.STREAM, self._broker.poll())

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """A snapshot of the account."""
        return await self._monitored(RequestKind.READING, self._broker.snapshot(since))

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """Look up one order; raises Unavailable if the broker does not support it."""
        if not isinstance(self._broker, SupportsOrderLookup):
            raise Unavailable("The broker does not support order lookup by client order id.")
        return await self._monitored(RequestKind.READING, self._broker.find(client_order_id))

    def meaning(self, words: str) -> RejectionMeaning | None:
        """The meaning of a rejection, if the broker supports it."""
        return self._broker.meaning(words) if isinstance(self._broker, SupportsRejectionMeaning) else None

    @property
    def has_prices(self) -> bool:
        """Whether the broker reports prices."""
        return isinstance(self._broker, SupportsPrices)

    async def prices(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """Current prices of symbols; not monitored, since prices may have another connection than the account."""
        if not isinstance(self._broker, SupportsPrices):
            raise Unavailable("The broker does not report prices.")
        return await self._broker.prices(symbols)

    async def instrument(self, symbol: str) -> Instrument:
        """The current rules of an instrument; raises Unavailable if the broker does not report them."""
        if not isinstance(self._broker, SupportsInstrumentInfo):
            raise Unavailable("The broker does not report instrument rules.")
        return await self._monitored(RequestKind.READING, self._broker.instrument(symbol))

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
