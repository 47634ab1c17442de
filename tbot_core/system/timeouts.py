"""Calls with a time limit; a timer signal interrupts Python code that is still running."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without enumerations: a call costs a quarter of the time
import signal
import threading
import time
from contextlib import nullcontext
from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from contextlib import AbstractContextManager
    from types import FrameType

T = TypeVar("T")

AGAIN_S: Final = 0.05
"""Code that continues after an interruption is interrupted again after this time."""

_LEAST_S: Final = 0.000_001
_ALARM: Final = int(signal.SIGALRM)


class CallTimedOut(TimeoutError):
    """A call exceeded its limit and was interrupted; its cause shows where."""


class Interruption(BaseException):
    """Raised in the interrupted call; not an Exception, so that few handlers catch it."""


class _Timer:
    # The process has one such timer; an outer call keeps it.
    in_use = False


def call_within(limit_s: float, function: Callable[[], T]) -> T:
    """Call the function; raises CallTimedOut when it has not returned after `limit_s` seconds.

    It is interrupted between interpreter steps: native code finishes first, and native code that never returns is
    never interrupted. A nested call is bounded only by the outer limit, and a call outside the main thread not at all.
    A timer that was running continues afterwards.
    """
    if _Timer.in_use or threading.current_thread() is not threading.main_thread():
        return function()
    started = time.monotonic()
    before = _signal.signal(_ALARM, _interrupt)
    left_s, again_s = signal.setitimer(signal.ITIMER_REAL, limit_s, AGAIN_S)
    _Timer.in_use = True
    try:
        return _entered(function)
    except Interruption as fault:
        raise CallTimedOut(f"it did not finish within {limit_s:g} s and was interrupted.") from fault
    finally:
        # The handler raises only inside the called function, so nothing here is interrupted.
        signal.setitimer(signal.ITIMER_REAL, 0)
        _signal.signal(_ALARM, before)
        _Timer.in_use = False
        if left_s:
            signal.setitimer(signal.ITIMER_REAL, max(left_s - time.monotonic() + started, _LEAST_S), again_s)


@coroutine
def steps_within(
    limit_s: float | None, work: Awaitable[T], mark: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Generator[Any, Any, T]:
    """Await the work; each step between two waits is limited as by `call_within`, the waits are not.

    Without a limit for None. `mark` returns a context manager that is entered around each step.
    """
    inner = work.__await__()
    step: Callable[[], Any] = partial(next, inner)
    while True:
        try:
            with mark():  # outside the limit: its end is not interrupted
                awaited = step() if limit_s is None else call_within(limit_s, step)
        except StopIteration as done:
            result: T = done.value
            return result
        try:
            answer = yield awaited
        except BaseException as fault:  # noqa: BLE001  -- every exception belongs to the work
            step = partial(inner.throw, fault)
        else:
            step = partial(inner.send, answer)


def _entered(function: Callable[[], T]) -> T:
    # The bottom of the stack that may be interrupted.
    return function()


def _interrupt(_number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code is _interrupt.__code__:  # the next alarm came before this handler had raised
            return
        if frame.f_code is _entered.__code__:
            raise Interruption
        frame = frame.f_back
