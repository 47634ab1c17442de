"""Plugins whose native code hung a run, recorded by the watchdog for the next run.

Until that run reads the record it is the only one: the call never returned, so no journal has it.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.model import json_document
from tbot_core.model.clock import exchange_time
from tbot_core.plugins.call_guard import FAILURES, WITHIN, FailedCall
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

FILE_NAME: Final = "plugins-lost.json"
WHERE: Final = "plugin-call"
"""The file in which a run records its current plugin call."""

KEPT: Final = timedelta(hours=16)
_MOST: Final = 20
_ERROR: Final = "it hung in native code, and the run was stopped and restarted without it."


@attrs.frozen(kw_only=True)
class HungCall:
    """A call in which a run hung: the plugin, the call, the moment of the session, and when it was noticed."""

    plugin: str
    call: str
    turn: int
    moment: datetime
    noticed: datetime

    @classmethod
    def of(cls, words: str, noticed: datetime) -> HungCall:
        """Parse the activity text of a plugin call; ValueError for another text."""
        plugin, call, turn, moment = words.split(" ")
        return cls(plugin=plugin, call=call, turn=int(turn), moment=datetime.fromisoformat(moment), noticed=noticed)

    @property
    def lost(self) -> tuple[datetime, FailedCall]:
        """The call as a failure with its moment."""
        return self.moment, FailedCall(plugin=self.plugin, call=self.call, turn=self.turn, error=_ERROR, off=True)


def note_hung_call(folder: Path, stuck: HungCall) -> bool:
    """Record a call in an instance's data; returns whether to restart the run: not after the third in ten minutes."""
    found = [*noted_hung_calls(folder, stuck.noticed), stuck][-_MOST:]
    document = [attrs.asdict(one) | _times(one) for one in found]
    filesystem.write_atomic(folder / FILE_NAME, json.dumps(document, indent=1).encode())
    return sum(stuck.noticed - one.noticed <= WITHIN for one in found) < FAILURES


def noted_hung_calls(folder: Path, now: datetime) -> list[HungCall]:
    """The calls of the last 16 hours; none if the file is damaged."""
    try:
        document: Any = json_document.parse_json(filesystem.read_text(folder / FILE_NAME))
        found = [
            HungCall(**one | {name: datetime.fromisoformat(one[name]) for name in ("moment", "noticed")})
            for one in document
        ]
        return [one for one in found if now - one.noticed <= KEPT]
    except (AccessError, KeyError, TypeError, ValueError):
        return []


def failures_of_day(folder: Path, now: datetime, day: date) -> list[tuple[datetime, FailedCall]]:
    """The recorded calls of a session as failures; `day` is its exchange date."""
    return [one.lost for one in noted_hung_calls(folder, now) if exchange_time(one.moment).date() == day]


def _times(one: HungCall) -> dict[str, str]:
    return {"moment": one.moment.isoformat(), "noticed": one.noticed.isoformat()}
