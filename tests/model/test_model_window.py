"""Window: derived minutes, bounds, the session it needs, and its place: the bell, the UTC clock, refused settings."""

from __future__ import annotations

import datetime as dt

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts.settings import StrategySettings
from tbot_core.errors import SettingsError
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.clock import exchange_zone
from tbot_core.model.window import (
    ANCHORS,
    Anchor,
    NamedWindow,
    Window,
    anchor_named,
    check_windows,
    missed_bell,
    named_window,
    place_window,
)

OPEN = Window(start=0, analysis=20, breakout=10, monitoring=30)
CLOSE = Window(start=300, analysis=5, breakout=5, monitoring=25)


def test_the_phases_follow_one_another() -> None:
    """Entry, its end and the leaving minute are sums of the phases before them."""
    assert (OPEN.entry, OPEN.entry_end, OPEN.leave) == (20, 30, 60)


@given(
    start=st.integers(0, 400),
    analysis=st.integers(0, 400),
    breakout=st.integers(1, 400),
    monitoring=st.integers(1, 400),
)
def test_the_phases_never_overlap(start: int, analysis: int, breakout: int, monitoring: int) -> None:
    """Whatever the lengths, the phases are ordered and keep their lengths."""
    window = Window(start=start, analysis=analysis, breakout=breakout, monitoring=monitoring)
    assert 0 <= window.start <= window.entry < window.entry_end < window.leave
    assert (window.entry - start, window.entry_end - window.entry, window.leave - window.entry_end) == (
        analysis,
        breakout,
        monitoring,
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("analysis", -1), ("breakout", 0), ("monitoring", 0)],
)
def test_a_window_that_cannot_trade_is_refused(field: str, value: int) -> None:
    """An empty phase never becomes a window."""
    minutes = {"start": 0, "analysis": 20, "breakout": 10, "monitoring": 30, field: value}
    with pytest.raises(ValueError, match=field):
        Window(**minutes)


def test_minutes_are_whole() -> None:
    """Half a minute is not a place among one-minute bars."""
    with pytest.raises(TypeError, match="start"):
        Window(start=0.5, analysis=20, breakout=10, monitoring=30)  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize(
    ("window", "session_minutes", "flatten", "outside"),
    [
        (CLOSE, 390, 5, False),
        (CLOSE, 390, 80, False),
        (CLOSE, 390, 81, True),
        (CLOSE, 210, 5, True),
        (OPEN, 210, 5, False),
        (OPEN, 30, 0, False),
        (OPEN, 29, 0, True),
    ],
)
def test_a_window_needs_its_entry_phase_before_flattening(
    window: Window, session_minutes: int, flatten: int, outside: bool
) -> None:
    """The last trigger bar may close at the moment flattening starts, not later."""
    assert window.outside(session_minutes, flatten) is outside


def session_of(year: int, month: int, day: int) -> Session:
    """The session of a day that has one."""
    session = ExchangeCalendar().session(dt.date(year, month, day))
    assert session is not None
    return session


WINTER, SUMMER, HALF_DAY = session_of(2026, 3, 6), session_of(2026, 7, 1), session_of(2026, 11, 27)
OPEN_TIMES = NamedWindow(
    name="OPEN", start_time=dt.time(14, 30), analysis_minutes=20, breakout_minutes=10, monitoring_minutes=30
)
CLOSE_TIMES = NamedWindow(
    name="CLOSE", start_time=dt.time(19, 30), analysis_minutes=5, breakout_minutes=5, monitoring_minutes=25
)


def starting(hour: int, minute: int) -> NamedWindow:
    """The OPEN window with another start time."""
    return attrs.evolve(OPEN_TIMES, start_time=dt.time(hour, minute))


@pytest.mark.parametrize("session", [WINTER, SUMMER, HALF_DAY])
@pytest.mark.parametrize(("named", "start"), [(OPEN_TIMES, 0), (CLOSE_TIMES, 300), (starting(20, 59), 389)])
def test_the_exchange_anchor_keeps_the_distance_to_the_bell(named: NamedWindow, start: int, session: Session) -> None:
    """A window starts as many minutes after the bell in summer and on half days as on a standard day."""
    window = place_window(named, session, "exchange")
    assert (window.start, window.analysis, window.breakout, window.monitoring) == (
        start,
        named.analysis_minutes,
        named.breakout_minutes,
        named.monitoring_minutes,
    )
    assert missed_bell(named, session, "exchange") is None


def test_a_half_day_has_no_room_for_the_close_window() -> None:
    """The sample's CLOSE window lies outside a 210-minute session and inside a whole one."""
    window = place_window(CLOSE_TIMES, HALF_DAY, "exchange")
    assert window.outside(HALF_DAY.minutes, 5)
    assert not window.outside(WINTER.minutes, 5)


@pytest.mark.parametrize(
    ("named", "session", "start"),
    [
        (OPEN_TIMES, WINTER, 0),
        (OPEN_TIMES, SUMMER, 60),
        (starting(13, 30), SUMMER, 0),
        (starting(13, 30), WINTER, -60),
        (starting(20, 30), SUMMER, 420),
    ],
)
def test_the_utc_anchor_takes_the_clock_literally(named: NamedWindow, session: Session, start: int) -> None:
    """The same UTC time is an hour later after the bell in summer; where it lies before the bell it is outside."""
    window = place_window(named, session, "utc")
    assert window.start == start
    assert window.outside(session.minutes, 5) is (start not in range(300))


@pytest.mark.parametrize(
    ("named", "session", "words"),
    [
        (OPEN_TIMES, SUMMER, "10:30 New York on 2026-07-01: with TIME_ANCHOR=utc the window starts 60 minutes after"),
        (CLOSE_TIMES, SUMMER, "360 minutes after the opening bell, not 300 as on a standard-time day"),
        (starting(13, 30), WINTER, "60 minutes before the opening bell and is skipped"),
    ],
)
def test_a_missed_bell_is_reported(named: NamedWindow, session: Session, words: str) -> None:
    """Where the literal time does not keep its distance, the sentence names variable, day and distance."""
    said = missed_bell(named, session, "utc")
    assert said is not None
    assert said.startswith(f"START_TIME_{named.name}={named.start_time:%H:%M} is ")
    assert words in said


@pytest.mark.parametrize(
    ("named", "session"), [(OPEN_TIMES, WINTER), (CLOSE_TIMES, WINTER), (starting(13, 30), SUMMER)]
)
def test_a_bell_that_is_met_is_not_reported(named: NamedWindow, session: Session) -> None:
    """A literal time at the bell, or at its usual distance, needs no warning."""
    assert missed_bell(named, session, "utc") is None


@pytest.mark.parametrize("session", [WINTER, SUMMER])
@pytest.mark.parametrize("anchor", ANCHORS)
def test_a_start_in_new_york_time_ignores_the_anchor(anchor: Anchor, session: Session) -> None:
    """09:50 ET is twenty minutes after the bell all year, with either anchor, and needs no warning."""
    named = attrs.evolve(OPEN_TIMES, start_time=dt.time(9, 50, tzinfo=exchange_zone()))
    check_windows([named], anchor)
    assert (place_window(named, session, anchor).start, named.text) == (20, "START_TIME_OPEN=09:50 ET")
    assert missed_bell(named, session, anchor) is None


@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("start", [dt.time(9, 29), dt.time(16, 0)])
def test_a_start_in_new_york_time_lies_within_the_session(start: dt.time, anchor: Anchor) -> None:
    """What lies before the bell of New York or at the close is refused, named as it is written."""
    named = attrs.evolve(OPEN_TIMES, start_time=start.replace(tzinfo=exchange_zone()))
    with pytest.raises(SettingsError, match=f"START_TIME_OPEN={start:%H:%M} ET is outside of every session"):
        check_windows([named], anchor)


def test_the_sample_windows_pass() -> None:
    """The sample's windows fit, whatever the anchor."""
    for anchor in ANCHORS:
        check_windows([OPEN_TIMES, CLOSE_TIMES], anchor)


@pytest.mark.parametrize(
    ("anchor", "start_time", "fits"),
    [
        ("exchange", dt.time(14, 29), False),
        ("exchange", dt.time(14, 30), True),
        ("exchange", dt.time(20, 59), True),
        ("exchange", dt.time(21, 0), False),
        ("exchange", dt.time(0, 0), False),
        ("utc", dt.time(13, 29), False),
        ("utc", dt.time(13, 30), True),
        ("utc", dt.time(20, 59), True),
        ("utc", dt.time(21, 0), False),
    ],
)
def test_a_start_outside_every_session_is_refused(anchor: Anchor, start_time: dt.time, fits: bool) -> None:
    """A start that no session of any season holds is a settings fault that names its variable."""
    named = attrs.evolve(CLOSE_TIMES, start_time=start_time)
    if fits:
        check_windows([named], anchor)
        return
    with pytest.raises(SettingsError, match=f"START_TIME_CLOSE={start_time:%H:%M} is outside of every session"):
        check_windows([named], anchor)


def test_all_faults_come_at_once() -> None:
    """Every window's every fault is a line of its own."""
    bad = NamedWindow(
        name="OPEN", start_time=dt.time(9, 30, 5), analysis_minutes=-1, breakout_minutes=0, monitoring_minutes=0
    )
    with pytest.raises(SettingsError) as caught:
        check_windows([bad, attrs.evolve(CLOSE_TIMES, breakout_minutes=0)], "exchange")
    assert [line.split("=")[0] for line in caught.value.message.splitlines()] == [
        "START_TIME_OPEN",
        "START_TIME_OPEN",
        "OPEN_ANALYSIS_TIME",
        "OPEN_BREAKOUT_TIME",
        "OPEN_MONITORING_TIME",
        "CLOSE_BREAKOUT_TIME",
    ]
    assert "14:30 (09:30 New York)" in caught.value.remedy


@given(minute=st.integers(0, 389), day=st.dates(dt.date(2008, 1, 1), dt.date(2060, 11, 30)))
def test_anchors_agree_in_standard_time_and_differ_by_an_hour_in_summer(minute: int, day: dt.date) -> None:
    """Both anchors give the same minute in standard time; in summer utc is exactly an hour later."""
    session = ExchangeCalendar().next(day)
    start = (dt.datetime(2026, 1, 2, 14, 30) + dt.timedelta(minutes=minute)).time()  # noqa: DTZ001
    named = attrs.evolve(OPEN_TIMES, start_time=start)
    kept, literal = (place_window(named, session, anchor) for anchor in ANCHORS)
    assert literal.start - kept.start == (60 if session.open.hour == 13 else 0)


def test_a_window_is_read_from_any_settings_that_hold_its_times() -> None:
    """The core's own frame fits, and the name is the one that stands in variables."""
    frame = StrategySettings(start_time=dt.time(15, 30), analysis_minutes=15)
    assert named_window("mid", frame) == NamedWindow(
        name="MID",
        start_time=dt.time(15, 30),
        analysis_minutes=15,
        breakout_minutes=frame.breakout_minutes,
        monitoring_minutes=frame.monitoring_minutes,
    )


def test_anchors_are_named_as_in_settings() -> None:
    """Both words are known, and any other is a settings fault."""
    assert [anchor_named(word) for word in ("exchange", "utc")] == ["exchange", "utc"]
    with pytest.raises(SettingsError, match="TIME_ANCHOR=local"):
        anchor_named("local")
