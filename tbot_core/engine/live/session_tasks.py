"""The tasks of a live session: those repeated, its watch loop, those at all brokers, and their end.

No request in progress is cancelled at the end: the outcome of its order would be unknown, although its response was on
the way. A round of the watch loop awaits no broker. Actions that need one are started by events and run in tasks of
their own.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tbot_core.errors import TbotError
from tbot_core.execution.requests import run_concurrently
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
    from tbot_core.engine.session.config import LiveConfig
    from tbot_core.engine.session.requests import RequestHandler
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


class WatchLoop:
    """The watch loop of one session; `checks` run each round besides those of requests, disk and event loop."""

    def __init__(
        self,
        config: LiveConfig,
        clock: Clock,
        supervisors: Sequence[BrokerSupervisor],
        requests: RequestHandler,
        checks: Sequence[Callable[[], None]],
    ) -> None:
        self._config = config
        self._clock = clock
        self._supervisors = supervisors
        self._requests = requests
        self._checks = checks
        self._calls: list[tuple[Callable[[], bool], asyncio.Event]] = []
        self._loop_guard = LoopGuard(clock.monotonic())

    def event_when(self, due: Callable[[], bool]) -> asyncio.Event:
        """An event that is set in each round in which `due` is true."""
        self._calls.append((due, asyncio.Event()))
        return self._calls[-1][1]

    async def process_requests(self) -> None:
        """Execute pending requests only; used while the account has not been read yet."""
        self._requests.poll(self._config.folder)
        signals = self._config.signals
        if signals.raise_causes(self._requests.trading_state):
            self._requests.on_signal(flattens=signals.flattens)
        self._loop_guard.begin_pause(self._clock.monotonic())

    async def run_once(self) -> None:
        """Run one round; it does not yield to other tasks."""
        for supervisor in self._supervisors:
            supervisor.raise_causes()
        for check in self._checks:
            check()
        self._check_stall()
        self._config.disk_guard.update_causes(
            self._clock.monotonic(), *(supervisor.trading_state for supervisor in self._supervisors)
        )
        await self.process_requests()
        for due, event in self._calls:
            if due():
                event.set()

    def _check_stall(self) -> None:
        # Events of a stall were missed: exits only, until a clean reconciliation.
        stalled_s = self._loop_guard.stalled_s(self._clock.monotonic(), self._config.watch_s)
        if stalled_s:
            self._requests.trading_state.raise_cause(StateCause.STALLED, f"for {stalled_s:.0f} s")
            self._requests.trading_state.clear_cause(StateCause.STALLED)


STALL_S: Final = 10.0
"""A bot whose event loop stalled for so long missed what happened meanwhile."""


class LoopGuard:
    """Measures how much longer a pause took than intended; times are those of a monotonic clock, in seconds."""

    def __init__(self, now: float) -> None:
        self._paused = now

    def begin_pause(self, now: float) -> None:
        """Record the start of a pause."""
        self._paused = now

    def stalled_s(self, now: float, intended_s: float) -> float:
        """How many seconds the pause took too long, if at least STALL_S; else 0."""
        excess = now - self._paused - intended_s
        return excess if excess >= STALL_S else 0.0


async def poll_brokers(supervisors: Sequence[BrokerSupervisor]) -> None:
    """One round of polling and supervision at every broker, without those whose first reading is pending."""
    awaited = [one for one in supervisors if one.broker_session.is_awaited]
    await run_concurrently([one.broker_session.execution.process_broker_events for one in awaited])
    await run_concurrently([one.run_once for one in awaited])


async def settle_orders(
    supervisors: Sequence[BrokerSupervisor],
    clock: Clock,
    timeout_s: float,
    is_stopping: Callable[[], bool],
    stop_timeout_s: float,
) -> bool:
    """Wait for orders in flight, at most `timeout_s`; a stop leaves them `stop_timeout_s`.

    Returns False if a stop ended the wait.
    """
    until, stop_until = clock.monotonic() + timeout_s, math.inf
    while (now := clock.monotonic()) < until and any(one.broker_session.in_flight for one in supervisors):
        stop_until = min(stop_until, now + stop_timeout_s) if is_stopping() else math.inf
        if now >= stop_until:
            return False
        await clock.sleep(1.0)
    return True


async def close_accounts(supervisors: Sequence[BrokerSupervisor], is_stopping: Callable[[], bool]) -> bool:
    """Read the accounts at the end of the day, without those whose first reading is pending.

    Returns False if a stop came before each was read.
    """
    unread: list[BrokerSupervisor] = []

    async def close(supervisor: BrokerSupervisor) -> None:
        if not await supervisor.close_account(is_stopping):
            unread.append(supervisor)

    await run_concurrently([partial(close, one) for one in supervisors if one.broker_session.is_awaited])
    return not unread


def side_tasks(supervisors: Sequence[BrokerSupervisor], tasks: SessionTasks) -> list[asyncio.Task[None]]:
    """Tasks of the session that nothing waits for: the event streams, and the standbys' first account readings."""
    streams = (one.broker_session.execution.stream for one in supervisors)
    found = [asyncio.ensure_future(stream.run()) for stream in streams if stream is not None]
    for one in supervisors[1:]:
        begin = asyncio.Event()
        begin.set()
        found.append(asyncio.ensure_future(tasks.run_on_event(begin, one.reconcile)))
    return found
