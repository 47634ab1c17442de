"""A broker whose venue is in another process: the client of a `VenueServer`, in virtual or real time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

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
    """The account at a venue beyond a connection.

    The venue answers each message at once with what has been answered by then, and names the second at which more may
    be; until then the client waits by its own loop, so that many requests are under way at a time.
    """

    def __init__(self, connection: Connection, clock: Clock) -> None:
        """Say hello; raises Unavailable where nobody answers."""
        self._connection = connection
        self._clock = clock
        self._offset = 0.0
        self._count = 0
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._wake: asyncio.TimerHandle | None = None
        self._rules: BrokerCapabilities
        self._rules, start = self._exchange("hello")
        self._offset = clock.monotonic() - (clock.now() - start).total_seconds()

    @property
    def rules(self) -> BrokerCapabilities:
        """What the venue can do."""
        return self._rules

    async def connect(self) -> Account:
        """Log in."""
        account: Account = await self._ask("connect")
        return account

    async def account(self) -> Account:
        """Cash, equity and buying power now."""
        account: Account = await self._ask("account")
        return account

    async def submit(self, order: Order, permit: Permit) -> None:
        """Hand an order over."""
        permit.redeem()
        await self._ask("submit", order)

    async def cancel(self, client_order_id: str) -> None:
        """Ask for a cancel."""
        await self._ask("cancel", client_order_id)

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Change a resting order."""
        await self._ask("replace", client_order_id, order)

    async def poll(self) -> Sequence[BrokerEvent]:
        """Everything that happened since the last call."""
        events: Sequence[BrokerEvent] = await self._ask("poll")
        return events

    async def snapshot(self, since: dt.datetime) -> AccountSnapshot:
        """Everything at the account, with the orders that were closed since."""
        snapshot: AccountSnapshot = await self._ask("snapshot", since)
        return snapshot

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """The order, None where the venue does not list it."""
        report: OrderStatusReport | None = await self._ask("find", client_order_id)
        return report

    async def close(self) -> None:
        """Log out; resting orders stay."""
        await self._ask("close")

    async def _ask(self, what: str, *parts: object) -> Any:
        self._count += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._open[self._count] = answer
        self._look(what, parts)
        said = await answer
        if isinstance(said, BrokerError):
            raise said
        return said

    def _look(self, what: str = "", parts: tuple[object, ...] = ()) -> None:
        # Bring the time along and perhaps a question; take what was answered, and look again when more may be.
        answers, next_at = self._exchange(what, parts)
        for number, said in answers:
            waiting = self._open.pop(number)
            if not waiting.done():  # whoever asked may have gone
                waiting.set_result(said)
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if next_at is not None:
            self._wake = asyncio.get_running_loop().call_later(max(next_at - self._second, 0.0), self._look)

    @property
    def _second(self) -> float:
        return self._clock.monotonic() - self._offset

    def _exchange(self, what: str, parts: tuple[object, ...] = ()) -> Any:
        self._connection.send(dump_line((self._second, self._count, what, parts)))
        line = self._connection.receive()
        if line is None:
            raise Unavailable("The venue has hung up.", "Start it again.")
        return load_line(line)
