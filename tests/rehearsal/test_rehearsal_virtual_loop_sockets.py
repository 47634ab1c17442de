"""Virtual time with real connections: it waits for what is on its way, and for nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import gc
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts import Context, Host
from tbot_core.errors import OutcomeUnknown, Unavailable
from tbot_core.rehearsal import virtual_loop
from tbot_core.rehearsal.virtual_loop import LoopbackTraffic, LoopClock, LoopDeadlock, VirtualLoop, run_virtual
from tbot_core.testing.scripted_server import ScriptedServer, ServerFault, ServerReply, context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


START = dt.datetime(2026, 3, 3, 14, 25, tzinfo=dt.UTC)
HOSTS = {"api": Host("https://api.example.com"), "stream": Host("wss://stream.example.com")}

pytestmark = pytest.mark.usefixtures("loopback")


def talk(script: Callable[[ScriptedServer, Context, VirtualLoop], Awaitable[Any]], **server: Any) -> Any:
    """The script's result, at a server in the same loop."""
    loop = VirtualLoop()
    clock = LoopClock(loop, START)

    async def main() -> Any:
        async with ScriptedServer(**server) as played:
            given = context(played, hosts=HOSTS, clock=clock)
            try:
                return await script(played, given, loop)
            finally:
                await given.connect.close()

    return run_virtual(main, loop)


def test_a_request_takes_no_virtual_time() -> None:
    """Hundreds of requests are answered at the second at which they were sent."""

    async def script(server: ScriptedServer, given: Context, loop: VirtualLoop) -> None:
        http = given.connect.http("api")
        await asyncio.sleep(7)
        for _ in range(300):
            await http.get("/account")
        assert loop.time() == 7
        assert len(server.requests) == 300

    talk(script, handler=lambda _request: ServerReply(document={"id": 1}))


def test_an_answer_of_many_packets_is_read_before_time_passes() -> None:
    """Bytes that fill every buffer on the way arrive while a timer of the same task waits."""

    async def script(_server: ScriptedServer, given: Context, loop: VirtualLoop) -> None:
        async with asyncio.timeout(0.001):
            found = await given.connect.http("api").get("/bars")
        assert len(found.body) == 20_000_000
        assert loop.time() == 0

    talk(script, handler=lambda _request: ServerReply(body=b"1" * 20_000_000))


def test_no_reply_costs_virtual_time_only() -> None:
    """A time-out of five seconds passes at once: nothing is on its way."""

    async def script(server: ScriptedServer, given: Context, loop: VirtualLoop) -> None:
        server.fail(ServerFault.NO_REPLY)
        with pytest.raises(OutcomeUnknown):
            await given.connect.http("api").send("POST", "/orders")
        assert loop.time() == 5

    before = time.monotonic()
    talk(script)
    assert time.monotonic() - before < 2


def test_messages_of_a_websocket_arrive_when_they_are_sent() -> None:
    """Heartbeats of ten minutes come at their seconds, and a mute connection is lost at its limit."""

    async def beats(connection: Any) -> None:
        for number in range(120):
            await connection.send(str(number))
            await asyncio.sleep(5)
        await connection.wait_closed()

    async def script(_server: ScriptedServer, given: Context, loop: VirtualLoop) -> None:
        async with given.connect.websocket("stream", mute_s=20) as connection:
            for number in range(120):
                assert (await connection.receive(), loop.time()) == (str(number), 5 * number)
            with pytest.raises(Unavailable, match="no message for 20 s"):
                await connection.receive()
        assert loop.time() == pytest.approx(615)

    talk(script, on_socket=beats)


def test_the_end_of_a_connection_is_read_before_time_passes() -> None:
    """Its other end learns of it at the same second, however it ended."""

    async def script(server: ScriptedServer, given: Context, loop: VirtualLoop) -> None:
        async with given.connect.websocket("stream") as connection:
            await asyncio.sleep(3)
            await server.drop_sockets()
            with pytest.raises(Unavailable):
                await connection.receive()
            assert loop.time() == 3
        server.fail(ServerFault.LOST_REPLY)
        with pytest.raises(OutcomeUnknown):
            await given.connect.http("api").send("POST", "/orders")
        assert loop.time() == 3

    talk(script)


def test_one_end_may_end_its_direction_alone() -> None:
    """What it still receives arrives."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.writelines([b"heard ", data])
        writer.close()

    async def main() -> tuple[bytes, float]:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"this")
            writer.write_eof()
            data = await reader.read()
            writer.close()
            return data, asyncio.get_running_loop().time()

    assert run_virtual(main) == (b"heard this", 0.0)


def test_unread_data_holds_no_time_up() -> None:
    """A peer that stops reading does not stop the clock: its buffers are full, and the sender waits."""
    filled = asyncio.Event()

    async def deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport: Any = writer.transport
        transport.pause_reading()
        await filled.wait()
        writer.close()

    async def main() -> float:
        async with await asyncio.start_server(deaf, "127.0.0.1", 0) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"1" * 10_000_000)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(60):
                    await writer.drain()
            passed = asyncio.get_running_loop().time()
            filled.set()
            transport: Any = writer.transport
            transport.abort()
            return passed

    assert run_virtual(main) == 60


def test_a_connection_without_a_second_side_holds_no_time_up() -> None:
    """A refused one is an error at once, and one that is cut off while it is made is forgotten."""

    async def main() -> float:
        held = socket.socket()
        held.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection(*held.getsockname())
        held.listen()
        _, writer = await asyncio.open_connection(*held.getsockname())  # of another process, as it were
        await asyncio.sleep(9)
        writer.close()
        held.close()
        return asyncio.get_running_loop().time()

    assert run_virtual(main) == 9


def test_bytes_that_never_arrive_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is named, instead of a rehearsal that hangs."""
    monkeypatch.setattr(virtual_loop, "_ARRIVES_S", 0.01)
    loop = VirtualLoop()
    accepted: list[asyncio.StreamWriter] = []

    async def main() -> None:
        serving = asyncio.start_server(lambda _reader, writer: accepted.append(writer), "127.0.0.1", 0)
        async with await serving as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await asyncio.sleep(1)
            here = loop._traffic._ends[writer.get_extra_info("sockname"), writer.get_extra_info("peername")]
            here.sent += 1  # counted, and never sent
            try:
                await asyncio.sleep(1)
            finally:
                here.sent -= 1
                for one in (writer, *accepted):
                    one.transport.abort()

    with pytest.raises(LoopDeadlock, match=r"Nothing arrived for 0 s on: \('127.0.0.1'"):
        run_virtual(main, loop)


def test_closed_connections_leave_nothing_behind() -> None:
    """A day has many of them."""
    loop = VirtualLoop()

    async def main() -> None:
        async with ScriptedServer() as server:
            for _ in range(20):
                given = context(server, hosts=HOSTS, clock=LoopClock(loop, START))
                await given.connect.http("api").get("/account")
                await given.connect.close()
                await asyncio.sleep(1)
            assert loop._traffic._ends == {}

    run_virtual(main, loop)
    gc.collect()


def test_a_counted_end_counts_what_any_call_carries_and_reads_the_end_once() -> None:
    """Buffers in one call, a reading into a buffer, and a connection that was reset: nothing more arrives then."""
    traffic = LoopbackTraffic(lambda _descriptor: True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = socket.create_connection(listener.getsockname())
        here, there = traffic.counted(plain), traffic.counted(listener.accept()[0])
        assert here.sendmsg([b"ab", b"c"]) == here.sent == 3
        assert there.recv_into(bytearray(8)) == there.received == 3
        there.setblocking(False)
        with pytest.raises(BlockingIOError):
            there.recv(1)
        waited = there.has_ended
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        here.close()
        with pytest.raises(ConnectionResetError):
            there.recv(1)
        assert (waited, there.has_ended) == (False, True)
        there.close()
        there.close()
        assert traffic.in_transit == []
