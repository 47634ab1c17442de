"""The venue's HTTP side: who may ask, how often, and which answer each path has."""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from decimal import Decimal
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import attrs

from tbot_broker_alpaca.venue import documents, option_expiry
from tbot_broker_alpaca.venue.account import VenueAccount
from tbot_broker_alpaca.venue.faults import Moment, VenueFaults, endpoint_of
from tbot_broker_alpaca.venue.market import VenueMarket
from tbot_broker_alpaca.venue.record import VenueRecord
from tbot_broker_alpaca.venue.streams import VenueStreams
from tbot_broker_alpaca.venue.wire import Refusal, invalid, moment_of, not_found, stamp, whole_of
from tbot_core.testing.scripted_server import ScriptedServer, ServerReply, ServerRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tbot_broker_alpaca.venue.orders import VenueOrder
    from tbot_core.model.clock import Clock

LIMIT: Final = 200
"""Requests a minute, of trading and of market data each, on the basic plan."""

_MOST_ORDERS: Final = 500
_DIRECTIONS: Final = frozenset({"asc", "desc"})
_WORDS: Final = re.compile(r"[a-z_:]+")


class AlpacaServer:
    """The vendor: `server` speaks HTTP and WebSocket, `account` and `market` are what it knows.

    `live`: it plays the live host. `basic`: the plan without consolidated real-time data, and without the feed of the
    option exchanges. `options_level` is that of the account. `maintenance`: each request is answered with 503 and no
    JSON. `before` is called with each request; what it returns is the answer, unless that is None. `row_fails` is the
    order or symbol that a bulk request does not manage. `used` counts the requests of a host in a minute, by their
    kind. `faults` may be planned, and `record` has what a judge of a day is given.
    """

    def __init__(
        self, clock: Clock, *, live: bool = False, basic: bool = True, limit: int = LIMIT, options_level: int = 0
    ) -> None:
        self.server = ScriptedServer(self.serve, self.stream)
        self.streams = VenueStreams(self.server, basic=basic)
        self.market = VenueMarket(clock, live_sip=not basic)
        self.account = VenueAccount(self.market, self._update, live=live)
        self.account.options_level = options_level
        self.record = VenueRecord(self.account)
        self.faults = VenueFaults(self.account, self._send_update)
        self.limit = limit
        self.maintenance = False
        self.before: Callable[[ServerRequest], ServerReply | None] = lambda _request: None
        self.row_fails = ""
        self.used: defaultdict[tuple[str, int], Counter[str]] = defaultdict(Counter)
        self.refused: Counter[str] = Counter()

    async def serve(self, request: ServerRequest) -> ServerReply | None:
        """The answer to a request that has arrived, with the faults that are due; None: the connection is cut."""
        asked_at, late_s = self.market.clock.monotonic(), self.faults.late_s(endpoint_of(request))
        reply = await self.faults.answer(request, lambda given: self.record.execute(given, self.answer))
        self.record.answered(request, reply, asked_at, late_s)
        return reply

    def set_process(self, *, runs: bool) -> None:
        """The client's process has ended, so that nothing arrives or is delivered, or another one has begun."""
        self.faults.down = self.streams.silent = not runs
        self.record.set_process(runs=runs)
        if runs:
            self.faults.begin(Moment.RESTART)

    def answer(self, request: ServerRequest) -> ServerReply:
        """The answer to a request."""
        if self.maintenance:
            return ServerReply(status=503, body=b"<html>503 Service Temporarily Unavailable</html>")
        headers = self._headers(request)
        if (given := self.before(request)) is not None:
            self.refused[f"{given.status} in place of an answer"] += 1
            return attrs.evolve(given, headers={**headers, **given.headers})
        try:
            self._assert_admitted(request, headers)
            found = self._found(request)
        except Refusal as refusal:
            self.refused[f"{refusal.status} {refusal.document.get('message', '')}".split(" (")[0]] += 1
            document = refusal.document or None
            return ServerReply(status=refusal.status, document=document, headers=headers)
        reply = found if isinstance(found, ServerReply) else ServerReply(document=found)
        return ServerReply(status=reply.status, document=reply.document, body=reply.body, headers=headers)

    async def stream(self, connection: Any) -> None:
        """Serve a WebSocket."""
        if self.maintenance:
            await connection.close(1012, "service restart")
            return
        await self.streams.serve(connection)

    def halt(self, symbol: str, *, halted: bool = True) -> None:
        """Halt a symbol, or let it trade again: the data stream has its status."""
        listing = self.market.listings[symbol]
        listing.halted = halted
        self.record.halted(symbol, halted=halted)
        self.streams.publish([self.market.status(listing)])

    def publish_trade(self, symbol: str) -> None:
        """Send the latest trade and quote of a symbol, unless it is halted."""
        listing, head = self.market.listings[symbol], {"S": symbol}
        if not listing.halted:
            trade, quote = self.market.trade(listing), self.market.quote(listing)
            self.record.quoted(self.streams.publish([{"T": "t", **head, **trade}, {"T": "q", **head, **quote}]))

    def revoke(self) -> None:
        """Accept no key any more, and end the open connections."""
        self.streams.revoked = True
        for socket in self.server.sockets:
            socket.transport.abort()

    def summary(self) -> list[str]:
        """What the venue has received and refused, and how near its rate limits were, a line each."""
        orders = self.account.orders
        ended = Counter(order.status for order in orders)
        lines = [f"{len(self.server.requests)} requests; {len(orders)} orders: {_counts(ended)}"]
        lines.append(f"refused requests: {_counts(self.refused)}")
        lines.append(f"refused on streams: {_counts(self.streams.refused)}")
        for host in ("trading", "data"):
            minutes = [kinds for (name, _), kinds in self.used.items() if name == host] or [Counter()]
            most, median = max(minutes, key=Counter.total), statistics.median_low(map(Counter.total, minutes))
            figures = f"at most {most.total()} of {self.limit} requests in one minute, {median} in the median"
            lines.append(f"{host}: {figures}; most: {_counts(most)}")
        return lines

    def _update(self, update: dict[str, Any]) -> None:
        self.faults.send(update)

    def _send_update(self, update: dict[str, Any]) -> None:
        if self.streams.update(update):
            self.record.show(update["order"])

    def _headers(self, request: ServerRequest) -> dict[str, str]:
        # The headers of every answer; the request is counted in its minute.
        now = self.market.clock.now()
        host, minute = _host(request), int(now.timestamp()) // 60
        used = self.used[host, minute]
        used[_kind(request)] += 1
        return {
            "date": format_datetime(now.replace(microsecond=0), usegmt=True),
            "x-request-id": f"{len(self.server.requests):032x}",
            "x-ratelimit-limit": str(self.limit),
            "x-ratelimit-remaining": str(max(self.limit - used.total(), 0)),
            "x-ratelimit-reset": str((minute + 1) * 60),
        }

    def _assert_admitted(self, request: ServerRequest, headers: Mapping[str, str]) -> None:
        given = request.headers
        if not self.streams.accepts(given.get("apca-api-key-id"), given.get("apca-api-secret-key")):
            raise Refusal(401, 40110000, "request is not authorized")
        host, minute = _host(request), int(headers["x-ratelimit-reset"]) // 60 - 1
        if self.used[host, minute].total() > self.limit:
            raise Refusal(429, 42910000, "too many requests.")

    def _found(self, request: ServerRequest) -> object:
        # The document of a request; raises Refusal.
        option_expiry.settle(self.account)
        query, parts = request.query, unquote(request.path).strip("/").split("/")
        account = self.faults.account_for(endpoint_of(request)) if request.method == "GET" else self.account
        match parts:
            case ["v2", "positions", *rest]:
                return self._positions(account, request.method, rest, query)
            case ["v2", "orders" | "orders:by_client_order_id" as what, *rest]:
                return self._orders(account, request, what, rest)
            case ["v2", "account", "activities", *kind]:
                return _activities(account, query, kind)
            case _ if request.method == "GET":
                return documents.reading(account, parts, query)
        raise not_found("endpoint not found")

    def _positions(self, account: VenueAccount, method: str, rest: list[str], query: Mapping[str, str]) -> object:
        held = account.held
        match (method, *rest):
            case ("GET",):
                return [documents.position(account, symbol) for symbol in sorted(held)]
            case ("DELETE",):
                if query.get("cancel_orders", "").lower() == "true":
                    for order in self.account.open_orders:
                        self.account.cancel(order)
                return ServerReply(status=207, document=[self._closed_row(symbol) for symbol in sorted(held)])
            case ("GET" | "DELETE", symbol) if symbol not in held:
                raise not_found("position does not exist")
            case ("GET", symbol):
                return documents.position(account, symbol)
            case ("DELETE", symbol):
                return self._close(symbol, Decimal(query["qty"]) if "qty" in query else abs(held[symbol][0]))
        raise not_found("endpoint not found")

    def _close(self, symbol: str, quantity: Decimal) -> dict[str, Any]:
        side = "sell" if self.account.held[symbol][0] > 0 else "buy"
        terms = {"symbol": symbol, "qty": quantity, "side": side, "type": "market", "time_in_force": "day"}
        return self._arrived(self.account.submit(terms))

    def _closed_row(self, symbol: str) -> dict[str, object]:
        if symbol == self.row_fails:
            return {"symbol": symbol, "status": 500, "body": {"code": 50010000, "message": "internal server error"}}
        try:
            body = self._close(symbol, abs(self.account.held[symbol][0]))
        except Refusal as refusal:
            return {"symbol": symbol, "status": refusal.status, "body": refusal.document}
        return {"symbol": symbol, "status": 200, "body": body}

    def _orders(self, account: VenueAccount, request: ServerRequest, what: str, rest: list[str]) -> object:
        query = request.query
        nested = query.get("nested", "").lower() == "true"
        match (request.method, what, *rest):
            case ("GET", "orders:by_client_order_id"):
                return account.find_by_client_id(query.get("client_order_id", "")).document()
            case ("GET", "orders"):
                return [order.document(nested=nested) for order in _listed(account, query, nested=nested)]
            case ("GET", "orders", order_id):
                return account.find(order_id).document(nested=nested)
            case ("POST", "orders"):
                return self._arrived(account.submit(request.document))
            case ("PATCH", "orders", order_id):
                return self._arrived(account.replace(account.find(order_id), request.document))
            case ("DELETE", "orders", *rest):
                return self._cancelled(rest)
        raise not_found("endpoint not found")

    def _cancelled(self, rest: list[str]) -> ServerReply:
        if not rest:
            return ServerReply(status=207, document=[self._cancelled_row(order) for order in self.account.open_orders])
        self.account.cancel(self.account.find(rest[0]))
        return ServerReply(status=204)

    def _arrived(self, order: VenueOrder) -> dict[str, Any]:
        # The answer shows an order before it works.
        document = order.document()
        self.account.settle()
        return document

    def _cancelled_row(self, order: VenueOrder) -> dict[str, object]:
        if order.id == self.row_fails:
            return {"id": order.id, "status": 500, "body": {"code": 50010000, "message": "internal server error"}}
        try:
            self.account.cancel(order)
        except Refusal as refusal:
            return {"id": order.id, "status": refusal.status, "body": refusal.document}
        return {"id": order.id, "status": 200}


def _listed(account: VenueAccount, query: Mapping[str, str], *, nested: bool) -> list[VenueOrder]:
    # One page of the orders; times of submission bound it, or one order that is not on it.
    places, times = {"after_order_id", "before_order_id"} & {*query}, {"after", "until"} & {*query}
    if len(places) > 1 or (places and times):
        raise invalid(f"{', '.join(sorted(places | times))} are mutually exclusive")
    if query.get("direction", "desc") not in _DIRECTIONS:
        raise invalid(f"invalid direction: {query['direction']}")
    status, known = query.get("status", "open"), account.orders
    opened = {*map(id, account.open_orders)}
    symbols = set(filter(None, query.get("symbols", "").split(",")))
    classes = set(filter(None, query.get("asset_class", "").split(",")))
    orders = [
        order
        for order in known
        if (status == "all" or (id(order) in opened) is (status == "open"))
        and (not symbols or order.symbol in symbols or (classes == {"us_option"} and _underlying(order) in symbols))
        and (not classes or ("us_equity" if order.contract is None else "us_option") in classes)
        and not (nested and order.parent is not None)
        and ("after" not in query or order.at > moment_of(query["after"]))
        and ("until" not in query or order.at < moment_of(query["until"]))
    ]
    if query.get("direction", "desc") == "desc":
        orders.reverse()
    place = {order.id: number for number, order in enumerate(known)}
    for name, after in (("after_order_id", True), ("before_order_id", False)):
        if name in query:
            at = place[account.find(query[name]).id]
            orders = [order for order in orders if (place[order.id] > at if after else place[order.id] < at)]
    return orders[: whole_of(query.get("limit"), 50, _MOST_ORDERS)]


def _underlying(order: VenueOrder) -> str | None:
    return None if order.contract is None else order.contract.underlying


def _activities(account: VenueAccount, query: Mapping[str, str], kind: list[str]) -> list[dict[str, Any]]:
    # One page of the activities; its token is the id of the last one of the page before.
    if query.get("direction", "desc") not in _DIRECTIONS:
        raise invalid(f"invalid direction: {query['direction']}")
    kinds = set(filter(None, (kind[0] if kind else query.get("activity_types", "")).split(",")))
    wanted = {"trade_activity": True, "non_trade_activity": False}.get(query.get("category", ""))
    bounds = {name: stamp(moment_of(query[name])) for name in ("after", "until") if name in query}
    found = [
        activity
        for activity in account.activities
        if (not kinds or activity["activity_type"] in kinds)
        and wanted in {None, activity["activity_type"] == "FILL"}
        and bounds.get("after", "") < _time_of(activity) < bounds.get("until", "9999")
    ]
    if query.get("direction", "desc") == "desc":
        found.reverse()
    ids = [one["id"] for one in found]
    token = query.get("page_token")
    if token is not None and token not in ids:
        raise invalid(f"invalid page_token: {token}")
    first = 0 if token is None else ids.index(token) + 1
    return found[first : first + whole_of(query.get("page_size"), 100, 100)]


def _time_of(activity: Mapping[str, Any]) -> str:
    return str(activity.get("transaction_time") or activity["created_at"])


def _host(request: ServerRequest) -> str:
    return "data" if request.path.startswith(("/v2/stocks", "/v1beta1", "/v1/")) else "trading"


def _kind(request: ServerRequest) -> str:
    # The method and the words of the path, without its version, ids and symbols.
    words = [part for part in request.path.strip("/").split("/")[1:] if _WORDS.fullmatch(part)]
    return f"{request.method} {'/'.join(words)}"


def _counts(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counted.items())) or "none"
