"""Repeats the request for a feed that does not respond, while the session continues without it."""

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
    """Sends the request when created; `retry_until_answered` repeats it after a failure."""

    def __init__(self, request: Callable[[], Coroutine[Any, Any, Answer]], clock: Clock) -> None:
        self._request = request
        self._clock = clock
        self._response = asyncio.ensure_future(request())

    async def first_answer(self) -> Answer | TbotError:
        """The response to the first request, or its fault; Unavailable if none came within a second."""
        try:
            await asyncio.wait([self._response], timeout=AT_ONCE_S)
        except asyncio.CancelledError:
            self._response.cancel()
            raise
        if not self._response.done():
            return Unavailable("no message received yet")
        fault = self._response.exception()
        return self._response.result() if fault is None else _fault(fault)

    async def retry_until_answered(self, failed: Callable[[TbotError], None]) -> Answer:
        """The response, after as many requests as needed; `failed` is called with each fault."""
        failures = 0
        while True:
            try:
                return await self._response
            except Exception as fault:  # noqa: BLE001  -- the border of a feed
                failed(_fault(fault))
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError  # the feed replaced the cancellation by its own error
            await self._clock.sleep(AGAIN_S[min(failures, len(AGAIN_S) - 1)])
            failures += 1
            self._response = asyncio.ensure_future(self._request())


def _fault(raised: BaseException) -> TbotError:
    # A feed may raise anything; no error may stop the management of positions.
    return raised if isinstance(raised, TbotError) else Unavailable(f"{type(raised).__name__}: {raised}")
