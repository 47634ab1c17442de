"""A server on this machine that plays a vendor: HTTP and WebSocket, with faults that happen when a test says so.

Faults of requests are `ServerFault`, those of WebSockets `SocketFault`::

    async with ScriptedServer(lambda request: ServerReply(document={"id": 1})) as server:
        server.fail(ServerFault.LOST_REPLY, path="/orders")
        broker = Broker(context(server, hosts={"trading": Host("https://api.example.com")}))
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import attrs
import h11
from websockets.asyncio.server import ServerConnection, serve  # seam: the other end of a test's connection
from websockets.exceptions import ConnectionClosed  # seam: the other end of a test's connection

from tbot_core.contracts import Context
from tbot_core.model.clock import Clock, SystemClock
from tbot_core.plugins.network.connector import Connector, RequestBudgets
from tbot_core.plugins.network.request_limits import RetryPolicy
from tbot_core.system import log

if TYPE_CHECKING:
    from types import TracebackType

    from websockets.http11 import Request, Response

    from tbot_core.contracts.permissions import Host

_CHUNK: Final = 65_536
_HERE: Final = "127.0.0.1"


class ServerFault(StrEnum):
    """What happens to a request."""

    LOST_REQUEST = "the connection is closed before the request is processed"
    LOST_REPLY = "the request is processed, then the connection is closed"
    NO_REPLY = "the request is processed, and nothing more comes on its connection"
    TOO_MANY = "429 with Retry-After: 1, not processed"
    SERVER_ERROR = "503, not processed"
    GATEWAY_TIMEOUT = "the request is processed, and answered with 504"
    REDIRECT = "307 with the same address as Location, not processed"
    LOGIN = "401, not processed"
    UNREADABLE = "the request is processed, and half of the answer's JSON comes"
    STALE = "the answer to the previous request of this path and query, else of this path, once more"
    EMPTY = "the request is processed, and the answer has no content"
    MORE_FIELDS = "the request is processed, and each object of the answer has a further field"
    SLOW = "the request is processed, and answered two seconds later"


class SocketFault(StrEnum):
    """What happens to a message that the server sends on a WebSocket, or to the connection."""

    MUTED = "the message is not sent, and the connection stays"
    TWICE = "the message is sent twice"
    OUT_OF_ORDER = "the message is sent after the next one"
    CUT = "half of the message is sent"
    DROPPED = "the connection is cut, as by a machine that goes away"
    HALF_OPEN = "the connection stays open, and nothing passes in either direction any more"
    REFUSED = "a new connection is refused with 429 while another one is open"


LONGEST_TARGET: Final = 8000
"""The longest path with its query that is answered, as with common web servers; a longer one gets the status 414."""

SLOW_S: Final = 2.0
_UNTIL_RECOVERED: Final = 1_000_000_000


@attrs.frozen(kw_only=True)
class ServerRequest:
    """A request as the server received it; the names of headers are lower case, `target` is path and query as sent."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    target: str = ""

    @property
    def document(self) -> Any:
        """The body as JSON, None for an empty one."""
        return json.loads(self.body) if self.body else None  # noqa: TID251  -- what a test's own client sent


@attrs.frozen(kw_only=True)
class ServerReply:
    """An answer: `document` is sent as JSON, `body` as it is."""

    status: int = 200
    document: object = None
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def content(self) -> bytes:
        """The bytes of the body."""
        return self.body if self.document is None else json.dumps(self.document).encode()


Handler: TypeAlias = Callable[[ServerRequest], ServerReply | Awaitable[ServerReply | None] | None]


async def _silent(connection: ServerConnection) -> None:
    await connection.wait_closed()


class ScriptedServer:
    """Serves while it is entered; `requests` are all that arrived, in order, and `sockets` the open WebSockets.

    `handler` answers an HTTP request, at once or as an awaitable; None closes the connection. `on_socket` serves a
    WebSocket until it returns. `refuse_sockets` is the status with which new WebSockets are refused, 0: none is;
    `socket_location` is where they are sent then. `edit` is given a copy of the document of each answer, and returns
    what is sent. A handler sends with `tell`, so that faults apply.
    """

    def __init__(
        self,
        handler: Handler = lambda _request: ServerReply(),
        on_socket: Callable[[ServerConnection], Awaitable[None]] = _silent,
    ) -> None:
        self.requests: list[ServerRequest] = []
        self.sockets: list[ServerConnection] = []
        self.url = self.socket_url = ""
        self.refuse_sockets = 0
        self.socket_location = ""
        self.edit: Callable[[Any], object] | None = None
        self._handler = handler
        self._on_socket = on_socket
        self._faults: list[tuple[ServerFault, str, str, int]] = []
        self._socket_faults: list[tuple[SocketFault, int]] = []
        self._held: list[tuple[ServerConnection, str | bytes]] = []
        self._half_open: list[ServerConnection] = []
        self._last: dict[str, ServerReply] = defaultdict(ServerReply)
        self._busy: set[asyncio.Task[None]] = set()
        self._servers: list[Any] = []

    async def __aenter__(self) -> Self:
        """Listen on two free ports."""
        plain = await asyncio.start_server(self._serve, _HERE, 0)  # seam: the other end of a test's connection
        sockets = await serve(self._serve_socket, _HERE, 0, ping_interval=None, process_request=self._refuse_socket)
        self._servers = [plain, sockets]
        self.url, self.socket_url = (f"http://{_HERE}:{one.sockets[0].getsockname()[1]}" for one in (plain, sockets))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection, and stop listening."""
        for task in self._busy:
            task.cancel()
        self._half_open.clear()  # a handler learns that its connection is closed when it sends
        for socket in self.sockets:
            socket.transport.abort()
        await asyncio.gather(*self._busy, return_exceptions=True)
        for server in self._servers:
            server.close()
            await server.wait_closed()

    def fail(self, fault: ServerFault, *, method: str = "", path: str = "", times: int | None = 1) -> None:
        """Let the next requests fail so, or the next ones of a method, or whose path begins with `path`.

        Faults happen in order. `times` None: until `recover`.
        """
        self._faults.append((fault, method, path, _UNTIL_RECOVERED if times is None else times))

    def fail_sockets(self, fault: SocketFault, *, times: int | None = 1) -> None:
        """Let the next messages, or connections, fail so, in order; `times` None: until `recover`."""
        self._socket_faults.append((fault, _UNTIL_RECOVERED if times is None else times))

    def recover(self) -> None:
        """End all faults that were asked for; connections that are half open stay so."""
        self._faults.clear()
        self._socket_faults.clear()

    async def tell(self, message: object, *, to: ServerConnection | None = None) -> None:
        """Send a message to every open WebSocket, or to one: text and bytes as they are, anything else as JSON.

        A handler's own one that is closed raises ConnectionClosed, which ends the handler.
        """
        sent = message if isinstance(message, str | bytes) else json.dumps(message)
        if to is not None:
            await self._send(to, sent)
            return
        for socket in list(self.sockets):
            with suppress(ConnectionClosed):
                await self._send(socket, sent)

    async def drop_sockets(self) -> None:
        """Close every open WebSocket as a machine that goes away does: without a word."""
        for socket in list(self.sockets):
            socket.transport.abort()
            await socket.wait_closed()

    async def _send(self, connection: ServerConnection, message: str | bytes) -> None:
        # One message, with the fault that is due.
        fault = self._socket_fault(lambda one: one is not SocketFault.REFUSED)
        held, self._held = self._held, []
        match fault:
            case SocketFault.OUT_OF_ORDER:
                self._held = [(connection, message)]
            case SocketFault.DROPPED:
                connection.transport.abort()
            case SocketFault.HALF_OPEN:
                self._half_open.append(connection)
                connection.transport.pause_reading()
            case _ if fault is not SocketFault.MUTED and connection not in self._half_open:
                await connection.send(message[: len(message) // 2] if fault is SocketFault.CUT else message)
                if fault is SocketFault.TWICE:
                    await connection.send(message)
        for one, earlier in held:
            await one.send(earlier)

    def _socket_fault(self, fits: Callable[[SocketFault], bool]) -> SocketFault | None:
        for number, (fault, left) in enumerate(self._socket_faults):
            if fits(fault):
                self._socket_faults[number : number + 1] = [(fault, left - 1)] if left > 1 else []
                return fault
        return None

    def _refuse_socket(self, connection: ServerConnection, _request: Request) -> Response | None:
        status = self.refuse_sockets
        if self.sockets and self._socket_fault(lambda one: one is SocketFault.REFUSED):
            status = HTTPStatus.TOO_MANY_REQUESTS
        if not status:
            return None
        response = connection.respond(HTTPStatus(status), "refused")
        if self.socket_location:
            response.headers["Location"] = self.socket_location
        return response

    async def _serve_socket(self, connection: ServerConnection) -> None:
        self.sockets.append(connection)
        with self._busy_task():
            try:
                with suppress(ConnectionClosed, asyncio.CancelledError):
                    await self._on_socket(connection)
            finally:
                self.sockets.remove(connection)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._busy_task():
            try:
                with suppress(ConnectionError, h11.RemoteProtocolError, asyncio.CancelledError):
                    protocol = h11.Connection(h11.SERVER)
                    while await self._answer(protocol, reader, writer):
                        protocol.start_next_cycle()
            finally:
                writer.close()

    @contextmanager
    def _busy_task(self) -> Iterator[None]:
        # The present task, which the server's end cancels.
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  -- a server's callback runs in a task
        self._busy.add(task)
        try:
            yield
        finally:
            self._busy.discard(task)

    async def _answer(
        self, protocol: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        # Answer one request; False where the connection ends.
        request = await _received(protocol, reader)
        if request is None:
            return False
        self.requests.append(request)
        fault = self._fault(request)
        reply = await self._reply(request, fault)
        if reply is None:
            if fault is ServerFault.NO_REPLY:
                await reader.read()
            return False
        if fault is ServerFault.SLOW:
            await asyncio.sleep(SLOW_S)
        content = _altered(reply, fault)
        headers = {"content-length": str(len(content)), "content-type": "application/json", **reply.headers}
        for event in (
            h11.Response(status_code=reply.status, headers=list(headers.items())),
            h11.Data(data=content),
            h11.EndOfMessage(),
        ):
            writer.write(protocol.send(event) or b"")
        await writer.drain()
        return protocol.our_state is h11.DONE and protocol.their_state is h11.DONE

    def _fault(self, request: ServerRequest) -> ServerFault | None:
        for number, (fault, method, path, left) in enumerate(self._faults):
            if request.path.startswith(path) and method in {"", request.method}:
                self._faults[number : number + 1] = [(fault, method, path, left - 1)] if left > 1 else []
                return fault
        return None

    async def _reply(self, request: ServerRequest, fault: ServerFault | None) -> ServerReply | None:
        # The reply, None where none comes; only some faults leave a request unprocessed.
        unprocessed = {
            ServerFault.LOST_REQUEST: None,
            ServerFault.TOO_MANY: ServerReply(status=429, headers={"retry-after": "1"}),
            ServerFault.SERVER_ERROR: ServerReply(status=503),
            ServerFault.LOGIN: ServerReply(status=401),
            ServerFault.REDIRECT: ServerReply(status=307, headers={"location": request.target}),
            ServerFault.STALE: self._last.get(request.target) or self._last[request.path],
        }
        if fault in unprocessed:
            return unprocessed[fault]
        if len(request.target) > LONGEST_TARGET:
            return ServerReply(status=HTTPStatus.REQUEST_URI_TOO_LONG, document={"message": "the address is too long"})
        given = self._handler(request)
        reply = await given if isinstance(given, Awaitable) else given
        if reply is not None and reply.document is not None and self.edit is not None:
            reply = attrs.evolve(reply, document=self.edit(deepcopy(reply.document)))
        if reply is None or fault in {ServerFault.LOST_REPLY, ServerFault.NO_REPLY}:
            return None
        self._last[request.target] = self._last[request.path] = reply
        return ServerReply(status=504) if fault is ServerFault.GATEWAY_TIMEOUT else reply


def context(  # noqa: PLR0913  -- what a run gives a plugin
    server: ScriptedServer,
    *,
    hosts: Mapping[str, Host],
    secrets: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
    folder: Path = Path(),
    timeout_s: float = 5.0,
    retries: int = 0,
) -> Context:
    """A context whose declared hosts all lead to the server."""
    clock = clock or SystemClock()
    addresses = {
        name: server.socket_url if urlsplit(host.url).scheme == "wss" else server.url for name, host in hosts.items()
    }
    connector = Connector(
        plugin="tested plugin",
        hosts=hosts,
        addresses=addresses,
        clock=clock,
        budgets=RequestBudgets(clock),
        timeout_s=timeout_s,
        retries=RetryPolicy(retries=retries, sleep=clock.sleep),
    )
    return Context(
        clock=clock, log=log.logger("tbot.tested"), data_dir=folder, secrets=secrets or {}, connect=connector
    )


def _altered(reply: ServerReply, fault: ServerFault | None) -> bytes:
    # The bytes of an answer, as the fault leaves them.
    match fault:
        case ServerFault.UNREADABLE:
            return reply.content[: len(reply.content) // 2]
        case ServerFault.EMPTY:
            return b""
        case ServerFault.MORE_FIELDS if reply.document is not None:
            return json.dumps(_with_more_fields(reply.document)).encode()
    return reply.content


def _with_more_fields(document: object) -> object:
    if isinstance(document, Mapping):
        return {name: _with_more_fields(value) for name, value in document.items()} | {"zz_further": {"a": [None, 1]}}
    return [_with_more_fields(one) for one in document] if isinstance(document, list | tuple) else document


async def _received(protocol: h11.Connection, reader: asyncio.StreamReader) -> ServerRequest | None:
    # The next request; None where the connection ended before it was whole.
    head: h11.Request | None = None
    body = b""
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            chunk = await reader.read(_CHUNK)
            if not chunk and head is None:
                return None
            protocol.receive_data(chunk)
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            target = urlsplit(head.target.decode())
            return ServerRequest(
                method=head.method.decode(),
                path=target.path,
                query=dict(parse_qsl(target.query)),
                headers={name.decode(): value.decode() for name, value in head.headers},
                body=body,
                target=head.target.decode(),
            )
        else:
            return None
