"""Threads that no end of the process waits for, and work in them.

A call that hangs in one ends with the process. Work is items that are made ahead of their use, and calls that run at
the same time; it pays for calls that release the lock of the interpreter: work of numpy and polars on large arrays,
checksums, files.
"""

from __future__ import annotations

import os
import queue
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

P = ParamSpec("P")
T = TypeVar("T")
# Calls that run at the same time at most: each needs memory.
_MOST_THREADS: Final = 4


class DaemonThreads(ThreadPoolExecutor):
    """An executor for an event loop, with a daemon thread for each call.

    The standard one is joined when the loop and the process end, so that one hung call keeps the process alive.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start the call."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # it starts at once, so there is nothing to cancel
        threading.Thread(target=_run, args=(future, fn, args, kwargs), name=f"call {fn!r}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  -- as the base
        """Wait for nothing."""


class AbandonedWork(BaseException):
    """Ends the work of a thread whose items are no longer awaited; no `Exception`, so that no handler keeps it."""


class _Thread(threading.local):
    # What the calling thread works for; None where it is not one of `iterate_ahead`.
    ahead: _Ahead[Any] | None = None


class _Calls(Generic[T]):
    # The calls of several threads, which share the iterator of a list.
    def __init__(self, function: Callable[[T], object], items: list[T], ahead: _Ahead[Any] | None) -> None:
        self.count, self.is_stopped = len(items), False
        self._function, self._left, self._ahead = function, iter(list(enumerate(items))), ahead
        self._faults: dict[int, Exception] = {}

    def run(self) -> None:
        """Make calls until none is left, one has failed, or the result is no longer awaited.

        What ends the calls is looked at before an item is taken: one that is taken is called.
        """
        while not (self.is_stopped or self._faults or self._is_abandoned()):
            if (taken := next(self._left, None)) is None:
                return
            number, item = taken
            try:
                self._function(item)
            except Exception as fault:  # noqa: BLE001  -- it is raised by who waits for all calls
                self._faults[number] = fault

    def raise_first(self) -> None:
        """Raise the first error in the order of the items, if there is one."""
        if self._faults:
            raise self._faults[min(self._faults)]
        if self._is_abandoned():
            raise AbandonedWork

    def _is_abandoned(self) -> bool:
        return self._ahead is not None and self._ahead.is_abandoned


class _Made(Generic[T]):
    # An item, or the error in its place. Once it is taken nothing here keeps it in memory.
    def __init__(self, *item: T, fault: BaseException | None = None) -> None:
        self._item, self._fault = list(item), fault

    def value(self) -> T:
        """The item, once."""
        if self._fault is not None:
            raise self._fault
        return self._item.pop()


class _Ahead(Generic[T]):
    # What the caller and the thread of `iterate_ahead` share.
    def __init__(self, items: Generator[T, None, None]) -> None:
        self.is_abandoned = False
        self._items = items
        self._wanted = threading.Semaphore(0)
        self._made: queue.SimpleQueue[_Made[T] | None] = queue.SimpleQueue()

    def take(self) -> _Made[T] | None:
        """Wait for an item, and let the thread make the next; None after the last."""
        made = self._made.get()
        self._wanted.release()
        return made

    def abandon(self) -> None:
        """Let the thread end."""
        self.is_abandoned = True
        self._wanted.release()

    def run(self) -> None:
        """Make the items as they are wanted."""
        _THREAD.ahead = self
        last: _Made[T] | None = None
        try:
            with closing(self._items) as items:
                for item in items:
                    self._made.put(_Made(item))
                    del item
                    self._wanted.acquire()
                    if self.is_abandoned:
                        break
        except BaseException as fault:  # noqa: BLE001  -- it is raised by who takes the items
            last = _Made(fault=fault)
        self._made.put(last)


_THREAD: Final = _Thread()


def iterate_ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """Iterate over items that a thread makes: the next one while the caller uses the last that it was given.

    An error is raised in its place among the items. Once the iterator is closed the thread closes the items: before the
    next one, or within `map_in_threads` before the next call. Closing waits for that.
    """
    ahead = _Ahead(items)
    thread = threading.Thread(target=ahead.run, name="iterate ahead", daemon=True)
    thread.start()
    try:
        while (made := ahead.take()) is not None:
            yield made.value()
    finally:
        ahead.abandon()
        thread.join()


def map_in_threads(function: Callable[[T], object], items: Iterable[T], *, threads: int | None = None) -> None:
    """Call a function for each item: in as many threads as there are processors, MOST_THREADS at most.

    The calling thread is one of them. Raises the error of the first item, in their order, that has one; then some later
    items are left out.
    """
    calls = _Calls(function, list(items), _THREAD.ahead)
    count = min(_MOST_THREADS, os.cpu_count() or 1) if threads is None else threads
    pool = DaemonThreads()
    others = [pool.submit(calls.run) for _ in range(min(count, calls.count) - 1)]
    try:
        calls.run()
    finally:
        calls.is_stopped = True
        for other in others:
            other.result()
    calls.raise_first()


def _run(future: Future[Any], function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        result = function(*args, **kwargs)
    except BaseException as fault:  # noqa: BLE001  -- it belongs to who awaits the call
        future.set_exception(fault)
    else:
        future.set_result(result)
