"""Acme Securities over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_broker_acme import parse
from tbot_core.contracts import (
    AccountSnapshot,
    BrokerCapabilities,
    BrokerEvent,
    Context,
    HttpClient,
    HttpResponse,
    OrderStatusReport,
    Permit,
)
from tbot_core.errors import Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tbot_core.model.types import Account, Order

CAPABILITIES: Final = BrokerCapabilities(
    amend_atomic=True, query_by_cid=True, lists_closed=True, exec_ids_unique=True, cid_length=64
)


class AcmeBroker:
    """An account at Acme Securities."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._client: HttpClient | None = None
        self._seen = 0

    @property
    def rules(self) -> BrokerCapabilities:
        """What Acme can do."""
        return CAPABILITIES

    async def connect(self) -> Account:
        """Log in: the key goes with every request."""
        return await self.account()

    async def account(self) -> Account:
        """Cash, equity and buying power."""
        return parse.account((await self._http.get("/account")).json())

    async def submit(self, order: Order, permit: Permit) -> None:
        """Place an order; Acme's answer is the event `accepted`."""
        await self._http.send("POST", "/orders", json=parse.request(order), permit=permit)

    async def cancel(self, client_order_id: str) -> None:
        """Request a cancel."""
        await self._http.send("DELETE", f"/orders/{client_order_id}")

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Change a working order in place."""
        await self._http.send("PUT", f"/orders/{client_order_id}", json=parse.request(order))

    async def poll(self) -> Sequence[BrokerEvent]:
        """The events since the last call."""
        documents = (await self._http.get("/events", {"after": str(self._seen)})).json()
        events = [parse.event(document) for document in documents]
        self._seen = max([self._seen, *(int(document["sequence"]) for document in documents)])
        return events

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """The whole account; Acme lists orders page by page."""
        holdings = [parse.position(one) for one in (await self._http.get("/positions")).json()]
        pages = self._http.pages("/orders", {"from": since.isoformat()}, following=_following)
        orders = [parse.order(one) async for page in pages for one in page.json()["orders"]]
        return AccountSnapshot(account=await self.account(), holdings=tuple(holdings), orders=tuple(orders))

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """One order by our id; None where Acme does not know it."""
        try:
            return parse.order((await self._http.get(f"/orders/{client_order_id}")).json())
        except Rejected:
            return None

    async def close(self) -> None:
        """Close the connections; working orders stay."""
        await self._context.connect.close()

    @property
    def _http(self) -> HttpClient:
        # Made at the first request, since a trial of the plugin has no secrets.
        if self._client is None:
            key = self._context.secrets["broker"].api_key
            self._client = self._context.connect.http("api", headers={"X-Acme-Key": key}, rejection=parse.rejection)
        return self._client


def _following(page: HttpResponse) -> dict[str, str] | None:
    token = page.json()["next"]
    return {"page": token} if token else None
