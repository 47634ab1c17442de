"""Connections to a host: how long they are kept, and which answers are too large or too slow."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import OutcomeUnknown, Unavailable
from tbot_core.execution.reconciler import POSITIONS_S
from tbot_core.system.http import KEPT_S, HttpTransport, accepts_connections

if TYPE_CHECKING:
    from tbot_core.system.http import RawResponse


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


Bytes = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def answered(serve: Bytes, timeout_s: float = 5.0) -> RawResponse:
    """What a transport makes of the bytes that a server sends."""
    over = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            await serve(writer)
        writer.close()
        over.set()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        transport = HttpTransport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        try:
            return await transport.exchange(
                "GET", "/", timeout_s=timeout_s, headers=lambda _url: {}, before_send=lambda: None
            )
        finally:
            await transport.close()
            await over.wait()


def sends(head: str, *body: bytes) -> Bytes:
    """A server that sends a head and parts of a body, and waits before each until the one before has left."""

    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
        for part in body:
            writer.write(part)
            await writer.drain()

    return serve


async def drips(writer: asyncio.StreamWriter) -> None:
    """A server whose answer never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.01)


def _chunk(size: int) -> bytes:
    return b"%x\r\n%s\r\n" % (size, bytes(size))


def _zipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


_MIB = 1024 * 1024
_BOMB = _zipped(bytes(80 * _MIB))


@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (sends(f"content-length: {1024**3}\r\n", *(bytes(_MIB) for _ in range(70))), "larger than 64 MiB"),
        (sends("transfer-encoding: chunked\r\n", *(_chunk(_MIB) for _ in range(70))), "larger than 64 MiB"),
        (sends(f"content-encoding: gzip\r\ncontent-length: {len(_BOMB)}\r\n", _BOMB), "larger than 64 MiB"),
        (sends("content-encoding: gzip, gzip\r\ncontent-length: 1\r\n", b"."), "encoding 'gzip, gzip'"),
        (sends("content-encoding: zstd\r\ncontent-length: 1\r\n", b"."), "encoding 'zstd'"),
        (sends("content-encoding: gzip\r\ncontent-length: 4\r\n", b"junk"), "incorrect header check"),
        (sends("".join(f"x-{one}: {'v' * 20}\r\n" for one in range(10_000)) + "content-length: 0\r\n"), None),
        (sends(f"x-long: {'v' * 200_000}\r\ncontent-length: 0\r\n"), None),
        (sends(f"content-length: {'9' * 5000}\r\n", b"."), None),
        (sends("content-length: -1\r\n", b"."), None),
    ],
    ids=["body", "chunks", "compressed", "twice", "zstd", "junk", "headers", "long header", "digits", "negative"],
)
def test_an_answer_out_of_bounds_is_discarded(serve: Bytes, words: str | None) -> None:
    """Its outcome is unknown, whatever makes it too large; a compressed one is not unpacked beyond the limit."""
    with pytest.raises(OutcomeUnknown, match=words):
        asyncio.run(answered(serve))


@pytest.mark.usefixtures("loopback")
def test_an_answer_in_drops_ends_in_time() -> None:
    """The limit counts for the whole answer, not from byte to byte."""
    with pytest.raises(OutcomeUnknown, match=r"no answer within 0\.1 s"):
        asyncio.run(answered(drips, timeout_s=0.1))


@pytest.mark.usefixtures("loopback")
def test_a_compressed_answer_is_read() -> None:
    """Compression is asked for, and undone."""
    body = _zipped(b"[]")
    found = asyncio.run(answered(sends(f"content-encoding: gzip\r\ncontent-length: {len(body)}\r\n", body)))
    assert found.body == b"[]"
