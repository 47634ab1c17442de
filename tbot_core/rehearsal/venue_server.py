"""Serves a simulated venue to a client in another process.

The venue outlives its clients. Its time is the world's seconds; each message of a client advances it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from tbot_core.errors import BrokerError
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.rehearsal.broker_client import SimulatedBroker
from tbot_core.rehearsal.serialization import dump_line, load_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from tbot_core.rehearsal.network import NetworkPath
    from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop

    class Connection(Protocol):
        """A connection for messages and answers."""

        def send(self, data: bytes) -> None:
            """Send bytes."""

        def receive(self) -> bytes | None:
            """The next message; None when the other end has closed."""


_ROUNDS: Final = 6
_ASKED: Final = frozenset({"connect", "account", "submit", "cancel", "replace", "poll", "snapshot", "find", "close"})


class VenueServer:
    """Serves one client of a venue; a restarted bot is another client.

    A message has the client's current second of the world, and may have a request with a number. The answer has the
    results of all requests finished by then, and the second at which more may finish.
    """

    def __init__(self, way: NetworkPath, loop: VirtualLoop, clock: LoopClock) -> None:
        self._loop = loop
        self._broker = SimulatedBroker(way, clock)
        self._start = way.exchange.matching.start
        self._tasks: dict[int, asyncio.Task[Any]] = {}

    def serve(self, connection: Connection) -> None:
        """Answer messages until the client closes the connection."""
        while (message := connection.receive()) is not None:
            connection.send(self.answer(message))

    def answer(self, message: bytes) -> bytes:
        """The answer to a message."""
        at, number, what, parts = load_line(message)
        if what == "hello":
            return dump_line((self._broker.capabilities, self._start))
        self._loop.run_until_complete(self._pass(at, number, what, parts))
        done = [number for number, task in self._tasks.items() if task.done()]
        answers = [(number, self._tasks.pop(number).result()) for number in done]
        return dump_line((answers, self._loop.next_at if self._tasks else None))

    async def _ask(self, what: str, parts: tuple[Any, ...]) -> object:
        if what not in _ASKED:
            raise ValueError(f"A broker is not asked for {what}.")
        if what == "submit":  # the client redeemed the real permit
            parts = (*parts, SendPermit(parts[0], never_refuse))
        ask: Callable[..., Any] = getattr(self._broker, what)
        try:
            return await ask(*parts)
        except BrokerError as fault:
            return fault

    async def _pass(self, at: float, number: int, what: str, parts: tuple[Any, ...]) -> None:
        # Advance to that second, and start the request.
        if at > self._loop.time():
            await asyncio.sleep(at - self._loop.time())
        if what:
            self._tasks[number] = self._loop.create_task(self._ask(what, parts))
        for _ in range(_ROUNDS):  # run the tasks that wake at that very second
            await asyncio.sleep(0)
