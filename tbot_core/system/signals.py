"""Signal handling of the process; imports next to nothing, so that it can be installed first."""

from __future__ import annotations

import os
import select
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

INTERRUPTED: Final = 130
"""The exit code of an interrupted process."""

_MEANINGLESS: Final = (signal.SIGUSR1, signal.SIGUSR2)


class _Received:
    interrupt = False


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that request a stop; SIGHUP is not one if it was ignored from the start, as by nohup."""
    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return tuple(one for one in asked if one is not signal.SIGHUP or signal.getsignal(one) is not signal.SIG_IGN)


def is_interrupted() -> bool:
    """Whether a signal interrupted the process; assumed where `interruptible` does not watch for one."""
    return _Received.interrupt or signal.getsignal(signal.SIGINT) is signal.default_int_handler


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP as Ctrl-C, remember that one came, and ignore SIGUSR1 and SIGUSR2."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        _Received.interrupt = True
        raise KeyboardInterrupt

    wanted = dict.fromkeys(stop_signals(), interrupt) | dict.fromkeys(_MEANINGLESS, signal.SIG_IGN)
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored from the start, as by a shell's &
        wanted.pop(signal.SIGINT)
    _Received.interrupt = False
    try:
        before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    except ValueError:  # not in the main thread, which alone receives signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def received_signals(*numbers: int) -> Iterator[Callable[[float], frozenset[int]]]:
    """Receive these signals in the context, and yield a function that waits up to so many seconds for the next ones.

    The function returns the signals that came, none after the time. Raises ValueError outside the main thread.
    """
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    fd = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    before = {number: signal.signal(number, lambda _number, _frame: None) for number in numbers}

    def wait(seconds: float) -> frozenset[int]:
        ready, _, _ = select.select([read], [], [], seconds)
        return frozenset(os.read(read, 4096)).intersection(numbers) if ready else frozenset()

    try:
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(fd)
        os.close(read)
        os.close(write)
