"""Requests and connections to Alpaca's hosts, with the key of the account."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import asynccontextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from tbot_broker_alpaca.parse import messages
from tbot_broker_alpaca.rejections import rejection, stream_error
from tbot_core.errors import LoginNeeded, PluginError, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tbot_broker_alpaca import Credentials
    from tbot_core.contracts import Context, HttpClient, HttpResponse, Permit, WebSocket

ADDRESSES: Final = {"paper": "https://paper-api.alpaca.markets", "live": "https://api.alpaca.markets"}
_CLOCKS: Final = 20
_HALF_A_SECOND: Final = 0.5


class AlpacaClient:
    """The hosts of one account: trading and market data over HTTP, trade updates and bars over WebSocket."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.clock_ahead_s: deque[float] = deque(maxlen=_CLOCKS)

    @property
    def mode(self) -> str:
        """`paper` or `live`: the host that is used. Raises PluginError where `base_url` names another one."""
        key = self._key
        if key.base_url and key.base_url.rstrip("/").removesuffix("/v2") != ADDRESSES[key.mode]:
            raise PluginError(
                f"alpaca: base_url is {key.base_url}, but mode={key.mode} uses {ADDRESSES[key.mode]}.",
                "Leave base_url empty, or change mode. HOST_ALPACA_PAPER leads to a server on this machine.",
            )
        return key.mode

    @property
    def wanted_account(self) -> str:
        """The account that must be reported, empty for any."""
        return self._key.account_id

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> HttpResponse:
        """Read something from the trading host."""
        response = await self._trading.get(path, params)
        self._note_clock(response)
        return response

    async def pages(self, path: str, params: Mapping[str, str], following: Any) -> AsyncIterator[Any]:
        """The rows of all pages of the trading host."""
        async for document in self.documents(path, params, following):
            for row in document:
                yield row

    async def documents(self, path: str, params: Mapping[str, str], following: Any) -> AsyncIterator[Any]:
        """The documents of all pages of the trading host."""
        async for page in self._trading.pages(path, params, following=following):
            yield page.json()

    async def send(self, method: str, path: str, document: object = None, permit: Permit | None = None) -> HttpResponse:
        """Send something to the trading host, once."""
        response = await self._trading.send(method, path, json=document, permit=permit)
        self._note_clock(response)
        return response

    @cached_property
    def data(self) -> HttpClient:
        """The client of the market data."""
        return self._context.connect.http("data", headers=self._headers, rejection=rejection)

    @asynccontextmanager
    async def trade_updates(self) -> AsyncIterator[WebSocket]:
        """A connection on which the trade updates of the account come from now on."""
        key = self._key
        login = {"key_id": key.api_key.reveal(), "secret_key": key.api_secret.reveal()}
        async with self._context.connect.websocket(f"{self.mode}_events", "/stream") as socket:
            await socket.send(json.dumps({"action": "authenticate", "data": login}))
            answer = await self._answer(socket, lambda one: one.get("stream") == "authorization")
            if answer["data"].get("status") != "authorized":
                raise LoginNeeded("Alpaca did not accept the key for trade updates.")
            await socket.send(json.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
            answer = await self._answer(socket, lambda one: one.get("stream") == "listening")
            if "trade_updates" not in answer["data"].get("streams", ()):
                raise Unavailable(f"Alpaca does not send trade updates: {answer['data']}.")
            yield socket

    @asynccontextmanager
    async def market_data(self, feed: str, channels: Mapping[str, list[str]]) -> AsyncIterator[WebSocket]:
        """A connection on which the messages of these channels come, once all of their symbols are subscribed."""
        key = self._key
        login = {"action": "auth", "key": key.api_key.reveal(), "secret": key.api_secret.reveal()}
        async with self._context.connect.websocket("stream", f"/v2/{feed}") as socket:
            await self._data_answer(socket, lambda one: one.get("msg") == "connected")
            await socket.send(json.dumps(login))
            await self._data_answer(socket, lambda one: one.get("msg") == "authenticated")
            await socket.send(json.dumps({"action": "subscribe", **channels}))
            wanted = {name: set(symbols) for name, symbols in channels.items()}
            await self._data_answer(
                socket, lambda one: all(symbols <= {*(one.get(name) or ())} for name, symbols in wanted.items())
            )
            yield socket

    async def close(self) -> None:
        """Close the connections."""
        await self._context.connect.close()

    async def _answer(self, socket: WebSocket, fits: Any) -> dict[str, Any]:
        # The next message that fits; others are not for a client that has not logged in.
        async with self._limit():
            while True:
                for message in messages(await socket.receive()):
                    if fits(message):
                        return message

    async def _data_answer(self, socket: WebSocket, fits: Any) -> None:
        def checked(one: dict[str, Any]) -> bool:
            if one.get("T") == "error":
                raise stream_error(one)
            return bool(fits(one))

        await self._answer(socket, checked)

    @asynccontextmanager
    async def _limit(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._context.timeout_s):
                yield
        except TimeoutError:
            raise Unavailable("Alpaca did not answer the login to a stream in time.") from None

    @cached_property
    def _trading(self) -> HttpClient:
        # Made at the first request, since a trial of the plugin has no secrets.
        return self._context.connect.http(self.mode, headers=self._headers, rejection=rejection, rejects_429=True)

    @cached_property
    def _headers(self) -> dict[str, Any]:
        return {"APCA-API-KEY-ID": self._key.api_key, "APCA-API-SECRET-KEY": self._key.api_secret}

    @property
    def _key(self) -> Credentials:
        key: Credentials = self._context.secrets["broker"]
        return key

    def _note_clock(self, response: HttpResponse) -> None:
        # The header has whole seconds, so the middle of the second is the best estimate.
        try:
            answered = parsedate_to_datetime(response.headers["date"])
        except (KeyError, ValueError):
            return
        ahead = self._context.clock.now() - answered.replace(tzinfo=answered.tzinfo or UTC)
        self.clock_ahead_s.append(ahead.total_seconds() - _HALF_A_SECOND)
