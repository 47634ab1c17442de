"""Calls of plugins that hung or ended a run, recorded for the next run: no journal has what never returned.

A run marks the plugin that it imports, creates or calls on a page. The watchdog records a call whose native code hung,
and the next run one in which the process ended.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from tbot_core.errors import AccessError
from tbot_core.model import json_document
from tbot_core.model.clock import SystemClock, exchange_time
from tbot_core.plugins.call_guard import FAILURES, WITHIN, FailedCall, no_activity_mark
from tbot_core.system import filesystem, stalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from datetime import date
    from pathlib import Path

    from tbot_core.plugins.discovery import EntryPointInfo

FILE_NAME: Final = "plugins-lost.json"
WHERE: Final = "plugin-call"
"""The file in which a run records its current plugin call."""

KEPT: Final = timedelta(hours=16)
_MOST: Final = 20
_ERROR: Final = "it hung in native code, and the run was stopped."
_ENDED: Final = "the process of the run ended in it."
_STARTING: Final = ("import", "create")
LAST: Final = "tbot_stopped"
"""The call at the end of a run: one that hangs there is not restarted."""

_TIMES: Final = 2
"""A start that is killed for another reason may be in a plugin too: so many such ends disable it."""


class _Marks:
    # The open page of this process, and what marks a call on it.
    path: Path | None = None
    mark: Callable[[str], AbstractContextManager[None]] = staticmethod(no_activity_mark)


@attrs.frozen(kw_only=True)
class HungCall:
    """A call in which a run hung: the plugin, the call, the moment of the session, and when it was noticed."""

    plugin: str
    call: str
    turn: int
    moment: datetime
    noticed: datetime
    error: str = _ERROR

    @classmethod
    def of(cls, words: str, noticed: datetime) -> HungCall:
        """Parse the activity text of a plugin call; ValueError for another text."""
        plugin, call, turn, moment = words.split(" ")
        return cls(plugin=plugin, call=call, turn=int(turn), moment=datetime.fromisoformat(moment), noticed=noticed)

    @property
    def sentence(self) -> str:
        """Where a run ended, and what follows from it."""
        again = f"once more within {WITHIN.total_seconds() / 60:g} min, and it is set aside"
        then = "it is off for the rest of its session" if self.off else "it stays in use"
        then = again if self.call in _STARTING else then
        return f"The last run ended in {self.call} of the plugin {self.plugin}, or was killed there: {then}."

    @property
    def off(self) -> bool:
        """Whether the plugin is off for the rest of its session.

        Not a broker, which exits need, and not one in whose import or creation a run ended: it may have been killed.
        """
        may_be_killed = self.call in _STARTING and self.error == _ENDED
        return not (may_be_killed or self.plugin.startswith("broker/"))

    @property
    def place(self) -> tuple[str, str, int, datetime]:
        """What identifies the call."""
        return self.plugin, self.call, self.turn, self.moment

    @property
    def lost(self) -> tuple[datetime, FailedCall]:
        """The call as a failure with its moment."""
        return self.moment, FailedCall(
            plugin=self.plugin, call=self.call, turn=self.turn, error=self.error, off=self.off
        )


@contextmanager
def marked_calls(folder: Path) -> Iterator[None]:
    """Mark the calls of plugins on a page in an instance's data while the context lasts; it may be nested.

    The page is written with the first call. The lock of the instance is held: the page of another run would be lost.
    """
    if _Marks.path == folder / WHERE:
        yield
        return
    with ExitStack() as stack:

        def first(words: str) -> AbstractContextManager[None]:
            filesystem.make_folder(folder)
            _Marks.mark = stack.enter_context(stalls.activity_marker(folder / WHERE))
            return _Marks.mark(words)

        before, _Marks.path, _Marks.mark = (_Marks.path, _Marks.mark), folder / WHERE, first
        try:
            yield
        finally:
            _Marks.path, _Marks.mark = before


def inside(words: str) -> AbstractContextManager[None]:
    """Mark a call by the text that `HungCall.of` reads."""
    return _Marks.mark(words)


def starting(entry: EntryPointInfo, phase: Literal["import", "create"]) -> AbstractContextManager[None]:
    """Mark that a plugin is imported or created."""
    return inside(f"{entry.kind}/{entry.name} {phase} 0 {SystemClock().now().isoformat()}")


def note_ended_call(folder: Path, now: datetime) -> HungCall | None:
    """Record the call in which the last run of an instance ended, before `marked_calls`; None if it was in none."""
    activity = stalls.read_activity(folder / WHERE)
    try:
        ended = None if activity is None else attrs.evolve(HungCall.of(activity.words, now), error=_ENDED)
    except ValueError:
        return None
    if ended is None or ended.place in [call.place for call in noted_hung_calls(folder, now)]:
        return None  # the watchdog ended that run, and recorded it
    note_hung_call(folder, ended)
    return ended


def ended_starts(folder: Path, now: datetime) -> dict[str, str]:
    """The plugins, as KIND/NAME, that are set aside since they ended starts of the run, with the reason."""
    calls = [call for call in noted_hung_calls(folder, now) if call.call in _STARTING and now - call.noticed <= WITHIN]
    counts = Counter(call.plugin for call in calls if call.error == _ENDED)
    words = "the process of the run ended {} times while it was imported or created."
    return {plugin: words.format(times) for plugin, times in counts.items() if times >= _TIMES}


def note_hung_call(folder: Path, stuck: HungCall) -> bool:
    """Record a call in an instance's data; returns whether to restart the run: not after the third in ten minutes."""
    calls = [*noted_hung_calls(folder, stuck.noticed), stuck][-_MOST:]
    document = [attrs.asdict(call) | _times(call) for call in calls]
    filesystem.write_atomic(folder / FILE_NAME, json.dumps(document, indent=1).encode())
    return sum(stuck.noticed - call.noticed <= WITHIN for call in calls) < FAILURES


def noted_hung_calls(folder: Path, now: datetime) -> list[HungCall]:
    """The calls of the last 16 hours; none if the file is damaged."""
    try:
        document: Any = json_document.parse_json(filesystem.read_text(folder / FILE_NAME))
        calls = [
            HungCall(**one | {name: datetime.fromisoformat(one[name]) for name in ("moment", "noticed")})
            for one in document
        ]
        return [call for call in calls if now - call.noticed <= KEPT]
    except (AccessError, KeyError, TypeError, ValueError):
        return []


def failures_of_day(folder: Path, now: datetime, day: date) -> list[tuple[datetime, FailedCall]]:
    """The recorded calls of a session as failures; `day` is its exchange date."""
    return [call.lost for call in noted_hung_calls(folder, now) if exchange_time(call.moment).date() == day]


def _times(one: HungCall) -> dict[str, str]:
    return {"moment": one.moment.isoformat(), "noticed": one.noticed.isoformat()}
