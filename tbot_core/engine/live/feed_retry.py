"""Requests a feed that does not respond again, while the session continues without it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from tbot_core.errors import TbotError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tbot_core.model.clock import Clock

Answer = TypeVar("Answer")

SILENT: Final = "the feed does not respond"
AT_ONCE_S: Final = 1.0
AGAIN_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""The delays after failed requests; the last one repeats."""


class FeedRetry(Generic[Answer]):
    """Sends the request as soon as it is created; `persist` repeats it after a failure."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, Answer]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._asked = asyncio.ensure_future(ask())

    async def first_answer(self) -> Answer | TbotError:
        """The response to the first request; its fault, or that nothing was received within a second."""
        try:
            await asyncio.wait([self._asked], timeout=AT_ONCE_S)
        except asyncio.CancelledError:
            self._asked.cancel()
            raise
        if not self._asked.done():
            return Unavailable("no message received yet")
        fault = self._asked.exception()
        return self._asked.result() if fault is None else _fault(fault)

    async def retry_until_answered(self, failed: Callable[[TbotError], None]) -> Answer:
        """The response, after as many requests as needed; `failed` is called with each fault."""
        failures = 0
        while True:
            try:
                return await self._asked
            except Exception as fault:  # noqa: BLE001  -- the border of a feed
                failed(_fault(fault))
            if (me := asyncio.current_task()) is not None and me.cancelling():
                raise asyncio.CancelledError  # a feed has made a fault of its own of it
            await self._clock.sleep(AGAIN_S[min(failures, len(AGAIN_S) - 1)])
            failures += 1
            self._asked = asyncio.ensure_future(self._ask())


def _fault(raised: BaseException) -> TbotError:
    # A feed may answer with anything: whatever it is, what is held is looked after.
    return raised if isinstance(raised, TbotError) else Unavailable(f"{type(raised).__name__}: {raised}")
