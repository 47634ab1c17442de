"""The exchange calendar: which days have a session, its hours, and why other days have none."""

from __future__ import annotations

import datetime as dt
import functools
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from tbot_core.errors import DataError, SettingsError
from tbot_core.model import clock, exchange_holidays

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

EXCHANGE: Final = "XNYS"
FIRST_DAY: Final = dt.date(2008, 1, 1)
LAST_DAY: Final = dt.date(2060, 12, 31)
FULL_SESSION_MINUTES: Final = 390
_OPENING_BELL: Final = dt.time(9, 30)
_CLOSING_BELL: Final = dt.time(16, 0)
_EARLY_CLOSING_BELL: Final = dt.time(13, 0)
WEEKDAY_NAMES: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ENDS_THE_DAY: Final = 3
"""A market-wide halt of this level ends the session."""

EXCHANGE_WEEKDAYS: Final = frozenset(range(5))

# Closures that follow no rule. The table has them too, but a new one must not wait for the package of its tool.
_UNSCHEDULED_CLOSURES: Final[Mapping[dt.date, str]] = {
    dt.date(2012, 10, 29): "Hurricane Sandy",
    dt.date(2012, 10, 30): "Hurricane Sandy",
    dt.date(2018, 12, 5): "National Day of Mourning for former President George H. W. Bush",
    dt.date(2025, 1, 9): "National Day of Mourning for former President Jimmy Carter",
}

_ONE_DAY: Final = dt.timedelta(days=1)
_MINUTE_S: Final = 60


@functools.lru_cache(maxsize=2048)
def _minutes(count: int) -> dt.timedelta:
    # Making one costs more than the rest of a trade's time.
    return dt.timedelta(minutes=count)


@attrs.frozen(kw_only=True)
class Session:
    """One exchange day's regular hours: its exchange date, open and close in UTC.

    `minutes` is the number of one-minute bars, `early_close` whether there are fewer than on a full day. Raises
    ValueError for naive times, for a close that is not after the open, and for times off the minute.
    """

    date: dt.date
    open: dt.datetime
    close: dt.datetime
    minutes: int = attrs.field(init=False)
    early_close: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        minutes, rest = divmod(
            (clock.require_aware(self.close) - clock.require_aware(self.open)).total_seconds(), _MINUTE_S
        )
        if minutes < 1 or rest:
            message = f"Session {self.date}: {self.open} to {self.close} is not a positive number of whole minutes."
            raise ValueError(message)
        object.__setattr__(self, "minutes", int(minutes))
        object.__setattr__(self, "early_close", minutes < FULL_SESSION_MINUTES)

    def moment(self, minute: int) -> dt.datetime:
        """The UTC time so many minutes after the open: the start of that minute's bar."""
        return self.open + _minutes(minute)

    def minute(self, moment: dt.datetime) -> int:
        """The minute after the open that contains the moment; negative before it, `minutes` or more after the close.

        Raises ValueError for a naive moment.
        """
        return (clock.require_aware(moment) - self.open) // dt.timedelta(minutes=1)


@attrs.frozen(kw_only=True)
class SessionGap:
    """Consecutive sessions that lack something: how many, and the days of the first and the last."""

    first: dt.date
    last: dt.date
    count: int

    def __str__(self) -> str:
        """As it stands in a sentence: the session of 2018-07-03; 3 sessions from 2018-07-03 to 2018-07-06."""
        if self.count == 1:
            return f"the session of {self.first}"
        return f"{self.count:,} sessions from {self.first} to {self.last}"


def session_gaps(sessions: Iterable[Session], there: Container[dt.date]) -> tuple[SessionGap, ...]:
    """The gaps of these sessions, which are in order, where only the days `there` lack nothing."""
    groups = itertools.groupby(sessions, key=lambda one: one.date in there)
    lacking = [[session.date for session in group] for is_complete, group in groups if not is_complete]
    return tuple(SessionGap(first=days[0], last=days[-1], count=len(days)) for days in lacking)


@attrs.frozen(kw_only=True)
class ClosedDay:
    """An override: no session on this day, with a reason for users."""

    reason: str


@attrs.frozen(kw_only=True)
class EarlyClose:
    """An override: the session ends at this exchange time, unless it ends earlier anyway.

    Raises SettingsError unless it is a whole minute after the open, and not after the usual close.
    """

    close: dt.time = attrs.field()

    @close.validator
    def _within_the_session(self, _attribute: attrs.Attribute[dt.time], close: dt.time) -> None:
        if not _OPENING_BELL < close <= _CLOSING_BELL or close.second or close.microsecond:
            message = f"Early close {close.isoformat()} is not a minute of the session."
            raise SettingsError(message, "Give New York time, after 09:30 and no later than 16:00, as in 13:00.")


Override: TypeAlias = ClosedDay | EarlyClose


def _own_table(overrides: Mapping[dt.date, Override]) -> Mapping[dt.date, Override]:
    return dict(overrides)


def _own_days(days: Iterable[int]) -> frozenset[int]:
    return frozenset(days)


def _only_weekdays_that_trade(
    _instance: object, _attribute: attrs.Attribute[frozenset[int]], days: frozenset[int]
) -> None:
    if not days & EXCHANGE_WEEKDAYS or not days <= frozenset(range(7)):
        message = (
            f"TRADING_DAYS: {sorted(days)} contains no trading day of the exchange, or a number that is not a weekday."
        )
        raise SettingsError(message, "Give at least one of mon, tue, wed, thu, fri.")


@attrs.frozen(kw_only=True)
class ExchangeCalendar:
    """The New York Stock Exchange's sessions from 2008 to 2060, reduced by the owner's overrides and weekdays.

    `overrides` holds closures and early closes by exchange date (the shorter session wins, so an override never adds
    trading time); `weekdays` (Monday is 0) are those on which tbot trades. Every method that takes a day raises
    DataError outside 2008 to 2060.
    """

    overrides: Mapping[dt.date, Override] = attrs.field(factory=dict, converter=_own_table)
    weekdays: frozenset[int] = attrs.field(
        default=EXCHANGE_WEEKDAYS, converter=_own_days, validator=_only_weekdays_that_trade
    )
    # A backtest of a year asks for each day several times.
    _known: dict[dt.date, Session | None] = attrs.field(factory=dict, init=False, eq=False, repr=False)

    @property
    def every_weekday(self) -> ExchangeCalendar:
        """The same calendar with all weekdays; for facts of the previous session, traded by tbot or not."""
        return self if self.weekdays >= EXCHANGE_WEEKDAYS else ExchangeCalendar(overrides=self.overrides)

    def session(self, day: dt.date) -> Session | None:
        """The day's session; None if it has none, see `closed_reason`."""
        if day not in self._known:
            self._known[day] = self._session(day)
        return self._known[day]

    def _session(self, day: dt.date) -> Session | None:
        if self.closed_reason(day) is not None:
            return None
        close = _EARLY_CLOSING_BELL if day in _half_days() else _CLOSING_BELL
        override = self.overrides.get(day)
        if isinstance(override, EarlyClose):
            close = min(close, override.close)
        return Session(
            date=day,
            open=clock.exchange_moment(day, _OPENING_BELL),
            close=clock.exchange_moment(day, close),
        )

    def closed_reason(self, day: dt.date) -> str | None:
        """Why the day has no session (weekend, the holiday's name, the override's reason), or None if it has one."""
        weekday, named = day.weekday(), self.holiday(day)
        if weekday not in EXCHANGE_WEEKDAYS:
            return "weekend"
        if named is None and weekday not in self.weekdays:
            return f"TRADING_DAYS excludes {WEEKDAY_NAMES[weekday]}"
        return named

    def holiday(self, day: dt.date) -> str | None:
        """The name of a weekday's holiday, or the override's reason; None for every other day."""
        require_covered_day(day)
        if day.weekday() not in EXCHANGE_WEEKDAYS:
            return None
        override = self.overrides.get(day)
        if isinstance(override, ClosedDay):
            return override.reason
        return _UNSCHEDULED_CLOSURES.get(day) or _holidays().get(day)

    def sessions(self, first: dt.date, last: dt.date) -> tuple[Session, ...]:
        """The sessions from first to last, both included, in order; none for a reversed range."""
        return tuple(self._walk(first, last)) if first <= last else ()

    def previous(self, day: dt.date) -> Session:
        """The last session before the day; raises DataError outside the calendar."""
        earlier = day - _ONE_DAY
        while (session := self.session(earlier)) is None:
            earlier -= _ONE_DAY
        return session

    def next(self, day: dt.date) -> Session:
        """The first session after the day; raises DataError outside the calendar."""
        later = day + _ONE_DAY
        while (session := self.session(later)) is None:
            later += _ONE_DAY
        return session

    def current(self, moment: dt.datetime) -> Session:
        """Today's session until its close, then the next one; raises DataError outside the calendar."""
        today = clock.exchange_time(moment).date()
        session = self.session(today)
        return session if session is not None and moment < session.close else self.next(today)

    def _walk(self, first: dt.date, last: dt.date) -> Iterator[Session]:
        for offset in range((last - first).days + 1):
            session = self.session(first + offset * _ONE_DAY)
            if session is not None:
                yield session


def require_covered_day(day: dt.date) -> None:
    """Raise DataError for a day outside the calendar, ValueError for a datetime."""
    if isinstance(day, dt.datetime):
        message = f"{day.isoformat()} is a datetime: a session is named by its exchange date."
        raise ValueError(message)  # noqa: TRY004  a datetime is a date by type
    if not FIRST_DAY <= day <= LAST_DAY:
        message = f"{day} is outside of the exchange calendar, which covers {FIRST_DAY} to {LAST_DAY}."
        raise DataError(message, "Choose a day in that range.")


@functools.cache
def _holidays() -> Mapping[dt.date, str]:
    return _listed(exchange_holidays.HOLIDAYS)


@functools.cache
def _half_days() -> Mapping[dt.date, str]:
    return _listed(exchange_holidays.HALF_DAYS)


def _listed(table: Mapping[str, str]) -> dict[dt.date, str]:
    return {dt.date.fromisoformat(word): name for name, words in table.items() for word in words.split()}
