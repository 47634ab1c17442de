"""Isolates what only shows or reports a run: a failure neither ends nor delays trading."""

from __future__ import annotations

from collections import defaultdict, deque
from contextlib import nullcontext
from decimal import localcontext
from typing import TYPE_CHECKING, Final

from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure, exception_trace
from tbot_core.system.timeouts import call_within

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

FAILURES: Final = 3
WITHIN_S: Final = 600.0
"""So many failures of one name within this period disable it for the rest of the run."""

_UNMARKED: Final = nullcontext()
_log = log.logger(__name__)


class IsolatedCalls:
    """Calls of displays, gauges and observers, each under its name.

    A failure is logged with the name and the traceback. `on_disabled` receives the name and the last failure of what is
    disabled; it must not raise. `now` returns seconds that never go back.
    """

    def __init__(
        self, now: Callable[[], float], on_disabled: Callable[[str, BaseException], None] = lambda _name, _fault: None
    ) -> None:
        self._now = now
        self._on_disabled = on_disabled
        self._failures: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=FAILURES))
        self._disabled: set[str] = set()

    def call(
        self,
        name: str,
        function: Callable[[], object],
        limit_s: float | None = None,
        mark: AbstractContextManager[None] = _UNMARKED,
    ) -> None:
        """Call the function within `mark`, unless `name` is disabled; longer than `limit_s` seconds is a failure."""
        if name in self._disabled:
            return
        try:
            with mark, localcontext():
                if limit_s is None:
                    function()
                else:
                    call_within(limit_s, function)
        except BaseException as fault:  # noqa: BLE001  -- the border of what only shows or reports
            assert_failure(fault)
            self._count(name, fault)

    def _count(self, name: str, fault: BaseException) -> None:
        moments = self._failures[name]
        moments.append(self._now())
        disabled = len(moments) == FAILURES and moments[-1] - moments[0] <= WITHIN_S
        trace = exception_trace(fault)
        _log.error("observer.failed", observer=name, disabled=disabled, traceback=trace)
        if disabled:
            self._disabled.add(name)
            self._on_disabled(name, fault)
