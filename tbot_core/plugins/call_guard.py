"""Guarded calls into plugins during a run: limited in time, failures counted, and disabled after three failures.

At the start of a session all plugins are enabled. The caller decides what a failure means: no signals, or a denial.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import attrs

from tbot_core.errors import PluginError
from tbot_core.model.clock import Clock
from tbot_core.plugins.failure import PluginFailure
from tbot_core.system import log
from tbot_core.system.timeouts import call_within

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tbot_core.plugins.discovery import EntryPointInfo

T = TypeVar("T")
Call = Literal["scan", "triggers", "screen", "judge", "check"]

LIMITS_S: Final[Mapping[Call, float]] = {"scan": 2.0, "triggers": 2.0, "screen": 5.0, "judge": 2.0, "check": 0.5}
"""The time limit of each call; a scan of 10,000 symbols takes 3 ms."""

FAILURES: Final = 3
WITHIN: Final = timedelta(minutes=10)
"""The number of failures within a period that disables a plugin for the rest of the session."""

_REMEDY: Final = "`tbot plugins info` shows its last failure; fix it, or remove it from the settings."
_log = log.logger(__name__)


class RunawayPlugin(PluginError):
    """A result so large that the plugin is disabled at once."""


@attrs.frozen(kw_only=True)
class FailedCall:
    """A failed call, as the journal records it: `turn` counts the calls of its name at one moment.

    `off`: the plugin is not called again in this session.
    """

    plugin: str
    call: str
    turn: int
    error: str
    off: bool


@attrs.frozen(kw_only=True, eq=False)
class GuardSession:
    """The state of a session: its clock, the recorder of failures, and whether it replays an interrupted part.

    Replayed calls returned in time before, so they have no time limit: a busy machine must not change the result.
    """

    clock: Clock
    on_failure: Callable[[FailedCall], None]
    repeating: Callable[[], bool] = lambda: False


@contextmanager
def no_activity_mark(_words: str) -> Iterator[None]:
    """Reports to nobody which call is being made."""
    yield


class CallGuard:
    """The guard of a run's strategies, filters and risk checks.

    `strict`: a simulation, in which a failure ends the run and there is no time limit. `record` is called for each
    failure, for `tbot plugins list`; `where` may be set: a context around each call that receives its name.
    """

    def __init__(
        self,
        *,
        strict: bool,
        record: Callable[[EntryPointInfo, PluginFailure], None] = lambda _entry, _failure: None,
        limits_s: Mapping[Call, float] = LIMITS_S,
    ) -> None:
        self.strict = strict
        self._record = record
        self.where: Callable[[str], AbstractContextManager[None]] = no_activity_mark
        self._limits_s = limits_s
        self._sitting: GuardSession | None = None
        self._again: dict[tuple[datetime, str, str, int], FailedCall] = {}
        self._begin()

    def open_session(self, sitting: GuardSession) -> None:
        """Start a session: all plugins are enabled again."""
        self._sitting = sitting
        self._begin()

    def repeat(self, failures: Iterable[tuple[datetime, FailedCall]]) -> None:
        """Calls that failed before the session was interrupted fail again at that moment, without being made."""
        self._again = {_place(moment, lost): lost for moment, lost in failures}

    def restore(self, failures: Iterable[tuple[datetime, FailedCall]]) -> None:
        """Failures from before a restart of the session still count."""
        for moment, lost in failures:
            self._failed[lost.plugin].append(moment)
            if lost.off:
                self._off.add(lost.plugin)

    def record_hung(self, failures: Iterable[tuple[datetime, FailedCall]]) -> None:
        """Record calls that never returned, as the watchdog noted them; their plugins are disabled."""
        for moment, lost in failures:
            if self._sitting is not None and lost.plugin not in self._off:
                self._write(self._sitting, moment, lost)

    def is_off(self, entry: EntryPointInfo) -> bool:
        """Whether a plugin is disabled in this session."""
        return _named(entry) in self._off

    def call(
        self, entry: EntryPointInfo, call: Call, function: Callable[[], T], lost: Callable[[str], T] | None = None
    ) -> T:
        """The result of the function, which calls the plugin and validates its answer; else that of `lost`.

        Raises PluginError in a simulation, and without `lost`: then the caller names the plugin.
        """
        if self.strict or self._sitting is None:
            return self._plainly(entry, call, function, alone=lost is not None)
        name, moment = _named(entry), self._sitting.clock.now()
        if name in self._off:
            words = f"The {entry.kind} {entry.name} failed and is disabled for the rest of the session."
            return _answer(PluginError(words, _REMEDY), lost)
        turn = self._turn(moment, name, call)
        again = self._again.pop((moment, name, call, turn), None)
        if again is not None:
            self._write(self._sitting, moment, again)
            return _answer(PluginError(again.error, _REMEDY), lost)
        try:
            with self.where(f"{name} {call} {turn} {moment.isoformat()}"):
                return function() if self._sitting.repeating() else call_within(self._limits_s[call], function)
        except KeyboardInterrupt:
            raise
        except BaseException as fault:  # noqa: BLE001  -- the border of a plugin's call: it may raise anything
            failure = _failure(entry, call, fault)
            found = FailedCall(
                plugin=name, call=call, turn=turn, error=failure.error, off=self._ends(name, moment, fault)
            )
            self._report(entry, failure, found)
            self._write(self._sitting, moment, found)
            return _answer(PluginError(failure.error, _REMEDY), lost)

    def _begin(self) -> None:
        self._off: set[str] = set()
        self._failed: dict[str, deque[datetime]] = defaultdict(lambda: deque(maxlen=FAILURES))
        self._again.clear()
        self._turns: tuple[datetime | None, dict[tuple[str, str], int]] = (None, {})

    def _plainly(self, entry: EntryPointInfo, call: Call, function: Callable[[], T], *, alone: bool) -> T:
        # The call as it is; `alone`: its failure is all that will be read, so it names the plugin.
        try:
            return function()
        except (Exception, SystemExit) as fault:
            failure = _failure(entry, call, fault)
            _log.error("plugin.failed", plugin=_named(entry), phase=call, traceback=failure.trace)
            raise PluginError(failure.sentence if alone else failure.error, _REMEDY) from fault

    def _turn(self, moment: datetime, name: str, call: Call) -> int:
        # Which of the calls of this name at this moment it is; moments of a session do not come again.
        if self._turns[0] != moment:
            self._turns = (moment, {})
        counts = self._turns[1]
        counts[name, call] = counts.get((name, call), -1) + 1
        return counts[name, call]

    def _ends(self, name: str, moment: datetime, fault: BaseException) -> bool:
        # Whether one more failure, at this moment, is the last.
        before = list(self._failed[name])[1 - FAILURES :]
        return isinstance(fault, RunawayPlugin) or (len(before) == FAILURES - 1 and moment - before[0] <= WITHIN)

    def _report(self, entry: EntryPointInfo, failure: PluginFailure, lost: FailedCall) -> None:
        _log.error(
            "plugin.failed",
            plugin=lost.plugin,
            phase=lost.call,
            off=lost.off,
            error=failure.error,
            traceback=failure.trace,
        )
        self._record(entry, failure)

    def _write(self, sitting: GuardSession, moment: datetime, lost: FailedCall) -> None:
        self._failed[lost.plugin].append(moment)
        if lost.off:
            self._off.add(lost.plugin)
        sitting.on_failure(lost)


def _answer(fault: PluginError, lost: Callable[[str], T] | None) -> T:
    if lost is None:
        raise fault
    return lost(fault.message)


def _failure(entry: EntryPointInfo, call: Call, fault: BaseException) -> PluginFailure:
    failure = PluginFailure.of(entry, "run", fault)
    return attrs.evolve(failure, error=f"{call}: {failure.error}")


def _place(moment: datetime, lost: FailedCall) -> tuple[datetime, str, str, int]:
    return moment, lost.plugin, lost.call, lost.turn


def _named(entry: EntryPointInfo) -> str:
    return f"{entry.kind}/{entry.name}"
