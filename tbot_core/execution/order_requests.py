"""Cancels and replaces of working orders: one is repeated after 3 s without an answer, none for an unknown order."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast

import attrs

from tbot_core.contracts import BrokerEvent, BrokerEventKind
from tbot_core.errors import BrokerError, Rejected, RejectionMeaning
from tbot_core.execution.order_lookup import UNANSWERED_S
from tbot_core.execution.throttling import run_concurrently
from tbot_core.system import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from decimal import Decimal

    from tbot_core.contracts import SupportsReplace
    from tbot_core.execution.broker_account import BrokerAccount
    from tbot_core.execution.broker_requests import BrokerRequests
    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.trading.orders import OrderRecord

_MAX_CONCURRENT: Final = 10
_log = log.logger(__name__)


class WorkingOrders(Protocol):
    """The orders of one account; `lookups` has those that must be looked up."""

    recorder: JournalRecorder
    venue: BrokerAccount
    orders: dict[str, OrderRecord]
    lookups: dict[str, None]

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
        self._pending: dict[tuple[str, str], float] = {}
        self._unknown: set[str] = set()
        self._withheld: set[str] = set()

    def on_event(self, kind: BrokerEventKind | str, client_order_id: str) -> None:
        """Apply that the broker reported something about an order: it knows it, or it does not."""
        if kind == BrokerEventKind.NOT_FOUND:
            self._unknown.add(client_order_id)
            if ("cancel", client_order_id) in self._pending:
                self._withheld.add(client_order_id)
        else:
            self._unknown.discard(client_order_id)

    async def cancel(self, cids: Sequence[str]) -> None:
        """Request cancels concurrently, so that they do not wait for each other's answers."""
        turn = asyncio.Semaphore(_MAX_CONCURRENT)

        async def one(cid: str) -> None:
            async with turn:
                cancel = partial(self._execution.venue.broker.cancel, cid)
                request = partial(self._requests.with_retries, "cancel", cancel, cid, within_s=UNANSWERED_S)
                await self._request("cancel", cid, request)

        self._withheld.update(self._unknown.intersection(cids))
        await run_concurrently([partial(one, cid) for cid in cids if cid not in self._unknown])

    @property
    def found(self) -> set[str]:
        """The orders whose cancel was withheld, and that the broker knows by now."""
        return self._withheld - self._unknown

    async def cancel_found(self) -> None:
        """Cancel the orders that are found."""
        found = self.found
        self._withheld -= found
        await self.cancel([cid for cid in sorted(found) if not self._execution.orders[cid].terminal])

    async def replace(self, client_order_id: str, stop_price: Decimal | None) -> None:
        """Request another stop price of an order."""
        moved = attrs.evolve(self._execution.orders[client_order_id].order, stop_price=stop_price)
        replace = cast("SupportsReplace", self._execution.venue.broker).replace
        await self._request("replace", client_order_id, partial(replace, client_order_id, moved))

    async def _request(self, what: str, cid: str, call: Callable[[], Awaitable[None]]) -> None:
        # A request for a resting order; a failure does not stop other requests. One is repeated when it has not been
        # answered in time.
        now = self._execution.recorder.clock.monotonic()
        if now - self._pending.get((what, cid), -math.inf) < UNANSWERED_S:
            return
        self._pending[what, cid] = now
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
            self._execution.lookups[cid] = None  # it may not rest any more
        finally:
            if self._pending.get((what, cid)) == now:
                del self._pending[what, cid]
