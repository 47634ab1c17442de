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
