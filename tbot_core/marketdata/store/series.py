"""Stores daily series of a source: new days of a plausible one are added, and a stored day is never overwritten.

The closes of the VIX go into the table of the VIX, as imported ones do. The table of series has each day that was
added, with its source.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import attrs
import polars as pl

from tbot_core.contracts.series import RATES, VIX, DailyValue
from tbot_core.errors import DataError
from tbot_core.marketdata.store import bar_checks, manifest, reference
from tbot_core.model import calendar as exchange
from tbot_core.model.formatting import plural
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.model.calendar import ExchangeCalendar

_LEAST_RATE: Final = -0.1
_MOST_RATE: Final = 1.0
"""The bounds of a rate, as fractions of 1; both are possible."""

_LONGEST_GAP: Final = dt.timedelta(days=7)
"""The longest time without a value in the last weeks of a series; the exchange was closed as long in September 2001."""

_RECENT: Final = dt.timedelta(days=60)
_FEW: Final = 20


@attrs.frozen(kw_only=True)
class SeriesKind:
    """What a series is: the bounds of its values as text, whether one is within, and how much equal ones may differ.

    `every_day`: it has values of weekends too.
    """

    bounds: str
    within: Callable[[float], bool]
    tolerance: float
    every_day: bool


_KINDS: Final[Mapping[str, SeriesKind]] = {
    VIX: SeriesKind(
        bounds=f"above 0 and at most {bar_checks.HIGHEST_INDEX}",
        within=lambda value: 0 < value <= bar_checks.HIGHEST_INDEX,
        tolerance=0.005 + 1e-9,  # sources publish two decimals or more
        every_day=False,
    ),
    RATES: SeriesKind(
        bounds=f"a fraction from {_LEAST_RATE:g} to {_MOST_RATE:g}",
        within=lambda value: _LEAST_RATE <= value <= _MOST_RATE,
        tolerance=1e-9,
        every_day=True,
    ),
}


@attrs.frozen(kw_only=True)
class PublishedSeries:
    """A whole series as a source publishes it: its name, the source's, and the values."""

    name: str
    source: str
    values: Sequence[DailyValue]

    def refused(self, words: str) -> DataError:
        """The error of a series that is not plausible."""
        return DataError(f"The series {self.name} of {self.source} was refused: {words}.", "Nothing was stored.")


@attrs.frozen(kw_only=True)
class ChangedValue:
    """A stored value, and the other one that a source publishes for the same day."""

    day: dt.date
    code: str
    stored: float
    published: float

    @property
    def text(self) -> str:
        """The day with both values."""
        code = f" of {self.code}" if self.code else ""
        return f"{self.day}{code}: stored {self.stored:g}, published {self.published:g}"


@attrs.frozen(kw_only=True)
class SeriesMerge:
    """How many days were added, which stored ones differ and were kept, and the last day that the source has."""

    added: int
    changed: tuple[ChangedValue, ...]
    last: dt.date


def merge_series(folder: Path, calendar: ExchangeCalendar, found: PublishedSeries, today: dt.date) -> SeriesMerge:
    """Add to the store what it lacks of a series; `today` is the exchange's date, whose value is left out.

    Raises DataError, and stores nothing, for a series that is not plausible: see `check_series`. So does one with fewer
    days than are stored of its source, and one that differs on most stored days. Raises AccessError when the folder
    cannot be written or another process writes to it.
    """
    check_series(found, today)
    kind, name = _KINDS[found.name], found.name
    over = [
        value
        for value in found.values
        if value.day < today and (kind.every_day or not _is_holiday(calendar, value.day))
    ]
    filesystem.make_folder(folder)
    with filesystem.hold_lock(folder / manifest.LOCK):
        downloaded = reference.read_table(folder, manifest.SERIES)
        stored = _stored(folder, name, downloaded)
        _refuse_part(found, over, downloaded)
        both = [(value, stored[value.code, value.day]) for value in over if (value.code, value.day) in stored]
        changed = tuple(
            ChangedValue(day=one.day, code=one.code, stored=value, published=one.value)
            for one, value in both
            if abs(one.value - value) > kind.tolerance
        )
        if len(both) >= _FEW and 2 * len(changed) > len(both):
            words = f"{len(changed)} of {len(both)} stored days have another value, as in another series"
            raise found.refused(words)
        new = [value for value in over if (value.code, value.day) not in stored]
        _add(folder, found, new, downloaded)
    return SeriesMerge(added=len(new), changed=changed, last=max(value.day for value in found.values))


def check_series(found: PublishedSeries, today: dt.date) -> None:
    """Raise DataError for a series that is empty, in another order, of days that cannot be, or with a recent gap.

    Also for a value out of bounds: all of it is refused then.
    """
    kind, values = _KINDS[found.name], found.values
    if not values:
        raise found.refused("it has no value")
    for one in values:
        if one.day > today:
            raise found.refused(f"{one.day} is in the future")
        if one.day.weekday() not in exchange.EXCHANGE_WEEKDAYS and not kind.every_day:
            raise found.refused(f"{one.day} is a day of a weekend")
        if not kind.within(one.value):
            raise found.refused(f"{one.value:g} of {one.day} is not {kind.bounds}")
    for code in sorted({value.code for value in values}):
        _check_days(found, [value.day for value in values if value.code == code], today)


def source_of(folder: Path, name: str, day: dt.date, value: float) -> str:
    """The source from which this value of a day was downloaded; "" if it was not, as for an imported one."""
    rows = reference.read_table(folder, manifest.SERIES).filter(
        (pl.col("name") == name) & (pl.col("date") == day) & (pl.col("value") == value)
    )
    return "" if rows.is_empty() else str(rows["source"][0])


def stored_series(folder: Path, name: str) -> list[tuple[DailyValue, str]]:
    """The downloaded values of a series, by code and day, each with its source."""
    rows = reference.read_table(folder, manifest.SERIES).filter(pl.col("name") == name).sort("code", "date")
    return [
        (DailyValue(day=row["date"], value=row["value"], code=row["code"]), row["source"])
        for row in rows.iter_rows(named=True)
    ]


def _check_days(found: PublishedSeries, days: Sequence[dt.date], today: dt.date) -> None:
    for before, after in pairwise(days):
        if after <= before:
            raise found.refused(f"{after} follows {before}, but the oldest day comes first, each once")
        if after > today - _RECENT and after - before > _LONGEST_GAP:
            raise found.refused(f"it has no value between {before} and {after}, more than a week")
    if days[-1] < today - _LONGEST_GAP:
        raise found.refused(f"it ends on {days[-1]}, more than a week ago")


def _refuse_part(found: PublishedSeries, over: Sequence[DailyValue], downloaded: pl.DataFrame) -> None:
    # Half a file that ends at a line's end has fewer days than were downloaded before.
    own = (pl.col("name") == found.name) & (pl.col("source") == found.source)
    if len(over) < (known := len(downloaded.filter(own))):
        raise found.refused(f"it has {plural(len(over), 'day')}, but {known} of it are stored: a part is missing")


def _is_holiday(calendar: ExchangeCalendar, day: dt.date) -> bool:
    # The exchange's own file has values of holidays on which the index is computed for a part of the day.
    return exchange.FIRST_DAY <= day <= exchange.LAST_DAY and calendar.holiday(day) is not None


def _stored(folder: Path, name: str, downloaded: pl.DataFrame) -> dict[tuple[str, dt.date], float]:
    if name == VIX:
        return {("", day): value for day, value in reference.reference_facts(folder).vix.items()}
    rows = downloaded.filter(pl.col("name") == name).select("code", "date", "value")
    return {(code, day): value for code, day, value in rows.iter_rows()}


def _add(folder: Path, found: PublishedSeries, new: Sequence[DailyValue], downloaded: pl.DataFrame) -> None:
    if not new:
        return
    if found.name == VIX:
        closes = [{"date": value.day} | dict.fromkeys(manifest.PRICES, value.value) for value in new]
        _write(folder, manifest.VIX, reference.read_table(folder, manifest.VIX), closes)
    rows = [
        {"name": found.name, "code": value.code, "date": value.day, "value": value.value, "source": found.source}
        for value in new
    ]
    # A day whose stored value was removed is added again, with its new source.
    added = pl.DataFrame(rows, schema=reference.SCHEMAS[manifest.SERIES])
    kept = downloaded.join(added, on=list(reference.KEYS[manifest.SERIES]), how="anti")
    _write(folder, manifest.SERIES, kept, rows)


def _write(folder: Path, table: str, before: pl.DataFrame, rows: Sequence[Mapping[str, object]]) -> None:
    new = pl.DataFrame(list(rows), schema=reference.SCHEMAS[table])
    reference.write_table(folder, table, pl.concat([before, new]).sort(reference.KEYS[table]))
