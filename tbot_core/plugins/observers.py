"""Calls observers one by one: a failing one affects neither the run nor the others."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from tbot_core.plugins.failure import PluginFailure
from tbot_core.system.isolated_calls import IsolatedCalls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbot_core.contracts import RunInfo
    from tbot_core.model.clock import Clock
    from tbot_core.plugins.call_guard import CallGuard
    from tbot_core.plugins.discovery import EntryPointInfo
    from tbot_core.plugins.loader import LoadedPlugin, PluginLoader

NO_LIMITS: Final[Mapping[str, float]] = MappingProxyType({})
LIMITS_S: Final[Mapping[str, float]] = MappingProxyType({"tbot_started": 10.0, "tbot_event": 0.5, "tbot_stopped": 10.0})
"""How long an observer may block a trading run."""


class PluginObservers:
    """The loaded plugins as observers; three failures within ten minutes disable one for the rest of the run.

    `guard` marks their calls, knows which plugins are off for the session, and is given the last failure of each
    disabled one once. `limits_s` holds the time limits of hooks in seconds; others have none.
    """

    def __init__(
        self,
        loader: PluginLoader,
        loaded: Sequence[LoadedPlugin],
        *,
        clock: Clock,
        guard: CallGuard,
        limits_s: Mapping[str, float] = NO_LIMITS,
    ) -> None:
        self._limits_s = limits_s
        self._report = guard.report_observer
        self._isolated = IsolatedCalls(clock.monotonic, self._on_disabled)
        # An object with several entries is notified once.
        subjects = {id(it.subject): it for it in reversed(loaded)}
        each = sorted(subjects.values(), key=lambda it: it.entry)
        self._entries = {_name(it.entry): it.entry for it in each}
        self._borders = {name: guard.border(name) for name in self._entries}
        self._callers = {
            hook: [(_name(it.entry), caller) for it in each if (caller := loader.caller(it.subject, hook)) is not None]
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
        for name, caller in self._callers[hook]:
            border = self._borders[name]
            if not border.is_off():
                mark = border.mark(hook)
                self._isolated.call(name, partial(caller, **arguments), self._limits_s.get(hook), mark)

    def _on_disabled(self, name: str, fault: BaseException) -> None:
        self._report(PluginFailure.of(self._entries[name], "observe", fault))


def _name(entry: EntryPointInfo) -> str:
    return f"{entry.kind}/{entry.name}"
