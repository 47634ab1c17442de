"""A broker whose every answer, and every silence, is told to the circuit of the way to it."""

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

Said = TypeVar("Said")


class MonitoredBroker:
    """A `contracts.Broker` that is listened to; a break begins when a request was made, not when its time was over.

    What says nothing of the way is asked of the `broker` itself.
    """

    def __init__(self, broker: Broker, circuit: CircuitBreaker, clock: Clock) -> None:
        self.broker = self._broker = broker
        self._circuit = circuit
        self._clock = clock

    @property
    def rules(self) -> BrokerCapabilities:
        """What the venue can do."""
        return self._broker.rules

    async def connect(self) -> Account:
        """Log in."""
        return await self._asked(RequestKind.READING, self._broker.connect())

    async def account(self) -> Account:
        """Cash, equity and buying power now."""
        return await self._asked(RequestKind.READING, self._broker.account())

    async def submit(self, order: Order, permit: Permit) -> None:
        """Hand an order over."""
        await self._asked(RequestKind.TRADE, self._broker.submit(order, permit))

    async def cancel(self, client_order_id: str) -> None:
        """Ask for a cancel."""
        await self._asked(RequestKind.TRADE, self._broker.cancel(client_order_id))

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Change a resting order."""
        await self._asked(RequestKind.TRADE, self._broker.replace(client_order_id, order))

    async def poll(self) -> Sequence[BrokerEvent]:
        """Everything that happened since the last call."""
        return await self._asked(RequestKind.STREAM, self._broker.poll())

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """Everything at the account."""
        return await self._asked(RequestKind.READING, self._broker.snapshot(since))

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """One order, where the broker can be asked for it."""
        if not isinstance(self._broker, SupportsOrderLookup):
            raise Unavailable("The broker does not support order lookup by client order id.")
        return await self._asked(RequestKind.READING, self._broker.find(client_order_id))

    def meaning(self, words: str) -> RejectionMeaning | None:
        """What a refusal means, where the broker says it."""
        return self._broker.meaning(words) if isinstance(self._broker, SupportsRejectionMeaning) else None

    @property
    def has_prices(self) -> bool:
        """Whether the broker says what symbols trade at."""
        return isinstance(self._broker, SupportsPrices)

    async def prices(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """What symbols trade at, where the broker says it; that it does not says nothing of the way to the account."""
        if not isinstance(self._broker, SupportsPrices):
            raise Unavailable("The broker does not report prices.")
        return await self._broker.prices(symbols)

    async def instrument(self, symbol: str) -> Instrument:
        """What may be traded of an instrument now, where the broker says it."""
        if not isinstance(self._broker, SupportsInstrumentInfo):
            raise Unavailable("The broker does not report instrument rules.")
        return await self._asked(RequestKind.READING, self._broker.instrument(symbol))

    async def close(self) -> None:
        """Log out."""
        await self._broker.close()

    async def _asked(self, request: RequestKind, asked: Awaitable[Said]) -> Said:
        began = self._clock.now()
        try:
            answer = await asked
        except Withdrawn:  # nothing has left, so nothing is known of the way
            raise
        except Rejected:
            self._circuit.record_answer(request, self._clock.now())
            raise
        except BrokerError:
            self._circuit.record_failure(request, began)
            raise
        self._circuit.record_answer(request, self._clock.now())
        return answer
