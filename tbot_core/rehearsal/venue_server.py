"""A simulated venue at the counter: what a client in another process asks is answered, at the time that it brings.

The venue outlives its clients. Its time is the world's seconds; it stands still unless somebody brings it along.
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
        """What messages come from, and answers go to."""

        def send(self, data: bytes) -> None:
            """Send bytes."""

        def receive(self) -> bytes | None:
            """The next message; None once the other end has gone."""


_ROUNDS: Final = 6
_ASKED: Final = frozenset({"connect", "account", "submit", "cancel", "replace", "poll", "snapshot", "find", "close"})


class VenueServer:
    """One client of a venue that asks from another process; a bot that starts again is another client.

    A message tells the second of the world that it is there, and may ask something under a number of its own. The
    answer tells what was answered until then, question by question, and the second at which more may be.
    """

    def __init__(self, way: NetworkPath, loop: VirtualLoop, clock: LoopClock) -> None:
        self._loop = loop
        self._broker = SimulatedBroker(way, clock)
        self._start = way.exchange.floor.start
        self._tasks: dict[int, asyncio.Task[Any]] = {}

    def serve(self, line: Connection) -> None:
        """Answer until the client has gone."""
        while (message := line.receive()) is not None:
            line.send(self.answer(message))

    def answer(self, message: bytes) -> bytes:
        """What is said to a message."""
        at, number, what, parts = load_line(message)
        if what == "hello":
            return dump_line((self._broker.rules, self._start))
        self._loop.run_until_complete(self._pass(at, number, what, parts))
        done = [number for number, task in self._tasks.items() if task.done()]
        answers = [(number, self._tasks.pop(number).result()) for number in done]
        return dump_line((answers, self._loop.next_at if self._tasks else None))

    async def _ask(self, what: str, parts: tuple[Any, ...]) -> object:
        if what not in _ASKED:
            raise ValueError(f"A broker is not asked for {what}.")
        if what == "submit":  # the right to send it was used where it was sent
            parts = (*parts, SendPermit(parts[0], never_refuse))
        ask: Callable[..., Any] = getattr(self._broker, what)
        try:
            return await ask(*parts)
        except BrokerError as fault:
            return fault

    async def _pass(self, at: float, number: int, what: str, parts: tuple[Any, ...]) -> None:
        # Let everything happen that is due until then, and begin what is asked.
        if at > self._loop.time():
            await asyncio.sleep(at - self._loop.time())
        if what:
            self._tasks[number] = self._loop.create_task(self._ask(what, parts))
        for _ in range(_ROUNDS):  # whoever was woken at that very second gets his turn
            await asyncio.sleep(0)
