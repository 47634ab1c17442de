"""CALENDAR_OVERRIDES: what the owner knows of the exchange's days, from the file to the session."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts.settings.calendar_overrides import calendar_overrides
from tbot_core.engine.bootstrap import assemble
from tbot_core.errors import SettingsError
from tbot_core.instance import load_settings
from tbot_core.model.calendar import ClosedDay, EarlyClose
from tbot_core.model.clock import SystemClock
from tbot_core.status.phases import next_event

if TYPE_CHECKING:
    from pathlib import Path

TUESDAY = dt.date(2026, 11, 24)
WEDNESDAY = dt.date(2026, 11, 25)
WRITTEN = "2026-11-25 13:00; 2026-11-24 closed Day of mourning"


def instance(home: Path, overrides: str) -> Path:
    """An instance whose owner has said so."""
    create_demo_instance(home)
    with (home / ".env_bot").open("a") as file:
        file.write(f"\nCALENDAR_OVERRIDES={overrides}\n")
    return home


def test_overrides_are_days_in_their_order() -> None:
    """A closure with its reason, an early close in New York time; what is shown is read as the same."""
    kind = calendar_overrides()
    found = kind.parse(WRITTEN)
    assert found == ((TUESDAY, ClosedDay(reason="Day of mourning")), (WEDNESDAY, EarlyClose(close=dt.time(13))))
    assert kind.parse(kind.show(found)) == found
    assert kind.parse("") == ()


@pytest.mark.parametrize(
    "written",
    [
        "tomorrow closed x",
        "2026-11-24",
        "2026-11-24 closed",
        "2026-11-24 13:00 sharp",
        "2026-11-24 17:00",
        "2026-11-24 09:30",
        "2026-13-24 13:00",
        "2026-11-24 13:00; 2026-11-24 closed x",
    ],
)
def test_an_override_that_says_no_day_is_refused(tmp_path: Path, written: str) -> None:
    """Exit 3 with the setting, what was written and what is allowed; a later close than the exchange's is none."""
    with pytest.raises(SettingsError) as refused:
        load_settings(instance(tmp_path, written), mode="replay")
    assert f"CALENDAR_OVERRIDES={written}" in str(refused.value)
    assert "days separated by semicolons" in str(refused.value)


def test_a_day_that_is_closed_by_its_owner_has_no_session(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not traded, waited for or armed, and `tbot calendar` says the reason; an early close ends the session."""
    home = instance(tmp_path, WRITTEN)
    calendar = assemble(home, "paper", SystemClock()).calendar
    assert calendar.session(TUESDAY) is None
    short = calendar.session(WEDNESDAY)
    assert short is not None
    assert short.minutes == 210
    assert cli.invoke(["calendar", "2026-11-24", "--days", "2", "--home", str(home), "--json"]) == 0
    closed, early = json.loads(capsys.readouterr().out)["days"]
    assert (closed["closed"], early["minutes"]) == ("Day of mourning", 210)
    event = next_event(load_settings(home, mode="replay"), dt.datetime(2026, 11, 24, 15, tzinfo=dt.UTC))
    assert (event.event, event.time.date()) == ("opening bell", WEDNESDAY)
