"""The tasks of a session, and their end: no request in progress is cancelled.

The outcome of an order whose request is cancelled is unknown, although its response was on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from tbot_core.errors import TbotError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.model.clock import Clock

AsyncAction: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""An action that is run once or repeatedly."""


class _RunningAction:
    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self.task = task
        self.is_running = False


class SessionTasks:
    """The tasks of one session; at the end, running ones have `timeout_s` to finish."""

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._over = False
        self._actions: list[_RunningAction] = []

    async def repeat_every(self, seconds: float, action: AsyncAction) -> None:
        """Repeat an action with this pause, until the session ends."""
        entry = self._register()
        while not self._over:
            await self._run(entry, action)
            if not self._over:
                await self._clock.sleep(seconds)

    async def run_on_event(self, event: asyncio.Event, action: AsyncAction) -> None:
        """Run an action each time the event is set, until the session ends; set during a run, it runs once more.

        No action is started after the end: it would not be awaited.
        """
        entry = self._register()
        while not self._over and await self._wait_for(event):
            await self._run(entry, action)

    async def _wait_for(self, event: asyncio.Event) -> bool:
        # Wait for an event; returns whether the session goes on.
        await event.wait()
        event.clear()
        return not self._over

    def _register(self) -> _RunningAction:
        self._actions.append(_RunningAction(asyncio.current_task()))
        return self._actions[-1]

    @staticmethod
    async def _run(entry: _RunningAction, action: AsyncAction) -> None:
        entry.is_running = True
        try:
            await action()
        finally:
            entry.is_running = False

    async def run_until_first_ends(self, main: asyncio.Task[Any], side: Sequence[asyncio.Task[None]]) -> None:
        """Wait for the first task that ends, cancel the others, and raise the first error of any.

        After a failure nothing is awaited. It is a failure if a task other than `main` ends.
        """
        tasks = [main, *side]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._over = ended = main.done()
            is_running = [one.task for one in self._actions if one.is_running and one.task is not None]
            if is_running and ended and not main.cancelled() and main.exception() is None:
                await asyncio.wait(is_running, timeout=self._timeout_s, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result
        if not ended:
            raise TbotError("A task of the session ended unexpectedly.", "Start again: `tbot run` resumes it.")
