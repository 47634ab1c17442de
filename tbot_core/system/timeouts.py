"""Calls that may take so many seconds and no longer: a timer signal interrupts what is still running in Python."""

from __future__ import annotations

import signal
import threading
import time
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from types import FrameType

T = TypeVar("T")

AGAIN_S: Final = 0.05
"""What goes on after an interruption, whatever it catches, is interrupted again so much later."""

_LEAST_S: Final = 0.000_001


class CallTimedOut(TimeoutError):
    """A call took longer than it may and was interrupted; its cause says where it stood."""


class _Interruption(BaseException):
    # Raised where the call stands; it is no Exception, so that few handlers catch it.
    pass


class _Timer:
    # The process has one such timer, and whoever needs it first has it.
    taken = False


def call_within(limit_s: float, function: Callable[[], T]) -> T:
    """What the function returns; raises Overdue when it has not returned after `limit_s` seconds.

    It is interrupted between two steps of the interpreter: native code ends first, and what never comes back from it
    is never interrupted. Such a call inside another is bounded by that one alone, and one of a thread other than the
    main one not at all. A timer that runs already goes on afterwards.
    """
    if _Timer.taken or threading.current_thread() is not threading.main_thread():
        return function()
    started = time.monotonic()
    before = signal.signal(signal.SIGALRM, _interrupt)
    left_s, again_s = signal.setitimer(signal.ITIMER_REAL, limit_s, AGAIN_S)
    _Timer.taken = True
    try:
        return _entered(function)
    except _Interruption as fault:
        raise CallTimedOut(f"it did not finish within {limit_s:g} s and was interrupted.") from fault
    finally:
        # Nothing here is interrupted: the handler raises in what the function called, and in nothing else.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        _Timer.taken = False
        if left_s:
            signal.setitimer(signal.ITIMER_REAL, max(left_s - time.monotonic() + started, _LEAST_S), again_s)


@coroutine
def steps_within(limit_s: float, work: Awaitable[T]) -> Generator[Any, Any, T]:
    """Await the work, each of its steps between two waits bounded as by `within`; how long it waits is not."""
    inner = work.__await__()
    step: Callable[[], Any] = partial(next, inner)
    while True:
        try:
            awaited = call_within(limit_s, step)
        except StopIteration as done:
            result: T = done.value
            return result
        try:
            answer = yield awaited
        except BaseException as fault:  # noqa: BLE001  -- whatever it is, it is meant for the work
            step = partial(inner.throw, fault)
        else:
            step = partial(inner.send, answer)


def _entered(function: Callable[[], T]) -> T:
    # Stands at the bottom of what may be interrupted.
    return function()


def _interrupt(_number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code is _entered.__code__:
            raise _Interruption
        frame = frame.f_back
