"""The hooks of loaded plugins as calls: observers, risk checks, and providers of keys.

Observers are called one by one: a failing one affects neither the run nor the others. Risk checks can only deny, and a
failure of a check denies. Keys are provided before any settings are read, so the enabled plugins are not known yet.
"""

from __future__ import annotations

from decimal import localcontext
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from tbot_core.contracts import Context, KeyProvider, RiskCheck, RunInfo
from tbot_core.errors import PluginError
from tbot_core.plugins import discovery, lock
from tbot_core.plugins.failure import PluginFailure, plugins_failed_error
from tbot_core.plugins.loader import EVERY_EXTENSION, LoadedPlugin, PluginLoader
from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure
from tbot_core.system.isolated_calls import IsolatedCalls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Order
    from tbot_core.plugins.call_guard import CallGuard
    from tbot_core.plugins.discovery import EntryPointInfo, PluginListing

NO_LIMITS: Final[Mapping[str, float]] = MappingProxyType({})

LIMITS_S: Final[Mapping[str, float]] = MappingProxyType({"tbot_started": 10.0, "tbot_event": 0.5, "tbot_stopped": 10.0})
"""How long an observer may block a trading run."""

_REMEDY = "Fix or uninstall the plugin, or remove it from the settings."


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
        subjects = {id(plugin.subject): plugin for plugin in reversed(loaded)}
        each = sorted(subjects.values(), key=lambda it: it.entry)
        self._entries = {_plugin_name(plugin.entry): plugin.entry for plugin in each}
        self._borders = {name: guard.border(name) for name in self._entries}
        self._callers = {
            hook: [
                (_plugin_name(plugin.entry), caller)
                for plugin in each
                if (caller := loader.caller(plugin.subject, hook)) is not None
            ]
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


def risk_checks(
    loader: PluginLoader, loaded: Sequence[LoadedPlugin], guard: CallGuard
) -> tuple[tuple[tuple[str, RiskCheck], ...], tuple[PluginFailure, ...]]:
    """The (plugin name, check) pairs of all loaded plugins in order, and failures.

    A check that raises, takes too long, or returns anything but None or a sentence fails with PluginError, and the
    order is denied. A disabled check is not called again, and denies.
    """
    checks, failures, seen = [], [], set()
    for plugin in loaded:
        if id(plugin.subject) in seen:
            continue
        seen.add(id(plugin.subject))
        try:
            answers = loader.call_hook(plugin.subject, "tbot_risk_checks")
            functions = [_check_function(answer) for answer in answers]
        except BaseException as fault:  # noqa: BLE001  -- the border of plugin load
            assert_failure(fault)
            failures.append(PluginFailure.of(plugin.entry, "risk_checks", fault))
        else:
            checks += [(plugin.entry.name, _guarded_check(plugin.entry, check, guard)) for check in functions]
    return tuple(checks), tuple(failures)


def key_provider(home: Path, clock: Clock, *, live: bool = False) -> KeyProvider | None:
    """The key provider of the first installed extension that implements `tbot_key_provider`; None without one.

    In live trading only plugins that match plugins.lock are imported. Raises PluginError if one does not match, fails
    or returns something else: there is no fallback.
    """
    loader, listings = PluginLoader(), discovery.installed_plugins()
    loaded, _ = loader.offers(_approved_extensions(home, listings) if live else [EVERY_EXTENSION], listings)
    for plugin in loaded:
        caller = loader.caller(plugin.subject, "tbot_key_provider")
        if caller is None:
            continue
        try:
            with localcontext():
                answer = caller(context=_provider_context(plugin, home / "data", clock))
        except BaseException as fault:  # noqa: BLE001  -- the border of plugin load
            assert_failure(fault)
            raise plugins_failed_error((PluginFailure.of(plugin.entry, "create", fault),)) from None
        if answer is not None and not isinstance(answer, KeyProvider):
            words = "tbot_key_provider returned no KeyProvider."
            raise plugins_failed_error((PluginFailure.said(plugin.entry, "create", words),))
        if answer is not None:
            return answer
    return None


def _plugin_name(entry: EntryPointInfo) -> str:
    return f"{entry.kind}/{entry.name}"


def _check_function(answer: object) -> RiskCheck:
    if not callable(answer):
        raise PluginError("tbot_risk_checks returned no function.", "Return a function of one Order.")
    return answer


def _guarded_check(entry: EntryPointInfo, check: RiskCheck, guard: CallGuard) -> RiskCheck:
    def guarded(order: Order) -> str | None:
        return guard.call(entry, "check", lambda: _check_answer(check(order)))

    return guarded


def _check_answer(answer: object) -> str | None:
    if answer is None or (isinstance(answer, str) and answer.strip()):
        return answer
    raise PluginError(f"It returned {type(answer).__name__}, neither None nor a sentence.", _REMEDY)


def _approved_extensions(home: Path, listings: Sequence[PluginListing]) -> list[tuple[str, str]]:
    # The extensions in plugins.lock; others are not asked, and are no reason to refuse.
    pinned = lock.read_lock(home)
    names = [] if pinned is None else [plugin.key for plugin in pinned.plugins if plugin.kind == EVERY_EXTENSION[0]]
    lock.require_locked(home, discovery.mark_enabled(listings, names))
    return names


def _provider_context(loaded: LoadedPlugin, data: Path, clock: Clock) -> Context:
    folder = data / "plugins" / f"{loaded.entry.kind}-{loaded.entry.name}"
    return Context(clock=clock, log=log.logger(f"tbot.{loaded.entry.kind}.{loaded.entry.name}"), data_dir=folder)
