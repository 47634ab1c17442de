"""A broker client of a venue in another process (`VenueServer`), in virtual or real time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.errors import BrokerError, Unavailable
from tbot_core.rehearsal.serialization import dump_line, load_line

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from tbot_core.contracts import AccountSnapshot, BrokerCapabilities, BrokerEvent, OrderStatusReport, Permit
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Account, Order
    from tbot_core.rehearsal.venue_server import Connection


class RemoteBroker:
    """A client of a venue over a connection.

    The venue answers each message at once with the results so far, and the second at which more may be ready. The
    client waits in its own loop until then, so that many requests can be pending.
    """

    def __init__(self, connection: Connection, clock: Clock) -> None:
        """Connect to the venue; raises Unavailable without an answer."""
        self._connection = connection
        self._clock = clock
        self._offset = 0.0
        self._count = 0
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._wake: asyncio.TimerHandle | None = None
        self._capabilities: BrokerCapabilities
        reported, start = self._exchange("hello")
        self._capabilities = attrs.evolve(reported, server_time=False, instruments=False)
        self._offset = clock.monotonic() - (clock.now() - start).total_seconds()

    @property
    def capabilities(self) -> BrokerCapabilities:
        """The venue's capabilities, without those that the connection does not serve."""
        return self._capabilities

    async def connect(self) -> Account:
        """Log in."""
        account: Account = await self._ask("connect")
        return account

    async def account(self) -> Account:
        """Current cash, equity and buying power."""
        account: Account = await self._ask("account")
        return account

    async def submit(self, order: Order, permit: Permit) -> None:
        """Submit an order."""
        permit.redeem()
        await self._ask("submit", order)

    async def cancel(self, client_order_id: str) -> None:
        """Request a cancel."""
        await self._ask("cancel", client_order_id)

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Change a resting order."""
        await self._ask("replace", client_order_id, order)

    async def poll(self) -> Sequence[BrokerEvent]:
        """The events since the last call."""
        events: Sequence[BrokerEvent] = await self._ask("poll")
        return events

    async def snapshot(self, since: dt.datetime) -> AccountSnapshot:
        """A snapshot of the account, with the orders closed since then."""
        snapshot: AccountSnapshot = await self._ask("snapshot", since)
        return snapshot

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """Look up an order; None if the venue does not list it."""
        report: OrderStatusReport | None = await self._ask("find", client_order_id)
        return report

    async def close(self) -> None:
        """Log out; resting orders stay."""
        await self._ask("close")

    async def _ask(self, what: str, *parts: object) -> Any:
        self._count += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open[self._count] = answer
        self._exchange_answers(what, parts)
        answer_value = await answer
        if isinstance(answer_value, BrokerError):
            raise answer_value
        return answer_value

    def _exchange_answers(self, what: str = "", parts: tuple[object, ...] = ()) -> None:
        # Send the time and perhaps a request, process the results, and repeat when more may be ready.
        answers, next_at = self._exchange(what, parts)
        for number, answer_value in answers:
            waiting = self._open.pop(number)
            if not waiting.done():  # the caller may have gone
                waiting.set_result(answer_value)
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if next_at is not None:
            self._wake = asyncio.get_running_loop().call_later(max(next_at - self._second, 0.0), self._exchange_answers)

    @property
    def _second(self) -> float:
        return self._clock.monotonic() - self._offset

    def _exchange(self, what: str, parts: tuple[object, ...] = ()) -> Any:
        self._connection.send(dump_line((self._second, self._count, what, parts)))
        line = self._connection.receive()
        if line is None:
            raise Unavailable("The venue has hung up.", "Start it again.")
        return load_line(line)
