"""Threads that no end of the process waits for: a call that hangs in one ends with the process."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


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


def _run(future: Future[Any], function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        result = function(*args, **kwargs)
    except BaseException as fault:  # noqa: BLE001  -- it belongs to who awaits the call
        future.set_exception(fault)
    else:
        future.set_result(result)
