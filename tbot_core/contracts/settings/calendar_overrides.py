"""The owner's overrides of the exchange calendar: closures and early closes."""

from __future__ import annotations

import datetime as dt
from typing import Final, TypeAlias

from tbot_core.contracts.setting import SettingKind
from tbot_core.errors import SettingsError
from tbot_core.model.calendar import ClosedDay, EarlyClose, Override

Overrides: TypeAlias = "tuple[tuple[dt.date, Override], ...]"
_CLOSED: Final = "closed"


def calendar_overrides() -> SettingKind[Overrides]:
    """Days and their overrides, in order: `2026-12-24 closed Day of mourning; 2026-12-31 13:00`."""

    def parse(written: str) -> Overrides:
        parts = [part.strip() for part in written.split(";") if part.strip()]
        found = [_override(part) for part in parts]
        if len({day for day, _ in found}) < len(found):
            message = "a day is listed twice"
            raise ValueError(message)
        return tuple(sorted(found, key=lambda one: one[0]))

    allowed = "days separated by semicolons, each a date YYYY-MM-DD and either closed with a reason, or HH:MM New York"
    return SettingKind(name="calendar_overrides", allowed=allowed, parse=parse, show=_shown, empty=True)


def _override(part: str) -> tuple[dt.date, Override]:
    # One day; raises ValueError, also for a SettingsError.
    day, _, rest = part.partition(" ")
    word, _, reason = rest.strip().partition(" ")
    date = dt.datetime.strptime(day, "%Y-%m-%d").date()  # noqa: DTZ007  a date of the exchange, no moment
    if word.lower() == _CLOSED and reason.strip():
        return date, ClosedDay(reason=reason.strip())
    if reason:
        message = "unexpected words after a time"
        raise ValueError(message)
    close = dt.datetime.strptime(word, "%H:%M").time()  # noqa: DTZ007  New York time of that day
    try:
        return date, EarlyClose(close=close)
    except SettingsError as fault:
        raise ValueError(fault.message) from fault


def _shown(overrides: Overrides) -> str:
    return "; ".join(
        f"{day} {_CLOSED} {one.reason}" if isinstance(one, ClosedDay) else f"{day} {one.close:%H:%M}"
        for day, one in overrides
    )
