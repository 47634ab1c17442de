"""Guarded calls into plugins during a run: limited in time, failures counted, and disabled after three failures.

At the start of a session all plugins are enabled. The caller decides what a failure means: no signals, or a denial.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from decimal import localcontext
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import attrs

from tbot_core.errors import PluginError
from tbot_core.model.clock import Clock, SystemClock
from tbot_core.plugins.failure import PluginFailure
from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure
from tbot_core.system.timeouts import call_within

if TYPE_CHECKING:
    from tbot_core.plugins.discovery import EntryPointInfo

T = TypeVar("T")
Call = Literal["scan", "triggers", "screen", "judge", "check", "value_option"]

LIMITS_S: Final[Mapping[Call, float]] = {
    "scan": 2.0,
    "triggers": 2.0,
    "screen": 5.0,
    "judge": 2.0,
    "check": 0.5,
    "value_option": 5.0,
}
"""The time limit of each call; a scan of 10,000 symbols takes 3 ms."""

FAILURES: Final = 3
WITHIN: Final = timedelta(minutes=10)
"""The number of failures within a period that disables a plugin for the rest of the session."""

AGAIN: Final = timedelta(seconds=30)
"""How often a broker or feed that failed so often is recorded again while it fails."""

_REMEDY: Final = "`tbot plugins info` shows its last failure; fix it, or remove it from the settings."
_UNMARKED: Final = nullcontext()
_log = log.logger(__name__)


class RunawayPlugin(PluginError):
    """A result so large that the plugin is disabled at once."""


@attrs.frozen(kw_only=True)
class FailedCall:
    """A failed call, as the journal records it: `turn` counts the calls of that name at one moment.

    `off`: the plugin is not called again in this session; for a broker or feed: entries are blocked.
    """

    plugin: str
    call: str
    turn: int
    error: str
    off: bool


@attrs.frozen(kw_only=True, eq=False)
class GuardSession:
    """A session's clock, and the recorders of failures; `on_broker_failure` records those of brokers and feeds."""

    clock: Clock
    on_failure: Callable[[FailedCall], None]
    on_broker_failure: Callable[[FailedCall], None] | None = None


def no_activity_mark(_words: str) -> AbstractContextManager[None]:
    """Ignores which call is being made."""
    return _UNMARKED


@attrs.frozen(kw_only=True, eq=False)
class PluginBorder:
    """What surrounds the calls of a plugin that observe or are awaited.

    `mark` returns a context manager that marks one of them, or one step of it, by its name, so that the watchdog can
    name and end it. `is_off`: whether the plugin must not be called in this session.
    """

    mark: Callable[[str], AbstractContextManager[None]] = no_activity_mark
    is_off: Callable[[], bool] = lambda: False


class CallGuard:
    """Guards calls of a run's strategies, filters and risk checks.

    `strict`: a simulation, in which a failure ends the run and there is no time limit. `record` is called for each
    failure, for `tbot plugins list`. `clock` gives the moments of marks. These may be set: `where`, a context manager
    around each call that receives its name; `on_plugin_off`, which receives the kind and name of a plugin that is
    disabled, as `kind/name`; `on_observer_off`, which receives the last failure of an observer that is switched off;
    `on_extension_failing`, which receives a sentence about what fails beside trading, once until it works again.
    """

    def __init__(
        self,
        *,
        strict: bool,
        record: Callable[[EntryPointInfo, PluginFailure], None] = lambda _entry, _failure: None,
        limits_s: Mapping[Call, float] = LIMITS_S,
        clock: Clock | None = None,
    ) -> None:
        self.strict = strict
        self._clock = clock or SystemClock()
        self._noted: frozenset[str] = frozenset()
        self._record = record
        self.on_plugin_off: Callable[[str], None] = lambda _plugin: None
        self.on_observer_off: Callable[[PluginFailure], None] = lambda _failure: None
        self.on_extension_failing: Callable[[str], None] = lambda _words: None
        self.where: Callable[[str], AbstractContextManager[None]] = no_activity_mark
        self._limits_s = limits_s
        self._session: GuardSession | None = None
        self._begin()

    def open_session(self, session: GuardSession) -> None:
        """Start a session: all plugins are enabled again."""
        self._session = session
        self._begin()

    def restore(self, failures: Iterable[tuple[datetime, FailedCall]]) -> None:
        """Count failures from before a restart of the session."""
        for moment, failed in failures:
            self._restored[failed] += 1
            self._failed[failed.plugin].append(moment)
            if failed.off:
                self._off.add(failed.plugin)

    def note_hung(self, failures: Iterable[tuple[datetime, FailedCall]]) -> None:
        """Disable the plugins of calls that never returned, from the start of a run until `record_hung`."""
        self._noted = frozenset(failed.plugin for _, failed in failures if failed.off)

    def record_hung(self, failures: Iterable[tuple[datetime, FailedCall]]) -> None:
        """Record a session's calls that never returned, as the watchdog noted them, unless they were `restore`d.

        Their plugins are disabled, but for brokers: exits need them.
        """
        for moment, failed in failures:
            recorded = self._restored[failed] > 0
            self._restored[failed] -= recorded
            if self._session is not None and not recorded and failed.plugin not in self._off:
                self._write(self._session, moment, failed)
        self._noted = frozenset()

    def is_off(self, entry: EntryPointInfo) -> bool:
        """Whether a plugin is disabled in this session."""
        return self._is_off(_named(entry))

    def border(self, plugin: str) -> PluginBorder:
        """The border of a plugin, KIND/NAME."""

        def mark(call: str) -> AbstractContextManager[None]:
            if self.where is no_activity_mark:
                return _UNMARKED
            return self.where(f"{plugin} {call} 0 {self._clock.now().isoformat()}")

        return PluginBorder(mark=mark, is_off=lambda: self._is_off(plugin))

    def call(
        self, entry: EntryPointInfo, call: Call, function: Callable[[], T], fallback: Callable[[str], T] | None = None
    ) -> T:
        """Return the result of the function, which calls the plugin and validates its answer; or of `fallback`.

        `fallback` applies after a failure. Raises PluginError in a simulation, and without `fallback`; in the latter
        case the caller names the plugin.
        """
        if self.strict or self._session is None:
            return self._call_unguarded(entry, call, function, alone=fallback is not None)
        name, moment = _named(entry), self._session.clock.now()
        if self._is_off(name):
            words = f"The {entry.kind} {entry.name} failed and is disabled for the rest of the session."
            return _answer(PluginError(words, _REMEDY), fallback)
        turn = self._turn(moment, name, call)
        try:
            with self.where(f"{name} {call} {turn} {moment.isoformat()}"), localcontext():
                return call_within(self._limits_s[call], function)
        except BaseException as fault:  # noqa: BLE001  -- the border of a plugin's call: it may raise anything
            if issubclass(type(fault), KeyboardInterrupt):
                assert_failure(fault)
            failure = _failure(entry, call, fault)
            found = FailedCall(
                plugin=name, call=call, turn=turn, error=failure.error, off=self._disables(name, moment, fault)
            )
            self._report(entry, failure, found)
            self._write(self._session, moment, found)
            return _answer(PluginError(failure.error, _REMEDY), fallback)

    def report_failure(self, entry: EntryPointInfo, call: str, fault: BaseException) -> str:
        """Record a failed call of a broker or feed; returns the error as text.

        Such a plugin stays in use: exits need it. In a session the failures are counted; `off` then means that entries
        are blocked. While they are, one failure in `AGAIN` is recorded.
        """
        failure = _failure(entry, call, fault)
        name, session = _named(entry), self._session
        if session is None or session.on_broker_failure is None:
            _log.error("plugin.failed", plugin=name, phase=call, error=failure.error, traceback=failure.trace)
            return failure.error
        moment, before = session.clock.now(), self._failed[name]
        if len(before) == FAILURES and before[-1] - before[0] <= WITHIN and moment - before[-1] < AGAIN:
            _log.error("plugin.failed", plugin=name, phase=call, error=failure.error)
            return failure.error
        turn, off = self._turn(moment, name, call), self._disables(name, moment, fault)
        found = FailedCall(plugin=name, call=call, turn=turn, error=failure.error, off=off)
        self._report(entry, failure, found)
        before.append(moment)
        session.on_broker_failure(found)
        return failure.error

    def report_observer(self, failure: PluginFailure) -> None:
        """Report an observer that is switched off for the rest of the run."""
        _log.error("observer.off", plugin=f"{failure.kind}/{failure.name}", reason=failure.sentence)
        self.on_observer_off(failure)

    def report_extension(self, entry: EntryPointInfo, fault: BaseException, words: str) -> None:
        """Report an extension that began to fail; it is tried again."""
        self._record(entry, PluginFailure.of(entry, "run", fault))
        self.on_extension_failing(words)

    def _is_off(self, plugin: str) -> bool:
        return plugin in self._off or plugin in self._noted

    def _begin(self) -> None:
        self._restored: Counter[FailedCall] = Counter()
        self._off: set[str] = set()
        self._failed: dict[str, deque[datetime]] = defaultdict(lambda: deque(maxlen=FAILURES))
        self._turns: tuple[datetime | None, dict[tuple[str, str], int]] = (None, {})

    def _call_unguarded(self, entry: EntryPointInfo, call: Call, function: Callable[[], T], *, alone: bool) -> T:
        # Call without a guard; `alone`: only this failure is shown, so it names the plugin.
        try:
            with localcontext():
                return function()
        except BaseException as fault:
            assert_failure(fault)
            failure = _failure(entry, call, fault)
            _log.error("plugin.failed", plugin=_named(entry), phase=call, traceback=failure.trace)
            raise PluginError(failure.sentence if alone else failure.error, _REMEDY) from fault

    def _turn(self, moment: datetime, name: str, call: str) -> int:
        # The number of this call among those of its name at this moment; moments of a session do not recur.
        if self._turns[0] != moment:
            self._turns = (moment, {})
        counts = self._turns[1]
        counts[name, call] = counts.get((name, call), -1) + 1
        return counts[name, call]

    def _disables(self, name: str, moment: datetime, fault: BaseException) -> bool:
        # Whether one more failure, at this moment, disables the plugin.
        before = list(self._failed[name])[1 - FAILURES :]
        return issubclass(type(fault), RunawayPlugin) or (len(before) == FAILURES - 1 and moment - before[0] <= WITHIN)

    def _report(self, entry: EntryPointInfo, failure: PluginFailure, failed: FailedCall) -> None:
        _log.error(
            "plugin.failed",
            plugin=failed.plugin,
            phase=failed.call,
            off=failed.off,
            error=failure.error,
            traceback=failure.trace,
        )
        self._record(entry, failure)

    def _write(self, session: GuardSession, moment: datetime, failed: FailedCall) -> None:
        self._failed[failed.plugin].append(moment)
        if failed.off:
            self._off.add(failed.plugin)
            self.on_plugin_off(failed.plugin)
        session.on_failure(failed)


def failure_text(plugin: str, error: str, *, off: bool) -> str:
    """A recorded failure of a plugin, KIND/NAME, as a sentence without its period: with what follows if it is `off`."""
    if not off:
        return f"Plugin {plugin} failed: {error}"
    if plugin.startswith("broker/"):
        often = f"{FAILURES} in {WITHIN.total_seconds() / 60:g} min"
        return f"Plugin {plugin} fails ({often}): no entries until it works; last error: {error}"
    return f"Plugin {plugin} failed and is disabled for the rest of the session: {error}"


def _answer(fault: PluginError, fallback: Callable[[str], T] | None) -> T:
    if fallback is None:
        raise fault
    return fallback(fault.message)


def _failure(entry: EntryPointInfo, call: str, fault: BaseException) -> PluginFailure:
    failure = PluginFailure.of(entry, "run", fault)
    return attrs.evolve(failure, error=f"{call}: {failure.error}")


def _named(entry: EntryPointInfo) -> str:
    return f"{entry.kind}/{entry.name}"
