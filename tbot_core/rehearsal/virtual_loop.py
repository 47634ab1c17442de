"""An asyncio event loop in virtual time: sleeping tasks wake at once, and the time jumps to their timers.

Timers set the time, tasks run in the order in which they were woken, and sets of tasks iterate in the order of
creation: without connections it is deterministic. Connections on this machine whose two ends are both in the loop are
real ones. Time does not pass while a task is ready or a byte is on its way, and also while one end ends and the other
has not read that. A kernel delivers what was sent over loopback at once, or a moment later; bytes are counted at both
ends. There are no threads and no executors.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import heapq
import selectors
import socket  # seam: counts what a rehearsal's own connections carry
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
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

_ARRIVES_S: Final = 10.0
"""Seconds of the machine's time within which sent bytes arrive, however busy it is."""

_Address: TypeAlias = tuple[Any, ...]


class LoopDeadlock(RuntimeError):
    """Nothing is ready or scheduled, and tasks still wait; or what was sent does not arrive."""


class VirtualLoop(BaseSelectorEventLoop):
    """An event loop whose time is virtual seconds since its creation."""

    _ready: deque[_Call | _Timer]
    _scheduled: list[_Timer]
    _stopping: bool
    _clock_resolution: float

    def __init__(self) -> None:
        self._selector = selectors.PollSelector()
        super().__init__(self._selector)
        self._traffic = LoopbackTraffic(self._reads)
        self._seconds = 0.0
        self._task_count = 0
        self._dropped_timers = 0

    def __del__(self) -> None:
        # Without connections it holds no resources of the machine, so an unused one needs no close.
        pass

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._seconds

    @property
    def next_at(self) -> float | None:
        """The second of the next timer; None without one."""
        later = (timer for timer in self._scheduled if not timer.dropped and timer > self._seconds)
        return min(map(float, later), default=None)

    def pass_time(self, seconds: float) -> None:
        """Advance virtual time, as an iteration does when nothing is ready."""
        self._seconds += seconds

    def call_soon(
        self, callback: Callable[[*Parts], object], *args: *Parts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Run a callback in the next iteration."""
        call = _Call(callback, args, copy_context() if context is None else context)
        self._ready.append(call)
        return cast("asyncio.Handle", call)

    def call_soon_threadsafe(
        self, callback: Callable[[*Parts], object], *args: *Parts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """The same as `call_soon`: there are no other threads."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Parts], object],
        *args: *Parts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback after a delay in seconds."""
        return self.call_at(self._seconds + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Parts], object],
        *args: *Parts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback at a second of virtual time."""
        timer = _Timer(when)
        timer.callback, timer.args = callback, args
        timer.context = copy_context() if context is None else context
        timer.dropped, timer.loop = False, self
        heapq.heappush(self._scheduled, timer)
        return cast("asyncio.TimerHandle", timer)

    def lose(self) -> None:
        """Count a timer that was cancelled before its time."""
        self._dropped_timers += 1

    def create_task(
        self, coro: _Awaited[Value], *, name: object = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Value]:
        """Create a task that is numbered within this loop."""
        self._task_count += 1
        return _Task(self._task_count, coro, loop=self, name=str(name or f"task-{self._task_count}"), context=context)

    def run_in_executor(self, *_: object) -> NoReturn:
        """Raises RuntimeError: a thread's time is not virtual."""
        raise RuntimeError("The simulation has no threads: nothing can be run in an executor.")

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect; time does not pass meanwhile."""
        with self._traffic.connecting():
            await super().sock_connect(sock, address)

    def finish(self) -> None:
        """Cancel all remaining tasks in the order of their creation, and close the loop."""
        left = sorted(asyncio.all_tasks(self), key=hash)
        for task in left:
            task.cancel()
        if left:
            self.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self.run_until_complete(self.shutdown_asyncgens())
        self.close()

    def _run_once(self) -> None:
        # One iteration in asyncio's order: when nothing is ready or on its way, time moves to the next timer.
        #
        # An error in a callback, not in a task, ends the run.
        ready = self._ready
        if not ready and not self._stopping and self._selector.get_map():
            self._receive()
        self._remove_dropped()
        scheduled = self._scheduled
        if not ready and not self._stopping:
            if not scheduled:
                self._raise_deadlock()
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

    def _receive(self) -> None:
        # Read what has arrived, and wait for what is on its way.
        self._process_events(self._selector.select(0))
        while not self._ready and (waiting := self._traffic.in_transit):
            arrived = self._selector.select(_ARRIVES_S)
            if not arrived:
                raise LoopDeadlock(f"Nothing arrived for {_ARRIVES_S:.0f} s on: {', '.join(waiting)}.")
            self._process_events(arrived)

    def _process_events(self, event_list: list[tuple[selectors.SelectorKey, int]]) -> None:
        for key, mask in event_list:
            reader, writer = key.data
            if mask & selectors.EVENT_READ and reader is not None:
                self.call_soon(_run_waiting, reader)
            if mask & selectors.EVENT_WRITE and writer is not None:
                self.call_soon(_run_waiting, writer)

    def _reads(self, descriptor: int) -> bool:
        # Whether a descriptor is waited on for reading.
        key = self._selector.get_map().get(descriptor)
        return key is not None and bool(key.events & selectors.EVENT_READ)

    def _make_socket_transport(self, sock: socket.socket, *given: Any, **options: Any) -> Any:
        return _of_asyncio(super(), "_make_socket_transport")(self._traffic.counted(sock), *given, **options)

    def _start_serving(self, factory: Any, sock: socket.socket, *given: Any) -> None:
        self._traffic.listen(sock)
        _of_asyncio(super(), "_start_serving")(factory, sock, *given)

    def _stop_serving(self, sock: socket.socket) -> None:
        self._traffic.stop_listening(sock)
        _of_asyncio(super(), "_stop_serving")(sock)

    def _make_self_pipe(self) -> None:
        # No other thread or signal handler wakes this loop.
        pass

    def _close_self_pipe(self) -> None:
        pass

    def _remove_dropped(self) -> None:
        # Remove dropped timers: all if there are many, else those at the front.
        scheduled = self._scheduled
        if len(scheduled) > _MANY and self._dropped_timers / len(scheduled) > _HALF:
            self._scheduled, self._dropped_timers = [timer for timer in scheduled if not timer.dropped], 0
            heapq.heapify(self._scheduled)
            return
        while scheduled and scheduled[0].dropped:
            self._dropped_timers -= 1
            heapq.heappop(scheduled)

    def _raise_deadlock(self) -> NoReturn:
        waiting = sorted((task for task in asyncio.all_tasks(self) if not task.done()), key=hash)
        names = ", ".join(task.get_name() for task in waiting)
        raise LoopDeadlock(f"Nothing is ready and nothing is scheduled, and these wait for ever: {names}.")


class LoopClock:
    """A clock in a virtual loop; its wall clock may jump or drift."""

    def __init__(self, loop: VirtualLoop, start: dt.datetime) -> None:
        """`start` is the time at which the loop's time is 0; raises ValueError for a naive one."""
        self._loop = loop
        self._start = require_aware(start).astimezone(dt.UTC)
        self._offset_s = 0.0
        self._rate = 0.0
        self._since = 0.0
        self._read_at, self._shown = 0.0, self._start
        self._sleepers: dict[asyncio.Future[None], None] = {}

    def now(self) -> dt.datetime:
        """The wall clock's time, in UTC."""
        passed = self._loop.time()
        if passed != self._read_at:
            self._read_at = passed
            seconds = passed + self._offset_s + self._rate * (passed - self._since)
            self._shown = self._start + dt.timedelta(seconds=seconds)
        return self._shown

    def true(self) -> dt.datetime:
        """The correct time, in UTC."""
        return self._start + dt.timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        """Virtual seconds, independent of the wall clock."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Wait this many seconds; 0 and less only yield."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wakeup: asyncio.Future[None] = self._loop.create_future()
        timer = self._loop.call_later(seconds, _wake, wakeup)
        try:
            await wakeup
        except BaseException:
            timer.cancel()
            raise

    async def sleep_until(self, moment: dt.datetime) -> None:
        """Wait until the wall clock shows `moment`, even if it is set meanwhile."""
        require_aware(moment)
        while (rest_s := (moment - self.now()).total_seconds()) > 0:
            wakeup: asyncio.Future[None] = self._loop.create_future()
            self._sleepers[wakeup] = None
            handle = self._loop.call_later(rest_s / (1 + self._rate), _wake, wakeup)
            try:
                await wakeup
            finally:
                handle.cancel()
                del self._sleepers[wakeup]

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back if negative."""
        self._set(self._offset_s + seconds, self._rate)

    def drift(self, rate: float) -> None:
        """Let the wall clock gain `rate` seconds per second from now on; raises ValueError at -1 and below."""
        if rate <= -1:
            raise ValueError(f"A clock that gains {rate} s a second would stand still or go back.")
        self._set(self._offset_s, rate)

    def correct(self) -> None:
        """Set the wall clock to the correct time and rate."""
        self._set(0.0, 0.0, carry=False)

    def _set(self, offset_s: float, rate: float, *, carry: bool = True) -> None:
        passed = self._loop.time()
        self._offset_s = offset_s + (self._rate * (passed - self._since) if carry else 0.0)
        self._rate, self._since, self._read_at = rate, passed, -1.0
        for sleeper in [*self._sleepers]:
            _wake(sleeper)


def run_virtual(main: Callable[[], Coroutine[Any, Any, Value]], loop: VirtualLoop | None = None) -> Value:
    """Run `main` in a virtual loop to its end, then cancel its remaining tasks.

    Raises LoopDeadlock if all tasks wait and no timer is left.
    """
    virtual = loop or VirtualLoop()
    try:
        return virtual.run_until_complete(main())
    finally:
        virtual.finish()


class LoopbackTraffic:
    """The connections of one loop; `reads` tells whether a file descriptor is waited on for reading."""

    def __init__(self, reads: Callable[[int], bool]) -> None:
        self._reads = reads
        self._connecting = 0
        self._listening: set[_Address] = set()
        self._ends: dict[tuple[_Address, _Address], CountedSocket] = {}

    @property
    def in_transit(self) -> list[str]:
        """The connections on which something is still to arrive, as text; those without a reader are left out."""
        found = ["a connection that is being made"] * self._connecting
        for (here, there), end in self._ends.items():
            if end.is_open and self._is_awaited(end, there, self._ends.get((there, here))):
                found.append(f"{there} to {here}")
        return found

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """A connection is being made."""
        self._connecting += 1
        try:
            yield
        finally:
            self._connecting -= 1

    def listen(self, listener: socket.socket) -> None:
        """A socket accepts connections."""
        self._listening.add(listener.getsockname())

    def stop_listening(self, listener: socket.socket) -> None:
        """It accepts no more."""
        self._listening.discard(listener.getsockname())

    def counted(self, plain: socket.socket) -> CountedSocket:
        """A connected socket as one that counts."""
        here, there = plain.getsockname(), plain.getpeername()
        end = CountedSocket(plain, lambda: self._forget(here, there))
        self._ends[here, there] = end
        return end

    def _is_awaited(self, end: CountedSocket, there: _Address, other: CountedSocket | None) -> bool:
        # Whether something is still to arrive at this end, or the other end is still to be accepted.
        if other is None:
            return there in self._listening
        if end.has_ended or not self._reads(end.fileno()):
            return False
        return other.sent > end.received or other.sends_no_more

    def _forget(self, here: _Address, there: _Address) -> None:
        # The end that closes first is kept for what the other one has still to read.
        other = self._ends.get((there, here))
        if other is not None and not other.is_open:
            del self._ends[there, here], self._ends[here, there]


class CountedSocket:
    """One end of a connection: the bytes `sent` and `received`; `has_ended`: it has read the end of the other's bytes.

    `sends_no_more`: it was closed, also in one direction only.
    """

    def __init__(self, plain: socket.socket, on_close: Callable[[], None]) -> None:
        self._plain = plain
        self._on_close = on_close
        self.sent = self.received = 0
        self.is_open = True
        self.has_ended = self.sends_no_more = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)

    def send(self, data: Any) -> int:
        """Send and count."""
        count = self._plain.send(data)
        self.sent += count
        return count

    def sendmsg(self, buffers: Any) -> int:
        """Send and count."""
        count = self._plain.sendmsg(buffers)
        self.sent += count
        return count

    def recv(self, size: int) -> bytes:
        """Receive and count."""
        data = self._read(self._plain.recv, size)
        self._count(len(data))
        return data

    def recv_into(self, buffer: Any) -> int:
        """Receive and count."""
        count = self._read(self._plain.recv_into, buffer)
        self._count(count)
        return count

    def shutdown(self, how: int) -> None:
        """End one direction or both."""
        self.sends_no_more = self.sends_no_more or how != socket.SHUT_RD
        self._plain.shutdown(how)

    def close(self) -> None:
        """Close this end."""
        if self.is_open:
            self.is_open, self.sends_no_more = False, True
            self._plain.close()
            self._on_close()

    def _count(self, size: int) -> None:
        self.received += size
        self.has_ended = self.has_ended or not size

    def _read(self, call: Callable[[Any], Value], argument: object) -> Value:
        # After a reset nothing more arrives.
        try:
            return call(argument)
        except BlockingIOError:
            raise
        except OSError:
            self.has_ended = True
            raise


class _Call:
    # A callback of the next iteration.
    __slots__ = ("args", "callback", "context", "dropped")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context) -> None:
        self.callback, self.args, self.context = callback, args, context
        self.dropped = False

    def cancel(self) -> None:
        self.dropped = True

    def cancelled(self) -> bool:
        return self.dropped


class _Timer(float):
    # A timer; a float, so that sorting needs no method calls.
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
    # A task whose order in a set depends on its number, not on its memory address.
    def __init__(self, number: int, coro: _Awaited[Value], **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


def _of_asyncio(owner: object, name: str) -> Callable[..., Any]:
    # A private method of asyncio: it has no public way to make the sockets of a loop.
    found: Callable[..., Any] = getattr(owner, name)
    return found


def _run_waiting(handle: asyncio.Handle) -> None:
    # What waits for a connection; an earlier one of the same iteration may have cancelled it.
    if not handle.cancelled():
        _of_asyncio(handle, "_run")()


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
