"""Notes of calls that never came back: kept for the run that follows, and counted."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.plugins import hung_plugins
from tbot_core.plugins.hung_plugins import KEPT, HungCall

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime(2026, 11, 24, 15, 0, 20, tzinfo=dt.UTC)
STUCK = HungCall.of("strategy/theirs scan 1 2026-11-24T15:00:00+00:00", NOW)


def test_a_call_is_read_from_its_words() -> None:
    """Plugin, call, its number at that moment, and the moment; anything else is no call."""
    moment, failure = STUCK.lost
    assert moment == dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC)
    assert (failure.plugin, failure.call, failure.turn, failure.off) == ("strategy/theirs", "scan", 1, True)
    with pytest.raises(ValueError):
        HungCall.of("elsewhere", NOW)


def test_f92_the_third_note_in_ten_minutes_is_one_too_many(tmp_path: Path) -> None:
    """A run that is ended for its plugins again and again is not started again; later ones count anew."""
    times = [attrs.evolve(STUCK, noticed=NOW + dt.timedelta(minutes=minute)) for minute in (0, 4, 8, 20)]
    assert [hung_plugins.note_hung_call(tmp_path, one) for one in times] == [True, True, False, True]
    assert hung_plugins.noted_hung_calls(tmp_path, times[-1].noticed) == times
    assert hung_plugins.noted_hung_calls(tmp_path, NOW + KEPT + dt.timedelta(minutes=10)) == times[-1:]


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '[{"plugin": "a"}]', "null"])
def test_a_damaged_note_is_none(tmp_path: Path, text: str) -> None:
    """It never keeps a run from starting."""
    assert hung_plugins.noted_hung_calls(tmp_path, NOW) == []
    (tmp_path / hung_plugins.FILE_NAME).write_text(text)
    assert hung_plugins.noted_hung_calls(tmp_path, NOW) == []


def leave(folder: Path, words: str) -> None:
    """Leave the page of a run that ended in this call."""
    with hung_plugins.marked_calls(folder), hung_plugins.marked_calls(folder), hung_plugins.inside(words):
        page = (folder / hung_plugins.WHERE).read_bytes()
    assert hung_plugins.note_ended_call(folder, NOW) is None  # a call that returned leaves nothing
    (folder / hung_plugins.WHERE).write_bytes(page)


def test_f92_a_call_in_which_a_run_ended_is_noted_once(tmp_path: Path) -> None:
    """It counts as that plugin's failure in its session; one that the watchdog ended is noted by it."""
    assert hung_plugins.note_ended_call(tmp_path, NOW) is None
    leave(tmp_path, "strategy/theirs scan 1 2026-11-24T15:00:00+00:00")
    ended = hung_plugins.note_ended_call(tmp_path, NOW)
    assert ended is not None
    assert ended.sentence == (
        "The last run ended in scan of the plugin strategy/theirs, or was killed there: it is off for the rest of its "
        "session."
    )
    ((_, failure),) = hung_plugins.failures_of_day(tmp_path, NOW, NOW.date())
    assert (failure.plugin, failure.off, failure.error) == (
        "strategy/theirs", True, "the process of the run ended in it.",
    )  # fmt: skip
    assert hung_plugins.note_ended_call(tmp_path, NOW) is None
    leave(tmp_path, "elsewhere")
    assert hung_plugins.note_ended_call(tmp_path, NOW) is None


def test_f92_a_plugin_in_which_two_starts_ended_is_set_aside(tmp_path: Path) -> None:
    """One may have been killed there for another reason, and so may one of an hour ago."""
    for minute, phase in ((0, "import"), (30, "create"), (35, "import")):
        leave(tmp_path, f"strategy/theirs {phase} 0 2026-11-24T15:{minute:02}:00+00:00")
        moment = NOW + dt.timedelta(minutes=minute)
        assert hung_plugins.ended_starts(tmp_path, moment) == {}
        ended = hung_plugins.note_ended_call(tmp_path, moment)
        assert ended is not None
        assert not ended.off
    words = "the process of the run ended 2 times while it was imported or created."
    assert hung_plugins.ended_starts(tmp_path, NOW + dt.timedelta(minutes=36)) == {"strategy/theirs": words}


def test_f92_a_broker_in_which_a_run_hung_is_not_switched_off() -> None:
    """Exits need it: the call is recorded as a failure, and the sentence says that it stays in use."""
    stuck = attrs.evolve(STUCK, plugin="broker/theirs", call="submit")
    assert not stuck.lost[1].off
    assert stuck.sentence == (
        "The last run ended in submit of the plugin broker/theirs, or was killed there: it stays in use."
    )
