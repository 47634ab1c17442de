"""The exchange calendar against an independent oracle, stored sessions and the days that are easy to get wrong."""

from __future__ import annotations

import datetime as dt
import itertools
import pickle
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.errors import DataError, SettingsError
from tbot_core.model import calendar, exchange_holidays
from tbot_core.model.calendar import ClosedDay, EarlyClose, ExchangeCalendar, Session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Bells = tuple[dt.date, dt.datetime, dt.datetime]

XNYS = ExchangeCalendar()
DAYS = st.dates(dt.date(2008, 2, 1), dt.date(2060, 11, 30))


def bells(session: Session) -> Bells:
    """A session as date and bells, comparable with any source."""
    return session.date, session.open, session.close


@pytest.fixture(scope="module")
def oracle() -> list[Bells]:
    """Every session that exchange-calendars foresees for the whole range."""
    import exchange_calendars  # type: ignore[import-untyped]  # it has no stubs

    schedule = exchange_calendars.get_calendar(
        "XNYS", start=str(calendar.FIRST_DAY), end=str(calendar.LAST_DAY)
    ).schedule
    return [
        (day.date(), opens.to_pydatetime(), closes.to_pydatetime())
        for day, opens, closes in zip(schedule.index, schedule["open"], schedule["close"], strict=True)
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Series.values returning")  # the oracle's own, not ours
@pytest.mark.first(0)  # over two seconds
def test_every_session_agrees_with_the_oracle(oracle: list[Bells]) -> None:
    """Each session from 2008 to 2060 has the oracle's date, open and close, and there is no other."""
    ours = [bells(session) for session in XNYS.sessions(calendar.FIRST_DAY, calendar.LAST_DAY)]
    assert ours == oracle


@pytest.mark.parametrize(
    ("table", "category"), [(exchange_holidays.HOLIDAYS, "public"), (exchange_holidays.HALF_DAYS, "half_day")]
)
def test_the_table_of_holidays_is_that_of_the_package(table: Mapping[str, str], category: str) -> None:
    """Every closed and half day of `holidays`, with its name, and no other; else run tools/exchange_holidays.py."""
    from holidays import financial_holidays

    years = range(calendar.FIRST_DAY.year, calendar.LAST_DAY.year + 1)
    listed = financial_holidays("XNYS", years=years, expand=False, language="en_US", categories=(category,))
    named = [(dt.date.fromisoformat(word), name) for name, words in table.items() for word in words.split()]
    assert sorted(named) == sorted(listed.items())


def test_every_session_agrees_with_the_stored_ones(shared: Path) -> None:
    """The stored table of sessions from 2008 to 2026 says the same, early closes included."""
    import polars as pl

    stored = pl.read_parquet(shared / "data" / "xnys_sessions.parquet")
    ours = XNYS.sessions(stored["session"].min(), stored["session"].max())  # type: ignore[arg-type]  # a date column
    assert [(*bells(session), session.early_close) for session in ours] == stored.rows()


@pytest.mark.parametrize(
    ("day", "reason"),
    [
        (dt.date(2026, 1, 1), "New Year's Day"),
        (dt.date(2026, 1, 19), "Martin Luther King Jr. Day"),
        (dt.date(2026, 2, 16), "Washington's Birthday"),
        (dt.date(2026, 4, 3), "Good Friday"),
        (dt.date(2026, 5, 25), "Memorial Day"),
        (dt.date(2026, 6, 19), "Juneteenth National Independence Day"),
        (dt.date(2026, 7, 3), "Independence Day (observed)"),
        (dt.date(2026, 9, 7), "Labor Day"),
        (dt.date(2026, 11, 26), "Thanksgiving Day"),
        (dt.date(2026, 12, 25), "Christmas Day"),
        (dt.date(2012, 10, 29), "Hurricane Sandy"),
        (dt.date(2012, 10, 30), "Hurricane Sandy"),
        (dt.date(2018, 12, 5), "National Day of Mourning for former President George H. W. Bush"),
        (dt.date(2025, 1, 9), "National Day of Mourning for former President Jimmy Carter"),
        (dt.date(2026, 7, 4), "weekend"),
        (dt.date(2026, 7, 5), "weekend"),
    ],
)
def test_a_closed_day_says_its_name(day: dt.date, reason: str) -> None:
    """A day without a session names the holiday, the closure or the weekend."""
    assert XNYS.session(day) is None
    assert XNYS.closed_reason(day) == reason


@pytest.mark.parametrize(
    ("day", "minutes"),
    [
        (dt.date(2021, 6, 18), 390),  # Juneteenth was not yet a holiday of the exchange
        (dt.date(2021, 12, 31), 390),  # New Year's Day on a Saturday is not observed on Friday
        (dt.date(2024, 2, 29), 390),
        (dt.date(2026, 12, 31), 390),
        (dt.date(2026, 11, 27), 210),
        (dt.date(2026, 12, 24), 210),
        (dt.date(2024, 7, 3), 210),
        (dt.date(2012, 7, 3), 210),
        (dt.date(2013, 7, 3), 210),
        (dt.date(2026, 7, 2), 390),  # the fourth falls on a Saturday: closed on Friday, Thursday is whole
    ],
)
def test_a_session_has_its_length(day: dt.date, minutes: int) -> None:
    """Full days have 390 minutes and half days 210, whatever the date's traps."""
    session = XNYS.session(day)
    assert session is not None
    assert (session.minutes, session.early_close) == (minutes, minutes < 390)
    assert XNYS.closed_reason(day) is None


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        (dt.date(2026, 3, 6), (14, 30), (21, 0)),
        (dt.date(2026, 3, 9), (13, 30), (20, 0)),
        (dt.date(2026, 10, 30), (13, 30), (20, 0)),
        (dt.date(2026, 11, 2), (14, 30), (21, 0)),
        (dt.date(2026, 11, 27), (14, 30), (18, 0)),
        (dt.date(2024, 7, 3), (13, 30), (17, 0)),
    ],
)
def test_the_bells_follow_daylight_saving(day: dt.date, opens: tuple[int, int], closes: tuple[int, int]) -> None:
    """Around both changes, and on half days of either season, the bells keep New York time."""
    session = XNYS.session(day)
    assert session is not None
    assert (session.open, session.close) == tuple(
        dt.datetime.combine(day, dt.time(*at), dt.UTC) for at in (opens, closes)
    )
    assert session.open.tzinfo is dt.UTC


def test_minutes_and_moments_of_a_session_match() -> None:
    """A minute's moment lies in that minute; before the bell minutes are negative, after hours they go on."""
    session = XNYS.session(dt.date(2026, 3, 6))
    assert session is not None
    assert session.moment(0) == session.open
    assert session.moment(session.minutes) == session.close
    almost = dt.timedelta(minutes=1, microseconds=-1)
    assert [session.minute(session.moment(minute) + almost) for minute in (-1, 0, 389, 390)] == [-1, 0, 389, 390]
    with pytest.raises(ValueError, match="no time zone"):
        session.minute(dt.datetime(2026, 3, 6, 9, 30))  # noqa: DTZ001  the point of the test


@pytest.mark.parametrize("length", [dt.timedelta(0), dt.timedelta(minutes=-1), dt.timedelta(seconds=90)])
def test_a_session_is_whole_minutes_long(length: dt.timedelta) -> None:
    """A session that ends before it begins, or within a minute, is refused."""
    bell = dt.datetime(2026, 3, 6, 14, 30, tzinfo=dt.UTC)
    with pytest.raises(ValueError, match="whole minutes"):
        Session(date=bell.date(), open=bell, close=bell + length)


def test_neighbours_step_over_closed_days_and_years() -> None:
    """Previous and next skip weekends, holidays and the turn of the year, from session days and others alike."""
    assert XNYS.next(dt.date(2026, 12, 31)).date == dt.date(2027, 1, 4)
    assert XNYS.previous(dt.date(2027, 1, 4)).date == dt.date(2026, 12, 31)
    assert XNYS.next(dt.date(2026, 11, 25)).date == dt.date(2026, 11, 27)
    assert XNYS.previous(dt.date(2026, 11, 26)).date == dt.date(2026, 11, 25)
    assert XNYS.next(dt.date(2024, 2, 28)).date == dt.date(2024, 2, 29)


def test_the_current_session_is_todays_until_it_closes() -> None:
    """Before and during it; from its close on, and on a day without one, it is the next."""
    friday, monday = XNYS.session(dt.date(2026, 11, 27)), dt.date(2026, 11, 30)
    assert friday is not None
    for moment in (friday.open - dt.timedelta(hours=9), friday.open, friday.close - dt.timedelta(microseconds=1)):
        assert XNYS.current(moment) == friday
    assert XNYS.current(friday.close).date == monday
    assert XNYS.current(friday.close + dt.timedelta(days=1)).date == monday
    assert XNYS.current(dt.datetime(2026, 11, 26, 15, tzinfo=dt.UTC)) == friday


@given(DAYS)
def test_neighbours_enclose_the_day(day: dt.date) -> None:
    """Between a day's previous and next session there is at most the day's own."""
    between = XNYS.sessions(XNYS.previous(day).date, XNYS.next(day).date)
    own = XNYS.session(day)
    assert [session.date for session in between[1:-1]] == ([day] if own else [])


@given(DAYS, st.integers(0, 500), st.frozensets(st.integers(0, 4), min_size=1))
def test_sessions_are_sorted_unique_and_on_trading_weekdays(
    first: dt.date, days: int, weekdays: frozenset[int]
) -> None:
    """Any range gives the sessions of its days in order, once, only on the chosen weekdays, whole or half."""
    last = min(first + dt.timedelta(days=days), calendar.LAST_DAY)
    sessions = ExchangeCalendar(weekdays=weekdays).sessions(first, last)
    assert all(one.date < other.date for one, other in itertools.pairwise(sessions))
    assert all(first <= session.date <= last for session in sessions)
    assert {session.date.weekday() for session in sessions} <= weekdays
    assert {session.minutes for session in sessions} <= {210, 390}
    assert all(session.open.date() == session.date == session.close.date() for session in sessions)


@given(DAYS)
def test_a_day_has_a_session_or_a_reason(day: dt.date) -> None:
    """Never both, never neither."""
    assert (XNYS.session(day) is None) == (XNYS.closed_reason(day) is not None)


def test_a_reversed_range_is_empty() -> None:
    """No sessions lie between a day and an earlier one."""
    assert XNYS.sessions(dt.date(2026, 3, 6), dt.date(2026, 3, 5)) == ()


@pytest.mark.parametrize("day", [dt.date(2007, 12, 31), dt.date(2061, 1, 3)])
def test_days_out_of_range_are_refused(day: dt.date) -> None:
    """The calendar does not guess about years it was not checked for."""
    for ask in (XNYS.session, XNYS.closed_reason, lambda last: XNYS.sessions(day, last)):
        with pytest.raises(DataError, match="outside of the exchange calendar"):
            ask(day)


def test_the_edges_have_one_neighbour() -> None:
    """The first and last covered days answer, and beyond them there is no session."""
    assert XNYS.next(calendar.FIRST_DAY).date == dt.date(2008, 1, 2)
    with pytest.raises(DataError, match="2007-12-31"):
        XNYS.previous(dt.date(2008, 1, 2))
    with pytest.raises(DataError, match="2061-01-01"):
        XNYS.next(calendar.LAST_DAY)


def test_the_years_after_2030_go_on_by_the_same_rules() -> None:
    """2031 opens after New Year's Day and ends with whole sessions, so nothing stops on the last day of 2030."""
    assert XNYS.next(dt.date(2030, 12, 31)).date == dt.date(2031, 1, 2)
    assert len(XNYS.sessions(dt.date(2031, 1, 1), dt.date(2031, 12, 31))) == 251


def test_a_moment_is_not_a_day() -> None:
    """A datetime, which would silently miss every table, is refused."""
    with pytest.raises(ValueError, match="named by its exchange date"):
        XNYS.session(dt.datetime(2026, 11, 27, 14, 30, tzinfo=dt.UTC))


def test_an_override_closes_or_shortens_and_never_lengthens() -> None:
    """The shorter session wins: an override cuts a day and never adds trading time."""
    known = ExchangeCalendar(
        overrides={
            dt.date(2026, 3, 4): ClosedDay(reason="Power failure"),
            dt.date(2026, 3, 5): EarlyClose(close=dt.time(12, 0)),
            dt.date(2026, 11, 27): EarlyClose(close=dt.time(16, 0)),
            dt.date(2026, 12, 25): EarlyClose(close=dt.time(12, 0)),
            dt.date(2026, 3, 7): ClosedDay(reason="Power failure"),
        }
    )
    assert known.closed_reason(dt.date(2026, 3, 4)) == "Power failure"
    lengths = {
        session.date.day: session.minutes for session in known.sessions(dt.date(2026, 3, 3), dt.date(2026, 3, 6))
    }
    assert lengths == {3: 390, 5: 150, 6: 390}
    half_day = known.session(dt.date(2026, 11, 27))
    assert half_day is not None
    assert half_day.minutes == 210
    assert known.closed_reason(dt.date(2026, 12, 25)) == "Christmas Day"
    assert known.closed_reason(dt.date(2026, 3, 7)) == "weekend"
    assert known.next(dt.date(2026, 3, 3)).date == dt.date(2026, 3, 5)


@pytest.mark.parametrize("close", [dt.time(9, 30), dt.time(16, 1), dt.time(13, 0, 30), dt.time(13, 0, 0, 1)])
def test_an_early_close_lies_within_the_session(close: dt.time) -> None:
    """An early close at or before the bell, after the usual close or off the minute is refused with a remedy."""
    with pytest.raises(SettingsError, match="not a minute of the session") as caught:
        EarlyClose(close=close)
    assert "New York time" in caught.value.remedy


def test_trading_days_come_on_top_of_the_calendar() -> None:
    """A weekday that is left out has no session and says so; a holiday keeps its name."""
    mondays = ExchangeCalendar(weekdays=frozenset({0}))
    assert mondays.closed_reason(dt.date(2026, 3, 3)) == "TRADING_DAYS excludes Tuesday"
    assert mondays.closed_reason(dt.date(2026, 12, 25)) == "Christmas Day"
    assert mondays.holiday(dt.date(2026, 12, 25)) == "Christmas Day"
    assert mondays.holiday(dt.date(2026, 3, 3)) is mondays.holiday(dt.date(2026, 3, 7)) is None
    assert mondays.next(dt.date(2026, 3, 2)).date == dt.date(2026, 3, 9)


def test_facts_of_the_previous_session_ignore_trading_days() -> None:
    """The calendar of every weekday keeps the overrides and drops the choice of days."""
    overrides = {dt.date(2026, 3, 6): ClosedDay(reason="Power failure")}
    mondays = ExchangeCalendar(weekdays=frozenset({0}), overrides=overrides)
    assert mondays.every_weekday == ExchangeCalendar(overrides=overrides)
    assert mondays.every_weekday.previous(dt.date(2026, 3, 9)).date == dt.date(2026, 3, 5)


@pytest.mark.parametrize("weekdays", [frozenset[int](), frozenset({5, 6}), frozenset({0, 7})])
def test_trading_days_name_a_day_that_trades(weekdays: frozenset[int]) -> None:
    """No weekday, weekends alone, or a day that does not exist are settings faults."""
    with pytest.raises(SettingsError, match="TRADING_DAYS"):
        ExchangeCalendar(weekdays=weekdays)


def test_a_calendar_keeps_what_it_was_given() -> None:
    """Later changes to the caller's table change nothing, and a calendar travels to a child process."""
    table: dict[dt.date, calendar.Override] = {}
    made = ExchangeCalendar(overrides=table)
    table[dt.date(2026, 3, 4)] = ClosedDay(reason="Power failure")
    assert made.session(dt.date(2026, 3, 4)) is not None
    assert pickle.loads(pickle.dumps(made)) == made
