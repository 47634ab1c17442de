"""`tbot calendar`: what people and scripts see of sessions and windows."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core import cli
from tbot_core.cli.commands import calendar
from tbot_core.cli.commands.calendar import SAMPLE_SCHEDULE, WindowSchedule, agenda, lines, window_schedule
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import SystemClock, exchange_time

if TYPE_CHECKING:
    from pathlib import Path

OUTSIDE = "is outside of the exchange calendar, which covers 2008-01-01 to 2060-12-31."
SETTINGS = """\
STRATEGY_SEQUENCE=OPEN,CLOSE
START_TIME_OPEN=14:40
OPEN_ANALYSIS_TIME=5
START_TIME_CLOSE=19:30
CLOSE_ANALYSIS_TIME=5
CLOSE_BREAKOUT_TIME=5
CLOSE_MONITORING_TIME=200
FLATTEN_BEFORE_CLOSE=10
TRADING_DAYS=mon,tue,wed
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance whose settings differ from the sample's."""
    (tmp_path / ".env_bot").write_text(SETTINGS)
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of one call."""
    code = cli.invoke(["calendar", *args])
    written = capsys.readouterr()
    return code, written.out, written.err


def document(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    """The JSON of a call that succeeds."""
    code, out, err = shown(capsys, *args, "--json")
    assert (code, err) == (0, "")
    loaded: dict[str, Any] = json.loads(out)
    return loaded


def test_the_windows_of_a_half_day_are_shown_in_both_zones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without settings the sample's windows are shown; the one that a half day cannot hold says why."""
    code, out, err = shown(capsys, "2026-11-27", "--home", str(tmp_path))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "Friday 2026-11-27: 210 minutes, closes early",
        "              UTC                         New York",
        "              from   entries      until   from   entries      until",
        "  session     14:30               18:00   09:30               13:00",
        "  OPEN        14:30  14:50-15:00  15:30   09:30  09:50-10:00  10:30",
        "  MID         15:30  15:45-15:55  16:25   10:30  10:45-10:55  11:25",
        (
            "  CLOSE       skipped (WINDOW_OUTSIDE_SESSION): "
            "entries until 19:40 UTC (14:40 New York), flattening from 17:55 UTC (12:55 New York)"
        ),
        "  flattening  17:55               18:00   12:55               13:00",
        "",
        "Next session: Monday 2026-11-30, 14:30 UTC (09:30 New York)",
        "The windows are those of the sample: the settings here name no strategy.",
    ]


def test_the_windows_move_with_daylight_saving(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From one Friday to the next Monday UTC shifts by an hour and New York stands still."""
    _, out, _ = shown(capsys, "2026-03-06", "--days", "4", "--home", str(tmp_path))
    assert [line for line in out.splitlines() if line.startswith("  OPEN")] == [
        "  OPEN        14:30  14:50-15:00  15:30   09:30  09:50-10:00  10:30",
        "  OPEN        13:30  13:50-14:00  14:30   09:30  09:50-10:00  10:30",
    ]


def test_a_closed_day_says_its_name_and_what_follows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A holiday has one line, and the next session is named."""
    _, out, _ = shown(capsys, "2026-12-25", "--home", str(tmp_path))
    assert out.splitlines()[:3] == [
        "Friday 2026-12-25: closed, Christmas Day",
        "",
        "Next session: Monday 2026-12-28, 14:30 UTC (09:30 New York)",
    ]


def test_the_instance_decides_where_windows_lie(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Start, phases, flattening and trading days come from the instance's settings."""
    code, out, _ = shown(capsys, "2026-07-01", "--days", "2", "--home", str(home))
    assert code == 0
    assert out.splitlines() == [
        "Wednesday 2026-07-01: 390 minutes",
        "              UTC                         New York",
        "              from   entries      until   from   entries      until",
        "  session     13:30               20:00   09:30               16:00",
        "  OPEN        13:40  13:45-13:55  14:25   09:40  09:45-09:55  10:25",
        "  CLOSE       18:30  18:35-18:40  19:50   14:30  14:35-14:40  15:50",
        "  flattening  19:50               20:00   15:50               16:00",
        "",
        "Thursday 2026-07-02: closed, TRADING_DAYS excludes Thursday",
        "",
        "Next session: Monday 2026-07-06, 13:30 UTC (09:30 New York)",
    ]


def test_a_literal_time_that_misses_the_bell_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TIME_ANCHOR=utc shows the shifted window with a sentence, and skips what lies before the bell."""
    (home / ".env_bot").write_text(f"{SETTINGS}TIME_ANCHOR=utc\n")
    _, out, _ = shown(capsys, "2026-07-01", "--home", str(home))
    assert "  OPEN        14:40  14:45-14:55  15:25   10:40  10:45-10:55  11:25" in out
    assert "START_TIME_OPEN=14:40 is 10:40 New York on 2026-07-01: with TIME_ANCHOR=utc the window starts 70" in out
    early = attrs.evolve(
        SAMPLE_SCHEDULE, windows=(attrs.evolve(SAMPLE_SCHEDULE.windows[0], start_time=dt.time(13, 30)),), anchor="utc"
    )
    said = list(lines(agenda(dt.date(2026, 3, 6), 1, early)))
    assert any(
        line.endswith("skipped (WINDOW_OUTSIDE_SESSION): it would start before the opening bell") for line in said
    )


def test_scripts_get_one_document(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The document has sorted keys, UTC times, the same keys for closed days, and the source of the windows."""
    half_day, closed = document(capsys, "2026-11-25", "--days", "2", "--home", str(home))["days"]
    assert sorted(half_day) == list(half_day) == list(closed)
    assert (closed["closed"], closed["open"], closed["windows"]) == ("Thanksgiving Day", None, [])
    assert (half_day["open"], half_day["flattening"]) == ("2026-11-25T14:30:00+00:00", "2026-11-25T20:50:00+00:00")
    assert half_day["windows"][0] == {
        "name": "OPEN",
        "start": "2026-11-25T14:40:00+00:00",
        "entry": "2026-11-25T14:45:00+00:00",
        "entry_end": "2026-11-25T14:55:00+00:00",
        "leave": "2026-11-25T15:25:00+00:00",
        "skipped": None,
        "note": None,
    }


def test_scripts_see_skipped_windows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A window without room carries the reason's code, and the next session stands beside the days."""
    whole = document(capsys, "2026-11-27", "--home", str(tmp_path))
    assert [window["skipped"] for window in whole["days"][0]["windows"]] == [None, None, "WINDOW_OUTSIDE_SESSION"]
    assert whole["next_session"]["date"] == "2026-11-30"
    assert (whole["calendar"], whole["anchor"], whole["windows_from"]) == ("XNYS", "exchange", "sample")


def test_a_window_before_the_bell_has_no_times() -> None:
    """In the document a window that does not exist that day has a reason and no moments."""
    early = attrs.evolve(
        SAMPLE_SCHEDULE, windows=(attrs.evolve(SAMPLE_SCHEDULE.windows[0], start_time=dt.time(13, 30)),), anchor="utc"
    )
    day: Any = calendar.document(agenda(dt.date(2026, 3, 6), 1, early))["days"]
    (window,) = day[0]["windows"]
    assert (window["skipped"], window["start"], window["leave"]) == ("WINDOW_OUTSIDE_SESSION", None, None)


def test_today_is_the_exchange_s_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a date the day is today's in New York, whatever the machine's zone."""
    before = exchange_time(SystemClock().now()).date().isoformat()
    asked = document(capsys, "--home", str(tmp_path))["days"][0]["date"]
    assert before <= asked <= exchange_time(SystemClock().now()).date().isoformat()


@pytest.mark.parametrize(
    ("date", "words"),
    [
        ("2026-02-29", "Invalid date '2026-02-29'"),
        ("tomorrow", "Invalid date 'tomorrow'"),
        ("2007-12-31", f"2007-12-31 {OUTSIDE}"),
        ("2061-01-01", f"2061-01-01 {OUTSIDE}"),
    ],
)
def test_a_wrong_date_is_wrong_usage(date: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A date that is none, or that the calendar does not cover, ends with exit code 2 and one sentence."""
    code, out, err = shown(capsys, date, "--home", str(tmp_path))
    assert (code, out) == (2, "")
    assert words in err


@pytest.mark.parametrize("far", ["2007-12-31", "2061-01-01"])
@pytest.mark.parametrize("command", ["run", "backtest", "calendar"])
def test_days_beyond_the_calendar_are_refused_alike(
    home: Path, command: str, far: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A day before the calendar's first or after its last is one sentence with both, and exit 2."""
    first, last = sorted((far, "2026-07-01"))
    words = {"run": ["--replay", f"{first}..{last}"], "backtest": ["--from", first, "--to", last], "calendar": [far]}
    assert cli.invoke([command, *words[command], "--home", str(home)]) == 2
    assert f"{far} {OUTSIDE}" in capsys.readouterr().err


def test_the_calendar_s_last_day_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last day has its session and no next one; a day more is refused."""
    code, out, _ = shown(capsys, "2060-12-31", "--home", str(tmp_path))
    assert (code, "Next session: beyond the end of the exchange calendar" in out) == (0, True)
    code, out, _ = shown(capsys, "2060-12-31", "--home", str(tmp_path), "--json")
    assert json.loads(out)["next_session"] is None
    assert shown(capsys, "2060-12-31", "--days", "2", "--home", str(tmp_path))[0] == 2


def test_wrong_settings_are_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A start outside every session ends with exit code 3 and names its variable."""
    (home / ".env_bot").write_text(SETTINGS.replace("14:40", "09:30"))
    code, out, err = shown(capsys, "2026-07-01", "--home", str(home))
    assert (code, out) == (3, "")
    assert "START_TIME_OPEN=09:30" in err


def test_the_sample_s_windows_are_those_of_the_sample_file(tmp_path: Path, shared: Path) -> None:
    """What is shown without an instance is what the user's sample file says."""
    (tmp_path / ".env_bot").write_bytes((shared / "reference" / "env_bot.sample").read_bytes())
    assert window_schedule(tmp_path) == attrs.evolve(SAMPLE_SCHEDULE, source="instance")


def test_a_disabled_strategy_has_no_window(home: Path) -> None:
    """Only strategies that run are shown, and none at all is not the sample."""
    (home / ".env_bot").write_text(f"{SETTINGS}STRAT_OPEN_ENABLED=false\nSTRAT_CLOSE_ENABLED=false\n")
    calendar = ExchangeCalendar(weekdays=frozenset({0, 1, 2}))
    assert window_schedule(home) == WindowSchedule(windows=(), flatten_before_close=10, calendar=calendar)
