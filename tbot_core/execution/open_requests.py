"""Requests beside each other, and order requests whose caller waits for a while only while the request goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tbot_core.trading.order_lookup import UNANSWERED_S

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence


class OpenRequests:
    """The order requests of one broker; one without an answer holds up no other.

    It is not cancelled, since its order may still be booked: it ends with its own time-out.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None

    async def wait_for(self, request: Coroutine[Any, Any, None]) -> None:
        """Begin a request, and wait for its end for at most `UNANSWERED_S`; raises what it raises until then."""
        task = asyncio.ensure_future(request)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        try:
            await asyncio.wait({task}, timeout=UNANSWERED_S)
        finally:
            if not task.done():
                self._late.add(task)
        if task.done():
            task.result()

    def raise_fault(self) -> None:
        """Raise the failure of a request that ended after its caller had gone on."""
        if self._fault is not None:
            raise self._fault

    async def finish(self, timeout_s: float) -> None:
        """Wait for the end of the requests."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        self.raise_fault()

    def cancel(self) -> None:
        """Cancel the requests: the process ends."""
        for task in self._tasks:
            task.cancel()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task in self._late:
            self._late.discard(task)
            self._fault = self._fault or (None if task.cancelled() else task.exception())


async def run_concurrently(calls: Sequence[Callable[[], Coroutine[Any, Any, object]]]) -> None:
    """Run all calls concurrently; the first exception is raised when all have ended."""
    if not calls:
        return
    if len(calls) == 1:
        await calls[0]()
        return
    for outcome in await asyncio.gather(*(call() for call in calls), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
