"""The tasks of a session, and their end: no request in progress is cut off.

An order whose request is cut off has an unknown outcome, though its response was on the way.
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
"""Something that is done, once or again and again."""


class _Errand:
    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self.task = task
        self.at_work = False


class SessionTasks:
    """The tasks of one session; at the end, running ones have `timeout_s` to finish."""

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._over = False
        self._errands: list[_Errand] = []

    async def repeat_every(self, seconds: float, act: AsyncAction) -> None:
        """Repeat an action with this pause, until the session ends."""
        me = self._errand()
        while not self._over:
            await self._act(me, act)
            if not self._over:
                await self._clock.sleep(seconds)

    async def run_on_event(self, bell: asyncio.Event, act: AsyncAction) -> None:
        """Act whenever the bell has rung, until all is over; rung meanwhile, it calls once more.

        Nothing is begun while others finish: nobody would wait for it.
        """
        me = self._errand()
        while not self._over and await self._rings(bell):
            await self._act(me, act)

    async def _rings(self, bell: asyncio.Event) -> bool:
        # Wait for a bell; whether it has rung before all was over.
        await bell.wait()
        bell.clear()
        return not self._over

    def _errand(self) -> _Errand:
        self._errands.append(_Errand(asyncio.current_task()))
        return self._errands[-1]

    @staticmethod
    async def _act(me: _Errand, act: AsyncAction) -> None:
        me.at_work = True
        try:
            await act()
        finally:
            me.at_work = False

    async def run_until_first_ends(self, main: asyncio.Task[Any], side: Sequence[asyncio.Task[None]]) -> None:
        """Wait for the first that ends, end the others, and raise what went wrong in any of them.

        After a failure nothing is waited for; it is one as well when another than `main` ends without a word.
        """
        tasks = [main, *side]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._over = ended = main.done()
            at_work = [one.task for one in self._errands if one.at_work and one.task is not None]
            if at_work and ended and not main.cancelled() and main.exception() is None:
                await asyncio.wait(at_work, timeout=self._timeout_s, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result
        if not ended:
            raise TbotError("A task of the session ended unexpectedly.", "Start again: `tbot run` resumes it.")
