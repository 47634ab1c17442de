"""The venue's WebSockets: trade updates of the account, and market data with one connection at a time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs
from websockets.exceptions import ConnectionClosed  # seam: the other end of a test's connection

from tbot_broker_alpaca.venue.wire import moment_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.testing.scripted_server import ScriptedServer

CHANNELS: Final = {"b": "bars", "q": "quotes", "t": "trades", "s": "statuses"}
"""The channel of each message of market data."""

BASIC_SYMBOLS: Final = 30
_SHOWN: Final = (
    "trades",
    "quotes",
    "bars",
    "updatedBars",
    "dailyBars",
    "statuses",
    "lulds",
    "corrections",
    "cancelErrors",
)
_ALIVE_S: Final = 1.0
_UPDATES: Final = "trade_updates"
_MSGPACK: Final = "application/msgpack"


@attrs.define(eq=False)
class _Client:
    # A connection, what is still to be sent on it, and what it subscribed: channel and symbols. `packed`: its messages
    # are msgpack in both directions, as its header Content-Type asked for.
    connection: Any
    packed: bool = False
    pending: asyncio.Queue[Any] = attrs.field(factory=asyncio.Queue)
    channels: dict[str, set[str]] = attrs.field(factory=dict)
    logged_in: bool = False

    def wants(self, message: dict[str, Any]) -> bool:
        return bool({message["S"], "*"} & self.channels.get(CHANNELS[message["T"]], set()))


class VenueStreams:
    """Serves /stream and /v2/iex or /v2/sip, the latter as JSON or, where the client asks for it, as msgpack.

    `binary`: frames of trade updates are binary, as on the vendor's paper host. `basic`: the plan has one venue's data
    for 30 symbols. `revoked`: no credentials are accepted any more. `silent`: connections stay, and no trade update is
    sent. A connection of market data that logs in while another one answers, or while it is `taken` by another program,
    is refused.
    """

    def __init__(self, server: ScriptedServer, *, basic: bool) -> None:
        self._server, self._basic = server, basic
        self.binary, self.revoked, self.silent, self.taken = True, False, False, False
        self.refused: Counter[str] = Counter()
        self._accounts: list[_Client] = []
        self._feeds: list[_Client] = []

    async def serve(self, connection: Any) -> None:
        """Serve one connection until it ends."""
        client = _Client(connection)
        path = connection.request.path.partition("?")[0]
        if path == "/stream":
            clients, serve = self._accounts, self._account
        elif path in {"/v2/iex", "/v2/sip"}:
            clients, serve = self._feeds, self._feed
            client.packed = connection.request.headers.get("Content-Type") == _MSGPACK
            client.pending.put_nowait([{"T": "success", "msg": "connected"}])
        else:
            await connection.close(1008, "not found")
            return
        clients.append(client)
        writing = asyncio.create_task(self._write(client))
        try:
            async for message in connection:
                if not await serve(client, _document(message, packed=client.packed), path):
                    break
            await asyncio.wait_for(client.pending.join(), _ALIVE_S)
        except TimeoutError:  # the other end reads nothing any more
            pass
        finally:
            clients.remove(client)
            writing.cancel()

    def update(self, data: dict[str, Any]) -> bool:
        """Send a trade update to every client that listens; whether there is one."""
        clients = [] if self.silent else [account for account in self._accounts if _UPDATES in account.channels]
        for client in clients:
            client.pending.put_nowait(self._frame({"stream": _UPDATES, "data": data}))
        return bool(clients)

    def publish(self, messages: Sequence[dict[str, Any]]) -> set[str]:
        """Send market data to every client that subscribed it, in one frame; the symbols that were sent."""
        sent: set[str] = set()
        for client in self._feeds:
            if wanted := [message for message in messages if client.wants(message)]:
                client.pending.put_nowait(wanted)
                sent.update(message["S"] for message in wanted)
        return sent

    def drop_feeds(self) -> None:
        """End the connections of market data without a word."""
        for client in self._feeds:
            client.connection.transport.abort()

    async def _write(self, client: _Client) -> None:
        with suppress(ConnectionClosed):
            while True:
                message = await client.pending.get()
                await self._server.tell(_packed(message) if client.packed else message, to=client.connection)
                client.pending.task_done()

    def _frame(self, document: dict[str, Any]) -> str | bytes:
        text = json.dumps(document)
        return text.encode() if self.binary else text

    async def _account(self, client: _Client, asked: Any, path: str) -> bool:
        # One message of an account's client; False where the connection ends.
        del path
        action = asked.get("action")
        if action in {"auth", "authenticate"}:
            data = asked.get("data") or {"key_id": asked.get("key"), "secret_key": asked.get("secret")}
            client.logged_in = self.accepts(data.get("key_id"), data.get("secret_key"))
            status = "authorized" if client.logged_in else "unauthorized"
            answer = {"stream": "authorization", "data": {"status": status, "action": "authenticate"}}
        elif action == "listen" and client.logged_in:
            client.channels = {name: set() for name in asked["data"]["streams"] if name == _UPDATES}
            answer = {"stream": "listening", "data": {"streams": [*client.channels]}}
        else:
            answer = {"stream": "listening", "data": {"error": "required authentication before listening"}}
        client.pending.put_nowait(self._frame(answer))
        return client.logged_in

    async def _feed(self, client: _Client, asked: Any, path: str) -> bool:
        # One message of a client of market data; False where the connection ends.
        error = await self._error(client, asked, path)
        if error is not None:
            code, words = error
            self.refused[f"{code} {words}"] += 1
            client.pending.put_nowait([{"T": "error", "code": code, "msg": words}])
            return client.logged_in
        if asked["action"] == "auth":
            client.logged_in = True
            client.pending.put_nowait([{"T": "success", "msg": "authenticated"}])
            return True
        for channel in CHANNELS.values():
            own = client.channels.setdefault(channel, set())
            given = set(asked.get(channel, ()))
            client.channels[channel] = own | given if asked["action"] == "subscribe" else own - given
        shown = {channel: sorted(client.channels.get(channel, ())) for channel in _SHOWN}
        client.pending.put_nowait([{"T": "subscription", **shown}])
        return True

    async def _error(self, client: _Client, asked: Any, path: str) -> tuple[int, str] | None:
        # Why a message is refused, None if it is not.
        action = asked.get("action")
        if action == "auth":
            return await self._login_error(client, asked, path)
        if not client.logged_in:
            return 401, "not authenticated"
        if action not in {"subscribe", "unsubscribe"}:
            return 400, "invalid syntax"
        named = {symbol for channel in CHANNELS.values() for symbol in asked.get(channel, ())}
        known = {symbol for symbols in client.channels.values() for symbol in symbols}
        over = self._basic and action == "subscribe" and len(named | known) > BASIC_SYMBOLS
        return (405, "symbol limit exceeded") if over else None

    async def _login_error(self, client: _Client, asked: Any, path: str) -> tuple[int, str] | None:
        if client.logged_in:
            return 403, "already authenticated"
        if not self.accepts(asked.get("key"), asked.get("secret")):
            return 402, "auth failed"
        if self._basic and path == "/v2/sip":
            return 409, "insufficient subscription"
        return (406, "connection limit exceeded") if await self._is_taken(client) else None

    async def _is_taken(self, client: _Client) -> bool:
        # Whether another connection is logged in and answers; one that does not is ended.
        if self.taken:
            return True
        for other in [feed for feed in self._feeds if feed.logged_in and feed is not client]:
            try:
                await asyncio.wait_for(await other.connection.ping(), _ALIVE_S)
            except (TimeoutError, ConnectionClosed):
                other.connection.transport.abort()
                other.logged_in = False
            else:
                return True
        return False

    def accepts(self, key: str | None, secret: str | None) -> bool:
        """Whether the credentials are accepted: any two texts, until they are revoked."""
        return not self.revoked and bool(key) and bool(secret)


def _document(message: str | bytes, *, packed: bool) -> dict[str, Any]:
    # A client's message; one that cannot be read has no action.
    try:
        found = _unpacked(message) if packed else json.loads(message)  # noqa: TID251  -- what a test's own client sent
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _packed(messages: Sequence[dict[str, Any]]) -> bytes:
    # Messages of market data as msgpack, in which times are no texts.
    timed = [
        {name: moment_of(value) if name == "t" else value for name, value in message.items()} for message in messages
    ]
    found: bytes = _msgpack().packb(timed, datetime=True)
    return found


def _unpacked(message: str | bytes) -> Any:
    msgpack = _msgpack()
    try:
        return msgpack.unpackb(message)
    except (TypeError, msgpack.UnpackException) as fault:
        raise ValueError(str(fault)) from fault


def _msgpack() -> Any:
    # Imported for a client that asks for it: it comes with that client, not with the plugin.
    import msgpack  # type: ignore[import-untyped]  # it has no types

    return msgpack
