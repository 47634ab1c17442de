"""The way of a plugin to WebSocket hosts: one connection, and a stream of them with its gaps."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts import Gap, Host
from tbot_core.contracts.network import NoNetwork
from tbot_core.errors import LoginNeeded, PluginError, Rejected, Unavailable
from tbot_core.model.clock import ManualClock
from tbot_core.system import websocket
from tbot_core.system.secret import Secret
from tbot_core.testing.scripted_server import ScriptedServer, context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from websockets.asyncio.server import ServerConnection

    from tbot_core.contracts.network import Connect, OutgoingRequest, WebSocket

NOON = dt.datetime(2026, 3, 3, 17, tzinfo=dt.UTC)
HOSTS = {"stream": Host("wss://stream.example.com/v2"), "trading": Host("https://api.example.com")}

pytestmark = pytest.mark.usefixtures("loopback")


async def echo(connection: ServerConnection) -> None:
    """Sends each message back."""
    async for message in connection:
        await connection.send(message)


def talk(
    script: Callable[[ScriptedServer, Connect, ManualClock], Awaitable[Any]],
    on_socket: Callable[[ServerConnection], Awaitable[None]] = echo,
) -> Any:
    """The script's result."""

    async def main() -> Any:
        clock = ManualClock(NOON)
        async with ScriptedServer(on_socket=on_socket) as server:
            return await script(server, context(server, hosts=HOSTS, clock=clock).connect, clock)

    return asyncio.run(main())


def test_messages_go_both_ways() -> None:
    """Text stays text and bytes stay bytes; the address of the declaration keeps its path."""

    async def script(server: ScriptedServer, connect: Connect, _clock: ManualClock) -> tuple[Any, ...]:
        async with connect.websocket("stream", "/iex", headers={"X-Key": Secret("hush-hush")}) as connection:
            await connection.send("text")
            await connection.send(b"bytes")
            [there] = server.sockets
            assert there.request is not None
            return await connection.receive(), await connection.receive(), there.request.headers["X-Key"]

    assert talk(script) == ("text", b"bytes", "hush-hush")


def test_a_lost_connection_is_unavailable() -> None:
    """For what is received and for what is sent afterwards; so is one that cannot be opened."""

    async def script(server: ScriptedServer, connect: Connect, _clock: ManualClock) -> None:
        async with connect.websocket("stream") as connection:
            await connection.send("hello")
            await connection.receive()
            await server.drop_sockets()
            with pytest.raises(Unavailable, match=r"tested plugin \(stream\): the connection is lost"):
                await connection.receive()
            with pytest.raises(Unavailable, match="the connection is lost"):
                await connection.send("hello")
        await server.__aexit__(None, None, None)
        server._servers.clear()
        with pytest.raises(Unavailable, match="no connection"):
            await connect.websocket("stream").__aenter__()

    talk(script)


def test_a_connection_whose_close_is_cancelled_leaves_no_socket() -> None:
    """The other machine does not answer the close, and the run ends meanwhile."""

    async def silent(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await connection.wait_closed()

    async def script(_server: ScriptedServer, connect: Connect, _clock: ManualClock) -> None:
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def listen() -> None:
            async with connect.websocket("stream") as connection:
                opened.set_result(connection)
                await connection.receive()

        task = asyncio.ensure_future(listen())
        transport = (await opened)._connection.transport
        for _ in range(2):  # the receiving, then the closing
            await asyncio.sleep(0.01)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)
        assert transport._sock is None

    talk(script, silent)


def test_a_flood_of_messages_leaves_turns_to_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who receives what has long arrived gives way in between, so that a kill or a stop is not late."""
    monkeypatch.setattr(websocket, "TURN_S", -1.0, raising=False)
    messages, turns = 500, 0

    async def flood(connection: ServerConnection) -> None:
        for _ in range(messages):
            await connection.send("{}")
        await connection.wait_closed()

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def script(_server: ScriptedServer, connect: Connect, _clock: ManualClock) -> None:
        nonlocal turns
        async with connect.websocket("stream") as connection:
            other, turns = asyncio.ensure_future(count()), 0
            for _ in range(messages):
                await connection.receive()
            other.cancel()

    talk(script, flood)
    assert turns >= messages


def test_a_mute_connection_is_lost() -> None:
    """It stands and answers pings, but no message comes: `mute_s` ends it."""

    async def script(_server: ScriptedServer, connect: Connect, _clock: ManualClock) -> None:
        async with connect.websocket("stream", mute_s=0.05) as connection:
            with pytest.raises(Unavailable, match=r"no message for 0\.05 s"):
                await connection.receive()

    talk(script)


@pytest.mark.first(0)  # over two seconds
def test_a_dead_connection_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pong comes: the other machine is gone, whether or not the network says so."""
    monkeypatch.setattr(websocket, "PING_S", 0.05)

    async def deaf(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await connection.wait_closed()

    async def script(_server: ScriptedServer, connect: Connect, _clock: ManualClock) -> None:
        async with connect.websocket("stream") as connection:
            with pytest.raises(Unavailable, match="keepalive ping timeout"):
                await connection.receive()

    talk(script, deaf)


@pytest.mark.parametrize(("status", "raised"), [(401, LoginNeeded), (503, Unavailable)])
def test_a_refused_connection(status: int, raised: type[Exception]) -> None:
    """401 says that the key is wrong, anything else that there is none now."""

    async def script(server: ScriptedServer, connect: Connect, _clock: ManualClock) -> None:
        server.refuse_sockets = status
        with pytest.raises(raised, match=str(status)):
            await connect.websocket("stream").__aenter__()

    talk(script)


def test_a_redirect_is_not_followed() -> None:
    """It would take the headers and the login to another address."""

    async def script(server: ScriptedServer, connect: Connect, _clock: ManualClock) -> None:
        async with ScriptedServer(on_socket=echo) as elsewhere:
            server.refuse_sockets, server.socket_location = 302, elsewhere.socket_url.replace("http", "ws")
            with pytest.raises(Unavailable, match="302"):
                await connect.websocket("stream").__aenter__()
            assert elsewhere.sockets == []

    talk(script)


@pytest.mark.parametrize("path", [".elsewhere.example/a", ":x@elsewhere.example/", "v2", "//elsewhere.example"])
def test_a_path_leads_nowhere_else(path: str) -> None:
    """The host is the declared one, whatever stands in the path."""

    async def script(server: ScriptedServer, connect: Connect, _clock: ManualClock) -> None:
        with pytest.raises(PluginError, match="leads elsewhere"):
            connect.websocket("stream", path)
        assert server.sockets == []

    talk(script)


def test_a_stream_says_where_it_was_broken() -> None:
    """It logs in anew on each connection, and a gap comes before the messages of the next one."""

    async def script(server: ScriptedServer, connect: Connect, clock: ManualClock) -> list[Any]:
        seen: list[Any] = []

        async def opening(connection: WebSocket) -> None:
            await connection.send(f"login {len(seen)}")

        async for message in connect.stream("stream", opening=opening):
            seen.append(message)
            if len(seen) in {1, 3}:
                await server.drop_sockets()
            if len(seen) == 5:
                assert clock.now() > NOON
                return seen
        raise AssertionError

    first, gap, second, again, third = talk(script)
    assert (first, second, third) == ("login 0", "login 1", "login 3")
    assert isinstance(gap, Gap)
    assert "the connection is lost" in gap.words
    assert isinstance(again, Gap)


def test_a_close_ends_connections_and_streams() -> None:
    """Who waits for a message loses the connection; a stream ends without an error, and another may begin."""

    async def script(_server: ScriptedServer, connect: Connect, clock: ManualClock) -> list[Any]:
        seen: list[Any] = []

        async def opening(connection: WebSocket) -> None:
            await connection.send("hello")

        async def waiting() -> None:
            async with connect.websocket("stream") as connection:
                with pytest.raises(Unavailable, match="the connection is lost"):
                    await connection.receive()

        async def listening() -> None:
            async for message in connect.stream("stream", opening=opening):
                seen.append(message)
                arrived.set()

        for _ in range(2):
            arrived, tasks = asyncio.Event(), [asyncio.ensure_future(one()) for one in (waiting, listening)]
            await arrived.wait()
            await clock.sleep(0)
            await connect.close()
            await asyncio.gather(*tasks)
        assert clock.now() == NOON
        return seen

    assert talk(script) == ["hello", "hello"]


def test_headers_are_made_for_each_connection() -> None:
    """A token that was renewed meanwhile goes with the next one."""
    made: list[str] = []

    def headers(request: OutgoingRequest) -> dict[str, Any]:
        made.append(request.url)
        return {"X-Key": Secret(f"token {len(made)}")}

    async def script(server: ScriptedServer, connect: Connect, _clock: ManualClock) -> str | None:
        async with connect.websocket("stream", "/iex", headers=headers):
            pass
        async with connect.websocket("stream", "/iex", headers=headers) as connection:
            await connection.send("x")
            await connection.receive()
            [there] = server.sockets
            assert there.request is not None
            return there.request.headers.get("X-Key")

    assert talk(script) == "token 2"
    assert made
    assert all(url.endswith("/iex") for url in made)


def test_a_stream_waits_longer_each_time() -> None:
    """While nothing can be reached the pause doubles up to half a minute, with jitter; a refused login ends it."""

    async def script(server: ScriptedServer, connect: Connect, clock: ManualClock) -> list[float]:
        moments: list[float] = []
        server.refuse_sockets = 503

        async def opening(_connection: WebSocket) -> None:
            raise Rejected("no such feed")

        class Counting(ManualClock):
            async def sleep(self, seconds: float) -> None:
                moments.append(seconds)
                if len(moments) == 10:
                    server.refuse_sockets = 0
                await super().sleep(seconds)

        counting = Counting(NOON)
        with pytest.raises(Rejected, match="no such feed"):
            async for _ in context(server, hosts=HOSTS, clock=counting).connect.stream("stream", opening=opening):
                pass
        assert connect is not None
        assert clock.now() == NOON
        return moments

    pauses = talk(script)
    limits = [min(0.5 * 2**number, 30.0) for number in range(10)]
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, limits, strict=True))


def test_a_server_sends_to_all_that_listen() -> None:
    """The kit's own server: text, bytes and documents reach every open connection."""

    async def script(server: ScriptedServer, connect: Connect, _clock: ManualClock) -> list[Any]:
        async with connect.websocket("stream") as connection:
            await connection.send("here")
            received = [await connection.receive()]
            for message in ("text", b"bytes", {"n": 1}):
                await server.tell(message)
                received.append(await connection.receive())
            return received

    assert talk(script) == ["here", "text", b"bytes", '{"n": 1}']


@pytest.mark.parametrize("way", ["http", "websocket", "stream"])
def test_an_isolated_plugin_has_no_network(way: str) -> None:
    """The first call reports it."""
    with pytest.raises(PluginError, match="no network here, but asked for its host trading"):
        getattr(NoNetwork(), way)("trading")
    asyncio.run(NoNetwork().close())
