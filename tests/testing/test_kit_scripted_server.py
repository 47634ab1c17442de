"""The faults of the scripted server, as a plugin meets them through its connections."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts import Host
from tbot_core.errors import OutcomeUnknown, Rejected, Unavailable
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop, run_virtual
from tbot_core.testing.scripted_server import (
    LONGEST_TARGET,
    SLOW_S,
    ScriptedServer,
    ServerFault,
    ServerReply,
    ServerRequest,
    SocketFault,
    context,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tbot_core.contracts.network import Connect, WebSocket

START = dt.datetime(2026, 3, 3, 14, 25, tzinfo=dt.UTC)
HOSTS = {"api": Host("https://api.example.com"), "stream": Host("wss://stream.example.com")}

pytestmark = pytest.mark.usefixtures("loopback")


class Counting:
    """A server whose WebSockets count the seconds, and whose requests are answered with how many there were."""

    def __init__(self) -> None:
        self.played = ScriptedServer(self._answer, self._count)

    def _answer(self, _request: object) -> ServerReply:
        return ServerReply(document=len(self.played.requests))

    async def _count(self, connection: Any) -> None:
        for number in range(1_000):
            await self.played.tell(str(number), to=connection)
            await asyncio.sleep(1)


def talk(script: Callable[[ScriptedServer, Connect], Awaitable[Any]]) -> Any:
    """The script's result, in virtual time."""
    loop = VirtualLoop()

    async def main() -> Any:
        async with Counting().played as server, connected(server, loop) as connect:
            return await script(server, connect)

    return run_virtual(main, loop)


@asynccontextmanager
async def connected(server: ScriptedServer, loop: VirtualLoop) -> AsyncIterator[Connect]:
    """The connections of a plugin, closed at the end."""
    connect = context(server, hosts=HOSTS, clock=LoopClock(loop, START)).connect
    try:
        yield connect
    finally:
        await connect.close()


async def received(connection: WebSocket, count: int) -> list[str | bytes]:
    """The next messages."""
    return [await connection.receive() for _ in range(count)]


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (SocketFault.MUTED, ["0", "3", "4"]),
        (SocketFault.TWICE, ["0", "1", "1", "2", "2", "3"]),
        (SocketFault.OUT_OF_ORDER, ["0", "2", "1", "3"]),
        (SocketFault.CUT, ["0", "", "", "3"]),
    ],
)
def test_a_message_is_muted_repeated_late_or_cut(fault: SocketFault, seen: list[str]) -> None:
    """Twice; afterwards all is well again."""

    async def script(server: ScriptedServer, connect: Connect) -> list[str | bytes]:
        async with connect.websocket("stream") as connection:
            first = await connection.receive()
            server.fail_sockets(fault, times=1 if fault is SocketFault.OUT_OF_ORDER else 2)
            return [first, *await received(connection, len(seen) - 1)]

    assert talk(script) == seen


def test_a_connection_is_dropped_and_the_next_one_works() -> None:
    """It is lost at once."""

    async def script(server: ScriptedServer, connect: Connect) -> str | bytes:
        async with connect.websocket("stream") as connection:
            server.fail_sockets(SocketFault.DROPPED)
            with pytest.raises(Unavailable, match="the connection is lost"):
                await received(connection, 5)
        async with connect.websocket("stream") as connection:
            return await connection.receive()

    assert talk(script) == "0"


def test_a_half_open_connection_answers_no_ping() -> None:
    """It is open and silent, in both directions, until the missing pong ends it; the next one works."""

    async def script(server: ScriptedServer, connect: Connect) -> str | bytes:
        loop = asyncio.get_running_loop()
        async with connect.websocket("stream") as connection:
            await connection.receive()
            server.fail_sockets(SocketFault.HALF_OPEN)
            with pytest.raises(Unavailable, match="keepalive ping timeout"):
                await connection.receive()
            assert 5 <= loop.time() <= 15  # the ping, its pong, and the unanswered closing
        async with connect.websocket("stream") as connection:
            return await connection.receive()

    assert talk(script) == "0"


def test_a_second_connection_is_refused_while_one_is_open() -> None:
    """As by a vendor that allows one for each key; an only one is not refused."""

    async def script(server: ScriptedServer, connect: Connect) -> None:
        server.fail_sockets(SocketFault.REFUSED, times=None)
        async with connect.websocket("stream") as connection:
            await connection.receive()
            with pytest.raises(Unavailable, match="429"):
                async with connect.websocket("stream"):
                    pass
            assert await received(connection, 2) == ["1", "2"]
            server.recover()
            async with connect.websocket("stream") as another:
                assert await another.receive() == "0"

    talk(script)


def test_slow_pages_take_their_time_each() -> None:
    """A limit for all of them is not one for each."""

    async def script(server: ScriptedServer, connect: Connect) -> list[Any]:
        server.fail(ServerFault.SLOW, path="/orders", times=None)
        pages = connect.http("api").pages(
            "/orders", {}, following=lambda page: {"page": str(page.json())} if page.json() < 3 else None
        )
        found = [page.json() async for page in pages]
        assert asyncio.get_running_loop().time() == 3 * SLOW_S
        return found

    assert talk(script) == [1, 2, 3]


def test_a_fault_may_be_for_one_method_or_path_and_ends_with_recover() -> None:
    """Others are answered meanwhile."""

    async def script(server: ScriptedServer, connect: Connect) -> None:
        http = connect.http("api")
        server.fail(ServerFault.SERVER_ERROR, method="POST", times=None)
        server.fail(ServerFault.SERVER_ERROR, path="/orders", times=2)
        await http.get("/account")
        for _ in range(2):
            with pytest.raises(Unavailable):
                await http.get("/orders")
            with pytest.raises(OutcomeUnknown):
                await http.send("POST", "/account")
        await http.get("/orders")
        with pytest.raises(OutcomeUnknown):
            await http.send("POST", "/account")
        server.recover()
        await http.send("POST", "/account")

    talk(script)


def test_the_page_of_the_kit_has_every_fault_and_code_that_runs(root: Path) -> None:
    """docs/reference/testing-kit.md: its tables are those of the enums, and its example does what it says."""
    page = (root / "docs" / "reference" / "testing-kit.md").read_text(encoding="utf-8")
    for faults in (ServerFault, SocketFault):
        assert "".join(f"| {one.name} | {one.value} |\n" for one in faults) in page
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(code, names)
    assert asyncio.run(names["main"]()) == ["100.00", "/account", "/account"]


def test_an_address_that_is_too_long_is_refused() -> None:
    """As by common web servers: a plugin that puts all symbols into one request is noticed."""

    async def script(_server: ScriptedServer, connect: Connect) -> int:
        client, most = connect.http("api"), LONGEST_TARGET - len("/a?s=")
        await client.get("/a", {"s": "x" * most})
        with pytest.raises(Rejected, match=r"414.*too long"):
            await client.get("/a", {"s": "x" * (most + 1)})
        return (await client.send("POST", "/a", form={"s": "x" * (most + 1)})).status

    assert talk(script) == 200


def test_a_handler_may_wait_and_may_cut_the_connection() -> None:
    """An answer comes later where the handler says so, and None ends the connection without one."""

    async def main() -> tuple[float, int]:
        async def answer(request: ServerRequest) -> ServerReply | None:
            await asyncio.sleep(3)
            return ServerReply() if request.path == "/late" else None

        async with ScriptedServer(answer) as server, connected(server, loop) as connect:
            client = connect.http("api")
            status = (await client.send("POST", "/late")).status
            with pytest.raises(OutcomeUnknown):
                await client.send("POST", "/cut")
            return loop.time(), status

    loop = VirtualLoop()
    assert run_virtual(main, loop) == (6.0, 200)
