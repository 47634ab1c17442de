"""Requests to a broker: repeated where they may be, one at a time for an order, and waited for as long as is right."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import attrs

from tbot_core.contracts import BrokerEvent, BrokerEventKind
from tbot_core.errors import BrokerError, Rejected, RejectionMeaning
from tbot_core.journal.events.orders import RequestFailed
from tbot_core.system import log
from tbot_core.trading.order_lookup import UNANSWERED_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from decimal import Decimal

    from tbot_core.execution.broker_account import BrokerAccount
    from tbot_core.journal.store import JournalRecorder
    from tbot_core.trading.account_book import Ticket
    from tbot_core.trading.risk.exposure import ExposureBook

Answer = TypeVar("Answer")


class BrokerRequests:
    """Repeats requests to one broker as its retry policy allows, and reports the results of readings."""

    def __init__(self, recorder: JournalRecorder, venue: Callable[[], BrokerAccount], exposure: ExposureBook) -> None:
        self._recorder = recorder
        self._venue = venue
        self._exposure = exposure
        self._unresponsive = False

    async def read(self, what: str, call: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """The broker's answer; None if there is none: then entries are blocked."""
        try:
            answer = await self.with_retries(what, call)
        except BrokerError as fault:
            self._report(fault.message)
            return None
        self._report("")
        return answer

    async def with_retries(
        self, what: str, call: Callable[[], Awaitable[Answer]], cid: str | None = None, *, within_s: float = math.inf
    ) -> Answer:
        """Repeat a request as the retry policy allows; each failure is journaled, the last one raised.

        No attempt begins after `within_s`. After the policy's last one the broker gets one attempt per request, and
        failures are not journaled, until it answers.
        """
        until = self._recorder.clock.monotonic() + within_s
        waits = iter(()) if self._unresponsive else self._venue().retry_policy.delays()
        while True:
            try:
                answer = await call()
            except Rejected:
                raise
            except BrokerError as fault:
                if not self._unresponsive:
                    self._recorder.write(self._recorder.entry(RequestFailed(asked=what, words=fault.message), cid))
                wait = next(waits, None)
                self._unresponsive = wait is None
                if wait is None or self._recorder.clock.monotonic() + wait >= until:
                    raise
            else:
                self._unresponsive = False
                return answer
            await self._venue().retry_policy.sleep(wait)

    def _report(self, fault: str) -> None:
        on_read_result = self._venue().on_read_result
        if on_read_result is not None:
            on_read_result(fault)
        elif fault:
            self._exposure.mark_account_unknown(self._venue().retry_policy.retries)


class OpenRequests:
    """The order requests of one broker; one without an answer holds up no other.

    It is not cancelled, since its order may still be booked: it ends with its own time-out.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None

    async def wait_for(self, request: Coroutine[Any, Any, None]) -> None:
        """Begin a request, and wait for its end for at most `UNANSWERED_S`; raises what it raises until then."""
        task = asyncio.ensure_future(request)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        try:
            await asyncio.wait({task}, timeout=UNANSWERED_S)
        finally:
            if not task.done():
                self._late.add(task)
        if task.done():
            task.result()

    def raise_fault(self) -> None:
        """Raise the failure of a request that ended after its caller had gone on."""
        if self._fault is not None:
            raise self._fault

    async def finish(self, timeout_s: float) -> None:
        """Wait for the end of the requests."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        self.raise_fault()

    def cancel(self) -> None:
        """Cancel the requests: the process ends."""
        for task in self._tasks:
            task.cancel()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task in self._late:
            self._late.discard(task)
            self._fault = self._fault or (None if task.cancelled() else task.exception())


async def run_concurrently(calls: Sequence[Callable[[], Coroutine[Any, Any, object]]]) -> None:
    """Run all calls concurrently; the first exception is raised when all have ended."""
    if not calls:
        return
    if len(calls) == 1:
        await calls[0]()
        return
    for outcome in await asyncio.gather(*(call() for call in calls), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


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
