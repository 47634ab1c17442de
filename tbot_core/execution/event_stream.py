"""The stream of a broker's order events: one connection after the other, and a reading of the account between them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from tbot_core.contracts import Gap
from tbot_core.errors import BrokerError, Unavailable
from tbot_core.system import log
from tbot_core.system.timeouts import CallTimedOut, steps_within
from tbot_core.trading.order_lookup import ARRIVES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from tbot_core.contracts import BrokerEvent, SupportsEventStream
    from tbot_core.model.clock import Clock

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
"""The pause before the next connection doubles from the first to the longest, and starts anew after an item."""

_log = log.logger(__name__)


class EventStream:
    """Receives the events of one broker while `run` runs; `receive` returns them in their order.

    `on_gap` is called at the end of a connection and at each `Gap`: the account must be read.
    """

    def __init__(self, broker: SupportsEventStream, clock: Clock, step_s: float, on_gap: Callable[[], None]) -> None:
        self._broker = broker
        self._clock = clock
        self._step_s = step_s
        self._received: deque[BrokerEvent] = deque()
        self._fault = ""
        self._pause_s = FIRST_PAUSE_S
        self._open_since: datetime | None = None
        self._listening: asyncio.Future[None] | None = None
        self._on_gap = on_gap

    async def run(self) -> None:
        """Open one connection after the other; ends by its cancellation alone."""
        while True:
            try:
                await self._connection()
                self._fault = "the stream of events ended"
            except CallTimedOut as fault:
                self._fault = f"the broker's plugin blocked the event loop: {fault}"
            except BrokerError as fault:
                self._fault = fault.message
            self._open_since = None
            _log.warning("broker.stream_lost", reason=self._fault, pause_s=self._pause_s)
            self._on_gap()
            await self._clock.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def receive(self) -> list[BrokerEvent]:
        """The events since the last call, oldest first; raises Unavailable while there is none and no connection."""
        events = [*self._received]
        self._received.clear()
        if self._fault and not events:
            raise Unavailable(f"There is no stream of order events: {self._fault}")
        return events

    def missed(self, at: datetime) -> bool:
        """Whether an event of this time, which a reading had, should have arrived: the connection is opened again."""
        since, now = self._open_since, self._clock.now()
        if since is None or self._listening is None or not since + ARRIVES <= at <= now - ARRIVES:
            return False
        self._open_since = None
        self._listening.cancel()
        return True

    async def _connection(self) -> None:
        # Listen until the connection ends, or an event was missed on it.
        self._listening = asyncio.ensure_future(self._listen(self._broker.events()))
        try:
            await self._listening
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling() or not self._listening.cancelled():
                raise
            raise Unavailable("it was open, and order events did not arrive") from None

    async def _listen(self, connection: AsyncIterator[BrokerEvent | Gap]) -> None:
        while (item := await steps_within(self._step_s, anext(connection, None))) is not None:
            self._fault, self._pause_s = "", FIRST_PAUSE_S
            self._open_since = self._open_since or self._clock.now()
            if isinstance(item, Gap):
                _log.info("broker.stream_gap", reason=item.words)
                self._on_gap()
            else:
                self._received.append(item)
