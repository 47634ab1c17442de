"""Calls observers one by one: a failing one affects neither the run nor the others."""

from __future__ import annotations

from collections import defaultdict, deque
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from tbot_core.plugins.failure import PluginFailure
from tbot_core.system import log
from tbot_core.system.timeouts import call_within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pluggy import HookCaller

    from tbot_core.contracts import RunInfo
    from tbot_core.model.clock import Clock
    from tbot_core.plugins.discovery import EntryPointInfo
    from tbot_core.plugins.loader import LoadedPlugin, PluginLoader

FAILURES: Final = 3
WITHIN_S: Final = 600.0
NO_LIMITS: Final[Mapping[str, float]] = MappingProxyType({})
LIMITS_S: Final[Mapping[str, float]] = MappingProxyType({"tbot_started": 10.0, "tbot_event": 0.5, "tbot_stopped": 30.0})
"""How long an observer may block a trading run."""

_log = log.logger(__name__)


class PluginObservers:
    """The loaded plugins as observers; three failures within ten minutes disable one for the rest of the run.

    `report` is called once with the last failure of each disabled plugin. `limits_s` holds the time limits of hooks in
    seconds; others have none.
    """

    def __init__(
        self,
        loader: PluginLoader,
        loaded: Sequence[LoadedPlugin],
        *,
        clock: Clock,
        report: Callable[[PluginFailure], None],
        limits_s: Mapping[str, float] = NO_LIMITS,
    ) -> None:
        self._limits_s = limits_s
        self._clock = clock
        self._report = report
        self._failures: dict[EntryPointInfo, deque[float]] = defaultdict(lambda: deque(maxlen=FAILURES))
        self._off: set[EntryPointInfo] = set()
        # An object with several entries is notified once.
        subjects = {id(it.subject): it for it in reversed(loaded)}
        each = sorted(subjects.values(), key=lambda it: it.entry)
        self._callers = {
            hook: [(it.entry, caller) for it in each if (caller := loader.caller(it.subject, hook)) is not None]
            for hook in ("tbot_started", "tbot_event", "tbot_stopped")
        }

    def started(self, run: RunInfo) -> None:
        """Report that the run has started."""
        self._notify("tbot_started", run=run)

    def event(self, event: Mapping[str, object]) -> None:
        """Report an event of the journal."""
        if self._callers["tbot_event"]:
            self._notify("tbot_event", event=MappingProxyType(dict(event)))

    def stopped(self, run: RunInfo) -> None:
        """Report that the run has stopped."""
        self._notify("tbot_stopped", run=run)

    def _notify(self, hook: str, **arguments: object) -> None:
        for entry, caller in self._callers[hook]:
            if entry not in self._off:
                self._call(entry, caller, arguments, self._limits_s.get(hook))

    def _call(
        self, entry: EntryPointInfo, caller: HookCaller, arguments: Mapping[str, object], limit_s: float | None
    ) -> None:
        call = partial(caller, **arguments)
        try:
            if limit_s is None:
                call()
            else:
                call_within(limit_s, call)
        except (Exception, SystemExit) as fault:  # noqa: BLE001  -- the border of an observer's call
            failure = PluginFailure.of(entry, "observe", fault)
            _log.error("plugin.failed", plugin=f"{entry.kind}/{entry.name}", phase="observe", traceback=failure.trace)
            self._count(entry, failure)

    def _count(self, entry: EntryPointInfo, failure: PluginFailure) -> None:
        moments = self._failures[entry]
        moments.append(self._clock.monotonic())
        if len(moments) == FAILURES and moments[-1] - moments[0] <= WITHIN_S:
            self._off.add(entry)
            self._report(failure)
