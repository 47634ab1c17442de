"""`tbot calendar`: sessions and strategy windows, in UTC and New York time."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final, Literal

import attrs
import click

from tbot_core.cli.options import BoundedInt, emit, home_option, json_option
from tbot_core.errors import DataError
from tbot_core.model import clock
from tbot_core.model.calendar import EXCHANGE, WEEKDAY_NAMES, ExchangeCalendar, Session
from tbot_core.model.dates import parse_day as day_of
from tbot_core.model.dates import require_covered
from tbot_core.model.reasons import Reason
from tbot_core.model.window import Anchor, NamedWindow, Window, anchor_named, missed_bell, named_window, place_window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST_DAYS: Final = 366


@attrs.frozen(kw_only=True)
class WindowSchedule:
    """The settings that place the windows: those of an instance, or else those of the sample."""

    windows: tuple[NamedWindow, ...]
    anchor: Anchor = "exchange"
    flatten_before_close: int = 5
    calendar: ExchangeCalendar = attrs.field(factory=ExchangeCalendar)
    source: Literal["instance", "sample"] = "instance"


@attrs.frozen(kw_only=True)
class PlacedWindow:
    """One strategy's window on one day. `skipped`: why it does not fit; `note`: that it starts before the bell."""

    name: str
    window: Window
    skipped: str | None
    note: str | None


@attrs.frozen(kw_only=True)
class CalendarDay:
    """One day: its session with the windows, or the reason why it has none."""

    date: dt.date
    session: Session | None
    closed: str | None
    windows: tuple[PlacedWindow, ...]


@attrs.frozen(kw_only=True)
class Agenda:
    """Consecutive days, and the first session after them; None beyond the end of the calendar."""

    schedule: WindowSchedule
    days: tuple[CalendarDay, ...]
    next_session: Session | None


SAMPLE_SCHEDULE: Final = WindowSchedule(
    windows=tuple(
        NamedWindow(
            name=name,
            start_time=start_time,
            analysis_minutes=analysis,
            breakout_minutes=breakout,
            monitoring_minutes=monitoring,
        )
        for name, start_time, analysis, breakout, monitoring in (
            ("OPEN", dt.time(14, 30), 20, 10, 30),
            ("MID", dt.time(15, 30), 15, 10, 30),
            ("CLOSE", dt.time(19, 30), 5, 5, 25),
        )
    ),
    source="sample",
)


@click.command("calendar")
@click.argument("date", required=False, metavar="[DATE]")
@click.option("--days", type=BoundedInt(1, _MOST_DAYS), default=1, show_default=True, help="Number of days to show.")
@home_option
@json_option
def command(date: str | None, days: int, home: Path | None, *, as_json: bool) -> None:
    """Show the session of DATE (YYYY-MM-DD, default: today in New York) and the strategy windows."""
    first = clock.exchange_time(clock.SystemClock().now()).date() if date is None else day_of(date)
    shown = agenda(first, days, window_schedule(home))
    emit(document(shown), as_json=as_json, lines=lines(shown))


def window_schedule(home: Path | None) -> WindowSchedule:
    """The schedule from the settings of the instance, or the sample if they name no strategy.

    Raises SettingsError for invalid settings.
    """
    from tbot_core.contracts.settings.trading import calendar_of
    from tbot_core.instance import load_settings

    # Windows are the same in every mode, and the demo needs the fewest settings.
    settings = load_settings(home, mode="demo")
    if not settings.frames:
        return SAMPLE_SCHEDULE
    return WindowSchedule(
        windows=tuple(named_window(name, settings.frames[name]) for name in settings.strategies),
        anchor=anchor_named(settings.trading.time_anchor),
        flatten_before_close=settings.exits.flatten_before_close,
        calendar=calendar_of(settings.trading),
    )


def agenda(first: dt.date, days: int, schedule: WindowSchedule) -> Agenda:
    """The days, beginning with `first`; raises UsageError outside of the exchange calendar."""
    calendar = schedule.calendar
    dates = [require_covered(first + dt.timedelta(days=offset)) for offset in range(days)]
    return Agenda(
        schedule=schedule,
        days=tuple(_day_of(date, calendar, schedule) for date in dates),
        next_session=_next(calendar, dates[-1]),
    )


def document(shown: Agenda) -> dict[str, object]:
    """The agenda as a JSON document; times are UTC, and a closed day has none."""
    return {
        "anchor": shown.schedule.anchor,
        "calendar": EXCHANGE,
        "days": [_day_document(day, shown.schedule) for day in shown.days],
        "next_session": None if shown.next_session is None else _session_document(shown.next_session),
        "windows_from": shown.schedule.source,
    }


def lines(shown: Agenda) -> Iterator[str]:
    """The agenda as text."""
    for day in shown.days:
        yield from _day_lines(day, shown.schedule)
        yield ""
    following = shown.next_session
    if following is None:
        yield "Next session: beyond the end of the exchange calendar"
    else:
        yield f"Next session: {_day_text(following.date)}, {clock.both_times(following.open)}"
    if shown.schedule.source == "sample":
        yield "The windows are those of the sample: the settings here name no strategy."


def _next(calendar: ExchangeCalendar, date: dt.date) -> Session | None:
    try:
        return calendar.next(date)
    except DataError:
        return None


def _day_of(date: dt.date, calendar: ExchangeCalendar, schedule: WindowSchedule) -> CalendarDay:
    session = calendar.session(date)
    placed = () if session is None else tuple(_placed(named, session, schedule) for named in schedule.windows)
    return CalendarDay(date=date, session=session, closed=calendar.closed_reason(date), windows=placed)


def _placed(named: NamedWindow, session: Session, schedule: WindowSchedule) -> PlacedWindow:
    window = place_window(named, session, schedule.anchor)
    skipped = None
    if window.start < 0:
        skipped = "it would start before the opening bell"
    elif window.outside(session.minutes, schedule.flatten_before_close):
        entries, flattening = session.moment(window.entry_end), _flattening(session, schedule)
        skipped = f"entries until {clock.both_times(entries)}, flattening from {clock.both_times(flattening)}"
    return PlacedWindow(
        name=named.name, window=window, skipped=skipped, note=missed_bell(named, session, schedule.anchor)
    )


def _flattening(session: Session, schedule: WindowSchedule) -> dt.datetime:
    return session.moment(session.minutes - schedule.flatten_before_close)


def _session_document(session: Session) -> dict[str, object]:
    return {
        "date": session.date,
        "open": session.open,
        "close": session.close,
        "early_close": session.early_close,
        "minutes": session.minutes,
    }


def _day_document(day: CalendarDay, schedule: WindowSchedule) -> dict[str, object]:
    session = day.session
    if session is None:
        bells: dict[str, object] = dict.fromkeys(("open", "close", "early_close", "minutes", "flattening"))
        placed = []
    else:
        bells = _session_document(session) | {"flattening": _flattening(session, schedule)}
        placed = [_window_document(window, session) for window in day.windows]
    weekday = WEEKDAY_NAMES[day.date.weekday()]
    return bells | {"date": day.date, "weekday": weekday, "closed": day.closed, "windows": placed}


def _window_document(placed: PlacedWindow, session: Session) -> dict[str, object]:
    window = placed.window
    moments = ("start", "entry", "entry_end", "leave")
    return {
        "name": placed.name,
        "skipped": None if placed.skipped is None else Reason.WINDOW_OUTSIDE_SESSION.name,
        "note": placed.note,
        **{part: None if window.start < 0 else session.moment(getattr(window, part)) for part in moments},
    }


def _day_lines(day: CalendarDay, schedule: WindowSchedule) -> Iterator[str]:
    session = day.session
    if session is None:
        yield f"{_day_text(day.date)}: closed, {day.closed}"
        return
    yield f"{_day_text(day.date)}: {session.minutes} minutes" + (", closes early" if session.early_close else "")
    width = max(len(name) for name in ("flattening", *(placed.name for placed in day.windows)))
    heads = "from   entries      until"
    yield f"  {'':{width}}  {'UTC':{len(heads)}}   New York"
    yield f"  {'':{width}}  {heads}   {heads}"
    yield f"  {'session':{width}}  {_row(session.open, None, session.close)}"
    for placed in day.windows:
        yield f"  {placed.name:{width}}  {_window_row(placed, session, schedule)}"
    yield f"  {'flattening':{width}}  {_row(_flattening(session, schedule), None, session.close)}"
    yield from (f"  {placed.note}" for placed in day.windows if placed.note)


def _window_row(placed: PlacedWindow, session: Session, schedule: WindowSchedule) -> str:
    window = placed.window
    if placed.skipped is not None:
        return f"skipped ({Reason.WINDOW_OUTSIDE_SESSION.name}): {placed.skipped}"
    entries = session.moment(window.entry), session.moment(window.entry_end)
    return _row(
        session.moment(window.start), entries, min(session.moment(window.leave), _flattening(session, schedule))
    )


def _row(start: dt.datetime, entries: tuple[dt.datetime, dt.datetime] | None, end: dt.datetime) -> str:
    # UTC, then the same times in New York, below the heads that `_day_lines` writes.
    halves = []
    for at in (lambda moment: moment, clock.exchange_time):
        between = "" if entries is None else "-".join(f"{at(moment):%H:%M}" for moment in entries)
        halves.append(f"{at(start):%H:%M}  {between:11}  {at(end):%H:%M}")
    return "   ".join(halves)


def _day_text(date: dt.date) -> str:
    return f"{WEEKDAY_NAMES[date.weekday()]} {date}"
