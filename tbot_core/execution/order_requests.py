"""Cancels and replaces of working orders: one is repeated after 3 s without an answer, none for an unknown order."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from tbot_core.contracts import BrokerEvent, BrokerEventKind
from tbot_core.errors import BrokerError, Rejected, RejectionMeaning
from tbot_core.execution.open_requests import run_concurrently
from tbot_core.system import log
from tbot_core.trading.order_lookup import UNANSWERED_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from decimal import Decimal

    from tbot_core.execution.broker_account import BrokerAccount
    from tbot_core.execution.broker_requests import BrokerRequests
    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.trading.account_book import Ticket

_MAX_CONCURRENT: Final = 10
_log = log.logger(__name__)


class WorkingOrders(Protocol):
    """The orders of one account."""

    recorder: JournalRecorder
    venue: BrokerAccount
    tickets: dict[str, Ticket]

    def apply_events(self, events: Sequence[BrokerEvent]) -> None:
        """Journal events, then apply them."""


class OrderRequests:
    """The requests for working orders of one broker.

    An order that the broker reported as unknown is only looked up: a cancel is withheld, or repeated, when a source
    knows the order.
    """

    def __init__(self, execution: WorkingOrders, requests: BrokerRequests) -> None:
        self._execution = execution
        self._requests = requests
        self._count = 0

    async def cancel(self, cids: Sequence[str]) -> None:
        """Request cancels concurrently, so that they do not wait for each other's answers."""
        turn = asyncio.Semaphore(_MAX_CONCURRENT)

        async def one(cid: str) -> None:
            async with turn:
                cancel = partial(self._execution.venue.broker.cancel, cid)
                request = partial(self._requests.with_retries, "cancel", cancel, cid, within_s=UNANSWERED_S)
                await self._request("cancel", cid, request)

        tickets = self._execution.tickets
        for cid in cids:
            tickets[cid].cancel_withheld |= tickets[cid].unknown_to_broker
        await run_concurrently([partial(one, cid) for cid in cids if not tickets[cid].unknown_to_broker])

    @property
    def has_found(self) -> bool:
        """Whether the broker knows an order by now whose cancel was withheld; a simulated one knows every order."""
        if self._execution.venue.broker.capabilities.simulated:
            return False
        return any(ticket.is_found for ticket in self._execution.tickets.values())

    async def cancel_found(self) -> None:
        """Cancel the orders that are found."""
        found = {cid: ticket for cid, ticket in self._execution.tickets.items() if ticket.is_found}
        for ticket in found.values():
            ticket.cancel_withheld = False
        await self.cancel([cid for cid in sorted(found) if not found[cid].terminal])

    async def replace(self, client_order_id: str, stop_price: Decimal | None) -> None:
        """Request another stop price of an order."""
        moved = attrs.evolve(self._execution.tickets[client_order_id].order, stop_price=stop_price)
        replace = self._execution.venue.broker.replace
        await self._request("replace", client_order_id, partial(replace, client_order_id, moved))

    async def _request(self, what: str, cid: str, call: Callable[[], Awaitable[None]]) -> None:
        # A request for a resting order; a failure does not stop other requests. One is repeated when it has not been
        # answered in time.
        now, ticket = self._execution.recorder.clock.monotonic(), self._execution.tickets[cid]
        if now - ticket.requested.get(what, -math.inf) < UNANSWERED_S:
            return
        ticket.requested[what] = now
        try:
            await call()
        except Rejected as refusal:
            self._count += 1
            unknown = refusal.meaning is RejectionMeaning.UNKNOWN_ORDER
            event = BrokerEvent(
                kind=BrokerEventKind.NOT_FOUND if unknown else BrokerEventKind.CANCEL_REFUSED,
                event_id=f"refused-{cid}-{self._count}",
                client_order_id=cid,
                words=refusal.message,
                meaning=refusal.meaning,
            )
            self._execution.apply_events([event])
        except BrokerError as fault:
            # The order stays as it was; the caller requests it again.
            _log.warning("request.unanswered", id=cid, reason=fault.message)
            ticket.must_look_up = True  # it may not rest any more
        finally:
            if ticket.requested.get(what) == now:
                del ticket.requested[what]
