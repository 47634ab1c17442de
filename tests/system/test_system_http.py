"""Connections to a host: how long they are kept."""

from __future__ import annotations

import asyncio

import pytest

from tbot_core.errors import Unavailable
from tbot_core.execution.reconciler import POSITIONS_S
from tbot_core.system.http import KEPT_S, HttpTransport, accepts_connections


async def connections(kept_s: float, requests: int) -> int:
    """How many connections a server receives for requests one after the other."""
    opened: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        while b"\r\n\r\n" in (await reader.read(65_536)):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        transport = HttpTransport(f"http://127.0.0.1:{port}", kept_s)
        for _ in range(requests):
            await transport.exchange("GET", "/", timeout_s=5.0, headers=lambda _url: {}, before_send=lambda: None)
        await transport.close()
        for one in opened:
            await one.wait_closed()
    return len(opened)


@pytest.mark.usefixtures("loopback")
def test_a_connection_is_kept_for_its_time() -> None:
    """The next request uses it; after its time without a request a new one is opened."""
    assert asyncio.run(connections(KEPT_S, 3)) == 1
    assert asyncio.run(connections(0.0, 3)) == 3


def test_an_order_between_two_account_readings_needs_no_new_connection() -> None:
    """The pause between two readings is shorter than the time for which a connection is kept, by default as well."""
    assert POSITIONS_S < KEPT_S
    assert HttpTransport("http://127.0.0.1:1")._client._transport._pool._keepalive_expiry == KEPT_S  # type: ignore[attr-defined]  # httpx2 has no public way


@pytest.mark.usefixtures("loopback")
def test_an_address_where_a_server_listens_accepts_connections() -> None:
    """After the server has ended it does not."""

    async def tried() -> tuple[bool, bool]:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with server:
            first = await accepts_connections(url, 5.0)
        return first, await accepts_connections(url, 5.0)

    assert asyncio.run(tried()) == (True, False)


@pytest.mark.usefixtures("loopback")
def test_a_host_that_is_not_reached_is_named_without_a_number_of_the_system() -> None:
    """With the reason in words, and what to check; nothing was sent."""

    async def refused() -> str:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        transport = HttpTransport(f"http://127.0.0.1:{port}")
        with pytest.raises(Unavailable) as caught:
            await transport.exchange("GET", "/", timeout_s=5.0, headers=lambda _url: {}, before_send=lambda: None)
        await transport.close()
        return caught.value.message

    said = asyncio.run(refused())
    assert said.startswith("no connection to 127.0.0.1 (")
    assert said.endswith("): check this machine's network and that address")
    assert "Errno" not in said
