"""An account at Alpaca: orders, trade updates, positions and assets."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tbot_broker_alpaca import parse
from tbot_broker_alpaca.assets import AlpacaAssets
from tbot_broker_alpaca.client import AlpacaClient
from tbot_broker_alpaca.feed import AlpacaFeed, MarketData
from tbot_broker_alpaca.options import AlpacaOptions
from tbot_broker_alpaca.order_ids import Executions, OrderIds
from tbot_broker_alpaca.rejections import UnknownOrder
from tbot_core.contracts import AccountSnapshot, BrokerCapabilities, Gap, ReplaceMode
from tbot_core.errors import AccountRefused, BrokerError, LoginNeeded, Rejected, RejectionMeaning, Unavailable
from tbot_core.model.option_symbols import is_occ_symbol
from tbot_core.model.types import OrderType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from tbot_broker_alpaca import Config
    from tbot_core.contracts import (
        BrokerEvent,
        Context,
        Feed,
        FeedRequest,
        OrderStatusReport,
        Permit,
    )
    from tbot_core.model.types import Account, Order

_FRACTION: Final = Decimal("0.000001")
_CENT: Final = Decimal("0.01")
_COLLAR: Final = Decimal("0.025")
_ADDRESS: Final = (
    "There is no account at this address: HOST_ALPACA_PAPER is a server without a path, since /v2 belongs to the "
    "plugin's paths, as in http://127.0.0.1:4010."
)


class AlpacaBroker:
    """An account at Alpaca; assets, hours, prices, options and the VIX are read by others."""

    def __init__(self, config: Config, context: Context) -> None:
        self._client = AlpacaClient(context)
        self._market = MarketData(self._client, context.clock, config.data_feed, context.log)
        self._ids, self._executions = OrderIds(), Executions()
        self._log = context.log
        self._unreadable: dict[str, str] = {}  # in the last reading, so that each reason is logged once
        self._assets = AlpacaAssets(self._client, context.clock)
        self.instruments, self.hours = self._assets.instruments, self._assets.hours
        self.prices, self.vix_close, self.vix_now = self._market.prices, self._market.vix_close, self._market.vix_now
        options = AlpacaOptions(self._client, context.clock, context.log)
        self.option_contracts, self.option_quotes = options.option_contracts, options.option_quotes
        self.capabilities = BrokerCapabilities(
            streams=True,
            replace=ReplaceMode.NEW_ID,
            query_by_cid=True,
            confirms_submit=True,
            unique_client_order_id=True,
            lists_open=True,
            lists_closed=True,
            exec_ids_unique=True,
            quantity_step=_FRACTION,
            fractional_types=frozenset({OrderType.MARKET}),
            cid_length=64,
            both_sides=False,
            buy_stop_collar=_COLLAR,
            instruments=True,
            hours=True,
            server_time=True,
            prices=True,
            daily_vix=True,
            live_vix=True,
            option_contracts=True,
            option_quotes=True,
            feed=True,
        )

    async def connect(self) -> Account:
        """Read the account; the key goes with every request."""
        return await self.account()

    async def account(self) -> Account:
        """Cash, equity and buying power."""
        try:
            document = (await self._client.get("/v2/account")).json()
        except LoginNeeded:
            raise
        except Rejected as fault:
            fault.message, fault.remedy = f"{fault.message.rstrip('.')}.", _ADDRESS
            raise
        with parse.readable("account"):
            account = parse.account(document, self._client.mode)
        wanted = self._client.wanted_account
        if wanted and wanted not in {account.account_id, document.get("id")}:
            raise AccountRefused(
                f"alpaca: the key is that of account {account.account_id}, not of {wanted}.",
                "Correct account_id in the broker's section, or use the key of that account: tbot secrets set broker",
            )
        return account

    async def submit(self, order: Order, permit: Permit) -> None:
        """Place an order; trade updates report what becomes of it."""
        if is_occ_symbol(order.symbol):
            _assert_option_terms(order)
        elif order.quantity % 1 and order.type not in self.capabilities.fractional_types:
            raise Rejected(
                f"Alpaca takes no {order.type} order of {order.quantity} shares: whole shares only.",
                meaning=RejectionMeaning.OFF_GRID,
            )
        response = await self._client.send("POST", "/v2/orders", parse.request(order), permit)
        self._note(response.json())

    async def cancel(self, client_order_id: str) -> None:
        """Request a cancel of the order that works."""
        try:
            await self._client.send("DELETE", f"/v2/orders/{await self._latest(client_order_id)}")
        except Rejected:
            self._ids.forget(client_order_id)  # another one may have replaced it meanwhile
            raise

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Put an order with these prices in the place of the one that works; a part that has filled forbids it.

        Alpaca does not say whether the quantity of the new order includes what the old one filled.
        """
        if is_occ_symbol(order.symbol):
            _assert_option_terms(order)
        latest = await self._latest(client_order_id)
        if self._ids.has_filled(client_order_id):
            raise Rejected(f"Order {client_order_id} is filled in part: it is cancelled and placed anew, not replaced.")
        document = parse.replacement(order, self._ids.next_name(client_order_id))
        try:
            response = await self._client.send("PATCH", f"/v2/orders/{latest}", document)
        except BrokerError:
            self._ids.forget(client_order_id)
            raise
        self._note(response.json())

    async def events(self) -> AsyncIterator[BrokerEvent | Gap]:
        """The trade updates of one connection."""
        async with self._client.trade_updates() as socket:
            yield Gap(words="trade updates of Alpaca")
            while True:
                for message in parse.messages(await socket.receive()):
                    if message.get("stream") == "trade_updates" and (event := self._event(message)) is not None:
                        yield event

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """The whole account: account, positions, orders and payments; open orders of any age."""
        account = await self.account()
        positions = (await self._client.get("/v2/positions")).json()
        rows = [order async for order in self._orders({"status": "open"})]
        rows += [order async for order in self._orders({"status": "closed", "after": parse.stamp(since)})]
        payments = [payment async for payment in self._payments(since)]
        with parse.readable("positions"):
            holdings = tuple(parse.position(position) for position in positions)
        with parse.readable("orders"):
            orders, unreadable = parse.orders(rows)
        for row in rows:
            self._note(row)
        for name, reason in unreadable.items():
            if self._unreadable.get(name) != reason:
                self._log.warning("order.unreadable", id=name, reason=reason)
        self._unreadable = unreadable
        with parse.readable("activities"):
            activities = tuple(found for payment in payments if (found := parse.activity(payment)) is not None)
        return AccountSnapshot(
            account=account, holdings=holdings, orders=orders, activities=activities, unreadable=unreadable
        )

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """One order, with those that replaced it; None only where Alpaca says that it knows none."""
        try:
            first = (
                await self._client.get("/v2/orders:by_client_order_id", {"client_order_id": client_order_id})
            ).json()
        except UnknownOrder:
            return None
        rows = [first]
        with parse.readable("order"):
            if first.get("replaced_by"):
                rows += await self._successors(first)
            for row in rows:
                self._ids.note(row)
            reports, unreadable = parse.orders(rows)
            if unreadable:
                raise ValueError(*unreadable.values())
            return {report.client_order_id: report for report in reports}[client_order_id]

    async def open_orders(self) -> Sequence[OrderStatusReport]:
        """The orders that work and can be read; of one that another replaced only the latest part counts."""
        rows = [order async for order in self._orders({"status": "open"})]
        with parse.readable("orders"):
            return parse.orders(rows)[0]

    @property
    def clock_ahead_s(self) -> Sequence[float]:
        """How far this machine's clock was ahead at the latest answers of the trading host."""
        return tuple(self._client.clock_ahead_s)

    def feed(self, request: FeedRequest) -> Feed:
        """Alpaca's bars."""
        return AlpacaFeed(self._market, self._assets.active, request)

    async def close(self) -> None:
        """Close the connections; working orders stay."""
        await self._client.close()

    async def _latest(self, client_order_id: str) -> str:
        # Alpaca's id of the order that works.
        known = self._ids.latest(client_order_id)
        if known is None:
            report = await self.find(client_order_id)
            if report is None:
                raise UnknownOrder(f"Alpaca knows no order {client_order_id}.")
            known = report.broker_order_id
        return known

    async def _successors(self, first: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        # The orders of its symbol from then on, of which those count that follow in the chain. Of options all are asked
        # for: the vendor's file says that symbols may be those of underlyings then.
        since = parse.moment(first["created_at"]) - timedelta(seconds=1)
        is_option = first.get("asset_class") == parse.OPTION
        named = {"asset_class": parse.OPTION} if is_option else {"symbols": first["symbol"]}
        wanted = {"status": "all", **named, "after": parse.stamp(since)}
        rows = {order["id"]: order async for order in self._orders(wanted)}
        latest, chain = first, []
        while latest.get("replaced_by") in rows:
            latest = rows.pop(latest["replaced_by"])
            chain.append(latest)
        return chain

    async def _orders(self, wanted: Mapping[str, str]) -> AsyncIterator[Mapping[str, Any]]:
        # All pages: the first by time, the others by the last order, since two may have one time.
        fixed = {"limit": str(parse.ORDERS_PER_PAGE), "direction": "asc", "nested": "false"}
        rows = (await self._client.get("/v2/orders", {**wanted, **fixed})).json()
        for row in rows:
            yield row
        with parse.readable("orders"):
            cursor = parse.order_cursor(rows)
        if cursor is not None:
            rest = {name: text for name, text in wanted.items() if name != "after"}
            async for page in self._client.pages("/v2/orders", {**rest, **fixed, **cursor}, parse.older_orders):
                yield page

    def _payments(self, since: datetime) -> AsyncIterator[Mapping[str, Any]]:
        wanted = {"category": "non_trade_activity", "direction": "asc", "after": parse.stamp(since)}
        fixed = {"page_size": str(parse.ACTIVITIES_PER_PAGE)}
        return self._client.pages("/v2/account/activities", {**wanted, **fixed}, parse.more_activities)

    def _event(self, message: Mapping[str, Any]) -> BrokerEvent | None:
        with parse.readable("trade update"):
            document = message["data"]
            event = parse.event(document, self._ids.note(document["order"]))
            if event is None or not self._executions.repeats(event, document["order"]):
                return event
        self._log.warning("fill.repeated", id=event.client_order_id, event_id=event.event_id)
        return None

    def _note(self, document: Any) -> None:
        # One that cannot be read is in doubt elsewhere: of an answer it is no reason to say that the order was refused.
        try:
            with parse.readable("order"):
                self._ids.note(document)
        except Unavailable:
            return


def _assert_option_terms(order: Order) -> None:
    # Raises Rejected for an order of an option that tbot does not send there: its prices are wide apart at times, so
    # that only a limit bounds what is paid.
    terms = f"{order.type} order ({order.time_in_force}) of {order.quantity} {order.symbol}"
    if order.type is not OrderType.LIMIT or order.limit_price is None or order.time_in_force != "day":
        raise Rejected(f"No {terms} is sent to Alpaca: options are traded with limits for the day.")
    if order.limit_price <= 0:  # which is a credit there
        raise Rejected(f"No {terms} is sent to Alpaca at {order.limit_price}: the price of an option is above 0.")
    if order.quantity % 1:
        raise Rejected(f"Alpaca takes no {terms}: whole contracts only.", meaning=RejectionMeaning.OFF_GRID)
    if order.limit_price % _CENT:
        words = f"Alpaca takes no {terms} at {order.limit_price}: prices of options are in cents."
        raise Rejected(words, meaning=RejectionMeaning.OFF_GRID)
