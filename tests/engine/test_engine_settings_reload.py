"""Settings that are changed while a bot runs: noticed at once, counted from the next session, never in half."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from tbot_core.engine.settings_reload import SettingsChanged, SettingsDiff, SettingsReloader
from tbot_core.journal import records
from tbot_core.rehearsal.lifecycle import SimulatedInstance, simulated_instance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession

RAISED = SettingsDiff(differences={"MAX_TRADES": ("3", "30")})


@pytest.fixture
def home(tmp_path: Path) -> Iterator[SimulatedInstance]:
    """An instance in a world without faults."""
    with simulated_instance(tmp_path) as made:
        yield made


def told(*changes: SettingsDiff) -> SettingsReloader:
    """Tells of each change in turn, one a look."""
    news = iter(changes)
    return SettingsReloader(lambda: next(news, None))


@pytest.mark.slow
def test_f100_a_limit_that_is_raised_in_a_session_waits_for_its_end(home: SimulatedInstance) -> None:
    """F100: written down with what it was and will be; the session goes on as it began, and then the run is renewed."""
    changes: list[SettingsDiff] = []
    home.renewal = SettingsReloader(lambda: changes.pop() if changes else None)

    def change(_run: TradingSession, minute: int) -> None:
        if minute == 3:
            changes.append(RAISED)

    home.watch = change
    with pytest.raises(SettingsChanged):
        home.world.run(home.life(once=False).run)
    (noted,), (closed,) = home.events(records.SETTINGS), home.events(records.SESSION_CLOSED)
    assert noted.payload == {"changes": {"MAX_TRADES": ["3", "30"]}, "fault": ""}
    assert home.world.session.minute(noted.applied) == 4
    assert noted.seq < closed.seq
    assert home.world.clock.now() - closed.applied < dt.timedelta(minutes=1)


def test_f100_settings_that_are_not_fit_change_nothing(home: SimulatedInstance) -> None:
    """F100: the fault is written down, and the run goes on with the settings that it has."""
    home.renewal = told(
        SettingsDiff(differences={}, fault="MAX_TRADES: many is no number."), SettingsDiff(differences={})
    )
    assert home.world.run(home.life().run) is False
    assert [event.payload["fault"] for event in home.events(records.SETTINGS)] == ["MAX_TRADES: many is no number.", ""]


def test_before_a_session_changed_settings_count_at_once(home: SimulatedInstance) -> None:
    """Nothing is under way, so the run ends for its settings before the day is begun."""
    home.renewal = told(RAISED)
    with pytest.raises(SettingsChanged):
        home.world.run(home.life().run)
    assert home.events(records.SESSION_OPENED) == []
