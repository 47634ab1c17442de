"""The window of a strategy in a session, and its place there.

START_TIME, minutes and TIME_ANCHOR become minutes after the open.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, get_args

import attrs

from tbot_core.errors import SettingsError
from tbot_core.model import clock
from tbot_core.model.calendar import FULL_SESSION_MINUTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tbot_core.model.calendar import Session

_whole = attrs.validators.instance_of(int)
Anchor: TypeAlias = Literal["exchange", "utc"]
ANCHORS: Final[tuple[Anchor, ...]] = get_args(Anchor)
# The open on a standard-time day is 14:30 UTC; in daylight-saving time New York is one hour closer to UTC.
_STANDARD_BELL_MINUTE: Final = 14 * 60 + 30
_EXCHANGE_BELL_MINUTE: Final = 9 * 60 + 30
_DAYLIGHT_MINUTES: Final = 60


@attrs.frozen(kw_only=True)
class Window:
    """The analysis, entry and management phases of a strategy, in whole minutes after the open.

    Analysis bars start in [start, entry), trigger bars in [entry, entry_end). A negative `start` is before the open
    (TIME_ANCHOR=utc only): such a window is `outside`. Raises ValueError unless the window has at least one trigger bar
    and one minute of monitoring.
    """

    start: int = attrs.field(validator=_whole)
    analysis: int = attrs.field(validator=[_whole, attrs.validators.ge(0)])
    breakout: int = attrs.field(validator=[_whole, attrs.validators.ge(1)])
    monitoring: int = attrs.field(validator=[_whole, attrs.validators.ge(1)])

    @property
    def entry(self) -> int:
        """The first minute whose bar may trigger an entry."""
        return self.start + self.analysis

    @property
    def entry_end(self) -> int:
        """The minute after the last trigger bar."""
        return self.entry + self.breakout

    @property
    def leave(self) -> int:
        """The minute at which the window ends: bar `leave - 1` has closed."""
        return self.entry_end + self.monitoring

    def outside(self, session_minutes: int, flatten_before_close: int) -> bool:
        """Whether the window does not fit a session of this length, and is skipped.

        It begins before the open, or flattening starts before its entry phase ends.
        """
        return self.start < 0 or self.entry_end > session_minutes - flatten_before_close


class WindowTimes(Protocol):
    """The window in a strategy's settings, see `tbot_core.contracts.settings.StrategySettings`."""

    @property
    def start_time(self) -> dt.time:
        """UTC of a standard-time day: 14:30 is 09:30 in New York; New York's own where it has a zone."""

    @property
    def analysis_minutes(self) -> int:
        """Minutes from the start without entries."""

    @property
    def breakout_minutes(self) -> int:
        """Minutes after the analysis in which a bar may trigger an entry."""

    @property
    def monitoring_minutes(self) -> int:
        """Minutes in which a position is managed."""


@attrs.frozen(kw_only=True)
class NamedWindow:
    """A strategy's window as in its settings: the start as in `WindowTimes`, the phases in minutes.

    `name` is the strategy's name as in variables, in upper case.
    """

    name: str
    start_time: dt.time
    analysis_minutes: int
    breakout_minutes: int
    monitoring_minutes: int

    @property
    def standard_start(self) -> int:
        """The start on a standard-time day, in minutes after the open."""
        bell = _STANDARD_BELL_MINUTE if self.start_time.tzinfo is None else _EXCHANGE_BELL_MINUTE
        return self.start_time.hour * 60 + self.start_time.minute - bell

    def keeps_distance(self, anchor: Anchor) -> bool:
        """Whether the start has the same distance to each session's open: a time of New York always has."""
        return anchor == "exchange" or self.start_time.tzinfo is not None

    @property
    def text(self) -> str:
        """The setting of the start."""
        return f"START_TIME_{self.name}={start_text(self.start_time)}"


def start_text(start: dt.time) -> str:
    """The start of a window as written in the settings: HH:MM, with ET for a time of New York."""
    return f"{start:%H:%M}{'' if start.tzinfo is None else ' ET'}"


def named_window(name: str, times: WindowTimes) -> NamedWindow:
    """The window of the strategy with this name, in any case."""
    return NamedWindow(
        name=name.upper(),
        start_time=times.start_time,
        analysis_minutes=times.analysis_minutes,
        breakout_minutes=times.breakout_minutes,
        monitoring_minutes=times.monitoring_minutes,
    )


def anchor_named(written: str) -> Anchor:
    """Parse TIME_ANCHOR; raises SettingsError for an unknown value."""
    for anchor in ANCHORS:
        if anchor == written:
            return anchor
    message = f"Unknown TIME_ANCHOR={written}."
    raise SettingsError(message, f"Choose one of {', '.join(ANCHORS)}.")


def place_window(named: NamedWindow, session: Session, anchor: Anchor) -> Window:
    """The window in this session; it may begin before the open or reach beyond the session, see `Window.outside`.

    Raises ValueError for a window that `check_windows` refuses for its phases.
    """
    return Window(
        start=_start(named, session, anchor),
        analysis=named.analysis_minutes,
        breakout=named.breakout_minutes,
        monitoring=named.monitoring_minutes,
    )


def missed_bell(named: NamedWindow, session: Session, anchor: Anchor) -> str | None:
    """A message if the literal UTC time changes the distance to this session's open, else None.

    A window that starts at the open, or at the same minute as on a standard-time day, is not affected.
    """
    start, usual = _start(named, session, anchor), named.standard_start
    if named.keeps_distance(anchor) or start == 0 or start == usual > 0:
        return None
    there = clock.exchange_time(session.moment(start))
    side = "after" if start > 0 else "before"
    return (
        f"{named.text} is {there:%H:%M} New York on {session.date}: with "
        f"TIME_ANCHOR=utc the window starts {abs(start)} minutes {side} the opening bell"
        + (f", not {usual} as on a standard-time day." if start > 0 else " and is skipped.")
    )


def check_windows(windows: Sequence[NamedWindow], anchor: Anchor) -> None:
    """Raise SettingsError, one line per fault, for windows that fit no session."""
    faults = [fault for named in windows for fault in _faults(named, anchor)]
    if faults:
        earliest = "14:30 (09:30 New York)" if anchor == "exchange" else "13:30 (09:30 New York in summer)"
        raise SettingsError(
            "\n".join(faults),
            f"Start times are UTC of a standard-time day, from {earliest} to 20:59 (15:59 New York), or New York time "
            "with ET, such as 09:50 ET.",
        )


def standard_window(name: str, times: WindowTimes) -> Window:
    """The window relative to the open on a standard-time day; raises SettingsError if it fits no session."""
    named = named_window(name, times)
    check_windows([named], "exchange")
    return Window(
        start=named.standard_start,
        analysis=times.analysis_minutes,
        breakout=times.breakout_minutes,
        monitoring=times.monitoring_minutes,
    )


def _faults(named: NamedWindow, anchor: Anchor) -> Iterator[str]:
    start = named.standard_start
    if named.start_time.second or named.start_time.microsecond:
        yield f"START_TIME_{named.name}={named.start_time.isoformat()}: a window starts on a whole minute."
    latest = start if named.keeps_distance(anchor) else start + _DAYLIGHT_MINUTES
    if latest < 0 or start >= FULL_SESSION_MINUTES:
        yield f"{named.text} is outside of every session with TIME_ANCHOR={anchor}."
    for phase, minutes, least in (
        ("ANALYSIS", named.analysis_minutes, 0),
        ("BREAKOUT", named.breakout_minutes, 1),
        ("MONITORING", named.monitoring_minutes, 1),
    ):
        if minutes < least:
            yield f"{named.name}_{phase}_TIME={minutes}: at least {least} minutes are needed."


def _start(named: NamedWindow, session: Session, anchor: Anchor) -> int:
    if named.keeps_distance(anchor):
        return named.standard_start
    return session.minute(dt.datetime.combine(session.date, named.start_time, tzinfo=dt.UTC))
