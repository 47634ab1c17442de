"""One WebSocket connection to another machine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import attrs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from tbot_core.errors import LoginNeeded, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

PING_S: Final = 5.0
"""Seconds between two pings, and those within which the pong must come."""

TURN_S: Final = 0.005
"""How long messages that have arrived already are received before other work gets a turn."""

_LARGEST: Final = 16 * 1024 * 1024
_LOGIN: Final = 401


@attrs.define(kw_only=True, eq=False)
class OpenWebSocket:
    """An open connection; it is lost when no message came for `mute_s` seconds, None: however long."""

    name: str
    mute_s: float | None
    _connection: ClientConnection = attrs.field(alias="connection")
    _turn_began: float = attrs.field(default=0.0, init=False)

    async def send(self, message: str | bytes) -> None:
        """Send a message."""
        try:
            await self._connection.send(message)
        except WebSocketException as fault:
            raise self._lost(str(fault)) from fault

    async def receive(self) -> str | bytes:
        """The next message."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._turn_began > TURN_S:
            # A message that is there is returned without a wait: thousands of them would keep the loop to themselves.
            await asyncio.sleep(0)
            self._turn_began = loop.time()
        try:
            async with asyncio.timeout(self.mute_s):
                return await self._connection.recv()
        except TimeoutError as fault:
            raise self._lost(f"no message for {self.mute_s:g} s") from fault
        except WebSocketException as fault:
            raise self._lost(str(fault)) from fault

    async def close(self) -> None:
        """Close it: a waiting receiver loses the connection."""
        await self._connection.close()

    def _lost(self, words: str) -> Unavailable:
        return Unavailable(f"{self.name}: the connection is lost: {words}")


class _connect_here(connect):  # noqa: N801  -- as the class that it changes
    # A connection to this address: a redirect would take the headers and the login to another one.
    def process_redirect(self, exc: Exception) -> Exception:
        return exc


@asynccontextmanager
async def open_websocket(
    name: str, url: str, *, headers: Mapping[str, str], timeout_s: float, mute_s: float | None
) -> AsyncIterator[OpenWebSocket]:
    """Connect within `timeout_s` seconds; TLS is verified, and proxies of the environment are not used.

    Raises Unavailable, and LoginNeeded for the status 401; `name` begins each message.
    """
    connecting = _connect_here(
        url,
        additional_headers=headers,
        open_timeout=timeout_s,
        close_timeout=timeout_s,
        ping_interval=PING_S,
        ping_timeout=PING_S,
        max_size=_LARGEST,
        proxy=None,
    )
    try:
        connection = await connecting
    except InvalidStatus as fault:
        kind = LoginNeeded if fault.response.status_code == _LOGIN else Unavailable
        raise kind(f"{name}: the connection was refused: {fault}") from fault
    except (OSError, TimeoutError, WebSocketException) as fault:
        raise Unavailable(f"{name}: no connection: {fault}") from fault
    try:
        yield OpenWebSocket(name=name, mute_s=mute_s, connection=connection)
    finally:
        try:
            await connection.close()
        finally:  # also where the wait for the other end is cancelled
            connection.transport.abort()
