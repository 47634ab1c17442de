"""An asyncio event loop in virtual time: whoever waits is woken at once, at the moment he waited for.

Nothing in it depends on the machine: timers decide what the time is, tasks run in the order in which they were woken,
and sets of tasks are walked in the order of their making. There are no threads, no executors and no sockets.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import heapq
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, TypeVar, TypeVarTuple, cast

from tbot_core.model.clock import require_aware

if TYPE_CHECKING:
    import contextvars
    from collections import deque

Value = TypeVar("Value")
Parts = TypeVarTuple("Parts")
_Awaited: TypeAlias = Generator[Any, None, Value] | Coroutine[Any, Any, Value]

_MANY: Final = 100
_HALF: Final = 0.5


class LoopDeadlock(RuntimeError):
    """Nothing is ready, nothing is scheduled, and somebody still waits."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose time is virtual seconds since its making."""

    _ready: deque[_Call | _Timer]
    _scheduled: list[_Timer]
    _stopping: bool
    _clock_resolution: float

    def __init__(self) -> None:
        super().__init__()
        self._seconds = 0.0
        self._born = 0
        self._lost = 0

    def __del__(self) -> None:
        # It holds nothing of the machine's, so one that was never run may simply go.
        pass

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._seconds

    @property
    def next_at(self) -> float | None:
        """The next second at which somebody may be woken; None where nobody waits for any."""
        later = (timer for timer in self._scheduled if not timer.dropped and timer > self._seconds)
        return min(map(float, later), default=None)

    def pass_time(self, seconds: float) -> None:
        """Let this much virtual time pass, as a turn does when nothing is ready."""
        self._seconds += seconds

    def call_soon(
        self, callback: Callable[[*Parts], object], *args: *Parts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Call somebody back in the next turn."""
        call = _Call(callback, args, copy_context() if context is None else context)
        self._ready.append(call)
        return cast("asyncio.Handle", call)

    def call_soon_threadsafe(
        self, callback: Callable[[*Parts], object], *args: *Parts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """The same: there are no other threads."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Parts], object],
        *args: *Parts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call somebody back so many seconds from now."""
        return self.call_at(self._seconds + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Parts], object],
        *args: *Parts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call somebody back at that second."""
        timer = _Timer(when)
        timer.callback, timer.args = callback, args
        timer.context = copy_context() if context is None else context
        timer.dropped, timer.loop = False, self
        heapq.heappush(self._scheduled, timer)
        return cast("asyncio.TimerHandle", timer)

    def lose(self) -> None:
        """One of the timers was dropped before its time."""
        self._lost += 1

    def create_task(
        self, coro: _Awaited[Value], *, name: object = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Value]:
        """A task that is numbered within this loop."""
        self._born += 1
        return _Task(self._born, coro, loop=self, name=str(name or f"task-{self._born}"), context=context)

    def run_in_executor(self, *_: object) -> NoReturn:
        """Refused: a thread's time is not virtual."""
        raise RuntimeError("The simulation has no threads: nothing can be run in an executor.")

    def finish(self) -> None:
        """Cancel every task that is left, in the order of their making, and close the loop."""
        left = sorted(asyncio.all_tasks(self), key=hash)
        for task in left:
            task.cancel()
        if left:
            self.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self.run_until_complete(self.shutdown_asyncgens())
        self.close()

    def _run_once(self) -> None:
        # One turn, in asyncio's own order: where it would wait for files, time moves on to the next timer.
        #
        # What fails in a callback, and not in a task, ends the run.
        ready = self._ready
        self._forget()
        scheduled = self._scheduled
        if not ready and not self._stopping:
            if not scheduled:
                self._give_up()
            self.pass_time(max(0.0, scheduled[0] - self._seconds))
        end = self._seconds + self._clock_resolution
        while scheduled and scheduled[0] < end:
            timer = heapq.heappop(scheduled)
            timer.loop = None
            ready.append(timer)
        for _ in range(len(ready)):
            call = ready.popleft()
            if not call.dropped:
                call.context.run(call.callback, *call.args)

    def _forget(self) -> None:
        # Take out dropped timers: all of them when they are many, else those that come first.
        scheduled = self._scheduled
        if len(scheduled) > _MANY and self._lost / len(scheduled) > _HALF:
            self._scheduled, self._lost = [timer for timer in scheduled if not timer.dropped], 0
            heapq.heapify(self._scheduled)
            return
        while scheduled and scheduled[0].dropped:
            self._lost -= 1
            heapq.heappop(scheduled)

    def _give_up(self) -> NoReturn:
        waiting = sorted((task for task in asyncio.all_tasks(self) if not task.done()), key=hash)
        names = ", ".join(task.get_name() for task in waiting)
        raise LoopDeadlock(f"Nothing is ready and nothing is scheduled, and these wait for ever: {names}.")


class LoopClock:
    """The clock of a machine that lives in a virtual loop; its wall clock may be set, or run wrong."""

    def __init__(self, loop: VirtualLoop, start: dt.datetime) -> None:
        """`start` is the moment at which the loop's time is 0; raises ValueError for a naive one."""
        self._loop = loop
        self._start = require_aware(start).astimezone(dt.UTC)
        self._wrong_s = 0.0
        self._rate = 0.0
        self._since = 0.0
        self._read_at, self._shown = 0.0, self._start
        self._sleepers: dict[asyncio.Future[None], None] = {}

    def now(self) -> dt.datetime:
        """What the wall clock shows, in UTC."""
        passed = self._loop.time()
        if passed != self._read_at:
            self._read_at = passed
            seconds = passed + self._wrong_s + self._rate * (passed - self._since)
            self._shown = self._start + dt.timedelta(seconds=seconds)
        return self._shown

    def true(self) -> dt.datetime:
        """What a wall clock would show that was never touched."""
        return self._start + dt.timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        """Virtual seconds; no fault of the wall clock touches them."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Wait this many seconds; 0 and less let the others go first."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = self._loop.create_future()
        timer = self._loop.call_later(seconds, _wake, woken)
        try:
            await woken
        except BaseException:
            timer.cancel()
            raise

    async def sleep_until(self, moment: dt.datetime) -> None:
        """Wait until the wall clock shows the moment, also when it is set meanwhile."""
        require_aware(moment)
        while (rest_s := (moment - self.now()).total_seconds()) > 0:
            woken: asyncio.Future[None] = self._loop.create_future()
            self._sleepers[woken] = None
            handle = self._loop.call_later(rest_s / (1 + self._rate), _wake, woken)
            try:
                await woken
            finally:
                handle.cancel()
                del self._sleepers[woken]

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back where negative."""
        self._set(self._wrong_s + seconds, self._rate)

    def drift(self, rate: float) -> None:
        """Let the wall clock gain so many seconds each second from now on; raises ValueError at -1 and below."""
        if rate <= -1:
            raise ValueError(f"A clock that gains {rate} s a second would stand still or go back.")
        self._set(self._wrong_s, rate)

    def mend(self) -> None:
        """Set the wall clock right again."""
        self._set(0.0, 0.0, carry=False)

    def _set(self, wrong_s: float, rate: float, *, carry: bool = True) -> None:
        passed = self._loop.time()
        self._wrong_s = wrong_s + (self._rate * (passed - self._since) if carry else 0.0)
        self._rate, self._since, self._read_at = rate, passed, -1.0
        for sleeper in [*self._sleepers]:
            _wake(sleeper)


def run_virtual(main: Callable[[], Coroutine[Any, Any, Value]], loop: VirtualLoop | None = None) -> Value:
    """Run `main` in a virtual loop to its end, and everything that it leaves behind to its own.

    Raises Deadlock when everybody waits for somebody else.
    """
    virtual = loop or VirtualLoop()
    try:
        return virtual.run_until_complete(main())
    finally:
        virtual.finish()


class _Call:
    # What is to be done in the next turn.
    __slots__ = ("args", "callback", "context", "dropped")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context) -> None:
        self.callback, self.args, self.context = callback, args, context
        self.dropped = False

    def cancel(self) -> None:
        self.dropped = True

    def cancelled(self) -> bool:
        return self.dropped


class _Timer(float):
    # The second at which something is to be done; it sorts as the number does, and so without a call for each look.
    __slots__ = ("args", "callback", "context", "dropped", "loop")

    callback: Callable[..., object]
    args: tuple[Any, ...]
    context: contextvars.Context
    dropped: bool
    loop: VirtualLoop | None

    def when(self) -> float:
        return float(self)

    def cancel(self) -> None:
        if not self.dropped and self.loop is not None:
            self.loop.lose()
        self.dropped = True

    def cancelled(self) -> bool:
        return self.dropped


class _Task(asyncio.Task[Value]):
    # A task whose place in a set follows from its number, not from where it lies in memory.
    def __init__(self, number: int, coro: _Awaited[Value], **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
